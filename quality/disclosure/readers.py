"""Read CELLS.csv with its SPEC.yaml, frames, and the files of τ-ARGUS; write nothing.

A hidden cell of a protected file is an empty value. Layouts of τ-ARGUS: de Wolf et al., τ-ARGUS User's Manual,
4.2 and 5.1 (`.rda` metadata, `.tab` cells, `.hrc` code lists, `.asc` fixed-width or separated microdata).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from quality.disclosure.errors import DisclosureError, MalformedTable
from quality.disclosure.spec import Spec, load_spec, parse_spec
from quality.disclosure.table import NUMERIC_COLUMNS, Bools, Floats, Ints, Table, dimension

if TYPE_CHECKING:
    import polars as pl

PUBLISHED = ("verstrekt", "afgerond", "geheim")
MARKS = ("", "S", "U", "Z", *PUBLISHED)
"""What a column `status` can say: of a cell to protect, or of one that was published."""


def read_hierarchy(path: Path) -> dict[str, str]:
    """Code → parent from a CSV with the header `code,parent` (comma or semicolon), or from a τ-ARGUS `.hrc`.

    Raises:
        DisclosureError: not there, or another header.
        MalformedTable: a code with two parents.
    """
    if not path.is_file():
        raise DisclosureError(f"the hierarchy {path} is not there")
    if path.suffix == ".hrc":
        return read_hrc(path)
    rows = list(csv.reader(_text(path).splitlines(keepends=True), delimiter=separator_of(path)))
    if not rows or [name.strip() for name in rows[0]] != ["code", "parent"]:
        raise DisclosureError(f"{path} should begin with the header code,parent")
    out: dict[str, str] = {}
    for row in rows[1:]:
        code, parent = (row[0].strip(), row[1].strip()) if len(row) == 2 else (row[0].strip() if row else "", "")
        if not code:
            continue
        if out.get(code, parent) != parent:
            raise MalformedTable(f"{path}: code {code!r} has two parents, {out[code]!r} and {parent!r}")
        out[code] = parent
    return out


def read_table(path: Path, spec: Spec, *, add_margins: bool = False, version: str | None = None) -> Table:
    """Read a table of cells with the shape that `spec` declares.

    Args:
        path: CSV (comma or semicolon, UTF-8) or a τ-ARGUS `.tab` whose `.rda` lies beside it.
        spec: dimensions, measure and kind.
        add_margins: make the margins from the finest cells; margins that are there already are refused.
        version: which data the table holds; another version than the default never shares cells.

    Raises:
        DisclosureError: unreadable, or a column that the spec names is not there.
        MalformedTable: a cell that cannot be; it is named.
    """
    import polars as pl

    frame = _frame(path)
    if separator_of(path) == ";":
        numbers = [c for c in (spec.measure, *NUMERIC_COLUMNS) if c in frame.columns]
        frame = frame.with_columns(pl.col(c).str.replace(",", ".", literal=True) for c in numbers)
    return table_from_frame(frame, spec, name=path.stem, add_margins=add_margins, version=version)


def read_columns(path: Path) -> dict[str, list[str]]:
    """A CSV (comma or semicolon) as columns of text; empty where there is none.

    Raises:
        DisclosureError: not there, or no CSV.
    """
    return {name: column.fill_null("").to_list() for name, column in _series(_frame(path)).items()}


def _frame(path: Path) -> pl.DataFrame:
    import polars as pl

    if not path.is_file():
        raise DisclosureError(f"the table {path} is not there")
    separator = separator_of(path)
    with path.open(encoding="utf-8-sig", newline="") as lines:
        try:
            names = next(csv.reader(lines, delimiter=separator), [])
        except (csv.Error, UnicodeDecodeError) as error:
            raise DisclosureError(f"{path} cannot be read as CSV: {error}") from None
    twice = [name for k, name in enumerate(names) if name in names[:k]]
    if twice:
        raise DisclosureError(f"{path} has two columns {twice[0]!r}; leave one")
    try:
        return pl.read_csv(path, separator=separator, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        cause = str(error).splitlines()[0]
        if "could not parse" in cause:  # then it goes on with the figures themselves
            cause = "a quote is not closed"
        raise DisclosureError(f"{path} cannot be read as CSV: {cause}") from None


def table_from_frame(
    frame: Any,
    spec: Spec,
    *,
    name: str = "",
    hierarchies: Mapping[str, Mapping[str, str]] | None = None,
    add_margins: bool = False,
    version: str | None = None,
) -> Table:
    """A table from a polars or Arrow frame; empty or null values are hidden cells.

    Args:
        frame: one row a cell, the columns that `spec` names; also a mapping of names to lists of text.
        spec: dimensions, measure and kind.
        name: how messages call the table.
        hierarchies: per dimension code → parent, instead of the CSV that the spec names.
        add_margins: see `read_table`.
        version: see `read_table`.

    Raises:
        DisclosureError: a column is missing.
        MalformedTable: a value that is no number, or a malformed cell.
    """
    data: Mapping[str, Any] = frame if isinstance(frame, Mapping) else _series(frame)
    for column in (*spec.dimensions, spec.measure):
        if column not in data:
            raise DisclosureError(f"{name or 'the table'} has no column {column!r}; it has {', '.join(data)}")
    dimensions, codes = [], []
    for column, shape in spec.dimensions.items():
        present, at = _coded(data[column])
        if "" in present:
            row = int(np.flatnonzero(at == present.index(""))[0])
            raise MalformedTable(f"{name or 'the table'}, row {row + 1}: no code for {column}")
        hierarchy: Mapping[str, str] | None = (hierarchies or {}).get(column)
        if hierarchy is None and shape.hierarchy is not None:
            hierarchy = read_hierarchy(spec.folder / shape.hierarchy)
        d = dimension(column, shape.total, present, hierarchy, shape.open)
        place = {code: k for k, code in enumerate(d.codes)}
        dimensions.append(d)
        codes.append(np.array([place[code] for code in present], dtype=np.int64)[at])
    value, decimals = _number(data[spec.measure], spec.measure, name)
    columns = {c: _number(data[c], c, name)[0] for c in NUMERIC_COLUMNS if c in data and c != spec.measure}
    if "holding" in data:
        holdings, at = _coded(data["holding"])
        known = np.array([float(k) if code else np.nan for k, code in enumerate(holdings)])
        columns["holding"] = known[at]
    status = None
    if "status" in data:
        marks, at = _coded(data["status"])
        odd = [k for k, mark in enumerate(marks) if mark not in MARKS]
        if odd:
            row = int(np.flatnonzero(np.isin(at, odd))[0])
            raise MalformedTable(
                f"{name or 'the table'}, row {row + 1}: status {marks[at[row]]!r} is none of "
                f"{', '.join(mark for mark in MARKS if mark)}"
            )
        status = np.array(marks, dtype=np.str_)[at]
    is_count = spec.kind == "count" or (
        spec.kind is None
        and decimals == 0
        and ("frequency" not in columns or _equal(columns["frequency"], value))
        and "top1" not in columns
    )
    if is_count and decimals:
        row = int(np.flatnonzero(value != np.round(value))[0])
        raise MalformedTable(f"{name or 'the table'}, row {row + 1}: a count should be a whole number")
    table = Table(
        name,
        spec.measure,
        tuple(dimensions),
        np.column_stack(codes).astype(np.int64) if codes else np.zeros((len(value), 0), dtype=np.int64),
        value,
        columns,
        status,
        is_count,
        version or "now",
        decimals,
    )
    return with_margins(table) if add_margins else table


def with_margins(table: Table) -> Table:
    """Add every margin over the finest cells: sums of value and frequency, the two largest of top1 and top2.

    Raises:
        MalformedTable: a margin is in the table already, or a finest value is empty.
    """
    table.check_cells()
    if np.isnan(table.value).any():
        row = int(np.flatnonzero(np.isnan(table.value))[0])
        raise MalformedTable(f"cell {table.cell(row)} is empty; margins are made from full tables only")
    for i, d in enumerate(table.dimensions):
        if d.open:
            raise MalformedTable(
                f"dimension {d.name}: not all parts of {d.open[0]!r} are known, so that no margins can be made; "
                "give the margins, and leave out --add-margins"
            )
        there = np.flatnonzero(d.inner[table.codes[:, i]])
        if len(there):
            raise MalformedTable(f"cell {table.cell(int(there[0]))} is a margin already; leave out --add-margins")
    codes, value = table.codes, table.value
    sums = {c: table.columns[c] for c in ("frequency", "population") if c in table.columns}
    tops = [table.columns[c] for c in ("top1", "top2") if c in table.columns]
    for i, d in enumerate(table.dimensions):
        up_codes, up_value, up_sums, up_tops = [codes], [value], {c: [v] for c, v in sums.items()}, [[t] for t in tops]
        above, here = d.parent[codes[:, i]], np.arange(len(codes))
        while (above >= 0).any():
            here, above = here[above >= 0], above[above >= 0]
            moved = codes[here].copy()
            moved[:, i] = above
            up_codes.append(moved)
            up_value.append(value[here])
            for c, v in sums.items():
                up_sums[c].append(v[here])
            for k, t in enumerate(tops):
                up_tops[k].append(t[here])
            above = d.parent[above]
        everything = np.concatenate(up_codes)
        key = table._key(everything)
        _, first, number = np.unique(key, return_index=True, return_inverse=True)
        order = np.argsort(first, kind="stable")
        rank = np.empty(len(first), dtype=np.int64)
        rank[order] = np.arange(len(first))
        number = rank[number]
        codes = everything[first[order]]
        value = np.bincount(number, weights=np.concatenate(up_value)).astype(np.float64)
        sums = {c: np.bincount(number, weights=np.concatenate(v)).astype(np.float64) for c, v in up_sums.items()}
        tops = _largest(number, [np.concatenate(t) for t in up_tops], len(first))
    columns = {**sums, **dict(zip([c for c in ("top1", "top2") if c in table.columns], tops, strict=True))}
    value = np.round(value, table.decimals)
    status = None
    if table.status is not None:
        status = np.concatenate([table.status, np.full(len(value) - len(table), "")])
    for c in ("cost", "lpl", "upl"):
        if c in table.columns:
            columns[c] = np.concatenate([table.columns[c], np.full(len(value) - len(table), np.nan)])
    return Table(
        table.name, table.measure, table.dimensions, codes, value, columns, status,
        table.is_count, table.version, table.decimals,
    )  # fmt: skip


def _largest(group: Ints, tops: list[Floats], groups: int) -> list[Floats]:
    """The largest and second largest contributor of each group from those of its parts."""
    if not tops:
        return []
    everyone, where = np.concatenate(tops), np.tile(group, len(tops))
    order = np.lexsort((-everyone, where))
    where, everyone = where[order], everyone[order]
    start = np.searchsorted(where, np.arange(groups))
    out = [everyone[start]]
    if len(tops) > 1:
        second = np.minimum(start + 1, len(everyone) - 1)
        out.append(np.where(where[second] == np.arange(groups), everyone[second], 0.0))
    return out


def read_tauargus(tab: Path, rda: Path | None = None) -> tuple[Table, Spec]:
    """A `.tab` of τ-ARGUS with its `.rda` and `.hrc` files: the table, and a spec with the given statuses.

    Raises:
        DisclosureError: a file that is missing or that names no response variable.
    """
    rda = rda or tab.with_suffix(".rda")
    variables, separator = read_rda(rda)
    columns = [v["name"] for v in variables]
    if not tab.is_file():
        raise DisclosureError(f"the table {tab} is not there")
    lines = csv.reader(_text(tab).splitlines(keepends=True), delimiter=separator or ",")
    rows = [[part.strip() for part in row] for row in lines if row]
    if not rows:
        raise MalformedTable(f"{tab} has no rows; give at least the total")
    short = [k for k, row in enumerate(rows) if len(row) != len(columns)]
    if short:
        raise MalformedTable(f"{tab}, row {short[0] + 1}: {len(columns)} values expected by {rda.name}")
    frame = dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True))
    named = {v.get("role", ""): v["name"] for v in variables}
    explanatory = [v for v in variables if v.get("recodeable")]
    responses = [v["name"] for v in variables if v.get("numeric") and v.get("role", "") == ""]
    if not explanatory or not responses:
        raise DisclosureError(f"{rda} names no explanatory (RECODEABLE) or no response (NUMERIC) variable")
    rename = {
        named[role]: ours
        for role, ours in (
            ("frequency", "frequency"), ("status", "status"), ("lowerpl", "lpl"), ("upperpl", "upl"), ("cost", "cost"),
        )
        if role in named
    }  # fmt: skip
    tops = [v["name"] for v in variables if v.get("role") == "maxscore"]
    rename |= dict(zip(tops, ("top1", "top2"), strict=False))
    frame = {rename.get(name, name): column for name, column in frame.items()}
    if "status" in frame:
        marks = {v: k for k, v in next(v for v in variables if v.get("role") == "status")["marks"].items()}
        frame["status"] = [marks.get(mark, mark) for mark in frame["status"]]
    spec = parse_spec(
        {
            "dimensions": {v["name"]: {"total": v.get("total", "Total")} for v in explanatory},
            "measure": responses[0],
            "primary": [{"rule": "given"}],
            "protection": {"columns": True} if {"lpl", "upl"} <= set(frame) else {"absolute": 1},
            "attacker": {"lower": 0},
            "folder": rda.parent,
        },
        str(rda),
    )
    hierarchies = {v["name"]: read_hrc(rda.parent / v["hrc"], v["lead"]) for v in explanatory if "hrc" in v}
    return table_from_frame(frame, spec, name=tab.stem, hierarchies=hierarchies), spec


def read_rda(path: Path) -> tuple[list[dict[str, Any]], str]:
    """The variables of a τ-ARGUS `.rda` in order, and the separator (empty for fixed width)."""
    if not path.is_file():
        raise DisclosureError(f"the metadata file {path} is not there")
    variables: list[dict[str, Any]] = []
    separator = ""
    roles = {
        "FREQUENCY": "frequency", "STATUS": "status", "LOWERPL": "lowerpl", "UPPERPL": "upperpl", "COST": "cost",
        "MAXSCORE": "maxscore", "HOLDING": "holding", "WEIGHT": "weight", "REQUEST": "request", "SHADOW": "shadow",
    }  # fmt: skip
    for line in _text(path).splitlines():
        text = line.strip()
        if not text:
            continue
        if text.upper().startswith("<SEPARATOR>"):
            separator = text[len("<SEPARATOR>") :].strip().strip('"')
            if len(separator) != 1:
                raise DisclosureError(f"{path} should name one character as <SEPARATOR>")
        elif not text.startswith("<"):
            name, *layout = text.split()
            variables.append({"name": name, "layout": [part.strip('"') for part in layout]})
        elif variables:
            current = variables[-1]
            for tag, rest in _tags(text):
                if tag in roles:
                    current["role"] = roles[tag]
                elif tag == "RECODEABLE":
                    current["recodeable"] = True
                elif tag == "NUMERIC":
                    current["numeric"] = True
                elif tag == "TOTCODE":
                    current["total"] = rest
                elif tag == "HIERCODELIST":
                    current["hrc"] = rest
                elif tag == "HIERLEADSTRING":
                    current["lead"] = rest
                elif tag in ("SAFE", "UNSAFE", "PROTECT"):
                    mark = {"SAFE": "S", "UNSAFE": "U", "PROTECT": "Z"}[tag]
                    current.setdefault("marks", {})[mark] = rest
    return variables, separator


def _tags(text: str) -> list[tuple[str, str]]:
    out = []
    for piece in text.split("<")[1:]:
        tag, _, rest = piece.partition(">")
        out.append((tag.strip().upper(), rest.strip().strip('"')))
    return out


def read_hrc(path: Path, lead: str = "@") -> dict[str, str]:
    """Code → parent from a τ-ARGUS `.hrc`: the number of lead strings before a code is its depth."""
    if not path.is_file():
        raise DisclosureError(f"the hierarchy {path} is not there")
    above: list[str] = []
    out: dict[str, str] = {}
    for line in _text(path).splitlines():
        code, depth = line.strip(), 0
        while lead and code.startswith(lead):
            code, depth = code[len(lead) :].strip(), depth + 1
        if code:
            if depth > len(above):
                raise MalformedTable(f"{path}: code {code!r} stands {depth} deep, with nothing right above it")
            parent = above[depth - 1] if depth else ""
            if out.get(code, parent) != parent:
                raise MalformedTable(f"{path}: code {code!r} has two parents, {out[code]!r} and {parent!r}")
            out[code] = parent
            above = [*above[:depth], code]
    return out


def read_asc(asc: Path, rda: Path) -> pl.DataFrame:
    """Microdata of τ-ARGUS as a frame of text columns, by the separator or the fixed positions of the `.rda`."""
    import polars as pl

    variables, separator = read_rda(rda)
    if separator:
        names = [v["name"] for v in variables]
        try:
            return pl.read_csv(asc, separator=separator, has_header=False, new_columns=names, infer_schema=False)
        except pl.exceptions.PolarsError as error:
            cause = str(error).splitlines()[0]
            raise DisclosureError(f"{asc} cannot be read by the columns of {rda.name}: {cause}") from None
    lines, columns = pl.Series(_text(asc).splitlines(), dtype=pl.String), {}
    for v in variables:
        if len(v["layout"]) < 2 or not all(part.isdigit() for part in v["layout"][:2]):
            raise DisclosureError(f"{rda} should give the place and the width of {v['name']}, or a <SEPARATOR>")
        columns[v["name"]] = lines.str.slice(int(v["layout"][0]) - 1, int(v["layout"][1])).str.strip_chars()
    return pl.DataFrame(columns)


def table_from_asc(asc: Path, spec: Spec) -> Table:
    """Cells with all margins from microdata of τ-ARGUS: the measure summed, or records counted where it is no column.

    Contributors of one holding, where the `.rda` names that, are joined first; a sum has `frequency`, `top1`, `top2`.

    Raises:
        DisclosureError: a column that is missing, weights (the norms are about contributors), or no number.
    """
    import polars as pl

    rda = asc.with_suffix(".rda")
    roles = {v.get("role"): v["name"] for v in read_rda(rda)[0]}
    if not asc.is_file():
        raise DisclosureError(f"the microdata {asc} are not there")
    frame, names = read_asc(asc, rda), list(spec.dimensions)
    lacking = [name for name in names if name not in frame.columns]
    if lacking:
        raise DisclosureError(f"{rda} names no variable {lacking[0]!r}; it names {', '.join(frame.columns)}")
    if "weight" in roles:
        raise DisclosureError(f"{asc} holds weighted records; make a table of them with unweighted frequencies")
    frame = frame.with_columns(pl.col(names).str.strip_chars())
    if spec.measure not in frame.columns:
        return table_from_frame(
            frame.group_by(names, maintain_order=True).agg(pl.len().alias(spec.measure)), spec, name=asc.stem,
            add_margins=True,
        )  # fmt: skip
    number = pl.col(spec.measure).str.strip_chars().cast(pl.Float64, strict=False)
    if frame.select(number.is_null().any()).item():
        raise MalformedTable(f"{asc}: {spec.measure} is not a number in every record")
    who = [roles["holding"]] if "holding" in roles else []
    parts = frame.group_by([*names, *who], maintain_order=True) if who else None
    each = frame.with_columns(number) if parts is None else parts.agg(number.sum())
    x = pl.col(spec.measure)
    cells = each.group_by(names, maintain_order=True).agg(
        x.sum().alias(spec.measure),
        pl.len().alias("frequency"),
        x.max().alias("top1"),
        x.top_k(2).get(1, null_on_oob=True).fill_null(0.0).alias("top2"),
    )
    return table_from_frame(cells, spec, name=asc.stem, add_margins=True)


def read_specs(path: Path, table: Path | None) -> list[tuple[Spec, Path]]:
    """The spec and those linked to it, each with the file of its table.

    Raises:
        DisclosureError: a linked spec that names no table.
    """
    first = load_spec(path)
    own = table or (first.folder / first.table if first.table else None)
    if own is None:
        raise DisclosureError(f"{path} names no table; give --table or the key `table`")
    out = [(first, own)]
    for other in first.linked:
        spec = load_spec(first.folder / other)
        if spec.table is None:
            raise DisclosureError(f"{first.folder / other} is linked and should name its `table`")
        out.append((spec, spec.folder / spec.table))
    named = {path.resolve(), *((first.folder / other).resolve() for other in first.linked)}
    for spec, _ in out[1:]:
        beyond = [other for other in spec.linked if (spec.folder / other).resolve() not in named]
        if beyond:
            raise DisclosureError(f"{beyond[0]} is linked to a linked spec; name it under `linked` in {path} too")
    return out


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DisclosureError(f"{path} is not UTF-8 text: {error.reason}; save it as UTF-8") from None


def separator_of(path: Path) -> str:
    """Comma or semicolon, whichever the first line holds more of."""
    with path.open(encoding="utf-8-sig") as lines:
        try:
            head = lines.readline()
        except UnicodeDecodeError as error:
            raise DisclosureError(f"{path} is not UTF-8 text: {error.reason}; save it as UTF-8") from None
    return ";" if head.count(";") > head.count(",") else ","


def _series(frame: Any) -> dict[str, Any]:
    """The columns of a polars or Arrow frame."""
    import polars as pl

    data: pl.DataFrame = frame if isinstance(frame, pl.DataFrame) else pl.DataFrame(pl.from_arrow(frame))
    return dict(zip(data.columns, data.get_columns(), strict=True))


def _coded(column: pl.Series | list[str]) -> tuple[list[str], Ints]:
    """The distinct texts of a column (null is empty), and which one stands in each row."""
    if isinstance(column, list):
        texts, at = np.unique(np.array(column, dtype=np.str_), return_inverse=True)
        return [str(text) for text in texts], np.asarray(at, dtype=np.int64)
    import polars as pl

    text = column.cast(pl.String).fill_null("")
    number = text.cast(pl.Categorical).to_physical().to_numpy()
    _, first, at = np.unique(number, return_index=True, return_inverse=True)
    return text.gather(first).to_list(), np.asarray(at, dtype=np.int64)


def _floats(column: pl.Series | list[str]) -> tuple[Floats, Bools]:
    """A column as floats (empty is NaN), and which rows hold no number."""
    if isinstance(column, list):
        bad = np.zeros(len(column), dtype=bool)
        try:
            out = np.array([text or "nan" for text in column], dtype=np.float64)
            return out, np.isnan(out) & np.array([bool(text) for text in column], dtype=bool)
        except ValueError:
            bad[[k for k, text in enumerate(column) if not text.replace(".", "", 1).lstrip("+-").isdigit()]] = True
            return np.zeros(len(column)), bad
    import polars as pl

    if column.dtype != pl.String:
        return column.cast(pl.Float64).to_numpy().astype(np.float64), np.zeros(len(column), dtype=bool)
    blank = column.is_null() | (column.str.strip_chars() == "")
    numbers = column.str.strip_chars().cast(pl.Float64, strict=False)
    wrong = (numbers.is_null() & ~blank) | numbers.is_nan().fill_null(False)  # "NaN" is a word, not an empty cell
    return numbers.to_numpy().astype(np.float64), wrong.to_numpy()


def _number(column: pl.Series | list[str], name: str, table: str) -> tuple[Floats, int]:
    """The column as floats (empty is NaN) and how many decimals its values need (at most 6)."""
    out, bad = _floats(column)
    bad = bad | np.isinf(out)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise MalformedTable(f"{table or 'the table'}, row {row + 1}: {name} is not a number")
    shown = out[~np.isnan(out)]
    for decimals in range(7):
        if np.all(np.abs(shown - np.round(shown, decimals)) <= 1e-12 * np.maximum(1, np.abs(shown))):
            return out, decimals
    return out, 6


def _equal(left: Floats, right: Floats) -> bool:
    known: Bools = ~np.isnan(right)
    return bool(np.array_equal(left[known], right[known]))
