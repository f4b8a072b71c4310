"""`datafabriek release …` and `datafabriek accept`: what was released, what changed, and waivers of quality norms."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Any

import typer

group = typer.Typer(help="Releases: list them, look into one, compare two.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    app.add_typer(group, name="release")
    app.command("accept")(accept)


@group.command("list")
def list_releases(as_json: bool = typer.Option(False, "--json", help="As JSON, for scripts.")) -> None:
    """Every release ever made, and which are published now."""
    from assets.release.publish import current, releases
    from datafabriek.config import load_settings
    from quality.norms import AUDIENCES

    home = load_settings().paths
    now = {found.id for audience in AUDIENCES if (found := current(home, audience))}
    rows: list[dict[str, Any]] = [
        {
            "release": item.id,
            "doelgroep": item.audience,
            "gemaakt": item.record["gemaakt"],
            "gepubliceerd": item.id in now,
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
        [
            [r["release"], _moment(r["gemaakt"]), "now" if r["gepubliceerd"] else "", ", ".join(r["verouderd"])]
            for r in rows
        ],
    )


@group.command()
def show(
    name: str = typer.Argument(help="A release's id, or an audience for what is published now."),
    as_json: bool = typer.Option(False, "--json", help="As JSON, for scripts."),
) -> None:
    """One release: its tables, norms and where it lies."""
    from assets.release.publish import find_release
    from datafabriek.config import load_settings

    release = find_release(load_settings().paths, name)
    if as_json:
        typer.echo(json.dumps(release.record | {"map": str(release.folder)}, ensure_ascii=False))
        return
    typer.echo(f"{release.id}: {release.folder}")
    made = _moment(release.record["gemaakt"])
    typer.echo(f"made {made}, norms {release.record['normen_versie']}, content {release.content}")
    if release.record["voorbeeld"]:
        typer.echo("a sample: rows marked `synthetisch` are made up")
    rows = [
        [table, f["staat"], _moment(f.get("sinds")), *(str(f["aantallen"].get(k, "")) for k in ("cellen", "geheim"))]
        for table, f in release.record["tabellen"].items()
    ]
    _table(["table", "state", "stale since", "cells", "hidden"], rows)
    for norm, item in release.record["afwijkingen"].items():
        typer.echo(f"waived: {norm} until {item['tot']}: {item['reden']}")


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


def _moment(at: str | None) -> str:
    """A recorded moment (ISO 8601, UTC) as every command shows it; a day stays a day, and nothing is nothing."""
    return f"{at[:16]} UTC" if at and "T" in at else at or ""


def _table(headers: list[str], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*headers)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
