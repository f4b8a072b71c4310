"""`protect` hides what a table may not show and proves it; `audit` judges a published table.

Belongs here: files in and out, and exit codes. The judgement itself stands in `quality.disclosure`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from quality.disclosure.auditor import Audit
    from quality.disclosure.spec import Policy, Spec
    from quality.disclosure.table import System, Table

told = Console(stderr=True)
LISTED = 20


def protect(
    spec: Annotated[Path, typer.Option("--spec", help="SPEC.yaml: dimensions, measure, norms, attacker, protection.")],
    out: Annotated[Path, typer.Option("--out", help="The protected table; a folder when the spec links other tables.")],
    certificate: Annotated[Path, typer.Option("--certificate", help="The public certificate (JSON).")],
    table: Annotated[
        Path | None, typer.Option("--table", help="CELLS.csv, or a τ-ARGUS .tab or .asc with its .rda.")
    ] = None,
    add_margins: Annotated[bool, typer.Option("--add-margins", help="Make the margins from the finest cells.")] = False,
    policies: Annotated[
        Path | None, typer.Option("--policies", help="Folder of policies (default: policy/ by the spec).")
    ] = None,
    kinds: Annotated[
        Path | None, typer.Option("--kinds", help="Working file that tells which cells are unsafe.")
    ] = None,
    sealed: Annotated[
        Path | None, typer.Option("--sealed", help="Evidence that is not for publication (JSON).")
    ] = None,
    exact: Annotated[
        bool | None, typer.Option("--exact/--fast", help="Seek a least-cost pattern; default where small.")
    ] = None,
    time_limit: Annotated[float, typer.Option("--time-limit", help="Seconds for everything together.")] = 600.0,
) -> None:
    """Hide the unsafe cells of a table and what would give them away; exit 1 when no proof was found."""
    from quality.disclosure import protect as protect_tables
    from quality.disclosure.certificate import dumps
    from quality.disclosure.errors import DisclosureError
    from quality.disclosure.knowledge import knowledge
    from quality.disclosure.readers import read_specs

    parts = read_specs(spec, table)
    tables = [_read(one, path, add_margins) for one, path in parts]
    norms = _norms([one for one, _ in parts], policies)
    besides = knowledge([(one, read) for (one, _), read in zip(parts, tables, strict=True)], norms)
    if len(tables) > 1 and out.suffix:
        raise DisclosureError(f"the spec links {len(tables)} tables, so --out should be a folder, not {out}")
    targets = [out / path.with_suffix(".csv").name if len(parts) > 1 else out for _, path in parts]
    _check_targets([*targets, certificate, *(p for p in (sealed, kinds) if p)], [spec, *(path for _, path in parts)])
    done = protect_tables(
        tables,
        norms,
        earlier=besides.earlier,
        facts=besides.facts,
        known_cells=besides.known_cells,
        exact=exact,
        time_limit=time_limit,
    )
    files: list[tuple[Path, Callable[[Path], object]]] = [
        (target, partial(_write, done.frame(number), source=path))
        for number, (target, (_, path)) in enumerate(zip(targets, parts, strict=True))
    ]
    files.append((certificate, lambda path: path.write_text(dumps(done.certificate), encoding="utf-8")))
    if sealed is not None:
        files.append((sealed, lambda path: path.write_text(dumps(done.sealed), encoding="utf-8")))
    if kinds is not None:
        files.append((kinds, partial(_write_kinds, done)))
    _write_all(files, private=[path for path in (sealed, kinds) if path is not None])
    counts = done.summary
    told.print(
        f"{counts['cells']:.0f} cells, {counts['hidden']:.0f} hidden ({counts['unsafe']:.0f} unsafe and "
        f"{counts['secondary']:.0f} to protect them), narrowest interval {counts['narrowest']:g}, "
        f"{counts['seconds']:.1f} s"
    )
    if "gap_pct" in counts:
        gap = counts["gap_pct"]
        told.print("no pattern costs less" if not gap else f"no pattern can cost more than {gap:g}% less")
    if counts.get("at_least"):
        told.print(f"any pattern hides at least {counts['at_least']:g} cells to protect the unsafe ones")


def audit(
    table: Annotated[list[Path], typer.Option("--table", help="The protected table (once more per linked table).")],
    spec: Annotated[Path, typer.Option("--spec", help="SPEC.yaml that it was protected with.")],
    certificate: Annotated[
        Path | None, typer.Option("--certificate", help="Check this public certificate as well.")
    ] = None,
    truth: Annotated[
        list[Path] | None, typer.Option("--truth", help=r"CELLS.csv: check \[x − lpl, x + upl] of unsafe cells.")
    ] = None,
    policies: Annotated[
        Path | None, typer.Option("--policies", help="Folder of policies (default: policy/ by the spec).")
    ] = None,
    add_margins: Annotated[bool, typer.Option("--add-margins", help="Make the margins of --truth.")] = False,
    time_limit: Annotated[float, typer.Option("--time-limit", help="Seconds.")] = 600.0,
) -> None:
    """Compute what an attacker learns: exit 0 all protected, 1 under-protected (listed), 2 bad input."""
    import json

    from quality.disclosure.errors import DisclosureError
    from quality.disclosure.knowledge import knowledge
    from quality.disclosure.published import judge
    from quality.disclosure.readers import read_specs

    specs = [one for one, _ in read_specs(spec, table[0])]
    files = _one_each(table, specs)
    tables = [_read(one, path) for one, path in zip(specs, files, strict=True)]
    norms = _norms(specs, policies)
    besides = knowledge(list(zip(specs, tables, strict=True)), norms)
    proof = None
    if certificate is not None:
        try:
            proof = json.loads(certificate.read_text(encoding="utf-8"))
        except OSError:
            raise DisclosureError(f"the certificate {certificate} cannot be read") from None
        except ValueError:
            raise DisclosureError(f"{certificate} is not JSON") from None
    true = [_read(one, p, add_margins) for one, p in zip(specs, _one_each(truth, specs), strict=True)] if truth else []
    system, result, wrong = judge(tables, norms, besides, truth=true, certificate=proof, time_limit=time_limit)
    if not true and (norms.attacker.contributors or besides.known_cells):
        told.print("those who know their own cells are judged only with --truth")
    _tell(system, result, wrong)
    if wrong or not result.passed:
        raise typer.Exit(1)


def _norms(specs: list[Spec], policies: Path | None) -> Policy:
    """The norms of the first spec, which hold for all tables; those that a linked one sets must be the same."""
    from quality.disclosure.errors import DisclosureError

    norms = specs[0].norms(policies)
    for one in specs[1:]:
        if (one.policy or one.primary) and one.norms(policies) != norms:
            raise DisclosureError(
                f"the spec of {one.table}, which is linked, has other norms than the first spec; linked tables are "
                "protected under one norm: make them equal, or leave them out of the linked one"
            )
    return norms


def _check_targets(targets: list[Path], sources: list[Path]) -> None:
    """Refuse to write over what is read, or one file over another, before anything is worked out."""
    from quality.disclosure.errors import DisclosureError

    taken = {path.resolve(): "is read" for path in sources}
    for target in targets:
        if target.resolve() in taken:
            raise DisclosureError(f"{target} {taken[target.resolve()]} as well; name another file to write")
        if target.exists() and not target.is_file():
            raise DisclosureError(f"{target} is no file; name one to write")
        taken[target.resolve()] = "is written"


def _write_all(files: Iterable[tuple[Path, Callable[[Path], object]]], private: list[Path]) -> None:
    """All files or none: each is written beside its place, and moved there when all are complete."""
    parts: list[tuple[Path, Path]] = []
    try:
        for target, write in files:
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f".{target.name}.part")
            part.unlink(missing_ok=True)
            parts.append((part, target))
            part.touch(mode=0o600 if target in private else 0o666)
            write(part)
        for part, target in parts:
            part.replace(target)
    finally:
        for part, _ in parts:
            part.unlink(missing_ok=True)


def _read(spec: Spec, path: Path, add_margins: bool = False) -> Table:
    from quality.disclosure.readers import read_table, read_tauargus, table_from_asc

    if path.suffix == ".asc":
        return table_from_asc(path, spec)
    if path.suffix == ".tab":
        return _of_spec(spec, read_tauargus(path)[0], path)
    return read_table(path, spec, add_margins=add_margins)


def _of_spec(spec: Spec, table: Table, path: Path) -> Table:
    """A table whose shape stands in a file of its own, if the spec says nothing else."""
    from quality.disclosure.errors import DisclosureError

    own = {d.name: d.codes[0] for d in table.dimensions}
    named = {name: shape.total for name, shape in spec.dimensions.items()}
    if (spec.measure, named) != (table.measure, own) or any(shape.open for shape in spec.dimensions.values()):
        shape = ", ".join(f"{name}: {{total: {total}}}" for name, total in own.items())
        raise DisclosureError(
            f"the spec tells of another table than {path}: that has the measure {table.measure} and the dimensions "
            f"{{{shape}}}, and no `open` codes"
        )
    return table


def _one_each(paths: list[Path], specs: list[Spec]) -> list[Path]:
    """One file per spec: as given, or by the names that the specs give, in the folder that was given."""
    from quality.disclosure.errors import DisclosureError

    if len(paths) == 1 and paths[0].is_dir():
        return [paths[0] / (s.table.name if s.table else "") for s in specs]
    if len(paths) != len(specs):
        raise DisclosureError(f"the spec holds {len(specs)} tables; give as many files, or the folder they are in")
    return list(paths)


def _tell(system: System, result: Audit, wrong: list[str]) -> None:
    from rich.markup import escape

    for line in wrong[:LISTED]:
        told.print(escape(line), soft_wrap=True)
    for cell in result.failing[:LISTED]:
        told.print(
            f"under-protected by {result.short[cell]:g}: {escape(system.name(int(cell)))}, "
            f"the attacker finds {result.lower[cell]:g} to {result.upper[cell]:g}",
            soft_wrap=True,
        )
    left = len(result.failing) - LISTED
    if left > 0:
        told.print(f"and {left} more")
    told.print(
        f"{int(result.hidden.sum())} hidden cells, {len(result.failing)} under-protected, narrowest interval "
        f"{result.narrowest:g}, {result.programs} programs, {result.seconds:.2f} s"
    )


def _write(frame: object, target: Path, source: Path) -> None:
    """In the separator of the source; whole numbers without a point."""
    import polars as pl

    from quality.disclosure.readers import separator_of

    assert isinstance(frame, pl.DataFrame)
    plain = [
        pl.col(name).cast(pl.Int64)
        for name, kind in frame.schema.items()
        if kind == pl.Float64 and (frame[name].drop_nulls() == frame[name].drop_nulls().round(0)).all()
    ]
    frame.with_columns(plain).write_csv(target, separator=separator_of(source))


def _write_kinds(done: object, target: Path) -> None:
    import numpy as np
    import polars as pl

    from quality.disclosure import Protected

    assert isinstance(done, Protected)
    parts = []
    for number, unsafe in enumerate(done.unsafe):
        kind = np.where(unsafe, "unsafe", np.where(done.hidden[number], "secondary", "shown"))
        parts.append(done.frame(number).drop("status").with_columns(pl.Series("kind", kind.tolist())))
    pl.concat(parts, how="diagonal").write_csv(target)


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    app.command()(protect)
    app.command()(audit)
