"""One person found and erased (AVG 15 and 17), by citizen service number (BSN).

Belongs here: where a person stands in vault, originals and raw tables, and how she is taken out of all of them and
kept out. The number itself is written nowhere: a list under a key of its own (`MasterKey.keyed_list`) in the vault
knows her again when a next full delivery brings her back. Released tables are protected counts and stay.

Her name or another number of hers may stand where her BSN does not: in a partner's row, a remark, a delivery that knows
persons by another number. Those places (`assets.deliveries.whereabouts`) are found too, and blotted out where asked.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

import duckdb
import polars as pl
import pyarrow as pa

from assets.deliveries import companion, register
from assets.deliveries.delivered import LINE, DeliveryError
from assets.deliveries.derived import key_versions
from assets.deliveries.judging import Judged, Tally
from assets.deliveries.register import masked
from assets.deliveries.retention import drop_persons_between, forget, held
from assets.deliveries.whereabouts import (
    BSN,
    Clue,
    Keyed,
    Place,
    beside,
    blot,
    clues,
    given,
    in_vault,
    keyed,
    number_columns,
    remove,
)
from datafabriek.config import Home, Settings
from datafabriek.ledger import Ledger
from datafabriek.warehouse import (
    VAULT,
    quoted,
    rewrite_vault,
    rewrite_warehouse,
    transaction,
    vault,
    warehouse,
)
from quality.contracts.model import Contract
from quality.privacy.keys import MasterKey
from quality.privacy.linkages import LINKED, RAW
from quality.privacy.policy import load_policy
from quality.privacy.pseudonyms import KINDS, Kind, pseudonymise

FILE_NAME = "naam van het bestand"

RULE = "gewist"
"""Under which name a row of an erased person is counted as refused."""

LIMITS = (
    "Wissen hoeft niet, en mag soms niet, voor zover de verwerking nodig is voor een wettelijke plicht of een taak van "
    "algemeen belang (AVG 17 lid 3 onder b), voor archivering in het algemeen belang of statistiek (onder d), of waar "
    "de Archiefwet bewaring voorschrijft (zie de selectielijst). De bronregistratie, zoals de BRP, wordt hier niet "
    "gewist: daarover beslist haar houder. Uitgegeven tabellen zijn beveiligde aantallen en blijven. Reservekopieën "
    "van vóór vandaag bevatten de gegevens nog. Regels onder haar BSN worden gewist en uit volgende leveringen "
    "geweerd. Haar naam of een ander nummer in regels van anderen wordt getoond, en met --traces onleesbaar gemaakt; "
    "een volgende levering kan die opnieuw bevatten, en wat anders gespeld is wordt niet gevonden."
)

_TEXT = frozenset({"gescheiden", "vaste_breedte"})


@dataclass(frozen=True)
class Erased:
    """What was removed, and where her name or another number of hers still stands: a person has to look there."""

    removed: list[Place]
    left: list[Place]


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


def find(settings: Settings, key: MasterKey, bsn: str, also: Sequence[str] = ()) -> list[Place]:
    """Every place where a person stands; nothing is changed.

    Args:
        settings: the factory.
        key: opens the vault.
        bsn: whom.
        also: other names and numbers of hers, besides those under which the vault knows her.

    Raises:
        DeliveryError: `bsn` is none, one of the others says too little, or an engine failed.
    """
    number, told = parse_bsn(bsn), _given(also)
    with masked("the search"):
        return _search(settings, key, number, _clues(settings, key, number, told))


def erase(
    settings: Settings,
    key: MasterKey,
    bsn: str,
    ground: str,
    who: str,
    also: Sequence[str] = (),
    *,
    traces: bool = False,
) -> Erased:
    """Take a person out of vault, originals and raw tables, for good; a repeated call finishes what was broken off.

    Args:
        settings: the factory.
        key: opens the vault.
        bsn: whom.
        ground: on what ground and by whose decision; it stands in the ledger.
        who: who carries it out.
        also: other names and numbers of hers, besides those under which the vault knows her.
        traces: whether those are blotted out where her BSN does not stand. Rows of others stay, without her; rows of a
            delivery that knows persons by such a number go. A name that a namesake bears too is left and told.

    Raises:
        DeliveryError: `bsn` is none, one of the others says too little, or an engine failed.
    """
    number, told = parse_bsn(bsn), _given(also)
    home = settings.paths
    with masked("the erasure"):
        by = _clues(settings, key, number, told)
        blotted = [clue for clue in by if clue.hers_alone] if traces else []
        ways = {"", *(clue.origin for clue in blotted)}
        gone = [place for place in _search(settings, key, number, by) if place.by in ways]
        with vault(home, settings.resources, key.vault) as con:
            register.prepare(con)
            known = held(con, settings)
            listed = _without_companions(con, home, gone)
            others = keyed(con, known, blotted)
            with transaction(con):
                _bar(con, key, number)
                remove(con, known, number)
                blot(con, known, blotted)
                for entry in register.entries(con):
                    name = _in_name(number).sub("*", entry.bestand)
                    for clue in blotted:
                        name = clue.blotted(name)
                    if name != entry.bestand:
                        register.rename(con, entry.levering_id, name)
            _renew_companions(con, settings, known, listed)
            for entry in register.entries(con):
                theirs = {other.by.words[0] for other in others if other.table[1] == entry.levering}
                _clean(home, key, entry.vingerafdruk, known[entry.levering], [number, *theirs], blotted)
        rewrite_vault(home, settings.resources, key.vault)
        if home.warehouse.exists():
            with warehouse(home, settings.resources) as target:
                for _ in _in_tables(target, key, number, others, delete=True):
                    pass
                drop_persons_between(target)
            rewrite_warehouse(home, settings.resources)
        left = [place for place in _search(settings, key, number, by) if place.by] if by else []
    rows: Counter[str] = Counter()
    for place in gone:
        rows[place.place] += place.rows
    told_of = {"ground": ground, "who": who, "rows": dict(rows), "left": len(left)}
    Ledger(home.ledger).append("erasure", "betrokkene", told_of)
    return Erased(gone, left)


def _given(also: Sequence[str]) -> list[Clue]:
    found = [given(text) for text in also if text.strip()]
    if None in found:
        raise DeliveryError(
            "a name or number that says too little: give a whole name, or a number of six signs or more"
        )
    return [clue for clue in found if clue]


def _clues(settings: Settings, key: MasterKey, number: str, told: Sequence[Clue]) -> list[Clue]:
    """What else names her: under which names and numbers the vault knows her, and what was told."""
    if not settings.paths.vault_database.exists():
        return list(told)
    with vault(settings.paths, settings.resources, key.vault) as con:
        register.prepare(con)
        return [*clues(con, held(con, settings), number), *told]


def _search(settings: Settings, key: MasterKey, number: str, by: Sequence[Clue]) -> list[Place]:
    found: list[Place] = []
    others: list[Keyed] = []
    if settings.paths.vault_database.exists():
        with vault(settings.paths, settings.resources, key.vault) as con:
            known = held(con, settings)
            found += [*in_vault(con, known, number), *beside(con, known, number, by)]
            others = keyed(con, known, by)
            for entry in register.entries(con):
                named = [""] if _in_name(number).search(entry.bestand) else []
                named += [clue.origin for clue in by if clue.is_in(entry.bestand)]
                found += [Place(FILE_NAME, entry.levering, entry.levering_id, 1, origin) for origin in named]
                records = _in_original(settings, key, entry, known[entry.levering], number, by)
                found += [
                    Place("origineel", entry.levering, entry.levering_id, count, origin)
                    for origin, count in records.items()
                ]
    if settings.paths.warehouse.exists():
        with warehouse(settings.paths, settings.resources) as target:
            found += list(_in_tables(target, key, number, others))
    return found


def _without_companions(con: duckdb.DuckDBPyConnection, home: Home, found: Sequence[Place]) -> list[register.Entry]:
    """Remove the lists of refused rows, made for suppliers, that may name her; the deliveries they were of."""
    # of a delivery that was refused as a whole nothing stands in quarantine, yet she may be on its list
    hers = {place.delivery_id for place in found if place.place in ("quarantaine", "origineel")}
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
            _clean(home, key, fingerprint, self._contract, sorted(self._seen))

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
        made = pseudonymise(digits.to_arrow(), BSN, self._key)
        hit = pl.Series(made.storage.cast(pa.binary())).is_in(list(self._known)).fill_null(value=False)
        self._seen |= set(digits.filter(hit).str.zfill(9).to_list())
        return hit


_TABLE = f"CREATE TABLE IF NOT EXISTS {VAULT}.beheer.gewist (pseudoniem UUID, gewist_op TIMESTAMP)"


def _bar(con: duckdb.DuckDBPyConnection, key: MasterKey, number: str) -> None:
    con.execute(_TABLE)
    pseudonym = _pseudonym(number, BSN, key.keyed_list())
    con.execute(f"DELETE FROM {VAULT}.beheer.gewist WHERE pseudoniem = ?", [pseudonym])
    now = datetime.now(UTC).replace(tzinfo=None)
    con.execute(f"INSERT INTO {VAULT}.beheer.gewist VALUES (?, ?)", [pseudonym, now])


def _pseudonym(number: str, kind: Kind, key: bytes) -> UUID:
    return UUID(bytes=pseudonymise(pa.array([number]), kind, key).storage[0].as_py())


# --- where she stands ------------------------------------------------------------------------------------------


def _in_name(number: str) -> re.Pattern[str]:
    """Her number in the name that a supplier gave a file, zeros in front or not."""
    return re.compile(rf"(?<!\d)0*{number.lstrip('0')}(?!\d)")


def _in_tables(
    con: duckdb.DuckDBPyConnection, key: MasterKey, number: str, others: Sequence[Keyed], *, delete: bool = False
) -> Iterator[Place]:
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
        made_by = secret(schema.removeprefix(RAW if is_raw else LINKED), versions.get(f"{schema}.{name}", 1))
        ways = [("", columns, _pseudonym(number, BSN, made_by))]
        ways += [
            (other.by.origin, [other.column], _pseudonym(other.number, KINDS[other.kind], made_by))
            for other in others
            if other.table == (schema, name) and other.column in columns
        ]
        for by, hers, pseudonym in ways:
            where, values = " OR ".join(f"{quoted(column)} = ?" for column in hers), [pseudonym] * len(hers)
            counted = (
                f"SELECT {'levering' if is_raw else repr('')}, count(*) FROM {quoted(schema)}.{quoted(name)} "
                f"WHERE {where} GROUP BY 1 ORDER BY 1"
            )
            for delivery_id, rows in con.execute(counted, values).fetchall():
                yield Place(f"{schema}.{name}", name, delivery_id, rows, by)
            if delete and is_raw:
                forget(con, schema, name, where, values)


# --- originals -------------------------------------------------------------------------------------------------


def _in_original(
    settings: Settings,
    key: MasterKey,
    entry: register.Entry,
    contract: Contract | None,
    number: str,
    by: Sequence[Clue],
) -> Counter[str]:
    """How many records of an original hold her BSN (under an empty name), and how many others a clue, by its origin."""
    from assets.deliveries.intake import original

    found: Counter[str] = Counter()
    if not (settings.paths.originals / f"{entry.vingerafdruk}.age").exists():
        return found
    data = original(settings.paths, key, entry.vingerafdruk)
    layout, encoding = _layout(contract)
    if layout not in _TEXT:
        # erasing removes it whole
        found.update([""] if _holds(data, [number]) else [])
        found.update(clue.origin for clue in by if _holds(data, [], [clue]))
        return found
    whole = data.decode(encoding, "replace")
    there = [clue for clue in by if clue.is_in(whole)]
    for record in _records(data, layout):
        if _is_hers(record, [number], layout):
            found[""] += 1
        elif likely := _likely(record, there):
            text = record.decode(encoding, "replace")
            found.update(clue.origin for clue in likely if clue.is_in(text))
    return found


def _layout(contract: Contract | None) -> tuple[str, str]:
    """How a delivery is laid out, and its encoding; no layout where its contract is gone."""
    return (contract.layout.format, contract.layout.encoding) if contract else ("", "utf-8")


def _clean(
    home: Home,
    key: MasterKey,
    fingerprint: str,
    contract: Contract | None,
    numbers: Sequence[str],
    by: Sequence[Clue] = (),
) -> None:
    """Rewrite an original without the records that hold one of these numbers; the name stays its old fingerprint.

    In records of others clues are blotted out. An original whose records cannot be taken out one by one (a workbook, an
    archive) is removed as a whole: its rows are in the vault.
    """
    import pyrage

    from assets.deliveries.intake import original

    path = home.originals / f"{fingerprint}.age"
    if not path.exists():
        return
    data = original(home, key, fingerprint)
    layout, encoding = _layout(contract)
    if layout not in _TEXT:
        if _holds(data, numbers, by):
            path.unlink()
        return
    whole = data.decode(encoding, "replace")
    there = [clue for clue in by if clue.is_in(whole)]
    cleaned = b"".join(
        _blotted(record, there, encoding) for record in _records(data, layout) if not _is_hers(record, numbers, layout)
    )
    if cleaned == data:
        return
    part = path.with_suffix(".part")
    recipient = pyrage.x25519.Identity.from_str(key.originals).to_public()
    part.touch(mode=0o600)
    part.write_bytes(pyrage.encrypt(cleaned, [recipient]))
    part.replace(path)


def _blotted(record: bytes, by: Sequence[Clue], encoding: str) -> bytes:
    if not (likely := _likely(record, by)):
        return record
    text = before = record.decode(encoding, "surrogateescape")
    for clue in likely:
        text = clue.blotted(text)
    return text.encode(encoding, "surrogateescape") if text != before else record


def _likely(record: bytes, by: Sequence[Clue]) -> list[Clue]:
    """Clues that may be in a record: most records hold none, and looking closely takes long."""
    small = record.lower() if by else b""
    return [clue for clue in by if all(needle in small for needle in clue.needles)]


_LARGEST = 1 << 30


def _holds(data: bytes, numbers: Sequence[str], by: Sequence[Clue] = ()) -> bool:
    """Whether an original that is no plain text holds one of these numbers or clues; yes where nobody can tell."""

    def among(part: bytes) -> bool:
        return _is_hers(part, numbers, "") or (
            bool(by) and any(clue.is_in(part.decode("utf-8", "replace")) for clue in by)
        )

    if data[:4] == b"PAR1":
        try:
            frame = pl.read_parquet(io.BytesIO(data)).select(pl.all().cast(pl.String, strict=False))
        except pl.exceptions.PolarsError:
            return True
        return any(among(" ".join(frame[name].drop_nulls()).encode()) for name in frame.columns)
    if data[:4] != b"PK\x03\x04":
        return among(data)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(member.file_size for member in archive.infolist()) > _LARGEST:
                return True
            return any(among(archive.read(member)) for member in archive.infolist())
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
        short = number.lstrip("0").encode()
        if short not in record:
            continue  # as nearly always
        if layout == "vaste_breedte" and number.encode() in record:
            return True  # fields adjoin: no mark says where one ends
        if re.search(rb"(?<!\d)0*" + re.escape(short) + rb"(?!\d)", record):
            return True
    return False
