"""Great Expectations suites for protected tables about to be released, and their pages (Data Docs).

Belongs here: what a released table promises its readers, as expectations, and keeping the pages free of anything
that a browser would fetch elsewhere. Does not belong here: unprotected data, whose values the pages would show.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb

from datafabriek.warehouse import quoted
from quality.regions import CODES, form

STATUSES = ("verstrekt", "afgerond", "geheim", "onbekend", "nvt")
FINDINGS = ("voorlopig", "nader_voorlopig", "definitief")
ORIGINS = ("gemeten", "herrekend", "geschat", "synthetisch")
LEVELS = ("NL", "LD", "PV", "CR", "GM", "WK", "BU", "PC", "P6", "ONB")


@dataclass(frozen=True)
class Protected:
    """A protected table and what its readers may count on.

    Attributes:
        key: columns that name a row.
        minimum: smallest count above zero; None for CBS's own figures.
        base: what counts are rounded to.
    """

    name: str
    key: tuple[str, ...]
    minimum: int | None = None
    base: int = 1


@dataclass(frozen=True)
class SuiteResult:
    """How many expectations of a table's suite were met, and which were not."""

    table: str
    evaluated: int
    failed: tuple[str, ...]


def validate(database: Path, tables: tuple[Protected, ...], site: Path, title: str) -> list[SuiteResult]:
    """Run a suite on each protected table of a candidate, and keep the pages.

    Args:
        database: the candidate's DuckDB file; only protected values stand in it.
        tables: which tables, and what holds of each.
        site: folder for the pages, made afresh; without any reference that a browser would load from elsewhere.
        title: of the suites, to tell candidates apart.
    """
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    # 4.5 CPU-seconds: only where a release is checked
    gx: Any = importlib.import_module("great_expectations")
    checkpoints: Any = importlib.import_module("great_expectations.checkpoint")

    shutil.rmtree(site, ignore_errors=True)
    site.mkdir(parents=True, mode=0o700)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    context.add_data_docs_site(
        "pages",
        {
            "class_name": "SiteBuilder",
            "show_how_to_buttons": False,
            "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(site)},
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        },
    )
    source = context.data_sources.add_pandas("levering")
    results = []
    with duckdb.connect(str(database), read_only=True) as connection:
        for table in tables:
            frame = connection.execute(f"SELECT * FROM {quoted(table.name)}").df()
            broken = connection.execute(f"SELECT {_promise(connection, table)} FROM {quoted(table.name)}").fetchnumpy()
            frame["belofte_geschonden"] = broken["geschonden"]
            suite = context.suites.add(gx.ExpectationSuite(name=f"{title}_{table.name}"))
            for expectation in expectations(gx.expectations, table, set(frame.columns)):
                suite.add_expectation(expectation)
            batch = source.add_dataframe_asset(table.name).add_batch_definition_whole_dataframe("geheel")
            definition = gx.ValidationDefinition(name=table.name, data=batch, suite=suite)
            context.validation_definitions.add(definition)
            checkpoint = gx.Checkpoint(
                name=table.name,
                validation_definitions=[definition],
                result_format="BOOLEAN_ONLY",
                actions=[checkpoints.UpdateDataDocsAction(name="pages", site_names=["pages"])],
            )
            outcome = context.checkpoints.add(checkpoint).run(batch_parameters={"dataframe": frame})
            (run,) = outcome.run_results.values()
            failed = [
                f"{item.expectation_config.type}({item.expectation_config.kwargs.get('column', '')})"
                for item in run.results
                if not item.success
            ]
            results.append(SuiteResult(table.name, len(run.results), tuple(failed)))
    strip_remote(site)
    _index(site, title, results)
    return results


def _index(site: Path, title: str, results: Sequence[SuiteResult]) -> None:
    """A first page that needs no script: Great Expectations fills its own in the browser."""
    rows = []
    for item in results:
        (page,) = (site / "validations" / f"{title}_{item.table}").rglob("*.html")
        link = quote(page.relative_to(site).as_posix())
        mark = '<i class="fa-times"></i>' if item.failed else '<i class="fa-check-circle"></i>'
        told = f"{mark} {item.evaluated - len(item.failed)} van {item.evaluated} verwachtingen gehaald"
        rows.append(f'<tr><td><a href="{link}">{escape(item.table)}</a></td><td>{told}</td></tr>')
    page_title = f"Verwachtingen van de levering aan {escape(title)}"
    (site / "index.html").write_text(
        f'<!doctype html><html lang="nl"><head><meta charset="utf-8"><title>{page_title}</title>{_LOOK}<body>'
        f"<h1>{page_title}</h1><p>Getoetst op de beveiligde tabellen, zoals zij in de levering staan.</p>"
        f"<table><tr><th>tabel</th><th>uitkomst</th></tr>{''.join(rows)}</table></body></html>\n",
        encoding="utf-8",
    )


def _promise(connection: duckdb.DuckDBPyConnection, table: Protected) -> str:
    """SQL for whether a row breaks the promise on its count and value."""
    columns = {row[0] for row in connection.execute(f"DESCRIBE {quoted(table.name)}").fetchall()}
    rules = []
    if table.minimum is not None:
        rules.append(f"coalesce(teller > 0 AND teller < {table.minimum} OR teller % {table.base} <> 0, false)")
        rules.append("(status = 'geheim' AND teller IS NOT NULL)")
    if {"status", "waarde"} <= columns:
        rules.append("(waarde IS NULL) <> (status IN ('geheim', 'onbekend', 'nvt'))")
    return f"({' OR '.join(rules) or 'false'}) AS geschonden"


def expectations(gx: Any, table: Protected, columns: set[str]) -> list[Any]:
    """The suite of a table: only expectations on columns that it has."""
    sets: Mapping[str, tuple[str, ...]] = {
        "status": STATUSES,
        "vaststelling": FINDINGS,
        "herkomst": ORIGINS,
        "regio_niveau": LEVELS,
    }
    suite = [gx.ExpectTableRowCountToBeBetween(min_value=1)]
    suite += [gx.ExpectColumnToExist(column=name) for name in table.key]
    suite += [gx.ExpectColumnValuesToNotBeNull(column=name) for name in table.key]
    if len(table.key) > 1:
        suite.append(gx.ExpectCompoundColumnsToBeUnique(column_list=list(table.key)))
    suite += [
        gx.ExpectColumnValuesToBeInSet(column=name, value_set=list(values))
        for name, values in sets.items()
        if name in columns
    ]
    if "regio_code" in columns:
        suite.append(gx.ExpectColumnValuesToMatchRegex(column="regio_code", regex=form(*CODES)))
    if "waarde" in columns:  # in the dictionary of indicators these columns are words
        parts = [name for name in ("teller", "noemer") if name in columns]
        suite += [gx.ExpectColumnValuesToBeBetween(column=name, min_value=0) for name in parts]
    suite.append(gx.ExpectColumnValuesToBeInSet(column="belofte_geschonden", value_set=[False]))
    return suite


_REMOTE = r"""["'](?:https?:)?//[^"']*["']"""
_LOADS = (
    re.compile(rf"<script\b[^>]*\bsrc={_REMOTE}[^>]*>\s*</script>", re.IGNORECASE),
    re.compile(rf"<link\b[^>]*\bhref={_REMOTE}[^>]*>", re.IGNORECASE),
    re.compile(rf"<(?:img|iframe|source|embed)\b[^>]*\bsrc={_REMOTE}[^>]*/?>", re.IGNORECASE),
    re.compile(r"@import\s+(?:url\()?[\"']?(?:https?:)?//[^;]*;", re.IGNORECASE),
)
_URL = re.compile(r"url\(\s*[\"']?(?:https?:)?//[^)]*\)", re.IGNORECASE)
_HANDLED = re.compile(r"<a\b[^>]*\bhref=[\"']https?://[^\"']*[\"'][^>]*>(.*?)</a>", re.IGNORECASE | re.DOTALL)
_SCRIPT = re.compile(r"<script\b[^>]*>.*?</script>", re.IGNORECASE | re.DOTALL)

_LOOK = """<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 1.5rem; color: #1c2733; background: #fff }
.row { display: flex; flex-wrap: wrap; gap: 1rem } .col-12 { flex: 0 0 100% }
[class*=col-md], [class*=col-lg] { flex: 1 1 20rem }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 } .container-fluid { max-width: 78rem }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #c8ccd2; vertical-align: top }
th { background: #f3f5f7 } a { color: #0a5a94 } ul { padding-left: 1.2rem }
.modal, .toast, footer, button, input, label { display: none }
.navbar, .navbar-expand-md { padding: 0; background: none; display: block }
.breadcrumb { list-style: none; padding: 0; display: flex; gap: .6rem }
.fa-check-circle::before { content: "\\2713 "; color: #1a7f37; font-style: normal }
.fa-times::before { content: "\\2717 "; color: #b42318; font-style: normal }
pre, code { background: #f3f5f7; padding: .1rem .3rem } .nav { list-style: none; padding: 0 }
.nav-item { display: inline-block; margin-right: 1rem }
.tab-content > .tab-pane { display: block !important } .collapse { display: block }
</style></head>"""


def strip_remote(site: Path) -> None:
    """Take every remote reference out of the pages, with the scripts that need them, and give them a plain look."""
    for file in site.rglob("*"):
        if file.suffix not in (".html", ".css"):
            continue
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".html":
            text = _SCRIPT.sub("", text)
            text = _HANDLED.sub(r"\1", text)
            text = text.replace("</head>", _LOOK, 1)
        for loading in _LOADS:
            text = loading.sub("", text)
        file.write_text(_URL.sub("none", text), encoding="utf-8")
