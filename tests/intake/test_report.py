"""The op-orde report: what the supplier needs to act, and nothing that identifies a person."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from assets.deliveries import reasons
from assets.deliveries.intake import take_inbox
from assets.deliveries.register import REFUSED, Entry
from assets.deliveries.report import compose, write
from datafabriek.config import Settings
from quality.contracts.model import load

BUS = load("bus")
ENTRY = Entry(
    "bus-2020-05-abc", "bus", "bus", "1.0.0", "2020-05", "f" * 64, "BUS_202005.txt", "ontvangen", 1000, 990, 10, 5,
    None, datetime(2020, 6, 20, 9, 30), datetime(2020, 6, 20, 9, 31), None,
    [{"column": "bsn", "rule": "elfproef", "severity": "error", "count": 10, "examples": ["999999999"],
      "lines": [3, 8], "told": "Nummer voldoet niet aan de elfproef"}],
)  # fmt: skip


def _before(count: int, delivered: int) -> list[Entry]:
    return [replace(ENTRY, periode=f"2020-0{n + 1}", geleverd=delivered) for n in range(count)]


def test_verdict_counts_and_deadline() -> None:
    report = compose(ENTRY, [], BUS, "Proef", sample=False)
    assert report["oordeel"]["kop"] == "Op orde, met opmerkingen."
    assert report["aantallen"]["Geleverd"] == 1000
    assert report["corrigeren_voor"] == "04-07-2020"
    assert report["gevonden"][0]["aandeel"] == "1,00\u00a0%"


def test_in_order_asks_for_nothing() -> None:
    report = compose(replace(ENTRY, geaccepteerd=1000, geweigerd=0, bevindingen=[]), [], BUS, "Proef", sample=False)
    assert report["oordeel"]["kop"] == "Op orde."
    assert report["corrigeren_voor"] is None


def test_the_foot_of_a_print_is_told_and_asks_for_nothing() -> None:
    foot = {"column": "", "rule": "afdrukregel", "severity": "error", "count": 1, "examples": [], "lines": [1000]}
    entry = replace(ENTRY, geaccepteerd=999, geweigerd=1, bevindingen=[foot | {"told": "Geen gegeven"}])
    report = compose(entry, [], BUS, "Proef", sample=False)
    assert (report["oordeel"]["klasse"], report["corrigeren_voor"]) == ("good", None)
    assert "op kop- en voetregels" in report["oordeel"]["uitleg"]
    assert [(each["ernst"], each["count"]) for each in report["gevonden"]] == [("geen gegeven", 1)]
    both = replace(entry, geaccepteerd=989, geweigerd=11, bevindingen=[*entry.bevindingen, *ENTRY.bevindingen])
    report = compose(both, [], BUS, "Proef", sample=False)
    assert "Aangenomen; 1,00\u00a0% van de rijen is geweigerd" in report["oordeel"]["uitleg"]
    assert report["corrigeren_voor"] == "04-07-2020"


def test_an_agreed_code_is_told_apart_from_what_was_mended(tmp_path: Path) -> None:
    found = {"column": "einddatum_vordering", "rule": "open_einde", "count": 999, "examples": [], "lines": []}
    findings = [{**found, "severity": "afgesproken", "told": "Open einde leeg gemaakt"}]
    entry = replace(ENTRY, geaccepteerd=1000, geweigerd=0, hersteld=0, bevindingen=findings)
    report = compose(entry, [], load("bdfs"), "Proef", sample=False)
    assert (report["gevonden"], report["hersteld"], report["oordeel"]["kop"]) == ([], [], "Op orde.")
    assert [(each["rule"], each["count"]) for each in report["afgesproken"]] == [("open_einde", 999)]
    page = write(report, tmp_path).read_text()
    assert page.index("Welke codes wij volgens afspraak hebben gelezen") < page.index("Dit is geen fout")


def test_messages_on_one_client_lead_nobody_to_expect_a_number_of_rows() -> None:
    entry = replace(ENTRY, geleverd=1, geaccepteerd=1, geweigerd=0, bevindingen=[])
    report = compose(entry, _before(5, 2), load("jw305"), "Proef", sample=False)
    assert (report["verwacht"], report["oordeel"]["kop"]) == (None, "Op orde.")
    assert list(report["aantallen"]) == ["Geleverd", "Geaccepteerd", "Geweigerd", "Hersteld"]


def test_a_refused_delivery_says_why_and_that_the_last_stays() -> None:
    reason = "bus-2020-05-abc holds no rows, which contract bus does not allow: have it delivered again"
    report = compose(replace(ENTRY, status=REFUSED, reden=reason), [], BUS, "Proef", sample=False)
    assert report["oordeel"]["uitleg"] == (
        "De vorige levering blijft in gebruik. Het bestand heeft geen rijen, wat contract bus niet toestaat. Laat het "
        "opnieuw aanleveren."
    )


def _raised() -> Iterator[tuple[str, str]]:
    """Every message with which a reader or the judgement can refuse a delivery, where it stands; 7 for what varies."""
    for module in ("layouts", "xlsx", "xml", "jsons", "parquet", "judging", "intake"):
        source = (Path(reasons.__file__).parent / f"{module}.py").read_text()
        for call in ast.walk(ast.parse(source)):
            name = getattr(call.func, "id", "") if isinstance(call, ast.Call) else ""
            told = call.args[0] if name == "DeliveryError" and isinstance(call, ast.Call) and call.args else None
            if not isinstance(told, ast.JoinedStr) or not isinstance(told.values[0], ast.FormattedValue):
                continue
            subject = ast.unparse(told.values[0].value)
            if subject in ("source.name", "name", "where", "arrival.id"):
                parts = [str(v.value) if isinstance(v, ast.Constant) else _sample(v) for v in told.values[1:]]
                yield f"{module}:{call.lineno}", "7" + "".join(parts)


def _sample(part: ast.expr) -> str:
    varies = {"where": "", "remedy": "deliver by contract 7, or agree on a new version"}
    return varies.get(ast.unparse(part.value), "7") if isinstance(part, ast.FormattedValue) else "7"


def test_every_reason_has_its_dutch() -> None:
    raised = dict(_raised())
    assert len(raised) > 50
    lacking = [where for where, reason in raised.items() if reasons.in_dutch(reason) == reasons.UNTOLD.format(f=reason)]
    assert not lacking, "give these a Dutch sentence in assets/deliveries/reasons.py"
    for english, dutch in (reasons._DUTCH | reasons._CLAUSES).items():
        named = set(re.findall(r"\{(\w+)\}", english))
        assert set(re.findall(r"\{(\w+)\}", dutch)) <= named
        assert not re.search(r"\b(the|deliver|which|column|line|rows|more)\b", dutch), dutch


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("bus-2020-05-abc, line 1: column `bsn` is missing; column 1 is not in the contract (was `bsn` renamed?); "
         "and 3 more columns are not in the contract: deliver by contract bus 1.0.0, or agree on a new "
         "version",
         "Niet zoals is afgesproken: kolom `bsn` ontbreekt; kolom 1 staat niet in het contract (heet `bsn` nu "
         "anders?); en nog 3 kolommen staan niet in het contract. Lever volgens contract bus 1.0.0, of spreek een "
         "nieuwe versie af."),
        ("x-1: 61 of 100 rows are refused, more than the agreed 5%; most often column `bsn`, rule `elfproef` (40 "
         "times, "
         "first on line 3): have the supplier correct and deliver again",
         "61 van 100 rijen zijn geweigerd, meer dan de afgesproken 5\u00a0%; het vaakst door controle `elfproef` op "
         "kolom "
         "`bsn` (40 keer, het eerst op rij 3). Verbeter dit en lever opnieuw aan."),
        ("x-1: 61 of 100 rows are refused, more than the agreed 5%; most often rule `lengte` (40 times, first on "
         "line 3): "
         "have the supplier correct and deliver again",
         "61 van 100 rijen zijn geweigerd, meer dan de afgesproken 5\u00a0%; het vaakst door controle `lengte` (40 "
         "keer, het eerst op rij 3). Verbeter dit en lever opnieuw aan."),
        ("x-1 is a PDF, not the agreed text file: deliver it unpacked, as cp1252",
         "Het bestand is een PDF en niet het afgesproken tekstbestand. Lever het uitgepakt aan, als cp1252."),
        ("x-1: no list of records under `a / b`: deliver the agreed document",
         "Er is geen lijst van records onder `a / b`. Lever het afgesproken document aan."),
        ("x-1, record 4: a field runs on over many lines: a double quote is opened and never closed",
         "Vanaf record 4 loopt een veld over veel regels door: een aanhalingsteken is geopend en nooit gesloten."),
        ("iets nieuws", "De levering kon niet worden gelezen zoals is afgesproken. Neem contact met ons op. "
                        "(Melding: iets "
         "nieuws)"),
    ],
)  # fmt: skip
def test_reasons_in_dutch(reason: str, told: str) -> None:
    assert reasons.in_dutch(reason) == told


def test_reasons_that_follow_from_the_file_are_told_in_dutch(factory: Settings) -> None:
    """What the intake makes of each: no word of English is left on the page."""
    folder = factory.paths.inbox / "bus"
    folder.mkdir()
    (folder / "zonder periode.txt").write_text("x")
    (folder / "BUS_199001.txt").write_text("geen BUS\r\n" * 40)
    (folder / "BUS_202003.txt").write_bytes(b"PK\x03\x04 en meer")
    (folder / "BUS_202004.txt").write_text("geen BUS\r\n" * 40)
    outcomes = take_inbox(factory, "bus")
    assert {outcome.status for outcome in outcomes} == {"geweigerd"}
    pages = [page.read_text() for page in (factory.paths.reports / "op-orde" / "bus").glob("*.html")]
    assert len(pages) == len(outcomes) == 4
    assert any("Afgesproken is een naam als BUS_202405.txt." in page for page in pages)
    for page in pages:
        verdict = page.split('class="verdict', 1)[1].split("</div>")[0]
        assert "Melding:" not in verdict
        assert not re.search(r"\b(the|deliver|which|column|line|rows|more|refused)\b", verdict), verdict


def test_a_number_out_of_line_with_earlier_deliveries_is_told() -> None:
    usual = compose(ENTRY, _before(3, 990), BUS, "Proef", sample=False)
    assert (usual["onverwacht"], usual["verwacht"].endswith("742 tot 1.238 rijen verwachten; dit zijn er 1.000.")) == (
        False,
        True,
    )
    unusual = compose(ENTRY, _before(3, 500), BUS, "Proef", sample=False)
    assert unusual["onverwacht"]
    assert "375 tot 625" in unusual["verwacht"]
    assert unusual["oordeel"]["klasse"] == "warn"
    assert compose(ENTRY, _before(2, 500), BUS, "Proef", sample=False)["verwacht"] is None


def test_a_name_with_markup_is_written_as_text(tmp_path: object) -> None:
    from pathlib import Path

    report = compose(replace(ENTRY, reden="<script>alert(1)</script>", status=REFUSED), [], BUS, "Proef", sample=False)
    page = write(report, Path(str(tmp_path))).read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_every_delivery_gets_its_page_and_neither_holds_nine_digits(filled: Settings) -> None:
    for name in filled.deliveries:
        take_inbox(filled, name)
    pages = sorted((filled.paths.reports / "op-orde").rglob("*.*"))
    assert len(pages) == 2 * 14
    for page in pages:
        text = page.read_text()
        numbers = set(re.findall(r"(?<![0-9a-f])\d{9}(?![0-9a-f])", text)) - {"999999999"}
        assert not numbers, page.name
        assert "http" not in text.replace("http-equiv", "")
    assert json.loads(next(p for p in pages if p.suffix == ".json").read_text())["voorbeeld"]
