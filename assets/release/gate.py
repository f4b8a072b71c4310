"""The gate: which marts may be released to an audience, and what of them may be shown.

Belongs here: reading marts with their disclosure specs, the norms that each must meet before anything is shown,
and the protected tables that come out. Does not belong here: writing a release (assets.release.candidate), and the
second look at what was written (assets.release.verify), which shares no code with this one on purpose.

Everything happens in a DuckDB of its own in memory; nothing unprotected is written to disk or told in a message.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import duckdb

from assets.models.runner import NodeResult, ancestors, attached_to, last_manifest, last_results
from assets.release.approval import unapproved
from datafabriek.config import Settings
from datafabriek.errors import FactoryError
from datafabriek.ledger import Ledger
from datafabriek.warehouse import literal, memory, quoted, warehouse
from quality.norms import AUDIENCES, LEVELS, Audience, AudienceNorms, Level, Norms
from quality.protection import (
    HEIGHT,
    UNKNOWN_BUURT,
    DisclosureSpec,
    ProtectionError,
    assemble,
    close_blocks,
    mask,
    parse_spec,
    rates_per_indicator,
    same_count,
)
from quality.regions import form

SCHEMA = "marts"

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
class Chain:
    """The norms in force for some periods of a table: every audience's, and the level of the parts."""

    norms: tuple[tuple[Audience, int, int], ...]
    lowest: Level

    @property
    def label(self) -> str:
        """A name that is equal for equal norms, as the ledger keeps it."""
        return " ".join(f"{who}:{least}/{base}" for who, least, base in self.norms) + f" vanaf:{self.lowest}"

    @classmethod
    def parse(cls, label: str) -> Chain:
        """The chain of a label."""
        *norms, last = label.split()
        found: list[tuple[Audience, int, int]] = []
        for item in norms:
            who, numbers = item.split(":")
            least, base = numbers.split("/")
            found.append((next(name for name in AUDIENCES if name == who), int(least), int(base)))
        return cls(tuple(found), next(level for level in LEVELS if level == last.removeprefix("vanaf:")))

    def steps(self, audience: Audience) -> tuple[AudienceNorms, ...]:
        """Norms to apply in turn; an audience that was not yet foreseen sees what the strictest one sees."""
        names = [who for who, _, _ in self.norms]
        last = names.index(audience) if audience in names else len(names) - 1
        return tuple(AudienceNorms(minimum=least, afronding=base) for _, least, base in self.norms[: last + 1])


@dataclass(frozen=True)
class Passed:
    """A protected table: where it stands in the connection, and counts about it.

    Attributes:
        mart: what it was made from.
        spec: its disclosure spec.
        relation: name of the protected table in the gate's connection.
        chains: the periods under each chain's label.
        counts: cells, hidden, rounded, unknown, blocks closed, unplaced.
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
    """A table that is not released now: which norm or fact stands in the way, without any figure."""

    mart: Mart
    norm: str
    reason: str


Checked = tuple[Mart, DisclosureSpec, dict[Chain, list[str]], tuple[str, ...]]
"""A mart that meets the norms: with its spec, the periods under each chain, and the norms that were waived."""


@dataclass
class Gated:
    """What the gate lets through for an audience."""

    connection: duckdb.DuckDBPyConnection
    passed: list[Passed]
    refused: list[Refused]


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


def norms_in_force(
    ledger: Ledger, table: str, periods: Sequence[str], norms: Norms, lowest: Level
) -> dict[Chain, list[str]]:
    """Which norms hold for each period: those of its first release to anyone, else the policy's.

    The same figure under two roundings or thresholds tells more than under one, so new norms count for periods
    that nobody has seen yet.
    """
    own = Chain(tuple((who, step.minimum, step.afronding) for who, step in norms.chain()), lowest)
    first: dict[str, str] = {}
    for event in ledger.events("release"):
        for label, covered in event.payload.get("normen", {}).get(table, {}).items():
            for period in covered:
                first.setdefault(period, label)
    found: dict[Chain, list[str]] = {}
    for period in periods:
        found.setdefault(Chain.parse(first[period]) if period in first else own, []).append(period)
    return found


@contextmanager
def gate(
    settings: Settings,
    audience: Audience,
    norms: Norms,
    marts: Sequence[Mart],
    ledger: Ledger,
    waivers: Collection[str],
) -> Iterator[Gated]:
    """Protect every mart that meets the norms, for one audience; the others are refused with the reason.

    Args:
        settings: of the factory.
        audience: who will read it.
        norms: the organisation's norms; they must name the audience.
        marts: what there is to release (`read_marts`).
        ledger: knows under which norms a period was shown before.
        waivers: quality norms that were accepted for now.

    Yields:
        The protected tables, in a connection that closes afterwards.

    Raises:
        NormsError: the audience has no norms.
    """
    norms.steps(audience)
    with memory(settings.paths, settings.resources) as connection:
        refused: list[Refused] = []
        present = _load(settings, connection, marts)
        candidates: list[Checked] = []
        passed: list[Passed] = []
        failed, closed = failures(settings, marts), unapproved(settings, ledger, audience, marts, norms)
        for mart in marts:
            try:
                spec = _spec(mart, present, failed, closed)
                if spec.policy == "openbaar":
                    passed.append(_as_is(connection, mart, spec))
                else:
                    candidates.append(_checked(connection, mart, spec, norms, ledger, waivers))
            except _UnmetError as unmet:
                refused.append(Refused(mart, unmet.norm, unmet.reason))
            except ProtectionError as error:
                refused.append(Refused(mart, "alleen_beschreven_kolommen", str(error)))
        _one_table_per_count(connection, candidates, refused)
        passed += _protect(connection, audience, norms, candidates)
        passed.sort(key=lambda table: table.mart.name)
        yield Gated(connection, passed, refused)


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
    ledger: Ledger,
    waivers: Collection[str],
) -> Checked:
    """A mart that meets every norm, with the norms in force for each of its periods."""
    _described(connection, mart)
    _privacy_norms(connection, mart.name, spec)
    waived = _quality_norms(connection, mart.name, spec, norms, waivers)
    lowest = max(norms.laagste_niveau.get(mart.name, spec.lowest), spec.lowest, key=HEIGHT.__getitem__)
    query = f"SELECT DISTINCT periode FROM {quoted(mart.name)} ORDER BY 1"
    periods = [row[0] for row in connection.execute(query).fetchall()]
    chains = norms_in_force(ledger, mart.name, periods, norms, lowest)
    for chain in chains:
        if HEIGHT[chain.lowest] < HEIGHT[spec.lowest]:
            raise _UnmetError("minimum", f"eerdere leveringen begonnen bij {chain.lowest}; de tabel niet meer")
    return mart, spec, chains, waived


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
        query = "SELECT NULL::INTEGER AS jaar, NULL::VARCHAR AS regio_code, NULL::BIGINT AS waarde WHERE false"
        if known:
            query = """SELECT DISTINCT jaar::INTEGER AS jaar, regio_code::VARCHAR AS regio_code,
                round(waarde)::BIGINT AS waarde FROM raw_cbs.kerncijfers_wijken_en_buurten
                WHERE indicator_sleutel IS NOT NULL AND waarde IS NOT NULL"""
        connection.register("_geladen", source.execute(query).to_arrow_table())
        connection.execute("CREATE TABLE _cbs AS SELECT * FROM _geladen")
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
        "lege sleutels": f"{code} IS NULL OR periode IS NULL OR indicator IS NULL",
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
    per_year = f"""SELECT left(periode, 4), {same_count("indicator")} AS telling FROM {name}
        GROUP BY ALL HAVING count(DISTINCT length(periode)) > 1"""
    if _count(connection, f"SELECT count(*) FROM ({per_year})"):
        raise _UnmetError("minimum", "hetzelfde jaar staat er in verschillende periodelengten in")
    rates_per_indicator(connection, table, spec)
    for rate in spec.rates.values():
        unknown = f"""SELECT count(*) FROM {name} AS m WHERE {quoted(rate.denominator)} IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM _cbs AS c WHERE c.regio_code = m.{code} AND c.jaar = m.indeling_jaar
            AND c.waarde = m.{quoted(rate.denominator)})"""
        if _count(connection, unknown):
            raise _UnmetError("openbare_noemers", "een noemer is geen CBS-cijfer van dat jaar en die regio")


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
            JOIN (SELECT DISTINCT jaar, regio_code FROM _cbs) AS c
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


def _one_table_per_count(
    connection: duckdb.DuckDBPyConnection, candidates: list[Checked], refused: list[Refused]
) -> None:
    """Refuse tables that count the same as another in a way that the simple protection does not oversee.

    One table may break down another; a second breakdown, or the same count twice, needs the joint attacker of
    the full engine.
    """
    seen: dict[tuple[str, bool], str] = {}
    for checked in list(candidates):
        mart, spec, _, _ = checked
        query = f"SELECT DISTINCT {same_count('indicator')} FROM {quoted(mart.name)} ORDER BY 1"
        for (counted,) in connection.execute(query).fetchall():
            other = seen.setdefault((counted, bool(spec.total_of)), mart.name)
            if other != mart.name:
                candidates.remove(checked)
                refused.append(Refused(mart, "minimum", f"{counted} staat ook al in {other}"))
                break


def _protect(
    connection: duckdb.DuckDBPyConnection, audience: Audience, norms: Norms, candidates: Sequence[Checked]
) -> list[Passed]:
    """Mask the parts of every table, close blocks of breakdowns, and make totals and rates from what is left."""
    counted: dict[str, str] = {}
    for mart, spec, chains, _ in candidates:
        for chain, periods in chains.items():
            mask(connection, mart.name, spec, chain.steps(audience), chain.lowest, periods)
        if not spec.total_of:
            query = f"SELECT DISTINCT {same_count('indicator')} FROM {quoted(mart.name)}"
            counted |= {row[0]: mart.name for row in connection.execute(query).fetchall()}
    passed = []
    for mart, spec, chains, waived in sorted(candidates, key=lambda item: bool(item[1].total_of)):
        whole, closed = None, 0
        if spec.total_of:
            query = f"SELECT DISTINCT {same_count('indicator')} FROM {quoted(mart.name)} ORDER BY 1"
            tables = {counted[row[0]] for row in connection.execute(query).fetchall() if row[0] in counted}
            for total in sorted(tables):
                closed += close_blocks(connection, total, mart.name)
            whole = next(iter(sorted(tables)), None)
        relation = f"{mart.name}_beschermd"
        totals = f"{whole}_beschermd" if whole else None
        assemble(connection, mart.name, relation, spec, norms.maximum_geschat_pct, totals)
        counts = {"cellen": _count(connection, f"SELECT count(*) FROM {quoted(relation)}"), "blokken_dicht": closed}
        for status in ("verstrekt", "afgerond", "geheim", "onbekend", "nvt"):
            query = f"SELECT count(*) FROM {quoted(relation)} WHERE status = {literal(status)}"
            counts[status] = _count(connection, query)
        labels = {chain.label: periods for chain, periods in chains.items()}
        passed.append(Passed(mart, spec, relation, labels, counts, waived))
    return passed
