"""CBS's own figures, from `data/`, as tables that the stand-in serves in the protocol that CBS serves them in.

Belongs here: Kerncijfers wijken en buurten 2020 and Gebieden in Nederland 2022 (v3), population with the history of
mergers (v4). Slices, all three: the sample's regions only. Does not belong here: any figure that CBS did not publish.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

import polars as pl

from assets.cbs.model import Code, Dimension, Group, Location, Measure, TableMeta
from datafabriek.sample import figures
from datafabriek.sample.server import ServedTable

CBS = {"Source": "CBS.", "Language": "nl", "License": "https://creativecommons.org/licenses/by/4.0/"}
SLICE = "Uitsnede voor de voorbeeldfabriek van datafabriek; cijfers van CBS StatLine, CC BY 4.0."


def tables() -> Iterator[ServedTable]:
    """All of CBS's own tables that the sample has."""
    yield kerncijfers()
    yield population()
    yield areas()


def outline(name: str) -> tuple[tuple[Group, ...], tuple[Measure, ...]]:
    """Headings and topics of a v3 table, in CBS's order (`data/<name>_measures.csv`)."""
    rows = figures.read(f"{name}_measures").to_dicts()

    def name_of(number: int | None) -> str | None:
        return None if number is None else str(number)

    groups = tuple(
        Group(str(row["id"]), row["title"], name_of(row["parent_id"]), index=row["id"])
        for row in rows
        if row["type"] == "TopicGroup"
    )
    measures = tuple(
        Measure(
            identifier=row["key"],
            index=row["position"],
            title=row["title"],
            description="",
            group_id=name_of(row["parent_id"]),
            path=(),
            data_type=row["datatype"],
            unit=row["unit"] or "",
            decimals=row["decimals"],
            default=row["default"],
        )
        for row in rows
        if row["type"] == "Topic"
    )
    return groups, measures


def region_codes() -> tuple[Code, ...]:
    """Codes of wijken en buurten of 2020, as v3 tells them: with their gemeente."""
    return tuple(
        Code(row["regio_code"], index, row["regio_naam"], "", row["gemeente_code"], detail_region=row["regio_code"])
        for index, row in enumerate(figures.kwb_2020().to_dicts(), 1)
    )


def kerncijfers() -> ServedTable:
    """Kerncijfers wijken en buurten 2020 (84799NED) over v3: all 116 columns, 68 of them empty in this edition."""
    groups, measures = outline("kwb_2020")
    kwb = figures.kwb_2020()
    levels = {"NL": "Land", "GM": "Gemeente", "WK": "Wijk", "BU": "Buurt"}
    names = dict(kwb.filter(pl.col("regio_niveau").is_in(["NL", "GM"])).select("regio_code", "regio_naam").rows())
    own = {
        "Gemeentenaam_1": pl.coalesce("gemeente_code", "regio_code").replace_strict(names).str.pad_end(40),
        "SoortRegio_2": pl.col("regio_niveau").replace_strict(levels).str.pad_end(10),
        "Codering_3": pl.col("regio_code").str.pad_end(10),
        "MeestVoorkomendePostcode_113": pl.col("MeestVoorkomendePostcode_113").str.pad_start(10),
    }
    wide = kwb.select(
        pl.int_range(pl.len()).alias("ID"),
        pl.col("regio_code").str.pad_end(10).alias("WijkenEnBuurten"),
        *(_topic(measure, own, kwb.columns).alias(measure.identifier) for measure in measures),
    )
    dimension = Dimension(
        "WijkenEnBuurten", "Wijken en buurten", "GeoDetail", map_year="2020", codes=region_codes(), width=10
    )
    infos = CBS | {
        "ID": 937, "Identifier": "84799NED", "Title": "Kerncijfers wijken en buurten 2020", "Catalog": "CBS",
        "ShortTitle": "Kerncijfers wijken en buurten 2020", "Period": "2020", "Frequency": "Onregelmatig",
        "Modified": "2021-03-26T02:00:00", "MetaDataModified": "2021-03-26T02:00:00", "OutputStatus": "Regulier",
        "Summary": f"Kerncijfers van gemeenten, wijken en buurten. {SLICE}", "RecordCount": wide.height,
    }  # fmt: skip
    meta = TableMeta(Location("84799NED", "v3", ""), infos, (dimension,), measures, groups)
    return ServedTable(meta, wide=wide.to_arrow(), hosts=frozenset({"odata3"}))


def _topic(measure: Measure, own: dict[str, pl.Expr], filled: list[str]) -> pl.Expr:
    kinds = {"String": pl.String, "Double": pl.Float64, "Long": pl.Int64}
    if measure.identifier in own:
        return own[measure.identifier]
    kind = kinds[measure.data_type]
    return pl.col(measure.identifier).cast(kind) if measure.identifier in filled else pl.lit(None, kind)


def areas() -> ServedTable:
    """Gebieden in Nederland 2022 (85067NED) over v3: the gemeenten of Zuid-Holland and the areas that models use."""
    groups, measures = outline("gebieden_2022")
    rows = figures.read("gebieden_2022")
    wide = rows.select(
        pl.int_range(pl.len()).alias("ID"),
        pl.col("Code_1").str.pad_end(10).alias("RegioS"),
        *(
            pl.col(m.identifier).cast(pl.String).str.pad_end(50 if "aam" in m.identifier else 10)
            if m.is_text
            else pl.col(m.identifier)
            for m in measures
        ),
    )
    codes = tuple(
        Code(row["Code_1"], index, row["Naam_2"], "", "1") for index, row in enumerate(rows.iter_rows(named=True), 1)
    )
    whole, listed = Group("0", "Gemeenten van het jaar 2022"), Group("1", "Gemeentelijst 2022", "0")
    dimension = Dimension("RegioS", "Regio's", "Dimension", codes=codes, groups=(whole, listed), width=10)
    infos = CBS | {
        "ID": 0, "Identifier": "85067NED", "Title": "Gebieden in Nederland 2022", "Catalog": "CBS", "Period": "2022",
        "ShortTitle": "Gebieden in Nederland 2022", "Frequency": "Onregelmatig", "OutputStatus": "Regulier",
        "Modified": "2022-08-23T02:00:00", "MetaDataModified": "2022-08-23T02:00:00",
        "Summary": f"Codes, namen en lokalisering van regionale indelingen. {SLICE}", "RecordCount": wide.height,
    }  # fmt: skip
    meta = TableMeta(Location("85067NED", "v3", ""), infos, (dimension,), measures, groups)
    return ServedTable(meta, wide=wide.to_arrow(), hosts=frozenset({"odata3"}))


def population() -> ServedTable:
    """Bevolking op 1 januari en gemiddeld (03759ned) over v4: all ages, sexes and marital states together."""
    measures = (
        Measure("M000352", 5, "Bevolking op 1 januari", "", None, (), "Long", "aantal", 0, "Absolute"),
        Measure("M000365", 6, "Gemiddelde bevolking ", "", None, (), "Double", "aantal", 1, "Absolute"),
    )
    listed = figures.read("regios_03759ned")
    years = list(range(2019, 2027))
    totals = {"BurgerlijkeStaat": "T001019", "Geslacht": "T001038", "Leeftijd": "10000"}
    with_figures = listed.filter(pl.col("groep").is_in(["NL", "GMPV28"]) | (pl.col("regio_code") == "PV28"))
    known = figures.read("bevolking").unpivot(index=["regio_code", "jaar"], variable_name="maat", value_name="Value")
    of_measure = {"bevolking_op_1_januari": "M000352", "gemiddelde_bevolking": "M000365"}
    observations = (
        with_figures.select("regio_code")
        .join(pl.DataFrame({"jaar": years}), how="cross")
        .join(pl.DataFrame({"maat": list(of_measure)}), how="cross")
        .join(known, on=["regio_code", "jaar", "maat"], how="left", maintain_order="left")
        .select(
            pl.int_range(pl.len()).alias("Id"),
            pl.col("maat").replace_strict(of_measure).alias("Measure"),
            pl.when(pl.col("Value").is_null()).then(pl.lit("Impossible")).otherwise(pl.lit("None")).alias("ValueAttribute"),
            "Value",
            pl.lit(None, pl.String).alias("StringValue"),
            *(pl.lit(code).alias(name) for name, code in totals.items()),
            pl.col("regio_code").alias("RegioS"),
            pl.format("{}JJ00", "jaar").alias("Perioden"),
        )
    )  # fmt: skip
    history = histories()
    groups = tuple(
        Group(code, title, parent, index=index)
        for index, (code, title, parent) in enumerate(
            [("NL", "Nederland", None), ("LD", "Landsdelen", None), ("PV", "Provincies", None),
             ("CR", "COROP-gebieden", None), ("CRPV28", "COROP-gebieden in Zuid-Holland", "CR"),
             ("GM", "Gemeenten", None), ("GMPV28", "Gemeenten in Zuid-Holland", "GM")], 1
        )
    )  # fmt: skip
    regions = tuple(
        Code(row["regio_code"], row["index"], row["titel"], history.get(row["regio_code"], ""), row["groep"])
        for row in listed.iter_rows(named=True)
    )
    periods = tuple(
        Code(f"{year}JJ00", 32 + n, str(year), "", "0", status="Definitief") for n, year in enumerate(years)
    )
    dimensions = (
        _totals_only("BurgerlijkeStaat", "Burgerlijke staat", "T001019", "Totaal burgerlijke staat"),
        _totals_only("Geslacht", "Geslacht", "T001038", "Totaal mannen en vrouwen"),
        _totals_only("Leeftijd", "Leeftijd", "10000", "Totaal"),
        Dimension("RegioS", "Regio's", "GeoDimension", codes=regions, groups=groups),
        Dimension("Perioden", "Perioden", "TimeDimension", codes=periods, groups=(Group("0", "Jaren"),)),
    )
    properties = CBS | {
        "Identifier": "03759ned", "Title": "Bevolking op 1 januari en gemiddeld; geslacht, leeftijd en regio",
        "Description": SLICE, "Summary": SLICE, "Catalog": "CBS", "Frequency": "Per jaar", "Status": "Regulier",
        "DatasetType": "Numeric", "Modified": "2026-06-23T00:00:00+02:00", "Version": "202606230000",
        "ObservationsModified": "2026-06-23T00:00:00+02:00", "ObservationCount": observations.height,
    }  # fmt: skip
    meta = TableMeta(Location("03759ned", "v4", ""), properties, dimensions, measures)
    return ServedTable(meta, observations.to_arrow(), hosts=frozenset({"odata4"}))


def _totals_only(name: str, title: str, code: str, label: str) -> Dimension:
    return Dimension(name, title, "Dimension", codes=(Code(code, 1, label, "", None),))


def histories() -> dict[str, str]:
    """The history of each gemeente in CBS's own wording, from the figures in `data/herindelingen.csv`."""
    texts: dict[str, list[str]] = {}
    told: dict[str, tuple[Any, ...]] = {}
    for row in figures.read("herindelingen").iter_rows(named=True):
        lines = texts.setdefault(row["gemeente_code"], [])
        if row["witregel_ervoor"]:
            lines.append("")
        if row["soort"] == "Begindatum":
            lines.append(f"Begindatum {_day(row['datum'])}")
            continue
        change = (row["soort"], row["richting"], row["datum"])
        if row["richting"] in ("oude naam", "nieuwe naam"):
            lines.append(f"{row['soort']} per {_day(row['datum'])},")
            lines.append(f"{row['richting']}: {row['ander_naam']} ({row['ander_code']})")
            continue
        if told.get(row["gemeente_code"]) != change:
            told[row["gemeente_code"]] = change
            lines.append(f"{row['soort']} per {_day(row['datum'])}, {row['richting']}:")
        lines.append(f"- {row['ander_naam']} ({row['ander_code']}),")
        lines.append(f"... {_amounts(row)}")
    return {code: "\r\n".join(lines) + "\r\n" for code, lines in texts.items()}


def _day(text: str) -> str:
    try:
        return date.fromisoformat(text).strftime("%d-%m-%Y")
    except ValueError:
        return text  # "voor 1830"


def _amounts(row: dict[str, Any]) -> str:
    """`825 hectare met 2247 woningen en 7317 inwoners`; what CBS leaves out is left out."""
    area = f"{row['hectare']} hectare" if row["hectare"] is not None else ""
    parts = [
        f"{row[what]} {one if row[what] == 1 else what}"
        for what, one in (("woningen", "woning"), ("inwoners", "inwoner"))
        if row[what] is not None
    ]
    return " met ".join(part for part in (area, " en ".join(parts)) if part)
