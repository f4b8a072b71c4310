"""CBS's figures of the same moment under another year's name, and of a year before or after."""

from __future__ import annotations

import pytest

NORMS = """
versie: "toets-1"
vastgesteld_op: 2026-01-01
vastgesteld_door: de toets
doelgroepen: {intern: {minimum: 5, afronding: 5, bescherming: 3}}
herziening_maximaal: geen
"""
FIGURE = {"telling": "bijstand", "indicator": "bijstand_personen", "soort": "gelijk", "afronding": 1}


@pytest.mark.parametrize(
    ("year", "month", "change", "is_told"),
    [
        (2021, 0, None, True),  # the first of January is the end of December
        (2020, 0, None, False),
        (2020, 0, 0, True),  # a year before, and counts are said not to change
        (2021, 12, 1, True),
        (2022, 12, 0, False),
    ],
)
def test_a_figure_of_the_same_moment_or_a_year_away_is_known(factory, year, month, change, is_told):
    """A buurt has 3, which the norm hides, and CBS tells 3: shown beside it the table would tell them."""
    factory.norms(NORMS)
    factory.zzp({})
    factory.bijstand({"2020-12": {"BU19160000": 3, "BU19160001": 4, "BU19160002": 30, "BU19160003": 41}})
    factory.sql(
        f"INSERT INTO raw_cbs.kerncijfers_wijken_en_buurten VALUES ({year}, 'BU19160000', 'bijstand_personen', 3)"
    )
    factory.specs["bijstand_per_regio"] = factory.specs["bijstand_per_regio"] | {
        "cbs": [FIGURE | {"maand": month, "verandering": change}]
    }
    factory.manifest()
    facts = factory.candidate("intern").record["tabellen"]["bijstand_per_regio"]
    assert facts["staat"] == ("ontbreekt" if is_told else "actueel")
