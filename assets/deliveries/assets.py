"""The assets of the deliveries that factory.yaml names: thin shells around intake and purposes.

Per delivery one asset for what the vault holds (`vault/<delivery>`) and one per purpose (`raw_<purpose>/<delivery>`),
one per table of a registered linkage (`koppeling_<naam>/<purpose>__<delivery>`), and one that says what came in and
what is missing (`raw_leveringen/stand`). Metadata holds counts, never values.

A delivery that cannot be used stops no step, for all models are one: its table stays as it was, marked stale, or is
not there, and the models that rest on it fail by themselves (assets/models). An ERROR check tells.
"""

# no `from __future__ import annotations` here: Dagster looks at the classes that annotate the result

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.deliveries.delivered import DeliveryError
from assets.deliveries.derived import STATE_SCHEMA
from assets.deliveries.inbox import passed_over
from assets.deliveries.intake import Outcome, contract_of, standing, take_inbox, write_standing
from assets.deliveries.linking import link
from assets.deliveries.purposes import derive, references
from assets.deliveries.register import RECEIVED, REFUSED, masked
from assets.deliveries.retention import expire, overdue
from datafabriek.config import Settings
from datafabriek.ledger import Ledger
from datafabriek.warehouse import quoted, warehouse
from quality.checks import deliveries as checks
from quality.contracts.model import Contract, ContractError, Purpose
from quality.privacy.approvals import ApprovalError
from quality.privacy.keys import ensure_key
from quality.privacy.linkages import RAW, Linkage, LinkedTable, registered
from quality.privacy.policy import PolicyError, purposes

GROUP = "aanvoer_leveringen"
KINDS = {"python", "duckdb"}
OWNERS = ["team:datafabriek"]

RETENTION = dg.AssetKey([STATE_SCHEMA, "bewaring"])

if TYPE_CHECKING:
    Result = dg.MaterializeResult[Any]
else:
    Result = dg.MaterializeResult  # Dagster knows its results by the bare class


def build(settings: Settings) -> tuple[list[dg.AssetsDefinition], list[dg.AssetChecksDefinition]]:
    """All assets and checks of the factory's deliveries; none where factory.yaml names none.

    Raises:
        ContractError: a delivery has no contract, or one that is not in order.
    """
    if not settings.deliveries:
        return [], []
    contracts = {name: contract_of(settings, name) for name in settings.deliveries}
    _refuse_circles(contracts)
    places = list(references(settings))
    assets = [_retention(settings)]
    assets += [_vault(settings, name, contract, places) for name, contract in contracts.items()]
    tables = [
        (name, contract, purpose)
        for name, contract in contracts.items()
        for purpose in purposes(settings, contract, name)
    ]
    assets += [_raw(settings, name, contract, purpose, places) for name, contract, purpose in tables]
    in_force = [linkage for linkage in registered(settings) if linkage.in_force()]
    assets += [_linked(settings, linkage, table) for linkage in in_force for table in linkage.tables]
    assets.append(_standing(settings, list(contracts)))
    return assets, [checks.no_identifiers(settings, name, contract, purpose) for name, contract, purpose in tables]


def _refuse_circles(contracts: Mapping[str, Contract]) -> None:
    """Hold relations to an order in which deliveries can be taken in.

    Raises:
        ContractError: two deliveries refer to each other, directly or through others.
    """
    referred = {name: {each.delivery for each in contract.relations} for name, contract in contracts.items()}
    try:
        TopologicalSorter(referred).prepare()
    except CycleError as error:
        told = " → ".join(error.args[1])
        raise ContractError(f"relationships go round ({told}): leave one out, so that one comes first") from None


def _retention(settings: Settings) -> dg.AssetsDefinition:
    within = dg.AssetCheckSpec(
        "bewaring_houdt_de_termijnen_aan",
        asset=RETENTION,
        blocking=True,
        description="Wat over zijn bewaartermijn is, staat niet meer in kluis of warehouse.",
    )

    @dg.asset(
        key=RETENTION,
        group_name=GROUP,
        kinds=KINDS,
        owners=OWNERS,
        description="Wat is verwijderd omdat de termijn voorbij is of niemand er nog om vraagt; alleen aantallen.",
        metadata={"dagster/table_name": f"{STATE_SCHEMA}.bewaring"},
        check_specs=[within],
    )
    @masked("retention")
    def bewaring() -> Result:
        key = ensure_key(settings.paths)
        removed = expire(settings, key)
        rows = sum(one.rows for one in removed)
        listed = "\n".join(f"- {one.place} {one.delivery_id}: {one.rows}, {one.reason}" for one in removed)
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": rows,
                "verwijderd": len(removed),
                **({"wat": dg.MetadataValue.md(listed)} if removed else {}),
            },
            check_results=[dg.AssetCheckResult(check_name=within.name, passed=not overdue(settings, key))],
        )

    return bewaring


def _vault(settings: Settings, name: str, contract: Contract, places: Sequence[str]) -> dg.AssetsDefinition:
    key = dg.AssetKey(["vault", name])
    referred = {each.delivery for each in contract.relations} & set(settings.deliveries)
    upstream = [dg.AssetKey(["vault", one]) for one in sorted({*(places if contract.address else ()), *referred})]
    balanced = dg.AssetCheckSpec(
        f"{name}_geleverd_is_aangenomen_plus_geweigerd",
        asset=key,
        description="Geen regel raakt stil kwijt: geleverd = geaccepteerd + geweigerd, in elke levering.",
    )
    accepted = dg.AssetCheckSpec(
        f"{name}_voldoet_aan_contract",
        asset=key,
        description="De laatste levering is aangenomen; anders blijft de laatste goede staan.",
    )

    @dg.asset(
        key=key,
        deps=[dg.AssetKey(["inbox", name]), RETENTION, *upstream],
        group_name=GROUP,
        kinds={*KINDS, "kluis"},  # the graph shows but the last part of a key: bus, bus, bus,
        owners=OWNERS,
        description=f"{contract.title}: in de kluis aangenomen leveringen. {contract.description}",
        metadata={
            "leverancier": contract.supplier,
            "contract": f"{contract.name} {contract.version}",
            "dagster/column_schema": dg.TableSchema(
                [
                    dg.TableColumn(c.name, c.sql_type, c.description, tags={"klasse": c.privacy})
                    for c in contract.columns
                ]
            ),
        },
        check_specs=[balanced, accepted],
    )
    @masked(f"vault.{name}")
    def vault_asset() -> Result:
        key, forbidden = ensure_key(settings.paths), ""
        outcomes: list[Outcome] = []
        try:
            outcomes = take_inbox(settings, name)
        except PolicyError as error:
            forbidden = str(error)
        stand = standing(settings, key, name)
        refused = [outcome for outcome in outcomes if outcome.status == REFUSED]
        unusable = forbidden or why_unusable(settings, name, stand)
        totals = {part: sum(row[part] or 0 for row in stand) for part in ("geleverd", "geaccepteerd", "geweigerd")}
        metadata = {
            "dagster/row_count": totals["geaccepteerd"],
            **totals,
            "perioden": sum(row["levering_id"] is not None for row in stand),
            "nieuwe_bestanden": len(outcomes),
            **_left_in_inbox(settings, name),
            **({"bevindingen": dg.MetadataValue.md(_table(outcomes))} if outcomes else {}),
            **_staleness(refused, stand),
        }
        stale = [row for row in stand if row["status"] == "verouderd"]
        return dg.MaterializeResult(
            metadata=metadata,
            check_results=[
                dg.AssetCheckResult(check_name=balanced.name, passed=is_balanced(stand), metadata=totals),
                dg.AssetCheckResult(
                    check_name=accepted.name,
                    passed=not refused and not stale and not unusable,
                    severity=dg.AssetCheckSeverity.ERROR if unusable else dg.AssetCheckSeverity.WARN,
                    description=unusable,
                    metadata={"geweigerde_bestanden": len(refused), "verouderde_perioden": len(stale)},
                ),
            ],
        )

    return vault_asset


def is_balanced(stand: Sequence[Mapping[str, Any]]) -> bool:
    """Whether no row was lost: delivered is accepted plus refused, in every delivery."""
    return all(row["geleverd"] == row["geaccepteerd"] + row["geweigerd"] for row in stand if row["levering_id"])


def why_unusable(settings: Settings, name: str, stand: Sequence[Mapping[str, Any]]) -> str | None:
    """Why no model may rest on a delivery; None where one was ever accepted, or none has come yet."""
    if not is_balanced(stand):
        return f"{name}: rows were lost on their way into the vault: report this, and deliver the file again"
    judged = {event.payload.get("status") for event in Ledger(settings.paths.ledger).events("delivery", name)}
    if REFUSED in judged and RECEIVED not in judged:
        return f"{name}: every delivery so far was refused: see its report, and deliver a better one"
    return None


def _refuse_unusable(settings: Settings, name: str, stand: Sequence[Mapping[str, Any]]) -> None:
    if unusable := why_unusable(settings, name, stand):
        raise PolicyError(unusable)


_LEFT = {"folders": ("map", "mappen"), "hidden": ("verborgen bestand", "verborgen bestanden"),
         "unfinished": ("onaf bestand", "onaffe bestanden")}  # fmt: skip


def _left_in_inbox(settings: Settings, name: str) -> dict[str, str]:
    """What lies in the inbox of a delivery and is not taken in, in numbers: names may tell of persons."""
    left = passed_over(settings.paths.inbox / name)
    told = ", ".join(f"{count} {_LEFT[kind][count > 1]}" for kind, count in left.items())
    return {"blijft_in_de_inbox": told} if told else {}


def _staleness(refused: Sequence[Outcome], stand: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What Dagster shows of a delivery that was refused while an earlier one stays in use."""
    if not refused and not any(row["status"] == "verouderd" for row in stand):
        return {}
    used = [row["ontvangen_op"] for row in stand if row["ontvangen_op"] is not None]
    told = {"verouderd_sinds": max(used).isoformat(timespec="seconds")} if used else {}
    if refused:
        told["reden"] = dg.MetadataValue.md("\n".join(f"- {outcome.reason}" for outcome in refused))
    return told


def _table(outcomes: Sequence[Outcome]) -> str:
    """Findings of the new files as a table: counts only."""
    lines = ["| periode | kolom | regel | ernst | aantal |", "|---|---|---|---|---|"]
    for outcome in outcomes:
        lines += [
            f"| {outcome.period or '?'} | {found['column'] or '(regel)'} | {found['told']} | {found['severity']} "
            f"| {found['count']} |"
            for found in outcome.findings
        ]
    return "\n".join(lines)


def _raw(
    settings: Settings, name: str, contract: Contract, purpose: Purpose, places: Sequence[str]
) -> dg.AssetsDefinition:
    schema = f"raw_{purpose.name}"
    key = dg.AssetKey([schema, name])
    shape = dg.AssetCheckSpec(
        f"{schema}_{name}_voldoet_aan_schema",
        asset=key,
        description="Kolommen, typen en codes zijn zoals het contract voor dit doel zegt (pandera).",
    )
    renewed = dg.AssetCheckSpec(
        f"{schema}_{name}_is_actueel",
        asset=key,
        description="De tabel kon worden gemaakt; anders blijft de laatste goede versie staan.",
    )
    columns = [dg.TableColumn(c.name, c.sql_type, c.description) for c in purpose.columns]
    columns += [
        dg.TableColumn("levering", "VARCHAR", "Levering waarin de regel binnenkwam."),
        dg.TableColumn("herkomst", "VARCHAR", "gemeten of synthetisch (voorbeeld)."),
    ]
    upstream = {name, *places} if contract.address else {name}

    @dg.asset(
        key=key,
        deps=[dg.AssetKey(["vault", one]) for one in sorted(upstream)] + _needs(settings, purpose),
        group_name=GROUP,
        kinds={*KINDS, purpose.name},
        owners=OWNERS,
        description=f"{contract.title}, voor het doel {purpose.name}. {purpose.description}",
        metadata={"dagster/table_name": f"{schema}.{name}", "dagster/column_schema": dg.TableSchema(columns)},
        check_specs=[shape, renewed],
    )
    @masked(f"{schema}.{name}")
    def raw_asset() -> Result:
        # a table that breaks its schema is never committed: derive raises, and the last good version stays
        secret = ensure_key(settings.paths)
        try:
            _refuse_unusable(settings, name, standing(settings, secret, name))
            made = derive(settings, secret, name, purpose.name)
        except (DeliveryError, PolicyError) as error:
            return _not_renewed(settings, f"{schema}.{name}", error, shape.name, renewed.name)
        ledger = Ledger(settings.paths.ledger)
        if since(ledger, f"{schema}.{name}"):
            ledger.append("renewal", f"{schema}.{name}", {"rijen": made.rows})
        counts = {"buurt_onbekend": made.unknown_buurt, "kleinste_groep": made.smallest_group}
        counts |= {"niet_nodig": made.left_out, "vervallen": made.lapsed or None}
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": made.rows,
                "vernieuwd": made.renewed,
                **{told: count for told, count in counts.items() if count is not None},
            },
            check_results=[
                dg.AssetCheckResult(check_name=shape.name, passed=True, metadata={"rijen": made.rows}),
                dg.AssetCheckResult(check_name=renewed.name, passed=True),
            ],
        )

    return raw_asset


def _needs(settings: Settings, purpose: Purpose) -> list[dg.AssetKey]:
    """The purpose's other table by which its persons are known, where this factory makes it."""
    other = purpose.needed.delivery if purpose.needed else None
    if other not in settings.deliveries:
        return []
    made = {each.name for each in purposes(settings, contract_of(settings, other), other)}
    return [dg.AssetKey([f"raw_{purpose.name}", other])] if purpose.name in made else []


def _linked(settings: Settings, linkage: Linkage, table: LinkedTable) -> dg.AssetsDefinition:
    key = dg.AssetKey([table.schema, table.name])
    where = f"{table.schema}.{table.name}"
    there = dg.AssetCheckSpec(f"{table.schema}_{table.name}_is_er", asset=key, description="De tabel is er.")
    renewed = dg.AssetCheckSpec(
        f"{table.schema}_{table.name}_is_actueel", asset=key, description="De tabel kon worden gemaakt."
    )
    lasting = dg.AssetCheckSpec(
        f"{table.schema}_{table.name}_geldt_nog_even",
        asset=key,
        description=f"De koppeling geldt nog {ENDS_SOON.days} dagen of meer; daarna wordt de tabel verwijderd.",
    )

    @dg.asset(
        key=key,
        deps=[dg.AssetKey([f"{RAW}{table.purpose}", table.delivery])],
        group_name=GROUP,
        kinds={*KINDS, linkage.naam},
        owners=OWNERS,
        description=f"Koppeling {linkage.naam} ({linkage.van} tot {linkage.tot}): {linkage.omschrijving}",
        metadata={"dagster/table_name": where, "grondslag": linkage.grondslag, "dpia": linkage.dpia},
        check_specs=[there, renewed, lasting],
    )
    def linked_asset() -> Iterator[Any]:
        left = linkage.tot - datetime.now(UTC).date()
        warning = dg.AssetCheckResult(
            check_name=lasting.name,
            passed=left >= ENDS_SOON,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={"laatste_dag": linkage.tot.isoformat()},
        )
        try:
            made = link(settings, ensure_key(settings.paths), table)
        except (DeliveryError, PolicyError) as error:
            yield _not_renewed(settings, where, error, there.name, renewed.name)
        else:
            if since(ledger := Ledger(settings.paths.ledger), where):
                ledger.append("renewal", where, {"rijen": made.rows})
            counts = {} if made.smallest_group is None else {"kleinste_groep": made.smallest_group}
            yield dg.MaterializeResult(
                metadata={"dagster/row_count": made.rows, "vernieuwd": made.renewed, **counts},
                check_results=[dg.AssetCheckResult(check_name=spec.name, passed=True) for spec in (there, renewed)],
            )
        yield warning

    return linked_asset


ENDS_SOON = timedelta(days=30)
"""So long before a linkage ends a warning tells: models that rest on it then stop the build."""


def _not_renewed(settings: Settings, table: str, error: Exception, shape: str, renewed: str) -> Result:
    """What a purpose's table comes to when it cannot be made: the last good version, or none.

    What policy does not allow is no version to go on with: that table is dropped. What nobody approved as it is now
    changes nothing: the table was made under what was approved before.
    """
    schema, name = table.split(".")
    with warehouse(settings.paths, settings.resources) as con:
        if isinstance(error, PolicyError) and not isinstance(error, ApprovalError):
            con.execute(f"DROP TABLE IF EXISTS {quoted(schema)}.{quoted(name)}")
        known = con.execute(
            "SELECT estimated_size FROM duckdb_tables() WHERE schema_name = ? AND table_name = ?", [schema, name]
        ).fetchone()
    rows = int(known[0]) if known else 0
    ledger = Ledger(settings.paths.ledger)
    begun = since(ledger, table) or datetime.now(UTC).isoformat(timespec="milliseconds")
    ledger.append("stale", table, {"sinds": begun, "reason": str(error), "rijen": rows if known else None})
    return dg.MaterializeResult(
        metadata={"dagster/row_count": rows, "verouderd_sinds": begun, "reden": str(error)},
        check_results=[
            dg.AssetCheckResult(check_name=shape, passed=known is not None, metadata={"rijen": rows}),
            dg.AssetCheckResult(
                check_name=renewed,
                passed=False,
                severity=dg.AssetCheckSeverity.WARN if known else dg.AssetCheckSeverity.ERROR,
                description=str(error),
            ),
        ],
    )


def since(ledger: Ledger, table: str) -> str | None:
    """When making a purpose's table first failed after it last succeeded (UTC, ISO 8601); None if it is up to date."""
    good = ledger.last("renewal", table)
    late = [event.at for event in ledger.events("stale", table) if good is None or event.seq > good.seq]
    return late[0] if late else None


def _standing(settings: Settings, names: Sequence[str]) -> dg.AssetsDefinition:
    key = dg.AssetKey([STATE_SCHEMA, "stand"])
    complete = dg.AssetCheckSpec(
        "stand_heeft_alle_verwachte_perioden",
        asset=key,
        description="Elke verwachte periode waarvan de termijn voorbij is, is geleverd; een ontbrekende is geen nul.",
    )

    @dg.asset(
        key=key,
        deps=[dg.AssetKey(["vault", name]) for name in names],
        group_name=GROUP,
        kinds=KINDS,
        owners=OWNERS,
        description="Welke leveringen er zijn, welke ontbreken en welke verouderd zijn; alleen aantallen.",
        metadata={"dagster/table_name": f"{STATE_SCHEMA}.stand"},
        check_specs=[complete],
    )
    @masked(f"{STATE_SCHEMA}.stand")
    def stand() -> Result:
        rows = write_standing(settings, ensure_key(settings.paths))
        missing = [f"{row['levering']} {row['periode']}" for row in rows if row["status"] == "ontbreekt"]
        return dg.MaterializeResult(
            metadata={"dagster/row_count": len(rows), "ontbreekt": len(missing)},
            check_results=[
                dg.AssetCheckResult(
                    check_name=complete.name,
                    passed=not missing,
                    severity=dg.AssetCheckSeverity.WARN,
                    metadata={"ontbreekt": ", ".join(missing) or "geen"},
                )
            ],
        )

    return stand
