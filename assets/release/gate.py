"""The gate: which marts may be released to an audience, and what of them may be shown.

Belongs here: reading marts with their disclosure specs, the norms that each must meet before anything is shown,
and the protected tables that come out. Does not belong here: writing a release (assets.release.candidate), and the
second look at what was written (assets.release.verify), which shares no code with this one on purpose.

Everything happens in a DuckDB of its own in memory; nothing unprotected is written to disk or told in a message.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import duckdb
import numpy as np

from assets.models.runner import NodeResult, ancestors, attached_to, last_manifest, last_results
from assets.release.approval import unapproved
from assets.release.blocks import (
    Block,
    BlockError,
    Bools,
    Key,
    Part,
    View,
    blocks_of,
    public_figures,
    read_parts,
    views,
)
from assets.release.borders import Borders, BordersError
from assets.release.borders import load as load_borders
from assets.release.evidence import rounded_rows
from assets.release.history import EvidenceError, Fresh, History, Made, Seal, known_told, seal, sealed_file, shapes
from assets.release.tellings import clashes
from datafabriek.config import Settings
from datafabriek.errors import FactoryError
from datafabriek.ledger import Ledger
from datafabriek.warehouse import literal, memory, quoted, warehouse
from quality.contracts.model import find_contracts
from quality.contracts.model import read as read_contract
from quality.expectations import FINDINGS, ORIGINS, STATUSES
from quality.norms import Audience, Chain, Level, Norms, NormsError
from quality.protection import (
    HEIGHT,
    UNKNOWN_BUURT,
    DisclosureSpec,
    ProtectionError,
    Rate,
    counted,
    municipality,
    parse_spec,
    rates_per_indicator,
    show,
)
from quality.regions import form

SCHEMA = "marts"
CBS = "_cbs"
"""CBS's public figures in the gate's connection: jaar, regio_code, indicator, waarde."""

REGIONS = "_regios"
"""CBS's names of regions in the gate's connection: jaar, regio_code, regio_naam."""

KEY_COLUMNS = ("regio_code", "regio_naam", "regio_niveau", "indeling_jaar", "periode", "periode_start", "indicator")
FACT_COLUMNS = ("eenheid", "status", "vaststelling", "herkomst", "gemeente_code")


class GateError(FactoryError):
    """Nothing can be released: the message names the tables and what each lacks."""


@dataclass(frozen=True)
class Mart:
    """A mart as its dbt model describes it.

    Attributes:
        name: of the table in schema marts.
        description: what it holds, in Dutch.
        columns: description per column.
        disclosure: the spec as written; None where the model states none.
        is_public: made from CBS's public tables and seeds alone, as dbt's lineage proves.
        sources: the raw tables it rests on, as `schema.table`.
        tests: dbt's names of the tests on it and on what it is made of.
        models: dbt's names of the model and of those it is made of.
    """

    name: str
    description: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    disclosure: Mapping[str, Any] | None = None
    is_public: bool = False
    sources: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    models: tuple[str, ...] = ()


@dataclass(frozen=True)
class Passed:
    """A protected table: where it stands in the connection, and counts about it.

    Attributes:
        mart: what it was made from.
        spec: its disclosure spec.
        relation: name of the protected table in the gate's connection.
        chains: the periods under each label of norms.
        counts: cells per status.
        waived: quality norms that it does not meet and that were accepted.
    """

    mart: Mart
    spec: DisclosureSpec
    relation: str
    chains: Mapping[str, Sequence[str]]
    counts: Mapping[str, int]
    waived: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refused:
    """A table that is not released now: which norm or fact stands in the way, without any figure.

    Attributes:
        cells: what the engine named, for sealed evidence alone.
    """

    mart: Mart
    norm: str
    reason: str
    cells: tuple[str, ...] = ()


@dataclass(frozen=True)
class Checked:
    """A mart that may be protected.

    Attributes:
        lowest: the lowest level that is shown of it.
        waived: quality norms that it does not meet and that were accepted.
        suppliers: per supplier which of the columns that say what is counted come from it.
    """

    mart: Mart
    spec: DisclosureSpec
    lowest: Level
    waived: tuple[str, ...]
    suppliers: Mapping[str, frozenset[str]]


@dataclass
class Gated:
    """What the gate lets through for an audience.

    Attributes:
        made: the protected blocks.
        history: what was released before; None where there is nothing to protect.
        seal: of this factory; idem.
        facts: counts for whoever watches: blocks solved and taken over, seconds.
        borders: what is known of changes of borders.
        blocks: per count and period all blocks, as they are counted.
    """

    connection: duckdb.DuckDBPyConnection
    passed: list[Passed]
    refused: list[Refused]
    made: list[Made] = field(default_factory=list)
    history: History | None = None
    seal: Seal | None = None
    facts: dict[str, float] = field(default_factory=dict)
    borders: Borders = field(default_factory=Borders)
    blocks: dict[tuple[str, str], list[Block]] = field(default_factory=dict)


def read_marts(settings: Settings) -> list[Mart]:
    """Every enabled mart with its spec and lineage, from dbt's manifest; none where dbt has not parsed yet."""
    manifest = last_manifest(settings.paths)
    if manifest is None:
        return []
    parents: dict[str, list[str]] = manifest["parent_map"]
    nodes: dict[str, Any] = manifest["nodes"]
    marts = []
    for key, node in sorted(nodes.items()):
        if node["resource_type"] != "model" or node["schema"] != SCHEMA:
            continue
        lineage = ancestors(manifest, key)
        sources = [manifest["sources"][name] for name in lineage if name.startswith("source.")]
        others = [name for name in lineage if not name.startswith(("source.", "model.", "seed."))]
        meta = node["config"].get("meta") or node.get("meta") or {}
        marts.append(
            Mart(
                name=node["alias"] if node.get("alias") else node["name"],
                description=" ".join(node.get("description", "").split()),
                columns={
                    name: " ".join(column.get("description", "").split()) for name, column in node["columns"].items()
                },
                disclosure=meta.get("disclosure"),
                is_public=not others and all(source["schema"] == "raw_cbs" for source in sources),
                sources=tuple(sorted(f"{source['schema']}.{source['name']}" for source in sources)),
                tests=tuple(
                    name
                    for name, test in nodes.items()
                    if test["resource_type"] == "test" and lineage.intersection(parents.get(name, []))
                ),
                models=tuple(sorted(name for name in lineage if name.startswith(("model.", "seed.")))),
            )
        )
    return marts


def entitled(marts: Sequence[Mart], norms: Norms, audience: Audience) -> list[Mart]:
    """The marts that may go to an audience; what a partner's agreement names and no model makes is among them, bare.

    Raises:
        NormsError: the audience has no norms.
    """
    norms.steps(audience)
    named = norms.doelgroepen[audience].tabellen
    lacking = [Mart(name) for name in named if name not in {mart.name for mart in marts}]
    return [mart for mart in marts if norms.entitled(audience, mart.name)] + lacking


def norms_in_force(ledger: Ledger, own: Chain) -> _InForce:
    """Which norms hold for a count of a period: those of its first release to anyone, else the policy's.

    The same figure under two roundings or thresholds tells more than under one, so new norms count for periods
    that nobody has seen yet.
    """
    first: dict[tuple[str, str], tuple[int, str]] = {}
    for event in ledger.events("release"):
        for table, labels in event.payload.get("normen", {}).items():
            for label, covered in labels.items():
                for period in covered:
                    first.setdefault((table, period), (event.seq, label))
    return _InForce(first, own)


@dataclass(frozen=True)
class _InForce:
    first: Mapping[tuple[str, str], tuple[int, str]]
    own: Chain

    def chain(self, marts: Sequence[str], period: str) -> Chain:
        """The norms for a period of what these marts tell together: those under which any was first shown.

        Raises:
            NormsError: those of an old release that cannot be read any more.
        """
        found = sorted(self.first[mart, period] for mart in marts if (mart, period) in self.first)
        return Chain.parse(found[0][1]) if found else self.own


@contextmanager
def gate(
    settings: Settings,
    audience: Audience,
    norms: Norms,
    marts: Sequence[Mart],
    ledger: Ledger,
    waivers: Collection[str],
    others: Sequence[Mart] = (),
) -> Iterator[Gated]:
    """Protect every mart that meets the norms, for one audience; the others are refused with the reason.

    Args:
        settings: of the factory.
        audience: who will read it.
        norms: the organisation's norms; they must name the audience.
        marts: what there is to release (`read_marts`).
        ledger: knows what was shown before, and under which norms.
        waivers: quality norms that were accepted for now.
        others: marts that do not go to this audience; what they tell to another counts.

    Yields:
        The protected tables, in a connection that closes afterwards.

    Raises:
        NormsError: the audience has no norms.
        EvidenceError: what was released before cannot be told for sure: nothing at all is released.
    """
    norms.steps(audience)
    with memory(settings.paths, settings.resources) as connection:
        refused: list[Refused] = []
        present = _load(settings, connection, [*marts, *others])
        candidates: list[Checked] = []
        passed: list[Passed] = []
        failed, closed = failures(settings, marts), unapproved(settings, ledger, audience, marts, norms)
        whose = suppliers(settings, norms, marts)
        for mart in marts:
            try:
                spec = _spec(mart, present, failed, closed)
                if spec.policy == "openbaar":
                    passed.append(_as_is(connection, mart, spec))
                else:
                    candidates.append(_checked(connection, mart, spec, norms, waivers, whose))
            except _UnmetError as unmet:
                refused.append(Refused(mart, unmet.norm, unmet.reason))
            except ProtectionError as error:
                refused.append(Refused(mart, "alleen_beschreven_kolommen", str(error)))
            except duckdb.Error as error:  # its text may hold a value
                reason = f"kolommen van een soort waarmee niet te rekenen is ({type(error).__name__})"
                refused.append(Refused(mart, "alleen_beschreven_kolommen", reason))
        gated = Gated(connection, passed, refused)
        if candidates or sealed_file(settings.paths, "").parent.is_dir():
            gated.seal = seal(settings)
            gated.history = History(settings, ledger, gated.seal)
            with warehouse(settings.paths, settings.resources, read_only=True) as source:
                gated.borders = load_borders(settings, source)
            elsewhere = [mart for mart in (*marts, *others) if mart.name in present]
            _protect(gated, audience, norms, candidates, norms_in_force(ledger, Chain.of(norms)), elsewhere)
        gated.passed.sort(key=lambda table: table.mart.name)
        yield gated


class _UnmetError(Exception):
    """A norm that a table does not meet."""

    def __init__(self, norm: str, reason: str) -> None:
        super().__init__(reason)
        self.norm, self.reason = norm, reason


def _spec(mart: Mart, present: Collection[str], failed: Mapping[str, str], closed: Mapping[str, str]) -> DisclosureSpec:
    """The spec of a mart that is there and approved; one that calls itself public must prove it by its lineage."""
    if mart.name in failed:
        raise _UnmetError("model", failed[mart.name])
    if mart.name not in present:
        raise _UnmetError("model", "de tabel is niet gemaakt")
    if mart.name in closed:
        raise _UnmetError("goedkeuring", closed[mart.name])
    spec = parse_spec(mart.name, mart.disclosure)
    if spec.policy == "openbaar" and not mart.is_public:
        raise _UnmetError("openbare_bron", "de tabel noemt zich openbaar, maar rust ook op andere dan openbare bronnen")
    return spec


def _checked(
    connection: duckdb.DuckDBPyConnection,
    mart: Mart,
    spec: DisclosureSpec,
    norms: Norms,
    waivers: Collection[str],
    whose: Mapping[str, str],
) -> Checked:
    """A mart that meets every norm that is about the table as a whole."""
    _described(connection, mart)
    _privacy_norms(connection, mart.name, spec)
    waived = _quality_norms(connection, mart.name, spec, norms, waivers)
    lowest = max(norms.laagste_niveau.get(mart.name, spec.lowest), spec.lowest, key=HEIGHT.__getitem__)
    return Checked(mart, spec, lowest, waived, _supplied_columns(mart, spec, norms, whose))


def suppliers(settings: Settings, norms: Norms, marts: Sequence[Mart]) -> dict[str, str]:
    """Who supplies each delivery of the factory and each that a mart rests on: what its contract says, else itself.

    Raises:
        NormsError: the norms name a supplier that no contract knows.
        ContractError: a contract that cannot be used.
    """
    contracts = find_contracts(settings.contract_folders)
    found = {}
    for name in sorted({*settings.deliveries, *(register for mart in marts for register in _registers(mart))}):
        own = settings.deliveries.get(name)
        path = contracts.get((own and own.contract) or name)
        found[name] = (read_contract(path).supplier if path else "") or name
    named = norms.aanvaller.leveranciers
    if not isinstance(named, str) and (unknown := sorted(set(named) - set(found.values()))):
        raise NormsError(
            f"aanvaller.leveranciers: no contract has {', '.join(unknown)} as its leverancier, so nobody can say what "
            f"they know and nothing is released; known are {', '.join(sorted(set(found.values()))) or 'none'}"
        )
    return found


def _registers(mart: Mart) -> set[str]:
    """The deliveries that a mart rests on."""
    public = ("raw_cbs.", "raw_leveringen.")
    return {source.partition(".")[2] for source in mart.sources if not source.startswith(public)}


def _supplied_columns(
    mart: Mart, spec: DisclosureSpec, norms: Norms, whose: Mapping[str, str]
) -> dict[str, frozenset[str]]:
    """Per supplier that counts which columns come from it: count and classifications, as `uit` in the spec says."""
    named, registers = norms.aanvaller.leveranciers, _registers(mart)
    if named == "geen" or not registers:
        return {}
    columns = {str(spec.count), *spec.total_of}
    if odd := sorted(set(spec.uit.values()) - registers):
        reason = f"uit noemt {', '.join(odd)}, en daar rust de tabel niet op"
        raise _UnmetError("leveranciers", f"{reason}: noem een van {', '.join(sorted(registers))}")
    if not spec.uit and len(registers) > 1 and spec.total_of:
        wanted = ", ".join(f"{column}: …" for column in sorted(columns))
        raise _UnmetError(
            "leveranciers",
            f"de tabel rust op {', '.join(sorted(registers))}; zeg in de disclosure-spec waaruit elk deel komt, want "
            f"wie een register levert kent zijn eigen cijfers: uit: {{{wanted}}}",
        )
    # without a word on it all who supplied a part are taken to know the count
    pairs = list(spec.uit.items()) or [(column, register) for column in columns for register in registers]
    found: dict[str, frozenset[str]] = {}
    for column, register in pairs:
        who = whose[register]
        if named == "allen" or who in named:
            found[who] = found.get(who, frozenset()) | {column}
    return found


def _described(connection: duckdb.DuckDBPyConnection, mart: Mart) -> None:
    columns = [row[0] for row in connection.execute(f"DESCRIBE {quoted(mart.name)}").fetchall()]
    bare = [name for name in columns if not mart.columns.get(name)] + ([] if mart.description else ["de tabel zelf"])
    if bare:
        raise _UnmetError("alleen_beschreven_kolommen", f"zonder beschrijving: {', '.join(bare)}")


def _load(settings: Settings, connection: duckdb.DuckDBPyConnection, marts: Sequence[Mart]) -> set[str]:
    """Copy the marts, in plain types, and CBS's public figures; return the names that exist."""
    present: set[str] = set()
    with warehouse(settings.paths, settings.resources, read_only=True) as source:
        for mart in marts:
            described = source.execute(
                "SELECT column_name, data_type FROM duckdb_columns() WHERE schema_name = ? AND table_name = ? "
                "ORDER BY column_index",
                [SCHEMA, mart.name],
            ).fetchall()
            if not described:
                continue
            present.add(mart.name)
            columns = ", ".join(f"{quoted(name)}::{_plain_type(kind)} AS {quoted(name)}" for name, kind in described)
            rows = source.execute(f"SELECT {columns} FROM {quoted(SCHEMA)}.{quoted(mart.name)}").to_arrow_table()
            connection.register("_geladen", rows)
            connection.execute(f"CREATE TABLE {quoted(mart.name)} AS SELECT * FROM _geladen")
            connection.unregister("_geladen")
        known = source.execute(
            "SELECT 1 FROM duckdb_columns() WHERE schema_name = 'raw_cbs' "
            "AND table_name = 'kerncijfers_wijken_en_buurten' AND column_name = 'indicator_sleutel'"
        ).fetchone()
        query = "SELECT 0 AS jaar, '' AS regio_code, '' AS indicator, 0.0::DOUBLE AS waarde WHERE false"
        if known:
            query = """SELECT DISTINCT jaar::INTEGER AS jaar, regio_code::VARCHAR AS regio_code,
                indicator_sleutel::VARCHAR AS indicator, waarde::DOUBLE AS waarde
                FROM raw_cbs.kerncijfers_wijken_en_buurten WHERE indicator_sleutel IS NOT NULL AND waarde IS NOT NULL"""
        connection.register("_geladen", source.execute(query).to_arrow_table())
        connection.execute(f"CREATE TABLE {CBS} AS SELECT * FROM _geladen")
        connection.unregister("_geladen")
        named = "SELECT 0 AS jaar, '' AS regio_code, '' AS regio_naam WHERE false"
        if source.execute(
            "SELECT 1 FROM duckdb_tables() WHERE schema_name = 'raw_cbs' AND table_name = 'regios'"
        ).fetchone():
            named = "SELECT DISTINCT indeling_jaar::INTEGER AS jaar, regio_code, regio_naam FROM raw_cbs.regios"
        connection.register("_geladen", source.execute(named).to_arrow_table())
        connection.execute(f"CREATE TABLE {REGIONS} AS SELECT * FROM _geladen")
        connection.unregister("_geladen")
    return present


def _plain_type(kind: str) -> str:
    """The plain type that every reader of a published file knows."""
    if kind in ("HUGEINT", "UBIGINT", "UHUGEINT", "UINTEGER"):
        return "BIGINT"
    if kind in ("SMALLINT", "TINYINT", "USMALLINT", "UTINYINT"):
        return "INTEGER"
    if kind == "FLOAT":
        return "DOUBLE"
    plain = ("VARCHAR", "INTEGER", "BIGINT", "DOUBLE", "DATE", "BOOLEAN")
    return kind if kind in plain or kind.startswith("DECIMAL(") else "VARCHAR"


def failures(settings: Settings, marts: Sequence[Mart]) -> dict[str, str]:
    """Marts that cannot be trusted, with the reason: what failed in the newest dbt build, and what no build told of.

    A mart, a model that it is made of and every test on those must have a good result. A test that was last done
    before its model was last made says nothing of the table as it is.
    """
    manifest, results = last_manifest(settings.paths) or {"nodes": {}}, last_results(settings.paths)
    found = {}
    for mart in marts:
        made = [results.get(name) for name in mart.models]
        tested = {name: results.get(name) for name in mart.tests}
        if not all(result and result.is_good for result in made):
            found[mart.name] = "het model, of een model waar het op rust, kon niet worden vernieuwd"
        elif not all(result and result.is_good for result in tested.values()):
            found[mart.name] = "een toets op het model, of op een model waar het op rust, is niet gehaald"
        elif any(_is_older(manifest, results, name) for name in mart.tests):
            found[mart.name] = "een toets op het model, of op een model waar het op rust, is ouder dan de tabel"
    return found


def _is_older(manifest: Mapping[str, Any], results: Mapping[str, NodeResult], test: str) -> bool:
    judged = attached_to(manifest, manifest["nodes"][test])
    return judged is not None and judged in results and results[test].at < results[judged].at


def _as_is(connection: duckdb.DuckDBPyConnection, mart: Mart, spec: DisclosureSpec) -> Passed:
    _described(connection, mart)
    row = connection.execute(f"SELECT count(*) FROM {quoted(mart.name)}").fetchone()
    return Passed(mart, spec, mart.name, {}, {"cellen": int(row[0]) if row else 0})


def _count(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    row = connection.execute(query).fetchone()
    return int(row[0] or 0) if row else 0


def _privacy_norms(connection: duckdb.DuckDBPyConnection, table: str, spec: DisclosureSpec) -> None:
    """What must hold of the figures before any is shown; none of it can be waived."""
    name, count = quoted(table), quoted(spec.count or "")
    columns = {row[0] for row in connection.execute(f"DESCRIBE {name}").fetchall()}
    dimensions = {*spec.by, *spec.total_of}
    labels = {f"{column.removesuffix('_code')}_naam" for column in dimensions if column.endswith("_code")}
    ratios = {rate.denominator for rate in spec.rates.values()} | {rate.numerator for rate in spec.rates.values()}
    known = {*KEY_COLUMNS, *FACT_COLUMNS, spec.geo, spec.count or "", *dimensions, *labels, *ratios, *spec.rates}
    if foreign := sorted(columns - known):
        raise _UnmetError("alleen_beschreven_kolommen", f"niet in de disclosure-spec: {', '.join(foreign)}")
    if lacking := sorted(known - columns - labels - {"gemeente_code"}):
        raise _UnmetError("alleen_beschreven_kolommen", f"ontbrekende kolommen: {', '.join(lacking)}")
    if any(rate.numerator != spec.count for rate in spec.rates.values()):
        raise _UnmetError("alleen_beschreven_kolommen", "een verhouding rust op een andere teller dan de beschermde")
    levels = ", ".join(map(literal, (*spec.levels, UNKNOWN_BUURT)))
    code = quoted(spec.geo)
    keys = ", ".join(quoted(key) for key in sorted({spec.geo, "indeling_jaar", *dimensions}))
    forms = " ".join(f"WHEN {literal(level)} THEN {literal(form(level))}" for level in (*spec.levels, UNKNOWN_BUURT))
    shape = f"regexp_matches({code}, CASE regio_niveau {forms} END)"
    rules = {
        "regio's op een niveau dat de spec niet noemt": f"regio_niveau NOT IN ({levels})",
        "regiocodes die niet bij hun niveau passen": f"NOT coalesce({shape}, false)",
        "lege sleutels": f"{code} IS NULL OR indeling_jaar IS NULL OR periode IS NULL OR indicator IS NULL "
        "OR status IS NULL",
        # the same count under a period of another name would stand in no one block with it
        "perioden anders dan JJJJ of JJJJ-MM": r"NOT regexp_full_match(periode, '\d{4}(-(0[1-9]|1[0-2]))?')",
        "aantallen die negatief of gebroken zijn": f"{count} < 0 OR {count} <> floor({count})",
    }
    for reason, rule in rules.items():
        if _count(connection, f"SELECT count(*) FROM {name} WHERE {rule}"):
            raise _UnmetError("minimum", reason)
    if _count(connection, f"SELECT count(*) - count(DISTINCT ({keys})) FROM {name}"):
        raise _UnmetError("minimum", "dezelfde cel staat er meer dan eens in")
    # the same figure in two borders, or of two frequencies, tells more than each alone
    per_period = f"SELECT periode, indicator FROM {name} GROUP BY ALL HAVING count(DISTINCT indeling_jaar) > 1"
    if _count(connection, f"SELECT count(*) FROM ({per_period})"):
        raise _UnmetError("minimum", "een periode staat er in meer dan één indeling in")
    per_year = f"""SELECT left(m.periode, 4), geteld.telling FROM {name} AS m JOIN {counted(spec)}
        ON geteld.indicator = m.indicator GROUP BY ALL HAVING count(DISTINCT length(m.periode)) > 1"""
    if _count(connection, f"SELECT count(*) FROM ({per_year})"):
        raise _UnmetError("minimum", "hetzelfde jaar staat er in verschillende periodelengten in")
    rates_per_indicator(connection, table, spec)
    _words(connection, table, spec, columns)
    for rate in spec.rates.values():
        _denominators(connection, table, spec, rate)


def _words(connection: duckdb.DuckDBPyConnection, table: str, spec: DisclosureSpec, columns: Collection[str]) -> None:
    """No text or date says more than the keys do: one per code, period or indicator, or from a list."""
    code = quoted(spec.geo)
    listed = {"vaststelling": FINDINGS, "herkomst": ORIGINS, "status": STATUSES}
    per = {"regio_naam": f"{code}, indeling_jaar", "eenheid": "indicator", "periode_start": "periode"}
    per |= {
        f"{name.removesuffix('_code')}_naam": quoted(name)
        for name in (*spec.by, *spec.total_of)
        if name.endswith("_code")
    }
    rules = {
        f"in {name} staat iets anders dan {', '.join(words)}": (
            f"SELECT count(*) FROM {quoted(table)} WHERE {quoted(name)} NOT IN ({', '.join(map(literal, words))})"
        )
        for name, words in listed.items()
        if name in columns
    }
    rules |= {
        f"{name} verschilt binnen {key.replace(chr(34), '')}": (
            f"SELECT count(*) FROM (SELECT 1 FROM {quoted(table)} GROUP BY {key} "
            f"HAVING count(DISTINCT {quoted(name)}) > 1 OR count({quoted(name)}) NOT IN (0, count(*)))"
        )
        for name, key in per.items()
        if name in columns
    }
    rules["bedragen zijn geen aantallen: wat één persoon ervan heeft kan groot zijn (datafabriek protect)"] = (
        f"SELECT count(*) FROM {quoted(table)} WHERE regexp_matches(eenheid, '\\b(euro|eur|bedrag(en)?)\\b|€', 'i') "
        f"OR regexp_matches({literal(spec.count or '')}, '_eur$|bedrag', 'i')"
    )
    rules["periode_start is niet de eerste dag van de periode"] = (
        f"SELECT count(*) FROM {quoted(table)} WHERE periode_start::DATE <> "
        "try_strptime(periode || CASE length(periode) WHEN 4 THEN '-01' ELSE '' END || '-01', '%Y-%m-%d')::DATE"
    )
    rules["regio_naam is niet de naam die het CBS de regio geeft"] = (
        # a region that CBS does not know is the unknown buurt, whose name holds no number
        f"SELECT count(*) FROM (SELECT DISTINCT {code} AS code, regio_naam, indeling_jaar FROM {quoted(table)}) AS m "
        f"LEFT JOIN (SELECT jaar, regio_code, list(regio_naam) AS namen FROM {REGIONS} GROUP BY ALL) AS r "
        "ON r.regio_code = m.code AND r.jaar = m.indeling_jaar "
        "WHERE NOT coalesce(list_contains(r.namen, m.regio_naam), NOT regexp_matches(m.regio_naam, '[0-9]'), true)"
    )
    if "gemeente_code" in columns:
        rules["gemeente_code is niet die van de regio"] = (
            f"SELECT count(*) FROM {quoted(table)} WHERE gemeente_code IS DISTINCT FROM {municipality(spec)}"
        )
    for reason, query in rules.items():
        if _count(connection, query):
            raise _UnmetError("alleen_beschreven_kolommen", reason)


def _denominators(connection: duckdb.DuckDBPyConnection, table: str, spec: DisclosureSpec, rate: Rate) -> None:
    """Every denominator is the figure of CBS that the spec names, and stands wherever CBS gives that figure."""
    below, count = quoted(rate.denominator), quoted(spec.count or "")
    pairs = ", ".join(f"({literal(own)}, {literal(figure)})" for own, figure in sorted(rate.cbs.items()))
    named = f"(VALUES {pairs or '(NULL, NULL)'}) AS genoemd(indicator, cijfer)"
    rows = f"""SELECT m.indicator, m.periode, genoemd.cijfer, m.{below} AS noemer, m.{count} AS teller,
            list(round(c.waarde)) FILTER (c.waarde IS NOT NULL) AS openbaar
        FROM (SELECT row_number() OVER () AS rij, * FROM {quoted(table)}) AS m
        LEFT JOIN {named} ON genoemd.indicator = m.indicator
        LEFT JOIN {CBS} AS c ON c.indicator = genoemd.cijfer AND c.regio_code = m.{quoted(spec.geo)}
            AND c.jaar = m.indeling_jaar AND left(m.periode, 4) = m.indeling_jaar::VARCHAR
        GROUP BY m.rij, m.indicator, m.periode, genoemd.cijfer, m.{below}, m.{count}"""
    told = connection.execute(f"""SELECT indicator, cijfer,
            count(*) FILTER (noemer IS NOT NULL AND NOT coalesce(list_contains(openbaar, noemer), false)),
            count(*) FILTER (noemer IS NULL AND teller IS NOT NULL AND openbaar IS NOT NULL), count(noemer)
        FROM ({rows}) GROUP BY indicator, cijfer, periode ORDER BY ALL""").fetchall()
    for indicator, figure, other, lacking, given in told:
        where = f"rates.*.cbs in de disclosure-spec: {{{indicator}: …}}"
        if other and figure is None:
            reason = f"{other} cellen van {indicator} hebben een noemer, en de spec zegt niet welk CBS-cijfer dat is"
            raise _UnmetError("openbare_noemers", f"{reason}; noem het onder {where}")
        if other:
            reason = f"{other} cellen van {indicator} hebben een andere noemer dan {figure} van het CBS"
            raise _UnmetError("openbare_noemers", f"{reason} voor die regio en dat jaar; verbeter model of {where}")
        if lacking and given:
            # without their number: it could be that of the small counts
            reason = f"cellen van {indicator} missen de noemer {figure} die het CBS wel geeft"
            raise _UnmetError("openbare_noemers", f"{reason}; neem hem in het model overal over")


def _quality_norms(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    spec: DisclosureSpec,
    norms: Norms,
    waivers: Collection[str],
) -> tuple[str, ...]:
    """The waivable norms; returns those that are not met and were accepted."""
    name, count, code = quoted(table), quoted(spec.count or ""), quoted(spec.geo)
    keys = ", ".join(quoted(key) for key in dict.fromkeys((*spec.by, *spec.total_of)))
    levels = sorted(spec.levels, key=HEIGHT.__getitem__)
    unmet: list[str] = []
    if norms.kwaliteit.marges_tellen_op:
        wrong = 0
        for level, above in pairwise(levels):
            digits = 6 if above == "WK" else 4
            aside = f" OR regio_niveau = '{UNKNOWN_BUURT}'" if above == "GM" else ""
            parent = f"""'{above}' || CASE regio_niveau WHEN '{UNKNOWN_BUURT}' THEN substr({code}, 4, 4)
                ELSE substr({code}, 3, {digits}) END"""
            wrong += _count(
                connection,
                f"""WITH delen AS (SELECT {keys}, {parent} AS ouder, sum({count}) AS som,
                        bool_and({count} IS NOT NULL) AS is_bekend
                    FROM {name} WHERE regio_niveau = '{level}'{aside} GROUP BY ALL)
                SELECT count(*) FROM (SELECT * FROM {name} WHERE regio_niveau = '{above}') AS m
                LEFT JOIN delen AS d ON {" AND ".join(f"m.{k.strip()} = d.{k.strip()}" for k in keys.split(","))}
                    AND d.ouder = m.{code}
                WHERE m.{count} IS NOT NULL AND (d.ouder IS NULL OR d.is_bekend AND d.som <> m.{count})""",
            )
        if wrong:
            unmet.append("marges_tellen_op")
    unplaced = f"""SELECT count(*) FROM (
        SELECT sum({count}) FILTER (regio_niveau = '{UNKNOWN_BUURT}') AS onbekend,
            sum({count}) FILTER (regio_niveau = 'GM') AS totaal
        FROM {name} GROUP BY periode, indicator,
            CASE regio_niveau WHEN '{UNKNOWN_BUURT}' THEN substr({code}, 4, 4) ELSE substr({code}, 3, 4) END)
        WHERE 100 * onbekend > {norms.kwaliteit.onbekende_buurt_pct} * totaal"""
    if _count(connection, unplaced):
        unmet.append("onbekende_buurt_pct")
    if norms.kwaliteit.regios_compleet:
        shown = ", ".join(map(literal, spec.levels))
        holes = f"""SELECT count(*) FROM (
            SELECT DISTINCT periode, indicator, indeling_jaar, left(regio_niveau, 2) AS niveau,
                substr({code}, 3, 4) AS gemeente FROM {name} WHERE regio_niveau IN ({shown})) AS m
            JOIN (SELECT DISTINCT jaar, regio_code FROM {CBS}) AS c
                ON c.jaar = m.indeling_jaar AND left(c.regio_code, 2) = m.niveau
                AND substr(c.regio_code, 3, 4) = m.gemeente
            WHERE NOT EXISTS (SELECT 1 FROM {name} AS h WHERE h.periode = m.periode
                AND h.indicator = m.indicator AND h.{code} = c.regio_code)"""
        if _count(connection, holes):
            unmet.append("regios_compleet")
    for norm in unmet:
        if norm not in waivers:
            raise _UnmetError(norm, _REASONS[norm])
    return tuple(unmet)


_REASONS = {
    "marges_tellen_op": "een gemeente of wijk is niet de som van haar delen",
    "onbekende_buurt_pct": "van te veel gevallen is de buurt onbekend",
    "regios_compleet": "niet elke regio die het CBS dat jaar kent heeft een rij",
}


def _protect(
    gated: Gated,
    audience: Audience,
    norms: Norms,
    candidates: Sequence[Checked],
    in_force: _InForce,
    elsewhere: Sequence[Mart],
) -> None:
    """Protect all blocks of the candidates; a mart with a block that cannot be is refused, and the rest goes on."""
    start = time.monotonic()
    connection = gated.connection
    ready = {checked.mart.name: checked for checked in candidates}
    read = {}
    for name, checked in sorted(ready.items()):
        try:
            read[name] = read_parts(connection, quoted(name), name, checked.spec, checked.lowest)
        except BlockError as error:
            _refuse(gated, ready, name, "minimum", str(error))
    _on_one_grid(gated, ready, read)
    _under_one_name(gated, ready, read, elsewhere)
    shown: dict[str, dict[str, list[str]]] = {name: {} for name in ready}
    blocks = list(blocks_of({name: parts for name, parts in read.items() if name in ready}))
    for block in blocks:
        gated.blocks.setdefault((block.telling, block.periode), []).append(block)
    for block in blocks:
        made = _made(gated, audience, norms, ready, block, in_force)
        if made is None:
            continue
        gated.made.append(made)
        for part in made.block.parts:
            periods = shown[part.mart].setdefault(made.chain.label, [])
            if block.periode not in periods:
                periods.append(block.periode)
    # a mart that was refused on the way is not in this release, so neither is it in its evidence
    gated.made = [kept for made in gated.made if (kept := made.only(ready)).block.parts]
    for name, checked in ready.items():
        gated.passed.append(_shown(gated, checked, shown[name]))
    reused = sum(made.reused is not None for made in gated.made)
    gated.facts = {
        "blokken_opgelost": sum(not made.block.is_empty for made in gated.made) - reused,
        "blokken_overgenomen": reused,
        "aandeel_waarde_geheim_pct": _hidden_share(gated.made),
        "seconden": round(time.monotonic() - start, 3),
    }


def _on_one_grid(gated: Gated, ready: dict[str, Checked], read: Mapping[str, Mapping[Key, Part]]) -> None:
    """Refuse a table that shows a count over other periods or borders than another table or an earlier release does.

    A year beside its months, or a municipality beside the one that took it over, is no block's: each would be
    protected alone, and one less the other could be what was hidden.
    """
    assert gated.history is not None
    seen: dict[tuple[str, str, str], set[int]] = {}
    for telling, period in gated.history.counted:
        seen.setdefault(("periodelengten", telling, period[:4]), set()).add(len(period))
    for name, checked in sorted(ready.items(), key=lambda item: (len(item[1].spec.total_of), item[0])):
        own: dict[tuple[str, str, str], set[int]] = {}
        for (telling, period, _), part in read[name].items():
            own.setdefault(("periodelengten", telling, period[:4]), set()).add(len(period))
            own.setdefault(("indelingen", telling, period), set()).add(part.indeling)
        clash = next((key for key, values in sorted(own.items()) if len(values | seen.get(key, set())) > 1), None)
        if clash is None:
            for key, values in own.items():
                seen.setdefault(key, set()).update(values)
        else:
            what, telling, period = clash
            reason = f"{telling} over {period} staat in een andere tabel of een eerdere levering in andere {what}"
            _refuse(gated, ready, checked.mart.name, "minimum", reason)


def _under_one_name(
    gated: Gated, ready: dict[str, Checked], read: Mapping[str, Mapping[Key, Part]], elsewhere: Sequence[Mart]
) -> None:
    """Refuse a count that follows from counts under other names, here or in what anyone was ever shown.

    Where one of them was shown before, the others give way.
    """
    assert gated.history is not None
    shown = {telling for telling, _ in gated.history.counted}
    counts = {name: parts for name, parts in read.items() if name in ready}
    for mart in elsewhere:
        try:
            spec = parse_spec(mart.name, mart.disclosure)
            if mart.name not in counts and spec.policy == "frequentie" and shown & set(spec.telling):
                counts[mart.name] = read_parts(gated.connection, quoted(mart.name), mart.name, spec, spec.lowest)
        except (BlockError, ProtectionError, duckdb.Error):  # such a mart goes to nobody
            continue
    for clash in clashes(counts, gated.connection, CBS):
        able = {name for name in clash.tellingen if any(name in own.spec.telling for own in ready.values())}
        if not able or set(clash.tellingen) - able - shown:  # one that was refused just now tells nothing
            continue
        worst = max(able - shown or able)
        for name in [name for name, own in ready.items() if worst in own.spec.telling]:
            reason = f"{clash.told}: tel ze onder één naam (telling in de disclosure-spec), met een indeling waar nodig"
            _refuse(gated, ready, name, "minimum", reason)


def _hidden_share(made: Sequence[Made]) -> float:
    """How much of what municipalities are shown to have is not shown in the finest cells, as a percentage.

    From shown values alone, so that it tells whoever watches the run nothing that readers cannot work out.
    """
    whole = parts = 0.0
    for item in made:
        for part, values in zip(item.block.parts, item.view.values, strict=True):
            finest = np.isin(part.heights, (part.levels[0], UNKNOWN_BUURT))
            for at, total in enumerate(part.spec.total_of.values(), start=1):
                finest &= np.array([key[at] != total for key in part.keys])
            top = part.is_total & (np.array(part.heights) == part.levels[-1]) & ~np.isnan(values)
            if top.any():
                whole += float(values[top].sum())
                parts += float(np.nansum(values[finest]))
    return round(max(100 * (1 - parts / whole), 0.0), 2) if whole else 0.0


def _made(
    gated: Gated,
    audience: Audience,
    norms: Norms,
    ready: dict[str, Checked],
    block: Block,
    in_force: _InForce,
) -> Made | None:
    """A block as an audience may see it; marts that stand in the way are refused, breakdowns first.

    None where no mart is left.
    """
    while True:
        for part in block.parts:
            if part.mart not in ready:
                block = block.without(part.mart)
        if not block.parts:
            return None
        cells: tuple[str, ...] = ()
        try:
            return _view(gated, audience, norms, ready, block, in_force)
        except (EvidenceError, BordersError) as error:
            norm, reason = "eerdere_leveringen", str(error)
        except NormsError as error:
            norm, reason = "eerdere_leveringen", f"{error}; begin deze tabel opnieuw onder een andere naam"
        except FactoryError as error:
            norm, cells = "bescherming", (block.id, str(error), *getattr(error, "cells", ()))
            reason = _told(error, block.periode)
        except Exception as error:  # noqa: BLE001  # whatever goes wrong while protecting: this block is not released
            norm, cells = "bescherming", (block.id, repr(error))
            reason = f"{block.periode}: {type(error).__name__} tijdens het beveiligen"
        worst = max(block.parts, key=lambda part: (len(part.spec.total_of), part.mart))
        _refuse(gated, ready, worst.mart, norm, reason, cells)


def _told(error: FactoryError, period: str) -> str:
    """Why a block is refused, in Dutch: without the names of cells, or how many they are."""
    text = str(error)
    if isinstance(error, BlockError):
        return f"{period}: {error}"
    if "time" in text:
        return f"{period}: de tijd was om voordat de beveiliging bewezen was (tijdslimiet_s in normen.yaml)"
    if "no pattern" not in text and any(word in text for word in ("revision", "earlier release", "which input")):
        why = "past niet bij wat eerder is geleverd (herziening_maximaal in normen.yaml)"
        return f"{period}: {why}"
    return f"{period}: niet bewezen is dat alles wat verborgen moet zijn, verborgen blijft"


def _refuse(
    gated: Gated, ready: dict[str, Checked], name: str, norm: str, reason: str, cells: Sequence[str] = ()
) -> None:
    gated.refused.append(Refused(ready.pop(name).mart, norm, reason, tuple(cells)))


def _view(
    gated: Gated,
    audience: Audience,
    norms: Norms,
    ready: Mapping[str, Checked],
    block: Block,
    in_force: _InForce,
) -> Made:
    """What an audience may see of a block: as it was released before, or proved anew."""
    history, own, connection = gated.history, gated.seal, gated.connection
    assert history is not None
    assert own is not None
    block = own.named(block)
    marts = [part.mart for part in block.parts]
    served = (who for who, _ in in_force.own.norms)
    chain = in_force.chain(marts, block.periode).joined([*served, *history.shown_to(block)])
    together = norms.aanvaller.partners
    readers = {who: chain.known_to(who, partners=together) for who, _ in chain.steps(audience)}
    shape = shapes(block, {name: ready[name].lowest for name in marts})
    if bare := [name for name in marts if (name, block.periode) in history.bare]:
        raise EvidenceError(
            f"{', '.join(bare)} is over {block.periode} eerder geleverd zonder bewijs: haal die leveringen uit de "
            "fabriek, of begin in een nieuwe map"
        )
    wanted, strictest = norms.steps(audience)[-1], chain.norms[-1][1]
    if audience not in dict(chain.norms) and any(
        getattr(wanted, name) > getattr(strictest, name) for name in ("minimum", "bescherming", "afronding")
    ):
        raise EvidenceError(
            f"{block.periode} is eerder geleverd onder normen die voor {audience} niets bepaalden en minder streng zijn"
        )
    if block.is_empty:
        least = chain.least_shown(audience)[-1]
        view = View(tuple(part.count for part in block.parts), chain.steps(audience)[-1][1], least)
        return Made(block, view, chain, shape, norms.attackers)
    taken: dict[Audience, View] = {}
    reused = None
    for who, own_norms in chain.steps(audience):
        for version in reversed(history.versions.get(who, {}).get(block.id, [])):
            # suppliers count in the first view alone, so no later one starts from a view that withstood fewer
            if who != audience and version.aanvaller != norms.attackers:
                continue
            if version.normen == chain.label and version.indeling == block.indeling and version.covers(shape):
                old = {part.mart: part.count for part in version.block(block).parts}
                values = tuple(old[part.mart] for part in block.parts)
                taken[who] = View(values, own_norms, chain.least_shown(who)[-1])
                reused = version if who == audience else reused
                break
    if reused is not None:
        return Made(block, taken[audience], chain, shape, norms.attackers, reused)
    counts = {
        key[0]: float(count)
        for part in block.parts
        for key, count, is_total in zip(part.keys, part.count, part.is_total, strict=True)
        if is_total
    }
    revision = None if norms.herziening_maximaal == "geen" else norms.herziening_maximaal
    told, sums = known_told(
        history,
        readers,
        block,
        gated.blocks[block.telling, block.periode],
        gated.borders,
        _fresh(gated, audience, block),
    )
    view, evidence = views(
        block,
        chain,
        audience,
        told,
        sums,
        taken,
        public_figures(connection, CBS, block, counts),
        revision,
        knows_own=norms.kent_eigen_cel,
        suspects=norms.aanvaller.vermoedt_klein,
        suppliers=_own_records(block, ready),
        time_limit=norms.tijdslimiet_s,
    )
    return Made(block, view, chain, shape, norms.attackers, None, evidence)


def _own_records(block: Block, ready: Mapping[str, Checked]) -> dict[str, list[Bools]]:
    """Per supplier which rows of each table of a block it knows; left out is who knows none, or all there is."""
    found = {}
    for who in sorted({who for part in block.parts for who in ready[part.mart].suppliers}):
        known = []
        for part in block.parts:
            own = ready[part.mart].suppliers.get(who, frozenset())
            whole = [at for at, name in enumerate(part.spec.total_of, start=1) if name not in own]
            totals = tuple(part.spec.total_of.values())
            counts = str(part.spec.count) in own
            known.append(np.array([counts and all(key[at] == totals[at - 1] for at in whole) for key in part.keys]))
        if any(rows.any() for rows in known) and not all(rows.all() for rows in known):
            found[who] = known
    return found


def _fresh(gated: Gated, audience: Audience, block: Block) -> list[Fresh]:
    """What this run shows anew of the same count and period in other municipalities."""
    found = []
    for made in gated.made:
        other = made.block
        if (other.telling, other.periode) == (block.telling, block.periode) and made.reused is None:
            parts = tuple(
                replace(part, count=values, is_hidden=np.isnan(values) & ~np.isnan(part.count))
                for part, values in zip(other.parts, made.view.values, strict=True)
            )
            found.append(Fresh(audience, replace(other, parts=parts), made.view.norms, made.view.least))
    return found


def _shown(gated: Gated, checked: Checked, labels: Mapping[str, Sequence[str]]) -> Passed:
    """The protected table of a mart, from the blocks that it is in."""
    import pyarrow as pa

    connection, name, spec = gated.connection, checked.mart.name, checked.spec
    columns: dict[str, list[Any]] = {
        column: [] for column in ("telling", "periode", "code", *spec.total_of, "getoond", "is_afgerond")
    }
    for made in gated.made:
        for part, values in zip(made.block.parts, made.view.values, strict=True):
            if part.mart != name:
                continue
            at = np.flatnonzero(~np.isnan(values))
            columns["telling"] += [made.block.telling] * len(at)
            columns["periode"] += [made.block.periode] * len(at)
            for place, column in enumerate(("code", *spec.total_of)):
                columns[column] += [part.keys[i][place] for i in at]
            columns["getoond"] += values[at].tolist()
            columns["is_afgerond"] += rounded_rows(values[at], made.view.norms.afronding).tolist()
    relation, cells = f"{name}_beschermd", f"{name}_getoond"
    kinds = {"getoond": pa.float64(), "is_afgerond": pa.bool_()}
    table = pa.table({key: pa.array(values, kinds.get(key, pa.string())) for key, values in columns.items()})
    connection.register("_getoond", table)
    connection.execute(f"CREATE TEMP TABLE {quoted(cells)} AS SELECT * FROM _getoond")
    connection.unregister("_getoond")
    show(connection, name, cells, relation, spec)
    # which rows there are under the lowest level shown would tell where somebody is
    kept = [*spec.shown_levels(checked.lowest), *([UNKNOWN_BUURT] if checked.lowest != "GM" else [])]
    connection.execute(f"DELETE FROM {quoted(relation)} WHERE regio_niveau NOT IN ({', '.join(map(literal, kept))})")
    counts = {"cellen": _count(connection, f"SELECT count(*) FROM {quoted(relation)}")}
    for status in ("verstrekt", "afgerond", "geheim", "onbekend", "nvt"):
        query = f"SELECT count(*) FROM {quoted(relation)} WHERE status = {literal(status)}"
        counts[status] = _count(connection, query)
    periods = {label: sorted(covered) for label, covered in labels.items()}
    return Passed(checked.mart, spec, relation, periods, counts, checked.waived)
