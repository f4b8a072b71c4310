"""`datafabriek privacy`: what the privacy officer asks of the factory."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from assets.deliveries.erasure import Place


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    group = typer.Typer(help="For the privacy officer: what is done with which personal data, on what ground.")
    group.callback()(_group)
    group.command("register")(activities)
    group.command("find")(find)
    group.command("erase")(erase)
    app.add_typer(group, name="privacy", no_args_is_help=True)


def _group() -> None:
    """For the privacy officer: what is done with which personal data, on what ground."""


def activities(
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it as a page to print.")] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it as CSV.")] = None,
) -> None:
    """The register of processing activities (AVG 30), from contracts and policy; printed where no file is named."""
    from rich.console import Console
    from rich.table import Table

    from datafabriek.config import load_settings
    from quality.privacy.policy import load_policy
    from quality.privacy.processing import as_csv, as_html
    from quality.privacy.processing import register as made

    settings = load_settings()
    found = made(settings)
    if html is not None:
        html.write_text(as_html(found, settings.name, example=load_policy(settings).voorbeeld), encoding="utf-8")
    if csv is not None:
        csv.write_text(as_csv(found), encoding="utf-8")
    if html is None and csv is None:
        table = Table(title="Register van verwerkingsactiviteiten (AVG 30)", title_justify="left")
        for heading in ("nummer", "doel", "levering", "leverancier", "grondslag", "kluis (mnd)", "doel (mnd)"):
            table.add_column(heading)
        for one in found:
            terms = (str(one.bewaartermijn_kluis_maanden), str(one.bewaartermijn_doel_maanden))
            table.add_row(one.verwerkingsactiviteit, one.doel, one.levering, one.leverancier, one.grondslag, *terms)
        Console().print(table)


def find(
    reason: Annotated[str, typer.Option(help="Why you look this person up; it stands in the ledger for good.")],
) -> None:
    """Where one person stands, by BSN (asked for, or read from standard input: never an argument). Changes nothing."""
    from assets.deliveries.erasure import find as search
    from datafabriek.config import load_settings
    from datafabriek.ledger import Ledger
    from datafabriek.locking import factory_lock
    from quality.privacy.keys import load_key

    settings = load_settings()
    key = load_key(settings.paths)
    number = _asked_number()
    payload = {"action": "find", "reason": _told(reason, "--reason"), "who": getpass.getuser()}
    with factory_lock(settings.paths.lock, "privacy find"):
        Ledger(settings.paths.ledger).append("vault_access", "betrokkene", payload)
        found = search(settings, key, number)
    _print(found, "Where this person stands")


def erase(
    ground: Annotated[str, typer.Option(help="On what ground, by whose decision; it stands in the ledger for good.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask again.")] = False,
) -> None:
    """Take one person out of vault, originals and tables, by BSN, and keep her out of deliveries to come."""
    from assets.deliveries.erasure import LIMITS
    from assets.deliveries.erasure import erase as remove
    from datafabriek.config import load_settings
    from datafabriek.locking import factory_lock
    from quality.privacy.keys import load_key

    settings = load_settings()
    key = load_key(settings.paths)
    told = _told(ground, "--ground")
    typer.echo(LIMITS)
    number = _asked_number()
    if not yes:
        typer.confirm("Remove this person for good?", abort=True)
    with factory_lock(settings.paths.lock, "privacy erase"):
        found = remove(settings, key, number, told, getpass.getuser())
    _print(found, "Removed")
    typer.echo("marts follow with the next run: `datafabriek run`")


def _told(text: str, option: str) -> str:
    from quality.privacy.policy import PolicyError

    if len(text.strip()) < 10:
        raise PolicyError(f"{option} says why, in at least ten characters: it is what you answer for later")
    return text.strip()


def _asked_number() -> str:
    """The number, from the keyboard unseen or from standard input: an argument would stand in the shell's history."""
    from assets.deliveries.erasure import parse_bsn

    return parse_bsn(getpass.getpass("BSN: ") if sys.stdin.isatty() else sys.stdin.readline())


def _print(found: Sequence[Place], title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    if not found:
        typer.echo("nothing found")
        return
    table = Table(title=title, title_justify="left")
    for heading in ("place", "delivery", "rows"):
        table.add_column(heading)
    for place in found:
        table.add_row(place.place, place.delivery_id, str(place.rows))
    Console().print(table)
