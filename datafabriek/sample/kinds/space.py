"""Deliveries about businesses, mobility, public space and debts: made up, in the layouts of the real ones.

Belongs here: what a row holds and which dirt goes in. Does not belong here: the layouts; they come from the contracts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from datafabriek.sample.deliveries import (
    BROKEN_LINES,
    Made,
    always,
    day,
    june_31,
    made,
    padded,
    spaces,
    unpadded,
    wrong_check_digit,
    zero_lost,
)  # fmt: skip
from datafabriek.sample.dirt import Spot
from datafabriek.sample.population import YEAR, Population
from quality.contracts.model import load

MONTH = 3
"""The month that the monthly deliveries cover."""

ROWS = 600

_FIRST = int(np.datetime64(f"{YEAR}-{MONTH:02}-01", "D").astype(int))
_THE_HAGUE = (52.03, 52.11), (4.24, 4.41)

_BROKEN = [replace(spot, share=0.004) for spot in BROKEN_LINES]
"""Lines with too few and too many fields, in a small file."""


def _addresses(people: Population, rng: np.random.Generator, rows: int = ROWS) -> pl.DataFrame:
    """Known addresses, each once, with `gemeente` as four digits."""
    known = people.addresses.filter("bekend")
    chosen = rng.choice(known.height, min(rows, known.height), replace=False)
    return known[np.sort(chosen)].with_columns(gemeente=pl.col("gemeente_code").str.slice(2))


def _choice(rng: np.random.Generator, words: Sequence[str], rows: int, p: Sequence[float] | None = None) -> pl.Series:
    return pl.Series(np.array(list(words), dtype=object)[rng.choice(len(words), rows, p=p)].tolist(), dtype=pl.String)


def _numbered(prefix: str, rows: int, width: int = 6) -> pl.Expr:
    return pl.lit(prefix) + pl.int_range(1, rows + 1).cast(pl.String).str.zfill(width)


def _places(rng: np.random.Generator, rows: int) -> dict[str, pl.Series]:
    """Latitude and longitude in degrees, six decimals, none of them ending in zero."""
    found = {}
    for name, (low, high) in zip(("breedtegraad", "lengtegraad"), _THE_HAGUE, strict=True):
        millionths = rng.integers(int(low * 1e6), int(high * 1e6), rows)
        millionths += millionths % 10 == 0
        found[name] = pl.Series((millionths / 1e6).round(6)).cast(pl.String)
    return found


def _moments(rng: np.random.Generator, rows: int, form: str) -> pl.Series:
    """Moments in the month, whole minutes."""
    minutes = np.sort(rng.integers(0, 30 * 24 * 60, rows))
    return pl.Series((_FIRST * 1440 + minutes) * 60_000_000).cast(pl.Datetime("us")).dt.strftime(form)


def _comma(column: pl.Expr) -> pl.Expr:
    return column.str.replace(".", ",", literal=True)


def lisa(people: Population, seed: int) -> Iterator[Made]:
    """LISA: an establishment an address, with its jobs."""
    rng = np.random.default_rng([seed, 41])
    places = _addresses(people, rng)
    rows = places.height
    frame = places.select(
        vestigingsnummer=_numbered("0000", rows, 8), sbi_sectie=_choice(rng, "GIMQ", rows),
        sbi_code=_choice(rng, ["4711", "5610", "6201", "8621"], rows),
        werkzame_personen=pl.Series(np.maximum(1, rng.lognormal(0.8, 1.2, rows).astype(int))),
        datum_start=day(pl.Series(rng.integers(7_000, 18_000, rows))),
        wijze_start=_choice(rng, ["oprichting", "overname"], rows),
        nummeraanduiding=pl.col("gemeente") + pl.lit("20") + _numbered("", rows, 10),
        verblijfsobject=pl.col("gemeente") + pl.lit("01") + _numbered("", rows, 10),
        gemeente_code="gemeente", buurt_code="buurt_code",
    )  # fmt: skip
    spots = [
        zero_lost("vestigingsnummer", 0.01),
        Spot("gemeente_met_gm", 0.01, "repaired", "gemeente_code", lambda c: "GM" + c),
        Spot("getal_met_punt", 0.01, "repaired", "sbi_code", lambda c: c + ".0"),
        Spot("te_veel_banen", 0.003, "quarantined", "werkzame_personen", always("9999999")),
        Spot("datum_bestaat_niet", 0.003, "quarantined", "datum_start", june_31),
        *_BROKEN,
    ]
    yield made(load("lisa"), f"LISA_{YEAR}.csv", frame, spots, rng, duplicates=0.003)


def locatus(people: Population, seed: int) -> Iterator[Made]:
    """Locatus: shops, horeca and vacant premises in shopping areas."""
    rng = np.random.default_rng([seed, 42])
    places = _addresses(people, rng)
    rows = places.height
    vacant = rng.random(rows) < 0.08
    frame = places.select(
        naam=pl.when(pl.Series(vacant)).then(pl.lit("")).otherwise(_numbered("Zaak ", rows)),
        straat="straat", huisnummer="huisnummer", huisletter="huisletter", huisnummertoevoeging="toevoeging",
        winkelgebied=_choice(rng, ["Centrum", "Herenstraat", "Leidsenhage"], rows),
        winkelgebied_hoofdtype=_choice(rng, ["Centraal", "Ondersteunend"], rows),
        groep=pl.when(pl.Series(vacant)).then(pl.lit("Leegstand")).otherwise(pl.lit("Mode & Luxe")),
        hoofdbranche=_choice(rng, ["22-Mode", "24-Schoenen"], rows), branche=pl.lit("Kleding"),
        wvo=pl.Series(rng.integers(20, 3000, rows)), veldwerkdatum=day(pl.Series(rng.integers(18_270, 18_600, rows))),
        passanten=pl.Series(rng.integers(100, 50_000, rows)),
        passantenklasse=_choice(rng, ["0-5000", "5000-25000"], rows),
        x=pl.Series(rng.integers(76_000, 90_000, rows)), y=pl.Series(rng.integers(448_000, 460_000, rows)),
        postcode="postcode", inw5min=pl.Series(rng.integers(500, 60_000, rows)),
    )  # fmt: skip
    spots = [
        Spot("spaties", 0.01, "repaired", "postcode", lambda c: c.str.slice(0, 4) + " " + c.str.slice(4)),
        Spot("datum_met_streepjes", 0.01, "repaired", "veldwerkdatum",
             lambda c: c.str.slice(6) + "-" + c.str.slice(4, 2) + "-" + c.str.slice(0, 4)),
        Spot("graden_voor_meters", 0.003, "warned", "x", always("4.31")),
        Spot("postcode_onmogelijk", 0.003, "quarantined", "postcode", always("0999XX")),
        Spot("oppervlak_negatief", 0.003, "quarantined", "wvo", lambda c: "-" + c),
        *_BROKEN,
    ]  # fmt: skip
    yield made(load("locatus"), f"Locatus_{YEAR}.csv", frame, spots, rng, duplicates=0.003)


def laadpalen(people: Population, seed: int) -> Iterator[Made]:
    """Charging points as GeoJSON; some with swapped coordinates, some in Rijksdriehoek."""
    rng = np.random.default_rng([seed, 43])
    places = _addresses(people, rng)
    rows = places.height
    frame = places.select(
        evse_id=_numbered("NL*DFB*E", rows), exploitant=pl.lit("Voorbeeldladen"),
        vermogen_kw=_choice(rng, ["11", "22", "50", "150"], rows),
        postcode=pl.col("postcode").str.slice(0, 4) + " " + pl.col("postcode").str.slice(4), gemeente_code="gemeente",
        in_gebruik=day(pl.Series(rng.integers(16_000, 18_600, rows))), **_places(rng, rows),
    )  # fmt: skip
    # two columns at a time: the pair is wrong together
    pair = r'"lengtegraad":"([^"]*)","breedtegraad":"([^"]*)"'
    swapped = '"lengtegraad":"${2}","breedtegraad":"${1}"'
    in_rd = '"lengtegraad":"81160","breedtegraad":"455183.8"'
    spots = [
        Spot("coordinaten_verwisseld", 0.02, "repaired", None, lambda line: line.str.replace(pair, swapped)),
        Spot("coordinaten_rd", 0.02, "repaired", None, lambda line: line.str.replace(pair, in_rd)),
        Spot("kleine_letters", 0.01, "repaired", "evse_id", lambda c: c.str.to_lowercase()),
        Spot("buiten_nederland", 0.003, "quarantined", "breedtegraad", always("48.85")),
        Spot("geen_evse_id", 0.003, "quarantined", "evse_id", lambda c: c.str.replace_all("*", "-", literal=True)),
    ]
    yield made(load("laadpalen"), f"laadpalen_{YEAR}.geojson", frame, spots, rng, duplicates=0.003)


def _sessions(rng: np.random.Generator, rows: int) -> tuple[pl.Series, pl.Series, pl.Series]:
    """Begin, end and hours of charging sessions, sorted; no clock is changed in the first weeks of March."""
    begin = np.sort(rng.integers(0, 25 * 24 * 60, rows))
    minutes = rng.integers(1, 200, rows) * 6
    moments = [
        pl.Series((_FIRST * 1440 + part) * 60_000_000).cast(pl.Datetime("us")) for part in (begin, begin + minutes)
    ]
    return moments[0], moments[1], pl.Series((minutes / 60).round(1)).cast(pl.String).str.strip_suffix(".0")


def laadsessies_elaad(_people: Population, seed: int) -> Iterator[Made]:
    """Charging sessions in the manner of ElaadNL: local time under the name of UTC, decimal commas."""
    rng = np.random.default_rng([seed, 44])
    begin, end, hours = _sessions(rng, ROWS)
    form = "%d/%m/%Y %H:%M"
    frame = pl.DataFrame({"begin": begin.dt.strftime(form), "einde": end.dt.strftime(form)}).with_columns(
        sessie=_numbered("", ROWS, 8), laadpaal=_choice(rng, [f"NL*DFB*E{n:06}" for n in range(1, 40)], ROWS),
        aansluiting=1, laadpas=_numbered("f00dcafe", ROWS), uren_verbonden=_comma(pl.lit(hours)),
        uren_geladen=_comma(pl.lit(hours)), energie_kwh=pl.Series(rng.integers(1, 900, ROWS) / 10).cast(pl.String),
        vermogen_kw=pl.lit("11"),
    )  # fmt: skip
    spots = [
        Spot("begin_na_einde", 0.004, "warned", "einde", always(f"01/{MONTH:02}/{YEAR} 00:00"),
             pl.col("begin").str.slice(0, 2) > "02"),
        Spot("energie_negatief", 0.004, "quarantined", "energie_kwh", lambda c: "-" + c),
        Spot("teken_achteraan", 0.004, "quarantined", "energie_kwh", lambda c: _comma(c) + "-"),
        Spot("voor_2009", 0.004, "quarantined", "begin", always("01/01/2001 00:00")),
        Spot("toekomst", 0.004, "quarantined", "einde", always("01/01/2099 00:00")),
        Spot("duur_anders", 0.004, "warned", "uren_verbonden", always("1999")),
        *_BROKEN,
    ]  # fmt: skip
    yield made(load("laadsessies_elaad"), f"laadsessies_{YEAR}{MONTH:02}.csv", frame, spots, rng, duplicates=0.003)


def laadsessies_ocpi(people: Population, seed: int) -> Iterator[Made]:
    """Charging sessions as OCPI CDRs: nested, in UTC; swapped coordinates are to be refused."""
    rng = np.random.default_rng([seed, 45])
    begin, end, hours = _sessions(rng, ROWS)
    places = _addresses(people, rng)
    rows = places.height
    form = "%Y-%m-%dT%H:%M:%SZ"
    frame = places.select(
        cdr_id=_numbered("CDR", rows), begin=begin.dt.strftime(form).head(rows), einde=end.dt.strftime(form).head(rows),
        contract_id=_numbered("NL-DFB-C", rows), pas=_numbered("04A1B2", rows), evse_id=_numbered("NL*DFB*E", rows),
        adres=pl.format("{} {}", "straat", "huisnummer"), postcode="postcode", plaats=pl.lit("'s-Gravenhage"),
        energie_kwh=pl.Series(rng.integers(1, 900, rows)), uren=hours.head(rows),
        kosten_eur=pl.Series(rng.integers(1, 60, rows)), **_places(rng, rows),
    )  # fmt: skip
    spots = [
        Spot("spaties", 0.01, "repaired", "begin", lambda c: c.str.replace("Z", ".250Z ")),
        Spot("spaties", 0.01, "repaired", "einde", lambda c: " " + c.str.replace("Z", "+00:00")),
        Spot("coordinaten_verwisseld", 0.004, "quarantined", "breedtegraad", lambda _: pl.col("lengtegraad")),
        Spot("postcode_onmogelijk", 0.004, "quarantined", "postcode", always("2511")),
        Spot("begin_na_einde", 0.004, "quarantined", "einde", always(f"{YEAR}-02-01T00:00:00Z")),
        Spot("toekomst", 0.004, "quarantined", "einde", always("2099-01-01T00:00:00Z")),
        Spot("andere_maand", 0.004, "quarantined", "begin", always("2008-12-31T00:00:00Z")),
    ]
    yield made(load("laadsessies_ocpi"), f"cdr_{YEAR}{MONTH:02}.json", frame, spots, rng, duplicates=0.003)


def passanten(_people: Population, seed: int) -> Iterator[Made]:
    """Footfall per sensor and hour; an hour in which a sensor was out is empty."""
    rng = np.random.default_rng([seed, 46])
    out, counted = rng.random(ROWS) < 0.05, rng.integers(0, 9000, ROWS).astype(str)
    frame = pl.DataFrame(_places(rng, ROWS)).with_columns(
        sensor=_numbered("GAVM-", ROWS, 4), periode_soort=pl.lit("uur"), locatie=pl.lit("Grote Marktstraat"),
        moment=_moments(rng, ROWS, "%Y-%m-%dT%H:00:00"),
        passanten=pl.when(pl.Series(out)).then(pl.lit("")).otherwise(pl.Series(counted)),
        gebied=pl.lit("Centrum"),
    )  # fmt: skip
    spots = [
        Spot("null_als_tekst", 0.01, "repaired", "passanten", always("NULL")),
        Spot("dubbele_spaties", 0.01, "repaired", "locatie", always("Grote  Marktstraat")),
        Spot("passanten_negatief", 0.004, "quarantined", "passanten", always("-7")),
        Spot("onbekende_code", 0.004, "quarantined", "periode_soort", always("kwartier")),
        *_BROKEN,
    ]
    yield made(load("passanten"), f"passanten_{YEAR}{MONTH:02}.csv", frame, spots, rng, duplicates=0.003)


def verkeerstellingen(_people: Population, seed: int) -> Iterator[Made]:
    """Traffic counts: tabs, NULL as text, double spaces."""
    rng = np.random.default_rng([seed, 47])
    minutes = np.sort(rng.integers(0, 24 * 60, ROWS))
    moment = pl.Series((_FIRST * 1440 + minutes) * 60_000_000).cast(pl.Datetime("us"))
    frame = pl.DataFrame({"moment": moment.dt.strftime("%Y-%m-%d %H:%M:00")}).with_columns(
        telpunt=_numbered("Lus ", ROWS, 3), licht=pl.Series(rng.integers(0, 2000, ROWS)),
        vracht=pl.Series(rng.integers(0, 200, ROWS)), snelheid_kmu=pl.Series(rng.integers(20, 90, ROWS)),
        bezetting_pct=pl.Series(rng.integers(0, 100, ROWS)),
    )  # fmt: skip
    few = [replace(spot, spoil=lambda line: line.str.replace(r"\t[^\t]*$", "")) for spot in _BROKEN[:1]]
    spots = [
        Spot("null_als_tekst", 0.02, "repaired", "vracht", always("NULL")),
        Spot("dubbele_spaties", 0.01, "repaired", "telpunt", lambda c: c.str.replace(" ", "  ", literal=True)),
        Spot("komma", 0.01, "repaired", "snelheid_kmu", lambda c: c + ",5"),
        Spot("te_snel", 0.004, "quarantined", "snelheid_kmu", always("999")),
        Spot("andere_dag", 0.004, "quarantined", "moment", always(f"{YEAR}-12-31 10:00:00")),
        *few,
    ]
    yield made(load("verkeerstellingen"), f"verkeer_{YEAR}{MONTH:02}01.tsv", frame, spots, rng, duplicates=0.003)


def meldingen(people: Population, seed: int) -> Iterator[Made]:
    """Reports of public space; one in ten is still open."""
    rng = np.random.default_rng([seed, 48])
    places = _addresses(people, rng)
    rows = places.height
    reported = pl.Series((_FIRST * 1440 + np.sort(rng.integers(0, 30 * 1440, rows))) * 60_000_000).cast(
        pl.Datetime("us")
    )
    days = pl.Series(rng.integers(0, 40, rows))
    still = pl.Series(rng.random(rows) < 0.1)
    done = pl.Series(reported.to_numpy() + days.to_numpy().astype("timedelta64[D]"))
    form = "%Y-%m-%dT%H:%M:%S"
    frame = places.select(
        meldingsnummer=_numbered("1", rows, 5), hoofdcategorie=_choice(rng, ["Afval", "Wegen"], rows),
        subcategorie=_choice(rng, ["Veeg- en zwerfvuil", "Losse tegel"], rows), gemeld_op=reported.dt.strftime(form),
        afgehandeld_op=pl.when(still).then(pl.lit("")).otherwise(done.dt.strftime(form)),
        doorlooptijd_dagen=pl.when(still).then(pl.lit("")).otherwise(days.cast(pl.String)),
        tevredenheid=_choice(rng, ["J", "N", ""], rows), buurt_code="buurt_code",
    )  # fmt: skip
    spots = [
        Spot("ja_voluit", 0.01, "repaired", "tevredenheid", always("Ja")),
        Spot("null_als_tekst", 0.01, "repaired", "buurt_code", always("NULL")),
        Spot("getal_met_punt", 0.01, "repaired", "meldingsnummer", lambda c: c + ".0"),
        Spot("onbekende_code", 0.004, "quarantined", "tevredenheid", always("misschien")),
        Spot("voor_de_melding", 0.004, "quarantined", "afgehandeld_op", always("2001-01-01T00:00:00")),
        Spot("wijk_voor_buurt", 0.004, "quarantined", "buurt_code", lambda c: "WK" + c.str.slice(2, 6)),
        *_BROKEN,
    ]
    yield made(load("meldingen"), f"meldingen_{YEAR}{MONTH:02}.csv", frame, spots, rng, duplicates=0.003)


def evenementen(_people: Population, seed: int) -> Iterator[Made]:
    """The events calendar of a year."""
    rng = np.random.default_rng([seed, 49])
    first = pl.Series(np.sort(rng.integers(18_262, 18_600, ROWS)))
    frame = pl.DataFrame(_places(rng, ROWS)).with_columns(
        id=_numbered("EV", ROWS), titel=_choice(rng, ["Koningsdag", "Wijkfeest"], ROWS), omschrijving=pl.lit("Muziek"),
        klasse=_choice(rng, "ABC", ROWS, [0.85, 0.12, 0.03]), startdatum=day(first), einddatum=day(first + 1),
        starttijd=_choice(rng, ["0900", "1200"], ROWS), eindtijd=_choice(rng, ["1800", "2330"], ROWS),
        bezoekers=pl.Series(rng.integers(50, 20_000, ROWS)), url=pl.lit(""),
    )  # fmt: skip
    spots = [
        Spot("tijd_2400", 0.01, "repaired", "eindtijd", always("2400")),
        Spot("kleine_letter", 0.01, "repaired", "klasse", always("b")),
        Spot("tijd_onmogelijk", 0.004, "quarantined", "starttijd", always("2575")),
        Spot("onbekende_code", 0.004, "quarantined", "klasse", always("D")),
        Spot("einde_voor_begin", 0.004, "quarantined", "einddatum", always("20010101")),
        *_BROKEN,
    ]
    yield made(load("evenementen"), f"evenementen_{YEAR}.csv", frame, spots, rng, duplicates=0.003)


def hotelovernachtingen(people: Population, seed: int) -> Iterator[Made]:
    """Nights per accommodation in a month."""
    rng = np.random.default_rng([seed, 50])
    places = _addresses(people, rng, 300)
    rows = places.height
    frame = places.select(
        jaar=YEAR, maand=pl.lit(f"{MONTH:02}"), vestigingsnummer=_numbered("0000", rows, 8),
        naam=_numbered("Hotel ", rows),
        soort=_choice(rng, ["hotel", "particulier"], rows), kamers=pl.Series(rng.integers(1, 300, rows)),
        gasten=pl.Series(rng.integers(0, 5000, rows)), overnachtingen_nederland=pl.Series(rng.integers(0, 5000, rows)),
        overnachtingen_buitenland=pl.Series(rng.integers(0, 5000, rows)), gemeente_code="gemeente",
        buurt_code="buurt_code",
    )  # fmt: skip
    spots = [
        zero_lost("vestigingsnummer", 0.01),
        Spot("gemeente_zonder_nul", 0.01, "repaired", "gemeente_code", unpadded, padded("gemeente_code")),
        Spot("getal_met_punt", 0.01, "repaired", "gasten", lambda c: c + ".0"),
        Spot("teken_achteraan", 0.005, "quarantined", "overnachtingen_nederland", always("12-")),
        Spot("onbekende_code", 0.005, "quarantined", "soort", always("iglo")),
        Spot("andere_maand", 0.005, "quarantined", "maand", always("12")),
        *_BROKEN,
    ]
    file = f"hotelovernachtingen_{YEAR}{MONTH:02}.csv"
    yield made(load("hotelovernachtingen"), file, frame, spots, rng, duplicates=0.005)


def ddas(people: Population, seed: int) -> Iterator[Made]:
    """Debt-help procedures in the DDAS exchange model."""
    rng = np.random.default_rng([seed, 51])
    rows = min(ROWS, people.persons.height)
    persons = people.persons[np.sort(rng.choice(people.persons.height, rows, replace=False))]
    places = _addresses(people, rng, people.addresses.height)
    homes = places[rng.choice(places.height, rows)]
    start = pl.Series(rng.integers(17_900, 18_500, rows))
    running = pl.Series(rng.random(rows) < 0.6)
    frame = pl.concat([persons, homes], how="horizontal").select(
        organisatie=pl.lit("Schuldhulp Voorbeeld"), kvknummer=pl.lit("12345678"), gemeente_code="gemeente", bsn="bsn",
        geboortedatum=day("geboren"),
        geslacht=pl.when(pl.col("geslacht") == "M").then(pl.lit("man")).otherwise(pl.lit("vrouw")),
        postcode="postcode", huisnummer="huisnummer", startdatum=day(start),
        einddatum=pl.when(running).then(pl.lit("")).otherwise(day(start + 90)), toekenningsdatum=day(start - 5),
        aanmelding_start=day(start - 20), crisisinterventie=_choice(rng, ["J", "N"], rows, [0.1, 0.9]),
        regeling_datum=pl.lit(""), dwangakkoord=_choice(rng, ["J", "N"], rows, [0.05, 0.95]),
        schuldbedrag_eur=pl.Series(rng.integers(500, 90_000, rows)),
    )  # fmt: skip
    spots = [
        zero_lost("bsn", 0.01),
        Spot("gemeente_met_gm", 0.02, "repaired", "gemeente_code", lambda c: "GM" + c),
        Spot("datum_met_streepjes", 0.02, "repaired", "startdatum",
             lambda c: c.str.slice(0, 4) + "-" + c.str.slice(4, 2) + "-" + c.str.slice(6)),
        Spot("waar_of_onwaar", 0.02, "repaired", "crisisinterventie", always("true")),
        Spot("spaties", 0.01, "repaired", "postcode", spaces),
        Spot("elfproef", 0.004, "quarantined", "bsn", wrong_check_digit),
        Spot("onbekende_code", 0.004, "quarantined", "geslacht", always("X")),
        Spot("datum_bestaat_niet", 0.004, "quarantined", "aanmelding_start", june_31),
    ]  # fmt: skip
    yield made(load("ddas"), f"ddas_{YEAR}.json", frame, spots, rng, duplicates=0.003)


def cbs_uitvoer(_people: Population, seed: int) -> Iterator[Made]:
    """Results that CBS checked for disclosure and released."""
    rng = np.random.default_rng([seed, 53])
    frame = _figures(rng).with_columns(
        aantal=pl.Series(rng.integers(10, 5000, ROWS)), controle=pl.lit(f"{YEAR}-118"),
    )  # fmt: skip
    spots = [
        Spot("komma", 0.01, "repaired", "waarde", lambda c: c + ",5"),
        Spot("dubbele_spaties", 0.01, "repaired", "indicator", always("Aandeel  werkend")),
        Spot("regio_onmogelijk", 0.004, "quarantined", "regio_code", always("Den Haag")),
        Spot("geen_nummer", 0.004, "quarantined", "controle", always("mondeling")),
        *_BROKEN,
    ]
    yield made(load("cbs_uitvoer"), f"cbs_uitvoer_{YEAR}.csv", frame, spots, rng, duplicates=0.003)


def cbs_maatwerk(_people: Population, seed: int) -> Iterator[Made]:
    """A custom table of CBS as a workbook: marks for unknown, secret and nil, and a line on the source below."""
    rng = np.random.default_rng([seed, 52])
    frame = _figures(rng)
    marks = pl.when(pl.int_range(pl.len()) % 31 == 3).then(pl.lit("x")).when(pl.int_range(pl.len()) % 37 == 4)
    frame = frame.with_columns(waarde=marks.then(pl.lit(".")).otherwise("waarde"))
    spots = [
        Spot("nihil", 0.01, "repaired", "waarde", always("-")),
        Spot("spaties", 0.01, "repaired", "regio_code", spaces),
        Spot("regio_onmogelijk", 0.004, "quarantined", "regio_code", always("Den Haag")),
        Spot("periode_onmogelijk", 0.004, "quarantined", "periode", always("2020")),
        Spot("geen_getal", 0.004, "quarantined", "waarde", always("ca. 12")),
    ]
    file = f"maatwerk_{YEAR}.xlsx"
    yield made(load("cbs_maatwerk"), file, frame, spots, rng, duplicates=0.003, footer="Bron: CBS, maatwerk")


def _figures(rng: np.random.Generator) -> pl.DataFrame:
    return pl.DataFrame({"waarde": rng.integers(0, 900, ROWS).astype(str)}).with_columns(
        regio_code=_numbered("BU0518", ROWS, 4), periode=pl.lit(f"{YEAR}JJ00"), indicator=pl.lit("Aandeel werkend"),
        uitsplitsing=pl.lit("Totaal"),
    )  # fmt: skip


MAKERS: Mapping[str, Callable[[Population, int], Iterator[Made]]] = {
    maker.__name__: maker
    for maker in (
        lisa, locatus, laadpalen, laadsessies_elaad, laadsessies_ocpi, passanten, verkeerstellingen, meldingen,
        evenementen, hotelovernachtingen, ddas, cbs_maatwerk, cbs_uitvoer,
    )
}  # fmt: skip
"""A maker per delivery kind, under the name of its contract."""
