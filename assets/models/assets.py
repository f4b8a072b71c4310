"""The Dagster assets of the dbt models: one multi-asset, so that a run starts dbt once.

The specs are made from dbt's manifest here, and not by dagster_dbt: importing that costs all of dbt on every load of
the definitions, and it runs dbt as a child process (docs/adr/001). Keys, lineage, checks and subsets are the same.

Nothing here blocks the run: dbt itself stops what rests on a source that is not there, a model that cannot be made or
one that a test refutes, and the release refuses such marts (`runner.last_results`). So one wrong table does not keep
the others from being released. A mart that never was made well is an ERROR; the run then ends as failed, after the
release (assets/release).
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
import duckdb

from assets.models import runner
from assets.models.runner import NodeResult
from datafabriek.config import Settings
from datafabriek.warehouse import literal, quoted, warehouse

GROUP = "modellen"
OWNERS = ["team:datafabriek"]
TABLES = ("model", "seed")

Node = Mapping[str, Any]


def build(settings: Settings) -> tuple[list[dg.AssetsDefinition], list[dg.AssetChecksDefinition]]:
    """All models of this factory as one asset definition, with their tests as checks.

    Raises:
        ModelError: the models cannot be parsed.
    """
    known = runner.manifest(settings)
    tables = {_key(node): node for node in known["nodes"].values() if node["resource_type"] in TABLES}
    tests = {_check_key(known, node): node for node in known["nodes"].values() if node["resource_type"] == "test"}
    tests.pop(None, None)

    @dg.multi_asset(
        name=GROUP,
        specs=[_spec(known, node) for node in tables.values()],
        check_specs=[
            *(_test_spec(key, node) for key, node in tests.items() if key),
            *(_renewal_spec(node) for node in tables.values() if _is_mart(node)),
        ],
        can_subset=True,
        description="Alle modellen en hun toetsen, door dbt in volgorde van afhankelijkheid gemaakt.",
    )
    def modellen(context: dg.AssetExecutionContext) -> Iterator[Any]:
        select = [tables[key]["name"] for key in context.selected_asset_keys if key in tables]
        select += [tests[key]["name"] for key in context.selected_asset_check_keys if key in tests]
        if not select:
            return
        is_all = len(select) == len(tables) + len(tests)
        results = runner.build(settings, None if is_all else sorted(select))
        shown = {*context.selected_asset_keys, *context.selected_asset_check_keys}
        yield from (item for item in report(settings, known, results) if _subject(item) in shown)

    return [modellen], []


def report(
    settings: Settings, known: Node, results: Mapping[str, NodeResult]
) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
    """Materialisations and check results of a build, in dbt's order.

    A mart that could not be renewed or was found wrong keeps its last good version in the release: it says since
    when, in its metadata and in a failing warning. One that never was made well says so in a failing ERROR. Each mart
    is told of in any case: the release rests on all of them, and would be skipped.
    """
    nodes = known["nodes"]
    wrong = runner.refuted(known, results)
    shapes = table_shapes(settings, [nodes[unique_id] for unique_id in results])
    for unique_id, result in results.items():
        node = nodes[unique_id]
        if node["resource_type"] == "test":
            key = _check_key(known, node)
            if key is not None and result.status != "skipped":
                yield _judgement(key, node, result)
            continue
        metadata: dict[str, Any] = {"uitvoertijd_s": result.execution_time} | shapes.get(unique_id, {})
        renewed = result.is_good and unique_id not in wrong
        if _is_mart(node) and not renewed:
            metadata |= {
                "verouderd_sinds": result.good_at or "nooit goed geweest",
                "reden": _reason(known, results, result, wrong),
            }
        if result.is_good or _is_mart(node):
            yield dg.MaterializeResult(asset_key=_key(node), metadata=metadata)
        if _is_mart(node):
            yield dg.AssetCheckResult(
                asset_key=_key(node),
                check_name=_renewal_name(node),
                passed=renewed,
                severity=dg.AssetCheckSeverity.ERROR if result.good_at is None else dg.AssetCheckSeverity.WARN,
                description=None if renewed else metadata["reden"],
                metadata={} if renewed else {"reden": metadata["reden"]},
            )


def table_shapes(settings: Settings, nodes: Iterable[Node]) -> dict[str, dict[str, Any]]:
    """Row count and columns of the tables and views of these nodes that can be read; by unique id."""
    by_table = {(node["schema"], node["alias"]): node for node in nodes if node["resource_type"] in TABLES}
    if not by_table or not settings.paths.warehouse.exists():
        return {}
    columns: dict[tuple[str, str], list[dg.TableColumn]] = {}
    with warehouse(settings.paths, settings.resources) as connection:
        schemas = ", ".join(sorted({literal(schema) for schema, _ in by_table}))
        query = f"""
            SELECT schema_name, table_name, column_name, data_type, comment FROM duckdb_columns()
            WHERE database_name = current_database() AND schema_name IN ({schemas})
            ORDER BY schema_name, table_name, column_index"""
        for schema, table, name, kind, comment in connection.execute(query).fetchall():
            columns.setdefault((schema, table), []).append(dg.TableColumn(name, kind, comment))
        rows = _row_counts(connection, [name for name in by_table if name in columns])
    return {
        by_table[name]["unique_id"]: {
            "dagster/row_count": count,
            "dagster/column_schema": dg.TableSchema(columns[name]),
        }
        for name, count in rows.items()
    }


def _row_counts(connection: duckdb.DuckDBPyConnection, names: Sequence[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """Rows per table or view, in one query; a view that cannot be read is left out, and its error text with it."""
    if not names:
        return {}
    counts = [
        f"SELECT {position} AS position, count(*) FROM {quoted(schema)}.{quoted(table)}"
        for position, (schema, table) in enumerate(names)
    ]
    try:
        rows = connection.execute(" UNION ALL ".join(counts)).fetchall()
    except duckdb.Error:
        return {} if len(names) == 1 else {k: v for name in names for k, v in _row_counts(connection, [name]).items()}
    return {names[position]: int(count) for position, count in rows}


def _reason(known: Node, results: Mapping[str, NodeResult], result: NodeResult, wrong: Mapping[str, list[str]]) -> str:
    if result.unique_id in wrong:
        return f"toets niet gehaald: {', '.join(sorted(wrong[result.unique_id]))}"
    if result.status != "skipped":
        return f"niet vernieuwd: {result.message}"
    causes = []
    for unique_id in runner.ancestors(known, result.unique_id) & results.keys():
        node, cause = known["nodes"][unique_id], results[unique_id]
        if unique_id in wrong:
            causes.append(f"{node['name']} haalt {', '.join(sorted(wrong[unique_id]))} niet")
        elif cause.status == "error":
            causes.append(_absent(known, node, cause.message) or f"{node['name']}: {cause.message}")
    return f"niet vernieuwd, om wat eronder ligt: {'; '.join(sorted(set(causes))) or 'een toets'}"


def _absent(known: Node, node: Node, message: str) -> str | None:
    """Which source of a model was never taken in, where that is why it could not be made."""
    told = re.search(r'Table with name "?(?:\w+\.)?(\w+)"? does not exist', message)
    for source in (known["sources"].get(parent) for parent in node["depends_on"].get("nodes", [])):
        if told and source and source["name"] == told[1]:
            return f"{source['schema']}.{source['name']} is er niet"
    return None


def _spec(known: Node, node: Node) -> dg.AssetSpec:
    nodes, sources = known["nodes"], known["sources"]
    parents = [
        _key(nodes[parent]) if parent in nodes else dg.AssetKey([sources[parent]["schema"], sources[parent]["name"]])
        for parent in node["depends_on"].get("nodes", [])
        if parent in nodes or parent in sources
    ]
    meta = node["config"].get("meta") or {}
    return dg.AssetSpec(
        key=_key(node),
        deps=list(dict.fromkeys(parents)),
        description=node["description"],
        group_name=GROUP,
        kinds={"dbt", "duckdb", "seed" if node["resource_type"] == "seed" else node["config"]["materialized"]},
        owners=OWNERS,
        code_version=node["checksum"]["checksum"],
        skippable=True,
        metadata={"bestand": node["original_file_path"]} | {k: meta[k] for k in ("thema", "eigenaar") if k in meta},
    )


def _test_spec(key: dg.AssetCheckKey, test: Node) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        name=key.name, asset=key.asset_key, description=test.get("description") or _sentence(test["name"])
    )


def _renewal_spec(node: Node) -> dg.AssetCheckSpec:
    told = "De tabel is in deze run vernieuwd en goed bevonden; anders blijft de laatste goede versie staan."
    return dg.AssetCheckSpec(name=_renewal_name(node), asset=_key(node), description=told)


def _renewal_name(node: Node) -> str:
    return f"{node['name']}_is_vernieuwd"


def _judgement(key: dg.AssetCheckKey, test: Node, result: NodeResult) -> dg.AssetCheckResult:
    metadata: dict[str, Any] = {"aantal_gevonden": result.failures} if result.failures is not None else {}
    if result.message:
        metadata["melding"] = result.message
    blocks = runner.is_blocking(test) and result.status != "warn"
    return dg.AssetCheckResult(
        asset_key=key.asset_key,
        check_name=key.name,
        passed=result.status == "pass",
        severity=dg.AssetCheckSeverity.ERROR if blocks else dg.AssetCheckSeverity.WARN,
        metadata=metadata,
    )


def _subject(item: dg.MaterializeResult[Any] | dg.AssetCheckResult) -> dg.AssetKey | dg.AssetCheckKey | None:
    if isinstance(item, dg.AssetCheckResult) and item.asset_key is not None and item.check_name is not None:
        return dg.AssetCheckKey(item.asset_key, item.check_name)
    return item.asset_key


def _check_key(known: Node, test: Node) -> dg.AssetCheckKey | None:
    judged = runner.attached_to(known, test)
    return dg.AssetCheckKey(_key(known["nodes"][judged]), test["name"]) if judged else None


def _key(node: Node) -> dg.AssetKey:
    return dg.AssetKey([node["schema"], node["name"]])


def _is_mart(node: Node) -> bool:
    return bool(node["resource_type"] == "model" and node["schema"] == "marts")


def _sentence(name: str) -> str:
    return name.replace("_", " ").capitalize() + "."
