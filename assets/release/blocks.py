"""Blocks: everything that marts tell about one count, in one period and one municipality, protected as one system.

Nothing that is released ties two blocks together: no total stands above a municipality, and different periods are
different figures. Within a block all tables are linked: cells of one count with the same codes are one unknown.

Audiences are served in a chain. The first one's view is made from the counts. The next one's is made from that view
alone, and from what was published: whatever a later audience sees, the earlier one could have worked out.

Belongs here: blocks and the disclosure engine's tables for them, what is known about them, and the views that come
out. Does not belong here: which marts may go out at all (assets.release.gate) and where earlier releases are kept
(assets.release.evidence).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import numpy.typing as npt

from datafabriek.errors import FactoryError
from datafabriek.warehouse import literal, quoted
from quality.norms import Audience, AudienceNorms, Chain, Level, policy
from quality.protection import HEIGHT, UNKNOWN_BUURT, DisclosureSpec, counted, municipality

if TYPE_CHECKING:
    from quality.disclosure.engine import Earlier
    from quality.disclosure.facts import Fact
    from quality.disclosure.table import Table

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

GEO = "regio_code"

Key = tuple[str, str, str]
"""What a block is about: the count, the period and the municipality."""


class BlockError(FactoryError):
    """A block that cannot be protected: the message holds counts, `cells` the names (for the vault)."""

    def __init__(self, message: str, cells: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.cells = tuple(cells)


@dataclass(frozen=True)
class Part:
    """What one mart tells in a block, a row a cell.

    Attributes:
        mart: its name.
        spec: its disclosure spec.
        levels: the levels that are shown, lowest first.
        indeling: year of the borders.
        keys: per row the region's code and the code of each further classification.
        heights: per row the level (`BU`, …, `ONB`).
        count: per row the count, NaN where nothing is known; in a view also where hidden.
        is_hidden: in a view which rows are hidden; none of them where the counts are at hand.
        names: per row the name of its cell and of the figure behind it, as `cell#mark`: rows of one name have the same
            count behind them, in whatever table and release; empty where nobody asks.
    """

    mart: str
    spec: DisclosureSpec
    levels: tuple[Level, ...]
    indeling: int
    keys: tuple[tuple[str, ...], ...]
    heights: tuple[str, ...]
    count: Floats
    is_hidden: Bools
    names: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classifications, the region first."""
        return (GEO, *self.spec.total_of)

    def above(self, code: str, level: str) -> str:
        """The code of the region that a region is a part of in this table; empty for the municipality."""
        if level == UNKNOWN_BUURT:
            return f"GM{code[3:]}"
        higher = [x for x in self.levels if HEIGHT[x] > HEIGHT[level]]
        return "" if not higher else higher[0] + code[2 : {"WK": 8, "GM": 6}[higher[0]]]

    @property
    def is_total(self) -> Bools:
        """Which rows are totals over all further classifications."""
        totals = tuple(self.spec.total_of.values())
        return np.array([key[1:] == totals for key in self.keys], dtype=bool)


@dataclass(frozen=True)
class Block:
    """All that is told about one count in one period and one municipality."""

    telling: str
    periode: str
    gemeente: str
    parts: tuple[Part, ...]

    @property
    def id(self) -> str:
        """Its name in sealed evidence."""
        return f"{self.telling}/{self.periode}/{self.gemeente}"

    def without(self, mart: str) -> Block:
        """The same without what one mart tells."""
        return replace(self, parts=tuple(part for part in self.parts if part.mart != mart))

    @property
    def indeling(self) -> int:
        """Year of the borders.

        Raises:
            BlockError: its parts use different ones.
        """
        years = {part.indeling for part in self.parts}
        if len(years) > 1:
            raise BlockError("dezelfde telling staat er in verschillende indelingen in")
        return years.pop()

    @cached_property
    def is_empty(self) -> bool:
        """Whether nothing is known: a month that was not delivered."""
        return all(np.isnan(part.count).all() for part in self.parts)


@dataclass(frozen=True)
class View:
    """What an audience is shown of a block.

    Attributes:
        values: per part the value of each row, NaN where it is hidden or nothing is known.
        norms: the norms that it was made under.
        least: the smallest count above zero that is shown.
    """

    values: tuple[Floats, ...]
    norms: AudienceNorms
    least: int


@dataclass(frozen=True)
class Told:
    """A version of a block that was released before.

    Attributes:
        release: its id.
        block: as it was published, with names: NaN where hidden or not known.
        norms: of its audience.
        least: the smallest count above zero that it showed.
        is_own: released to the audience that is being served, so that what it hid must stay hidden from them.
    """

    release: str
    block: Block
    norms: AudienceNorms
    least: int
    is_own: bool


@dataclass(frozen=True)
class Sum:
    """Counts of regions in two borders that cover the same area.

    Attributes:
        before: names of cells of then.
        after: names of cells of now.
        change: by how much the second come to more than the first.
        is_whole: whether these are all of the area; otherwise a part of it lies in regions without figures.
    """

    before: tuple[str, ...]
    after: tuple[str, ...]
    change: float
    is_whole: bool


@dataclass(frozen=True)
class Public:
    """What CBS tells of one region of a block: `lower` ≤ count ≤ `upper`."""

    code: str
    lower: float
    upper: float
    why: str


def read_parts(
    connection: duckdb.DuckDBPyConnection,
    relation: str,
    mart: str,
    spec: DisclosureSpec,
    lowest: Level,
    *,
    periods: Sequence[str] | None = None,
) -> dict[Key, Part]:
    """What a table tells, per count, period and municipality.

    Args:
        connection: holds `relation`.
        relation: SQL name of the table: a mart, or a table of an earlier release.
        mart: name of the mart.
        spec: its disclosure spec.
        lowest: the lowest level shown; rows under it are left out.
        periods: only these; None takes all.

    Raises:
        BlockError: indicators that show one count differ, or an indicator that the spec does not name.
    """
    levels = spec.shown_levels(lowest)
    wanted = ", ".join(map(literal, (*levels, *([UNKNOWN_BUURT] if lowest != "GM" else []))))
    count, code = quoted(spec.count or ""), quoted(spec.geo)
    flat = "".join(f", m.{quoted(name)}" for name in spec.total_of)
    within = "" if periods is None else " AND list_contains(?, m.periode)"
    given = [] if periods is None else [list(periods)]
    unnamed = connection.execute(
        f"SELECT DISTINCT m.indicator FROM {relation} AS m ANTI JOIN {counted(spec)} ON geteld.indicator = m.indicator"
    ).fetchall()
    if unnamed:
        raise BlockError(f"{len(unnamed)} indicatoren staan niet onder telling in de spec")
    frame = connection.execute(
        f"""SELECT geteld.telling, m.periode, {municipality(spec, "m")} AS gemeente, any_value(m.indeling_jaar) AS jaar,
            m.{code} AS code, any_value(m.regio_niveau) AS niveau{flat},
            any_value(m.{count})::DOUBLE AS n, bool_or(m.status = 'geheim') AS geheim,
            count(DISTINCT m.{count}) > 1 OR count(m.{count}) NOT IN (0, count(*)) AS wijkt_af
        FROM {relation} AS m JOIN {counted(spec)} ON geteld.indicator = m.indicator
        WHERE m.regio_niveau IN ({wanted}){within}
        GROUP BY geteld.telling, m.periode, gemeente, m.{code}{flat} ORDER BY ALL""",
        given,
    ).pl()
    if odd := int(frame["wijkt_af"].sum()):
        raise BlockError(f"{odd} cellen tellen onder de ene indicator anders dan onder de andere")
    found = {}
    for (telling, periode, gemeente), rows in frame.group_by(["telling", "periode", "gemeente"], maintain_order=True):
        keys = tuple(zip(rows["code"], *(rows[name] for name in spec.total_of), strict=True))
        value = rows["n"].to_numpy().astype(np.float64)
        found[str(telling), str(periode), str(gemeente)] = Part(
            mart,
            spec,
            tuple(levels),
            int(rows.item(0, "jaar") or 0),
            keys,
            tuple(rows["niveau"]),
            value,
            rows["geheim"].to_numpy() & np.isnan(value),
        )
    return found


def blocks_of(read: Mapping[str, Mapping[Key, Part]]) -> Iterator[Block]:
    """Join what marts tell of the same count, period and municipality."""
    for key in sorted({key for parts in read.values() for key in parts}):
        yield Block(*key, tuple(parts[key] for _, parts in sorted(read.items()) if key in parts))


@dataclass(frozen=True)
class Placed:
    """A table of the engine, and the rows of a part that it holds."""

    table: Table
    part: int
    rows: npt.NDArray[np.int64]


def place(block: Block) -> list[Placed]:
    """The engine's tables for a block; a region with parts of which nothing is known is no sum of those it has."""
    from quality.disclosure.table import Table, dimension

    known = [~np.isnan(part.count) | part.is_hidden for part in block.parts]
    parent = [
        {key[0]: part.above(key[0], level) for key, level in zip(part.keys, part.heights, strict=True)}
        for part in block.parts
    ]
    absent = [{key[0] for key, there in zip(part.keys, ok, strict=True) if not there}
              for part, ok in zip(block.parts, known, strict=True)]  # fmt: skip
    out = []
    for number, part in enumerate(block.parts):
        above = parent[number]
        # of this part alone: what another does not know takes no sum away from who reads this one
        gaps = absent[number] | {above[code] for code in absent[number]}
        root = {code: _root(code, above, gaps) for code in above if code not in absent[number]}
        for top in sorted(set(root.values()), key=lambda code: (code != block.gemeente, code)):
            rows = np.array([i for i, key in enumerate(part.keys) if root.get(key[0]) == top], dtype=np.int64)
            tree = {code: "" if above[code] == top else above[code] for code, its in root.items() if its == top}
            tree.pop(top)
            dimensions = [dimension(GEO, top, (), tree)]
            dimensions += [
                dimension(name, total, {part.keys[i][at] for i in rows})
                for at, (name, total) in enumerate(part.spec.total_of.items(), start=1)
            ]
            places = [{code: k for k, code in enumerate(d.codes)} for d in dimensions]
            codes = np.array([[at[c] for at, c in zip(places, part.keys[i], strict=True)] for i in rows])
            suffix = "" if top == block.gemeente else f"@{top}"
            names = tuple(part.names[i] for i in rows) if part.names else None
            table = Table(
                part.mart + suffix, block.telling + suffix, tuple(dimensions), codes, part.count[rows], names=names
            )
            out.append(Placed(table, number, rows))
    return out


def _root(code: str, above: Mapping[str, str], gaps: set[str]) -> str:
    while (up := above.get(code, "")) and up in above and up not in gaps:
        code = up
    return code


def check_rest(block: Block, least: int) -> None:
    """Refuse a block of which a region and its known parts tell too much, though nothing is known of other parts.

    Raises:
        BlockError: the difference lies above zero and under the minimum, or there is none and a known part is small.
    """
    for part in block.parts:
        place_of = {key: i for i, key in enumerate(part.keys)}
        rest: dict[tuple[str, ...], float] = {}
        gaps: set[tuple[str, ...]] = set()
        small: set[tuple[str, ...]] = set()
        for i, (key, level) in enumerate(zip(part.keys, part.heights, strict=True)):
            up = (part.above(key[0], level), *key[1:])
            if up not in place_of:
                continue
            if np.isnan(part.count[i]):
                gaps.add(up)
            else:
                rest[up] = rest.get(up, 0.0) + float(part.count[i])
                small |= {up} if 0 < part.count[i] < least else set()
        for up in gaps:
            whole = part.count[place_of[up]]
            left = whole - rest.get(up, 0.0)
            # nobody left over: what is shown of the region and the others bounds a small part from above
            if 0 < left < least or (left <= 0 and up in small and whole >= least):
                raise BlockError("een totaal en zijn bekende delen verschillen zo weinig dat het iemand zou tonen")


def views(
    block: Block,
    chain: Chain,
    audience: Audience,
    told: Mapping[Audience, Sequence[Told]],
    sums: Sequence[Sum],
    ready: Mapping[Audience, View],
    public: Sequence[Public],
    revision: int | None,
    *,
    knows_own: bool,
    suspects: bool,
    suppliers: Mapping[str, Sequence[Bools]],
    time_limit: float,
) -> tuple[View, dict[str, Any]]:
    """What an audience may be shown of a block, proved against what it knows, by the chain of audiences before it.

    Args:
        block: with the counts.
        chain: the norms in force.
        audience: who is served.
        told: per audience what its readers know of earlier releases.
        sums: what ties those in other borders to the block.
        ready: per audience a view of these very counts that was released before: it is taken over.
        public: what CBS tells of the regions.
        revision: by how much a count is revised at most; None when nothing is known of that.
        knows_own: whether whoever is alone in a cell uses that.
        suspects: whether a reader takes every hidden count for one under the minimum.
        suppliers: per supplier, for each part of the block, which rows it knows exactly. Like who is alone in a cell
            it is reckoned with in the first view: who knows true counts learns no more from a later one.
        time_limit: seconds for all.

    Returns:
        The view, and the engine's sealed evidence for it.

    Raises:
        FactoryError: no safe pattern, no time, or figures that contradict each other: nothing may be released.
    """
    from quality.disclosure.engine import protect
    from quality.disclosure.table import check_margins, join

    placed = place(block)
    check_margins(join([item.table for item in placed]))
    shares = [norms.groep_pct for _, norms in chain.norms if norms.groep_pct is not None]
    groups = sorted({name for part in block.parts for name in part.spec.total_of})
    view: View | None = None
    sealed: dict[str, Any] = {}
    for (who, norms), least in zip(chain.steps(audience), chain.least_shown(audience), strict=True):
        check_rest(block, least)
        if who in ready:
            view, sealed = ready[who], {}
            continue
        strict = norms.model_copy(update={"groep_pct": min(shares)}) if shares else norms
        rules = policy(strict, least, groups, knows_own=knows_own and view is None, suspects=suspects)
        tables = [item.table for item in placed]
        earlier, more = _earlier(told.get(who, ()), tables, revision, hides_zeros=rules.hides_zeros)
        known = [*_facts(placed, public), *more, *summed([*tables, *(e.table for e in earlier)], sums, revision)]
        if view is not None:
            tables = _fitting(placed, view, tables, earlier, known, hides_zeros=rules.hides_zeros)
        own = {} if view is not None else _supplied(placed, suppliers)
        done = protect(tables, rules, earlier=earlier, facts=known, known_cells=own, time_limit=time_limit)
        values = [np.full(len(part.keys), np.nan) for part in block.parts]
        for item, table in zip(placed, done.tables, strict=True):
            values[item.part][item.rows] = table.value
        view, sealed = View(tuple(values), norms, least), done.sealed
    assert view is not None
    return view, sealed


def _supplied(
    placed: Sequence[Placed], suppliers: Mapping[str, Sequence[Bools]]
) -> dict[str, list[tuple[int, npt.NDArray[np.int64]]]]:
    """The cells that each supplier knows, as the engine takes them."""
    return {
        who: [(at, np.flatnonzero(known[item.part][item.rows])) for at, item in enumerate(placed)]
        for who, known in suppliers.items()
    }


def _fitting(
    placed: Sequence[Placed],
    view: View,
    tables: Sequence[Table],
    earlier: Sequence[Earlier],
    known: Sequence[Fact],
    *,
    hides_zeros: bool,
) -> list[Table]:
    """Tables of counts that fit a view, in the place of the true ones; unsafe is what the view leaves in doubt."""
    from quality.disclosure.engine import joint_system
    from quality.disclosure.fitting import fitting_counts
    from quality.disclosure.spec import Policy, Rounding

    seen = [replace(table, value=view.values[item.part][item.rows]) for item, table in zip(placed, tables, strict=True)]
    bare = [replace(table, value=np.where(table.value == 0, 0.0, np.nan)) for table in seen]
    # what is rounded need not add up, so only the relations of the system count here
    system, _ = joint_system(bare, earlier, known, Policy(rounding=Rounding(base=2)))
    told = ~np.isnan(system.value)  # what earlier releases show exactly, of cells that did not change or did
    low, high = np.where(told, system.value, 0.0), np.where(told, system.value, np.inf)
    least = []
    for table, cells in zip(seen, system.cell_of, strict=False):
        hidden = np.isnan(table.value)
        ends = np.array([view.norms.interval(int(v), view.least) if v == v else (0, 0) for v in table.value])
        low[cells] = np.maximum(low[cells], np.where(hidden, 0.0 if hides_zeros else 1.0, ends[:, 0]))
        high[cells] = np.minimum(high[cells], np.where(hidden, np.inf, ends[:, 1]))
        # 2 and not 1: nobody who is alone in a cell is meant here
        least.append(np.where(hidden, 2.0, ends[:, 0]))
    point = fitting_counts(system, np.maximum(low, system.floor), np.minimum(high, system.ceiling))
    return [
        replace(table, value=point[cells], columns={"frequency": frequency})
        for table, cells, frequency in zip(tables, system.cell_of, least, strict=False)
    ]


def _facts(placed: Sequence[Placed], public: Sequence[Public]) -> list[Fact]:
    from quality.disclosure.facts import Fact

    found = []
    for fact in public:
        for number, item in enumerate(placed):
            geo = item.table.dimensions[0]
            if fact.code in geo.codes:
                at = {} if fact.code == geo.codes[0] else {GEO: fact.code}
                found.append(Fact(((number, at, 1.0),), fact.lower, fact.upper, fact.why))
                break
    return found


def _earlier(
    told: Sequence[Told], tables: Sequence[Table], revision: int | None, *, hides_zeros: bool
) -> tuple[list[Earlier], list[Fact]]:
    """Earlier versions for the engine, that what they hide is at least 1, and what ties them to the tables of now."""
    from quality.disclosure.engine import Earlier
    from quality.disclosure.facts import Fact
    from quality.disclosure.spec import Rounding

    earlier: list[Earlier] = []
    known: list[Fact] = []
    seen = {name for table in tables for name in table.names or ()}
    for one in told:
        method = "controlled" if one.norms.afrondingsmethode == "sluitend" else "conventional"
        rounding = Rounding(base=one.norms.afronding, method=method) if one.norms.afronding > 1 else None
        for item in place(one.block):
            table = item.table
            rounded = (table.value > 0) & (rounding is not None)
            for row in np.flatnonzero(np.isnan(table.value) & (not hides_zeros)):
                if (name := (table.names or ())[row]) not in seen:
                    seen.add(name)
                    why = f"levering {one.release} toont nullen, en dit niet"
                    known.append(Fact(((len(tables) + len(earlier), at_row(table, int(row)), 1.0),), 1.0, np.inf, why))
            width = float(one.norms.bescherming) if one.is_own else 0.0
            earlier.append(Earlier(table, one.release, None, rounded, width, rounding, one.least))
    return earlier, known + revised([*tables, *(one.table for one in earlier)], revision)


def at_row(table: Table, row: int) -> dict[str, str]:
    """The codes of a row that are no totals, per dimension."""
    return {d.name: d.codes[code] for d, code in zip(table.dimensions, table.codes[row], strict=True) if code}


def summed(tables: Sequence[Table], sums: Sequence[Sum], bound: float | None) -> list[Fact]:
    """That regions of other borders count together what those of now do, as far as the tables hold both.

    Where the sums differ they differ by a revision; where a part of the area has no figures, by what lives there. The
    attacker is taken to know by how much at most, never less than it is.
    """
    from quality.disclosure.facts import Fact

    place_of: dict[str, tuple[int, int]] = {}
    for number, table in enumerate(tables):
        for row, name in enumerate(table.names or ()):
            place_of.setdefault(name, (number, row))
    found = []
    for one in sums:
        is_revised = bool(one.change) and one.is_whole
        if (is_revised and bound is None) or not {*one.before, *one.after} <= place_of.keys():
            continue
        most = 0.0 if not one.change else max(abs(one.change), bound or 0.0)
        places = [
            (place_of[name], weight) for names, weight in ((one.before, -1.0), (one.after, 1.0)) for name in names
        ]
        terms = tuple((number, at_row(tables[number], row), weight) for (number, row), weight in places)
        found.append(Fact(terms, -most, most, "areas that earlier releases show in other borders"))
    return found


def revised(tables: Sequence[Table], bound: float | None) -> list[Fact]:
    """That the counts of one cell in any two versions differ by at most `bound`; nothing where no bound is known.

    Versions with the same count are one unknown already, by their names.
    """
    from quality.disclosure.facts import Fact

    if bound is None:
        return []
    of_cell: dict[str, dict[str, tuple[int, int]]] = {}
    for number, table in enumerate(tables):
        for row, name in enumerate(table.names or ()):
            of_cell.setdefault(name.partition("#")[0], {}).setdefault(name, (number, row))
    return [
        Fact(
            ((one, at_row(tables[one], row), 1.0), (other, at_row(tables[other], other_row), -1.0)),
            -float(bound),
            float(bound),
            "a bound on revisions",
        )
        for places in of_cell.values()
        for (one, row), (other, other_row) in combinations(places.values(), 2)
    ]


def public_figures(
    connection: duckdb.DuckDBPyConnection, cbs: str, block: Block, counts: Mapping[str, float] | None = None
) -> list[Public]:
    """What CBS tells of the regions of a block, with the room that the specs declare.

    Args:
        connection: holds `cbs`.
        cbs: a table with `jaar`, `regio_code`, `indicator` and `waarde` of CBS's figures.
        block: which one.
        counts: true counts per region: a figure that they do not fit gets twice the room until they do, since a
            reader who believes less room than there is only deceives himself. None: the room as declared.
    """
    found: list[Public] = []
    for part in block.parts:
        for figure in part.spec.cbs:
            month = block.periode[5:7]
            if figure.telling != block.telling or (figure.maand is not None and month != f"{figure.maand:02}"):
                continue
            rows = connection.execute(
                f"SELECT regio_code, waarde FROM {cbs} WHERE indicator = ? AND jaar = ? ORDER BY 1",
                # in whatever borders: most codes stay, and of one that did not the room below lets the truth fit
                [figure.indicator, int(block.periode[:4])],
            ).fetchall()
            codes = {key[0] for key in part.keys}
            for code, value in rows:
                if code not in codes:
                    continue
                half, room = figure.afronding / 2, float(figure.tolerantie)
                truth = None if counts is None else counts.get(code)
                while truth is not None and not np.isnan(truth) and _outside(figure.soort, truth, value, half + room):
                    room = 2 * room + half
                low = max(value - half - room, 0.0) if figure.soort == "gelijk" else -np.inf
                found.append(Public(code, low, value + half + room, f"CBS {figure.indicator}"))
    return found


def _outside(kind: str, truth: float, value: float, room: float) -> bool:
    return truth > value + room or (kind == "gelijk" and truth < value - room)
