"""`datafabriek status`: what was released when, from what, how stale, what is late."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from datafabriek.discretion import printable

if TYPE_CHECKING:
    from rich.console import Console

    from datafabriek.status import Missing, SourceState, Status, Unclaimed

FEW = 6
"""So many missing periods of a delivery are named one by one."""


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    app.command()(status)


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print the status as JSON.")] = False,
) -> None:
    """Tell what was released when, from what, how stale it is, and what is late. Reads the ledger alone."""
    from rich.console import Console

    from datafabriek.config import load_settings
    from datafabriek.status import read_status

    found = read_status(load_settings())
    if as_json:
        import json

        typer.echo(json.dumps(found.as_dict(), ensure_ascii=False, indent=1, default=str))
    else:
        show(Console(), found)


def show(console: Console, found: Status) -> None:
    """Print a status in plain words."""
    from rich.table import Table

    sample = " (sample factory)" if found.sample else ""
    console.print(f"[bold]{escape(found.name)}[/]{sample}", highlight=False)
    ran = bool(found.last_run or found.releases or found.sources)
    if not ran:
        console.print("no run has ended yet: start one with `datafabriek run`")
    elif found.last_run is not None:
        outcome = "went well" if found.last_run["ok"] else f"failed at {', '.join(found.last_run['failures'])}"
        if found.last_run.get("stopped"):
            outcome = "stopped; the next run carries on"
        told = f"last headless run: {found.last_run['at'][:16]} UTC, {outcome}"
        console.print(told, highlight=False, soft_wrap=True)
    for release in found.releases:
        table = Table(title=f"{release.audience}: {release.release}, {_days(release.age_days)}", title_justify="left")
        for column in ("table", "state", "since", "why"):
            table.add_column(column, overflow="fold", no_wrap=column == "table")
        for name, facts in release.tables.items():
            table.add_row(name, facts["staat"], str(facts.get("sinds") or "")[:10], str(facts.get("reden") or ""))
        console.print(table)
    for past in found.withdrawn:
        told = f"{past.release} on {_date(past.at)}: {escape(past.reason)}"
        console.print(f"[yellow]withdrawn[/] {told}", highlight=False, soft_wrap=True)
    if ran and not found.releases:
        console.print("nothing is published any more" if found.withdrawn else "nothing was released yet")
    _taken_in(console, "CBS", "checked", [source for source in found.sources if source.kind == "cbs"])
    _taken_in(console, "deliveries", "period", [source for source in found.sources if source.kind != "cbs"])
    lacking: dict[str, list[Missing]] = {}
    for item in found.missing if ran else ():
        lacking.setdefault(item.delivery, []).append(item)
    for delivery, items in lacking.items():
        first, late = items[0], f"{max(item.days_late for item in items)} days late"
        why = f" from {first.supplier}: due {first.due}, {late}"
        if found.sample:
            why = ": on purpose in the sample, to show that a gap is no zero"
        told = escape(f"{delivery} {told_periods([item.period for item in items])}{why}")
        console.print(f"[yellow]missing[/] {told}", highlight=False, soft_wrap=True)
    for mistake in found.mistakes:
        console.print(f"[red]mistake[/] {escape(mistake)}", highlight=False, soft_wrap=True)
    for left in found.unclaimed:
        console.print(f"[yellow]unclaimed[/] {escape(told_unclaimed(left))}", highlight=False, soft_wrap=True)
    if found.roles is not None:
        began = f"the first, {found.roles.first[:16]}, was trusted as found on {_date(found.roles.first_at)}"
        told = f"who may approve: print {found.roles.print[:16]} since {_date(found.roles.since)}; {began}"
        console.print(told, highlight=False, soft_wrap=True)
    for norm, waiver in found.waivers.items():
        told = escape(f"{norm} until {waiver['tot']}: {waiver['reden']}")
        console.print(f"[yellow]waived[/] {told}", highlight=False, soft_wrap=True)


def _taken_in(console: Console, kind: str, last: str, sources: Sequence[SourceState]) -> None:
    from rich.table import Table

    if not sources:
        return
    table = Table(title=f"taken in: {kind}", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("", "source", "taken in", last, "stale since"):
        table.add_column(column, overflow="fold", no_wrap=column == "source")
    for source in sources:
        at, sign = (_date(source.at), "[green]✓[/]") if source.at else ("never", "[red]✗[/]")
        if source.stale_since and (source.at or source.facts.get("rijen") is not None):
            # a CBS table that was never whole, or one whose making leaves no event of its own
            at, sign = at if source.at else "in part" if source.kind == "cbs" else "earlier", "[yellow]~[/]"
        seen = source.period if last == "period" else _date(source.checked or source.at or "")
        table.add_row(sign, source.name, at, seen or "", _date(source.stale_since or ""))
    console.print(table)


def told_periods(periods: Sequence[str]) -> str:
    """Periods in words; of many the first, the last and how many (`status --json` has all)."""
    if len(periods) <= FEW:
        return ", ".join(periods)
    return f"{periods[0]} … {periods[-1]} ({len(periods)} periods)"


def told_unclaimed(left: Unclaimed) -> str:
    """What lies in the inbox for no delivery, and what to do about it; names of files may tell of persons."""
    folder = printable(left.folder)
    files = f"{left.files} file{'' if left.files == 1 else 's'}"
    if left.passed_over:
        kinds = {"folders": "folder", "hidden": "hidden file", "unfinished": "unfinished file"}
        told = ", ".join(f"{n} {kinds[kind]}{'' if n == 1 else 's'}" for kind, n in left.passed_over.items())
        things = f"{left.files} thing{'' if left.files == 1 else 's'}"
        remedy = "put files straight in it, by a plain name"
        return f"{things} in inbox/{folder} that no run takes in: {told}; {remedy}"
    if not left.folder:
        return f"{files} straight in the inbox: put each in the folder of its delivery"
    meant = f"did you mean `{left.meant}`?" if left.meant else "factory.yaml names no such delivery"
    return f"{files} in inbox/{folder}: no run takes {'it' if left.files == 1 else 'them'} in; {meant}"


def _date(at: str) -> str:
    return at[:10]


def _days(days: int) -> str:
    return "made today" if days == 0 else f"{days} days old"
