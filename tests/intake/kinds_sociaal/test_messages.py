"""XML messages: records under a path, what stands above them with each, and nothing that would blow up when read."""

from __future__ import annotations

import itertools
import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assets.deliveries.delivered import LINE, DeliveryError
from assets.deliveries.intake import take_inbox
from assets.deliveries.judging import Tally, judged
from assets.deliveries.layouts import Source, read, render
from assets.deliveries.purposes import derive
from assets.deliveries.superseding import REMOVES, REPLACES
from datafabriek.config import Settings
from datafabriek.sample.deliveries import Made
from datafabriek.sample.kinds.istandaarden import MESSAGES
from quality.contracts.model import load
from quality.privacy.keys import ensure_key

JW315, JW323 = load("jw315"), load("jw323")
NUMBERS = (301, 305, 307, 315, 323)
NAMES = [f"{standard}{number}" for standard in ("jw", "wmo") for number in NUMBERS]


def _message(products: str, root: str = "jw315", before: str = "", version: str = "3_2") -> bytes:
    """A 315 as a provider writes it: prefixes, elements that the contract does not take, spaces and comments."""
    space = f"http://www.istandaarden.nl/ijw/{version}/{root}/schema"
    return f"""<?xml version="1.0" encoding="UTF-8"?>{before}
<m:Bericht xmlns:m="{space}" xmlns:ijw="http://www.istandaarden.nl/ijw/3_2/basisschema/schema">
  <m:Header><m:BerichtCode>446</m:BerichtCode><m:BerichtVersie>3</m:BerichtVersie>
    <m:Afzender>65650000</m:Afzender><m:Ontvanger>0518</m:Ontvanger>
    <m:BerichtIdentificatie><ijw:Identificatie>A1</ijw:Identificatie><ijw:Dagtekening>2020-03-16</ijw:Dagtekening>
    </m:BerichtIdentificatie></m:Header>
  <m:Client><m:Bsn> 9999<!-- x -->00006 </m:Bsn>
    <m:Geboortedatum><ijw:Datum>2010-02-14</ijw:Datum></m:Geboortedatum><m:Geslacht>1</m:Geslacht>
    <m:Naam><ijw:Geslachtsnaam><ijw:Achternaam>Zeldzaam</ijw:Achternaam></ijw:Geslachtsnaam></m:Naam>
    <m:AangevraagdeProducten>{products}</m:AangevraagdeProducten></m:Client>
</m:Bericht>""".encode()


def _product(reference: str, **values: str) -> str:
    end = values.get("einde", "")
    return (
        f"<m:AangevraagdProduct><m:ReferentieAanbieder>{reference}</m:ReferentieAanbieder>"
        "<m:ToewijzingIngangsdatum>2020-04-01</m:ToewijzingIngangsdatum>"
        + (f"<m:ToewijzingEinddatum>{end}</m:ToewijzingEinddatum>" if end else "")
        + "<m:Verwijzer><ijw:Type>02</ijw:Type></m:Verwijzer></m:AangevraagdProduct>"
    )


def _read(data: bytes) -> pl.DataFrame:
    return pl.concat(piece.rows for piece in read(Source("bericht.xml", data), JW315))


def test_what_stands_above_a_record_goes_with_it_and_names_are_not_taken() -> None:
    found = _read(_message(_product("r1", einde="2021-04-01") + _product("r2")))
    assert found.select(LINE, "bsn", "gemeente_code", "referentie_aanbieder", "toewijzing_einddatum").rows() == [
        (1, "999900006", "0518", "r1", "2021-04-01"),
        (2, "999900006", "0518", "r2", None),
    ]
    assert "Zeldzaam" not in found.write_csv()


@pytest.mark.parametrize(
    ("products", "told"),
    [
        (
            _product("r1") + _product("r2").replace("AangevraagdP", "aangevraagdP"),
            "another name stands among the records",
        ),
        (_product("r1") + "<m:jansen/>", "record 2: an element of another name stands among the"),
        (
            f"</m:AangevraagdeProducten>{_product('r1')}<m:AangevraagdeProducten>",
            "a record stands elsewhere than in",
        ),
        (f"</m:AangevraagdeProducten></m:Client>{_product('r1')}<m:Client><m:AangevraagdeProducten>", "below the root"),
        ("</m:AangevraagdeProducten></m:Client><m:jansen/><m:Client><m:AangevraagdeProducten>", "right below the root"),
        (
            _product("r1").replace("</m:AangevraagdProduct>", _product("r2") + "</m:AangevraagdProduct>"),
            "elsewhere than",
        ),
        (
            _product("r1").replace("</m:AangevraagdProduct>", f"<m:x>{_product('r2')}</m:x></m:AangevraagdProduct>"),
            "elsewhere than",
        ),
        (_product("<x/>r1"), "holds elements where a value was agreed"),
        (_product("r<x>12</x>1"), "holds elements where a value was agreed"),
    ],
    ids=[
        "other case",
        "other name",
        "elsewhere",
        "below the root",
        "other below the root",
        "in a record",
        "deep in a record",
        "in a value",
        "amid a value",
    ],
)
def test_no_record_or_part_of_a_value_vanishes(products: str, told: str) -> None:
    with pytest.raises(DeliveryError) as caught:
        _read(_message(products))
    assert told in str(caught.value)
    assert "jansen" not in str(caught.value)  # the name of an element may be anyone's
    inside = _product("r1").replace("</m:AangevraagdProduct>", "<m:AangevraagdProducten/></m:AangevraagdProduct>")
    assert len(_read(_message(inside))) == 1  # elements that no column names are borne


@pytest.mark.parametrize("around", ["", _product("r1")], ids=["nothing else", "beside a record"])
def test_a_client_without_records_is_told_as_a_number(around: str) -> None:
    """Her BSN stood in the message and left no trace: neither a row nor a refusal, but told."""
    client = "<m:Client><m:Bsn>999900018</m:Bsn>{}</m:Client>"
    more = client.format("") + client.format("<m:AangevraagdeProducten/>")
    data = _message(around).replace(b"</m:Bericht>", f"{more}</m:Bericht>".encode())
    tally = Tally()
    parts = list(judged(Source("bericht.xml", data), replace(JW315, empty_allowed=True), "2020-03-16", tally))
    records = 1 if around else 0
    assert (tally.delivered, tally.accepted, sum(len(part.accepted) for part in parts)) == (records,) * 3
    (finding,) = [f for f in tally.as_json() if f["rule"] == "zonder_record"]
    assert (finding["count"], finding["severity"]) == (3 - records, "warning")


def test_what_was_agreed_to_stand_below_the_root_is_passed_over() -> None:
    data = _message(_product("r1")).replace(b"</m:Bericht>", b"<m:Bijlage>x</m:Bijlage></m:Bericht>")
    layout = replace(JW315.layout, options={**JW315.layout.options, "ook": ["Bijlage"]})
    (piece,) = read(Source("bericht.xml", data), replace(JW315, layout=layout))
    assert len(piece.rows) == 1
    with pytest.raises(DeliveryError, match="right below the root"):
        _read(data)


def test_a_day_that_does_not_exist_refuses_its_record() -> None:
    tally = Tally()
    data = _message(_product("r1", einde="2027-06-31") + _product("r2"))
    parts = list(judged(Source("bericht.xml", data), JW315, "2020-03-16", tally))
    assert parts[0].refused.select(LINE, pl.col("regels").list.first()).rows() == [(1, "toewijzing_einddatum.datum")]
    assert (tally.delivered, tally.accepted, tally.refused) == (2, 1, 1)


printable = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="￾￿"), max_size=9)


@given(rows=st.lists(st.tuples(st.sampled_from(["999900006", "123456782"]), printable), min_size=1, max_size=20))
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=50, deadline=None)
def test_a_message_is_read_back_as_rendered(rows: list[tuple[str, str]]) -> None:
    frame = pl.DataFrame({name: [""] * len(rows) for name in JW323.names}).with_columns(
        gemeente_code=pl.lit("0518"),
        bsn=pl.Series([bsn for bsn, _ in rows]),
        product_referentie=pl.Series([reference for _, reference in rows]),
    )
    pieces = list(read(Source("bericht.xml", render(frame, JW323)), JW323))
    found = pl.concat(piece.rows for piece in pieces)
    assert found.drop(LINE).fill_null("").equals(frame)


def test_pieces_are_bounded_and_numbered_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assets.deliveries.xml._ROWS", 3)
    data = _message("".join(_product(f"r{number}") for number in range(7)))
    pieces = list(read(Source("bericht.xml", data), JW315))
    assert [len(piece.rows) for piece in pieces] == [3, 3, 1]
    assert pl.concat(piece.rows for piece in pieces)[LINE].to_list() == list(range(1, 8))


def _entities(count: int) -> str:
    lines = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, count))
    return f'<!DOCTYPE m [<!ENTITY e0 "lol">{lines}]>'


SECRET = "root:x:0"


@pytest.mark.parametrize("standard", ["jw", "wmo"])
@pytest.mark.parametrize(
    ("data", "told"),
    [
        (_message("&e9;", before=_entities(10)), "declares a document type"),
        (_message("&x;", before='<!DOCTYPE m [<!ENTITY x SYSTEM "file:///etc/passwd">]>'), "declares a document type"),
        (_message("", before='<!DOCTYPE m SYSTEM "http://127.0.0.1:9/x.dtd">'), "declares a document type"),
        (_message("", before=" " * 70_000 + _entities(3)), "declares a document type"),
        (_message(_product("r1")).decode().encode("utf-16"), "UTF-16"),
        (_message(_product("r1")).replace(b"UTF-8", b"ISO-8859-1"), "is ISO-8859-1: deliver it as utf-8"),
        (_message(_product("r1")).replace(b"UTF-8", b"J999900006"), "in an unknown encoding: deliver it as utf-8"),
        (_message(_product("caf\u00e9")).decode().encode("cp1252"), "not well-formed XML in utf-8"),
        (_message(_product("r\0")), "not well-formed"),
        (_message(_product("x" * (10 << 20))), "a value larger than 10 MB"),
        (_message(_product("<m:x>" * 300 + "</m:x>" * 300)), "not well-formed"),
        (_message(_product("r1"))[:-40], "not well-formed"),
        (_message(_product("r1"), root="jw305"), "is another message"),
        (_message(_product("r1"), version="3_0"), "check message and version"),
        (b"PK\x03\x04rest", "not well-formed"),
        (_message(_product("r1").replace("</m:ReferentieAanbieder>", "</m:ReferentieAanbieder><m:ReferentieAanbieder>2"
                                         "</m:ReferentieAanbieder>")), "stands there twice"),
        (_message(""), "holds no rows"),
        (_message(_product("r1")).replace(b">446<", b">438<"), "rule `codelijst` on column `bericht_code`"),
    ],
    ids=[
        "billion laughs", "XXE", "remote DTD", "late DTD", "UTF-16", "declared encoding", "no encoding",
        "mixed encoding", "NUL",
        "10 MB", "deep", "cut off", "other message", "other version", "zip", "twice", "no records", "code",
    ],
)  # fmt: skip
def test_a_dangerous_or_other_message_is_refused_with_the_remedy(data: bytes, told: str, standard: str) -> None:
    if standard == "wmo":
        data = data.replace(b"/ijw/", b"/iwmo/").replace(b"/jw315/", b"/wmo315/").replace(b">446<", b">444<")
    contract = load(f"{standard}315")
    tracemalloc.start()
    try:
        with pytest.raises(DeliveryError) as caught:
            list(judged(Source("bericht.xml", data), contract, "2020-03-16", Tally()))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert told in str(caught.value)
    assert SECRET not in str(caught.value)
    assert "999900006" not in str(caught.value)
    assert peak < 60 << 20


@pytest.mark.parametrize("name", NAMES)
def test_paths_are_elements_of_the_standard(name: str, shared_data: Path) -> None:
    listed = pl.read_csv(shared_data / "municipal" / "ijw_iwmo_3_2_elements.csv", infer_schema=False)
    own = listed.filter(bericht=name.upper())
    known = set(own.select(pl.concat_str("klasse", pl.lit("/"), "element")).to_series())
    contract = load(name)
    assert contract.layout.options["record"].rsplit("/", 1)[-1] in set(own["element"])
    for column in contract.columns:
        path = ["Root", *column.header.split("/")]
        steps = [f"{above}/{below}" for above, below in itertools.pairwise(path)]
        inside = [step for step in steps if step not in known]
        # what a data type of the base schema holds is not in the list; it can only be the last step
        assert inside in ([], steps[-1:]), column.header


def test_amounts_in_cents_become_euros_with_their_sign() -> None:
    import duckdb

    from assets.deliveries.purposes import _expression

    derived = next(c for c in JW323.purposes["jeugd"].columns if c.name == "bedrag_eur")
    rows = "(VALUES (79000, 'D'), (5050, 'C'), (49, 'D')) r(bedrag, debet_credit)"
    found = duckdb.sql(f"SELECT {_expression(derived, JW323)} FROM {rows}").fetchall()
    assert found == [(790,), (-51,), (0,)]


# --- iWmo: the same messages in another namespace, with other codes ---------------------------------------------------


@pytest.mark.parametrize("number", NUMBERS)
def test_the_messages_of_the_two_standards_are_not_taken_for_each_other(
    number: int, deliver: Callable[[str], list[Made]]
) -> None:
    for own, other in (("jw", "wmo"), ("wmo", "jw")):
        contract = load(f"{other}{number}")
        file, body, _, _ = deliver(f"{own}{number}")[0]
        assert contract.period.of_file(file) is None
        with pytest.raises(DeliveryError, match="another message"):
            list(judged(Source(file, body), contract, "2020-03-16", Tally()))
        space, theirs = (c.layout.options["naamruimte"].encode() for c in (load(f"{own}{number}"), contract))
        with pytest.raises(DeliveryError, match="rule `codelijst` on column `bericht_code`"):
            list(judged(Source(file, body.replace(space, theirs)), contract, "2020-03-16", Tally()))


@pytest.mark.parametrize("number", NUMBERS)
def test_an_iwmo_contract_says_only_what_differs(number: int) -> None:
    ijw, iwmo = load(f"jw{number}"), load(f"wmo{number}")
    assert (iwmo.names, iwmo.key, iwmo.superseding) == (ijw.names, ijw.key, ijw.superseding)
    assert ijw.source in iwmo.files
    differ = {each.name for each in iwmo.columns if each != ijw[each.name]}
    assert differ <= {"bericht_code", "gemeente_code", "productcategorie", "reden_beeindiging"}
    assert not set(iwmo["productcategorie"].codes) & set(ijw["productcategorie"].codes)


# --- a record that takes an earlier one back --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("jw301", [(REPLACES, "2020-03-16"), (REMOVES, f"2020-04-{MESSAGES:02}")]),
        ("jw305", [(REMOVES, "2020-03-16")]),
        ("wmo305", [(REMOVES, "2020-03-16")]),
        ("wmo307", [(REMOVES, "2020-03-16")]),
    ],
)
def test_a_correction_reaches_the_record_that_it_is_about(
    name: str,
    told: list[tuple[str, str]],
    deliver: Callable[[str], list[Made]],
    factory_of: Callable[[str], Settings],
) -> None:
    settings = factory_of(name)
    folder = settings.paths.inbox / name
    folder.mkdir(parents=True)
    for file, body, _, _ in deliver(name):
        (folder / file).write_bytes(body)
    outcomes = take_inbox(settings, name)
    corrections = outcomes[MESSAGES:]
    assert [
        (found["rule"], found["count"], [earlier.split("-", 1)[1][:10] for earlier in found["earlier"]])
        for outcome in corrections
        for found in outcome.findings
    ] == [(rule, 1, [day]) for rule, day in told]
    assert all(outcome.refused == 0 for outcome in corrections)
    purpose = next(iter(load(name).purposes))
    made = derive(settings, ensure_key(settings.paths), name, purpose)
    taken_back = sum(rule == REMOVES for rule, _ in told)  # with the record that says so
    assert made.lapsed == len(told) + taken_back
    assert made.rows == sum(outcome.accepted for outcome in outcomes) - made.lapsed
    page = (settings.paths.reports / "op-orde" / name).glob(f"{name}-2020-04-*.json")
    for report in map(json.loads, (path.read_text() for path in page)):
        counts = report["aantallen"]
        assert counts["Geleverd"] == counts["Geaccepteerd"] + counts["Geweigerd"]
        assert counts["Geaccepteerd"] == sum(
            counts[each] for each in ("Nieuw", "Vervangt een eerdere", "Verwijdert een eerdere", "Zonder gevolg")
        )
