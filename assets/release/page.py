"""The page of a release: what it holds, under which norms, who approved it, what it was made from, how to check it.

For whoever uses the figures and whoever answers for them: Dutch, printable, one file that loads nothing from elsewhere.
Belongs here: telling what record, catalogue and released file already say. Does not belong here: any figure of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    import jinja2
    from markupsafe import Markup

TEMPLATE = "page.html.j2"

Info = Sequence[tuple[str, str, str | None, str | None]]
"""Rows of `release_info`: subject, name, value, explanation."""

_READERS: Mapping[str, str] = {"intern": "de eigen organisatie", "open": "iedereen"}
_STATES = {
    "verstrekt": "exact",
    "afgerond": "afgerond",
    "geheim": "geheim",
    "onbekend": "onbekend",
    "nvt": "niet van toepassing",
}
"""How the page calls each status of a cell."""

_MONTHS = (
    *("januari", "februari", "maart", "april", "mei", "juni"),
    *("juli", "augustus", "september", "oktober", "november", "december"),
)


def render(catalogue: Mapping[str, Any], record: Mapping[str, Any], info: Info) -> str:
    """The page as HTML.

    Args:
        catalogue: of the release (`catalogus.json`).
        record: of the release (`release.json`).
        info: its table `release_info`.
    """
    described = {table["naam"]: table for table in catalogue["tabellen"]}
    tables = [_table(name, facts, described.get(name, {})) for name, facts in record["tabellen"].items()]
    totals = {status: sum(table["aantallen"].get(status, 0) for table in tables) for status in _STATES}
    approvals: Mapping[str, Any] = record.get("goedkeuring", {})
    return _template().render(
        r=record,
        lezers=_readers(record),
        tabellen=tables,
        redenen=_reasons(tables),
        elders=sorted({table["uit"] for table in tables if table["uit"] and table["is_beveiligd"]}),
        totalen={_STATES[status]: count for status, count in totals.items()},
        aandeel_geheim=_share(totals["geheim"], sum(totals.values())),
        beschreven=[described[name] for name in sorted(described)],
        tekens=_STATES,
        normen=[row[1:] for row in info if row[0] == "norm"],
        bronnen=_sources(record["bronnen"]),
        goedkeuring=approvals,
        goedgekeurd=_grouped(approvals.get("tabellen", {})),
        bronvermelding=catalogue["bronvermelding"],
        vraag=_question(catalogue),
    )


def _readers(record: Mapping[str, Any]) -> str:
    """For whom a release is; of a partner its name and the agreement."""
    if partner := record.get("partner"):
        until = f", geldig tot en met {_moment(partner['geldig_tot'])}" if "geldig_tot" in partner else ""
        return f"{partner['naam']}, onder {partner['overeenkomst']}{until}"
    return _READERS.get(record["doelgroep"], record["doelgroep"])


def _table(name: str, facts: Mapping[str, Any], described: Mapping[str, Any]) -> dict[str, Any]:
    counts: Mapping[str, int] = facts.get("aantallen", {})
    cells = sum(counts.get(status, 0) for status in _STATES)
    return {
        "naam": name,
        "staat": facts["staat"],
        "sinds": facts.get("sinds"),
        "uit": facts.get("uit"),
        "reden": facts.get("reden"),
        "aantallen": counts,
        "is_beveiligd": bool(cells),
        "aandeel": _share(counts.get("geheim", 0), cells),
        "rijen": described.get("rijen", 0),
        "perioden": " t/m ".join(dict.fromkeys(described.get("perioden") or ())),
        "bestanden": described.get("bestanden", ()),
    }


def _reasons(tables: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Why tables are stale or absent: a line for all that share a reason."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for table in tables:
        if table["reden"]:
            told = {key: table[key] for key in ("staat", "sinds", "uit", "reden")}
            found.setdefault(tuple(told.values()), told | {"tabellen": []})["tabellen"].append(table["naam"])
    return list(found.values())


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}%".replace(".", ",") if whole else "–"


def _sources(sources: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A line per StatLine table and per delivery: the date of CBS's last change, and since when it is stale."""
    found = []
    for name, facts in sources.items():
        late = facts.get("verouderd_sinds")
        for table, changed in sorted(facts.get("tabellen", {}).items()):
            found.append({"naam": f"CBS StatLine {table}", "gewijzigd": changed or "onbekend", "verouderd": late})
        if not facts.get("tabellen"):
            schema, _, table = name.partition(".")
            told = {"raw_cbs": f"CBS {table}", "raw_leveringen": "de boekhouding van de leveringen"}
            found.append({"naam": told.get(schema, f"levering {table}"), "gewijzigd": "", "verouderd": late})
    unique = {tuple(sorted(item.items(), key=str)): item for item in found}
    return sorted(unique.values(), key=lambda item: (not item["naam"].startswith("CBS"), item["naam"]))


def _grouped(tables: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A line per proposal, with the tables that it covers: most often one covers all."""
    found: dict[str, dict[str, Any]] = {}
    for name, facts in tables.items():
        found.setdefault(facts["voorstel"], dict(facts) | {"tabellen": []})["tabellen"].append(name)
    return list(found.values())


def _question(catalogue: Mapping[str, Any]) -> str:
    """A query that answers something on this very release."""
    for table in catalogue["tabellen"]:
        if {"regio_naam", "indicator", "waarde", "status"} <= {column["naam"] for column in table["kolommen"]}:
            return (
                f"select regio_naam, periode, indicator, waarde, status\nfrom {table['naam']} where regio_niveau = 'GM'"
            )
    return "select * from release_info"


def _number(value: int) -> str:
    """A whole number the Dutch way: 12.345."""
    return f"{value:,}".replace(",", ".")


def _width(value: float) -> str:
    """The width of an interval the Dutch way: 5, or 4,5."""
    return f"{value:g}".replace(".", ",")


def _commands(text: str) -> Markup:
    """A text in which what stands between backticks is shown as code."""
    from markupsafe import Markup, escape

    code = Markup("<code>{}</code>")
    parts = [code.format(part) if at % 2 else escape(part) for at, part in enumerate(text.split("`"))]
    return Markup("").join(parts)


def _moment(at: str) -> str:
    """A moment or a day in Dutch: 22 november 2026, 03.05 uur (the clock of the Netherlands); a day stays a day."""
    if not at:
        return ""
    found = datetime.fromisoformat(at)
    day = f"{found.day} {_MONTHS[found.month - 1]} {found.year}"
    if found.tzinfo is None:
        return day
    here = found.astimezone(ZoneInfo("Europe/Amsterdam"))
    return f"{here.day} {_MONTHS[here.month - 1]} {here.year}, {here:%H.%M} uur"


@cache
def _template() -> jinja2.Template:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"getal": _number, "moment": _moment, "breedte": _width, "opdrachten": _commands}
    return environment.get_template(TEMPLATE)
