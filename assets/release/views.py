"""Views: what each audience may be shown of a block, proved against all that it knows.

Audiences are served in a chain. The first one's view is made from the counts. The next one's is made from that view
alone, and from what was published: whatever a later audience sees, the earlier one could have worked out.

Belongs here: saying to the disclosure engine what is known of a block, and the views that come out. Does not belong
here: which marts may go out at all (assets.release.gate), and reading blocks (assets.release.blocks).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import numpy.typing as npt

from assets.release.blocks import GEO, Block, BlockError, Bools, Placed, Public, Sum, Told, View, place
from assets.release.postcodes import overlapping
from quality.norms import Audience, AudienceNorms, Chain, policy

if TYPE_CHECKING:
    from quality.disclosure.engine import Earlier
    from quality.disclosure.facts import Fact
    from quality.disclosure.table import Table


def check_rest(block: Block, least: int) -> None:
    """Refuse a block of which a region less its known parts leaves too few for the parts of which nothing is known.

    Raises:
        BlockError: so.
    """
    for part in block.parts:
        place_of = {key: i for i, key in enumerate(part.keys)}
        rest: dict[tuple[str, ...], float] = {}
        gaps: set[tuple[str, ...]] = set()
        for key, level, count in zip(part.keys, part.heights, part.count, strict=True):
            up = (part.above(key[0], level), *key[1:])
            if up in place_of and np.isnan(count):
                gaps.add(up)
            elif up in place_of:
                rest[up] = rest.get(up, 0.0) + float(count)
        if any(0 < part.count[place_of[up]] - rest.get(up, 0.0) < least for up in gaps):
            raise BlockError("een totaal en zijn bekende delen verschillen zo weinig dat het iemand zou tonen")


@dataclass(frozen=True)
class Knowledge:
    """What is known of the counts of a block besides what is shown of them now.

    Attributes:
        told: per audience what its readers know of earlier releases.
        sums: what ties those in other borders to the block.
        public: what CBS tells of the regions.
        revision: by how much a count is revised at most; None when nothing is known of that.
        overlaps: which postcodes and buurten overlap; none where nobody is or was shown any by postcode.
    """

    told: Mapping[Audience, Sequence[Told]]
    sums: Sequence[Sum]
    public: Sequence[Public]
    revision: int | None
    overlaps: Mapping[str, Collection[str]] = field(default_factory=dict)


def views(
    block: Block,
    chain: Chain,
    audience: Audience,
    known: Knowledge,
    ready: Mapping[Audience, View],
    *,
    knows_own: bool,
    suspects: bool,
    suppliers: Mapping[str, Sequence[Bools]],
    time_limit: float,
) -> tuple[dict[Audience, View], dict[str, Any]]:
    """What an audience may be shown of a block, proved against what it knows, by the chain of audiences before it.

    Args:
        block: with the counts.
        chain: the norms in force.
        audience: who is served.
        known: what there is to know besides.
        ready: per audience a view of these very counts that was released before: it is taken over.
        knows_own: whether whoever is alone in a cell uses that.
        suspects: whether a reader takes every hidden count for one under the minimum.
        suppliers: per supplier, for each part of the block, which rows it knows exactly. Like who is alone in a cell
            it is reckoned with in the first view: who knows true counts learns no more from a later one.
        time_limit: seconds for all.

    Returns:
        The views of the audience and of those before it, and the engine's sealed evidence for the audience's own.

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
    found: dict[Audience, View] = {}
    sealed: dict[str, Any] = {}
    for (who, norms), least in zip(chain.steps(audience), chain.least_shown(audience), strict=True):
        check_rest(block, least)
        if who in ready:
            found[who] = view = ready[who]
            sealed = {}
            continue
        strict = norms.model_copy(update={"groep_pct": min(shares)}) if shares else norms
        rules = policy(strict, least, groups, knows_own=knows_own and view is None, suspects=suspects)
        tables = [item.table for item in placed]
        earlier, facts = _known(placed, tables, known, who, hides_zeros=rules.hides_zeros)
        if view is not None:
            tables = fitting(placed, view, tables, earlier, facts, hides_zeros=rules.hides_zeros)
        own = {} if view is not None else _supplied(placed, suppliers)
        done = protect(tables, rules, earlier=earlier, facts=facts, known_cells=own, time_limit=time_limit)
        values = [np.full(len(part.keys), np.nan) for part in block.parts]
        for item, table in zip(placed, done.tables, strict=True):
            values[item.part][item.rows] = table.value
        found[who] = view = View(tuple(values), norms, least)
        sealed = done.sealed
    return found, sealed


def _known(
    placed: Sequence[Placed], tables: Sequence[Table], known: Knowledge, who: Audience, *, hides_zeros: bool
) -> tuple[list[Earlier], list[Fact]]:
    """What an audience knows of the tables of a block: earlier versions, and all that ties the cells of both."""
    earlier, more = earlier_versions(known.told.get(who, ()), tables, known.revision, hides_zeros=hides_zeros)
    every = [*tables, *(one.table for one in earlier)]
    parts, sums = overlapping(tables, earlier, known.overlaps)
    facts = [*_facts(placed, known.public), *more, *summed(every, known.sums, known.revision), *sums]
    return [*earlier, *parts], facts


def as_published(
    block: Block, view: View, known: Knowledge, who: Audience, offset: int
) -> tuple[list[Earlier], list[Fact]]:
    """The counts of a block as an audience sees them, with all that it knows of them, for a system of other figures.

    Args:
        block: with the counts.
        view: how they are shown.
        known: what there is to know besides.
        who: the audience.
        offset: how many tables that system has before these.
    """
    placed = place(block.shown(view.values))
    now = [_as_told(item.table, "nu", view.norms, view.least, view.norms.bescherming) for item in placed]
    earlier, facts = _known(placed, [item.table for item in placed], known, who, hides_zeros=False)
    moved = [
        replace(fact, terms=tuple((number + offset, at, weight) for number, at, weight in fact.terms)) for fact in facts
    ]
    return [*now, *earlier], moved


def _supplied(
    placed: Sequence[Placed], suppliers: Mapping[str, Sequence[Bools]]
) -> dict[str, list[tuple[int, npt.NDArray[np.int64]]]]:
    """The cells that each supplier knows, as the engine takes them."""
    return {
        who: [(at, np.flatnonzero(known[item.part][item.rows])) for at, item in enumerate(placed)]
        for who, known in suppliers.items()
    }


def fitting(
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
            if fact.code in {geo.codes[code] for code in item.table.codes[:, 0]}:
                at = {} if fact.code == geo.codes[0] else {GEO: fact.code}
                found.append(Fact(((number, at, 1.0),), fact.lower, fact.upper, fact.why))
                break
    return found


def earlier_versions(
    told: Sequence[Told], tables: Sequence[Table], revision: int | None, *, hides_zeros: bool
) -> tuple[list[Earlier], list[Fact]]:
    """Earlier versions for the engine, that what they hide is at least 1, and what ties them to the tables of now."""
    from quality.disclosure.facts import Fact

    earlier: list[Earlier] = []
    known: list[Fact] = []
    seen = {name for table in tables for name in table.names or ()}
    for one in told:
        for item in place(one.block):
            table = item.table
            for row in np.flatnonzero(np.isnan(table.value) & (not hides_zeros)):
                if (name := (table.names or ())[row]) not in seen:
                    seen.add(name)
                    why = f"levering {one.release} toont nullen, en dit niet"
                    known.append(Fact(((len(tables) + len(earlier), at_row(table, int(row)), 1.0),), 1.0, np.inf, why))
            width = one.norms.bescherming if one.is_own else 0
            earlier.append(_as_told(table, one.release, one.norms, one.least, width))
    return earlier, known + revised([*tables, *(one.table for one in earlier)], revision)


def _as_told(table: Table, release: str, norms: AudienceNorms, least: int, width: int) -> Earlier:
    """A table as an audience was shown it, of which what is hidden must keep so much room."""
    from quality.disclosure.engine import Earlier
    from quality.disclosure.spec import Rounding

    method = "controlled" if norms.afrondingsmethode == "sluitend" else "conventional"
    rounding = Rounding(base=norms.afronding, method=method) if norms.afronding > 1 else None
    rounded = (table.value > 0) & (rounding is not None)
    return Earlier(table, release, None, rounded, float(width), rounding, least)


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
    connection: duckdb.DuckDBPyConnection, cbs: str, block: Block, counts: Mapping[str, float]
) -> list[Public]:
    """What CBS tells of the regions of a block, with the room that the specs declare.

    Args:
        connection: holds `cbs`.
        cbs: a table with `jaar`, `regio_code`, `indicator` and `waarde` of CBS's figures.
        block: which one.
        counts: true counts per region: a figure that they do not fit gets twice the room until they do, since a
            reader who believes less room than there is only deceives himself.
    """
    found: list[Public] = []
    for part in block.parts:
        codes = {key[0] for key in part.keys}
        for figure in part.spec.cbs:
            year = figure.year_of(block.periode) if figure.telling == block.telling else None
            if year is None:
                continue
            rows = connection.execute(
                f"""SELECT regio_code, waarde, jaar = ? FROM {cbs} WHERE indicator = ?
                    AND jaar BETWEEN ? AND ? ORDER BY jaar, regio_code""",
                # in whatever borders: most codes stay, and of one that did not the room below lets the truth fit
                [year, figure.indicator, *((year, year) if figure.verandering is None else (year - 1, year + 1))],
            ).fetchall()
            for code, value, is_of_year in rows:
                if code not in codes:
                    continue
                half = figure.afronding / 2
                room = float(figure.tolerantie + (0 if is_of_year else figure.verandering or 0))
                truth = counts.get(code, np.nan)
                while not np.isnan(truth) and _outside(figure.soort, truth, value, half + room):
                    room = 2 * room + half
                low = max(value - half - room, 0.0) if figure.soort == "gelijk" else -np.inf
                found.append(Public(code, low, value + half + room, f"CBS {figure.indicator}"))
    return found


def _outside(kind: str, truth: float, value: float, room: float) -> bool:
    return truth > value + room or (kind == "gelijk" and truth < value - room)
