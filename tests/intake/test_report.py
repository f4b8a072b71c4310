"""The op-orde report: what the supplier needs to act, and nothing that identifies a person."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import datetime

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


def test_a_refused_delivery_says_why_and_that_the_last_stays() -> None:
    report = compose(replace(ENTRY, status=REFUSED, reden="te kort"), [], BUS, "Proef", sample=False)
    assert "vorige levering blijft" in report["oordeel"]["uitleg"]
    assert "te kort" in report["oordeel"]["uitleg"]


def test_a_number_out_of_line_with_earlier_deliveries_is_told() -> None:
    usual = compose(ENTRY, _before(3, 990), BUS, "Proef", sample=False)
    assert (usual["onverwacht"], usual["verwacht"].endswith("742 tot 1.238 regels verwachten; dit zijn er 1.000.")) == (
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
