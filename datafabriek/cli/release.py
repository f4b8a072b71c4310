"""`datafabriek release …` and `datafabriek accept`: who lets what go out, what was released, and what is taken back."""

from __future__ import annotations

import getpass
import json
import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

if TYPE_CHECKING:
    from assets.release.marts import Mart
    from datafabriek.config import Settings
    from quality.norms import Audience, Norms

group = typer.Typer(
    help="Releases: propose and approve them, list, show and compare them, take one back, check all again.",
    no_args_is_help=True,
)

Key = Annotated[Path, typer.Option("--key", help="Your personal key (minisign or ssh; `privacy new-key` makes one).")]
As = Annotated[str | None, typer.Option("--as", metavar="PERSON", help="Who you are in rollen.yaml, to be sure.")]
ToWhom = Annotated[
    str, typer.Argument(metavar="AUDIENCE", help="To whom it is released: intern, open or a partner (partner_NAME).")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    app.add_typer(group, name="release")
    app.command("accept")(accept)


@group.command()
def propose(
    audience: ToWhom,
    key: Key,
    tables: Annotated[list[str] | None, typer.Argument(metavar="[TABLE]…", help="By default all.")] = None,
    person: As = None,
) -> None:
    """Propose that tables, as they are now, go to an audience every night; someone else approves it."""
    from assets.release.proposals import propose as write
    from assets.release.proposals import shown
    from datafabriek.cli.privacy import asked_password
    from datafabriek.config import load_settings
    from quality.norms import NORMS_FILE
    from quality.privacy.approvals import ApprovalError, load_roles, standing

    settings = load_settings()
    who = _audience(settings, audience)
    marts, norms = _as_now(settings)
    known = {mart.name: mart for mart in marts}
    if unknown := [name for name in tables or () if name not in known]:
        raise ApprovalError(f"there is no table {', '.join(unknown)}: known are {', '.join(known) or 'none'}")
    if odd := [name for name in tables or () if not norms.entitled(who, name)]:
        raise ApprovalError(f"{NORMS_FILE} does not name {', '.join(odd)} for {who}: a partner gets what it agreed on")
    able = [mart for mart in marts if mart.disclosure and norms.entitled(who, mart.name)]
    chosen = [known[name] for name in tables] if tables else able
    if bare := [mart.name for mart in chosen if not mart.disclosure]:
        told = f"{', '.join(bare)} says nothing about disclosure, so it never goes out"
        raise ApprovalError(f"{told}: state `config: meta: disclosure:` beside its dbt model first")
    if wrong := {mart.name: why for mart in chosen if (why := _wrong_spec(mart))}:
        told = "; ".join(f"{name}: {reason}" for name, reason in wrong.items())
        if tables:
            raise ApprovalError(f"what is wrong never goes out, so mend it first: {told}")
        typer.echo(f"not proposed, as it would never go out: {told}", err=True)
        chosen = [mart for mart in chosen if mart.name not in wrong]
    if not chosen:
        raise ApprovalError("there is no table to propose: no mart states `config: meta: disclosure:` that can be used")
    filed = write(settings, who, chosen, norms, key, asked_password(), person)
    path = shown(settings, filed.path)
    typer.echo(f"{filed.proposal.voorgesteld_door} proposes {len(chosen)} table(s) to {who}: {path}")
    typer.echo(f"next, by someone else: `datafabriek release approve {path} --key KEY`")
    norms_file = filed.path.parents[1] / NORMS_FILE
    if not standing(norms_file, "normen", load_roles(settings))[0]:
        file = shown(settings, norms_file)
        typer.echo(f"and by someone with the role normen: `datafabriek privacy approve {file} --key KEY`")


@group.command()
def approve(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The proposal.")],
    key: Key,
    person: As = None,
) -> None:
    """Approve a proposal with your personal key; not your own, and only while it fits what would go out."""
    from assets.release.proposals import approve as sign
    from datafabriek.cli.privacy import asked_password
    from datafabriek.config import load_settings

    settings = load_settings()
    marts, norms = _as_now(settings)
    filed, given = sign(settings, file, marts, norms, key, asked_password(), person)
    proposal = filed.proposal
    rows = [
        [
            name,
            ", ".join(table.spec.get("levels", ())),
            str(len(table.kolommen)),
            ", ".join(table.bronnen),
            ", ".join(sorted(set(table.leveranciers.values()))),
        ]
        for name, table in proposal.tabellen.items()
    ]
    _table(["table", "levels", "columns", "made from", "supplied by"], rows)
    told = f"proposed by {proposal.voorgesteld_door}, norms {proposal.normen_versie}"
    typer.echo(f"{given.person} approves these for {proposal.doelgroep} ({told}), until one of them changes")


@group.command()
def withdraw(
    audience: ToWhom,
    name: Annotated[str, typer.Argument(metavar="ID", help="The release's id.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; it stands in the ledger for good.")],
) -> None:
    """Take a release back: the one before it is published again, and it is put aside as it is."""
    from assets.release.publish import ReleaseError, find_release
    from assets.release.publish import withdraw as take_back
    from datafabriek.config import load_settings
    from datafabriek.ledger import Ledger
    from datafabriek.locking import factory_lock

    settings = load_settings()
    who = _audience(settings, audience)
    if len(reason.strip()) < 10:
        raise ReleaseError("--reason says why, in at least ten characters: it is what you answer for later")
    home = settings.paths
    with factory_lock(home.lock, "release withdraw"):
        left = take_back(home, Ledger(home.ledger), who, name, reason.strip(), getpass.getuser())
    aside = find_release(home, name)
    typer.echo(f"{name} is withdrawn; its folder lies in {aside.folder}")
    typer.echo(f"published to {who} now: {left.id}" if left else f"nothing is published to {who} any more")
    if left and (same := sorted(t for t, f in left.record["tabellen"].items() if f.get("uit") == name)):
        typer.echo(
            f"note: {left.id} shows {', '.join(same)} just as it did: withdraw that release too if they are wrong"
        )
    if not settings.sample:
        tables = ", ".join(t for t, facts in aside.record["tabellen"].items() if facts["staat"] != "ontbreekt")
        typer.echo(f"these go out to {who} again only under an approval given from now on: {tables}")
        typer.echo("once what was wrong is mended: `datafabriek release approve` on their proposal, or on a new one")


@group.command()
def verify(
    audience: Annotated[str | None, typer.Argument(metavar="[AUDIENCE]", help="By default all.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every release ever made, not only what is shown.")] = False,
    head: Annotated[
        list[str] | None,
        typer.Option(metavar="NUMBER:HASH", help="A head of the ledger that you noted earlier; may be repeated."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for scripts.")] = False,
) -> None:
    """Check the ledger again, and files, approvals and evidence of releases; exit code 1 where anything is wrong."""
    from rich.console import Console

    from assets.release.publish import UnknownReleaseError
    from assets.release.recheck import recheck
    from datafabriek.config import load_settings

    known: list[tuple[int, str]] = []
    for given in head or ():
        found = re.fullmatch(r"(\d+):([0-9a-f]{64})", given)
        if found is None:
            raise UnknownReleaseError(f"--head {given}: expected a number and a hash, as `release verify` shows them")
        known.append((int(found[1]), found[2]))
    settings = load_settings()
    audiences = [_audience(settings, audience)] if audience else None
    report = recheck(settings, audiences, everything=everything, known=known)
    if as_json:
        typer.echo(json.dumps(report.as_dict(), ensure_ascii=False))
        raise typer.Exit(0 if report.is_good else 1)
    console = Console()
    rows = [
        [
            "[red]✗[/]" if one.wrong else "[green]✓[/]",
            one.release,
            str(one.files),
            str(one.approvals),
            str(one.certificates),
            _moment(one.withdrawn),
        ]
        for one in report.releases
    ]
    _table(["", "release", "files", "approved tables", "certificates", "withdrawn"], rows)
    for line in [*report.wrong, *(f"{one.release}: {line}" for one in report.releases for line in one.wrong)]:
        console.print(f"[red]wrong[/] {escape(line)}", highlight=False, soft_wrap=True)
    if report.is_good:
        console.print(
            f"all in order: {report.events} events in the ledger, head {report.head[0]}:{report.head[1]}",
            highlight=False,
            soft_wrap=True,
        )
    raise typer.Exit(0 if report.is_good else 1)


@group.command("list")
def list_releases(as_json: bool = typer.Option(False, "--json", help="As JSON, for scripts.")) -> None:
    """Every release ever made, which are published now, and which were withdrawn."""
    from assets.release.publish import audiences, current, releases, withdrawal
    from datafabriek.config import load_settings
    from datafabriek.ledger import Ledger

    home = load_settings().paths
    ledger = Ledger(home.ledger)
    gone = {item.id: event for item in releases(home) if (event := withdrawal(ledger, item.audience, item.id))}
    now = {found.id for audience in audiences(home) if (found := current(home, audience))}
    rows: list[dict[str, Any]] = [
        {
            "release": item.id,
            "doelgroep": item.audience,
            "gemaakt": item.record["gemaakt"],
            "gepubliceerd": item.id in now,
            "ingetrokken": {"op": gone[item.id].at, "reden": gone[item.id].payload["reden"]}
            if item.id in gone
            else None,
            "voorbeeld": item.record["voorbeeld"],
            "verouderd": sorted(n for n, facts in item.record["tabellen"].items() if facts["staat"] == "verouderd"),
        }
        for item in releases(home)
    ]
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    if not rows:
        typer.echo("nothing was released yet: run `datafabriek run`")
        return
    _table(
        ["release", "made", "published", "stale tables"],
        [[r["release"], _moment(r["gemaakt"]), _state(r), ", ".join(r["verouderd"])] for r in rows],
    )


@group.command()
def show(
    name: str = typer.Argument(help="A release's id, or an audience for what is published now."),
    as_json: bool = typer.Option(False, "--json", help="As JSON, for scripts."),
) -> None:
    """One release: its tables, norms and where it lies."""
    from assets.release.publish import find_release, withdrawal
    from datafabriek.config import load_settings
    from datafabriek.ledger import Ledger

    home = load_settings().paths
    release = find_release(home, name)
    gone = withdrawal(Ledger(home.ledger), release.audience, release.id)
    if as_json:
        told = {"map": str(release.folder), "ingetrokken": gone.payload | {"op": gone.at} if gone else None}
        typer.echo(json.dumps(release.record | told, ensure_ascii=False))
        return
    if gone:
        typer.echo(f"withdrawn on {_moment(gone.at)} by {gone.payload['wie']}: {gone.payload['reden']}")
    typer.echo(f"{release.id}: {release.folder}")
    made = _moment(release.record["gemaakt"])
    typer.echo(f"made {made}, norms {release.record['normen_versie']}, content {release.content}")
    if partner := release.record.get("partner"):
        until = f" (until {partner['geldig_tot']})" if "geldig_tot" in partner else ""
        typer.echo(f"for {partner['naam']}, under {partner['overeenkomst']}{until}")
    if release.record["voorbeeld"]:
        typer.echo("a sample: rows marked `synthetisch` are made up")
    rows = [
        [table, f["staat"], _moment(f.get("sinds")), *(str(f["aantallen"].get(k, "")) for k in ("cellen", "geheim"))]
        for table, f in release.record["tabellen"].items()
    ]
    _table(["table", "state", "stale since", "cells", "hidden"], rows)
    for table, f in release.record["tabellen"].items():
        if f.get("reden"):
            typer.echo(f"{table}: {f['reden']}")
    for table, item in release.record.get("goedkeuring", {}).get("tabellen", {}).items():
        by = ", ".join(f"{one['door']} on {one['op'][:10]}" for one in item["goedgekeurd"])
        typer.echo(f"{table}: proposed by {item['voorgesteld_door']}, approved by {by}")
    for norm, item in release.record["afwijkingen"].items():
        typer.echo(f"waived: {norm} until {item['tot']}: {item['reden']}")


@group.command()
def refused(
    audience: ToWhom,
    reason: Annotated[str, typer.Option(help="Why you must see which cells; it stands in the ledger for good.")],
) -> None:
    """Show which cells stood in the way of a table that was refused last: the look itself is recorded before it."""
    from assets.release.history import Seal, read_refusals
    from assets.release.publish import ReleaseError
    from datafabriek.config import load_settings
    from datafabriek.ledger import Ledger
    from quality.privacy.keys import load_key

    settings = load_settings()
    who = _audience(settings, audience)
    if len(reason.strip()) < 10:
        raise ReleaseError("--reason says why, in at least ten characters: it is what you answer for later")
    own = Seal(load_key(settings.paths))
    ledger = Ledger(settings.paths.ledger)
    payload = {"wat": "geweigerde cellen", "reason": reason.strip(), "who": getpass.getuser()}
    ledger.append("vault_access", f"levering {who}", payload)
    named = read_refusals(settings.paths, own, who)
    last = ledger.last("refusal", who)
    told: dict[str, str] = last.payload["tabellen"] if last else {}
    if not told and not named:
        typer.echo(f"no table was refused to {who} the last time, so no cell stood in the way")
    for table in sorted({*told, *named}):
        facts = named.get(table, {"norm": "", "cellen": ()})
        typer.echo(f"{table}: {told.get(table, facts['norm'])}")
        for cell in facts["cellen"]:
            typer.echo(f"  {cell}")
    if told and not named:
        typer.echo("no cell stood in the way: the reason above is all there is")


@group.command("diff")
def diff_releases(
    first: str = typer.Argument(help="A release's id, or an audience."),
    second: str = typer.Argument(help="A release's id, or an audience."),
    as_json: bool = typer.Option(False, "--json", help="As JSON, for scripts."),
) -> None:
    """What changed from one release to another: cells changed, added and removed per table."""
    from dataclasses import asdict

    from assets.release.diff import diff
    from assets.release.publish import find_release
    from datafabriek.config import load_settings

    home = load_settings().paths
    found = diff(find_release(home, first), find_release(home, second))
    if as_json:
        typer.echo(json.dumps([asdict(item) for item in found], ensure_ascii=False))
        return
    rows = [[i.table, str(i.changed), str(i.added), str(i.removed), str(i.same)] for i in found]
    _table(["table", "changed", "added", "removed", "same"], rows)


def accept(
    norm: str = typer.Argument(help="The quality norm, as the release names it."),
    reason: str = typer.Option(..., "--reason", help="Why; every release that uses it shows this."),
    until: str = typer.Option(..., "--until", metavar="YYYY-MM-DD", help="The last day it counts."),
) -> None:
    """Accept that a quality norm is not met for a while (never a privacy norm); noted in the ledger."""
    from assets.release.waivers import WaiverError
    from assets.release.waivers import accept as note
    from datafabriek.config import load_settings
    from datafabriek.ledger import Ledger
    from datafabriek.locking import factory_lock

    home = load_settings().paths
    try:
        last = date.fromisoformat(until)
    except ValueError:
        raise WaiverError(f"--until {until} is no date: write it as 2027-01-31") from None
    home.create()
    with factory_lock(home.lock, "accept"):
        note(Ledger(home.ledger), norm, reason, last, datetime.now(UTC).date())
    typer.echo(f"{norm} is accepted until {last}; the next release shows it")


def _audience(settings: Settings, name: str) -> Audience:
    from assets.release.publish import UnknownReleaseError, audiences
    from quality.norms import NormsError, load_norms
    from quality.norms import audiences as ordered

    try:
        named = load_norms(settings.policy_folder).doelgroepen
    except NormsError:
        named = {}
    known = ordered([*named, *audiences(settings.paths)])
    if name not in known:
        raise UnknownReleaseError(f"there is no audience {name}: known are {', '.join(known)}")
    return name


def _wrong_spec(mart: Mart) -> str | None:
    """What is wrong with the disclosure spec of a mart, in Dutch; None where nothing is."""
    from quality.protection import ProtectionError, parse_spec

    try:
        parse_spec(mart.disclosure)
    except ProtectionError as error:
        return str(error)
    return None


def _as_now(settings: Settings) -> tuple[list[Mart], Norms]:
    """The marts as their models are written now, and the norms."""
    from assets.models.runner import manifest
    from assets.release.marts import read_marts
    from datafabriek.locking import factory_lock
    from quality.norms import load_norms

    norms = load_norms(settings.policy_folder)
    settings.paths.create()
    with factory_lock(settings.paths.lock, "release"):
        manifest(settings)
    return read_marts(settings), norms


def _state(row: dict[str, Any]) -> str:
    return "withdrawn" if row["ingetrokken"] else "now" if row["gepubliceerd"] else ""


def _moment(at: str | None) -> str:
    """A recorded moment (ISO 8601) in UTC, as every command shows it; a day stays a day, and nothing is nothing."""
    if not at or "T" not in at:
        return at or ""
    return f"{datetime.fromisoformat(at).astimezone(UTC).isoformat()[:16]} UTC"


def _table(headers: list[str], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for header in headers:
        # an id is there to be copied: rather on two lines than cut short
        table.add_column(header, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
