"""`datafabriek intake`: take a delivery in by hand, or judge it without taking it in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from assets.deliveries.intake import Outcome
    from assets.deliveries.register import Entry
    from datafabriek.config import Settings

ContractName = Annotated[str, typer.Option("--contract", metavar="NAME", help="Which delivery it is.")]
PeriodText = Annotated[
    str | None, typer.Option("--period", help="What it covers, where the file's name does not say: 2024-05.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the outcome as JSON, and nothing else.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    group = typer.Typer(help="Municipal deliveries: take one in, or judge it first.")
    group.command("deliver")(deliver)
    group.command("check")(check)
    group.command("rejudge")(rejudge)
    app.add_typer(group, name="intake", no_args_is_help=True)


def deliver(
    file: Annotated[Path, typer.Argument(help="The delivered file.")],
    contract: ContractName,
    period: PeriodText = None,
    as_json: AsJson = False,
) -> None:
    """Take a file into the vault and renew the tables that follow from it.

    A file in the inbox leaves it; one elsewhere stays where it is. Exit code 0: taken in, or known already;
    1: refused as a whole; 2: it could not be judged.
    """
    from assets.deliveries.intake import deliver as take
    from datafabriek.config import load_settings
    from datafabriek.locking import factory_lock

    settings = load_settings()
    _refuse_unreadable(file)
    settings.paths.create()
    with factory_lock(settings.paths.lock, "intake deliver"):
        outcome = take(settings, file, contract, period)
        _renew(settings, contract)
    _show(outcome, file, as_json=as_json)


def rejudge(
    delivery: Annotated[
        str | None, typer.Argument(metavar="ID", help="Which delivery; without it, those that can be judged again.")
    ] = None,
    period: PeriodText = None,
    as_json: AsJson = False,
) -> None:
    """Judge a refused delivery again, from its encrypted original, by the contract as it is now.

    Also one that was taken in, but of which rows were refused. Exit code 0: taken in; 1: refused again; 2: it could not
    be judged, and all is as it was.
    """
    import getpass

    from assets.deliveries.intake import refused
    from assets.deliveries.intake import rejudge as again
    from datafabriek.config import load_settings
    from datafabriek.locking import factory_lock
    from quality.privacy.keys import load_key

    settings = load_settings()
    if delivery is None:
        _list(refused(settings, load_key(settings.paths)))
        return
    with factory_lock(settings.paths.lock, "intake rejudge"):
        outcome = again(settings, delivery, getpass.getuser(), period)
        _renew(settings, outcome.delivery)
    _show(outcome, Path(delivery), as_json=as_json)


def _renew(settings: Settings, delivery: str) -> None:
    """Make anew what follows from a delivery: the tables of purposes and linkages, and what stands where."""
    from assets.deliveries.intake import contract_of, write_standing
    from assets.deliveries.linking import link
    from assets.deliveries.purposes import derive, in_order
    from quality.privacy.keys import ensure_key
    from quality.privacy.linkages import registered

    key = ensure_key(settings.paths)
    placing = contract_of(settings, delivery).placing
    for name, purpose in in_order(settings):
        # an address file places every delivery; one that nothing changed for is left as it is
        if placing or delivery in (name, purpose.needed and purpose.needed.delivery):
            derive(settings, key, name, purpose.name)
    for linkage in registered(settings):
        for table in linkage.tables if linkage.in_force() else ():
            link(settings, key, table)
    write_standing(settings, key)


def _list(found: Sequence[Entry]) -> None:
    from rich.console import Console
    from rich.markup import escape

    if not found:
        typer.echo("no delivery was refused, in whole or in part, of which the original is kept")
    for entry in found:
        told = entry.reden or f"taken in; {entry.geweigerd} of {entry.geleverd} rows refused"
        Console().print(f"[bold]{entry.levering_id}[/] {escape(told)}", soft_wrap=True, highlight=False)


def check(
    file: Annotated[Path, typer.Argument(help="The delivered file.")],
    contract: ContractName,
    period: PeriodText = None,
    as_json: AsJson = False,
) -> None:
    """Judge a file by its contract; nothing is taken in and nothing is kept.

    Where the vault can be read, rows are held to the deliveries that they refer to, and the file to those before it;
    what could not be judged is told. Exit code 0: it would be taken in; 1: it would be refused as a whole; 2: it could
    not be judged.
    """
    from assets.deliveries.checking import check as judge
    from datafabriek.config import load_settings
    from quality.contracts.model import load

    settings = load_settings()
    _refuse_unreadable(file)
    name = settings.deliveries[contract].contract or contract if contract in settings.deliveries else contract
    outcome = judge(file, load(name, settings.contract_folders), period, delivery=contract, settings=settings)
    _show(outcome, file, as_json=as_json)


def _refuse_unreadable(file: Path) -> None:
    """Tell of a file that cannot be opened under the name that was typed: everything after this masks it."""
    from assets.deliveries.delivered import DeliveryError
    from assets.deliveries.layouts import Source

    if file.is_dir():
        raise DeliveryError(f"{file} is a folder: name one file")
    Source.open(file, str(file))


def _show(outcome: Outcome, file: Path, *, as_json: bool) -> None:
    from rich.console import Console

    if as_json:
        typer.echo(json.dumps(outcome.as_json(), indent=1, ensure_ascii=False))
    else:
        _print(outcome, file, Console())
    if outcome.status == "geweigerd":
        raise typer.Exit(1)


def _print(outcome: Outcome, file: Path, console: Console) -> None:
    from rich.markup import escape
    from rich.padding import Padding
    from rich.table import Table

    from datafabriek.discretion import printable

    named = escape(printable(outcome.file))
    if outcome.status == "herhaald":
        console.print(f"{named} was taken in before, over {outcome.period}: nothing changed")
        for remark in outcome.remarks:
            console.print(Padding(escape(remark), (0, 0, 0, 1)), highlight=False)
        return
    if outcome.findings:
        table = Table(title=f"{named} · {outcome.delivery} {outcome.period}", title_justify="left")
        # column and rule are what a supplier is told to mend: the rest gives way on a narrow screen
        table.add_column("column, rule", no_wrap=True)
        table.add_column("severity", overflow="fold")
        table.add_column("rows", justify="right", no_wrap=True)
        table.add_column("share", justify="right", no_wrap=True)
        table.add_column("first lines", overflow="fold")
        table.add_column("shape", overflow="fold")
        for found in outcome.findings:
            table.add_row(
                escape(f"{found['column'] or '(line)'}\n  {found['rule']}"),
                found["severity"],
                f"{found['count']:,}".replace(",", " "),
                f"{found['count'] / max(outcome.delivered, 1):.3%}",
                ", ".join(map(str, found["lines"][:3])),
                escape(" · ".join(found["examples"])),
            )
        console.print(table)
        for rule, sentence in dict.fromkeys((found["rule"], found["told"]) for found in outcome.findings):
            console.print(Padding(f"{escape(rule)}: {escape(sentence)}", (0, 0, 0, 1)), highlight=False)
    placed = "" if outcome.unknown_buurt is None else f", {outcome.unknown_buurt} without a buurt"
    console.print(
        f"delivered {outcome.delivered} = accepted {outcome.accepted} + refused {outcome.refused}; "
        f"{outcome.repaired} repaired{placed}",
        highlight=False,
    )
    for remark in outcome.remarks:
        console.print(Padding(escape(remark), (0, 0, 0, 1)), highlight=False)
    reason = _as_named(outcome, file)
    verdict = "[green]in order[/]" if outcome.status == "ontvangen" else f"[red]refused[/]: {escape(printable(reason))}"
    console.print(f"verdict: {verdict}", soft_wrap=True, highlight=False)


def _as_named(outcome: Outcome, file: Path) -> str:
    """Why a file was refused, under the name that was typed; what is kept speaks of it by its fingerprint alone."""
    from assets.deliveries.judging import shape

    reason = outcome.reason or ""
    kept = (f"{outcome.delivery}-{outcome.period}-{outcome.fingerprint[:12]}", shape(outcome.file))
    name = next((name for name in kept if reason.startswith(name)), None)
    return reason if name is None else f"{file}{reason.removeprefix(name)}"
