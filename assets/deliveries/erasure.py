"""One person found and erased (AVG 15 and 17), by citizen service number (BSN).

Belongs here: where a person stands in vault, originals and raw tables, and how she is taken out of all of them and
kept out. The number itself is written nowhere: a list under a key of its own (`MasterKey.keyed_list`) in the vault
knows her again when a next full delivery brings her back. Released tables are protected counts and stay.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

import duckdb
import polars as pl
import pyarrow as pa

from assets.deliveries import companion, register
from assets.deliveries.derived import key_versions
from assets.deliveries.judging import Judged, Tally
from assets.deliveries.layouts import LINE, DeliveryError
from assets.deliveries.register import masked
from assets.deliveries.retention import drop_persons_between, forget, held
from datafabriek.config import Home, Settings
from datafabriek.ledger import Ledger
from datafabriek.warehouse import VAULT, quoted, rewrite_vault, rewrite_warehouse, vault, warehouse
from quality.contracts.model import Contract
from quality.privacy.keys import MasterKey
from quality.privacy.linkages import LINKED, RAW
from quality.privacy.policy import load_policy
from quality.privacy.pseudonyms import KINDS, pseudonymise

FILE_NAME = "naam van het bestand"

RULE = "gewist"
"""Under which name a row of an erased person is counted as refused."""

LIMITS = (
    "Wissen hoeft niet, en mag soms niet, voor zover de verwerking nodig is voor een wettelijke plicht of een taak van "
    "algemeen belang (AVG 17 lid 3 onder b), voor archivering in het algemeen belang of statistiek (onder d), of waar "
    "de Archiefwet bewaring voorschrijft (zie de selectielijst). De bronregistratie, zoals de BRP, wordt hier niet "
    "gewist: daarover beslist haar houder. Uitgegeven tabellen zijn beveiligde aantallen en blijven. Reservekopieën "
    "van vóór vandaag bevatten de gegevens nog."
)

_KIND = KINDS["bsn"]
_TEXT = frozenset({"gescheiden", "vaste_breedte"})


@dataclass(frozen=True)
class Place:
    """Where a person stands: `kluis`, `quarantaine`, `origineel`, `FILE_NAME` or a table; of which delivery; how often.

    `rows` of an original are records that hold the number.
    """

    place: str
    delivery: str
    delivery_id: str
    rows: int


def parse_bsn(text: str) -> str:
    """A BSN of nine digits.

    Raises:
        DeliveryError: it is none (eleven-test); the message does not repeat it.
    """
    digits = text.strip().replace(".", "").replace(" ", "").zfill(9)
    weights = (9, 8, 7, 6, 5, 4, 3, 2, -1)
    is_number = re.fullmatch(r"\d{9}", digits) and int(digits)
    if not is_number or sum(w * int(d) for w, d in zip(weights, digits, strict=True)) % 11:
        raise DeliveryError("that is no BSN: nine digits that pass the eleven-test")
    return digits


def number_columns(contract: Contract) -> list[str]:
    """Columns with a BSN: keyed as one for a purpose, or an identifier that is held to the eleven-test."""
    keyed = {
        column.sources[0]
        for purpose in contract.purposes.values()
        for column in purpose.pseudonyms
        if column.kind == _KIND.name
    }
    tested = {
        column.name
        for column in contract.columns
        if column.privacy == "direct_identificerend" and any(rule.implementation == "elfproef" for rule in column.rules)
    }
    return [name for name in contract.names if name in keyed | tested]


def find(settings: Settings, key: MasterKey, bsn: str) -> list[Place]:
    """Every place where a person stands; nothing is changed.

    Raises:
        DeliveryError: `bsn` is none, or an engine failed.
    """
    number = parse_bsn(bsn)
    found: list[Place] = []
    with masked("the search"):
        if settings.paths.vault_database.exists():
            with vault(settings.paths, settings.resources, key.vault) as con:
                register.prepare(con)
                known = held(con, settings)
                found += _in_vault(con, known, number)
                for entry in register.entries(con):
                    if _in_name(number).search(entry.bestand):
                        found.append(Place(FILE_NAME, entry.levering, entry.levering_id, 1))
                    records = _in_original(settings, key, entry, known[entry.levering], number)
                    found += [Place("origineel", entry.levering, entry.levering_id, records)] if records else []
        if settings.paths.warehouse.exists():
            with warehouse(settings.paths, settings.resources) as target:
                found += list(_in_tables(target, key, number))
    return found


def erase(settings: Settings, key: MasterKey, bsn: str, ground: str, who: str) -> list[Place]:
    """Take a person out of vault, originals and raw tables, for good; a repeated call finishes what was broken off.

    Args:
        settings: the factory.
        key: opens the vault.
        bsn: whom.
        ground: on what ground and by whose decision; it stands in the ledger.
        who: who carries it out.

    Returns:
        What was removed.

    Raises:
        DeliveryError: `bsn` is none, or an engine failed.
    """
    number = parse_bsn(bsn)
    found = find(settings, key, number)
    home = settings.paths
    with masked("the erasure"):
        with vault(home, settings.resources, key.vault) as con:
            register.prepare(con)
            known = held(con, settings)
            listed = _without_companions(con, home, found)
            con.execute("BEGIN")
            _bar(con, key, number)
            for name, contract in known.items():
                _delete(con, name, contract, number)
            for entry in register.entries(con):
                if entry.bestand != (name := _in_name(number).sub("*", entry.bestand)):
                    register.rename(con, entry.levering_id, name)
            con.execute("COMMIT")
            _renew_companions(con, settings, known, listed)
            for entry in register.entries(con):
                _clean(home, key, entry.vingerafdruk, _format(known[entry.levering]), [number])
        rewrite_vault(home, settings.resources, key.vault)
        if home.warehouse.exists():
            with warehouse(home, settings.resources) as target:
                for _ in _in_tables(target, key, number, delete=True):
                    pass
                drop_persons_between(target)
            rewrite_warehouse(home, settings.resources)
    rows: dict[str, int] = {}
    for place in found:
        rows[place.place] = rows.get(place.place, 0) + place.rows
    Ledger(home.ledger).append("erasure", "betrokkene", {"ground": ground, "who": who, "rows": rows})
    return found


def _without_companions(con: duckdb.DuckDBPyConnection, home: Home, found: Sequence[Place]) -> list[register.Entry]:
    """Remove the lists of refused rows, made for suppliers, that may name her; the deliveries they were of."""
    hers = {place.delivery_id for place in found if place.place == "quarantaine"}
    entries = [entry for entry in register.entries(con) if entry.levering_id in hers]
    for entry in entries:
        (home.reports / "op-orde" / entry.levering / f"{entry.levering_id}{companion.SUFFIX}").unlink(missing_ok=True)
    return entries


def _renew_companions(
    con: duckdb.DuckDBPyConnection,
    settings: Settings,
    known: Mapping[str, Contract | None],
    entries: Sequence[register.Entry],
) -> None:
    """Make those lists anew from the rows that are left."""
    terms = load_policy(settings).leveringen
    for entry in entries:
        contract = known[entry.levering]
        if contract is not None and entry.levering in terms:
            folder = settings.paths.reports / "op-orde" / entry.levering
            companion.write(con, entry, contract, terms[entry.levering].sleutel_leverancier, folder)


# --- keeping out -----------------------------------------------------------------------------------------------


class Barred:
    """The persons who were erased: what a new delivery brings of them is counted as refused and kept nowhere."""

    def __init__(self, con: duckdb.DuckDBPyConnection, key: MasterKey, contract: Contract) -> None:
        con.execute(_TABLE)
        known = con.execute(f"SELECT pseudoniem FROM {VAULT}.beheer.gewist").fetchall()
        self._known = {row[0].bytes for row in known}
        self._key, self._contract = key.keyed_list(), contract
        self._columns = number_columns(contract)
        self._seen: set[str] = set()

    def keep_out(self, part: Judged, tally: Tally) -> Judged:
        """A judged part without them; the tally stays balanced."""
        if not self._known:
            return part
        accepted, refused = part.accepted, part.refused
        hit = pl.repeat(value=False, n=len(accepted), eager=True)
        for column in self._columns:
            hit |= self._among(accepted[column].cast(pl.String))
        if hit.any():
            count = int(hit.sum())
            tally.accepted -= count
            tally.refused += count
            tally.add(self._columns[0], RULE, "error", count)
            lines = accepted.filter(hit)[LINE]
            told = {LINE: lines, "regels": [[RULE]] * count, "record": [""] * count}
            refused = pl.concat([refused, pl.DataFrame(told, schema=refused.schema)])
            accepted = accepted.filter(~hit)
        return replace(part, accepted=accepted, refused=self._blanked(refused))

    def clean_original(self, home: Home, fingerprint: str, key: MasterKey) -> None:
        """Take the persons that were met out of the original that was just kept."""
        if self._seen:
            _clean(home, key, fingerprint, self._contract.layout.format, sorted(self._seen))

    def _blanked(self, refused: pl.DataFrame) -> pl.DataFrame:
        """Refused rows as they were delivered, those that hold such a number left empty."""
        bad = [self._holds(record) for record in refused["record"].fill_null("")]
        if not any(bad):
            return refused
        return refused.with_columns(
            record=pl.when(pl.Series(bad, dtype=pl.Boolean)).then(pl.lit("")).otherwise(pl.col("record"))
        )

    def _holds(self, record: str) -> bool:
        runs = re.findall(r"\d{8,}", record)
        windows = {run[at : at + 9] for run in runs for at in range(max(1, len(run) - 8))}
        return bool(windows) and bool(self._among(pl.Series(sorted(windows), dtype=pl.String)).any())

    def _among(self, values: pl.Series) -> pl.Series:
        digits = values.str.extract(r"^(\d{1,9})$", 1)
        made = pseudonymise(digits.to_arrow(), _KIND, self._key)
        hit = pl.Series(made.storage.cast(pa.binary())).is_in(list(self._known)).fill_null(value=False)
        self._seen |= set(digits.filter(hit).str.zfill(9).to_list())
        return hit


_TABLE = f"CREATE TABLE IF NOT EXISTS {VAULT}.beheer.gewist (pseudoniem UUID, gewist_op TIMESTAMP)"


def _bar(con: duckdb.DuckDBPyConnection, key: MasterKey, number: str) -> None:
    con.execute(_TABLE)
    pseudonym = _pseudonym(number, key.keyed_list())
    con.execute(f"DELETE FROM {VAULT}.beheer.gewist WHERE pseudoniem = ?", [pseudonym])
    now = datetime.now(UTC).replace(tzinfo=None)
    con.execute(f"INSERT INTO {VAULT}.beheer.gewist VALUES (?, ?)", [pseudonym, now])


def _pseudonym(number: str, key: bytes) -> UUID:
    return UUID(bytes=pseudonymise(pa.array([number]), _KIND, key).storage[0].as_py())


# --- where she stands ------------------------------------------------------------------------------------------


def _format(contract: Contract | None) -> str:
    """How a delivery is laid out; empty where its contract is gone."""
    return contract.layout.format if contract else ""


def _in_vault(con: duckdb.DuckDBPyConnection, known: Mapping[str, Contract | None], number: str) -> Iterator[Place]:
    for name, contract in known.items():
        for place, table, where in _vault_tables(con, name, contract):
            values = [number] * where.count("?")
            query = f"SELECT {register.DELIVERY}, count(*) FROM {table} WHERE {where} GROUP BY 1 ORDER BY 1"
            for delivery_id, rows in con.execute(query, values).fetchall():
                yield Place(place, name, delivery_id, rows)


def _vault_tables(
    con: duckdb.DuckDBPyConnection, name: str, contract: Contract | None
) -> Iterator[tuple[str, str, str]]:
    """Tables of a delivery that exist, each with the condition under which a row is hers (`?` is the number)."""
    query = "SELECT schema_name FROM duckdb_tables() WHERE (database_name, table_name) = (?, ?)"
    there = {row[0] for row in con.execute(query, [VAULT, name]).fetchall()}
    columns = number_columns(contract) if contract else _texts(con, name)
    if "aanvoer" in there and columns:
        yield "kluis", register.table(name), " OR ".join(f"{quoted(column)} = ?" for column in columns)
    if "quarantaine" in there:
        # as delivered: zeros in front may be lost, and in a file of fixed width fields adjoin
        where = "regexp_matches(record, '(^|[^0-9])0*' || ltrim(?, '0') || '([^0-9]|$)')"
        where += " OR contains(record, ?)" if _format(contract) in ("vaste_breedte", "") else ""
        yield "quarantaine", register.quarantine(name), where


def _in_name(number: str) -> re.Pattern[str]:
    """Her number in the name that a supplier gave a file, zeros in front or not."""
    return re.compile(rf"(?<!\d)0*{number.lstrip('0')}(?!\d)")


def _texts(con: duckdb.DuckDBPyConnection, name: str) -> list[str]:
    """Columns of a delivery that may hold a number, where no contract says which do."""
    query = """SELECT column_name FROM duckdb_columns()
        WHERE (database_name, schema_name, table_name, data_type) = (?, 'aanvoer', ?, 'VARCHAR')"""
    return [row[0] for row in con.execute(query, [VAULT, name]).fetchall()]


def _delete(con: duckdb.DuckDBPyConnection, name: str, contract: Contract | None, number: str) -> None:
    for _, table, where in _vault_tables(con, name, contract):
        con.execute(f"DELETE FROM {table} WHERE {where}", [number] * where.count("?"))


def _in_tables(con: duckdb.DuckDBPyConnection, key: MasterKey, number: str, *, delete: bool = False) -> Iterator[Place]:
    """Her rows in the tables of purposes and linkages, under the key that each was made with, whatever policy says now.

    A deletion leaves the tables of linkages: they are dropped whole (`drop_persons_between`).
    """
    versions = key_versions(con)
    query = """SELECT schema_name, table_name, list(column_name) FROM duckdb_columns()
        WHERE data_type = 'UUID' AND (starts_with(schema_name, ?) OR starts_with(schema_name, ?))
        GROUP BY ALL ORDER BY ALL"""
    for schema, name, columns in con.execute(query, [RAW, LINKED]).fetchall():
        is_raw = schema.startswith(RAW)
        secret = key.purpose if is_raw else key.linkage
        version = versions.get(f"{schema}.{name}", 1)
        pseudonym = _pseudonym(number, secret(schema.removeprefix(RAW if is_raw else LINKED), version))
        where, values = " OR ".join(f"{quoted(column)} = ?" for column in columns), [pseudonym] * len(columns)
        counted = (
            f"SELECT {'levering' if is_raw else repr('')}, count(*) FROM {quoted(schema)}.{quoted(name)} "
            f"WHERE {where} GROUP BY 1 ORDER BY 1"
        )
        for delivery_id, rows in con.execute(counted, values).fetchall():
            yield Place(f"{schema}.{name}", name, delivery_id, rows)
        if delete and is_raw:
            forget(con, schema, name, where, values)


# --- originals -------------------------------------------------------------------------------------------------


def _in_original(
    settings: Settings, key: MasterKey, entry: register.Entry, contract: Contract | None, number: str
) -> int:
    from assets.deliveries.intake import original

    if not (settings.paths.originals / f"{entry.vingerafdruk}.age").exists():
        return 0
    data = original(settings.paths, key, entry.vingerafdruk)
    layout = _format(contract)
    if layout not in _TEXT:
        return int(_holds(data, [number]))  # erasing removes it whole
    return sum(1 for record in _records(data, layout) if _is_hers(record, [number], layout))


def _clean(home: Home, key: MasterKey, fingerprint: str, layout: str, numbers: Sequence[str]) -> None:
    """Rewrite an original without the records that hold one of these numbers; the name stays its old fingerprint.

    An original whose records cannot be taken out one by one (a workbook, an archive) is removed as a whole: its rows
    are in the vault.
    """
    import pyrage

    from assets.deliveries.intake import original

    path = home.originals / f"{fingerprint}.age"
    if not path.exists():
        return
    data = original(home, key, fingerprint)
    if layout not in _TEXT:
        if _holds(data, numbers):
            path.unlink()
        return
    records = list(_records(data, layout))
    kept = [record for record in records if not _is_hers(record, numbers, layout)]
    if len(kept) == len(records):
        return
    part = path.with_suffix(".part")
    recipient = pyrage.x25519.Identity.from_str(key.originals).to_public()
    part.touch(mode=0o600)
    part.write_bytes(pyrage.encrypt(b"".join(kept), [recipient]))
    part.replace(path)


_LARGEST = 1 << 30


def _holds(data: bytes, numbers: Sequence[str]) -> bool:
    """Whether an original that is no plain text holds one of these numbers; yes where nobody can tell."""
    if data[:4] == b"PAR1":
        try:
            frame = pl.read_parquet(io.BytesIO(data)).select(pl.all().cast(pl.String, strict=False))
        except pl.exceptions.PolarsError:
            return True
        return any(_is_hers(" ".join(frame[name].drop_nulls()).encode(), numbers, "") for name in frame.columns)
    if data[:4] != b"PK\x03\x04":
        return _is_hers(data, numbers, "")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(member.file_size for member in archive.infolist()) > _LARGEST:
                return True
            return any(_is_hers(archive.read(member), numbers, "") for member in archive.infolist())
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError):
        return True


def _records(data: bytes, layout: str) -> Iterator[bytes]:
    """Lines with their ends; in delimited text a line break within quotes belongs to the record."""
    held = b""
    for line in data.splitlines(keepends=True):
        held += line
        if layout != "gescheiden" or held.count(b'"') % 2 == 0:
            yield held
            held = b""
    if held:
        yield held


def _is_hers(record: bytes, numbers: Sequence[str], layout: str) -> bool:
    for number in numbers:
        if layout == "vaste_breedte" and number.encode() in record:
            return True  # fields adjoin: no mark says where one ends
        if re.search(rb"(?<!\d)0*" + number.lstrip("0").encode() + rb"(?!\d)", record):
            return True
    return False
