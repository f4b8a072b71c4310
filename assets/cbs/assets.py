"""The raw_cbs assets: thin shells around the builders of this package, one asset per table.

Every asset lands what it needs, builds its table and says how that went; when CBS withholds something, the last good
version stays, the ledger and the metadata say since when, and a check warns. Asset key = schema + table.
"""

# no `from __future__ import annotations` here: Dagster looks at the classes that annotate `context` and the result

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import duckdb
from pandera.polars import DataFrameSchema

from assets.cbs import incomes, kerncijfers, mergers, population, regions, statline
from assets.cbs.client import CbsClient, Landed, previous, regions_filter
from assets.cbs.errors import CbsError
from assets.cbs.intake import Build, Renewal, Taken, Wanted, renew, take
from assets.cbs.model import TableMeta
from assets.cbs.raw import SCHEMA, origin
from assets.cbs.resources import CbsSource
from datafabriek.config import CbsTable, Settings
from datafabriek.warehouse import warehouse
from quality.checks import cbs as checks
from quality.schemas.cbs import SCHEMAS, duckdb_types

GROUP = "aanvoer_cbs"
KINDS = {"python", "duckdb"}
OWNERS = ["team:datafabriek"]
YEARLY = ["cbs", "kerncijfers_per_jaar"]
"""Key of the partitioned asset that lands one year; its files are what the kerncijfers are built from."""

if TYPE_CHECKING:
    Result = dg.MaterializeResult[Any]
else:
    Result = dg.MaterializeResult  # Dagster knows its results by the bare class

Part = tuple[list[dg.AssetsDefinition], list[dg.AssetChecksDefinition]]


def build(settings: Settings) -> Part:
    """All raw_cbs assets and checks of a factory."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # backfill_policy: nothing a user could do about it
        yearly = _yearly(settings)
    assets = [
        yearly,
        _landed(settings, "kerncijfers_wijken_en_buurten", _years(settings), kerncijfers.build, after=[YEARLY]),
        _coverage(settings),
        _landed(settings, "bevolking_per_regio", {0: _population(settings)}, _one(population.build)),
        _regions(settings),
        _mergers(settings),
        _landed(settings, "zzp_inkomen", {0: _zzp(settings)}, _one(incomes.build_zzp)),
        _landed(settings, "bijstand_wijken_buurten", _benefits(settings), _all(incomes.build_benefits)),
        *(_extra(settings, table) for table in settings.cbs.tables),
    ]
    return assets, [
        _year_has_landed(settings),
        *checks.build(settings, list(SCHEMAS)),
        *(_extra_check(settings, table) for table in settings.cbs.tables),
    ]


# --- what is wanted of CBS ---------------------------------------------------------------------------------------


def _own(settings: Settings) -> Callable[[TableMeta], str | None]:
    return lambda meta: regions_filter(meta, settings.region.gemeenten, settings.region.provincie)


def _yearly_table(settings: Settings, year: int, known: Mapping[int, str], title: str) -> Wanted:
    """A table that CBS makes anew every year, on the factory's regions."""

    def find(client: CbsClient) -> str:
        return known.get(year) or kerncijfers.find_by_title(f"{title} {year}", client.catalogue())

    return Wanted(find, _own(settings), lambda meta: kerncijfers.check_title(meta, title, year))


def _years(settings: Settings) -> dict[int, Wanted]:
    known, title = kerncijfers.TABLES, kerncijfers.TITLE
    return {year: _yearly_table(settings, year, known, title) for year in settings.cbs.kwb_years}


def _benefits(settings: Settings) -> dict[int, Wanted]:
    known, title = incomes.BENEFIT_TABLES, incomes.BENEFIT_TITLE
    return {year: _yearly_table(settings, year, known, title) for year in settings.cbs.kwb_years}


def _population(settings: Settings) -> Wanted:
    region, since = settings.region, min(settings.cbs.kwb_years)
    return Wanted(
        lambda client: population.TABLE,
        lambda meta: population.choose(meta, region.gemeenten, region.provincie, since),
    )


def _zzp(settings: Settings) -> Wanted:
    region = settings.region
    return Wanted(
        lambda client: incomes.ZZP_TABLE, lambda meta: incomes.choose_zzp(meta, region.gemeenten, region.provincie)
    )


def _one(builder: Callable[[duckdb.DuckDBPyConnection, Landed], int]) -> Build:
    return lambda connection, landed: builder(connection, next(iter(landed.values())))


def _all(builder: Callable[[duckdb.DuckDBPyConnection, Iterable[Landed]], int]) -> Build:
    return lambda connection, landed: builder(connection, landed.values())


# --- assets --------------------------------------------------------------------------------------------------------


Compute = Callable[..., Result]


def _declare(
    table: str, *, after: Sequence[Sequence[str]] = (), facts: Sequence[dg.AssetCheckSpec] = (), description: str = ""
) -> Callable[[Compute], dg.AssetsDefinition]:
    """What every raw_cbs asset is declared with; the columns of an extra table are known once it has landed."""
    schema = SCHEMAS.get(table)
    columns = {"dagster/column_schema": _columns(schema)} if schema else {}
    return dg.asset(
        key=[SCHEMA, table],
        deps=[dg.AssetKey(key) for key in after],
        group_name=GROUP,
        kinds=KINDS,
        owners=OWNERS,
        description=description or (schema.description if schema else None),
        metadata={"dagster/table_name": f"{SCHEMA}.{table}", **columns},
        check_specs=facts,
    )


def _columns(schema: DataFrameSchema) -> dg.TableSchema:
    return dg.TableSchema(
        [
            dg.TableColumn(
                name,
                kind,
                schema.columns[name].description,
                constraints=dg.TableColumnConstraints(nullable=schema.columns[name].nullable),
            )
            for name, kind in duckdb_types(schema).items()
        ]
    )


def _up_to_date(table: str) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        f"{table}_is_actueel",
        asset=[SCHEMA, table],
        description="De laatste keer ophalen is gelukt; anders blijft de laatste goede versie staan.",
    )


def _told(renewal: Renewal, *more: dg.AssetCheckResult, **metadata: Any) -> Result:
    """What Dagster shows of a renewal: rows, sources, since when it is stale and why.

    A table that the warehouse lacks stops no step: the models that rest on it fail by themselves, the rest goes on.
    """
    metadata["dagster/row_count"] = renewal.rows or 0
    if renewal.tables:
        metadata["bronnen"] = dg.MetadataValue.md(
            "\n".join(
                f"- CBS StatLine {one.meta.id}, {one.meta.title}; gewijzigd {one.meta.observations_modified[:10]}; "
                f"{one.rows} waarnemingen{'' if one.changed else ' (ongewijzigd)'}; "
                f"{one.meta.source.strip()} CC BY 4.0"
                for one in renewal.tables
            )
        )
        metadata["gewijzigd_bij_cbs"] = max(one.meta.observations_modified for one in renewal.tables)
        metadata["opgehaald"] = sum(one.changed for one in renewal.tables)
    if renewal.stale_since:
        metadata["verouderd_sinds"] = renewal.stale_since
        metadata["reden"] = dg.MetadataValue.md("\n".join(f"- {reason}" for reason in renewal.failures))
    fresh = dg.AssetCheckResult(
        check_name=f"{renewal.table}_is_actueel",
        passed=not renewal.failures,
        severity=dg.AssetCheckSeverity.ERROR if renewal.rows is None else dg.AssetCheckSeverity.WARN,
        description="\n".join(renewal.failures) or None,
        metadata={"mislukt": len(renewal.failures)},
    )
    return dg.MaterializeResult(metadata=metadata, check_results=[fresh, *more])


def _landed(
    settings: Settings, table: str, wanted: Mapping[int, Wanted], build: Build, *, after: Sequence[Sequence[str]] = ()
) -> dg.AssetsDefinition:
    """An asset that lands StatLine tables and builds its own from them."""

    @_declare(table, after=after, facts=[_up_to_date(table)])
    def asset(context: dg.AssetExecutionContext, cbs: CbsSource) -> Result:
        with cbs.client(settings) as client:
            taken = take(client, settings.paths.landing_cbs, wanted)
        if YEARLY in after:
            _tell_parts(context, taken.landed)
        return _told(renew(settings, table, taken, build))

    return asset


def _tell_parts(context: dg.AssetExecutionContext, landed: Mapping[int, Landed]) -> None:
    """Let Dagster show the years that landed here as made: the nightly run cannot hold the asset with partitions."""
    key = dg.AssetKey(YEARLY)
    known = context.instance.get_materialized_partitions(key)
    for year, one in landed.items():
        if one.changed or str(year) not in known:
            rows = {"dagster/partition_row_count": one.rows}
            context.log_event(dg.AssetMaterialization(key, partition=str(year), metadata=rows))


def _coverage(settings: Settings) -> dg.AssetsDefinition:
    facts = [_up_to_date("kerncijfers_dekking")]

    @_declare("kerncijfers_dekking", after=[[SCHEMA, "kerncijfers_wijken_en_buurten"]], facts=facts)
    def kerncijfers_dekking() -> Result:
        landed = _landed_years(settings)
        return _told(
            renew(settings, "kerncijfers_dekking", landed, lambda con, _landed: kerncijfers.build_coverage(con))
        )

    return kerncijfers_dekking


def _regions(settings: Settings) -> dg.AssetsDefinition:
    upstream = [[SCHEMA, "kerncijfers_wijken_en_buurten"], [SCHEMA, "bevolking_per_regio"]]

    @_declare("regios", after=upstream, facts=[_up_to_date("regios")])
    def regios(cbs: CbsSource) -> Result:
        root, years = settings.paths.landing_cbs, _landed_years(settings)
        people = previous(root / population.TABLE)
        areas = Taken()
        if years.landed:
            with cbs.client(settings) as client:
                areas = take(client, root, {0: Wanted(lambda _: regions.area_table(max(years.landed)))})

        def build(connection: duckdb.DuckDBPyConnection, landed: Mapping[int, Landed]) -> int:
            metas = {year: one.meta for year, one in landed.items()}
            return regions.build(connection, metas, people.meta if people else None, areas.landed.get(0))

        without = {"zonder_gebieden": str(areas.failures[0])} if areas.failures else {}
        return _told(renew(settings, "regios", years, build), **without)

    return regios


def _landed_years(settings: Settings) -> Taken:
    """The tables that the kerncijfers in the warehouse were built from, by year."""
    with warehouse(settings.paths, settings.resources) as connection:
        tables: list[tuple[int, str]] = []
        if checks.has_table(connection, "kerncijfers_wijken_en_buurten"):
            query = f"SELECT DISTINCT jaar, tabel_id FROM {SCHEMA}.kerncijfers_wijken_en_buurten ORDER BY jaar"
            tables = connection.execute(query).fetchall()
    root = settings.paths.landing_cbs
    years = {year: kept for year, table in tables if (kept := previous(root / table))}
    if years:
        return Taken(years)
    return Taken(failures={0: CbsError("no kerncijfers have landed: materialise kerncijfers_wijken_en_buurten first")})


def _mergers(settings: Settings) -> dg.AssetsDefinition:
    read = dg.AssetCheckSpec(
        "herindelingen_zijn_geheel_gelezen",
        asset=[SCHEMA, "herindelingen"],
        description="Elke regel van de toelichting bij de regiocodes heeft een bekende vorm.",
    )
    agree = dg.AssetCheckSpec(
        "herindelingen_kloppen_aan_beide_kanten",
        asset=[SCHEMA, "herindelingen"],
        description="Gevende en ontvangende gemeente noemen hetzelfde aantal hectare, woningen en inwoners.",
    )

    @_declare(
        "herindelingen", after=[[SCHEMA, "bevolking_per_regio"]], facts=[_up_to_date("herindelingen"), read, agree]
    )
    def herindelingen() -> Result:
        people = previous(settings.paths.landing_cbs / population.TABLE)
        codes = people.meta.geo.codes if people and people.meta.geo else ()
        taken = Taken({0: people}) if people and codes else Taken()
        if not taken.landed:
            lacking = f"CBS table {population.TABLE} has not landed yet: materialise bevolking_per_regio first"
            taken.failures[0] = CbsError(lacking)
        found = mergers.read_mergers(mergers.Region(code.identifier, code.title, code.description) for code in codes)

        def build(connection: duckdb.DuckDBPyConnection, landed: Mapping[int, Landed]) -> int:
            return mergers.build(connection, found, origin(landed[0].meta))

        return _told(
            renew(settings, "herindelingen", taken, build),
            _judged(read.name, {"fouten": len(found.unread), "overdrachten": len(found.transfers)}),
            _judged(agree.name, {"fouten": len(found.unequal), "eenzijdig": len(found.one_sided)}),
        )

    return herindelingen


def _judged(name: str, counts: dict[str, int]) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=name, passed=counts["fouten"] == 0, severity=dg.AssetCheckSeverity.WARN, metadata={**counts}
    )


# --- tables that factory.yaml lists ----------------------------------------------------------------------------


def _extra_root(settings: Settings) -> Path:
    """Where listed tables land: apart, as a shipped asset may land the same table under another filter."""
    return settings.paths.landing_cbs / "tabellen"


def _extra(settings: Settings, table: CbsTable) -> dg.AssetsDefinition:
    name = statline.table_name(table.id)

    def choose(meta: TableMeta) -> str | None:
        return table.filter or (_own(settings)(meta) if table.regions else None)

    @_declare(name, facts=[_up_to_date(name)], description=f"CBS StatLine {table.id}, zoals factory.yaml die vraagt.")
    def asset(cbs: CbsSource) -> Result:
        with cbs.client(settings) as client:
            taken = take(client, _extra_root(settings), {0: Wanted(lambda _: table.id, choose)})
        landed = taken.landed.get(0)
        schema = statline.schema_of(landed.meta) if landed else None
        renewal = renew(settings, name, taken, _one(statline.build), schema)
        return _told(renewal, **({"dagster/column_schema": _columns(schema)} if schema else {}))

    return asset


def _extra_check(settings: Settings, table: CbsTable) -> dg.AssetChecksDefinition:
    def schema() -> DataFrameSchema:
        landed = previous(_extra_root(settings) / table.id)
        if landed is None:
            raise CbsError(
                f"CBS table {table.id} has not landed yet: materialise {statline.table_name(table.id)} first"
            )
        return statline.schema_of(landed.meta)

    return checks.schema_check(settings, statline.table_name(table.id), schema)


# --- one year at a time, for backfills -----------------------------------------------------------------------------


def _yearly(settings: Settings) -> dg.AssetsDefinition:
    @dg.asset(
        key=YEARLY,
        group_name=GROUP,
        kinds={"python", "parquet"},
        owners=OWNERS,
        description="Kerncijfers wijken en buurten van één jaar, zoals geland; om een jaar los (opnieuw) op te halen.",
        partitions_def=dg.StaticPartitionsDefinition([str(year) for year in sorted(settings.cbs.kwb_years)]),
        # all chosen years in one run: there is one writer
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def kerncijfers_per_jaar(context: dg.AssetExecutionContext, cbs: CbsSource) -> Result:
        wanted = {year: table for year, table in _years(settings).items() if str(year) in context.partition_keys}
        with cbs.client(settings) as client:
            taken = take(client, settings.paths.landing_cbs, wanted)
        for error in taken.failures.values():
            raise error
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": sum(landed.rows for landed in taken.landed.values()),
                "opgehaald": sum(landed.changed for landed in taken.landed.values()),
            }
        )

    return kerncijfers_per_jaar


def _year_has_landed(settings: Settings) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=dg.AssetKey(YEARLY),
        name="gelande_jaren_hebben_waarnemingen",
        additional_deps=[dg.AssetKey([SCHEMA, "kerncijfers_wijken_en_buurten"])],  # which lands them in a nightly run
        description="Elk jaar dat geland is heeft waarnemingen, en alle bestanden staan er nog.",
    )
    def check() -> dg.AssetCheckResult:
        kept = [previous(settings.paths.landing_cbs / table) for table in kerncijfers.TABLES.values()]
        landed = [one for one in kept if one is not None]
        broken = [one for one in landed if not one.rows or not all(part.is_file() for part in one.parts)]
        return dg.AssetCheckResult(
            passed=bool(landed) and not broken, metadata={"fouten": len(broken), "gelande_jaren": len(landed)}
        )

    return check
