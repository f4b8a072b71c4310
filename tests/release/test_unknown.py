"""Regions of which nothing is known: what is known of those beside them, and of all together, bounds the hidden."""

from __future__ import annotations

import pytest

NORMS = (
    "{versie: 1, vastgesteld_op: 2026-11-22, vastgesteld_door: toets, "
    "doelgroepen: {intern: {minimum: 5, afronding: 1, bescherming: 3}}, herziening_maximaal: geen}"
)
WIJK = [f"BU1916000{b}" for b in range(4)]


@pytest.mark.parametrize("unknown", [0, 30])
def test_a_sum_bounds_what_is_hidden_of_its_known_parts(factory, ask, unknown):
    """Of a wijk one buurt is not known: what is hidden of the others is at most what the wijk leaves of the shown."""
    factory.norms(NORMS)
    counts = dict(zip(WIJK, (3, 17, 20, unknown), strict=True))
    factory.bijstand({"2020-01": counts})
    factory.sql(
        "UPDATE marts.bijstand_per_regio SET teller = NULL, waarde = NULL, status = 'onbekend' "
        f"WHERE regio_code = '{WIJK[3]}'"
    )
    release, _ = factory.release("intern")
    shown = dict(ask(release, "SELECT regio_code, teller FROM bijstand_per_regio WHERE indicator = 'bijstand_aantal'"))
    assert shown[WIJK[0]] is None
    hidden = [code for code in WIJK[:3] if shown[code] is None]
    if shown["WK191600"] is not None:
        most = shown["WK191600"] - sum(shown[code] for code in WIJK[:3] if shown[code] is not None)
        assert most - len(hidden) >= 3, "and each hidden one is at least one"
    rest = [code for code in shown if code.startswith("WK1916") and code != "WK191600"]
    assert shown["GM1916"] is None or shown["WK191600"] is not None or any(shown[code] is None for code in rest)


def test_too_few_left_for_the_unknown_is_refused(factory):
    factory.norms(NORMS)
    factory.zzp({})
    factory.bijstand({"2020-01": dict(zip(WIJK, (30, 17, 20, 2), strict=True))})
    factory.sql(
        "UPDATE marts.bijstand_per_regio SET teller = NULL, waarde = NULL, status = 'onbekend' "
        f"WHERE regio_code = '{WIJK[3]}'"
    )
    facts = factory.candidate("intern").record["tabellen"]["bijstand_per_regio"]
    assert facts["staat"] == "ontbreekt"
    assert "verschillen zo weinig" in facts["reden"]
