"""Tables, their margins, and the one linear system that linked tables make together.

Belongs here: what protector and auditor share, which is only the reading of tables. A `System` numbers every
distinct cell of all tables once and holds the relations as one sparse matrix with A·x = 0 (a margin is +1, its
parts −1), as in Fischetti & Salazar (2001), "Solving the cell suppression problem on tabular data with linear
constraints". Cells of two tables are one where measure and non-total codes agree.

A cell that is absent from a table is a zero. A margin that is absent while its parts are not zero is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from quality.disclosure.errors import MalformedTable

if TYPE_CHECKING:
    import polars as pl

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

NUMERIC_COLUMNS = ("frequency", "top1", "top2", "cost", "lpl", "upl", "population")
VERSION_NOW = "now"


@dataclass(frozen=True)
class Dimension:
    """One classification: `codes[0]` is the total, `parent[i]` the position of the code above (−1 for the total).

    Of a code in `open` not all parts stand in the table: then it is at least their sum, and nothing more is known.
    """

    name: str
    codes: tuple[str, ...]
    parent: Ints
    open: tuple[str, ...] = ()

    @cached_property
    def depth(self) -> Ints:
        """Steps from the total to each code."""
        depth = np.zeros(len(self.codes), dtype=np.int64)
        above = self.parent.copy()
        while (above >= 0).any():
            depth[above >= 0] += 1
            above = np.where(above >= 0, self.parent[above], -1)
        return depth

    @cached_property
    def inner(self) -> Bools:
        """Which codes have codes under them."""
        inner = np.zeros(len(self.codes), dtype=bool)
        inner[self.parent[self.parent >= 0]] = True
        return inner

    @cached_property
    def is_open(self) -> Bools:
        """Which codes are more than the parts that stand under them."""
        return np.isin(np.array(self.codes), np.array(self.open, dtype=np.str_))


def dimension(
    name: str,
    total: str,
    codes: Iterable[str],
    hierarchy: Mapping[str, str] | None = None,
    incomplete: Sequence[str] = (),
) -> Dimension:
    """A dimension over the codes that occur, with `hierarchy` (code → parent) or flat under the total.

    Args:
        name: of the column.
        total: code of everything.
        codes: that occur.
        hierarchy: code → parent.
        incomplete: codes of which not all parts are known.

    Raises:
        MalformedTable: a code without a place in the hierarchy, or a cycle.
    """
    if hierarchy is None:
        rest = sorted(set(codes) - {total})
        return _known_codes(
            Dimension(name, (total, *rest), np.array([-1, *([0] * len(rest))], dtype=np.int64), tuple(incomplete))
        )
    above = {code: parent or total for code, parent in hierarchy.items() if code != total}
    for code in above:
        seen, here = {code}, code
        while here != total:
            here = above.get(here, "")
            if not here:
                raise MalformedTable(
                    f"dimension {name}: code {code!r} does not lead up to the total {total!r}; give every code of "
                    "the hierarchy a parent (an empty parent means the total)"
                )
            if here in seen:
                raise MalformedTable(f"dimension {name}: the hierarchy runs in a circle through code {here!r}")
            seen.add(here)
    for code in codes:
        if code != total and code not in above:
            raise MalformedTable(
                f"dimension {name}: code {code!r} occurs in the table but not in the hierarchy; add it there"
            )
    names = (total, *sorted(above))
    place = {code: i for i, code in enumerate(names)}
    parent = np.array([-1, *(place[above[c]] for c in names[1:])], dtype=np.int64)
    return _known_codes(Dimension(name, names, parent, tuple(incomplete)))


def _known_codes(d: Dimension) -> Dimension:
    odd = [code for code in d.open if code not in d.codes]
    if odd:
        raise MalformedTable(f"dimension {d.name}: code {odd[0]!r}, of which parts are said to be unknown, is no code")
    return d


@dataclass(frozen=True)
class Table:
    """One table: a row a cell, margins included.

    Attributes:
        name: how messages call it.
        measure: what is counted or summed; linked tables share cells only within one measure.
        dimensions: the classifications.
        codes: position of each row's code per dimension, shape (rows, dimensions).
        value: the figures, NaN where hidden; shape (rows,).
        columns: numeric columns beside the measure (`frequency`, `top1`, `top2`, `cost`, `lpl`, `upl`, ...).
        status: the status column as it was read, or None.
        is_count: whether the measure counts persons or things (then values are whole numbers).
        version: tables of one version share cells; an earlier release from other input has another version.
        names: per row the name of its cell, where it is known which figures of several tables are the same: rows of
            one name are one cell, whatever their table, codes, measure and version.
        decimals: digits after the point in which values are given (0 for counts).
    """

    name: str
    measure: str
    dimensions: tuple[Dimension, ...]
    codes: Ints
    value: Floats
    columns: Mapping[str, Floats] = field(default_factory=dict)
    status: npt.NDArray[np.str_] | None = None
    is_count: bool = True
    version: str = VERSION_NOW
    decimals: int = 0
    names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.value)

    def cell(self, row: int) -> str:
        """The name of a row's cell, for messages."""
        at = ", ".join(f"{d.name}={d.codes[i]}" for d, i in zip(self.dimensions, self.codes[row], strict=True))
        return f"{self.name}[{at}]" if self.name else f"[{at}]"

    @cached_property
    def _order(self) -> tuple[Ints, Ints]:
        key = self._key(self.codes)
        order = np.argsort(key, kind="stable")
        return key[order], order

    def _key(self, codes: Ints) -> Ints:
        radix = np.array([len(d.codes) for d in self.dimensions], dtype=np.int64)
        if float(np.prod(radix.astype(float))) > 2**62:
            raise MalformedTable(f"{self.name}: the product of the dimensions is too large to number its cells")
        weight = np.concatenate([np.cumprod(radix[::-1])[::-1][1:], [1]])
        return np.asarray(codes @ weight, dtype=np.int64)

    def rows_of(self, codes: Ints) -> Ints:
        """The row of each combination of codes, −1 where the table has none."""
        keys, order = self._order
        wanted = self._key(codes)
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where(keys[at] == wanted, order[at], -1)

    def check_cells(self) -> None:
        """Refuse duplicate cells and negative figures, naming the first.

        Raises:
            MalformedTable: as said.
        """
        keys, order = self._order
        twice = np.flatnonzero(keys[1:] == keys[:-1])
        if len(twice):
            raise MalformedTable(f"cell {self.cell(int(order[twice[0] + 1]))} occurs twice; keep one row a cell")
        below = np.flatnonzero(self.value < 0)
        if len(below):
            raise MalformedTable(f"cell {self.cell(int(below[0]))} is negative; only sums of non-negative parts work")
        for name, column in self.columns.items():
            below = np.flatnonzero(column < 0)
            if len(below) and name in NUMERIC_COLUMNS:
                raise MalformedTable(f"cell {self.cell(int(below[0]))} has a negative {name}")

    def fingerprint(self) -> str:
        """SHA-256 over dimensions, codes and values in row order: the same figures give the same fingerprint."""
        digest = hashlib.sha256()
        for d, column in zip(self.dimensions, self.codes.T, strict=True):
            digest.update(f"{d.name}\0{d.codes[0]}\0".encode())
            digest.update("\0".join(np.array(d.codes)[column]).encode())
        digest.update(self.measure.encode())
        digest.update(np.where(np.isnan(self.value), -1.0, self.value).tobytes())
        return digest.hexdigest()

    def relations(self) -> Relations:
        """Every margin with its parts, as positions of rows; see `Relations`."""
        parts: list[tuple[Ints, Ints, Bools]] = []
        leaf_before = np.ones(len(self), dtype=bool)
        order = sorted(range(len(self.dimensions)), key=lambda i: (-int(self.dimensions[i].depth.max()), i))
        for i in order:
            d, column = self.dimensions[i], self.codes[:, i]
            child = np.flatnonzero(column != 0)
            above = self.codes[child].copy()
            above[:, i] = d.parent[column[child]]
            parents = self.rows_of(above)
            whole = ~d.is_open[above[:, i]]
            lost = (parents < 0) & (self.value[child] != 0) & whole
            if lost.any():
                codes = above[np.flatnonzero(lost)[0]]
                at = ", ".join(f"{d.name}={d.codes[c]}" for d, c in zip(self.dimensions, codes, strict=True))
                raise MalformedTable(
                    f"the total {self.name}[{at}] is missing while its parts are not; add its row, or let "
                    "--add-margins make the margins"
                )
            keep = (parents >= 0) & whole
            parts.append((parents[keep], child[keep], leaf_before[parents[keep]]))
            leaf_before = leaf_before & ~(d.inner & ~d.is_open)[column]
        return Relations.of(parts, len(self))

    def at_most(self) -> list[tuple[Ints, Ints]]:
        """Per dimension with open codes: rows of totals that are at least the sum of their parts, and those parts."""
        out = []
        for i, d in enumerate(self.dimensions):
            child = np.flatnonzero(self.codes[:, i] != 0)
            above = self.codes[child].copy()
            above[:, i] = d.parent[above[:, i]]
            parents = self.rows_of(above)
            keep = (parents >= 0) & d.is_open[above[:, i]]
            if keep.any():
                out.append((parents[keep], child[keep]))
        return out

    def frame(self) -> pl.DataFrame:
        """The dimension columns and the value, in row order."""
        import polars as pl

        columns: dict[str, Any] = {
            d.name: pl.Series(np.array(d.codes, dtype=object)[self.codes[:, i]], dtype=pl.String)
            for i, d in enumerate(self.dimensions)
        }
        columns[self.measure] = pl.Series(self.value, nan_to_null=True)
        return pl.DataFrame(columns)


@dataclass(frozen=True)
class Relations:
    """Margins as a sparse matrix: row r says x[total[r]] = Σ of its parts.

    Attributes:
        matrix: +1 at the total, −1 at each part; shape (relations, cells).
        total: the position of each relation's total.
        enough: rows that together imply all others (each total once), so that programs stay small; for a tree
            crossed with flat dimensions of depth one they form a network.
    """

    matrix: sparse.csr_matrix
    total: Ints
    enough: Bools

    @staticmethod
    def of(parts: Sequence[tuple[Ints, Ints, Bools]], cells: int | None = None) -> Relations:
        """Build from (total, part, enough) triples, one list of pairs per dimension."""
        rows, columns, signs, totals, enough = [], [], [], [], []
        base = 0
        for total, part, needed in parts:
            unique, first, number = np.unique(total, return_index=True, return_inverse=True)
            rows += [base + number, base + np.arange(len(unique))]
            columns += [part, unique]
            signs += [-np.ones(len(part)), np.ones(len(unique))]
            totals.append(unique)
            enough.append(needed[first])
            base += len(unique)
        width = cells if cells is not None else int(max((int(c.max(initial=-1)) for c in columns), default=-1)) + 1
        matrix = sparse.csr_matrix(
            (np.concatenate([*signs, []]), (np.concatenate([*rows, []]), np.concatenate([*columns, []]))),
            shape=(base, width),
        )
        return Relations(
            matrix,
            np.concatenate([*totals, []]).astype(np.int64),
            np.concatenate([*enough, []]).astype(bool),
        )


@dataclass(frozen=True)
class Known:
    """What else is known of the cells: `lower` ≤ matrix · x ≤ `upper`, each row with its reason.

    Rates, intervals and earlier releases enter the system as such rows; the matrix has a column per cell.
    """

    matrix: sparse.csr_matrix
    lower: Floats
    upper: Floats
    why: tuple[str, ...]

    @staticmethod
    def nothing(cells: int) -> Known:
        """No rows."""
        return Known(sparse.csr_matrix((0, cells)), np.zeros(0), np.zeros(0), ())

    def also(self, other: Known) -> Known:
        """Both sets of rows."""
        cells = max(self.matrix.shape[1], other.matrix.shape[1])
        return Known(
            sparse.vstack([_widened(self.matrix, cells), _widened(other.matrix, cells)], format="csr"),
            np.concatenate([self.lower, other.lower]),
            np.concatenate([self.upper, other.upper]),
            self.why + other.why,
        )


def _widened(matrix: sparse.csr_matrix, cells: int) -> sparse.csr_matrix:
    return sparse.csr_matrix((matrix.data, matrix.indices, matrix.indptr), shape=(matrix.shape[0], cells))


@dataclass(frozen=True)
class System:
    """All distinct cells of some tables, and everything that ties them.

    Attributes:
        tables: the tables, in order.
        cell_of: per table the cell of each row.
        value: the figure of each cell, NaN where hidden.
        relations: all margins of all tables over the cells.
        slack: how far each relation may be off because values are given in limited decimals.
        is_count: per cell whether it counts.
        known: further rows over the cells.
        floor: the least that any published interval leaves a cell, −inf where none was published.
        ceiling: idem the most, inf where none was published.
        blurred: cells whose only publication is such an interval (rounded in an earlier release): neither shown nor
            hidden.
    """

    tables: tuple[Table, ...]
    cell_of: tuple[Ints, ...]
    value: Floats
    relations: Relations
    slack: Floats
    is_count: Bools
    known: Known
    floor: Floats
    ceiling: Floats
    blurred: Bools

    @property
    def cells(self) -> int:
        """How many distinct cells there are."""
        return len(self.value)

    @cached_property
    def _first(self) -> tuple[Ints, Ints]:
        table, row = np.full(self.cells, -1), np.full(self.cells, -1)
        for t in range(len(self.tables) - 1, -1, -1):
            table[self.cell_of[t]] = t
            row[self.cell_of[t]] = np.arange(len(self.tables[t]))
        return table, row

    def name(self, cell: int) -> str:
        """The name of a cell, by the first table that holds it."""
        table, row = self._first
        return self.tables[int(table[cell])].cell(int(row[cell]))

    def column(self, name: str, missing: float = np.nan) -> Floats | None:
        """A numeric column over the cells (first table that has it wins), None where no table has it."""
        found = [t for t in range(len(self.tables)) if name in self.tables[t].columns]
        if not found:
            return None
        out = np.full(self.cells, missing)
        for t in reversed(found):
            out[self.cell_of[t]] = self.tables[t].columns[name]
        return out

    def status(self, mark: str) -> Bools:
        """Which cells carry `mark` in the status column of any table."""
        out = np.zeros(self.cells, dtype=bool)
        for table, cells in zip(self.tables, self.cell_of, strict=True):
            if table.status is not None:
                out[cells[table.status == mark]] = True
        return out

    @cached_property
    def height(self) -> Ints:
        """How high a cell stands: steps from the deepest code, summed over the dimensions."""
        out = np.zeros(self.cells, dtype=np.int64)
        for table, cells in zip(self.tables, self.cell_of, strict=True):
            for i, d in enumerate(table.dimensions):
                np.maximum.at(out, cells, (d.depth.max() - d.depth)[table.codes[:, i]])
        return out

    @property
    def hidden(self) -> Bools:
        """Cells that are published without any value."""
        return np.isnan(self.value) & ~self.blurred

    def with_known(self, known: Known) -> System:
        """The same system with further rows; a row over one cell narrows what is known of that cell instead."""
        single = np.diff(known.matrix.indptr) == 1
        at = known.matrix.indptr[:-1][single]
        cells, weight = known.matrix.indices[at], known.matrix.data[at]
        ends = known.lower[single] / weight, known.upper[single] / weight
        narrower = self.within(cells, np.minimum(*ends), np.maximum(*ends))
        why = tuple(text for text, alone in zip(known.why, single, strict=True) if not alone)
        rest = Known(known.matrix[~single], known.lower[~single], known.upper[~single], why)
        return replace(narrower, known=self.known.also(rest))

    def within(self, cells: Ints, low: Floats, high: Floats) -> System:
        """The same system, in which `cells` are known to lie between `low` and `high`; counts are whole."""
        whole, near = self.is_count[cells], 1e-9 * np.maximum(1.0, np.abs(np.nan_to_num(low, neginf=0.0)))
        floor, ceiling = self.floor.copy(), self.ceiling.copy()
        np.maximum.at(floor, cells, np.where(whole, np.ceil(low - near), low))
        np.minimum.at(ceiling, cells, np.where(whole, np.floor(high + near), high))
        return replace(self, floor=floor, ceiling=ceiling)

    def part(self, cells: Ints) -> System:
        """Only `cells` (sorted), with what ties them to each other and nothing that ties them to other cells."""
        inside = np.zeros(self.cells, dtype=bool)
        inside[cells] = True

        def within(matrix: sparse.csr_matrix) -> Bools:
            return np.asarray((abs(matrix) @ (~inside).astype(np.float64) == 0) & (np.diff(matrix.indptr) > 0))

        rows, known = within(self.relations.matrix), within(self.known.matrix)
        place = np.cumsum(inside) - 1
        relations = Relations(
            self.relations.matrix[rows][:, cells], place[self.relations.total[rows]], self.relations.enough[rows]
        )
        why = tuple(text for text, kept in zip(self.known.why, known, strict=True) if kept)
        return System(
            (), (), self.value[cells], relations, self.slack[rows], self.is_count[cells],
            Known(self.known.matrix[known][:, cells], self.known.lower[known], self.known.upper[known], why),
            self.floor[cells], self.ceiling[cells], self.blurred[cells],
        )  # fmt: skip

    def with_values(self, values: Sequence[Floats]) -> System:
        """The same cells with other values per table (NaN hides); rows of shared cells must agree."""
        tables = tuple(replace(t, value=v) for t, v in zip(self.tables, values, strict=True))
        value = np.full(self.cells, np.nan)
        for table, cells in zip(tables, self.cell_of, strict=True):
            value[cells] = table.value
        return replace(self, tables=tables, value=value)


def join(tables: Sequence[Table]) -> System:
    """One system from linked tables.

    Raises:
        MalformedTable: duplicates, negatives, missing totals, or tables that disagree on a shared cell.
    """
    for table in tables:
        if not len(table):
            raise MalformedTable(f"{table.name or 'the table'} has no rows; give at least the total")
        table.check_cells()
    cell_of, cells = shared_cells(tables)
    value, is_count = np.full(cells, np.nan), np.zeros(cells, dtype=bool)
    decimals = np.zeros(cells)
    for table, mine in zip(tables, cell_of, strict=True):
        step = 10.0**-table.decimals if table.decimals else 0.0
        before = value[mine]
        both = ~np.isnan(before) & ~np.isnan(table.value)
        apart = both & (np.abs(before - table.value) > 2 * step + 1e-9 * np.abs(before))
        if apart.any():
            row = int(np.flatnonzero(apart)[0])
            raise MalformedTable(
                f"cell {table.cell(row)} has another value than the same cell of a linked table; "
                "publish both tables from the same data"
            )
        value[mine] = np.where(np.isnan(before), table.value, before)
        is_count[mine] = table.is_count
        decimals[mine] = np.maximum(decimals[mine], step)
    matrices, totals, enough, seen = [], [], [], set()
    for table, mine in zip(tables, cell_of, strict=True):
        own = table.relations()
        moved = own.matrix.tocoo()
        matrix = sparse.csr_matrix((moved.data, (moved.row, mine[moved.col])), shape=(own.matrix.shape[0], cells))
        fresh = np.ones(matrix.shape[0], dtype=bool)
        if len(tables) > 1:
            for r in range(matrix.shape[0]):
                at = slice(matrix.indptr[r], matrix.indptr[r + 1])
                key = (np.sort(matrix.indices[at]).tobytes(), int(mine[own.total[r]]))
                fresh[r] = key not in seen
                seen.add(key)
        matrices.append(matrix[fresh])
        totals.append(mine[own.total[fresh]])
        enough.append(own.enough[fresh])
    matrix = sparse.vstack(matrices, format="csr")
    relations = Relations(matrix, np.concatenate(totals), np.concatenate(enough))
    slack = 0.5 * (abs(matrix) @ decimals)
    loose = np.full(cells, np.inf)
    known = _unknown_parts(tables, cell_of, cells, decimals)
    return System(
        tuple(tables), tuple(cell_of), value, relations, slack, is_count, known,
        -loose, loose, np.zeros(cells, dtype=bool),
    )  # fmt: skip


def _unknown_parts(tables: Sequence[Table], cell_of: Sequence[Ints], cells: int, decimals: Floats) -> Known:
    """Parts that are known add up to at most what they are parts of, since what is left over is not negative."""
    out = Known.nothing(cells)
    for table, mine in zip(tables, cell_of, strict=True):
        pairs = table.at_most()
        if not pairs:
            continue
        rows = Relations.of([(total, part, np.ones(len(total), dtype=bool)) for total, part in pairs], len(table))
        moved = rows.matrix.tocoo()
        matrix = sparse.csr_matrix((moved.data, (moved.row, mine[moved.col])), shape=(rows.matrix.shape[0], cells))
        slack = 0.5 * (abs(matrix) @ decimals)
        why = tuple(f"the known parts of {table.cell(int(row))} against it" for row in rows.total)
        out = out.also(Known(matrix, -slack, np.full(len(slack), np.inf), why))
    return out


def check_margins(system: System) -> None:
    """Refuse relations between shown values that do not add up, naming the total that is off.

    Raises:
        MalformedTable: the first such total, with the difference.
    """
    matrix = system.relations.matrix
    hidden = np.isnan(system.value)
    complete = (abs(matrix) @ hidden.astype(float)) == 0
    value = np.where(hidden, 0.0, system.value)
    off = matrix @ value
    size = np.abs(value[system.relations.total])
    wrong = np.flatnonzero(complete & (np.abs(off) > 2 * system.slack + 1e-9 * size))
    if len(wrong):
        r = int(wrong[0])
        raise MalformedTable(
            f"the parts of {system.name(int(system.relations.total[r]))} differ from it by {-off[r]:g}; margins "
            "must add up (use --add-margins to have them made)"
        )


def shared_cells(tables: Sequence[Table]) -> tuple[list[Ints], int]:
    """Number the distinct cells over all tables: those of one name, else of equal measure, version and codes."""
    if len(tables) == 1:
        return [np.arange(len(tables[0]))], len(tables[0])
    names = sorted({d.name for table in tables for d in table.dimensions})
    keys = []
    for name in names:
        numbers: dict[str, int] = {}
        for table in tables:
            for d in table.dimensions:
                if d.name == name:
                    for code in d.codes[1:]:
                        numbers.setdefault(code, len(numbers) + 1)
        column = []
        for table in tables:
            at = [i for i, d in enumerate(table.dimensions) if d.name == name]
            if not at:
                column.append(np.zeros(len(table), dtype=np.int64))
                continue
            d = table.dimensions[at[0]]
            column.append(np.array([0, *(numbers[c] for c in d.codes[1:])])[table.codes[:, at[0]]])
        keys.append(np.concatenate(column))
    kinds = {key: i for i, key in enumerate(dict.fromkeys((t.measure, t.version) for t in tables))}
    ids = np.repeat([kinds[t.measure, t.version] for t in tables], [len(t) for t in tables])
    for key in keys:
        _, ids = np.unique(ids * (int(key.max()) + 1) + key, return_inverse=True)
    if any(table.names is not None for table in tables):
        named: dict[str, int] = {}
        base = int(ids.max()) + 1
        start = 0
        for table in tables:
            if table.names is not None:
                ids[start : start + len(table)] = [base + named.setdefault(name, len(named)) for name in table.names]
            start += len(table)
        _, ids = np.unique(ids, return_inverse=True)
    cuts = np.cumsum([len(t) for t in tables])[:-1]
    return [np.asarray(part, dtype=np.int64) for part in np.split(ids, cuts)], int(ids.max()) + 1
