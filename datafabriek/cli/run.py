"""`datafabriek run`, the main job without a screen full of logs, and `datafabriek dev`, Dagster's UI and daemon."""

from __future__ import annotations

import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

if TYPE_CHECKING:
    from rich.console import Console

    from datafabriek.config import Settings
    from datafabriek.ledger import Event
    from datafabriek.running import AssetOutcome, CheckOutcome, Listener, RunReport

STAGES = {
    "aanvoer_cbs": "CBS tables taken in",
    "aanvoer_leveringen": "deliveries taken in",
    "modellen": "models made",
    "levering": "releases",
}
OUTCOMES = ("done", "stale", "failed", "skipped")
SIGNS = {"done": "[green]✓[/]", "stale": "[yellow]~[/]", "failed": "[red]✗[/]", "skipped": "[yellow]-[/]"}


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    app.command()(run)
    app.command()(dev)


def run(
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON, and nothing else.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show the logs of Dagster and dbt too.")] = False,
) -> None:
    """Run the main job: take in CBS tables and deliveries, model, check, release.

    Exit code 0: done; 1: a step failed; 2: the configuration is wrong; 3: another process works on this factory;
    130 or 143: stopped by Ctrl-C or SIGTERM, the next run carries on. A source out of reach (4 in other commands) ends
    no run: the last good version stays in use, and where there is none, what rests on it fails (1).
    """
    began = time.monotonic() - _age()
    import signal

    from rich.console import Console

    from datafabriek.config import load_settings
    from datafabriek.running import RunFailedError, log_file, noise_to, run_nightly, stop_signal

    # a polite stop ends like Ctrl-C: the run is marked as ended, and what is complete stays
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    settings = load_settings()
    with stop_signal() as stopped_by:
        try:
            if verbose:
                report = run_nightly(settings, began=began, listen=lambda _asset, _phase: None)
            else:
                log = log_file(settings.paths)
                with noise_to(log) as screen:
                    console = Console(file=screen, quiet=as_json)
                    with _progress(console) as listen:
                        report = run_nightly(settings, began=began, listen=listen, log=log)
        except KeyboardInterrupt:
            raise _stopped(stopped_by()) from None
    if as_json:
        import json

        typer.echo(json.dumps(report.as_dict(), ensure_ascii=False, indent=1, default=str))
    elif not report.stopped:
        summarise(Console(), settings, report)
    if report.stopped:
        raise _stopped(report.stopped)
    if not report.ok:
        steps: dict[str, list[str]] = {}
        for step, why in report.failures.items():
            steps.setdefault(why, []).append(step)
        told = "\n".join(textwrap.indent(f"{', '.join(names)}: {why}", "  ") for why, names in steps.items())
        where = f"\nlog: {report.log}" if report.log else ""
        is_published = any(link.exists() for link in settings.paths.published.glob("*"))
        kept = "the last good release stays in use" if is_published else "nothing was released yet"
        raise RunFailedError(f"the run failed; {kept}\n{told}{where}")


def _stopped(number: int | None) -> typer.Exit:
    """Tell that a signal ended the run, with the exit code that shells know for it (130 for Ctrl-C)."""
    import signal

    from datafabriek.cli import errors

    errors.print("stopped; the next run carries on from what is complete")
    return typer.Exit(128 + (number or signal.SIGINT))


def _age() -> float:
    """Seconds since this process began, so that its own start counts too (Linux; 0 elsewhere)."""
    import os

    try:
        started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError):
        return 0.0


@contextmanager
def _progress(console: Console) -> Iterator[Listener]:
    """A line per finished asset; on a terminal also a bar with the asset in hand."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True, disable=console.quiet) as bar:
        task = bar.add_task("getting ready", total=None)

        def listen(asset: AssetOutcome, phase: str) -> None:
            if phase == "start":
                bar.update(task, description=asset.name)
                return
            rows = f"{_number(asset.rows)} rows" if asset.rows is not None else ""
            took = "" if asset.seconds is None else f"{asset.seconds:7.1f} s"
            console.print(f"{SIGNS[phase]} {asset.name:<52} {rows:>16} {took}", highlight=False, soft_wrap=True)

        yield listen


def summarise(console: Console, settings: Settings, report: RunReport) -> None:
    """Tell in plain words what a run did, where its time went and what to ask the result."""
    from rich.table import Table

    table = Table(title=f"{settings.name} · {report.seconds:.0f} s", title_justify="left")
    table.add_column("stage")
    for column in (*OUTCOMES, "warnings", "seconds"):
        table.add_column(column, justify="right")
    for group, told in STAGES.items():
        members = [asset for asset in report.assets if asset.group == group]
        if not members:
            continue
        names = {asset.name for asset in members}
        counts = [str(sum(asset.outcome == outcome for asset in members)) for outcome in OUTCOMES]
        warnings = sum(check.asset in names for check in report.checks_failed)
        table.add_row(told, *counts, str(warnings), f"{report.times.get(group, 0.0):.1f}")
    console.print(table)
    _facts(console, settings, report)
    found = _sorted_out(report)
    _not_held(console, found)
    if report.untold:
        told = f"[yellow]alert[/] {escape(report.untold)}; it is tried again next time"
        console.print(told, highlight=False, soft_wrap=True)
    shares = [f"{name} {seconds:.1f}" for name, seconds in report.times.items() if seconds >= 0.05]
    console.print(f"time (s): {' · '.join(shares)} · total {report.seconds:.1f}", soft_wrap=True, highlight=False)
    console.print(_told_checks(report, found), highlight=False, soft_wrap=True)
    _what_next(console, settings)


def _facts(console: Console, settings: Settings, report: RunReport) -> None:
    """What the ledger and the inbox say of this run: deliveries judged, left or missing, releases made."""
    from rich.table import Table

    from datafabriek.cli.status import told_periods, told_unclaimed
    from datafabriek.status import unclaimed

    deliveries = [event for event in report.events if event.kind == "delivery"]
    if deliveries:
        table = Table(title="deliveries", title_justify="left")
        table.add_column("delivery")
        for column in ("files", "rows delivered", "accepted", "refused", "repaired", "buurt unknown"):
            table.add_column(column, justify="right")
        for name in dict.fromkeys(event.subject for event in deliveries):
            judged = [event.payload for event in deliveries if event.subject == name]
            sums = (sum(payload[key] for payload in judged) for key in COUNTS)
            table.add_row(name, str(len(judged)), *(_number(value) for value in sums))
        console.print(table)
    reasons = {
        (event.subject.removeprefix("vault/"), event.payload.get("fingerprint")): str(event.payload.get("reason", ""))
        for event in report.events
        if event.kind == "stale"
    }
    for event in filter(_is_refused, deliveries):
        fingerprint = event.payload["fingerprint"]
        told = reasons.get((event.subject, fingerprint)) or "see its report"
        console.print(
            f"[yellow]refused[/] {event.subject} {event.payload['period']}: {escape(told)}",
            highlight=False,
            soft_wrap=True,
        )
        # the same file may have come for several periods
        name = f"*-{event.payload['period']}-{fingerprint[:12]}.html"
        for page in (settings.paths.reports / "op-orde" / event.subject).glob(name):
            console.print(f"  for the supplier: {page}", highlight=False, soft_wrap=True)
    for left in unclaimed(settings):
        console.print(f"[yellow]unclaimed[/] {escape(told_unclaimed(left))}", highlight=False, soft_wrap=True)
    for check in report.checks_failed:
        if check.name == PERIODS_CHECK:
            lacking: dict[str, list[str]] = {}
            for each in filter(None, str(check.facts.get("ontbreekt", "")).split(", ")):
                delivery, _, period = each.partition(" ")
                lacking.setdefault(delivery, []).append(period)
            for delivery, periods in lacking.items():
                why = f"a gap, never a zero, until it lies in {settings.paths.inbox / delivery}"
                if settings.sample:
                    why = "on purpose in the sample, to show that a gap is no zero; nothing to do"
                told = f"[yellow]missing[/] {delivery} {told_periods(periods)}: {escape(why)}"
                console.print(told, highlight=False, soft_wrap=True)
    for asset in report.assets:
        if "levering" in asset.facts:
            facts, kind = asset.facts, "new" if asset.facts.get("nieuwe_levering") else "nothing changed"
            if "nieuwe_levering" in facts:
                hidden = f"{_number(facts['geheime_cellen'])} of {_number(asset.rows or 0)} cells hidden"
                console.print(f"release {facts['levering']} ({kind}): {hidden}", highlight=False)


def _is_refused(event: Event) -> bool:
    return bool(event.payload["status"] == "geweigerd")


def _not_held(console: Console, found: dict[str, list[CheckOutcome]]) -> None:
    """What did not hold: tables that were not renewed, once for each cause; then every other check."""
    idle = Counter(check.asset for check in found.get("idle", ()))
    for word, colour, told in (
        ("stale", "yellow", "what could not be renewed stays in use as it was"),
        ("failed", "red", "never taken in or made"),
    ):
        causes: dict[str, list[str]] = {}
        for check in found.get(word, ()):
            causes.setdefault(check.description, []).append(check.asset)
        for why, names in causes.items():
            waiting = sum(idle[name] for name in names)
            left = f" ({waiting} check{'' if waiting == 1 else 's'} had nothing to judge)" if waiting else ""
            console.print(f"[{colour}]{word}[/] {', '.join(names)}: {told}{left}", highlight=False, soft_wrap=True)
            for line in why.splitlines():
                console.print(f"  {escape(line)}", highlight=False, soft_wrap=True)
    for word, colour in (("error", "red"), ("warn", "yellow")):
        for check in found.get(word, ()):
            what = f": {check.description.splitlines()[0]}" if check.description else ""
            console.print(f"[{colour}]{word}[/] {check.asset} · {check.name}{escape(what)}", soft_wrap=True)


def _sorted_out(report: RunReport) -> dict[str, list[CheckOutcome]]:
    """Checks that did not hold, by the word under which the lines above tell of them; `idle`: had nothing to judge."""
    from datafabriek.running import RENEWAL_CHECKS

    kept = {asset.name for asset in report.assets if asset.outcome == "stale"}
    absent = {a.name for a in report.assets if a.outcome == "failed" and "verouderd_sinds" in a.facts}
    refused = (event.subject for event in report.events if event.kind == "delivery" and _is_refused(event))
    told_above = {PERIODS_CHECK: "missing", **{f"{name}_voldoet_aan_contract": "refused" for name in refused}}
    found: dict[str, list[CheckOutcome]] = {}
    for check in report.checks_failed:
        if check.name.endswith(RENEWAL_CHECKS) and check.asset in kept | absent:
            word = "stale" if check.asset in kept else "failed"
        elif check.asset in absent:
            word = "idle"
        else:
            word = told_above.get(check.name, check.severity.lower())
        found.setdefault(word, []).append(check)
    return found


def _told_checks(report: RunReport, found: dict[str, list[CheckOutcome]]) -> str:
    """How many checks held, and which did not, with the word that says above what to do about them."""
    told = "; ".join(
        f"{len(checks)} with nothing to judge"
        if word == "idle"
        else f"{', '.join(check.name for check in checks)} ({word}, see above)"
        for word, checks in found.items()
    )
    return f"checks: {report.checks_held} held, {len(report.checks_failed)} did not{': ' if told else ''}{told}"


PERIODS_CHECK = "stand_heeft_alle_verwachte_perioden"
"""The check whose facts name the periods that were expected and did not come."""

COUNTS = ("delivered", "accepted", "refused", "repaired", "unknown_buurt")


def _number(value: int) -> str:
    return f"{value:,}".replace(",", " ")


def _what_next(console: Console, settings: Settings) -> None:
    """Where the results are, and a first question to ask them."""
    files = sorted(settings.paths.published.glob("*/datafabriek.duckdb"), reverse=True)
    for file in files:
        console.print(f"published to {file.parent.name}: {file}", soft_wrap=True, highlight=False)
    if files:
        gemeente = settings.region.gemeenten[-1]
        query = (
            "SELECT regio_naam, waarde, status FROM bijstand_per_regio WHERE indicator = 'bijstand_per_1000_inwoners' "
            f"AND regio_niveau = 'WK' AND gemeente_code = '{gemeente}' "
            "AND periode = (SELECT max(periode) FROM bijstand_per_regio)"
        )
        console.print(f"query it with DuckDB 1.1 or later, read-only:\n  {query}", soft_wrap=True, highlight=False)
    if settings.sample:
        console.print("this is the sample factory: rows marked `synthetisch` are made up; see README.md")


def dev(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the UI, on 127.0.0.1.")] = 3000,
) -> None:
    """Start Dagster's UI and daemon on this machine, until Ctrl-C."""
    import sys

    from rich.console import Console

    from datafabriek.config import load_settings
    from datafabriek.developing import serve

    settings = load_settings()
    told = f"starting the Dagster UI, about a minute: http://127.0.0.1:{port} (Ctrl-C ends it)"
    Console(stderr=True).print(told, soft_wrap=True)
    sys.exit(serve(settings, port))
