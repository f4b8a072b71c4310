"""Text deliveries of the social domain that try something: refused or neutralised, and never quoted."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest

from assets.deliveries.delivered import DeliveryError
from assets.deliveries.intake import take_inbox
from assets.deliveries.judging import Tally, judged
from assets.deliveries.layouts import Source
from assets.deliveries.purposes import derive
from datafabriek.config import Settings
from datafabriek.sample.deliveries import Made
from datafabriek.warehouse import warehouse
from quality.contracts.model import load
from quality.privacy.keys import ensure_key

SECRET = b"Zeldzaamheid"


def _judge(kind: str, body: bytes, period: str, tally: Tally | None = None) -> Tally:
    tally = tally or Tally()
    for _ in judged(Source("levering", body), load(kind), period, tally):
        pass
    return tally


@pytest.mark.parametrize("kind", ["srg", "bdfs", "beleidsinformatie_jeugd"])
def test_a_line_of_ten_megabytes_is_refused_alone(kind: str, deliver: Callable[[str], list[Made]]) -> None:
    file, body, labels, _ = deliver(kind)[0]
    tracemalloc.start()
    try:
        tally = _judge(kind, body + SECRET * 900_000 + b"\r\n", load(kind).period.of_file(file) or "")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert tally.refused == labels.filter(uitkomst="quarantined").height + 1
    assert SECRET.decode() not in str(tally.as_json())
    assert peak < 300 << 20


@pytest.mark.parametrize(
    ("kind", "period", "tail", "told"),
    [
        ("srg", "2020-03", b"\0" * 96 + b"\r\n", "NUL byte"),
        ("bdfs", "2020-03", "Zeldzaamheid \u00eb\u00e9\u00ef".encode() + b"\r\n", "UTF-8 where cp1252 was agreed"),
        ("stadspas", "2020", b"\xc3\xab Zeldzaamheid\x81;\r\n", "not cp1252"),
        ("zorgned_facturen", "2020-03", b"\xeb Zeldzaamheid;\n", "not utf-8"),
        ("inkomenstoeslag", "2020", b'"Zeldzaamheid' + b"\n1" * 60, "a double quote is opened and never closed"),
    ],
    ids=["NUL", "UTF-8 in cp1252", "no cp1252", "cp1252 in UTF-8", "open quote"],
)
def test_a_damaged_file_is_refused_with_the_remedy(
    kind: str, period: str, tail: bytes, told: str, deliver: Callable[[str], list[Made]]
) -> None:
    with pytest.raises(DeliveryError) as caught:
        _judge(kind, deliver(kind)[0][1] + tail, period)
    assert told in str(caught.value)
    assert SECRET.decode() not in str(caught.value)


@pytest.mark.parametrize(
    "word", ["=1+1", "'); DROP TABLE vault.aanvoer.stadspas; --", "@SUM(A1)", "<script>alert(1)</script>"]
)
def test_formulas_and_statements_are_text_and_no_more(
    word: str, deliver: Callable[[str], list[Made]], factory_of: Callable[[str], Settings]
) -> None:
    settings = factory_of("stadspas")
    file, body, _, records = deliver("stadspas")[0]
    lines = body.split(b"\n")
    # where free text may stand it stays text, in the vault; where a code must stand the row is refused
    lines.insert(1, f"2599999999;999900006;19800101;V;20200101;;J;2599ZZ;1;;{word[:6]};0518".encode())
    lines.insert(2, f"2599999998;999900006;19800101;{word};20200101;;J;2599ZZ;1;;;0518".encode())
    inbox = settings.paths.inbox / "stadspas"
    inbox.mkdir(parents=True)
    (inbox / file).write_bytes(b"\n".join(lines))
    (outcome,) = take_inbox(settings, "stadspas")
    assert outcome.status == "ontvangen"
    assert outcome.delivered >= records + 2
    made = derive(settings, ensure_key(settings.paths), "stadspas", "armoede")
    with warehouse(settings.paths, settings.resources) as con:
        told = con.execute("SELECT * EXCLUDE (persoon_pseudoniem, pas_pseudoniem) FROM raw_armoede.stadspas").pl()
    assert len(told) == made.rows
    assert word[:6] not in told.write_csv()
    reports = "".join(path.read_text() for path in settings.paths.reports.rglob("*.html"))
    assert "<script>alert" not in reports
