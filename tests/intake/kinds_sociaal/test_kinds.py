"""Every kind of the social domain: judged as its labels say, and fed to the table of its purpose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from assets.deliveries.delivered import LINE, DeliveryError
from assets.deliveries.intake import take_inbox
from assets.deliveries.judging import Tally, judged
from assets.deliveries.layouts import Source, read, render
from assets.deliveries.purposes import derive
from datafabriek.config import Settings
from datafabriek.sample.deliveries import Made, write_deliveries
from datafabriek.warehouse import warehouse
from quality.contracts.model import load
from quality.privacy.keys import ensure_key

KINDS = {
    "srg": "reintegratie",
    "bdfs": "schulden",
    "beleidsinformatie_jeugd": "jeugd",
    "gws_trajecten": "reintegratie",
    "zorgned_facturen": "jeugd",
    "stadspas": "armoede",
    "inkomenstoeslag": "armoede",
    **{f"{prefix}{number}": purpose for prefix, purpose in (("jw", "jeugd"), ("wmo", "wmo"))
       for number in (301, 305, 307, 315, 323)},
}  # fmt: skip


def _rows(settings: Settings, query: str) -> list[tuple[Any, ...]]:
    with warehouse(settings.paths, settings.resources) as con:
        return con.execute(query).fetchall()


@pytest.mark.parametrize("kind", KINDS)
def test_the_labelled_dirt_is_found_exactly(kind: str, deliver: Callable[[str], list[Made]]) -> None:
    contract = load(kind)
    for file, body, labels, records in deliver(kind):
        tally, kept, refused = Tally(), 0, set[int]()
        for part in judged(Source(file, body), contract, contract.period.of_file(file), tally):
            kept += len(part.accepted)
            refused |= set(part.refused[LINE])
        assert refused == set(labels.filter(uitkomst="quarantined")["regel"]), tally.as_json()
        assert tally.delivered == records + labels.filter(soort="afdrukregel").height == kept + tally.refused
        warned = {name for name, _, severity in tally.findings if severity == "warning"}
        assert warned == set(labels.filter(uitkomst="warned")["veld"])
        for outcome, told in (("repaired", "hersteld"), ("read", "afgesproken")):
            for field, dirt in labels.filter(uitkomst=outcome).group_by("veld"):
                found = [f.count for (column, _, s), f in tally.findings.items() if (column, s) == (field[0], told)]
                assert sum(found) >= dirt.height, field


@pytest.mark.parametrize("kind", KINDS)
def test_it_feeds_its_table_and_leaves_no_identifier(
    kind: str, deliver: Callable[[str], list[Made]], factory_of: Callable[[str], Settings]
) -> None:
    settings = factory_of(kind)
    inbox = settings.paths.inbox / kind
    inbox.mkdir(parents=True)
    for file, body, _, _ in deliver(kind):
        (inbox / file).write_bytes(body)
    outcomes = take_inbox(settings, kind)
    assert {outcome.status for outcome in outcomes} == {"ontvangen"}, [outcome.reason for outcome in outcomes]
    assert not list(inbox.iterdir())
    made = derive(settings, ensure_key(settings.paths), kind, KINDS[kind])
    assert 0 < made.rows <= sum(outcome.accepted for outcome in outcomes)
    with warehouse(settings.paths, settings.resources) as con:
        table = con.execute(f"SELECT * FROM raw_{KINDS[kind]}.{kind}").pl()
    purpose = load(kind).purposes[KINDS[kind]]
    assert [column.name for column in purpose.columns] == table.columns[:-2]
    for column in purpose.columns:
        if column.derivation in {"groep", "klasse", "leeftijdsklasse"}:
            assert table[column.name].drop_nulls().n_unique() > 1, column.name
    told = table.select(pl.exclude(pl.Object)).write_csv()
    for number in _identifiers(kind, deliver):
        assert number not in told


def _identifiers(kind: str, deliver: Callable[[str], list[Made]]) -> set[str]:
    contract = load(kind)
    closed = [c.name for c in contract.columns if c.privacy in {"direct_identificerend", "administratief_nummer"}]
    found: set[str] = set()
    for file, body, _, _ in deliver(kind):
        for piece in read(Source(file, body), contract):
            for name in closed:
                found |= {v for v in piece.rows[name].drop_nulls() if len(v) > 7}
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_rendered_is_read_back(kind: str, deliver: Callable[[str], list[Made]]) -> None:
    contract = load(kind)
    file, body, _, _ = deliver(kind)[0]
    rows = pl.concat(piece.rows for piece in read(Source(file, body), contract)).drop(LINE)
    again = pl.concat(piece.rows for piece in read(Source(file, render(rows, contract)), contract)).drop(LINE)
    assert again.equals(rows)


@pytest.mark.parametrize(
    ("kind", "layout"),
    [("srg", "srg_2015"), ("bdfs", "bdfs_2015"), ("beleidsinformatie_jeugd", "beleidsinformatie_jeugd_v2")],
)
def test_fields_and_positions_are_those_of_the_annex(kind: str, layout: str, shared_data: Path) -> None:
    printed = pl.read_csv(shared_data / "municipal" / f"{layout}.csv", infer_schema=False)
    columns = load(kind).columns
    assert len(columns) == len(printed)
    for column, size in zip(columns, printed["formaat"], strict=True):
        width = max(int(part.strip("AN")) for part in size.split()[0].replace("sign+", "").split("/"))
        assert column.width == width + size.startswith("sign"), column.name


def test_an_empty_srg_is_a_delivery_and_no_gap(factory_of: Callable[[str], Settings]) -> None:
    settings = factory_of("srg")
    inbox = settings.paths.inbox / "srg"
    inbox.mkdir(parents=True)
    (inbox / "SRG_202003.txt").write_bytes(b"")
    (outcome,) = take_inbox(settings, "srg")
    assert (outcome.status, outcome.delivered) == ("ontvangen", 0)


@pytest.mark.parametrize(
    ("period", "code", "rule"),
    [
        ("2018-12", "04", None), ("2018-12", "23", "code_geldig"), ("2019-01", "04", "code_geldig"),
        ("2019-01", "23", None), ("2019-01", "59", None), ("2024-05", "24", "codelijst"),
    ],
)  # fmt: skip
def test_a_code_of_the_srg_counts_only_where_its_meaning_is_known(
    period: str, code: str, rule: str | None, deliver: Callable[[str], list[Made]]
) -> None:
    contract = load("srg")
    file, body, _, _ = deliver("srg")[0]
    rows = pl.concat(piece.rows for piece in read(Source(file, body), contract)).drop(LINE).head(1)
    year, month = period.split("-")
    changed = rows.with_columns(
        statistiekjaar=pl.lit(year), statistiekmaand=pl.lit(month), type_voorziening=pl.lit(code),
        begindatum_voorziening=pl.lit("20180101"), einddatum_voorziening=pl.lit("00000000"),
    )  # fmt: skip
    tally, source = Tally(), Source("SRG", render(changed, contract))
    if rule is None:
        assert [len(part.accepted) for part in judged(source, contract, period, tally)] == [1]
    else:
        with pytest.raises(DeliveryError, match=f"column `type_voorziening`, rule `{rule}`"):
            list(judged(source, contract, period, tally))


@pytest.mark.parametrize(("period", "unknown"), [("2015-H2", "000000000"), ("2016-H1", "999999999")])
def test_both_protocols_of_beleidsinformatie_tell_unknown_from_unborn(
    period: str, unknown: str, deliver: Callable[[str], list[Made]]
) -> None:
    contract = load("beleidsinformatie_jeugd")
    file, body, _, _ = next(made for made in deliver("beleidsinformatie_jeugd") if period.replace("-", "") in made[0])
    raw = pl.concat(piece.rows for piece in read(Source(file, body), contract))
    judgement = [part.accepted for part in judged(Source(file, body), contract, period, Tally())]
    accepted = pl.concat(judgement)
    told = accepted.join(raw.select(LINE, was="bsn"), on=LINE)
    assert set(told.filter(bsn="onbekend")["was"]) == {unknown}
    assert told.filter(bsn="ongeboren")["geboortedatum"].is_null().all()
    assert told.filter(bsn="ongeboren").height > 0


def test_a_delivery_after_the_other_protocol_is_refused(deliver: Callable[[str], list[Made]]) -> None:
    contract = load("beleidsinformatie_jeugd")
    file, body, _, _ = deliver("beleidsinformatie_jeugd")[0]
    clean = [line for line in body.splitlines(keepends=True) if line.startswith((b"000000000", b"9999999999999"))]
    with pytest.raises(DeliveryError, match="ongeborene_heeft_geen_geboortedatum"):
        list(judged(Source(file, b"".join(clean)), contract, "2016-H1", Tally()))


def test_a_later_half_year_replaces_all_before(
    deliver: Callable[[str], list[Made]], factory_of: Callable[[str], Settings]
) -> None:
    settings = factory_of("beleidsinformatie_jeugd")
    inbox = settings.paths.inbox / "beleidsinformatie_jeugd"
    inbox.mkdir(parents=True)
    for file, body, _, _ in deliver("beleidsinformatie_jeugd"):
        (inbox / file).write_bytes(body)
    take_inbox(settings, "beleidsinformatie_jeugd")
    derive(settings, ensure_key(settings.paths), "beleidsinformatie_jeugd", "jeugd")
    query = "SELECT DISTINCT split_part(levering, '-H', 1), bekendheid, persoon_pseudoniem IS NULL AS leeg FROM {}"
    found = set(_rows(settings, query.format("raw_jeugd.beleidsinformatie_jeugd")))
    name = "beleidsinformatie_jeugd-2016"
    assert found == {(name, "bekend", False), (name, "onbekend", True), (name, "ongeboren", True)}


def test_passes_are_placed_by_their_address(
    deliver: Callable[[str], list[Made]], factory_of: Callable[[str], Settings]
) -> None:
    settings = factory_of("stadspas")
    write_deliveries(settings.paths.inbox, scale=0.05, kinds=["adressen"])
    inbox = settings.paths.inbox / "stadspas"
    inbox.mkdir()
    for file, body, _, _ in deliver("stadspas"):
        (inbox / file).write_bytes(body)
    for name in ("adressen", "stadspas"):
        take_inbox(settings, name)
    made = derive(settings, ensure_key(settings.paths), "stadspas", "armoede")
    assert (made.unknown_buurt or 0) < made.rows * 0.1
