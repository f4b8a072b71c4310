"""Messages of the iJw standard: toewijzing, start, stop, verzoek (one client each) and declaratie (many clients).

Belongs here: how the made-up population fills them, and which dirt goes in. Does not belong here: their layouts, which
come from the contracts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import polars as pl

from datafabriek.sample.deliveries import Made, always, day, made, wrong_check_digit
from datafabriek.sample.dirt import Spot
from datafabriek.sample.kinds.youth import children
from datafabriek.sample.population import START, YEAR, Population
from quality.contracts.model import load

MESSAGES = 12
"""Messages of one client, per kind; the first few are dirty."""

PROVIDER = "65650000"
"""A made-up AGB code."""

_JUNE_31 = always("2027-06-31")  # as it was met in practice

Make = Callable[[pl.DataFrame, np.random.Generator], dict[str, pl.Expr | pl.Series]]

Correction = Sequence[Sequence[Mapping[str, pl.Expr]]]
"""Per message that corrects an earlier one its records: what differs from the record as it was sent first."""

_REMOVED, _FIRST = {"status_aanlevering": pl.lit("3")}, {"status_aanlevering": pl.lit("1")}


def _dashed(days: str | pl.Expr | pl.Series) -> pl.Expr:
    """A day as jjjj-mm-dd."""
    return day(days).str.replace(r"^(\d{4})(\d{2})(\d{2})$", "${1}-${2}-${3}")


def _header(kind: str, number: int) -> dict[str, pl.Expr]:
    code = next(iter(load(kind)["bericht_code"].codes))
    return {
        "bericht_code": pl.lit(code), "bericht_versie": pl.lit("3"), "aanbieder": pl.lit(PROVIDER),
        "bericht_identificatie": pl.lit(f"{YEAR}{number:06}"), "dagtekening": pl.lit(f"{YEAR}-03-16"),
    }  # fmt: skip


def _per_client(
    kind: str, people: Population, seed: int, make: Make, dirt: list[Spot], corrected: Correction = ()
) -> Iterator[Made]:
    """One message a client, each with two products; the last is corrected in messages of later days."""
    rng = np.random.default_rng([seed, 50, int(kind[2:])])
    contract = load(kind)
    clients = children(people, rng, 1.0).sample(MESSAGES, seed=int(rng.integers(1 << 31)))
    for number in range(MESSAGES):
        two = pl.concat([clients[number]] * 2).with_row_index("volgnummer", 10_000 + 2 * number)
        about: dict[str, pl.Expr | pl.Series] = {
            "gemeente_code": pl.col("gemeente_code").str.slice(2), "bsn": pl.col("bsn"),
            "geboortedatum": _dashed("geboren"),
            "geslacht": pl.when(pl.col("geslacht") == "M").then(pl.lit("1")).otherwise(pl.lit("2")),
            "productcategorie": pl.Series(rng.choice(["45", "54", "31"], 2)), "productcode": pl.lit("45A03"),
            "toewijzingnummer": pl.col("volgnummer").cast(pl.String),
        }  # fmt: skip
        nothing: dict[str, pl.Expr | pl.Series] = dict.fromkeys(contract.names, pl.lit(""))
        every = {**nothing, **about, **_header(kind, number), **make(two, rng)}
        frame = two.select(**{name: every[name] for name in contract.names})
        file = f"{kind.upper()}_{YEAR}0316_{number:06}.xml"
        yield made(contract, file, frame, dirt[number : number + 1], rng, duplicates=0.0)
    for number, changes in enumerate(corrected, MESSAGES):
        header = _header(kind, number) | {"dagtekening": pl.lit(f"{YEAR}-04-{number:02}")}
        again = pl.concat(frame.head(1).with_columns(**header, **change) for change in changes)
        yield made(contract, f"{kind.upper()}_{YEAR}04{number:02}_{number:06}.xml", again, [], rng, duplicates=0.0)


_WRONG_BSN = Spot("elfproef", 0.1, "quarantined", "bsn", wrong_check_digit)
_WRONG_CATEGORY = Spot("onbekende_code", 0.1, "quarantined", "productcategorie", always("99"))


def jw301(people: Population, seed: int) -> Iterator[Made]:
    """What the municipality assigned."""

    def products(two: pl.DataFrame, rng: np.random.Generator) -> dict[str, pl.Expr | pl.Series]:
        begin = pl.Series(START + rng.integers(0, 90, two.height))
        return {
            "toewijzingsdatum": pl.lit(f"{YEAR}-03-15"), "ingangsdatum": _dashed(begin),
            "einddatum": _dashed(begin + 365), "volume": pl.lit("4"), "eenheid": pl.lit("04"),
            "frequentie": pl.lit("2"), "budget": pl.lit("250050"),
        }  # fmt: skip

    yield from _per_client(
        "jw301", people, seed, products, [Spot("datum_bestaat_niet", 0.1, "quarantined", "einddatum", _JUNE_31),
                                          _WRONG_BSN, _WRONG_CATEGORY],
        [[{"einddatum": pl.lit(f"{YEAR}-12-31"), "reden_wijziging": pl.lit("05")}],
         [{"einddatum": pl.col("ingangsdatum"), "reden_wijziging": pl.lit("13")}]],
    )  # fmt: skip


def jw305(people: Population, seed: int) -> Iterator[Made]:
    """What began."""

    def products(two: pl.DataFrame, rng: np.random.Generator) -> dict[str, pl.Expr | pl.Series]:
        begin = pl.Series(START + rng.integers(0, 70, two.height))
        return {
            "toewijzing_ingangsdatum": _dashed(begin), "begindatum": _dashed(begin + 5),
            "status_aanlevering": pl.lit("1"),
        }  # fmt: skip

    # another first day is another record: the wrong one is taken back and the right one sent, in one message
    moved = [_REMOVED, _FIRST | {"begindatum": pl.lit(f"{YEAR}-03-12")}]
    yield from _per_client("jw305", people, seed, products, [_WRONG_BSN, _WRONG_CATEGORY], [moved])


def jw307(people: Population, seed: int) -> Iterator[Made]:
    """What stopped, and why."""

    def products(two: pl.DataFrame, rng: np.random.Generator) -> dict[str, pl.Expr | pl.Series]:
        begin = pl.Series(START - rng.integers(100, 400, two.height))
        return {
            "toewijzing_ingangsdatum": _dashed(begin), "begindatum": _dashed(begin), "einddatum": _dashed(begin + 90),
            "reden_beeindiging": pl.Series(rng.choice(["31", "32", "38"], two.height)),
            "status_aanlevering": pl.lit("1"),
        }  # fmt: skip

    reason = Spot("onbekende_code", 0.1, "quarantined", "reden_beeindiging", always("30"))
    before = Spot("einde_voor_begin", 0.1, "quarantined", "einddatum", always("2001-01-01"))
    yield from _per_client("jw307", people, seed, products, [reason, before, _WRONG_BSN], [[_REMOVED]])


def jw315(people: Population, seed: int) -> Iterator[Made]:
    """What a provider asked to be assigned."""

    def products(two: pl.DataFrame, rng: np.random.Generator) -> dict[str, pl.Expr | pl.Series]:
        begin = pl.Series(START + rng.integers(0, 90, two.height))
        return {
            "referentie_aanbieder": pl.format("ref{}", 88_000_000 + pl.col("volgnummer")),
            "toewijzing_ingangsdatum": _dashed(begin), "toewijzing_einddatum": _dashed(begin + 365),
            "volume": pl.lit("87"), "eenheid": pl.lit("83"), "frequentie": pl.lit("4"),
            "verwijzer": pl.Series(rng.choice(["01", "02", "04"], two.height)), "raamcontract": pl.lit("J"),
        }  # fmt: skip

    end = Spot("datum_bestaat_niet", 0.1, "quarantined", "toewijzing_einddatum", _JUNE_31)
    yes = Spot("een_of_twee", 0.1, "repaired", "raamcontract", always("1"))
    yield from _per_client("jw315", people, seed, products, [end, yes, _WRONG_BSN])


def jw323(people: Population, seed: int) -> Iterator[Made]:
    """One declaration about many clients, per municipality; amounts in cents, some of them given back."""
    contract = load("jw323")
    rng = np.random.default_rng([seed, 50, 323])
    helped = children(people, rng, 0.06)
    for number, (place, clients) in enumerate(helped.group_by("gemeente_code", maintain_order=True)):
        rows = clients[np.repeat(np.arange(clients.height), 2)].with_row_index("volgnummer")
        height = rows.height
        frame = rows.select(
            **_header("jw323", number), gemeente_code=pl.lit(str(place[0])[2:]), declaratienummer=pl.lit("DN001"),
            declaratie_begindatum=pl.lit(f"{YEAR}-02-01"), declaratie_einddatum=pl.lit(f"{YEAR}-02-29"), bsn="bsn",
            product_referentie=pl.format("RN{}", pl.col("volgnummer")),
            toewijzingnummer=pl.format("{}", 10_000 + pl.col("volgnummer") // 2),
            productcategorie=pl.Series(rng.choice(["45", "54"], height)), productcode=pl.lit("45A03"),
            product_begindatum=pl.lit(f"{YEAR}-02-01"), product_einddatum=pl.lit(f"{YEAR}-02-29"),
            geleverd_volume=pl.Series(rng.integers(1, 40, height)), eenheid=pl.lit("04"), tarief=pl.lit("1250"),
            bedrag=pl.Series(rng.integers(100, 90_000, height)),
            debet_credit=pl.Series(rng.choice(["D", "C"], height, p=[0.95, 0.05])),
        )  # fmt: skip
        spots = [
            Spot("kleine_letter", 0.01, "repaired", "debet_credit", lambda c: c.str.to_lowercase()),
            Spot("min_in_bedrag", 0.01, "quarantined", "bedrag", lambda c: "-" + c),
            Spot("geen_gehele_centen", 0.01, "quarantined", "bedrag", always("12,50")),
            _WRONG_BSN if height < 50 else Spot("elfproef", 0.01, "quarantined", "bsn", wrong_check_digit),
        ]
        file = f"JW323_{YEAR}0316_{number:06}.xml"
        yield made(contract, file, frame, spots, rng, duplicates=0.0)


MAKERS: Mapping[str, Callable[[Population, int], Iterator[Made]]] = {
    "jw301": jw301, "jw305": jw305, "jw307": jw307, "jw315": jw315, "jw323": jw323,
}  # fmt: skip
"""A maker per delivery kind."""
