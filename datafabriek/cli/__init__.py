"""The command line: `datafabriek`.

Each module here holds one group of commands and a `register(app)`; this one holds what they share: the app, and
how an error is told. Heavy imports stand inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import importlib
import sys

import typer
from rich.console import Console
from rich.markup import escape

from datafabriek import __version__, discretion
from datafabriek.errors import DISK_FULL, FactoryError, is_disk_full, of_system

GROUPS = (
    "run",
    "init",
    "status",
    "sample",
    "cbs",
    "intake",
    "contract",
    "key",
    "vault",
    "privacy",
    "release",
    "disclosure",
)

app = typer.Typer(
    name="datafabriek",
    help="The open data factory for Dutch municipalities and provinces.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

errors = Console(stderr=True)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """The open data factory for Dutch municipalities and provinces."""


for _group in GROUPS:
    importlib.import_module(f"{__name__}.{_group}").register(app)


def main() -> None:
    """Run the command line; tell what a user can mend in one message, with the exit code of its kind."""
    discretion.install()
    try:
        app()
    except FactoryError as error:
        errors.print(f"[bold red]error:[/] {escape(discretion.printable(str(error)))}", soft_wrap=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        errors.print("stopped; the next run carries on from what is complete")
        sys.exit(130)
    except Exception as error:
        if is_disk_full(error):  # whichever part of it met the limit first
            told = DISK_FULL
        elif isinstance(error, OSError):
            told = of_system(error)
        else:
            raise
        errors.print(f"[bold red]error:[/] {escape(discretion.printable(told))}", soft_wrap=True)
        sys.exit(1)
