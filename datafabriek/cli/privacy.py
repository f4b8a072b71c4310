"""`datafabriek privacy`: what the privacy officer asks of the factory."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from assets.deliveries.whereabouts import Place


_ALSO = "Ask for further names and numbers of hers, a line each until an empty one: a client number, a name she had."


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    group = typer.Typer(help="For the privacy officer: what is done with which personal data, on what ground.")
    group.callback()(_group)
    group.command("register")(activities)
    group.command("groups")(groups)
    group.command("find")(find)
    group.command("erase")(erase)
    group.command("approve")(approve)
    group.command("approvals")(approvals)
    group.command("new-key")(new_key)
    app.add_typer(group, name="privacy", no_args_is_help=True)


def _group() -> None:
    """For the privacy officer: what is done with which personal data, on what ground."""


def activities(
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it as a page to print.")] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it as CSV.")] = None,
) -> None:
    """The register of processing activities (AVG 30), from contracts and policy; printed where no file is named."""
    from rich.console import Console
    from rich.markup import escape
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
        table = Table(title="Register van verwerkingsactiviteiten (AVG 30)", title_justify="left", show_lines=True)
        for heading in ("verwerking", "grondslag", "maanden in kluis / voor doel"):
            table.add_column(heading)
        for one in found:
            what = f"{one.verwerkingsactiviteit}\n{one.doel}: {one.levering}\nvan {one.leverancier}"
            terms = f"{one.bewaartermijn_kluis_maanden} / {one.bewaartermijn_doel_maanden}"
            table.add_row(escape(what), escape(one.grondslag), terms)
        Console().print(table)


def groups(as_json: Annotated[bool, typer.Option("--json", help="Print as JSON, and nothing else.")] = False) -> None:
    """How many rows share all their values, per table with persons: what the `k` in policy is held against."""
    import json
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    from assets.deliveries.derived import FEW
    from assets.deliveries.derived import groups as measured
    from datafabriek.config import load_settings
    from datafabriek.warehouse import warehouse

    settings = load_settings()
    with warehouse(settings.paths, settings.resources, read_only=True) as con:
        found = measured(con)
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], indent=1))
        return
    table = Table(title="Rows that share all values but pseudonyms", title_justify="left")
    table.add_column("table", no_wrap=True)
    for heading in ("rows", "smallest group", "alone", f"under {FEW}", "found beside"):
        table.add_column(heading, justify="right")
    for one in found:
        share = f"{one.alone / one.rows:.1%}" if one.rows else ""
        few = f"{one.few / one.rows:.1%}" if one.rows else ""
        beside = f"{one.beside / one.rows:.1%}" if one.rows else ""
        table.add_row(one.table, str(one.rows), str(one.smallest or ""), share, few, beside)
    Console().print(table)
    typer.echo(
        "found beside: stands alone here and, with the same values, in a table of another purpose, so that who has "
        "both may take them for one person: coarsen a column, or give each purpose fewer persons"
    )


def find(
    reason: Annotated[str, typer.Option(help="Why you look this person up; it stands in the ledger for good.")],
    also: Annotated[bool, typer.Option("--also", help=_ALSO)] = False,
) -> None:
    """Where one person stands, by BSN (asked for, or read from standard input: never an argument). Changes nothing.

    Also where her name, or another number under which the vault knows her, stands without it: look at those yourself.
    """
    from assets.deliveries.erasure import find as search
    from datafabriek.config import load_settings
    from datafabriek.ledger import Ledger
    from datafabriek.locking import factory_lock
    from quality.privacy.keys import load_key

    settings = load_settings()
    key = load_key(settings.paths)
    number, more = _asked_number(), _asked_more() if also else []
    payload = {"action": "find", "reason": _told(reason, "--reason"), "who": getpass.getuser()}
    with factory_lock(settings.paths.lock, "privacy find"):
        Ledger(settings.paths.ledger).append("vault_access", "betrokkene", payload)
        found = search(settings, key, number, more)
    _print(found, "Where this person stands")


def erase(
    ground: Annotated[str, typer.Option(help="On what ground, by whose decision; it stands in the ledger for good.")],
    traces: Annotated[
        bool, typer.Option("--traces", help="Also blot out her name and other numbers in rows of others; see `find`.")
    ] = False,
    also: Annotated[bool, typer.Option("--also", help=_ALSO)] = False,
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
    number, more = _asked_number(), _asked_more() if also else []
    if not yes:
        typer.confirm("Remove this person for good?", abort=True)
    with factory_lock(settings.paths.lock, "privacy erase"):
        done = remove(settings, key, number, told, getpass.getuser(), more, traces=traces)
    _print(done.removed, "Removed")
    if done.left:
        _print(done.left, "Still there by name or another number: look at these yourself")
    typer.echo("marts follow with the next run: `datafabriek run`")


def approve(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The policy file, as it is now.")],
    key: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Your personal key (minisign or ssh).")],
    role: Annotated[str | None, typer.Option(help="Under which role, where the file's name does not say.")] = None,
) -> None:
    """Approve a policy file with your personal key; your name and the file's fingerprint stand in the ledger."""
    from datafabriek.config import load_settings
    from quality.privacy.approvals import FILE, ROLE_OF, ROLES, ApprovalError, sign

    wanted = role or ({FILE: "rollen"} | dict(ROLE_OF)).get(file.name)
    known = next((each for each in ROLES if each == wanted), None)
    if known is None:
        raise ApprovalError(f"--role says under which role you approve {file.name}: one of {', '.join(ROLES)}")
    approval = sign(load_settings(), file, known, key, asked_password())
    typer.echo(f"{approval.file} ({approval.sha256[:12]}) approved by {approval.person} as {approval.role}")


def approvals() -> None:
    """Which policy files are approved, by whom, which approvals no longer hold, and the print of who may approve."""
    from rich.console import Console
    from rich.table import Table

    from datafabriek.config import load_settings
    from datafabriek.ledger import Ledger
    from quality.privacy.approvals import ROLE_OF, load_roles, standing, versions
    from quality.privacy.policy import PolicyError

    settings = load_settings()
    if settings.policy_folder is None:
        raise PolicyError("this factory has no policy folder: `datafabriek init` makes one to fill in")
    table = Table(title="Approvals", title_justify="left")
    for heading in ("file", "role", "approved by", "at", "remark"):
        table.add_column(heading)
    if settings.sample:
        typer.echo("the sample factory: its policy is an example, nobody approves it")
    for name, role in ROLE_OF.items():
        path = settings.policy_folder / name
        if settings.sample or not path.is_file():
            continue
        held, broken = standing(path, role, load_roles(settings))
        for approval in held:
            table.add_row(name, role, approval.person, approval.at, "")
        for why in broken or ([] if held else ["not approved"]):
            table.add_row(name, role, "", "", why)
    if table.row_count:
        Console().print(table)
    if known := versions(Ledger(settings.paths.ledger)):
        first = f"the first, {known[0].print[:16]}, was trusted as found on {known[0].at[:10]}"
        typer.echo(f"who may approve: print {known[-1].print[:16]} since {known[-1].at[:10]}; {first}")
        typer.echo("note the print elsewhere, and compare")


def new_key(file: Annotated[Path, typer.Argument(help="A new file, outside the factory.")]) -> None:
    """Make a personal key with a password, to approve with; prints the public half for rollen.yaml."""
    from quality.privacy.approvals import new_key as make

    typer.echo(f"sleutel: {make(file, asked_password(confirm=True))}")


def asked_password(*, confirm: bool = False) -> str:
    """The password of a personal key, from the keyboard unseen or from standard input."""
    if sys.stdin.isatty():
        return str(typer.prompt("Password of the key", hide_input=True, confirmation_prompt=confirm))
    return sys.stdin.readline().rstrip("\n")


def _told(text: str, option: str) -> str:
    from quality.privacy.policy import PolicyError

    if len(text.strip()) < 10:
        raise PolicyError(f"{option} says why, in at least ten characters: it is what you answer for later")
    return text.strip()


def _asked_number() -> str:
    from assets.deliveries.erasure import parse_bsn

    return parse_bsn(_asked("BSN: "))


def _asked_more() -> list[str]:
    """Further names and numbers, a line each, until an empty one."""
    found: list[str] = []
    while line := _asked("Another name or number (nothing: no more): ").strip():
        found.append(line)
    return found


def _asked(prompt: str) -> str:
    """Something, from the keyboard unseen or from standard input: an argument would stand in the shell's history."""
    return getpass.getpass(prompt) if sys.stdin.isatty() else sys.stdin.readline()


def _print(found: Sequence[Place], title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    if not found:
        typer.echo("nothing found")
        return
    table = Table(title=title, title_justify="left")
    for heading in ("place", "delivery", "rows", "found by"):
        table.add_column(heading)
    for place in found:
        table.add_row(place.place, place.delivery_id, str(place.rows), place.by or "BSN")
    Console().print(table)
