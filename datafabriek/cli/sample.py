"""`datafabriek sample`: what the sample factory works on, for trying and testing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from datafabriek.errors import FactoryError


class SampleError(FactoryError):
    """A sample that cannot be written as asked; the message says what to change."""

    exit_code = 2


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    group = typer.Typer(help="Made-up deliveries around real CBS figures, as the sample factory uses them.")
    group.command("deliveries")(deliveries)
    app.add_typer(group, name="sample", no_args_is_help=True)


def deliveries(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write to, one subfolder per delivery.")],
    seed: Annotated[int | None, typer.Option(help="Settles every byte; unset: the sample run's own.")] = None,
    scale: Annotated[float, typer.Option(help="Share of the real number of inhabitants (over 0, at most 1).")] = 1.0,
    labels: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write what was spoiled, and where, to this folder.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write into a folder that holds files already.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the files as JSON, and nothing else.")] = False,
) -> None:
    """Write exactly the deliveries that the sample run takes in: addresses, BRP, BUS and businesses, all made up."""
    if not 0 < scale <= 1:
        raise SampleError(f"--scale {scale:g} is out of range: expected a number over 0 and at most 1")
    if folder.exists() and not folder.is_dir():
        raise SampleError(f"{folder} is a file: name a folder")
    if folder.is_dir() and any(folder.iterdir()) and not force:
        raise SampleError(f"{folder} is not empty: name another folder, or add --force to write among what is there")
    if labels is not None and labels.absolute().is_relative_to(folder.absolute()):
        raise SampleError(f"{labels} lies in {folder}, where an intake would take it for a delivery: name another")

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from datafabriek.sample.deliveries import FILES, SEED, write_deliveries

    console = Console(quiet=as_json)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True, disable=as_json) as bar:
        task = bar.add_task("making people up", total=sum(map(len, FILES.values())))

        def written(name: str) -> None:
            bar.update(task, description=name, advance=1)

        manifest = write_deliveries(folder, SEED if seed is None else seed, scale, progress=written)
    if labels is not None:
        manifest.save(labels)
    if as_json:
        typer.echo(manifest.to_json())
        return

    from rich.table import Table

    spoiled = dict(manifest.labels.group_by("bestand").len().rows())
    table = Table(title=f"Made-up deliveries in {folder}", title_justify="left")
    table.add_column("delivery")
    table.add_column("file")
    for column in ("records", "spoiled", "MB"):
        table.add_column(column, justify="right")
    for file in manifest.files:
        records, dirty = (f"{number:,}".replace(",", " ") for number in (file.records, spoiled.get(file.name, 0)))
        table.add_row(file.delivery, file.name, records, dirty, f"{file.bytes / 1e6:.1f}")
    console.print(table)
    console.print("every person, address and business in these files is made up")
