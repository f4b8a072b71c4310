"""`datafabriek contract`: the agreements with suppliers, checked and compared."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    group = typer.Typer(help="Contracts with suppliers: what a delivery looks like and what may be mended in it.")
    group.command("new")(new)
    group.command("check")(check)
    group.command("diff")(diff)
    app.add_typer(group, name="contract", no_args_is_help=True)


def new(
    example: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="An example: text, XLSX (first sheet), XML, JSON or Parquet."),
    ],
    to: Annotated[Path, typer.Option(help="The contract to write; its name is the contract's.")],
    widths: Annotated[
        str | None,
        typer.Option(help="Widths of the columns of a file of fixed width, as in 4,2,9; else guessed."),
    ] = None,
) -> None:
    """Draft a contract from an example: types, key, likely identifiers, dirt. A draft takes nothing in as it is."""
    from quality.contracts.drafting import draft
    from quality.contracts.model import ContractError

    if widths is not None and not re.fullmatch(r"\d+( *, *\d+)*", widths):
        raise ContractError("--widths holds numbers and commas, as in 4,2,9")
    made = draft(example, to.stem, [int(each) for each in widths.split(",")] if widths else None)
    try:
        with to.open("x", encoding="utf-8") as file:
            file.write(made.text)
    except FileExistsError:
        raise ContractError(f"{to} exists: name a new file, nothing is overwritten") from None
    typer.echo(f"wrote {to}; key: {' + '.join(made.key) or 'none found'}")
    for column, found in made.found.items():
        typer.echo(f"  {column}: {', '.join(found)}")
    typer.echo("next: go through it with the supplier, and name the purposes that need it")


def check(
    name: Annotated[str | None, typer.Argument(help="The contract; all of them where none is named.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON, and nothing else.")] = False,
) -> None:
    """Check contracts: valid ODCS, and whether their parts agree. Exit code 2 where one is not in order."""
    from rich.console import Console
    from rich.markup import escape

    from datafabriek.config import load_settings
    from quality.contracts.model import ContractError, find_contracts, load

    settings = load_settings()
    known = find_contracts(settings.contract_folders)
    if name and name not in known:
        raise ContractError(_unknown(name, known))
    names = [name] if name else list(known)
    told, wrong = [], []
    for each in names:
        try:
            contract = load(each, settings.contract_folders)
        except ContractError as error:
            wrong.append(str(error))
            continue
        told.append(
            {
                "contract": each,
                "title": contract.title,
                "version": contract.version,
                "supplier": contract.supplier,
                "columns": len(contract.columns),
                "key": contract.key,
                "purposes": list(contract.purposes),
                "in_use": [n for n, d in settings.deliveries.items() if (d.contract or n) == each],
            }
        )
    for delivery, terms in settings.deliveries.items():
        if not name and (wanted := terms.contract or delivery) not in known:
            wrong.append(f"{settings.source}, delivery `{delivery}`: {_unknown(wanted, known)}")
    if as_json:
        typer.echo(json.dumps({"contracts": told, "errors": wrong}, indent=1, ensure_ascii=False))
    else:
        if name and told:
            _details(told[0])
        elif told:
            _overview(told)
        for message in wrong:
            Console(stderr=True).print(f"[red]not in order[/] {escape(message)}", soft_wrap=True, highlight=False)
    if wrong:
        raise typer.Exit(2)


def _unknown(name: str, known: Iterable[str]) -> str:
    from datafabriek.mistakes import near

    return f"no contract is called `{name}`{near(name, known)}"


def _overview(told: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="Contracts in order", title_justify="left", caption="* named in factory.yaml")
    table.add_column("contract", no_wrap=True)
    table.add_column("version", no_wrap=True)
    table.add_column("columns", justify="right", no_wrap=True)
    table.add_column("purposes", overflow="fold")
    for row in told:
        mark = " *" if row["in_use"] else ""
        purposes = ", ".join(row["purposes"])
        table.add_row(escape(row["contract"]) + mark, escape(row["version"]), str(row["columns"]), escape(purposes))
    Console().print(table)


def _details(row: dict[str, Any]) -> None:
    typer.echo(f"{row['contract']} {row['version']} is in order: {row['title']}")
    for heading in ("supplier", "columns", "key", "purposes", "in_use"):
        value = row[heading]
        text = ", ".join(value) if isinstance(value, list | tuple) else str(value)
        typer.echo(f"  {heading.replace('_', ' ')}: {text or 'none'}")


def diff(
    old: Annotated[Path, typer.Argument(help="The contract as it was.")],
    new: Annotated[Path, typer.Argument(help="The contract as it is to be; both files bear the contract's name.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON, and nothing else.")] = False,
) -> None:
    """Tell breaking from harmless change between two versions. Exit code 1 where a change breaks."""
    from dataclasses import asdict

    from rich.console import Console
    from rich.markup import escape

    from quality.contracts.comparison import compare
    from quality.contracts.model import read

    found = compare(read(old), read(new))
    if as_json:
        typer.echo(json.dumps([asdict(change) for change in found], indent=1, ensure_ascii=False))
    else:
        console = Console()
        for change in found:
            mark = "[red]breaking[/]" if change.breaking else "[green]harmless[/]"
            console.print(f"{mark} {escape(change.where)}: {escape(change.what)}", soft_wrap=True, highlight=False)
        if not found:
            console.print("no change")
    if any(change.breaking for change in found):
        raise typer.Exit(1)
