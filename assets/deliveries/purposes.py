"""From the vault to one raw table per purpose: place, pseudonymise, minimise.

Here identifiers and addresses end. Inside the vault's connection an address becomes a buurt and every column that a
purpose needs is coarsened as the contract says; identifiers are replaced by that purpose's pseudonyms on their way to
the warehouse, batch by batch, and the rows are sorted by pseudonym so that two tables share no order.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb
import pyarrow as pa

from assets.deliveries.register import DELIVERY, Entry, current, entries, masked, table
from datafabriek.config import Settings
from datafabriek.warehouse import literal, quoted, vault, warehouse
from quality.contracts.model import Contract, Derived, Purpose, load
from quality.privacy.keys import MasterKey
from quality.privacy.policy import PolicyError, load_policy
from quality.privacy.pseudonyms import KINDS, pseudonymise

VERSION = 1
"""Raised with every change of this module that changes a raw table, so that all are made anew."""

STATE_SCHEMA = "raw_leveringen"

_BATCH = 200_000

_SBI_SECTIONS = (
    ("A", 1, 3), ("B", 5, 9), ("C", 10, 33), ("D", 35, 35), ("E", 36, 39), ("F", 41, 43), ("G", 45, 47),
    ("H", 49, 53), ("I", 55, 56), ("J", 58, 63), ("K", 64, 66), ("L", 68, 68), ("M", 69, 75), ("N", 77, 82),
    ("O", 84, 84), ("P", 85, 85), ("Q", 86, 88), ("R", 90, 93), ("S", 94, 96), ("T", 97, 98), ("U", 99, 99),
)  # fmt: skip
"""Section, first and last division of the Standaard Bedrijfsindeling 2008 (CBS)."""


@dataclass(frozen=True)
class RawTable:
    """A purpose's table after a run.

    Attributes:
        schema: `raw_<purpose>`.
        name: the delivery.
        rows: number of rows.
        unknown_buurt: rows without a buurt; None where the table has none.
        smallest_group: fewest rows that share all values other than pseudonyms; None for an empty table.
        renewed: False where nothing had changed since the table was made.
    """

    schema: str
    name: str
    rows: int
    unknown_buurt: int | None
    smallest_group: int | None
    renewed: bool


def references(settings: Settings) -> dict[str, Contract]:
    """Deliveries of this factory that say in which buurt an address lies."""
    found = {}
    for name, delivery in settings.deliveries.items():
        contract = load(delivery.contract or name, settings.contract_folders)
        if contract.placing:
            found[name] = contract
    return found


def derive(settings: Settings, key: MasterKey, name: str, purpose_name: str) -> RawTable:
    """Make `raw_<purpose>.<delivery>` anew where anything it follows from has changed.

    The table always exists afterwards, empty where nothing was delivered; it is replaced in one transaction.

    Raises:
        PolicyError: the purpose has no lawful basis, or a group is smaller than its k.
        DeliveryError: an engine failed; the table is as it was.
    """
    delivery = settings.deliveries[name]
    contract = load(delivery.contract or name, settings.contract_folders)
    purpose = contract.purposes[purpose_name]
    policy = load_policy(settings).purpose(purpose_name, name)
    what = f"raw_{purpose_name}.{name}"
    with masked(what), vault(settings.paths, settings.resources, key.vault) as con:
        chosen = current(_known(con, name), contract)
        placed = _reference_of(con, settings, chosen, contract) if contract.address else {}
        state = _state(contract, purpose, chosen, placed, key, policy.sleutelversie, sample=settings.sample)
        with warehouse(settings.paths, settings.resources) as target:
            known = _derived_before(target, what, state)
            if known is not None:
                return known
            _prepare_placing(con, settings, contract, chosen, placed)
            reader = _pseudonymised(con, contract, purpose, name, key.purpose(purpose_name, policy.sleutelversie))
            result = _write(target, contract, purpose, name, reader, state, policy.k, sample=settings.sample)
    return result


def unknown_buurt(con: duckdb.DuckDBPyConnection, settings: Settings, contract: Contract, entry: Entry) -> int | None:
    """Accepted rows of one delivery whose address is in no buurt; None where the delivery has no addresses."""
    if not contract.address:
        return None
    placed = _reference_of(con, settings, [entry], contract)
    _prepare_placing(con, settings, contract, [entry], placed)
    query = f"SELECT count(*) FILTER (WHERE buurt IS NULL) FROM ({_placed(contract, entry.levering, 'NULL')})"
    row = con.execute(query).fetchone()
    return int(row[0]) if row else 0


def _known(con: duckdb.DuckDBPyConnection, name: str) -> list[Entry]:
    try:
        return entries(con, name)
    except duckdb.CatalogException:
        return []  # nothing was ever taken in


def _reference_of(
    con: duckdb.DuckDBPyConnection, settings: Settings, chosen: Sequence[Entry], contract: Contract
) -> dict[str, Entry]:
    """Per delivery the address file to place it by: of the same year, else the nearest before, else the first."""
    known = [
        entry for name, reference in references(settings).items() for entry in current(_known(con, name), reference)
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
            f"FROM {table(name)} r JOIN chosen c ON r.{DELIVERY} = c.id"
        )
    return f"""
        SELECT {columns}, r.{DELIVERY}, r.jaar, coalesce(a.buurt, n.buurt) AS buurt
        FROM (
            SELECT r.*, {_address(contract.address, "r")}, c.reference, c.jaar
            FROM {table(name)} r JOIN chosen c ON r.{DELIVERY} = c.id
        ) r
        LEFT JOIN addresses a USING (reference, pc, nr, letter, toev)
        LEFT JOIN numbers n ON (n.reference, n.pc, n.nr) = (r.reference, r.pc, r.nr)"""


def _expression(derived: Derived, contract: Contract) -> str:
    """How a purpose's column follows from the delivery's, in SQL."""
    sources = [f"r.{quoted(source)}" for source in derived.sources]
    first = sources[0] if sources else ""
    match derived.derivation:
        case "pseudoniem":
            return " || ".join(f"{source}::VARCHAR" for source in sources)
        case "buurt":
            return "buurt" if not contract.address else "coalesce(a.buurt, n.buurt)"
        case "indeling_jaar":
            return "jaar"
        case "gemeente":
            return f"'GM' || {first}"
        case "eerste_peildatum":
            # up: the first monthly reference date on which it holds
            return f"(CASE WHEN day({first}) = 1 THEN {first} ELSE last_day({first}) + 1 END)::DATE"
        case "maand":
            return _month(sources)
        case "jaar":
            return f"year({first})" if contract[derived.sources[0]].type == "date" else f"{first}::INTEGER"
        case "lopend":
            last = f"last_day({_month(sources[:2])})"
            return f"{sources[2]} <= {last} AND ({sources[3]} IS NULL OR {sources[3]} > {last})"
        case "ja_nee":
            return f"{first} = 'J'"
        case "sbi_afdeling":
            return f"left({first}, 2)"
        case "sbi_sectie":
            cases = " ".join(
                f"WHEN TRY_CAST(left({first}, 2) AS INTEGER) BETWEEN {low} AND {high} THEN '{section}'"
                for section, low, high in _SBI_SECTIONS
            )
            return f"CASE {cases} END"
        case _:
            return first


def _month(sources: Sequence[str]) -> str:
    if len(sources) == 1:
        return f"date_trunc('month', {sources[0]})::DATE"
    return f"make_date({sources[0]}::INTEGER, {sources[1]}::INTEGER, 1)"


def _pseudonymised(
    con: duckdb.DuckDBPyConnection, contract: Contract, purpose: Purpose, name: str, key: bytes
) -> pa.RecordBatchReader:
    """The purpose's columns with pseudonyms for identifiers, a batch at a time."""
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
    where = ""
    if purpose.valid_between:
        begin, end = (quoted(column) for column in purpose.valid_between)
        where = f"WHERE {end} IS NULL OR {begin} < {end}"  # else it holds on no reference date at all
    reader = con.execute(f"SELECT {listed}, {DELIVERY} AS levering FROM ({query}) {where}").to_arrow_reader(_BATCH)
    kinds = {column.name: KINDS[column.kind or ""] for column in purpose.pseudonyms}
    schema = pa.schema([(f.name, pa.uuid() if f.name in kinds else f.type) for f in reader.schema])

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in reader:
            arrays = [
                pseudonymise(array, kinds[field.name], key) if field.name in kinds else array
                for field, array in zip(batch.schema, batch.columns, strict=True)
            ]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def _write(
    target: duckdb.DuckDBPyConnection,
    contract: Contract,
    purpose: Purpose,
    name: str,
    reader: pa.RecordBatchReader,
    state: str,
    k: int | None,
    *,
    sample: bool,
) -> RawTable:
    schema = f"raw_{purpose.name}"
    full = f"{quoted(schema)}.{quoted(name)}"
    origin = "synthetisch" if sample else "gemeten"
    order = [column.name for column in purpose.pseudonyms]
    order += [column.name for column in purpose.columns if column.name not in order]
    columns = ", ".join(f"{quoted(c.name)}::{c.sql_type} AS {quoted(c.name)}" for c in purpose.columns)
    distinct = "DISTINCT" if purpose.distinct else ""
    target.execute("BEGIN")
    try:
        target.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}")
        target.register("_reader", reader)
        target.execute(
            f"CREATE OR REPLACE TABLE {full} AS SELECT {distinct} {columns}, levering, {literal(origin)} AS herkomst "
            f"FROM _reader ORDER BY {', '.join(quoted(column) for column in order)}, levering"
        )
        target.unregister("_reader")
        _comment(target, full, contract, purpose)
        result = _measured(target, full, purpose, schema, name)
        _hold_to_k(result, k)
        _validate(target, full, contract, purpose)
        _note(target, f"{schema}.{name}", state, result)
        target.execute("COMMIT")
    except BaseException:
        target.execute("ROLLBACK")
        raise
    return result


def _hold_to_k(result: RawTable, k: int | None) -> None:
    if k is not None and result.smallest_group is not None and result.smallest_group < k:
        raise PolicyError(
            f"{result.schema}.{result.name}: the smallest group over its columns has {result.smallest_group} rows, the "
            f"policy asks at least {k}: coarsen a column in the contract, or settle another k"
        )


def _comment(target: duckdb.DuckDBPyConnection, full: str, contract: Contract, purpose: Purpose) -> None:
    target.execute(f"COMMENT ON TABLE {full} IS {literal(f'{contract.title}. {purpose.description}')}")
    told = {column.name: column.description for column in purpose.columns}
    told |= {"levering": "Levering waarin de regel binnenkwam.", "herkomst": "gemeten of synthetisch (voorbeeld)."}
    for column, description in told.items():
        target.execute(f"COMMENT ON COLUMN {full}.{quoted(column)} IS {literal(description)}")


def _measured(target: duckdb.DuckDBPyConnection, full: str, purpose: Purpose, schema: str, name: str) -> RawTable:
    kept = [quoted(column.name) for column in purpose.columns if column.derivation != "pseudoniem"]
    buurt = next((quoted(c.name) for c in purpose.columns if c.derivation == "buurt"), None)
    unknown = f"count(*) FILTER (WHERE {buurt} IS NULL)" if buurt else "NULL"
    rows, without, smallest = target.execute(
        f"SELECT count(*), {unknown}, "
        f"(SELECT min(n) FROM (SELECT count(*) AS n FROM {full} GROUP BY {', '.join(kept)})) FROM {full}"
    ).fetchone() or (0, None, None)
    return RawTable(schema, name, rows, without, smallest, renewed=True)


def _validate(target: duckdb.DuckDBPyConnection, full: str, contract: Contract, purpose: Purpose) -> None:
    """Hold the table to its pandera schema before it is committed; pseudonyms only to being there."""
    import pandera.polars as pa_schema
    from pandera.config import ValidationDepth, config_context

    from assets.deliveries.layouts import DeliveryError
    from quality.schemas.deliveries import raw_schema

    schema = raw_schema(contract, purpose)
    columns = ", ".join(quoted(column) for column in schema.columns)
    frame = target.execute(f"SELECT {columns} FROM {full}").pl()
    try:
        with config_context(validation_enabled=True, validation_depth=ValidationDepth.SCHEMA_AND_DATA):
            schema.validate(frame, lazy=True)
    except pa_schema.errors.SchemaErrors as error:
        broken = error.failure_cases.group_by("column", "check").len().sort("len", descending=True).row(0)
        raise DeliveryError(
            f"{schema.name}: column `{broken[0]}` breaks `{broken[1]}` {broken[2]} time(s): the contract lets through "
            "what the purpose cannot use; add the rule to the contract"
        ) from None


def _state(
    contract: Contract,
    purpose: Purpose,
    chosen: Sequence[Entry],
    placed: Mapping[str, Entry],
    key: MasterKey,
    key_version: int,
    *,
    sample: bool,
) -> str:
    """A fingerprint of everything a raw table follows from."""
    follows_from = {
        "version": VERSION,
        "contract": hashlib.sha256(contract.source.read_bytes()).hexdigest(),
        "purpose": purpose.name,
        "deliveries": [entry.levering_id for entry in chosen],
        "references": {delivery: entry.levering_id for delivery, entry in placed.items()},
        "key": [key.id, key_version],
        "sample": sample,
    }
    return hashlib.sha256(json.dumps(follows_from, sort_keys=True).encode()).hexdigest()


_STATE = f"""
CREATE SCHEMA IF NOT EXISTS {STATE_SCHEMA};
CREATE TABLE IF NOT EXISTS {STATE_SCHEMA}.afleiding (
    tabel VARCHAR, staat VARCHAR, rijen BIGINT, buurt_onbekend BIGINT, kleinste_groep BIGINT, gemaakt_op TIMESTAMP
);
"""


def _derived_before(target: duckdb.DuckDBPyConnection, what: str, state: str) -> RawTable | None:
    """The table as it stands, where it was made from this very state."""
    schema, name = what.split(".")
    target.execute(_STATE)
    row = target.execute(
        f"""SELECT rijen, buurt_onbekend, kleinste_groep FROM {STATE_SCHEMA}.afleiding
        WHERE tabel = ? AND staat = ?
        AND EXISTS (FROM duckdb_tables() WHERE schema_name = ? AND table_name = ?)""",
        [what, state, schema, name],
    ).fetchone()
    return RawTable(schema, name, row[0], row[1], row[2], renewed=False) if row else None


def _note(target: duckdb.DuckDBPyConnection, what: str, state: str, result: RawTable) -> None:
    now = datetime.now(UTC).replace(tzinfo=None)
    target.execute(f"DELETE FROM {STATE_SCHEMA}.afleiding WHERE tabel = ?", [what])
    values = [what, state, result.rows, result.unknown_buurt, result.smallest_group, now]
    target.execute(f"INSERT INTO {STATE_SCHEMA}.afleiding VALUES (?, ?, ?, ?, ?, ?)", values)
