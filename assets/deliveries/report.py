"""The op-orde report: what a supplier is told of a delivery, as a page and as JSON.

Counts, rules, shapes of values, the trend and the verdict; nothing that identifies a person, so that it may be mailed.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assets.deliveries import companion
from assets.deliveries.judging import PRINTED
from assets.deliveries.reasons import in_dutch
from assets.deliveries.register import RECEIVED, Entry
from assets.deliveries.superseding import IDLE, OVERTAKEN, REMOVES, REPLACES
from quality.contracts.model import Contract
from quality.schemas.deliveries import EARLIER, KEY, NO_RECORD

if TYPE_CHECKING:
    import jinja2

_FEWEST_FOR_A_RANGE = 3
_FEWEST_ROWS_FOR_A_RANGE = 20
_MOST_IN_THE_TREND = 13
_OFF = 0.25
"""A number of rows this far (as a share) from the median of earlier deliveries is told as unexpected."""

_SEVERITIES = {
    "fatal": ("levering geweigerd", "bad"),
    "error": ("rij geweigerd", "bad"),
    "warning": ("waarschuwing", "warn"),
    "correctie": ("correctie", "quiet"),
    "hersteld": ("hersteld", "quiet"),
    "afgesproken": ("afgesproken", "quiet"),
}
_NO_FAULT = ("correctie", "hersteld", "afgesproken")


def compose(
    entry: Entry,
    earlier: Sequence[Entry],
    contract: Contract,
    factory: str,
    *,
    sample: bool,
    listed: str | None = None,
) -> dict[str, Any]:
    """The report as data.

    Args:
        entry: the delivery.
        earlier: deliveries of the same kind that came before it, in order of arrival.
        contract: what was agreed.
        factory: who reports.
        sample: whether all of it is made up.
        listed: name of the file in which the supplier finds each refused row, where there is one.
    """
    found = [_told(finding, entry, contract) for finding in entry.bevindingen]
    series = [*[e for e in earlier if e.status == RECEIVED][-_MOST_IN_THE_TREND + 1 :], entry]
    highest = max((e.geleverd for e in series), default=0) or 1
    expected = _expected(series[:-1])
    unexpected = expected is not None and not expected[0] <= entry.geleverd <= expected[1]
    told = {severity: [f for f in found if f["severity"] == severity] for severity in _NO_FAULT}
    wrong = [finding for finding in found if finding["severity"] not in told]
    faults = [finding for finding in wrong if finding["severity"] == "error" and finding["rule"] != PRINTED]
    asks = entry.status != RECEIVED or bool(faults)
    until = entry.ontvangen_op + timedelta(days=contract.repair_days) if contract.repair_days and asks else None
    return {
        "fabriek": factory,
        "voorbeeld": sample,
        "levering": entry.levering,
        "levering_id": entry.levering_id,
        "titel": contract.title,
        "leverancier": contract.supplier,
        "contract": contract.name,
        "contract_versie": entry.contract_versie,
        "periode": entry.periode,
        "ontvangen_op": f"{entry.ontvangen_op:%d-%m-%Y %H:%M}",
        "vingerafdruk": entry.vingerafdruk,
        "oordeel": _verdict(entry, contract, unexpected),
        "corrigeren_voor": f"{until:%d-%m-%Y}" if until else None,
        "aantallen": {
            "Geleverd": entry.geleverd,
            "Geaccepteerd": entry.geaccepteerd,
            "Geweigerd": entry.geweigerd,
            "Hersteld": entry.hersteld,
            **_corrections(entry, contract),
            **({"Buurt onbekend": entry.buurt_onbekend} if entry.buurt_onbekend is not None else {}),
        },
        "gevonden": wrong,
        "opmerkingen": [],
        "regels_in": listed,
        "rijen_hoogstens": companion.MOST,
        **told,
        "verwacht": _told_range(entry, expected) if expected else None,
        "onverwacht": unexpected,
        "reeks": [
            {
                "periode": e.periode,
                "ontvangen_op": f"{e.ontvangen_op:%d-%m-%Y}",
                "geleverd": e.geleverd,
                "geweigerd": e.geweigerd,
                "aandeel": _share(e.geweigerd, e.geleverd),
                "breedte": round(100 * e.geleverd / highest),
                "nu": e is entry,
            }
            for e in series
        ],
    }


def write(report: dict[str, Any], folder: Path) -> Path:
    """Write the report as `<levering_id>.html` and `.json`; return the page."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    page = folder / f"{report['levering_id']}.html"
    page.write_text(_template().render(r=report), encoding="utf-8")
    text = json.dumps(report, indent=1, ensure_ascii=False)
    page.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    return page


def _corrections(entry: Entry, contract: Contract) -> dict[str, int]:
    """What the accepted rows do to earlier ones, where any does; together they are all of them."""
    done = {finding["rule"]: finding["count"] for finding in entry.bevindingen}
    replaces, removes, *idle = (done.get(rule, 0) for rule in (REPLACES, REMOVES, IDLE, OVERTAKEN))
    if contract.superseding is None or entry.status != RECEIVED or not any((replaces, removes, *idle)):
        return {}
    return {
        "Nieuw": entry.geaccepteerd - replaces - removes - sum(idle),
        "Vervangt een eerdere": replaces,
        "Verwijdert een eerdere": removes,
        "Zonder gevolg": sum(idle),
    }


def _verdict(entry: Entry, contract: Contract, unexpected: bool) -> dict[str, str]:
    if entry.status != RECEIVED:
        why = re.sub(r"`([^`]*)`", r"‘\1’", in_dutch(entry.reden or ""))
        told = f"De vorige levering blijft in gebruik. {why}"
        return {"klasse": "bad", "kop": "Geweigerd.", "uitleg": told}
    printed = sum(finding["count"] for finding in entry.bevindingen if finding["rule"] == PRINTED)
    share = _share(entry.geweigerd - printed, entry.geleverd)
    if entry.geweigerd > printed or unexpected:
        allowed = f"{contract.max_refused:.0%}".replace("%", "\u00a0%")
        told = f"Aangenomen; {share} van de rijen is geweigerd (afgesproken is hoogstens {allowed})."
        return {"klasse": "warn", "kop": "Op orde, met opmerkingen.", "uitleg": told}
    told = "Alle rijen zijn aangenomen, op kop- en voetregels van een afdruk na." if printed else _ALL
    return {"klasse": "good", "kop": "Op orde.", "uitleg": told}


_ALL = "Alle rijen zijn aangenomen."


def _expected(earlier: Sequence[Entry]) -> tuple[int, int] | None:
    """Between which numbers of rows a delivery is expected to lie, by those before it.

    Returns:
        None where too few came, or they hold so few rows, as messages on one client, that one more is much more.
    """
    if len(earlier) < _FEWEST_FOR_A_RANGE:
        return None
    median = statistics.median(e.geleverd for e in earlier)
    if median < _FEWEST_ROWS_FOR_A_RANGE:
        return None
    return round(median * (1 - _OFF)), round(median * (1 + _OFF))


def _told_range(entry: Entry, expected: tuple[int, int]) -> str:
    low, high = expected
    told = f"Eerdere leveringen doen {_number(low)} tot {_number(high)} rijen verwachten; dit zijn er "
    within = low <= entry.geleverd <= high
    return f"{told}{_number(entry.geleverd)}." if within else f"{told}{_number(entry.geleverd)}: klopt dat?"


def _told(finding: dict[str, Any], entry: Entry, contract: Contract) -> dict[str, Any]:
    words, mark = ("geen gegeven", "quiet") if finding["rule"] == PRINTED else _SEVERITIES[finding["severity"]]
    column = " + ".join(contract.key) if finding["rule"] in (EARLIER, KEY) else finding["column"]
    return {
        **finding,
        "column": column,
        "ernst": words,
        "klasse": mark,
        "aandeel": "" if finding["rule"] == NO_RECORD else _share(finding["count"], entry.geleverd),
    }


def _share(part: int, whole: int) -> str:
    if not part or not whole:
        return "0\u00a0%"
    share = 100 * part / whole
    return "< 0,01\u00a0%" if share < 0.01 else f"{share:.2f}\u00a0%".replace(".", ",")


def _number(value: float) -> str:
    return f"{value:,.0f}".replace(",", ".")


@cache
def _template() -> jinja2.Template:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["getal"] = _number
    return environment.get_template("op_orde.html.j2")
