"""A candidate: a complete release in a folder of its own, not yet published.

Belongs here: writing protected tables as DuckDB, Parquet and CSV, with their descriptions, what carries over from
the last good release, and the record. Does not belong here: which tables pass (assets.release.gate).
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb

from assets.release import agreements, approval, catalogue, evidence, history
from assets.release.gate import Gated, GateError, Passed, gate
from assets.release.marts import Mart, entitled, read_marts
from assets.release.publish import (
    DATABASE,
    RECORD,
    Release,
    ReleaseError,
    candidate_folder,
    current,
    fingerprint,
    fingerprints,
    read_release,
    reconcile,
    releases,
)
from assets.release.waivers import waivers
from datafabriek.config import Settings
from datafabriek.ledger import Ledger
from datafabriek.warehouse import literal, quoted
from quality.formulas import neutral_sql
from quality.norms import Audience, Norms, NormsError, is_partner
from quality.privacy.approvals import ApprovalError

INFO = "release_info"
INFO_TEXT = "Wat deze levering is: nummer, bronnen met de datum van het CBS, normen, staat van elke tabel, afwijkingen."
INFO_COLUMNS = {
    "onderwerp": "Waar de regel over gaat: release, bron, norm, tabel of afwijking.",
    "naam": "Welk kenmerk, welke bron, norm of tabel.",
    "waarde": "De waarde ervan.",
    "toelichting": "Wat dat betekent; leeg waar de waarde voor zich spreekt.",
}

MADE_COLUMNS = {
    "gemeente_code": "Code van de gemeente waarin de regio ligt.",
}
"""Descriptions of the columns that the gate adds."""

STALE_MARK = " [verouderd sinds"
SAMPLE_TEXT = "Voorbeeldfabriek: rijen met herkomst 'synthetisch' zijn verzonnen."


@dataclass(frozen=True)
class Table:
    """One table of the candidate, as its record tells it.

    Attributes:
        state: `actueel`, `verouderd` (since `since`) or `ontbreekt`, with the `reason`.
        origin: the release that it was carried over from; None for a table made now.
        normen: its periods under each chain of norms.
    """

    name: str
    description: str
    columns: Mapping[str, str]
    state: str = "actueel"
    since: str | None = None
    reason: str | None = None
    origin: str | None = None
    normen: Mapping[str, Sequence[str]] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)

    def as_record(self) -> dict[str, Any]:
        """State and counts, for record and ledger."""
        told = {"staat": self.state, "sinds": self.since, "reden": self.reason, "uit": self.origin}
        return {key: value for key, value in told.items() if value} | {"aantallen": dict(self.counts)}


def build_candidate(settings: Settings, audience: Audience, now: datetime | None = None) -> Release:
    """Build the candidate of an audience afresh.

    Its sealed evidence waits in the vault until it is published. A table that does not pass the gate comes from the
    last good release, marked `verouderd` since when; where there is none it is left out and told as `ontbreekt`.

    Args:
        settings: of the factory.
        audience: who it is for.
        now: moment of making; by default the present.

    Raises:
        NormsError: no norms are set for the audience.
        ApprovalError: nobody who may has approved the norms as they are.
        AgreementError: the agreement with a partner is over.
        GateError: no table passes and there is no earlier release to carry over.
        ReleaseError, LedgerError: ledger and releases do not fit each other.
        EvidenceError: what was released before cannot be told for sure.
    """
    home, now = settings.paths, now or datetime.now(UTC)
    home.create()
    ledger = Ledger(home.ledger)
    day = agreements.today(settings, now)
    folder = candidate_folder(home, audience)
    shutil.rmtree(folder, ignore_errors=True)
    norms = norms_of(settings, ledger, day)
    agreements.require(norms, audience, day)
    reconcile(home, ledger)
    folder.mkdir(parents=True, mode=0o700)
    every, previous = read_marts(settings), current(home, audience)
    marts = entitled(every, norms, audience)
    others = [mart for mart in every if mart not in marts]
    accepted = waivers(ledger, day)
    with gate(
        settings, audience, norms, marts, ledger, {name: item["reden"] for name, item in accepted.items()}, others
    ) as gated:
        connection = gated.connection
        origins = sources(ledger, marts)
        tables = [_passed(settings, table, origins) for table in gated.passed]
        tables += _carried(connection, gated, previous, now)
        _tell(ledger, audience, gated)
        _seal_refusals(settings, audience, gated)
        if not any(table.state != "ontbreekt" for table in tables):
            why: dict[str, list[str]] = {}
            for item in gated.refused:
                why.setdefault(item.reason, []).append(item.mart.name)
            told = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in why.items())
            raise GateError(f"nothing can be released to {audience}: {told or 'there are no marts: run dbt first'}")
        tables.sort(key=lambda table: table.name)
        relations = {table.mart.name: table.relation for table in gated.passed}
        used = sorted({norm for table in gated.passed for norm in table.waived})
        content = _content(connection, tables, relations, norms, used)
        made = now.astimezone(ZoneInfo(settings.schedule.timezone))
        name = _name(settings, audience, made.date(), content)
        record: dict[str, Any] = {
            "release": name,
            "doelgroep": audience,
            "fabriek": settings.name,
            "voorbeeld": settings.sample,
            "gemaakt": made.isoformat(timespec="seconds"),
            "inhoud": content,
            "partner": partner(norms, audience),
            "normen_versie": norms.versie,
            "normen": {table.name: {k: list(v) for k, v in table.normen.items()} for table in tables if table.normen},
            "afwijkingen": {norm: accepted[norm] for norm in used},
            "tabellen": {table.name: table.as_record() for table in tables},
            "bronnen": origins,
            "goedkeuring": approval.enclose(settings, audience, marts, norms, folder, relations, previous),
            "logboek": list(ledger.head()),
        }
        _write(connection, folder, tables, relations, record, norms, audience)
        watched = _evidence(settings, gated, audience, record, folder, previous)
    catalogue.write(folder, record)
    record["bestanden"] = fingerprints(folder)
    (folder / RECORD).write_text(json.dumps(record, ensure_ascii=False, indent=1, default=str), encoding="utf-8")
    done = read_release(folder)
    # for whoever watches the run; a release itself does not depend on how long it took
    done.record["poort"] = watched
    return done


def norms_of(settings: Settings, ledger: Ledger, day: date) -> Norms:
    """The approved norms, once all is taken back from partners whose agreement is over on that day.

    Raises:
        NormsError: there are none, or they are wrong.
        ApprovalError: nobody who may has approved them as they are.
    """
    try:
        norms = approval.approved_norms(settings)
    except (NormsError, ApprovalError):
        agreements.close(settings, ledger, day, None)
        raise
    agreements.close(settings, ledger, day, norms)
    return norms


def _evidence(
    settings: Settings,
    gated: Gated,
    audience: Audience,
    record: dict[str, Any],
    folder: Path,
    previous: Release | None,
) -> dict[str, Any]:
    """Write public and sealed evidence; returns counts for whoever watches."""
    if gated.history is None or gated.seal is None:
        return {}
    facts = evidence.write_public(folder / evidence.PUBLIC, gated.made, record["normen_versie"], previous)
    content = history.content(audience, record["release"], gated.made)
    sealed = history.write_sealed(settings.paths, gated.seal, record["release"], content, history.slot(audience))
    record["bewijs"] = {"verzegeld": sealed, "blokken": facts["blokken"], "smalste_interval": facts["smalste_interval"]}
    return dict(gated.facts) | facts


def _tell(ledger: Ledger, audience: Audience, gated: Gated) -> None:
    """Note in the ledger which tables the gate refuses, and why; once for as long as it stays the same."""
    reasons = {item.mart.name: f"{item.norm}: {item.reason}" for item in gated.refused}
    last = ledger.last("refusal", audience)
    if reasons != (last.payload["tabellen"] if last else {}):
        ledger.append("refusal", audience, {"tabellen": reasons})


def _seal_refusals(settings: Settings, audience: Audience, gated: Gated) -> None:
    """Keep in the vault which cells stood in the way of a table, this time; `release refused` opens it."""
    named = {item.mart.name: {"norm": item.norm, "cellen": item.cells} for item in gated.refused if item.cells}
    if named and gated.seal is not None:
        history.write_sealed(settings.paths, gated.seal, history.refusals(audience), named)
    else:
        history.sealed_file(settings.paths, history.refusals(audience)).unlink(missing_ok=True)


def partner(norms: Norms, audience: Audience) -> dict[str, str] | None:
    """Who the partner is that a release is for, and under which agreement; None for other audiences."""
    own = norms.doelgroepen[audience]
    facts = {"naam": own.naam, "overeenkomst": own.overeenkomst, "geldig_tot": str(own.geldig_tot)}
    return facts if is_partner(audience) else None


def sources(ledger: Ledger, marts: Sequence[Mart]) -> dict[str, dict[str, Any]]:
    """What the marts rest on, as the ledger knows it, per raw table.

    `tabellen`: per StatLine table the date on which CBS last changed it; `verouderd_sinds`: the day on which renewing
    it first failed, where it has not succeeded since.
    """
    loads = {event.subject: event for event in ledger.events("cbs_load")}
    accepted = {e.subject: e for e in ledger.events("delivery") if e.payload.get("status") == "ontvangen"}
    renewals = {event.subject: event for event in ledger.events("renewal")}
    stale = {event.subject: event for event in ledger.events("stale")}
    found: dict[str, dict[str, Any]] = {}
    for source in sorted({name for mart in marts for name in mart.sources}):
        delivery = source.partition(".")[2]
        load = loads.get(source) or accepted.get(delivery)
        facts: dict[str, Any] = {}
        if load is not None and load.kind == "cbs_load":
            tables: dict[str, dict[str, Any]] = load.payload.get("tabellen", {})
            facts["tabellen"] = {name: str(table.get("gewijzigd") or "")[:10] for name, table in tables.items()}
        # the table itself, and for a table of a delivery what came in of it
        for late, good in (
            (stale.get(source), loads.get(source) or renewals.get(source)),
            (None if source in loads else stale.get(f"vault/{delivery}"), accepted.get(delivery)),
        ):
            if late is not None and (good is None or good.seq < late.seq):
                since = str(late.payload.get("sinds") or late.at)[:10]
                facts["verouderd_sinds"] = min(since, facts.get("verouderd_sinds", since))
        found[source] = facts
    return found


def _passed(settings: Settings, table: Passed, origins: Mapping[str, Mapping[str, Any]]) -> Table:
    """A table as made now; `verouderd` where it rests on a source that could not be renewed."""
    mart = table.mart
    sample = f" {SAMPLE_TEXT}" if settings.sample else ""
    columns = dict(mart.columns) | {name: text for name, text in MADE_COLUMNS.items() if name not in mart.columns}
    late = {name: origins[name]["verouderd_sinds"] for name in mart.sources if "verouderd_sinds" in origins[name]}
    state, since, reason = "actueel", None, None
    if late:
        state, since, reason = "verouderd", min(late.values()), f"bron niet vernieuwd: {', '.join(sorted(late))}"
    text = mart.description + sample
    return Table(mart.name, text, columns, state, since, reason, normen=table.chains, counts=table.counts)


def _carried(
    connection: duckdb.DuckDBPyConnection, gated: Gated, previous: Release | None, now: datetime
) -> list[Table]:
    """Tables that did not pass, as they stood in the last release."""
    reasons = {item.mart.name: f"{item.norm}: {item.reason}" for item in gated.refused}
    before: dict[str, Any] = previous.record["tabellen"] if previous else {}
    tables = []
    if previous is not None and reasons:
        if fingerprint(previous.database) != previous.record["bestanden"][DATABASE]:
            raise ReleaseError(f"{previous.database} was changed after it was published: restore it from a backup")
        connection.execute(f"ATTACH {literal(str(previous.database))} AS vorige (READ_ONLY)")
    for name, reason in sorted(reasons.items()):
        old = before.get(name)
        if previous is None or old is None or old["staat"] == "ontbreekt":
            tables.append(Table(name, "", {}, "ontbreekt", reason=reason))
            continue
        connection.execute(f"CREATE TEMP TABLE {quoted(name + '_vorige')} AS SELECT * FROM vorige.main.{quoted(name)}")
        row = connection.execute(
            "SELECT comment FROM duckdb_tables() WHERE database_name = 'vorige' AND table_name = ?", [name]
        ).fetchone()
        columns = connection.execute(
            "SELECT column_name, comment FROM duckdb_columns() WHERE database_name = 'vorige' AND table_name = ?",
            [name],
        ).fetchall()
        stale = old["staat"] == "verouderd"
        tables.append(
            Table(
                name,
                str(row[0]).partition(STALE_MARK)[0] if row else "",
                {str(column): str(text) for column, text in columns},
                "verouderd",
                old["sinds"] if stale else now.date().isoformat(),
                reason,
                old.get("uit") or previous.id,
                previous.record["normen"].get(name, {}),
                old["aantallen"],
            )
        )
    if previous is not None and reasons:
        connection.execute("DETACH vorige")
    return tables


def _relation(table: Table, relations: Mapping[str, str]) -> str:
    return relations[table.name] if table.origin is None else f"{table.name}_vorige"


def _ordered(connection: duckdb.DuckDBPyConnection, relation: str) -> str:
    """A query for the rows of a table in an order that depends on its content alone."""
    return f"SELECT * FROM {quoted(relation)} ORDER BY ALL"


def _content(
    connection: duckdb.DuckDBPyConnection,
    tables: Sequence[Table],
    relations: Mapping[str, str],
    norms: Norms,
    waived: Sequence[str],
) -> str:
    """Fingerprint of all that a reader sees but the moment of making: values, descriptions, states, norms."""
    digest = hashlib.sha256()
    for table in tables:
        told = [table.name, table.description, dict(table.columns), table.state, table.since, table.origin]
        digest.update(json.dumps([*told, dict(table.normen)], sort_keys=True, default=list).encode())
        if table.state != "ontbreekt":
            relation = _relation(table, relations)
            row = connection.execute(
                f"SELECT sha256(coalesce(string_agg(md5(to_json(t)::VARCHAR), '' ORDER BY to_json(t)::VARCHAR), '')) "
                f"FROM {quoted(relation)} AS t"
            ).fetchone()
            digest.update(str(row[0] if row else "").encode())
    digest.update(json.dumps([norms.versie, list(waived)]).encode())
    return digest.hexdigest()


def _name(settings: Settings, audience: Audience, day: date, content: str) -> str:
    """The release's id; more of the fingerprint where an earlier release of that day took the short one."""
    taken = {release.id: release.content for release in releases(settings.paths)}
    for digits in range(6, len(content) + 1):
        name = f"{audience}-{day.isoformat()}-{content[:digits]}"
        if name not in taken:
            return name
    raise GateError(f"the same content was released to {audience} before on {day.isoformat()}")


def _write(
    connection: duckdb.DuckDBPyConnection,
    folder: Path,
    tables: Sequence[Table],
    relations: Mapping[str, str],
    record: Mapping[str, Any],
    norms: Norms,
    audience: Audience,
) -> None:
    """The DuckDB file, and every table beside it as Parquet and CSV."""
    rows = info_rows(record, norms, audience)
    connection.execute(f"CREATE TEMP TABLE {INFO} ({', '.join(f'{name} VARCHAR' for name in INFO_COLUMNS)})")
    connection.executemany(f"INSERT INTO {INFO} VALUES (?, ?, ?, ?)", rows)
    target = literal(str(folder / DATABASE))
    # readers of DuckDB 1.1 and later open this version
    connection.execute(f"ATTACH {target} AS uit (STORAGE_VERSION 'v1.0.0')")
    shown = [table for table in tables if table.state != "ontbreekt"]
    everything = [*shown, Table(INFO, INFO_TEXT, INFO_COLUMNS)]
    for table in everything:
        relation = INFO if table.name == INFO else _relation(table, relations)
        query = f"SELECT * FROM {INFO}" if table.name == INFO else _ordered(connection, relation)
        name = f"uit.main.{quoted(table.name)}"
        connection.execute(f"CREATE TABLE {name} AS {query}")
        text = table.description
        if table.state == "verouderd":
            text += f"{STALE_MARK} {table.since}{f', uit {table.origin}' if table.origin else ''}]"
        connection.execute(f"COMMENT ON TABLE {name} IS {literal(text)}")
        for (column,) in connection.execute(f"SELECT column_name FROM (DESCRIBE {name})").fetchall():
            comment = literal(table.columns.get(column, ""))
            connection.execute(f"COMMENT ON COLUMN {name}.{quoted(column)} IS {comment}")
        path = str(folder / table.name)
        connection.execute(f"COPY (FROM {name}) TO {literal(path + '.parquet')} (FORMAT parquet)")
        kinds = connection.execute(f"SELECT column_name, column_type FROM (DESCRIBE {name})").fetchall()
        texts = ", ".join(f"{neutral_sql(quoted(c))} AS {quoted(c)}" for c, kind in kinds if kind == "VARCHAR")
        shown_text = f"SELECT * {f'REPLACE ({texts})' if texts else ''} FROM {name}"
        connection.execute(f"COPY ({shown_text}) TO {literal(path + '.csv')} (FORMAT csv, HEADER)")
    connection.execute("DETACH uit")


def info_rows(record: Mapping[str, Any], norms: Norms, audience: Audience) -> list[tuple[str, str, str, str | None]]:
    """The rows of `release_info`: subject, name, value, explanation."""
    sample = "Voorbeeldfabriek: " + SAMPLE_TEXT.split(": ")[1] if record["voorbeeld"] else None
    own = norms.steps(audience)[-1]
    rows: list[tuple[str, str, str, str | None]] = [
        ("release", "id", record["release"], "Noem dit nummer bij gebruik; een levering verandert nooit."),
        ("release", "doelgroep", audience, None),
        ("release", "fabriek", record["fabriek"], None),
        ("release", "gemaakt", record["gemaakt"], None),
        ("release", "inhoud", record["inhoud"], "SHA-256 van alles wat deze levering toont."),
        ("release", "voorbeeld", "ja" if record["voorbeeld"] else "nee", sample),
        ("norm", "versie", norms.versie, f"Vastgesteld op {norms.vastgesteld_op} door {norms.vastgesteld_door}."),
        ("norm", "minimum", str(own.minimum), "Kleinere aantallen boven nul zijn geheim."),
        ("norm", "afronding", str(own.afronding), "Aantallen zijn hierop afgerond; verhoudingen volgen daaruit."),
        (
            "norm",
            "bescherming",
            str(own.bescherming),
            "Zover liggen het kleinste en het grootste aantal uiteen dat iemand van een geheim cijfer kan uitrekenen.",
        ),
    ]
    if record["partner"]:
        until = f"geldig tot en met {record['partner']['geldig_tot']}"
        told = f"Onder {record['partner']['overeenkomst']}, {until}; alleen voor deze partner bestemd."
        rows.insert(2, ("release", "partner", record["partner"]["naam"], told))
    for name, facts in record["bronnen"].items():
        late = f"Verouderd sinds {facts['verouderd_sinds']}." if "verouderd_sinds" in facts else None
        if not name.startswith("raw_cbs."):
            rows.append(("bron", name, "levering", late))
        changes = facts.get("tabellen", {})
        rows += [("bron", f"CBS {table}", changed or "onbekend", late) for table, changed in sorted(changes.items())]
    for name, facts in record["tabellen"].items():
        told = f"sinds {facts['sinds']}; " if "sinds" in facts else ""
        told += f"uit {facts['uit']}; " if "uit" in facts else ""
        rows.append(("tabel", name, facts["staat"], (told + facts.get("reden", "")) or None))
    rows = list(dict.fromkeys(rows))
    for norm, item in record["afwijkingen"].items():
        rows.append(("afwijking", norm, f"aanvaard tot en met {item['tot']}", item["reden"]))
    return rows
