"""Tables in the layout of CBS's that are made up: other years of the key figures, the self-employed, benefits.

Belongs here: figures from a seed, calibrated on CBS's of 2020 and rounded as CBS rounds. Does not belong here:
anything that could pass for CBS's: `Source` and title of every table say that it is synthetic, and the client's way
from there marks every row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import numpy as np
import polars as pl

from assets.cbs.incomes import BENEFIT_TABLES, BENEFIT_TITLE, ZZP_TABLE
from assets.cbs.kerncijfers import TABLES, TITLE
from assets.cbs.model import SYNTHETIC_SOURCE, Code, Dimension, Group, Location, Measure, TableMeta
from datafabriek.sample import figures
from datafabriek.sample.cbs_real import outline
from datafabriek.sample.server import ServedTable

SEED = 2020
SOURCE = f"{SYNTHETIC_SOURCE} voorbeeld van datafabriek (geen cijfers van CBS)"
MARK = "(synthetisch voorbeeld)"
REAL_YEAR = 2020
MODIFIED = "2026-01-01T00:00:00+01:00"

SMALL = 100
"""Below this number of inhabitants averages and shares are left out, as CBS does in small areas (assumed)."""

_MADE_UP = {
    # column of the 2020 edition: what it follows from; `arm` is the share of inhabitants on bijstand
    "Woningvoorraad_34": pl.col("HuishoudensTotaal_28") * 1.02,
    "GemiddeldeWoningwaarde_35": 150 + 230 * (1 - 8 * pl.col("arm")).clip(0.1),
    "NettoArbeidsparticipatie_67": 74 - 130 * pl.col("arm"),
    "PercentageWerknemers_68": 84 + 40 * pl.col("arm"),
    "PercentageZelfstandigen_69": 16 - 40 * pl.col("arm"),
    "AantalInkomensontvangers_70": pl.col("AantalInwoners_5") * 0.78,
    "GemiddeldInkomenPerInkomensontvanger_71": 21 + 26 * (1 - 7 * pl.col("arm")).clip(0.1),
    "GemiddeldInkomenPerInwoner_72": 16 + 22 * (1 - 7 * pl.col("arm")).clip(0.1),
    "GemGestandaardiseerdInkomenVanHuish_75": 20 + 19 * (1 - 7 * pl.col("arm")).clip(0.1),
    "HuishoudensMetEenLaagInkomen_78": 3 + 130 * pl.col("arm"),
    "BedrijfsvestigingenTotaal_91": pl.col("AantalInwoners_5") * (0.125 - 0.6 * pl.col("arm")).clip(0.03),
}
"""Measures that CBS's 2020 edition does not fill and the synthetic years do (relations assumed)."""


def tables(years: Iterable[int]) -> Iterator[ServedTable]:
    """All synthetic tables: key figures and benefits of these years, and the self-employed."""
    for year in sorted(set(years)):
        if year != REAL_YEAR and year in TABLES:
            yield kerncijfers(year)
    for year in sorted({*years, 2023} & set(BENEFIT_TABLES)):
        yield benefits(year)
    yield self_employed()


@cache
def populations() -> dict[tuple[str, int], float]:
    """Inhabitants on 1 January (CBS, 03759ned) by region and year."""
    rows = figures.read("bevolking").select("regio_code", "jaar", "bevolking_op_1_januari").drop_nulls().rows()
    return {("NL00" if code == "NL01" else code, year): count for code, year, count in rows}


def growth(region: str, year: int) -> float:
    """How many times its population of 2020 a gemeente (or the country) has in a year; the nearest known year."""
    known = populations()
    years = [y for code, y in known if code == region]
    nearest = min(max(year, min(years)), max(years))
    return known[region, nearest] / known[region, REAL_YEAR]


def _year_of(year: int) -> pl.DataFrame:
    """All columns of the 2020 edition for another year: unrounded, wijken the sum of their buurten where counts."""
    rng = np.random.default_rng([SEED, year])
    kwb = figures.kwb_2020()
    drift = pl.Series(1 + rng.normal(0, 0.012, kwb.height))
    rate = pl.coalesce("gemeente_code", "regio_code").replace_strict(
        {code: growth(code, year) for code in ("NL00", *figures.GEMEENTEN)}
    )
    above = ~pl.col("regio_niveau").is_in(["WK", "BU"])
    factor = pl.when(above).then(rate).otherwise(rate * drift)
    _, measures = outline("kwb_2020")
    counts = [m.identifier for m in measures if m.unit == "aantal" and m.identifier in kwb.columns]
    counts = [name for name in counts if name != "GemiddeldeHuishoudensgrootte_32"]
    numbers = kwb.with_columns(pl.col(counts) * factor)
    wijk = pl.format("WK{}", pl.col("regio_code").str.slice(2, 6))
    sums = (
        numbers.filter(regio_niveau="BU")
        .group_by(wijk.alias("regio_code"))
        .agg(pl.col(counts).sum())
    )  # fmt: skip
    summed = numbers.select("regio_code", "regio_niveau").join(sums, on="regio_code", how="left", maintain_order="left")
    is_wijk = pl.col("regio_niveau") == "WK"
    numbers = numbers.with_columns(
        pl.when(is_wijk & pl.col(name).is_not_null()).then(summed[name]).otherwise(pl.col(name)).alias(name)
        for name in counts
    )
    arm = (pl.col("PersonenPerSoortUitkeringBijstand_83") / pl.col("AantalInwoners_5")).fill_nan(0).fill_null(0)
    price = 1.025 ** (year - REAL_YEAR)
    drawn = pl.Series(1 + rng.normal(0, 0.02, kwb.height))
    euros = [m.identifier for m in measures if "euro" in m.unit]
    return numbers.with_columns(arm.clip(0, 0.3).alias("arm")).with_columns(
        (expression * (price if name in euros else 1) * pl.when(above).then(1).otherwise(drawn)).alias(name)
        for name, expression in _MADE_UP.items()
    )


def _rounding(measure: Measure) -> tuple[float, float]:
    """Base of wijk and buurt, and of gemeente and country; as CBS: inhabitants 5, benefits 10, recipients 100."""
    if measure.unit != "aantal" or measure.data_type == "Double":
        return 10.0 ** -(measure.decimals or 0), 10.0 ** -(measure.decimals or 0)
    if "uitkering" in measure.title:
        return 10.0, 10.0
    return (100.0, 100.0) if "nkomensontvangers" in measure.title else (5.0, 1.0)


def _rounded(column: str, bases: tuple[float, float]) -> pl.Expr:
    base = pl.when(pl.col("regio_niveau").is_in(["WK", "BU"])).then(bases[0]).otherwise(bases[1])
    return ((pl.col(column) / base).round() * base).round(1)


def kerncijfers(year: int) -> ServedTable:
    """Kerncijfers wijken en buurten of another year, over v4, with income, labour and establishments filled."""
    groups, listed = outline("kwb_2020")
    ids = {row["key"] or str(row["id"]): row["v4_identifier"] for row in figures.read("kwb_2020_measures").to_dicts()}
    own = {group.id: ids[group.id] or f"S{int(group.id):06}" for group in groups}
    figures_of = _year_of(year)
    filled = [m for m in listed if m.identifier in figures_of.columns and not m.is_text]
    code_of = {m.identifier: ids[m.identifier] or f"S{m.index + 1000:06}" for m in listed}
    averages = [m.identifier for m in filled if m.unit != "aantal" and not m.title.startswith("Oppervlakte")]
    too_small = pl.col("AantalInwoners_5") < SMALL
    shown = figures_of.select(
        "regio_code",
        *(
            pl.when(too_small & pl.lit(m.identifier in averages)).then(None)
            .otherwise(_rounded(m.identifier, _rounding(m))).alias(code_of[m.identifier])
            for m in filled
        ),
    )  # fmt: skip
    observations = _observations(shown, "WijkenEnBuurten")
    measures = tuple(
        Measure(code_of[m.identifier], m.index, m.title, "", own[m.group_id] if m.group_id else None, (), m.data_type,
                m.unit, m.decimals, "Relative" if m.unit == "%" else "Absolute")
        for m in listed if not m.is_text
    )  # fmt: skip
    named = tuple(
        Group(own[g.id], g.title, own[g.parent] if g.parent else None, index=g.index) for g in groups
        if g.title != "Regioaanduiding"
    )  # fmt: skip
    return _served(TABLES[year], f"{TITLE} {year} {MARK}", (_regions(year),), measures, named, observations)


def benefits(year: int) -> ServedTable:
    """Personen met een uitkering, wijken en buurten, of a year: persons by kind of benefit at the end of quarters."""
    rng = np.random.default_rng([SEED, year, 1])
    base = _year_of(year)
    columns = {
        "T001": ("Bijstandsuitkering", "PersonenPerSoortUitkeringBijstand_83"),
        "T002": ("Werkloosheidsuitkering", "PersonenPerSoortUitkeringWW_85"),
        "T003": ("Arbeidsongeschiktheidsuitkering", "PersonenPerSoortUitkeringAO_84"),
        "T004": ("AOW-uitkering", "PersonenPerSoortUitkeringAOW_86"),
    }
    parts = []
    for month in (3, 6, 9, 12):
        season = 1 + rng.normal(0, 0.006, len(columns))
        quarter = base.with_columns(
            (pl.col(column) * factor).alias(code)
            for (code, (_, column)), factor in zip(columns.items(), season, strict=True)
        )
        grown_up = pl.col("AantalInwoners_5") - pl.col("k_0Tot15Jaar_8")
        share = pl.when(pl.col("AantalInwoners_5") >= SMALL).then((100 * pl.col("T001") / grown_up).round(1))
        shown = quarter.select(
            "regio_code",
            *(_rounded(code, (10.0, 10.0)).alias(code) for code in columns),
            ((grown_up / 10).round() * 10).alias("T005"),
            share.alias("R001"),
        )
        parts.append(_observations(shown, "WijkenEnBuurten", Perioden=f"{year}MM{month:02}"))
    observations = pl.concat(parts).with_columns(pl.int_range(pl.len()).alias("Id"))
    persons, relative = Group("G1", "Personen met een uitkering"), Group("G2", "Personen met een uitkering, relatief")
    measures = (
        *(Measure(code, n, title, "", "G1", (), "Long", "aantal", 0, "Absolute")
          for n, (code, (title, _)) in enumerate(columns.items(), 1)),
        Measure("T005", 5, "Inwoners vanaf 15 jaar", "", None, (), "Long", "aantal", 0, "Absolute"),
        Measure("R001", 6, "Bijstandsuitkering", "", "G2", (), "Double", "%", 1, "Relative"),
    )  # fmt: skip
    months = {3: "maart", 6: "juni", 9: "september", 12: "december"}
    periods = tuple(
        Code(f"{year}MM{month:02}", n, f"{year} {name}", "", "0", status="Definitief")
        for n, (month, name) in enumerate(months.items(), 1)
    )
    time = Dimension("Perioden", "Perioden", "TimeDimension", codes=periods, groups=(Group("0", "Maanden"),))
    title = f"{BENEFIT_TITLE} {year} {MARK}"
    return _served(BENEFIT_TABLES[year], title, (_regions(year), time), measures, (persons, relative), observations)


def self_employed() -> ServedTable:
    """Zelfstandigen; inkomen, vermogen, regio: number and mean income by type of self-employed, 2019-2021."""
    rng = np.random.default_rng([SEED, 2])
    types = {"T001413": "Totaal zelfstandigen", "A050256": "Zelfstandige zonder personeel (zzp)",
             "A050257": "Zelfstandige met personeel (zmp)"}  # fmt: skip
    share = {"A050256": 0.058, "A050257": 0.015}
    income = {"T001413": 46.0, "A050256": 40.5, "A050257": 68.0}
    regions = {"NL01": ("Nederland", 1.0), "PV28": ("Zuid-Holland (PV)", 1.04),
               "GM0518": ("'s-Gravenhage (gemeente)", 1.02), "GM1916": ("Leidschendam-Voorburg", 1.21)}  # fmt: skip
    people = populations()
    rows: list[dict[str, Any]] = []
    for region, (_, rich) in regions.items():
        for year in (2019, 2020, 2021):
            inhabitants = people["NL00" if region == "NL01" else region, year]
            noise = 1 + rng.normal(0, 0.01, 2)
            thousands = inhabitants * 1.02 ** (year - REAL_YEAR) * noise[0] / 1000
            number = {kind: part * thousands for kind, part in share.items()}
            number["T001413"] = sum(number.values())
            for kind in types:
                mean = income[kind] * rich * 1.03 ** (year - REAL_YEAR) * noise[1]
                # all incomes: more people, of whom many earn little as self-employed
                for suffix, more, less in (("_1", 1.0, 1.0), ("_2", 1.55, 0.83)):
                    values = {"A050300": number[kind] * more, "M003600": mean * less, "M003601": mean * less * 0.8}
                    rows += [
                        {"Measure": code + suffix, "Value": round(value, 1), "TypeZelfstandige": kind, "RegioS": region,
                         "Perioden": f"{year}JJ00"}
                        for code, value in values.items()
                    ]  # fmt: skip
    observations = pl.DataFrame(rows).select(
        pl.int_range(pl.len()).alias("Id"), "Measure", pl.lit("None").alias("ValueAttribute"), "Value",
        pl.lit(None, pl.String).alias("StringValue"), "TypeZelfstandige", "RegioS", "Perioden",
    )  # fmt: skip
    groups = (
        Group("G1", "Voornaamste inkomen als zelfstandige", index=1),
        Group("G2", "Alle inkomens als zelfstandige", index=2),
    )
    measures = tuple(
        Measure(f"{code}_{n}", 3 * n + k, title, "", f"G{n}", (), "Double", unit, 1, "Absolute")
        for n in (1, 2)
        for k, (code, title, unit) in enumerate((
            ("A050300", "Zelfstandigen", "x 1 000"),
            ("M003600", "Gemiddeld persoonlijk inkomen", "x 1 000 euro"),
            ("M003601", "Mediaan persoonlijk inkomen", "x 1 000 euro"),
        ))
    )  # fmt: skip
    types_of = Dimension(
        "TypeZelfstandige", "Type zelfstandige", "Dimension",
        codes=tuple(Code(code, n, title, "", None) for n, (code, title) in enumerate(types.items(), 1)),
    )  # fmt: skip
    area = Dimension(
        "RegioS", "Regio's", "GeoDimension",
        codes=tuple(Code(code, n, title, "", code[:2]) for n, (code, (title, _)) in enumerate(regions.items(), 1)),
        groups=(Group("NL", "Nederland"), Group("PV", "Provincies"), Group("GM", "Gemeenten")),
    )  # fmt: skip
    time = Dimension(
        "Perioden", "Perioden", "TimeDimension", groups=(Group("0", "Jaren"),),
        codes=tuple(Code(f"{year}JJ00", n, f"{year}{mark}", "", "0", status=status) for n, (year, mark, status) in
                    enumerate(((2019, "", "Definitief"), (2020, "", "Definitief"), (2021, "*", "Voorlopig")), 1)),
    )  # fmt: skip
    title = f"Zelfstandigen; inkomen, vermogen, regio (indeling 2025) {MARK}"
    return _served(ZZP_TABLE, title, (types_of, area, time), measures, groups, observations)


def _regions(year: int) -> Dimension:
    """Region codes as v4 tells them; the borders of 2020 stand for every year of the sample."""
    rows = figures.kwb_2020().select("regio_code", "regio_naam", "regio_niveau", "gemeente_code").to_dicts()
    group = {"NL": "NL", "GM": "GM"}
    codes = tuple(
        Code(row["regio_code"], n, row["regio_naam"], "", group.get(row["regio_niveau"], row["gemeente_code"]),
             detail_region=row["regio_code"] if row["gemeente_code"] else None)
        for n, row in enumerate(rows, 1)
    )  # fmt: skip
    per_gemeente = Group("WBGM", "Wijken en buurten per gemeente")
    gemeenten = (
        Group(row["regio_code"], row["regio_naam"], "WBGM", index=n)
        for n, row in enumerate((row for row in rows if row["regio_niveau"] == "GM"), 1)
    )
    groups = (Group("NL", "Nederland"), Group("GM", "Gemeenten"), per_gemeente, *gemeenten)
    return Dimension("WijkenEnBuurten", "Wijken en buurten", "GeoDetail", "", str(year), codes, groups)


def _observations(shown: pl.DataFrame, geo: str, **fixed: str) -> pl.DataFrame:
    """Long rows of a frame with `regio_code` and a column a measure; a missing figure is `NotAvailable`."""
    long = shown.unpivot(index="regio_code", variable_name="Measure", value_name="Value").cast({"Value": pl.Float64})
    missing = pl.col("Value").is_null()
    return long.select(
        pl.int_range(pl.len()).alias("Id"), "Measure",
        pl.when(missing).then(pl.lit("NotAvailable")).otherwise(pl.lit("None")).alias("ValueAttribute"), "Value",
        pl.lit(None, pl.String).alias("StringValue"), pl.col("regio_code").alias(geo),
        *(pl.lit(code).alias(name) for name, code in fixed.items()),
    )  # fmt: skip


def _served(
    table_id: str, title: str, dimensions: tuple[Dimension, ...], measures: tuple[Measure, ...],
    groups: tuple[Group, ...], observations: pl.DataFrame,
) -> ServedTable:  # fmt: skip
    told = f"Synthetisch: gemaakt voor de voorbeeldfabriek van datafabriek, in de opmaak van CBS-tabel {table_id}."
    properties = {
        "Identifier": table_id, "Title": title, "Description": told, "Summary": told, "Source": SOURCE,
        "Language": "nl", "Catalog": "CBS", "Status": "Regulier", "DatasetType": "Numeric", "Modified": MODIFIED,
        "ObservationsModified": MODIFIED, "ObservationCount": observations.height, "Frequency": "Onregelmatig",
    }  # fmt: skip
    meta = TableMeta(Location(table_id, "v4", ""), properties, dimensions, measures, groups)
    return ServedTable(meta, observations.to_arrow(), hosts=frozenset({"odata4"}))
