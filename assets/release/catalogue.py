"""What lies beside the tables of a release for people and programs: catalogue, evidence in counts, a page.

Belongs here: describing what the candidate already holds, read back from its files. Does not belong here: any
figure that is not in the released file itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb

from assets.release import page

CATALOGUE = "catalogus.json"
EVIDENCE = "bewijs.json"
PAGE = "index.html"


def write(folder: Path, record: Mapping[str, Any]) -> None:
    """Write catalogue, evidence and page of a candidate.

    Args:
        folder: of the candidate, with its DuckDB file complete.
        record: of the release.
    """
    with duckdb.connect(str(folder / "datafabriek.duckdb"), read_only=True) as connection:
        tables = [_table(connection, folder, name, record) for name in _names(connection)]
        info = connection.execute("SELECT onderwerp, naam, waarde, toelichting FROM release_info").fetchall()
    catalogue = {
        "titel": record["fabriek"],
        "release": record["release"],
        "doelgroep": record["doelgroep"],
        "gemaakt": record["gemaakt"],
        "voorbeeld": record["voorbeeld"],
        "pagina": PAGE,
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
    (folder / PAGE).write_text(page.render(catalogue, record, info), encoding="utf-8")


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
