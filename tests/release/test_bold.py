"""A reader who takes every hidden count for a small one: mostly wrong, and left with as much room where he is right."""

from __future__ import annotations

import pytest

NORMS = (
    "{{versie: 1, vastgesteld_op: 2026-11-22, vastgesteld_door: toets, herziening_maximaal: geen, aanvaller: "
    "{{vermoedt_klein: {bold}}}, doelgroepen: {{intern: {{minimum: 5, afronding: 1, bescherming: 3}}}}}}"
)
WIJK = (
    "SELECT regio_code, teller FROM bijstand_per_regio WHERE indicator = 'bijstand_aantal' "
    "AND regio_code LIKE '__191600%'"
)


def guesses(shown):
    """Least and most of each hidden buurt when all are 1 to 4, by the sum of their wijk; None where that fails."""
    left = shown["WK191600"] - sum(n or 0 for code, n in shown.items() if code.startswith("BU"))
    hidden = [code for code, n in shown.items() if code.startswith("BU") and n is None]
    if not len(hidden) <= left <= 4 * len(hidden):
        return None
    others = len(hidden) - 1
    return {code: (max(1, left - 4 * others), min(4, left - others)) for code in hidden}


@pytest.mark.parametrize("bold", [True, False])
def test_two_fours_in_a_wijk_of_which_the_rest_is_shown(factory, ask, bold):
    """8 are left for two buurten: 1 to 7 each, and 4 each for who guesses that both are small."""
    factory.norms(NORMS.format(bold=str(bold).lower()))
    factory.bijstand({"2020-01": {"BU19160000": 4, "BU19160001": 4, "BU19160002": 31}})
    release, _ = factory.release("intern")
    shown = dict(ask(release, WIJK))
    if bold:
        assert (
            shown["WK191600"] is None or guesses(shown) is None or all(m - n >= 3 for n, m in guesses(shown).values())
        )
    else:
        assert guesses(shown) == {"BU19160000": (4, 4), "BU19160001": (4, 4)}, "what the norm asks to be left open"
