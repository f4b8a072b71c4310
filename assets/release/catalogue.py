"""What lies beside the tables of a release for people and programs: catalogue, evidence in counts, a page.

Belongs here: describing what the candidate already holds, read back from its files. Does not belong here: any
figure that is not in the released file itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import duckdb

CATALOGUE = "catalogus.json"
EVIDENCE = "bewijs.json"
PAGE = "index.html"


def write(folder: Path, record: Mapping[str, Any], described: Mapping[str, tuple[str, Mapping[str, str]]]) -> None:
    """Write catalogue, evidence and page of a candidate.

    Args:
        folder: of the candidate, with its DuckDB file complete.
        record: of the release.
        described: description of each table and of its columns.
    """
    with duckdb.connect(str(folder / "datafabriek.duckdb"), read_only=True) as connection:
        tables = [_table(connection, folder, name, record) for name in _names(connection)]
    catalogue = {
        "titel": record["fabriek"],
        "release": record["release"],
        "doelgroep": record["doelgroep"],
        "gemaakt": record["gemaakt"],
        "voorbeeld": record["voorbeeld"],
        "bronvermelding": "Bron: CBS StatLine (CC BY 4.0), bewerking door de fabriek",
        "bronnen": record["bronnen"],
        "tabellen": tables,
    }
    evidence = {
        "release": record["release"],
        "inhoud": record["inhoud"],
        "normen_versie": record["normen_versie"],
        "afwijkingen": record["afwijkingen"],
        "tabellen": {name: facts["aantallen"] for name, facts in record["tabellen"].items()},
    }
    _json(folder / CATALOGUE, catalogue)
    _json(folder / EVIDENCE, evidence)
    (folder / PAGE).write_text(page(catalogue, record), encoding="utf-8")


def _json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1, default=str), encoding="utf-8")


def _names(connection: duckdb.DuckDBPyConnection) -> list[str]:
    return [row[0] for row in connection.execute("SELECT table_name FROM duckdb_tables() ORDER BY 1").fetchall()]


def _table(connection: duckdb.DuckDBPyConnection, folder: Path, name: str, record: Mapping[str, Any]) -> dict[str, Any]:
    described = connection.execute(
        "SELECT comment, estimated_size FROM duckdb_tables() WHERE table_name = ?", [name]
    ).fetchone()
    columns = connection.execute(
        "SELECT column_name, data_type, comment FROM duckdb_columns() WHERE table_name = ? ORDER BY column_index",
        [name],
    ).fetchall()
    files = sorted(file.name for file in folder.glob(f"{name}.*"))
    facts = record["tabellen"].get(name, {})
    names = {column for column, _, _ in columns}
    cover = None
    if "periode" in names:
        cover = connection.execute(f'SELECT min(periode), max(periode) FROM "{name}"').fetchone()
    return {
        "naam": name,
        "omschrijving": described[0] if described else "",
        "rijen": described[1] if described else 0,
        "perioden": list(cover) if cover else None,
        "staat": facts.get("staat", "actueel"),
        "verouderd_sinds": facts.get("sinds"),
        "bestanden": files,
        "kolommen": [{"naam": c, "type": kind, "omschrijving": text} for c, kind, text in columns],
    }


_STYLE = """
:root { color-scheme: light dark; --line: #c8ccd2; --soft: #f3f5f7; --ink: #1c2733; --warn: #8a4b00 }
@media (prefers-color-scheme: dark) { :root { --line: #444c56; --soft: #22272e; --ink: #d5dbe2; --warn: #e0a458 } }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: var(--ink) }
h1 { font-size: 1.6rem; margin-bottom: .2rem } h2 { font-size: 1.15rem; margin-top: 2.2rem }
table { border-collapse: collapse; width: 100%; font-size: .93rem }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top }
th { background: var(--soft) } td.n { text-align: right; font-variant-numeric: tabular-nums }
.sample, .stale { color: var(--warn); font-weight: 600 } code, pre { background: var(--soft); padding: .1rem .3rem }
pre { padding: .8rem; overflow-x: auto } details { margin: .5rem 0 } .wide { overflow-x: auto }
"""


def page(catalogue: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    """A page on the release for whoever uses it, in Dutch; it loads nothing from elsewhere."""
    sample = (
        '<p class="sample">Dit is een voorbeeldlevering: rijen met herkomst “synthetisch” zijn verzonnen.</p>'
        if record["voorbeeld"]
        else ""
    )
    rows, details = [], []
    for table in catalogue["tabellen"]:
        counts = record["tabellen"].get(table["naam"], {}).get("aantallen", {})
        state = escape(table["staat"])
        if table["verouderd_sinds"]:
            state = f'<span class="stale">verouderd sinds {escape(table["verouderd_sinds"])}</span>'
        hidden = f"{counts['geheim']:,}".replace(",", ".") if "geheim" in counts else "–"
        period = " t/m ".join(dict.fromkeys(table["perioden"])) if table["perioden"] else "–"
        links = " ".join(f'<a href="{escape(f)}">{escape(f.rpartition(".")[2])}</a>' for f in table["bestanden"])
        size = f"{table['rijen']:,}".replace(",", ".")
        rows.append(
            f"<tr><td><code>{escape(table['naam'])}</code></td><td>{escape(period)}</td><td class=n>{size}</td>"
            f"<td class=n>{hidden}</td><td>{state}</td><td>{links}</td></tr>"
        )
        columns = "".join(
            f"<tr><td><code>{escape(c['naam'])}</code></td><td>{escape(c['type'])}</td>"
            f"<td>{escape(c['omschrijving'] or '')}</td></tr>"
            for c in table["kolommen"]
        )
        details.append(
            f"<details><summary><code>{escape(table['naam'])}</code> – {escape(table['omschrijving'] or '')}</summary>"
            "<div class=wide><table><tr><th>kolom</th><th>type</th><th>betekenis</th></tr>"
            f"{columns}</table></div></details>"
        )
    missing = [name for name, facts in record["tabellen"].items() if facts["staat"] == "ontbreekt"]
    absent = f'<p class="stale">Niet in deze levering: {escape(", ".join(missing))}.</p>' if missing else ""
    waived = "".join(
        f"<li>{escape(norm)}: aanvaard tot en met {escape(item['tot'])} – {escape(item['reden'])}</li>"
        for norm, item in record["afwijkingen"].items()
    )
    waived = f"<h2>Aanvaarde afwijkingen</h2><ul>{waived}</ul>" if waived else ""
    rate = next(
        (t["naam"] for t in catalogue["tabellen"] if "gemeente_code" in {c["naam"] for c in t["kolommen"]}), None
    )
    query = (
        f"select regio_naam, periode, indicator, waarde, status from {rate} where regio_niveau = 'WK'"
        if rate
        else "select * from release_info"
    )
    return f"""<!doctype html>
<html lang="nl"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(record["release"])}</title><style>{_STYLE}</style></head><body>
<h1>{escape(record["fabriek"])}</h1>
<p>Levering <code>{escape(record["release"])}</code>, gemaakt {escape(str(record["gemaakt"])[:16].replace("T", " "))},
doelgroep {escape(record["doelgroep"])}, normen {escape(record["normen_versie"])}.</p>{sample}{absent}
<div class=wide><table>
<tr><th>tabel</th><th>perioden</th><th>rijen</th><th>geheim</th><th>staat</th><th>bestanden</th></tr>
{"".join(rows)}</table></div>{waived}
<h2>Wat de tekens betekenen</h2>
<p><b>verstrekt</b>: het cijfer zelf. <b>afgerond</b>: afgerond, of opgebouwd uit afgeronde delen.
<b>geheim</b>: niet getoond om mensen te beschermen. <b>onbekend</b>: er is geen gegeven; dat is geen nul.
<b>nvt</b>: kan hier niet bestaan.</p>
<h2>Bevragen</h2><pre>duckdb -readonly datafabriek.duckdb
{escape(query)}</pre>
<h2>Kolommen</h2>{"".join(details)}
<p>{escape(catalogue["bronvermelding"])}. Een levering verandert nooit: noem haar nummer bij gebruik.</p>
</body></html>
"""
