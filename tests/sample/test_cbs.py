"""What the sample serves as CBS: its own figures unaltered, the rest marked as synthetic, all over real protocols."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import duckdb
import polars as pl
import pytest

from assets.cbs.client import CbsClient, observations
from assets.cbs.kerncijfers import TABLES
from assets.cbs.mergers import Region, read_mergers
from assets.cbs.model import Landed
from datafabriek.config import ODATA4_LIVE, Settings, load_settings
from datafabriek.sample import cbs_real, cbs_synthetic, figures
from datafabriek.sample.cbs import store
from datafabriek.sample.resources import SampleCbsSource

REAL = {"84799NED": "v3", "85067NED": "v3", "03759ned": "v4"}


@pytest.fixture(scope="module")
def client() -> Iterator[CbsClient]:
    settings = load_settings()
    with SampleCbsSource().client(settings) as client:
        yield client


def rows(landed: Landed) -> pl.DataFrame:
    return duckdb.sql(observations(landed)).pl()


def test_the_data_is_small_and_names_its_source() -> None:
    assert sum(path.stat().st_size for path in figures.FOLDER.iterdir()) < 300_000
    text = (figures.FOLDER / "README.md").read_text()
    assert all(word in text for word in ("CBS StatLine", "CC BY 4.0", *REAL))


@pytest.mark.parametrize(("region", "inhabitants"), [("NL00", 17_407_585), ("GM0518", 545_838), ("GM1916", 76_534)])
def test_real_inhabitants_come_through(client: CbsClient, tmp_path: Path, region: str, inhabitants: int) -> None:
    found = rows(client.land("84799NED", tmp_path, filter=f"WijkenEnBuurten eq '{region}'"))
    assert found.filter(Measure="AantalInwoners_5")["Value"].to_list() == [inhabitants]


@pytest.mark.parametrize("table", sorted(store((2019, 2020, 2021)).tables))
def test_every_table_lands_whole(client: CbsClient, tmp_path: Path, table: str) -> None:
    landed = client.land(table, tmp_path)
    served = store((2019, 2020, 2021)).tables[table]
    assert landed.meta.location.protocol == REAL.get(table, "v4")
    if served.observations is not None:
        assert rows(landed).height == landed.rows == served.observations.num_rows
    assert landed.meta.is_synthetic == (table not in REAL)
    if landed.meta.is_synthetic:
        assert "synthetisch" in landed.meta.title
        assert landed.meta.properties["Source"].endswith("(geen cijfers van CBS)")


def test_the_2020_edition_keeps_its_shape(client: CbsClient) -> None:
    meta = client.table("84799NED")
    assert len(meta.measures) == 116
    assert len(meta.dimensions[0].codes) == 217
    assert sum(m.identifier in figures.kwb_2020().columns for m in meta.measures if not m.is_text) == 43


def test_another_year_is_rounded_as_cbs_rounds(client: CbsClient, tmp_path: Path) -> None:
    landed = client.land(TABLES[2021], tmp_path, filter="startswith(WijkenEnBuurten,'BU')")
    code = {measure.title.strip(): measure.identifier for measure in landed.meta.measures}
    found = rows(landed)
    for title, base in (("Aantal inwoners", 5), ("Personen per soort uitkering; Bijstand", 10),
                        ("Aantal inkomensontvangers", 100)):  # fmt: skip
        values = found.filter(Measure=code[title])["Value"].drop_nulls()
        assert values.len() > 100
        assert (values % base == 0).all()
    people = dict(found.filter(Measure=code["Aantal inwoners"]).select("WijkenEnBuurten", "Value").rows())
    small = {region for region, count in people.items() if count < cbs_synthetic.SMALL}
    income = found.filter(Measure=code["Gemiddeld inkomen per inwoner"])
    hidden = income.filter(pl.col("Value").is_null())
    assert small <= set(hidden["WijkenEnBuurten"])
    assert set(hidden["ValueAttribute"]) == {"NotAvailable"}


def test_synthetic_years_follow_the_real_population() -> None:
    assert cbs_synthetic.growth("GM0518", 2020) == 1
    year = cbs_synthetic._year_of(2021).filter(regio_code="GM0518")
    assert round(year["AantalInwoners_5"].item()) == 548_320  # CBS, 03759ned, 1-1-2021


def test_mergers_can_be_read_from_the_rendered_texts(client: CbsClient) -> None:
    regions = [Region(code.identifier, code.title, code.description) for code in client.table("03759ned").geo.codes]
    found = read_mergers([region for region in regions if region.code.startswith("GM")])
    assert found.unread == []
    to_new = {t.van_naam: t.inwoners for t in found.transfers if t.naar_code == "GM1916" and t.soort == "opgeheven"}
    assert to_new == {"Leidschendam": 35_868, "Voorburg": 38_217}


def test_an_address_that_was_set_wins(settings: Settings) -> None:
    elsewhere = settings.cbs.model_copy(update={"odata4_url": "http://127.0.0.1:9/odata/v1"})
    changed = settings.model_copy(update={"cbs": elsewhere})
    with SampleCbsSource().client(changed) as client:
        assert client.endpoints.odata4 == "http://127.0.0.1:9/odata/v1"
    with SampleCbsSource().client(settings) as client:
        assert client.endpoints.odata4.startswith("http://127.0.0.1:")
        assert client.endpoints.odata4 != ODATA4_LIVE


def test_the_history_reads_as_cbs_wrote_it(shared_data: Path) -> None:
    file = shared_data / "cbs/odata4/03759ned/codes-RegioS.json.gz"
    recorded = json.loads(gzip.decompress(file.read_bytes()))["value"]
    real = {row["Identifier"]: row["Description"] for row in recorded}
    made = cbs_real.histories()
    for code in ("GM0518", "GM1916", "GM0548", "GM0624", "GM0577", "GM0594", "GM0603", "GM0629", "GM0637"):
        assert made[code] == real[code]
    # elsewhere CBS now and then leaves out a comma, "met" or an empty line
    assert sum(made[code] == real[code] for code in made) >= len(made) - 9


def test_figures_of_2020_are_those_recorded(shared_data: Path) -> None:
    file = shared_data / "cbs/odata3/84799NED/cbs.v3.84799NED_TypedDataSet.parquet"
    served = store((2019, 2020, 2021)).tables["84799NED"].wide
    assert served is not None
    ours = pl.DataFrame(served).with_columns(pl.col(pl.String).str.strip_chars()).drop("ID").sort("WijkenEnBuurten")
    theirs = pl.read_parquet(file, columns=ours.columns).with_columns(pl.col(pl.String).str.strip_chars())
    theirs = theirs.join(ours, on="WijkenEnBuurten", how="semi").sort("WijkenEnBuurten")
    for name in ours.columns:
        left, right = ours[name], theirs[name]
        if left.dtype.is_float():
            right = right.round(1)  # CBS's 0.9 may come as 0.89999998
        assert left.cast(right.dtype).equals(right), name
