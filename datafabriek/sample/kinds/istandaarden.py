"""Messages of iJw and iWmo: toewijzing, start, stop, verzoek (one client each) and declaratie (many clients).

Belongs here: how the made-up population fills them, and which dirt goes in. The two standards have the same messages
and differ in clients and codes (`Standard`). Does not belong here: their layouts, which come from the contracts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl

from datafabriek.sample.deliveries import Made, always, day, made, wrong_check_digit
from datafabriek.sample.dirt import Spot
from datafabriek.sample.kinds.youth import YOUNG, residents
from datafabriek.sample.population import START, YEAR, Population
from quality.contracts.model import load

MESSAGES = 6
"""Messages of one client, per kind; the first few are dirty."""

PROVIDER = "65650000"
"""A made-up AGB code."""

_JUNE_31 = always("2027-06-31")  # as it was met in practice

Make = Callable[[pl.DataFrame, np.random.Generator], dict[str, pl.Expr | pl.Series]]

Correction = Sequence[Sequence[Mapping[str, pl.Expr]]]
"""Per message that corrects an earlier one its records: what differs from the record as it was sent first."""

_REMOVED, _FIRST = {"status_aanlevering": pl.lit("3")}, {"status_aanlevering": pl.lit("1")}


@dataclass(frozen=True)
class Standard:
    """What tells the messages of one standard from those of the other.

    Attributes:
        prefix: of the names of its messages.
        who: the persons that it is about.
        categories: product categories, and `product` a product code.
        reasons: why something stops; `no_reason` is a code that the other standard alone has.
        referrers: who referred.
    """

    prefix: str
    who: pl.Expr
    categories: tuple[str, ...]
    product: str
    reasons: tuple[str, ...]
    no_reason: str
    referrers: tuple[str, ...]


_OLD = pl.col("geboren") < START - 60 * 365

IJW = Standard("jw", YOUNG, ("45", "54", "31"), "45A03", ("31", "32", "38"), "19", ("01", "02", "04"))
IWMO = Standard("wmo", _OLD, ("01", "02", "07"), "01A03", ("19", "21", "38"), "32", ("01", "02", "06"))


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
    standard: Standard,
    message: int,
    people: Population,
    seed: int,
    make: Make,
    dirt: list[Spot],
    corrected: Correction = (),
) -> Iterator[Made]:
    """One message a client, each with two products; the last is corrected in messages of later days."""
    kind = f"{standard.prefix}{message}"
    rng = np.random.default_rng([seed, 50, message])
    contract = load(kind)
    clients = residents(people, standard.who, rng, 1.0).sample(MESSAGES, seed=int(rng.integers(1 << 31)))
    for number in range(MESSAGES):
        two = pl.concat([clients[number]] * 2).with_row_index("volgnummer", 10_000 + 2 * number)
        about: dict[str, pl.Expr | pl.Series] = {
            "gemeente_code": pl.col("gemeente_code").str.slice(2), "bsn": pl.col("bsn"),
            "geboortedatum": _dashed("geboren"),
            "geslacht": pl.when(pl.col("geslacht") == "M").then(pl.lit("1")).otherwise(pl.lit("2")),
            "productcategorie": pl.Series(rng.choice(standard.categories, 2)), "productcode": pl.lit(standard.product),
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


def _301(standard: Standard, people: Population, seed: int) -> Iterator[Made]:
    """What the municipality assigned."""

    def products(two: pl.DataFrame, rng: np.random.Generator) -> dict[str, pl.Expr | pl.Series]:
        begin = pl.Series(START + rng.integers(0, 90, two.height))
        return {
            "toewijzingsdatum": pl.lit(f"{YEAR}-03-15"), "ingangsdatum": _dashed(begin),
            "einddatum": _dashed(begin + 365), "volume": pl.lit("4"), "eenheid": pl.lit("04"),
            "frequentie": pl.lit("2"), "budget": pl.lit("250050"),
        }  # fmt: skip

    yield from _per_client(
        standard, 301, people, seed, products,
        [Spot("datum_bestaat_niet", 0.1, "quarantined", "einddatum", _JUNE_31), _WRONG_BSN, _WRONG_CATEGORY],
        [[{"einddatum": pl.lit(f"{YEAR}-12-31"), "reden_wijziging": pl.lit("05")}],
         [{"einddatum": pl.col("ingangsdatum"), "reden_wijziging": pl.lit("13")}]],
    )  # fmt: skip


def _305(standard: Standard, people: Population, seed: int) -> Iterator[Made]:
    """What began."""

    def products(two: pl.DataFrame, rng: np.random.Generator) -> dict[str, pl.Expr | pl.Series]:
        begin = pl.Series(START + rng.integers(0, 70, two.height))
        return {
            "toewijzing_ingangsdatum": _dashed(begin), "begindatum": _dashed(begin + 5),
            "status_aanlevering": pl.lit("1"),
        }  # fmt: skip

    # another first day is another record: the wrong one is taken back and the right one sent, in one message
    moved = [_REMOVED, _FIRST | {"begindatum": pl.lit(f"{YEAR}-03-12")}]
    yield from _per_client(standard, 305, people, seed, products, [_WRONG_BSN, _WRONG_CATEGORY], [moved])


def _307(standard: Standard, people: Population, seed: int) -> Iterator[Made]:
    """What stopped, and why."""

    def products(two: pl.DataFrame, rng: np.random.Generator) -> dict[str, pl.Expr | pl.Series]:
        begin = pl.Series(START - rng.integers(100, 400, two.height))
        return {
            "toewijzing_ingangsdatum": _dashed(begin), "begindatum": _dashed(begin), "einddatum": _dashed(begin + 90),
            "reden_beeindiging": pl.Series(rng.choice(standard.reasons, two.height)),
            "status_aanlevering": pl.lit("1"),
        }  # fmt: skip

    reason = Spot("onbekende_code", 0.1, "quarantined", "reden_beeindiging", always(standard.no_reason))
    before = Spot("einde_voor_begin", 0.1, "quarantined", "einddatum", always("2001-01-01"))
    yield from _per_client(standard, 307, people, seed, products, [reason, before, _WRONG_BSN], [[_REMOVED]])


def _315(standard: Standard, people: Population, seed: int) -> Iterator[Made]:
    """What a provider asked to be assigned."""

    def products(two: pl.DataFrame, rng: np.random.Generator) -> dict[str, pl.Expr | pl.Series]:
        begin = pl.Series(START + rng.integers(0, 90, two.height))
        return {
            "referentie_aanbieder": pl.format("ref{}", 88_000_000 + pl.col("volgnummer")),
            "toewijzing_ingangsdatum": _dashed(begin), "toewijzing_einddatum": _dashed(begin + 365),
            "volume": pl.lit("87"), "eenheid": pl.lit("83"), "frequentie": pl.lit("4"),
            "verwijzer": pl.Series(rng.choice(standard.referrers, two.height)), "raamcontract": pl.lit("1"),
        }  # fmt: skip

    end = Spot("datum_bestaat_niet", 0.1, "quarantined", "toewijzing_einddatum", _JUNE_31)
    yes = Spot("ja_voluit", 0.1, "repaired", "raamcontract", always("Ja"))
    yield from _per_client(standard, 315, people, seed, products, [end, yes, _WRONG_BSN])


def _323(standard: Standard, people: Population, seed: int) -> Iterator[Made]:
    """One declaration about many clients, per municipality; amounts in cents, some of them given back."""
    kind = f"{standard.prefix}323"
    contract = load(kind)
    rng = np.random.default_rng([seed, 50, 323])
    helped = residents(people, standard.who, rng, 0.06)
    for number, (place, clients) in enumerate(helped.group_by("gemeente_code", maintain_order=True)):
        rows = clients[np.repeat(np.arange(clients.height), 2)].with_row_index("volgnummer")
        height = rows.height
        frame = rows.select(
            **_header(kind, number), gemeente_code=pl.lit(str(place[0])[2:]), declaratienummer=pl.lit("DN001"),
            declaratie_begindatum=pl.lit(f"{YEAR}-02-01"), declaratie_einddatum=pl.lit(f"{YEAR}-02-29"), bsn="bsn",
            product_referentie=pl.format("RN{}", pl.col("volgnummer")),
            toewijzingnummer=pl.format("{}", 10_000 + pl.col("volgnummer") // 2),
            productcategorie=pl.Series(rng.choice(standard.categories[:2], height)),
            productcode=pl.lit(standard.product),
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
        file = f"{kind.upper()}_{YEAR}0316_{number:06}.xml"
        yield made(contract, file, frame, spots, rng, duplicates=0.0)


_MAKERS = {301: _301, 305: _305, 307: _307, 315: _315, 323: _323}

MAKERS: Mapping[str, Callable[[Population, int], Iterator[Made]]] = {
    f"{standard.prefix}{number}": partial(maker, standard)
    for standard in (IJW, IWMO)
    for number, maker in _MAKERS.items()
}
"""A maker per delivery kind."""
