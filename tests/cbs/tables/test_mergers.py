"""Merger histories: what the texts of CBS say, read back exactly."""

from __future__ import annotations

import gzip
import json
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.cbs.mergers import SCHEMA, Region, Transfer, read_history, read_mergers

LEIDSCHENDAM = Region(
    "GM0548",
    "Leidschendam",
    """Opgeheven per 01-01-2002, overgegaan naar:
- 's-Gravenhage (GM0518),
... 825 hectare met 2247 woningen en 7317 inwoners
- Leidschendam-Voorburg (GM1916),
... 2757 hectare met 17560 woningen en 35868 inwoners

Grenswijziging per 01-01-1991, ontvangen van:
- Zoeterwoude (GM0638),
... 25 hectare met 1 woning en 1 inwoner

Begindatum 01-01-1938
""",
)
THE_HAGUE = Region(
    "GM0518",
    "'s-Gravenhage",
    "Grenswijziging per 01-01-2002, ontvangen van:\n- Leidschendam (GM0548),\n"
    "... 825 hectare met 2247 woningen en 7317 inwoners\n\nBegindatum voor 1830",
)


def test_a_history_is_read_into_transfers_with_their_figures() -> None:
    transfers, unread = read_history(LEIDSCHENDAM)
    assert unread == []
    assert [(t.datum, t.soort, t.van_code, t.naar_code, t.figures) for t in transfers] == [
        (date(2002, 1, 1), "opgeheven", "GM0548", "GM0518", (825, 2247, 7317)),
        (date(2002, 1, 1), "opgeheven", "GM0548", "GM1916", (2757, 17560, 35868)),
        (date(1991, 1, 1), "grenswijziging", "GM0638", "GM0548", (25, 1, 1)),
    ]


def test_a_transfer_that_both_tell_counts_once_and_as_the_end_of_a_gemeente() -> None:
    mergers = read_mergers([THE_HAGUE, LEIDSCHENDAM])
    (to_the_hague,) = [t for t in mergers.transfers if t.naar_code == "GM0518"]
    assert to_the_hague.soort == "opgeheven"
    assert (to_the_hague.van_naam, to_the_hague.naar_naam) == ("Leidschendam", "'s-Gravenhage")
    assert mergers.one_sided == mergers.unequal == []  # GM1916 and GM0638 are not known here: nobody is silent


def test_accounts_that_differ_are_shown_and_the_giver_is_believed() -> None:
    other = Region(THE_HAGUE.code, THE_HAGUE.name, THE_HAGUE.description.replace("7317", "7000"))
    mergers = read_mergers([other, LEIDSCHENDAM])
    assert [(a.inwoners, b.inwoners) for a, b in mergers.unequal] == [(7317, 7000)]
    assert {t.inwoners for t in mergers.transfers if t.naar_code == "GM0518"} == {7317}


def test_a_transfer_that_a_known_gemeente_keeps_silent_about_is_shown() -> None:
    mergers = read_mergers([Region("GM0518", "'s-Gravenhage", "Begindatum voor 1830"), LEIDSCHENDAM])
    assert [t.naar_code for t in mergers.one_sided] == ["GM0518"]


@pytest.mark.parametrize(
    ("text", "soort", "van", "naar", "figures"),
    [
        ("Naamswijziging per 01-02-1994,\noude naam: Posterholt (GM0956)", "naamswijziging", "GM0956", "GM1679", None),
        ("Naamswijziging per 19-05-2006,\nnieuwe naam: Gelre (GM1586),", "naamswijziging", "GM1679", "GM1586", None),
        ("Ontstaan per 01-01-2011, uit:\n- Bodegraven (GM0497),\n... 12 inwoners", "ontstaan", "GM0497", "GM1679", 12),
        ("Wijziging per 01-01-1990, overgegaan naar:\n- Bergen (L.) (GM0893),\n... 1,14 hectare met 3 inwoners",
         "grenswijziging", "GM1679", "GM0893", 3),
        ("Opgeheven per 01-10-1994", "opgeheven", "GM1679", None, None),
    ],
    ids=["old name", "new name", "inhabitants only", "fraction of a hectare", "ended without heir"],
)  # fmt: skip
def test_each_form_of_text_is_known(text: str, soort: str, van: str, naar: str | None, figures: int | None) -> None:
    (transfer,), unread = read_history(Region("GM1679", "Ambt Montfort", text))
    assert unread == []
    assert (transfer.soort, transfer.van_code, transfer.naar_code) == (soort, van, naar)
    assert transfer.inwoners == figures


@pytest.mark.parametrize("header", ["Samengesmolten per 01-01-2030 met:", "Opgeheven per 31-02-2030, overgegaan naar:"])
def test_text_of_an_unknown_form_is_told_not_dropped(header: str) -> None:
    transfers, unread = read_history(Region("GM0001", "X", f"{header}\n- Y (GM0002)"))
    assert (transfers, unread) == ([], [header, "- Y (GM0002)"])


names = st.text("abcdefghijklmnop -'.", min_size=1, max_size=12).map(lambda s: s.strip(" -") or "x").filter(str.strip)
counts = st.integers(0, 900_000)
parties = st.lists(st.tuples(st.integers(2, 9999), names, counts, counts, counts), min_size=1, max_size=4)


@given(st.dates(date(1830, 1, 1)), st.sampled_from(["Opgeheven", "Grenswijziging"]), parties)
def test_what_is_written_is_read_back(day: date, kind: str, others: list[tuple[int, str, int, int, int]]) -> None:
    lines = [f"{kind} per {day:%d-%m-}{day.year:04}, overgegaan naar:"]
    for code, name, hectare, homes, people in others:
        home = "woning" if homes == 1 else "woningen"
        person = "inwoner" if people == 1 else "inwoners"
        lines += [f"- {name} (GM{code:04}),", f"... {hectare} hectare met {homes} {home} en {people} {person}"]
    transfers, unread = read_history(Region("GM0001", "Hier", "\r\n".join(lines)))
    assert unread == []
    assert transfers == [
        Transfer(day, kind.lower(), "GM0001", "Hier", f"GM{code:04}", name, ha, homes, people, "GM0001")
        for code, name, ha, homes, people in others
    ]


@given(st.text())
def test_no_text_breaks_the_reader(text: str) -> None:
    read_history(Region("GM0001", "Hier", text))


@pytest.fixture(scope="module")
def real(shared_data: Path) -> list[Region]:
    codes = json.loads(gzip.decompress((shared_data / "cbs/odata4/03759ned/codes-RegioS.json.gz").read_bytes()))
    return [Region(c["Identifier"], c["Title"], c["Description"] or "") for c in codes["value"]]


def test_every_history_that_cbs_writes_is_read(real: list[Region]) -> None:
    mergers = read_mergers(real)
    assert mergers.unread == []
    told = {region.code for region in real if region.code.startswith("GM") and read_history(region)[0]}
    assert len(told) >= 719
    assert mergers.unequal == []
    assert {t.datum.year for t in mergers.one_sided} == {2025}  # two border corrections that CBS told at one side


def test_real_transfers_are_exact(real: list[Region]) -> None:
    table = read_mergers(real).table()
    assert table.schema.equals(SCHEMA)
    figures = {
        (row["van_code"], row["naar_code"]): (row["soort"], row["hectare"], row["woningen"], row["inwoners"])
        for row in table.to_pylist()
        if row["datum"] == date(2002, 1, 1)
    }
    assert figures["GM0548", "GM0518"] == ("opgeheven", 825, 2247, 7317)
    assert figures["GM0548", "GM1916"] == ("opgeheven", 2757, 17560, 35868)
    assert figures["GM0624", "GM1916"] == ("opgeheven", 624, 18964, 38217)
    assert figures["GM0603", "GM0518"] == ("grenswijziging", 363, 2166, 5887)
