"""Dagster's view of the release: per audience a candidate with blocking checks, and the release itself.

Belongs here: wiring. What is protected, written, looked at again and published stands in the modules beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import dagster as dg

from assets.release.agreements import AgreementError, require, today
from assets.release.approval import approved_norms, recheck, unapproved
from assets.release.candidate import build_candidate
from assets.release.history import keep_sealed
from assets.release.marts import Mart, read_marts
from assets.release.publish import Release, ReleaseError, candidate_folder, current, publish, read_release
from assets.release.verify import told, verify
from datafabriek.config import Settings
from datafabriek.ledger import Ledger
from quality.checks.release import everything_fresh, nothing_found, suites_hold
from quality.expectations import Protected, validate
from quality.norms import Audience, Chain, Norms, NormsError, load_norms
from quality.norms import audiences as ordered

GROUP = "levering"
OWNERS = ["team:datafabriek"]

Turn = dict[str, str]
"""Dagster's tag for which of the steps that are ready goes first."""

Part = tuple[list[dg.AssetsDefinition], list[dg.AssetChecksDefinition]]


def build(settings: Settings) -> Part:
    """Candidate, release and their checks for every audience."""
    marts = read_marts(settings)
    assets: list[dg.AssetsDefinition] = []
    checks: list[dg.AssetChecksDefinition] = []
    for number, audience in enumerate(served(settings)):
        # one after the other, each knowing what the one before it got: steps that are ready go by this
        turn = {"dagster/priority": str(-number)}
        assets += [_candidate(settings, audience, marts, turn), _release(settings, audience, turn)]
        checks += [*_candidate_checks(settings, audience, turn), _release_check(settings, audience, turn)]
        checks.append(_run_check(audience, turn))
    return assets, checks


def served(settings: Settings) -> tuple[Audience, ...]:
    """Who releases are made for: the audiences of every factory, and the partners whom its norms name."""
    try:
        return ordered(load_norms(settings.policy_folder).doelgroepen)
    except NormsError:  # told when something is to be released
        return ordered(())


def _key(audience: str, candidate: bool = False) -> dg.AssetKey:
    return dg.AssetKey(["levering", f"{audience}_kandidaat" if candidate else audience])


def _mart_keys(marts: list[Mart]) -> list[dg.AssetKey]:
    return [dg.AssetKey(["marts", mart.name]) for mart in marts]


def _candidate(settings: Settings, audience: Audience, marts: list[Mart], turn: Turn) -> dg.AssetsDefinition:
    @dg.asset(
        key=_key(audience, candidate=True),
        deps=_mart_keys(marts),
        op_tags=turn,
        group_name=GROUP,
        kinds={"duckdb", "parquet", "csv"},
        owners=OWNERS,
        description=f"Kandidaat voor de levering aan {audience}: beveiligd, compleet, nog niet gepubliceerd.",
        output_required=False,
    )
    def candidate() -> Iterator[dg.MaterializeResult[Any]]:
        # with an agreement that is over nothing is made, and nothing went wrong
        with suppress(AgreementError):
            yield dg.MaterializeResult(metadata=_metadata(build_candidate(settings, audience)))

    return candidate


def _release(settings: Settings, audience: Audience, turn: Turn) -> dg.AssetsDefinition:
    @dg.asset(
        key=_key(audience),
        deps=[_key(audience, candidate=True)],
        op_tags=turn,
        group_name=GROUP,
        kinds={"duckdb", "parquet", "csv"},
        owners=OWNERS,
        description=f"De levering aan {audience}: onveranderlijk, met een nummer, in één stap gepubliceerd.",
    )
    def release() -> dg.MaterializeResult[Any]:
        published, is_new = release_candidate(settings, audience)
        return dg.MaterializeResult(metadata=_metadata(published) | {"nieuwe_levering": is_new})

    return release


def release_candidate(settings: Settings, audience: Audience) -> tuple[Release, bool]:
    """Evaluate every norm again on the candidate and publish it; nothing is published on any finding.

    Returns:
        The current release, and whether it is new.

    Raises:
        ReleaseError: a norm is not met, or the candidate is not complete.
        ApprovalError: nobody who may has approved the norms as they are.
    """
    home = settings.paths
    folder = candidate_folder(home, audience)
    if not folder.is_dir():
        remedy = f"make levering/{audience}_kandidaat and levering/{audience} in one run"
        raise ReleaseError(f"no candidate waits for {audience}: the last one was published or dropped; {remedy}")
    candidate = read_release(folder)
    norms, marts = approved_norms(settings), read_marts(settings)
    require(norms, audience, today(settings))
    before = "the last release stays" if current(home, audience) else "nothing was released yet"
    if outdated := _outdated(candidate, settings, audience, norms, marts):
        raise ReleaseError(f"{candidate.id} is not published, {before}: {outdated}")
    if wrong := recheck(candidate, Ledger(home.ledger)):
        raise ReleaseError(f"{candidate.id} is not published, {before}: {'; '.join(wrong)}")
    if findings := verify(candidate, settings, audience, norms, marts):
        raise ReleaseError(f"{candidate.id} is not published, {before}: {told(findings)}")
    now = current(home, audience)
    is_protected = candidate.record["normen"] or "bewijs" in candidate.record
    if is_protected and (now is None or now.content != candidate.content):
        keep_sealed(home, candidate)
    return publish(home, Ledger(home.ledger), audience)


def _outdated(
    candidate: Release, settings: Settings, audience: Audience, norms: Norms, marts: list[Mart]
) -> str | None:
    """Why a candidate may not go out any more that could when it was made; None where nothing came between."""
    ledger, made_at = Ledger(settings.paths.ledger), int(candidate.record["logboek"][0])
    if any(event.seq > made_at for event in ledger.events("withdrawal", audience)):
        return "a release was withdrawn since it was made; make the candidate again"
    others = {event.subject for event in ledger.events("release") if event.seq > made_at}
    if others and candidate.record["normen"]:
        # whoever compares both knows more than either was judged by
        return f"{', '.join(sorted(others))} got a release since it was made; make the candidate again"
    tables = candidate.record["tabellen"]
    made = [name for name, facts in tables.items() if facts["staat"] != "ontbreekt" and "uit" not in facts]
    closed = unapproved(settings, ledger, audience, [mart for mart in marts if mart.name in made], norms)
    return "; ".join(f"{name}: {reason}" for name, reason in sorted(closed.items())) or None


def _metadata(release: Release) -> dict[str, Any]:
    """Counts only: what is hidden, and how much of it all."""
    counts = [facts["aantallen"] for facts in release.record["tabellen"].values()]
    hidden, cells = (sum(item.get(name, 0) for item in counts) for name in ("geheim", "cellen"))
    states = [facts["staat"] for facts in release.record["tabellen"].values()]
    return {
        "dagster/row_count": cells,
        "levering": release.id,
        "geheime_cellen": hidden,
        "aandeel_geheim_pct": round(100 * hidden / cells, 2) if cells else 0.0,
        "tabellen_actueel": states.count("actueel"),
        "tabellen_verouderd": states.count("verouderd"),
        "tabellen_ontbrekend": states.count("ontbreekt"),
        **{name: value for name, value in release.record.get("poort", {}).items() if value is not None},
        "dagster/column_schema": dg.TableSchema(
            columns=[
                dg.TableColumn(f"{table['naam']}.{column['naam']}", column["type"], column["omschrijving"])
                for table in release.catalogue["tabellen"]
                for column in table["kolommen"]
            ]
        ),
    }


def _candidate_checks(settings: Settings, audience: Audience, turn: Turn) -> list[dg.AssetChecksDefinition]:
    asset = _key(audience, candidate=True)

    @dg.asset_check(
        asset=asset,
        name=f"{audience}_kandidaat_haalt_alle_verwachtingen",
        blocking=True,
        op_tags=turn,
        description="Great Expectations op elke beveiligde tabel; de pagina's staan in reports/data_docs.",
    )
    def meets_expectations() -> dg.AssetCheckResult:
        candidate = read_release(candidate_folder(settings.paths, audience))
        site = settings.paths.reports / "data_docs" / audience
        return suites_hold(validate(candidate.database, promises(candidate, read_marts(settings)), site, audience))

    @dg.asset_check(
        asset=asset,
        name=f"{audience}_kandidaat_voldoet_aan_alle_normen",
        blocking=True,
        op_tags=turn,
        description="Elke norm opnieuw bekeken op het bestand zelf.",
    )
    def meets_norms() -> dg.AssetCheckResult:
        candidate = read_release(candidate_folder(settings.paths, audience))
        norms = load_norms(settings.policy_folder)
        findings = verify(candidate, settings, audience, norms, read_marts(settings))
        return nothing_found(len(findings), told(findings))

    @dg.asset_check(
        asset=asset,
        name=f"{audience}_kandidaat_is_geheel_vernieuwd",
        op_tags=turn,
        description="Geen tabel is overgenomen uit een eerdere levering, en geen ontbreekt.",
    )
    def is_fresh() -> dg.AssetCheckResult:
        tables = read_release(candidate_folder(settings.paths, audience)).record["tabellen"]
        stale = [
            f"{name} {facts['staat']} ({facts.get('reden', '')})"
            for name, facts in tables.items()
            if facts["staat"] != "actueel"
        ]
        return everything_fresh(stale)

    return [meets_expectations, meets_norms, is_fresh]


def promises(candidate: Release, marts: list[Mart]) -> tuple[Protected, ...]:
    """What readers of each table of a candidate may count on, from its spec and the norms in force."""
    audience, found = candidate.audience, []
    specs = {mart.name: mart.disclosure or {} for mart in marts}
    for name, facts in candidate.record["tabellen"].items():
        spec = specs.get(name)
        if facts["staat"] == "ontbreekt" or spec is None:
            continue
        key = (spec.get("geo", "regio_code"), *spec["by"], *spec.get("total_of", {})) if spec.get("by") else ()
        labels = candidate.record["normen"].get(name, {})
        last = [Chain.parse(label).steps(audience)[-1][1] for label in labels]
        # of amounts the count that they are of may be small where it is hidden, and they are not rounded
        last = [] if spec.get("bedrag") else last
        least = min((step.minimum for step in last), default=None)
        base = math.gcd(*(step.afronding for step in last)) if last else 1
        found.append(Protected(name, tuple(dict.fromkeys(key)), least, base))
    return tuple(found)


def _release_check(settings: Settings, audience: Audience, turn: Turn) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=_key(audience),
        name=f"{audience}_wijst_naar_de_laatste_levering",
        op_tags=turn,
        description="De link, de map en het logboek noemen dezelfde levering, en elk bestand is als vermeld.",
    )
    def points_at_the_last() -> dg.AssetCheckResult:
        noted = Ledger(settings.paths.ledger).last("publication", audience)
        release = current(settings.paths, audience)
        same = noted is not None and release is not None and noted.payload["release"] == release.id
        return nothing_found(0 if same else 1, "" if same else "link en logboek noemen verschillende leveringen")

    return points_at_the_last


def _run_check(audience: Audience, turn: Turn) -> dg.AssetChecksDefinition:
    """What failed on the way stops only what rests on it; here the run ends as failed all the same."""

    @dg.asset_check(
        asset=_key(audience),
        name=f"{audience}_komt_uit_een_run_zonder_fouten",
        op_tags=turn,
        description="Op weg naar deze levering is niets misgegaan; anders is geleverd wat wel goed was.",
        blocking=True,
    )
    def came_without_errors(context) -> dg.AssetCheckResult:  # type: ignore[no-untyped-def]  # Dagster reads the class
        judged = context.instance.all_logs(context.run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
        found = [entry.dagster_event.asset_check_evaluation_data for entry in judged if entry.dagster_event]
        wrong = sorted(
            f"{'.'.join(item.asset_key.path)}: {item.check_name}"
            for item in found
            if not item.passed and item.severity == dg.AssetCheckSeverity.ERROR and item.asset_key.path[0] != GROUP
        )
        return nothing_found(len(wrong), "; ".join(wrong))

    return came_without_errors
