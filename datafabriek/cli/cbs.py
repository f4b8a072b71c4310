"""`datafabriek cbs`: find a StatLine table, look into it, fetch it into a DuckDB file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datafabriek.errors import FactoryError, is_disk_full

if TYPE_CHECKING:
    import duckdb
    from rich.progress import Progress

    from assets.cbs.client import CbsClient, Landed
    from datafabriek.config import Settings

HUGE = 5_000_000
"""Observations from which a filter is suggested."""

cbs = typer.Typer(no_args_is_help=True, help="CBS open data: find, look into and fetch any StatLine table.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]
Sample = Annotated[bool, typer.Option("--sample", help="Ask the sample factory's stand-in instead of CBS.")]
TableArgument = Annotated[str, typer.Argument(metavar="TABLE", help="Table id, as in 03759ned (mind the case).")]


class TargetError(FactoryError):
    """The file to fetch into cannot be used; the message says why."""

    exit_code = 2


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    app.add_typer(cbs, name="cbs")


@cbs.command()
def search(
    words: Annotated[list[str], typer.Argument(metavar="WORD...", help="Words in the title or the summary.")],
    region: Annotated[
        str | None, typer.Option(help="Only tables with figures on this region, as in GM1916 (first 50 matches).")
    ] = None,
    as_json: AsJson = False,
    sample: Sample = False,
) -> None:
    """Find tables by words, newest first; with --region only those that cover it."""
    from rich.console import Console
    from rich.table import Table

    from assets.cbs.search import LOOKED_UP, covering, matching

    if region and not re.fullmatch(r"[A-Z]{2}[0-9A-Z]{2,8}", region := region.upper()):
        raise typer.BadParameter(f"{region} is no region code; expected one as GM1916", param_hint="--region")
    with _client(sample) as (client, settings, _):
        found = matching(client.catalogue(), " ".join(words))
        left_out = 0
        if region:
            looked_up = found[:LOOKED_UP]
            with _bar(hidden=as_json) as bar:
                task = bar.add_task(f"regions of {len(looked_up)} tables", total=len(looked_up))
                cache = settings.paths.root / "landing" / f"regions{'-sample' if sample else ''}.json"
                covers = covering(client, looked_up, region, cache, lambda: bar.advance(task))
            left_out = len(found) - len(looked_up)
            found = [entry for entry in looked_up if covers[entry.id] is not False]
    if as_json:
        _print([_row(entry) | ({"covers": covers[entry.id]} if region else {}) for entry in found])
        return
    console = Console()
    covering_it = f" with figures on {region}" if region else ""
    more = f"; {left_out} more matches were not looked up: add a word" if left_out else ""
    if not found:
        told = f"no table{covering_it} has {' '.join(words)!r} in its title or summary"
        console.print(f"{told}{more or ': try fewer or other words'}", soft_wrap=True, highlight=False, markup=False)
        return
    table = Table("table", "title", "modified", "status", "catalogue", "over")
    for entry in found:
        unsure = " (region not known)" if region and covers[entry.id] is None else ""
        cells = (entry.id, entry.title + unsure, entry.modified[:10], entry.status, entry.catalog, entry.protocol)
        table.add_row(*cells)
    console.print(table)
    console.print(f"{len(found)} table{'' if len(found) == 1 else 's'}{covering_it}{more}")


@cbs.command()
def show(table_id: TableArgument, as_json: AsJson = False, sample: Sample = False) -> None:
    """Look into a table: what it is, its dimensions, its measures."""
    from rich.console import Console
    from rich.table import Table

    with _client(sample) as (client, _, _):
        meta = client.table(table_id)
    if as_json:
        _print(
            {
                "id": meta.id,
                "title": meta.title,
                "protocol": meta.location.protocol,
                "note": meta.location.note,
                "properties": dict(meta.properties),
                "dimensions": [
                    {"identifier": d.identifier, "title": d.title, "kind": d.kind, "codes": len(d.codes)}
                    for d in meta.dimensions
                ],
                "measures": [
                    {"identifier": m.identifier, "title": m.title, "path": list(m.path), "unit": m.unit}
                    for m in meta.measures
                ],
            }
        )
        return
    console = Console()
    console.print(f"[bold]{meta.id}[/] {meta.title}", highlight=False)
    count = f"{meta.observation_count:,} observations, " if meta.observation_count is not None else ""
    console.print(f"{count}changed {meta.observations_modified[:10]}, read over OData {meta.location.protocol}")
    console.print(f"source: {meta.source.strip()}", highlight=False)
    dimensions = Table("dimension", "title", "kind", "codes", "from", "to")
    for d in meta.dimensions:
        ends = (d.codes[0].identifier, d.codes[-1].identifier) if d.codes else ("", "")
        dimensions.add_row(d.identifier, d.title, d.kind, f"{len(d.codes):,}", *ends)
    console.print(dimensions)
    measures = Table("measure", "title", "unit")
    for m in meta.measures:
        measures.add_row(m.identifier, m.title_path, m.unit)
    console.print(measures)


@cbs.command()
def fetch(
    table_id: TableArgument,
    into: Annotated[
        Path | None, typer.Option(metavar="FILE.duckdb", help="Where to put it; by default TABLE.duckdb here.")
    ] = None,
    filter_text: Annotated[
        str | None,
        typer.Option("--filter", metavar="ODATA", help="OData filter, as in \"RegioS eq 'GM0518'\"."),
    ] = None,
    as_json: AsJson = False,
    sample: Sample = False,
) -> None:
    """Fetch a table into a DuckDB file: observations, measures, dimensions, codes_<dimension>, properties."""
    import hashlib
    import time

    from datafabriek.folders import private_folder

    target = (into or Path(f"{table_id}.duckdb")).absolute()
    if not target.parent.is_dir():
        raise TargetError(f"the folder {target.parent} does not exist: make it first")
    if target.is_dir():
        raise TargetError(f"{target} is a folder: name a file, as in {target / (table_id + '.duckdb')}")
    start = time.monotonic()
    with _client(sample) as (client, settings, source):
        # one folder per source and filter: a second fetch finds what the first brought, or half of it
        name = hashlib.sha256(f"{source}\n{filter_text}".encode()).hexdigest()[:12]
        root = private_folder(settings.paths.root / "landing" / "fetch" / name)
        with _bar(hidden=as_json) as bar:
            task = bar.add_task(f"{table_id}", total=None)
            landed = client.land(
                table_id,
                root,
                filter=filter_text,
                progress=lambda done, due: bar.update(task, completed=done, total=due),
            )
    _into(landed, target)
    _summary(landed, target, time.monotonic() - start, as_json=as_json)


def _summary(landed: Landed, target: Path, seconds: float, *, as_json: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    meta = landed.meta
    facts: dict[str, Any] = {
        "table": meta.id,
        "title": meta.title,
        "observations": landed.rows,
        "measures": len(meta.measures),
        "dimensions": {d.identifier: len(d.codes) for d in meta.dimensions},
        "changed": landed.changed,
        "modified": meta.observations_modified,
        "protocol": meta.location.protocol,
        "note": meta.location.note,
        "filter": landed.filter,
        "file": str(target),
        "seconds": round(seconds, 2),
    }
    if as_json:
        _print(facts)
        return
    table = Table(show_header=False, title=f"{meta.id} {meta.title}", title_justify="left")
    dimensions = ", ".join(f"{name} ({count:,} codes)" for name, count in facts["dimensions"].items())
    table.add_row("observations", f"{landed.rows:,}" + ("" if landed.changed else ", unchanged since the last fetch"))
    table.add_row("measures", f"{facts['measures']:,}")
    table.add_row("dimensions", dimensions)
    table.add_row("changed at CBS", meta.observations_modified)
    table.add_row("read over", meta.location.note or f"OData {meta.location.protocol}")
    table.add_row("file", str(target))
    table.add_row("took", f"{seconds:.1f} s")
    console = Console()
    console.print(table)
    if landed.filter is None and landed.rows > HUGE:
        console.print("a filter makes this smaller, as in --filter \"RegioS eq 'GM0518'\"")


def _into(landed: Landed, target: Path) -> None:
    """Load a landed table into a file in one step; other tables in it are left alone."""
    import duckdb

    from assets.cbs.client import load
    from datafabriek.warehouse import literal, quoted

    fresh = not target.exists()
    path = target.with_name(f".{target.name}.partial") if fresh else target
    try:
        if fresh:
            path.unlink(missing_ok=True)  # of a fetch that was killed
        with duckdb.connect(":memory:") as connection:
            connection.execute(f"ATTACH {literal(str(path))} AS target (STORAGE_VERSION 'v1.0.0')")
            connection.execute("USE target")
            connection.execute("BEGIN")
            for name in _fetched_before(connection):
                connection.execute(f"DROP TABLE IF EXISTS {quoted(name)}")
            load(landed, connection)
            connection.execute("COMMIT")
        if fresh:
            path.replace(target)
    except duckdb.IOException as error:
        said = str(error)
        if "lock" in said:
            raise TargetError(f"{target} is open in another program: close it there, then try again") from None
        if is_disk_full(error):
            raise TargetError(f"no space left for {target}: free some space, then try again") from None
        told = f"{target} cannot be used as a DuckDB file ({said.splitlines()[0]})"
        raise TargetError(f"{told}: name another with --into") from None
    finally:
        if fresh:
            for stray in (path, path.with_name(path.name + ".wal")):
                stray.unlink(missing_ok=True)


def _fetched_before(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Code tables that an earlier fetch into the same file left."""
    query = "SELECT table_name FROM duckdb_tables() WHERE database_name = 'target' AND schema_name = 'main'"
    names = {row[0] for row in connection.execute(query).fetchall()}
    if not {"observations", "dimensions"} <= names:
        return []
    return [f"codes_{row[0]}" for row in connection.execute("SELECT Identifier FROM dimensions").fetchall()]


@contextmanager
def _client(sample: bool) -> Iterator[tuple[CbsClient, Settings, str]]:
    """A client of CBS or of the sample's stand-in, the settings, and a name of the source."""
    import logging

    from rich.logging import RichHandler

    from assets.cbs.client import CbsClient, Endpoints, options_of
    from datafabriek.cli import errors
    from datafabriek.config import load_settings

    handler = RichHandler(console=errors, show_time=False, show_path=False, show_level=False)
    logging.basicConfig(level=logging.WARNING, format="note: %(message)s", handlers=[handler])
    settings = load_settings()
    with ExitStack() as stack:
        if sample:
            from datafabriek.sample.cbs import serve

            endpoints, source = stack.enter_context(serve(settings)), "sample"
        else:
            endpoints = Endpoints.of(settings.cbs)
            source = f"{endpoints.odata4} {endpoints.odata3} {endpoints.derden}"
        yield stack.enter_context(CbsClient(endpoints, options_of(settings.cbs))), settings, source


def _bar(*, hidden: bool) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from datafabriek.cli import errors

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=errors, transient=True, disable=hidden or not errors.is_terminal)


def _row(entry: Any) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in ("id", "title", "modified", "status", "catalog", "protocol")}


def _print(document: Any) -> None:
    import json

    typer.echo(json.dumps(document, ensure_ascii=False, indent=1))
