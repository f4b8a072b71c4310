"""A small factory with raw tables written by hand: real region codes and inhabitants (CBS, Kerncijfers wijken en
buurten 2020), persons and establishments invented."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from datafabriek.config import Settings, load_settings
from datafabriek.warehouse import warehouse

FACTORY = """
name: Toetsfabriek
home: home
region: {{gemeenten: [GM0518, GM1916], provincie: PV28}}
deliveries: {{{deliveries}}}
"""

REGIONS = """
    ('NL00', 'Nederland', 'NL', NULL, NULL), ('PV28', 'Zuid-Holland', 'PV', 'LD03', NULL),
    ('GM0518', '''s-Gravenhage', 'GM', 'PV28', 'GM0518'), ('GM1916', 'Leidschendam-Voorburg', 'GM', 'PV28', 'GM1916'),
    ('GM0599', 'Rotterdam', 'GM', 'PV28', 'GM0599'),
    ('WK051801', 'Wijk 01 Oostduinen', 'WK', 'GM0518', 'GM0518'),
    ('WK051817', 'Wijk 17 Loosduinen', 'WK', 'GM0518', 'GM0518'),
    ('WK191602', 'Prinsenhof', 'WK', 'GM1916', 'GM1916'),
    ('BU05180170', 'Oostduinen', 'BU', 'WK051801', 'GM0518'),
    ('BU05181785', 'Kerketuinen en Zichtenburg', 'BU', 'WK051817', 'GM0518'),
    ('BU05181786', 'Houtwijk', 'BU', 'WK051817', 'GM0518'),
    ('BU19160200', 'Prinsenhof hoog', 'BU', 'WK191602', 'GM1916'),
    ('BU19160201', 'Prinsenhof laag', 'BU', 'WK191602', 'GM1916')
"""

INHABITANTS = """
    ('NL00', 'NL', 17407585), ('GM0518', 'GM', 545838), ('GM1916', 'GM', 76534), ('WK051801', 'WK', 0),
    ('WK051817', 'WK', 18060), ('WK191602', 'WK', 5660), ('BU05180170', 'BU', 0), ('BU05181785', 'BU', 105),
    ('BU05181786', 'BU', 12875), ('BU19160200', 'BU', 4605), ('BU19160201', 'BU', 1055)
"""

# person, buurt, gemeente, from, until: 1-3 Houtwijk, 4 moves from Kerketuinen to Prinsenhof hoog during March,
# 5 unknown buurt, 6-7 Prinsenhof hoog, 8 Prinsenhof laag
ADDRESSES = """
    (1, 'BU05181786', 'GM0518', DATE '2010-01-01', NULL), (2, 'BU05181786', 'GM0518', DATE '2010-01-01', NULL),
    (3, 'BU05181786', 'GM0518', DATE '2010-01-01', NULL),
    (4, 'BU05181785', 'GM0518', DATE '2010-01-01', DATE '2020-04-01'),
    (4, 'BU19160200', 'GM1916', DATE '2020-04-01', NULL),
    (5, NULL, 'GM0518', DATE '2010-01-01', NULL), (6, 'BU19160200', 'GM1916', DATE '2010-01-01', NULL),
    (7, 'BU19160200', 'GM1916', DATE '2010-01-01', NULL), (8, 'BU19160201', 'GM1916', DATE '2010-01-01', NULL)
"""

# benefits: month, gemeente, person, regeling, running; person 9 is in no BRP; February was not delivered
BENEFITS = """
    (1, 'GM0518', 1, '01', true), (1, 'GM0518', 2, '01', true), (1, 'GM0518', 2, '11', true),
    (1, 'GM0518', 3, '01', false), (1, 'GM0518', 4, '01', true), (1, 'GM0518', 5, '01', true),
    (1, 'GM1916', 6, '01', true), (1, 'GM1916', 8, '02', true), (1, 'GM1916', 9, '01', true),
    (3, 'GM0518', 1, '01', true), (3, 'GM0518', 4, '01', true), (3, 'GM1916', 4, '01', true),
    (3, 'GM1916', 6, '01', true), (3, 'GM1916', 7, '01', true)
"""

# establishments: number, owner, section, zzp, buurt, gemeente; owner 99 lives elsewhere, 5 has no owner (a company)
ESTABLISHMENTS = """
    (1, 1, 'F', true, 'BU05181786', 'GM0518'), (2, 1, 'F', true, 'BU19160200', 'GM1916'),
    (3, 6, 'Q', true, 'BU19160200', 'GM1916'), (4, 99, 'J', true, NULL, 'GM0518'),
    (5, NULL, 'M', true, 'BU05181785', 'GM0518'), (6, 7, 'G', false, 'BU19160200', 'GM1916'),
    (7, 5, NULL, true, 'BU05180170', 'GM0518')
"""


def person(number: str) -> str:
    return f"('00000000-0000-0000-0000-' || lpad(({number})::VARCHAR, 12, '0'))::UUID"


def fill(connection: duckdb.DuckDBPyConnection) -> None:
    for schema in ("raw_cbs", "raw_bijstand", "raw_zzp", "raw_leveringen"):
        connection.execute(f"CREATE SCHEMA {schema}")
    connection.execute(f"""
        CREATE TABLE raw_cbs.regios AS
        SELECT 2020::INTEGER AS indeling_jaar, *, NULL::VARCHAR AS corop_code, 'gemeten' AS herkomst
        FROM (VALUES {REGIONS}) t (regio_code, regio_naam, regio_niveau, ouder_code, gemeente_code)""")
    connection.execute(f"""
        CREATE TABLE raw_cbs.kerncijfers_wijken_en_buurten AS
        SELECT '84799NED' AS tabel_id, 2020::INTEGER AS jaar, regio_code, regio_code AS regio_naam, regio_niveau,
            CASE WHEN regio_niveau <> 'NL' THEN 'GM' || substr(regio_code, 3, 4) END AS gemeente_code,
            'T001036' AS measure_code, 'Aantal inwoners' AS measure_titel, 'aantal' AS eenheid,
            'aantal_inwoners' AS indicator_sleutel, inwoners::DOUBLE AS waarde, 'None' AS value_attribute,
            NULL::VARCHAR AS string_value, NULL::VARCHAR AS periode_status, 'gemeten' AS herkomst
        FROM (VALUES {INHABITANTS}) t (regio_code, regio_niveau, inwoners)
        UNION ALL
        SELECT '84799NED', 2020, 'WK191602', 'WK191602', 'WK', 'GM1916', sleutel, sleutel, eenheid, sleutel, waarde,
            'None', NULL, NULL, 'gemeten'
        FROM (VALUES ('zelfstandigen_pct', '%', 16::DOUBLE),
            ('gemiddeld_inkomen_per_inwoner_eur1000', 'x 1 000 euro', 31.2)) t (sleutel, eenheid, waarde)""")
    connection.execute("""
        CREATE TABLE raw_cbs.zzp_inkomen AS
        SELECT '86163NED' AS tabel_id, regio_code, '2020JJ00' AS periode_code, DATE '2020-01-01' AS periode_start,
            'jaar' AS periode_frequentie, 'Definitief' AS periode_status, sleutel AS measure_code,
            sleutel AS measure_titel, eenheid, sleutel AS indicator_sleutel, waarde, attribuut AS value_attribute,
            'synthetisch' AS herkomst
        FROM (VALUES ('GM0518', 'zzp_personen', 'x 1 000', 43.2::DOUBLE, 'None'),
            ('GM0518', 'zzp_gemiddeld_inkomen_eur1000', '1 000 euro', 38.4, 'None'),
            ('GM1916', 'zzp_gemiddeld_inkomen_eur1000', '1 000 euro', NULL, 'Confidential')
        ) t (regio_code, sleutel, eenheid, waarde, attribuut)""")
    for purpose in ("bijstand", "zzp"):
        connection.execute(f"""
            CREATE TABLE raw_{purpose}.brp AS
            SELECT {person("nummer")} AS persoon_pseudoniem, buurt_code, gemeente_code, 2020::INTEGER AS indeling_jaar,
                geldig_van, geldig_tot, 'brp-1' AS levering, 'synthetisch' AS herkomst
            FROM (VALUES {ADDRESSES}) t (nummer, buurt_code, gemeente_code, geldig_van, geldig_tot)""")
    connection.execute(f"""
        CREATE TABLE raw_bijstand.bus AS
        SELECT make_date(2020, maand, 1) AS statistiekmaand, gemeente_code, {person("nummer")} AS persoon_pseudoniem,
            regeling_code, is_lopend, 'bus-' || maand AS levering, 'synthetisch' AS herkomst
        FROM (VALUES {BENEFITS}) t (maand, gemeente_code, nummer, regeling_code, is_lopend)""")
    connection.execute(f"""
        CREATE TABLE raw_zzp.bedrijven AS
        SELECT DATE '2020-01-01' AS peildatum, {person("200 + nummer")} AS vestiging_pseudoniem,
            {person("eigenaar")} AS eigenaar_pseudoniem, sbi_sectie, is_zzp, buurt_code, gemeente_code,
            2020::INTEGER AS indeling_jaar, 'bedrijven-1' AS levering, 'synthetisch' AS herkomst
        FROM (VALUES {ESTABLISHMENTS}) t (nummer, eigenaar, sbi_sectie, is_zzp, buurt_code, gemeente_code)""")
    connection.execute("""
        CREATE TABLE raw_leveringen.stand AS
        SELECT levering, periode, periode AS levering_id, status, aantal::BIGINT AS geleverd,
            aantal::BIGINT AS geaccepteerd, 0::BIGINT AS geweigerd, 0::BIGINT AS buurt_onbekend,
            TIMESTAMP '2021-01-01' AS ontvangen_op
        FROM (VALUES ('bus', '2020-01', 'ontvangen', 9), ('bus', '2020-02', 'ontbreekt', NULL),
            ('bus', '2020-03', 'ontvangen', 5), ('bus', '2020-04', 'ontvangen', 0),
            ('brp', '2020-12-31', 'ontvangen', 9), ('bedrijven', '2020-01-01', 'ontvangen', 7)
        ) t (levering, periode, status, aantal)""")


@pytest.fixture(scope="session")
def make_factory(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Settings]:
    """A factory in a folder of its own with the raw tables filled."""

    def make(deliveries: str = "adressen, brp, bus, bedrijven") -> Settings:
        folder = tmp_path_factory.mktemp("fabriek")
        named = ", ".join(f"{name}: " for name in deliveries.split(", ") if name)
        (folder / "factory.yaml").write_text(FACTORY.format(deliveries=named))
        settings = load_settings(folder / "factory.yaml")
        settings.paths.create()
        with warehouse(settings.paths, settings.resources) as connection:
            fill(connection)
        return settings

    return make


@pytest.fixture(scope="session")
def built(make_factory: Callable[..., Settings]) -> tuple[Settings, dict[str, Any]]:
    """A factory whose models were all built and tested, unit tests included, with the results."""
    from assets.models.runner import build

    settings = make_factory()
    return settings, build(settings, unit_tests=True)


@pytest.fixture(scope="session")
def query(built: tuple[Settings, dict[str, Any]]) -> Callable[[str], list[tuple[Any, ...]]]:
    """Rows of a query on the built warehouse."""
    settings, _ = built

    def run(sql: str) -> list[tuple[Any, ...]]:
        with warehouse(settings.paths, settings.resources) as connection:
            return connection.execute(sql).fetchall()

    return run


@pytest.fixture
def own_models(make_factory: Callable[..., Settings]) -> Callable[[dict[str, str]], Settings]:
    """A factory with dbt models of its own, by path under its models folder."""

    def make(files: dict[str, str]) -> Settings:
        settings = make_factory()
        for name, text in files.items():
            path = Path(settings.source.parent / "models" / name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return settings

    return make
