"""From the vault to one raw table per purpose: place, pseudonymise, minimise.

Here identifiers and addresses end. Inside the vault's connection an address becomes a buurt and every column that a
purpose needs is coarsened as the contract says; identifiers are replaced by that purpose's pseudonyms on their way to
the warehouse, batch by batch, and the rows are sorted by pseudonym so that two tables share no order.
"""

from __future__ import annotations

import csv
import functools
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from assets.deliveries.delivered import DeliveryError
from assets.deliveries.derived import (
    STATE_SCHEMA,
    Made,
    RawTable,
    derived_before,
    describe,
    fingerprint,
    hold_to_k,
    key_version,
    key_versions,
    measured,
    replaced,
)
from assets.deliveries.register import (
    DELIVERY,
    EXPIRED,
    RECEIVED,
    Entry,
    current,
    entries,
    hold_roles,
    masked,
    prepare,
    table,
)
from assets.deliveries.superseding import counting
from datafabriek.config import Settings
from datafabriek.warehouse import literal, quoted, vault, warehouse
from quality.contracts.model import Contract, ContractError, Derived, Needed, Purpose, load
from quality.coordinates import square_500m
from quality.privacy.approvals import require
from quality.privacy.identifying import identifying_values
from quality.privacy.keys import MasterKey
from quality.privacy.policy import PurposePolicy, load_policy, policy_file, purposes
from quality.privacy.processing_log import Processing, record
from quality.privacy.pseudonyms import KINDS, is_one_block, pseudonymise, recode, uuids

VERSION = 4
"""Raised with every change of this module that changes a raw table, so that all are made anew."""

_BATCH = 200_000

_SBI_SECTIONS = Path(__file__).parents[2] / "dbt_project" / "seeds" / "sbi_secties.csv"
"""Sections of the Standaard Bedrijfsindeling 2008 (CBS) with their first and last division; the models name them."""


def references(settings: Settings) -> dict[str, Contract]:
    """Deliveries of this factory that say in which buurt an address lies."""
    found = {}
    for name, delivery in settings.deliveries.items():
        contract = load(delivery.contract or name, settings.contract_folders)
        if contract.placing:
            found[name] = contract
    return found


def in_order(settings: Settings) -> list[tuple[str, Purpose]]:
    """All tables of purposes that this factory makes, by delivery and purpose; one that another needs comes first."""
    made = [
        (name, purpose)
        for name, delivery in settings.deliveries.items()
        for purpose in purposes(settings, load(delivery.contract or name, settings.contract_folders), name)
    ]
    return sorted(made, key=lambda each: each[1].needed is not None)


def derive(settings: Settings, key: MasterKey, name: str, purpose_name: str) -> RawTable:
    """Make `raw_<purpose>.<delivery>` anew where anything it follows from has changed, and log the processing.

    The table always exists afterwards, empty where nothing was delivered; it is replaced in one transaction.

    Raises:
        PolicyError: the purpose has no lawful basis, nobody approved the policy as it is, or a group is smaller than
            its k.
        DeliveryError: an engine failed, or rows would have to be made anew whose delivery has expired; the table is
            as it was.
    """
    delivery = settings.deliveries[name]
    contract = load(delivery.contract or name, settings.contract_folders)
    purpose = contract.purposes[purpose_name]
    policy = load_policy(settings).purpose(purpose_name, name)
    require(settings, policy_file(settings), "grondslagen")
    result = _derive(settings, key, name, contract, purpose, policy)
    done = Processing.of_purpose(name, contract, purpose, policy, result.rows, renewed=result.renewed)
    record(settings, done)
    return result


def _derive(
    settings: Settings, key: MasterKey, name: str, contract: Contract, purpose: Purpose, policy: PurposePolicy
) -> RawTable:
    what = f"raw_{purpose.name}.{name}"
    with masked(what), vault(settings.paths, settings.resources, key.vault) as con:
        prepare(con)
        hold_roles(con, settings)
        chosen = [entry for entry in current(entries(con, name), contract) if usable(entry, contract, policy)]
        placed = _reference_of(con, settings, chosen, contract) if contract.address else {}
        form = _form(purpose, key, policy.sleutelversie, sample=settings.sample)
        by = {entry.levering for entry in placed.values()}
        places = {name: dict(reference.placing) for name, reference in references(settings).items() if name in by}
        with warehouse(settings.paths, settings.resources) as target:
            met = _met(target, settings, purpose, policy.sleutelversie)
            state = _state(contract, chosen, placed, places, form, met)
            known = derived_before(target, what, state)
            if known is not None:
                hold_to_k(known, policy.k)  # it may have been settled since
                return known
            live = [entry for entry in chosen if entry.status == RECEIVED]
            kept = [entry for entry in chosen if entry.status == EXPIRED]
            made = Made(state, form, policy.sleutelversie)
            before = key_version(target, what)
            if before is not None and before != policy.sleutelversie:
                old = _form(purpose, key, before, sample=settings.sample)
                same = derived_before(target, what, _state(contract, chosen, placed, places, old, met)) is not None
                recoded = _recoded(target, name, purpose, key, before, policy.sleutelversie) if same else None
                if recoded is not None:
                    return _write(
                        target, contract, purpose, name, recoded, [], made, policy.k, met, sample=settings.sample
                    )
            _refuse_expired(target, what, kept, {e.levering_id: placed[e.levering_id] for e in live if placed}, form)
            if kept and purpose.needed:
                raise DeliveryError(
                    f"{what} cannot be made for those whom {purpose.needed.delivery} names now: the source of "
                    f"{', '.join(e.levering_id for e in kept)} is past its retention term and was removed from the "
                    "vault. The table stays as it is; have a newer one delivered"
                )
            _prepare_placing(con, settings, contract, live, placed)
            counts = _Counts()
            secret = key.purpose(purpose.name, policy.sleutelversie)
            reader = _pseudonymised(con, contract, purpose, name, secret, met, counts)
            k, sample = policy.k, settings.sample
            return _write(target, contract, purpose, name, reader, kept, made, k, met, sample=sample, counts=counts)


@dataclass(frozen=True)
class _Met:
    """The persons whom a purpose has to do with: their pseudonyms, on which dates it asks, a print of where they stand.

    The print holds counts per delivery and no pseudonym: it stays the same when the key changes. Without dates, all
    that the register has of these persons is needed.
    """

    column: str
    pseudonyms: pa.Array
    dates: tuple[date, ...] | None
    told: list[Any]


def _met(target: duckdb.DuckDBPyConnection, settings: Settings, purpose: Purpose, version: int) -> _Met | None:
    """Whose rows a purpose needs; nobody where its other table is not there. None where it needs everyone's.

    Raises:
        ContractError: the other table has no such pseudonym, or no such dates.
        DeliveryError: the other table has another version of the key: nobody would be known again.
    """
    needed = purpose.needed
    if needed is None:
        return None
    schema = f"raw_{purpose.name}"
    exists = "SELECT 1 FROM duckdb_tables() WHERE (schema_name, table_name) = (?, ?)"
    is_made = needed.delivery in settings.deliveries
    asked = _asked(settings, purpose, needed) if is_made else None
    if not is_made or target.execute(exists, [schema, needed.delivery]).fetchone() is None:
        return _Met(needed.column, pa.array([], pa.binary(16)), () if needed.dates else None, [])
    theirs = key_versions(target).get(f"{schema}.{needed.delivery}", version)
    if theirs != version:
        raise DeliveryError(
            f"{schema}.{needed.delivery} has pseudonyms of key version {theirs}, and these would be of {version}: it "
            "could not be made anew itself; mend that first"
        )
    table, column = f"{quoted(schema)}.{quoted(needed.delivery)}", quoted(needed.theirs)
    found = target.execute(f"SELECT DISTINCT {column} AS p FROM {table} WHERE {column} IS NOT NULL").to_arrow_table()
    counted = f"SELECT levering, count(*), count(DISTINCT {column}) FROM {table} GROUP BY 1 ORDER BY 1"
    told: list[Any] = [list(row) for row in target.execute(counted).fetchall()]
    dates = None
    if asked:
        days = f"SELECT DISTINCT {asked} AS day FROM {table} WHERE day IS NOT NULL ORDER BY 1"
        dates = tuple(day for (day,) in target.execute(days).fetchall())
        told.append([day.isoformat() for day in dates])
    return _Met(needed.column, uuids(found["p"]).storage, dates, told)


def _asked(settings: Settings, purpose: Purpose, needed: Needed) -> str | None:
    """On which dates the other table asks, in SQL; None where that does not matter.

    Holds what two contracts say of each other: the same kind of pseudonym on both sides, and dates.
    """
    name = settings.deliveries[needed.delivery].contract or needed.delivery
    other = load(name, settings.contract_folders).purposes.get(purpose.name)
    there = {column.name: column for column in other.columns} if other else {}
    own = next(column.kind for column in purpose.pseudonyms if column.name == needed.column)
    if needed.theirs not in there or there[needed.theirs].kind != own:
        raise ContractError(
            f"purpose `{purpose.name}`: behoud.komt_voor_in: contract {name} gives it no pseudonym `{needed.theirs}` "
            f"of a {own}, so nobody would be known again: name another column"
        )
    if needed.dates is None:
        return None
    if needed.dates not in there or there[needed.dates].sql_type != "DATE":
        raise ContractError(
            f"purpose `{purpose.name}`: behoud.peildata: contract {name} gives it no date `{needed.dates}`: name "
            "another column"
        )
    column = quoted(needed.dates)
    # a month is asked about as it ended
    return f"(last_day({column}) + 1)::DATE" if there[needed.dates].derivation == "maand" else _first_of_month(column)


@dataclass
class _Counts:
    """What became of the rows of the deliveries in use, on their way to a purpose.

    `accepted` they hold together, of which `lapsed` count no longer (replaced or taken back by a later record); `read`
    came by, of which `needed` were let through.
    """

    accepted: int = 0
    lapsed: int = 0
    read: int = 0
    needed: int = 0

    def assert_balanced(self, rows: int, *, alike_once: bool) -> None:
        """Hold that nothing is lost: accepted = in the purpose + left out + lapsed.

        Raises:
            DeliveryError: rows went missing, or came twice.
        """
        is_whole = rows <= self.needed if alike_once else rows == self.needed
        if self.read + self.lapsed != self.accepted or not is_whole:
            raise DeliveryError(
                f"of {self.accepted} accepted rows {self.lapsed} lapsed and {self.read} came by, {self.needed} were "
                f"needed and {rows} are there: nothing was written; report this"
            )


def _recoded(
    target: duckdb.DuckDBPyConnection, name: str, purpose: Purpose, key: MasterKey, before: int, after: int
) -> pa.RecordBatchReader | None:
    """A purpose's rows with the pseudonyms of another version of its key, without their source.

    Returns:
        None where a pseudonym is no single block and so cannot be turned back: it needs the source.
    """
    old, new = (key.purpose(purpose.name, version) for version in (before, after))
    rows = target.execute(f"FROM {quoted(f'raw_{purpose.name}')}.{quoted(name)}").to_arrow_table()
    for column in purpose.pseudonyms:
        values = uuids(rows[column.name])
        if not is_one_block(values, KINDS[column.kind or ""], old):
            return None
        rows = rows.set_column(rows.schema.get_field_index(column.name), column.name, recode(values, old, new))
    return rows.to_reader()


def usable(entry: Entry, contract: Contract, policy: PurposePolicy, on: date | None = None) -> bool:
    """Whether the rows of a delivery may still stand in the tables of a purpose."""
    until = policy.until(contract.period.end(entry.periode), entry.ontvangen_op.date())
    return (on or datetime.now(UTC).date()) <= until


def _refuse_expired(
    target: duckdb.DuckDBPyConnection, what: str, kept: Sequence[Entry], placed: Mapping[str, Entry], form: str
) -> None:
    """Rows of an expired delivery cannot be made anew: they can only be kept, as they were made.

    Raises:
        DeliveryError: they would have to be made in another form, or rows placed by addresses that have expired.
    """
    gone = sorted({entry.levering_id for entry in placed.values() if entry.status == EXPIRED})
    if gone:
        raise DeliveryError(
            f"{what} cannot be made anew: its address file {', '.join(gone)} is past its retention term and was "
            "removed. The table stays as it is; give that file a longer term than what it places, and deliver it again"
        )
    if not kept:
        return
    row = target.execute(f"SELECT vorm FROM {STATE_SCHEMA}.afleiding WHERE tabel = ?", [what]).fetchone()
    if row is None or row[0] != form:
        told = ", ".join(entry.levering_id for entry in kept)
        raise DeliveryError(
            f"{what} cannot be made anew in this form: the source of {told} is past its retention term and was removed "
            "from the vault. The table stays as it is; undo the change of contract or key (`datafabriek key rotate` "
            "needs no source), or shorten the purpose's own term so that these rows go too"
        )


def unknown_buurt(con: duckdb.DuckDBPyConnection, settings: Settings, contract: Contract, entry: Entry) -> int | None:
    """Accepted rows of one delivery whose address is in no buurt; None where the delivery has no addresses."""
    if not contract.address:
        return None
    placed = _reference_of(con, settings, [entry], contract)
    _prepare_placing(con, settings, contract, [entry], placed)
    query = f"SELECT count(*) FILTER (WHERE buurt IS NULL) FROM ({_placed(contract, entry.levering, 'NULL')})"
    row = con.execute(query).fetchone()
    return int(row[0]) if row else 0


def _reference_of(
    con: duckdb.DuckDBPyConnection, settings: Settings, chosen: Sequence[Entry], contract: Contract
) -> dict[str, Entry]:
    """Per delivery the address file to place it by: of the same year, else the nearest before, else the first."""
    known = [
        entry for name, reference in references(settings).items() for entry in current(entries(con, name), reference)
    ]
    found = {}
    for entry in chosen:
        year = str(contract.period.end(entry.periode).year)
        before = [reference for reference in known if reference.periode <= year]
        if known:
            found[entry.levering_id] = max(before, key=lambda e: e.periode) if before else known[0]
    return found


def _prepare_placing(
    con: duckdb.DuckDBPyConnection,
    settings: Settings,
    contract: Contract,
    chosen: Sequence[Entry],
    placed: Mapping[str, Entry],
) -> None:
    """Tables in memory: the deliveries in use with their reference year, and the addresses with their buurt."""
    con.execute("CREATE OR REPLACE TEMP TABLE chosen (id VARCHAR, reference VARCHAR, jaar INTEGER)")
    for entry in chosen:
        reference = placed.get(entry.levering_id)
        year = int(reference.periode) if reference else contract.period.end(entry.periode).year
        values = [entry.levering_id, reference.levering_id if reference else None, year]
        con.execute("INSERT INTO chosen VALUES (?, ?, ?)", values)
    con.execute("""CREATE OR REPLACE TEMP TABLE addresses
        (reference VARCHAR, pc VARCHAR, nr BIGINT, letter VARCHAR, toev VARCHAR, buurt VARCHAR)""")
    for name, other in references(settings).items() if placed else ():
        how = other.placing
        con.execute(
            f"""INSERT INTO addresses SELECT {DELIVERY}, {_address(how, "a")}, max({quoted(how["buurt"])})
            FROM {table(name)} a WHERE {DELIVERY} IN (SELECT reference FROM chosen) GROUP BY ALL"""
        )
    # where a number has one buurt whatever the letter, a letter that the file does not know is placed all the same
    con.execute("""CREATE OR REPLACE TEMP TABLE numbers AS SELECT reference, pc, nr, max(buurt) AS buurt
        FROM addresses GROUP BY ALL HAVING count(DISTINCT buurt) = 1""")


def _address(how: Mapping[str, str], alias: str) -> str:
    """Postcode, number, letter and addition of an address, written one way."""
    pc_, nr, letter, extra = (
        f"{alias}.{quoted(how[part])}" for part in ("postcode", "huisnummer", "huisletter", "toevoeging")
    )
    return (
        f"upper(replace({pc_}, ' ', '')) AS pc, {nr} AS nr, upper(coalesce({letter}, '')) AS letter, "
        f"regexp_replace(upper(coalesce({extra}, '')), '[^A-Z0-9]', '', 'g') AS toev"
    )


def _placed(contract: Contract, name: str, columns: str) -> str:
    """A query of the chosen rows with `jaar` and, where the delivery has addresses, `buurt`."""
    if not contract.address:
        return (
            f"SELECT {columns}, r.{DELIVERY}, c.jaar, NULL::VARCHAR AS buurt "
            f"FROM {counting(contract, name)} r JOIN chosen c ON r.{DELIVERY} = c.id"
        )
    return f"""
        SELECT {columns}, r.{DELIVERY}, r.jaar, coalesce(a.buurt, n.buurt) AS buurt
        FROM (
            SELECT r.*, {_address(contract.address, "r")}, c.reference, c.jaar
            FROM {counting(contract, name)} r JOIN chosen c ON r.{DELIVERY} = c.id
        ) r
        LEFT JOIN addresses a USING (reference, pc, nr, letter, toev)
        LEFT JOIN numbers n ON (n.reference, n.pc, n.nr) = (r.reference, r.pc, r.nr)"""


def _expression(derived: Derived, contract: Contract) -> str:
    """How a purpose's column follows from the delivery's, in SQL."""
    sources = [f"r.{quoted(source)}" for source in derived.sources]
    first = sources[0] if sources else ""
    match derived.derivation:
        case "pseudoniem":
            # between them a sign that no number holds: 1 and 23 are not 12 and 3
            whole = " || '|' || ".join(f"{source}::VARCHAR" for source in sources)
            nobody = _codes(derived)
            return f"CASE WHEN {first} NOT IN ({nobody}) THEN {whole} END" if nobody else whole
        case "bijzondere_code":
            # the listed words only: whatever else stands there is an identifier
            return f"CASE WHEN {first} IN ({_codes(derived)}) THEN {first} WHEN {first} IS NOT NULL THEN 'bekend' END"
        case "gemeente_of_postcode":
            return f"CASE WHEN length({first}) = 4 THEN 'GM' || {first} ELSE 'PC' || left({first}, 4) END"
        case "buurt":
            return "buurt" if not contract.address else "coalesce(a.buurt, n.buurt)"
        case "indeling_jaar":
            return "jaar"
        case "gemeente":
            return f"'GM' || {first}"
        case "eerste_peildatum":
            return _first_of_month(first)
        case "maand":
            return _month(sources)
        case "jaar":
            is_day = contract[derived.sources[0]].type in {"date", "timestamp"}
            return f"year({first})" if is_day else f"{first}::INTEGER"
        case "lopend":
            last = f"last_day({_month(sources[:2])})"
            return f"{sources[2]} <= {last} AND ({sources[3]} IS NULL OR {sources[3]} > {last})"
        case "dag":
            return f"{first}::DATE"
        case "uur":
            return f"hour({first})::INTEGER"
        case "postcode4":
            return f"left({first}, 4)"
        case "vierkant_500m":
            return square_500m(*sources)
        case "ja_nee":
            return f"{first} = 'J'"
        case "sbi_afdeling":
            return f"left({first}, 2)"
        case "groep":
            cases = " ".join(
                f"WHEN {first} IN ({', '.join(literal(str(code)) for code in codes)}) THEN {literal(str(name))}"
                for name, codes in derived.options["groepen"].items()
            )
            return f"CASE {cases} END"
        case "klasse":
            return _class(first, derived.options["grenzen"])
        case "leeftijdsklasse":
            return _class(f"(jaar - year({first}))", derived.options["grenzen"])
        case "hele_euros":
            sign = f" * (CASE WHEN {sources[1]} = 'C' THEN -1 ELSE 1 END)" if len(sources) > 1 else ""
            euros = f"{first} / 100.0" if contract[derived.sources[0]].type == "integer" else first
            return f"round({euros})::BIGINT{sign}"
        case "sbi_sectie":
            cases = " ".join(
                f"WHEN TRY_CAST(left({first}, 2) AS INTEGER) BETWEEN {low} AND {high} THEN {literal(section)}"
                for section, low, high in _sbi_sections()
            )
            return f"CASE {cases} END"
        case _:
            return first


@functools.cache
def _sbi_sections() -> tuple[tuple[str, int, int], ...]:
    with _SBI_SECTIONS.open(encoding="utf-8", newline="") as file:
        rows = [(row["sector_code"], row["eerste_afdeling"], row["laatste_afdeling"]) for row in csv.DictReader(file)]
    return tuple((section, int(first), int(last)) for section, first, last in rows if first)


def _codes(derived: Derived) -> str:
    return ", ".join(literal(str(code)) for code in derived.options.get("codes", ()))


def _class(value: str, limits: Sequence[int]) -> str:
    """The class of a number, named by its ends: '18-26'; the first and last are open ('<18', '67+')."""
    cases = [f"WHEN {value} < {limits[0]} THEN '<{limits[0]}'"]
    cases += [
        f"WHEN {value} < {after} THEN '{limit}-{after - 1}'" for limit, after in itertools.pairwise(map(int, limits))
    ]
    return f"CASE {' '.join(cases)} WHEN {value} >= {limits[-1]} THEN '{limits[-1]}+' END"


def _first_of_month(day: str) -> str:
    """The first monthly reference date on or after a day, in SQL."""
    return f"(CASE WHEN day({day}) = 1 THEN {day} ELSE last_day({day}) + 1 END)::DATE"


def _month(sources: Sequence[str]) -> str:
    if len(sources) == 1:
        return f"date_trunc('month', {sources[0]})::DATE"
    return f"make_date({sources[0]}::INTEGER, {sources[1]}::INTEGER, 1)"


def _pseudonymised(
    con: duckdb.DuckDBPyConnection,
    contract: Contract,
    purpose: Purpose,
    name: str,
    key: bytes,
    met: _Met | None,
    counts: _Counts,
) -> pa.RecordBatchReader:
    """The purpose's columns with pseudonyms for identifiers, a batch at a time; only rows that the purpose needs."""
    columns = ", ".join(f"{_expression(column, contract)} AS {quoted(column.name)}" for column in purpose.columns)
    query = _placed(contract, name, columns)
    listed = ", ".join(quoted(column.name) for column in purpose.columns)
    # an empty vault has no such table yet
    exists = con.execute(
        "SELECT 1 FROM duckdb_tables() WHERE schema_name = 'aanvoer' AND table_name = ?", [name]
    ).fetchone()
    if not exists:
        types = ", ".join(
            f"NULL::{'VARCHAR' if column.derivation == 'pseudoniem' else column.sql_type} AS {quoted(column.name)}"
            for column in purpose.columns
        )
        query = f"SELECT {types}, NULL::VARCHAR AS {DELIVERY} WHERE false"
    else:
        chosen = f"WHERE {DELIVERY} IN (SELECT id FROM chosen)"
        counts.accepted = _count(con, f"{table(name)} {chosen}")
        if contract.superseding:
            counts.lapsed = counts.accepted - _count(con, f"{counting(contract, name)} {chosen}")
    conditions = [quoted(purpose.only)] if purpose.only else []
    if purpose.valid_between:
        begin, end = (quoted(column) for column in purpose.valid_between)
        conditions.append(f"({end} IS NULL OR {begin} < {end})")  # else on no reference date at all
    holds = f", coalesce({' AND '.join(conditions)}, false) AS _geldt" if conditions else ""
    reader = con.execute(f"SELECT {listed}, {DELIVERY} AS levering{holds} FROM ({query})").to_arrow_reader(_BATCH)
    kinds = {column.name: KINDS[column.kind or ""] for column in purpose.pseudonyms}
    fields = [field for field in reader.schema if field.name != "_geldt"]
    schema = pa.schema([(f.name, pa.uuid() if f.name in kinds else f.type) for f in fields])

    def batches() -> Iterator[pa.RecordBatch]:
        for whole in reader:
            counts.read += len(whole)
            batch = whole.filter(whole["_geldt"]) if holds else whole
            arrays = [
                pseudonymise(batch[field.name], kinds[field.name], key) if field.name in kinds else batch[field.name]
                for field in fields
            ]
            made = pa.RecordBatch.from_arrays(arrays, schema=schema)
            if met is not None:
                made = made.filter(pc.is_in(made[met.column].storage, value_set=met.pseudonyms))
            counts.needed += len(made)
            yield made

    return pa.RecordBatchReader.from_batches(schema, batches())


def _write(
    target: duckdb.DuckDBPyConnection,
    contract: Contract,
    purpose: Purpose,
    name: str,
    reader: pa.RecordBatchReader,
    kept: Sequence[Entry],
    made: Made,
    k: int | None,
    met: _Met | None,
    *,
    sample: bool,
    counts: _Counts | None = None,
) -> RawTable:
    schema = f"raw_{purpose.name}"
    origin = "synthetisch" if sample else "gemeten"
    order = [column.name for column in purpose.pseudonyms]
    order += [column.name for column in purpose.columns if column.name not in order]
    columns = ", ".join(f"{quoted(c.name)}::{c.sql_type} AS {quoted(c.name)}" for c in purpose.columns)
    columns += f", levering, {literal(origin)} AS herkomst"

    def fill(full: str) -> RawTable:
        target.register("_reader", reader)
        source = "_reader"
        if by_stay := met is not None and met.dates is not None:
            target.execute("CREATE OR REPLACE TEMP TABLE _periods AS FROM _reader")
            source = _stays(target, purpose, met.column, met.dates)
        rows = f"SELECT {'DISTINCT' if purpose.distinct else ''} {columns} FROM {source}"
        if kept:
            ids = ", ".join(literal(entry.levering_id) for entry in kept)
            target.execute(f"CREATE OR REPLACE TEMP TABLE _kept AS FROM {full} WHERE levering IN ({ids})")
            rows += f" UNION ALL SELECT {columns} FROM _kept"
        listed = ", ".join(quoted(column) for column in order)
        target.execute(f"CREATE OR REPLACE TABLE {full} ({_stored(purpose)}, levering VARCHAR, herkomst VARCHAR)")
        target.execute(f"INSERT INTO {full} FROM ({rows}) ORDER BY {listed}, levering")
        target.unregister("_reader")
        told = {column.name: column.description for column in purpose.columns}
        told["levering"] = "Levering waarin de regel binnenkwam."
        describe(target, full, f"{contract.title}. {purpose.description}", told)
        result = _measured(target, full, purpose, schema, name)
        if counts is not None:
            arrived, asked = result.rows - _rows_of(target, full, kept), counts.needed
            if by_stay:
                arrived = _count(target, "_periods")
                asked = _count(target, f"_periods SEMI JOIN _dates ON {_holds(purpose)}")
            counts.assert_balanced(arrived, alike_once=purpose.distinct)
            result = replace(result, left_out=counts.accepted - counts.lapsed - asked, lapsed=counts.lapsed)
        _validate(target, full, contract, purpose)
        _refuse_identifying(target, schema, name)
        return result

    return replaced(target, (schema, name), made, k, fill)


def _stays(target: duckdb.DuckDBPyConnection, purpose: Purpose, person: str, dates: Sequence[date]) -> str:
    """Where each person was on the dates on which a purpose asks, as unbroken stays: a query of `_periods`.

    Of periods that overlap the last to begin counts, as in the models. What happened between two dates, or before the
    first, is not in it, nor a change that no column of the purpose shows.
    """
    target.execute(
        """CREATE OR REPLACE TEMP TABLE _dates AS SELECT _date, row_number() OVER (ORDER BY _date) AS _number,
        lead(_date) OVER (ORDER BY _date) AS _next FROM (SELECT unnest(?::DATE[]) AS _date)""",
        [list(dates)],
    )
    begin, end = purpose.valid_between or ("", "")
    rest = [column.name for column in purpose.columns if column.name not in (person, begin, end)]
    who, same = quoted(person), ", ".join([*map(quoted, rest), "levering"])
    latest = ", ".join([f"{quoted(begin)} DESC", *(f"{quoted(column)} NULLS LAST" for column in rest)])
    return f"""(
        WITH per_date AS (
            SELECT {who}, {same}, _date, _number, _next FROM _periods JOIN _dates ON {_holds(purpose)}
            QUALIFY row_number() OVER (PARTITION BY {who}, _number ORDER BY {latest}) = 1
        ), stays AS (
            SELECT *, _number - row_number() OVER (PARTITION BY {who}, {same} ORDER BY _number) AS _stay FROM per_date
        )
        SELECT {who}, {same}, min(_date) AS {quoted(begin)}, arg_max_null(_next, _number) AS {quoted(end)}
        FROM stays GROUP BY {who}, {same}, _stay
    )"""


def _holds(purpose: Purpose) -> str:
    begin, end = map(quoted, purpose.valid_between or ("", ""))
    return f"{begin} <= _date AND _date < coalesce({end}, DATE '9999-12-31')"


def _rows_of(target: duckdb.DuckDBPyConnection, full: str, deliveries: Sequence[Entry]) -> int:
    ids = ", ".join(literal(entry.levering_id) for entry in deliveries)
    return _count(target, f"{full} WHERE levering IN ({ids})") if ids else 0


def _count(target: duckdb.DuckDBPyConnection, of: str) -> int:
    row = target.execute(f"SELECT count(*) FROM {of}").fetchone()
    return int(row[0]) if row else 0


def _stored(purpose: Purpose) -> str:
    """A purpose's columns with their types; a pseudonym is as good as random, so it is not tried to be compressed."""
    return ", ".join(
        f"{quoted(column.name)} {column.sql_type}{' USING COMPRESSION uncompressed' if column.kind else ''}"
        for column in purpose.columns
    )


def _measured(target: duckdb.DuckDBPyConnection, full: str, purpose: Purpose, schema: str, name: str) -> RawTable:
    shown = [column.name for column in purpose.columns if column.derivation != "pseudoniem"]
    buurt = next((quoted(column.name) for column in purpose.columns if column.derivation == "buurt"), None)
    unknown = _count(target, f"{full} WHERE {buurt} IS NULL") if buurt else None
    rows, smallest = measured(target, full, shown)
    return RawTable(schema, name, rows, unknown, smallest, renewed=True)


def _validate(target: duckdb.DuckDBPyConnection, full: str, contract: Contract, purpose: Purpose) -> None:
    """Hold the table to its pandera schema before it is committed; pseudonyms only to being there.

    Rows that are alike are looked at once, a batch at a time.
    """
    from quality.schemas.deliveries import broken, raw_rules

    rules = raw_rules(contract, purpose)
    columns = ", ".join(quoted(column) for column in rules.columns)
    alike = target.execute(f"SELECT {columns}, count(*)::BIGINT AS _rijen FROM {full} GROUP BY ALL")
    counts: Counter[tuple[str, str]] = Counter()
    for batch in alike.to_arrow_reader(_BATCH):
        frame = pl.DataFrame(batch)
        rows = frame.drop_in_place("_rijen")
        cases = broken(frame, rules)
        cases = cases.with_columns(rijen=rows.gather(cases["index"]).fill_null(1))
        for column, rule, count in cases.group_by("kolom", "regel").agg(pl.col("rijen").sum()).iter_rows():
            counts[str(column), str(rule)] += count
    for (column, rule), count in counts.most_common(1):
        raise DeliveryError(
            f"{rules.name}: column `{column}` breaks `{rule}` {count} time(s): the contract lets through "
            "what the purpose cannot use; add the rule to the contract"
        )


def _refuse_identifying(target: duckdb.DuckDBPyConnection, schema: str, name: str) -> None:
    if found := identifying_values(target, schema, name):
        told = ", ".join(f"{where} ({count})" for where, count in sorted(found.items()))
        raise DeliveryError(
            f"{schema}.{name}: values that look like a number of a person or a postcode, by column: {told}. Nothing "
            "was written; give the column a rule or codes in the contract, or leave it out of the purpose"
        )


def _form(purpose: Purpose, key: MasterKey, key_version: int, *, sample: bool) -> str:
    """A fingerprint of how a row is made from what was delivered, descriptions left out."""
    columns = [(c.name, c.derivation, c.sources, c.kind, c.sql_type, c.parameters) for c in purpose.columns]
    how = [VERSION, purpose.name, columns, purpose.distinct, purpose.valid_between, key.id, key_version, sample]
    return fingerprint([*how, purpose.only, purpose.needed and vars(purpose.needed)])


def _state(
    contract: Contract,
    chosen: Sequence[Entry],
    placed: Mapping[str, Entry],
    places: Mapping[str, Mapping[str, str]],
    form: str,
    met: _Met | None,
) -> str:
    """A fingerprint of everything a raw table follows from."""
    return fingerprint(
        {
            **({"persons": met.told} if met is not None else {}),
            "form": form,
            "contract": contract.digest,
            "deliveries": [entry.levering_id for entry in chosen],
            "references": {delivery: entry.levering_id for delivery, entry in placed.items()},
            "places": places,
        }
    )
