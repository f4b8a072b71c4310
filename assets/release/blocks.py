"""Blocks: everything that marts tell about one count, in one period and one municipality, protected as one system.

Nothing that is released ties two blocks together: no total stands above a municipality, and different periods are
different figures. Within a block all tables are linked: cells of one count with the same codes are one unknown.

Belongs here: reading blocks, what is told of them, and the disclosure engine's tables for them. Does not belong here:
protecting them (assets.release.views) and where earlier releases are kept (assets.release.history).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import numpy.typing as npt

from datafabriek.errors import FactoryError
from datafabriek.warehouse import literal, quoted
from quality.norms import AudienceNorms, Level
from quality.protection import HEIGHT, UNKNOWN_BUURT, DisclosureSpec, counted, municipality

if TYPE_CHECKING:
    from quality.disclosure.table import Table

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

GEO = "regio_code"

POINT = "."
"""Between the name of a count and that of an amount of those who are counted."""

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
        columns: of amounts, where they are at hand: per row how many contribute (`frequency`) and the two largest
            contributions.
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
    columns: Mapping[str, Floats] = field(default_factory=dict)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classifications, the region first."""
        return (GEO, *self.spec.total_of)

    def above(self, code: str, level: str) -> str:
        """The code of the region that a region is a part of in this table; empty for the municipality."""
        if level == UNKNOWN_BUURT:
            return f"GM{code[3:]}"
        higher = [x for x in self.levels if HEIGHT[x] > HEIGHT[level]]
        return "" if not higher else higher[0] + code[2 : {"WK": 8, "PC": 10, "GM": 6}[higher[0]]]

    @property
    def is_total(self) -> Bools:
        """Which rows are totals over all further classifications."""
        totals = tuple(self.spec.total_of.values())
        return np.array([key[1:] == totals for key in self.keys], dtype=bool)


@dataclass(frozen=True)
class Block:
    """All that is told about one count, or one amount, in one period and one municipality.

    The `telling` of an amount is that of those who contribute to it, a point and its own name; its `count` are units.
    """

    telling: str
    periode: str
    gemeente: str
    parts: tuple[Part, ...]

    @property
    def id(self) -> str:
        """Its name in sealed evidence."""
        return f"{self.telling}/{self.periode}/{self.gemeente}"

    @property
    def is_amount(self) -> bool:
        """Whether this is about an amount."""
        return POINT in self.telling

    @property
    def counted(self) -> str:
        """The count of those whose amounts these are; of a count itself."""
        return self.telling.partition(POINT)[0]

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

    def shown(self, values: Sequence[Floats]) -> Block:
        """The same as it is shown with these values, one list per part: what is known and has none is hidden."""
        parts = (
            replace(part, count=value, is_hidden=np.isnan(value) & ~np.isnan(part.count), columns={})
            for part, value in zip(self.parts, values, strict=True)
        )
        return replace(self, parts=tuple(parts))

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
    amounts: bool = False,
) -> dict[Key, Part]:
    """What a table tells, per count, period and municipality.

    Args:
        connection: holds `relation`.
        relation: SQL name of the table: a mart, or a table of an earlier release.
        mart: name of the mart.
        spec: its disclosure spec.
        lowest: the lowest level shown; rows under it are left out.
        periods: only these; None takes all.
        amounts: the amounts of the table in the place of its counts, with the columns on contributions that it has.

    Raises:
        BlockError: indicators that show one count differ, or an indicator that the spec does not name.
    """
    levels = spec.shown_levels(lowest)
    wanted = ", ".join(map(literal, (*levels, *([UNKNOWN_BUURT] if lowest != "GM" else []))))
    shown = spec.bedrag.kolom if amounts and spec.bedrag else spec.count
    count, code = quoted(shown or ""), quoted(spec.geo)
    flat = "".join(f", m.{quoted(name)}" for name in spec.total_of)
    within = "" if periods is None else " AND list_contains(?, m.periode)"
    given = [] if periods is None else [list(periods)]
    there = {row[0] for row in connection.execute(f"DESCRIBE {relation}").fetchall()}
    contributions = spec.contributions if amounts and there.issuperset(spec.contributions.values()) else {}
    behind = "".join(f", any_value(m.{quoted(name)})::DOUBLE AS _{kind}" for kind, name in contributions.items())
    unnamed = connection.execute(
        f"SELECT DISTINCT m.indicator FROM {relation} AS m ANTI JOIN {counted(spec)} ON geteld.indicator = m.indicator"
    ).fetchall()
    if unnamed:
        raise BlockError(f"{len(unnamed)} indicatoren staan niet onder telling in de spec")
    frame = connection.execute(
        f"""SELECT geteld.telling, m.periode, {municipality(spec, "m")} AS gemeente, any_value(m.indeling_jaar) AS jaar,
            m.{code} AS code, any_value(m.regio_niveau) AS niveau{flat},
            any_value(m.{count})::DOUBLE AS n, bool_or(m.status = 'geheim') AS geheim{behind},
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
        name = f"{telling}{POINT}{spec.bedrag.naam}" if amounts and spec.bedrag else str(telling)
        found[name, str(periode), str(gemeente)] = Part(
            mart,
            spec,
            tuple(levels),
            int(rows.item(0, "jaar") or 0),
            keys,
            tuple(rows["niveau"]),
            value,
            rows["geheim"].to_numpy() & np.isnan(value),
            columns={kind: rows[f"_{kind}"].to_numpy().astype(np.float64) for kind in contributions},
        )
    return found


def read_all(
    connection: duckdb.DuckDBPyConnection, relation: str, mart: str, spec: DisclosureSpec, lowest: Level
) -> dict[Key, Part]:
    """What a table tells of counts, and of amounts where it has them (`read_parts`).

    Raises:
        BlockError: as there.
    """
    counts = read_parts(connection, relation, mart, spec, lowest)
    return counts | (read_parts(connection, relation, mart, spec, lowest, amounts=True) if spec.bedrag else {})


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
    """The engine's tables for a block; a region is at least the sum of its parts where of some nothing is known."""
    from quality.disclosure.table import Table, dimension

    out = []
    for number, part in enumerate(block.parts):
        known = ~np.isnan(part.count) | part.is_hidden
        # of this part alone: what another does not know takes no sum away from who reads this one
        absent = {key[0] for key, there in zip(part.keys, known, strict=True) if not there}
        rows = np.flatnonzero([key[0] not in absent for key in part.keys])
        if not len(rows):
            continue
        above = {key[0]: part.above(key[0], level) for key, level in zip(part.keys, part.heights, strict=True)}
        open_ = absent | {above[code] for code in absent}
        tree = {code: up for code, up in above.items() if code != block.gemeente}
        dimensions = [dimension(GEO, block.gemeente, (), tree, sorted(open_ & {block.gemeente, *tree}))]
        dimensions += [
            dimension(name, total, {part.keys[i][at] for i in rows})
            for at, (name, total) in enumerate(part.spec.total_of.items(), start=1)
        ]
        places = [{code: k for k, code in enumerate(d.codes)} for d in dimensions]
        table = Table(
            part.mart,
            block.telling,
            tuple(dimensions),
            np.array([[at[c] for at, c in zip(places, part.keys[i], strict=True)] for i in rows]),
            part.count[rows],
            {kind: column[rows] for kind, column in part.columns.items()},
            is_count=not block.is_amount,
            names=tuple(part.names[i] for i in rows) if part.names else None,
        )
        out.append(Placed(table, number, rows))
    return out
