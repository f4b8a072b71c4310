"""Areas through time: what is the same, what together is the same, and what nobody knows."""

from __future__ import annotations

import pytest

from assets.release.borders import Borders, BordersError, Change, Group
from quality.privacy.approvals import ApprovalError, sign

PASSWORD = "een lang wachtwoord"


def change(van, naar, gebieden, overige="onbekend"):
    return Change(van=van, naar=naar, bron="toets", gebieden=gebieden, overige=overige)


def told(groups):
    return {(tuple(sorted(g.before)), tuple(sorted(g.after)), g.is_whole) for g in groups}


MERGER = (
    (2021, "opgeheven", "GM0001", "GM0009"),
    (2021, "opgeheven", "GM0002", "GM0009"),
    (2021, "ontstaan", "GM0001", "GM0009"),
)


def test_municipalities_follow_from_the_history_of_mergers():
    borders = Borders(transfers=MERGER)
    found = borders.groups(2020, 2022, {"GM0001", "GM0002", "GM0003"}, {"GM0009", "GM0003"})
    assert told(found) == {(("GM0001", "GM0002"), ("GM0009",), False), (("GM0003",), ("GM0003",), True)}
    unknown = borders.groups(2020, 2021, {"ONB0001", "ONB0002"}, {"ONB0009"})
    assert told(unknown) == {(("ONB0001", "ONB0002"), ("ONB0009",), False)}


def test_backwards_is_the_same_the_other_way_round():
    (group,) = Borders(transfers=MERGER).groups(2021, 2020, {"GM0009"}, {"GM0001", "GM0002"})
    assert group == Group(frozenset({"GM0009"}), frozenset({"GM0001", "GM0002"}), False)


def test_a_part_that_went_where_there_are_no_figures_is_told():
    borders = Borders(transfers=((2021, "grenswijziging", "GM0001", "GM0002"),))
    (group,) = borders.groups(2020, 2021, {"GM0001"}, {"GM0001"})
    assert not group.is_whole


def test_higher_regions_are_where_their_parts_are():
    pairs = {"BU00010001": ("BU00090101",), "BU00010002": ("BU00090201",), "BU00020000": ("BU00090201",)}
    borders = Borders((change(2020, 2021, pairs),), transfers=MERGER)
    wijken = borders.groups(2020, 2021, {"WK000100", "WK000200"}, {"WK000901", "WK000902"})
    assert told(wijken) == {(("WK000100", "WK000200"), ("WK000901", "WK000902"), True)}
    buurten = borders.groups(2020, 2021, set(pairs), {"BU00090101", "BU00090201"})
    assert told(buurten) == {
        (("BU00010001",), ("BU00090101",), True),
        (("BU00010002", "BU00020000"), ("BU00090201",), True),
    }


def test_years_are_joined_one_after_the_other():
    steps = (change(2020, 2021, {"BU00010001": ("BU00010007",)}), change(2021, 2022, {"BU00010007": ("BU00010008",)}))
    (group,) = Borders(steps).groups(2020, 2022, {"BU00010001"}, {"BU00010008"})
    assert group == Group(frozenset({"BU00010001"}), frozenset({"BU00010008"}), True)


def test_what_cbs_calls_unchanged_is_the_same_every_year_of_it():
    borders = Borders(unchanged={2021: frozenset({"BU00010001"}), 2022: frozenset({"BU00010001"})})
    (group,) = borders.groups(2020, 2022, {"BU00010001"}, {"BU00010001"})
    assert group.is_whole
    with pytest.raises(BordersError, match=r"van 2 regio's .* grenzen\.yaml"):
        borders.groups(2020, 2023, {"BU00010001"}, {"BU00010001"})


@pytest.mark.parametrize(
    ("before", "after"),
    [({"BU00010001"}, {"BU00010002"}), ({"WK000100"}, {"WK000100"}), ({"GM0001"}, {"GM0001"})],
    ids=["a new code", "an old one of which nobody says that it stayed", "no history of mergers"],
)
def test_what_nobody_tells_is_refused(before, after):
    with pytest.raises(BordersError, match="is niet bekend"):
        Borders().groups(2020, 2021, before, after)


def test_a_new_code_may_come_from_an_area_without_figures():
    borders = Borders((change(2020, 2021, {"BU00050001": ("BU00010009",)}, "zelfde_code"),))
    found = borders.groups(2020, 2021, {"BU00010001"}, {"BU00010001", "BU00010009"})
    assert told(found) == {(("BU00010001",), ("BU00010001",), True)}


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "- {van: 2021, naar: 2020, bron: x}",
        "- {van: 2020, naar: 2021, bron: x, gebieden: {BU00010001: [GM0001]}}",
    ],
    ids=["no list", "back in time", "two levels"],
)
def test_a_file_that_cannot_be_used_stops_the_release(factory, text):
    (factory.folder / "policy" / "grenzen.yaml").write_text(text)
    with pytest.raises(BordersError, match=r"grenzen\.yaml"):
        factory.candidate("intern")


def test_a_file_that_nobody_approved_stops_the_release(real):
    real.let_go()
    (real.folder / "policy" / "grenzen.yaml").write_text("- {van: 2020, naar: 2021, bron: x, overige: zelfde_code}")
    with pytest.raises(ApprovalError, match="role normen"):
        real.candidate("intern")


def test_a_file_that_was_approved_and_is_gone_stops_the_release(real):
    """Without it an attacker who knows the map is not reckoned with, and taking a file away needs no signature."""
    real.let_go()
    path = real.folder / "policy" / "grenzen.yaml"
    path.write_text("- {van: 2020, naar: 2021, bron: x, overige: zelfde_code}")
    sign(real.settings, path, "normen", real.folder.parent / "bob.key", PASSWORD)
    real.candidate("intern")
    path.unlink()
    with pytest.raises(BordersError, match="approved before and is gone"):
        real.candidate("intern")
    path.write_text("[]")
    sign(real.settings, path, "normen", real.folder.parent / "bob.key", PASSWORD)
    real.candidate("intern")
