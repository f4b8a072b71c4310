"""The canary test: what identifies a person goes in through every kind of delivery, and comes out nowhere.

Values that occur nowhere else are seeded through the deliveries (good rows, quarantined rows, names of files; rows
that a live PostgreSQL server, an OGC API Features and a WFS service give), the factory is run as users run it, under
a memory limit that makes it spill, and everything outside the vault is taken apart and searched for them, in many
spellings and as plain hashes. The search then shows its eyes: leaks of every sort are planted in a copy of that very
factory, and each must be caught.
"""

from __future__ import annotations

import base64
import bz2
import datetime as dt
import gzip
import hashlib
import io
import itertools
import json
import lzma
import os
import re
import shutil
import sqlite3
import string
import subprocess
import sys
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape

import dagster as dg
import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xlsxwriter
import yaml

from assets.deliveries.delivered import LINE, DeliveryError
from assets.deliveries.judging import Tally, judged
from assets.deliveries.layouts import Source, read, render
from datafabriek.config import Home, Roots, Settings, load_settings
from datafabriek.sample import population
from datafabriek.sample.deliveries import write_deliveries
from datafabriek.sample.kinds import istandaarden, schemes, space, work, youth
from datafabriek.warehouse import literal, quoted, vault
from quality.contracts.model import SHIPPED, Column, Contract, load
from quality.privacy.keys import ensure_key

MAKERS = {**work.MAKERS, **youth.MAKERS, **schemes.MAKERS, **istandaarden.MAKERS, **space.MAKERS}
SAMPLE = ("adressen", "brp", "bus", "bedrijven")
# a whole run, on a machine that may be busy; one worker makes it for all
pytestmark = pytest.mark.timeout(1800)

SPILLS = 0.1
"""Share of the inhabitants at which the intake of the register outgrows `MEMORY`, which no step of CBS's does."""

MEMORY, ENOUGH = "36MB", "256MB"
"""What spills at that scale, and what the small run gets, which has nothing to spill."""

PARQUET = "kaarten"
"""A contract of the factory's own: none of the shipped kinds comes as Parquet by itself."""

PERSONS = ("bijstand_per_regio", "zzp_per_regio", "zzp_per_sector")
"""Tables about persons, which have to be among what is searched."""

LIVE = ("uit_postgres", "uit_ogc", "uit_wfs")
"""Deliveries of the same layout that the factory fetches by itself."""

PER_LAYOUT = (*SAMPLE, "gws_trajecten", "jw315", "ddas", PARQUET, *LIVE)
EVERY = (*sorted(path.stem for path in SHIPPED.glob("*.yaml")), PARQUET, *LIVE)

CONTRACT = r"""
apiVersion: v3.1.0
kind: DataContract
id: kaarten
name: Kaarten
version: 1.0.0
status: active
customProperties:
  - {property: leverancier, value: Proef}
  - {property: layout, value: {formaat: parquet}}
  - {property: periode, value: {soort: maand, bestandsnaam: '^kaarten_(?P<jaar>\d{4})(?P<maand>\d{2})\.parquet$'}}
  - {property: correctie, value: vervangt_periode}
  - {property: max_foutaandeel, value: 0.5}
  - property: doelen
    value:
      kaarten:
        kolommen:
          persoon_pseudoniem: {bewerking: pseudoniem, van: bsn, soort: bsn}
          gemeente_code: {bewerking: gemeente, van: gemeente_code}
schema:
  - name: kaarten
    properties:
      - name: bsn
        logicalType: string
        required: true
        primaryKey: true
        primaryKeyPosition: 1
        classification: direct_identificerend
        quality: [{name: elfproef, type: custom, engine: datafabriek, implementation: elfproef, severity: error}]
      - {name: naam, logicalType: string, classification: direct_identificerend}
      - {name: geboortedatum, logicalType: date, classification: quasi_identificerend}
      - name: gemeente_code
        logicalType: string
        required: true
        classification: quasi_identificerend
        logicalTypeOptions: {pattern: '^\d{4}$'}
"""


# --- what is seeded ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Canary:
    """A value that occurs nowhere but in one column of one delivery; `secret` where it is no text but a key."""

    name: str
    value: str | bytes


@dataclass
class Seeds:
    """Hands out values that are like nothing else, for one kind of delivery and one sort of row."""

    kind: str
    number: int
    role: str
    given: list[Canary] = field(default_factory=list)

    def offers(self, column: Column, like: str, place: int) -> list[str]:
        """What may be put in a column, best first; `like` is what a good row has there, `place` which column it is."""
        mark = f"{self.number:02}{'gr'.index(self.role)}"
        letters = "".join(string.ascii_lowercase[int(digit)] for digit in mark)
        if column.type == "date" and "geboorte" in column.name:
            day = dt.date(1903, 1, 1) + dt.timedelta(int(mark))
            return [day.strftime(form) for form in ("%Y%m%d", "%Y-%m-%d", "%d-%m-%Y") if _is_like(day, form, like)]
        if column.type == "number" and column.privacy == "direct_identificerend":
            return [f"{like.split('.')[0]}.{7000 + int(mark)}"]
        if column.type != "string" and self.role == "g":
            return []
        if "bsn" in column.name:
            return [_bsn(f"76{mark}{place % 10}{place // 10}7")]
        if "postcode" in column.name:
            return [f"98{mark[:2]}{'QX'[int(mark[2])]}{string.ascii_uppercase[place % 26]}"]
        digits = (f"77{mark}{place:02}" + "3141592653589793" * 2)[: len(like)]
        letters += string.ascii_lowercase[place // 10] + string.ascii_lowercase[place % 10]
        room = column.width or 99
        text = f"Kanarie{letters}" if room > 11 else f"Q{letters}"[:room]
        return [text, *([digits] if len(like) > 7 else [])]

    def give(self, column: str, value: str) -> None:
        """Note that a value is in; what is too short to be like nothing else is not searched for."""
        if len(value) > 5:
            self.given.append(Canary(f"{self.kind}.{column} ({'goed' if self.role == 'g' else 'geweigerd'})", value))


def _is_like(day: dt.date, form: str, like: str) -> bool:
    return re.sub(r"\d", "9", day.strftime(form)) == re.sub(r"\d", "9", like)


def _bsn(first: str) -> str:
    """A BSN by the eleven-test from its first eight digits; the last of those moves on where no ninth fits."""
    for last in itertools.chain(first[7], string.digits):
        eight = first[:7] + last
        check = sum(int(digit) * weight for digit, weight in zip(eight, range(9, 1, -1), strict=True)) % 11
        if check < 10:
            return f"{eight}{check}"
    raise AssertionError("no BSN begins like this")


def _read(body: bytes, contract: Contract) -> pl.DataFrame:
    pieces = [piece.rows for piece in read(Source("bestand", body), contract)]
    return pl.concat(piece.with_columns(pl.col(contract.names).cast(pl.String)) for piece in pieces)


def _lines(body: bytes, contract: Contract, period: str | None) -> tuple[pl.DataFrame, dict[int, set[str]]]:
    """The rows of a file as text, and per line why it is refused."""
    rows = _read(body, contract)
    lenient, refused = replace(contract, max_refused=1.0), dict[int, set[str]]()
    with suppress(DeliveryError):  # a rule that may never be broken is told at the very end
        for part in judged(Source("bestand", body), lenient, period, Tally()):
            refused |= {line: set(why) for line, why, _ in part.refused.rows()}
    return rows.filter(~pl.col(LINE).is_in([line for line in refused if line not in rows[LINE]])), refused


def _with(row: pl.DataFrame, values: Mapping[str, str]) -> pl.DataFrame:
    return row.with_columns(pl.lit(value, pl.String).alias(name) for name, value in values.items())


def _is_of_its_record(contract: Contract, column: Column, first: pl.DataFrame) -> bool:
    """Whether two records may differ in it: what stands around the records is one for all of them."""
    two = [first[column.name].item() or "", "1"]
    try:
        body = render(pl.concat([first, _with(first, {column.name: two[1]})]), contract)
        found = _read(body, contract)
    except DeliveryError:
        return False
    return found[column.name].fill_null("").to_list() == two


def seed(contract: Contract, number: int, file: str, body: bytes) -> tuple[bytes, list[Canary]]:
    """A delivery in which a good row and a refused one are of nobody who exists."""
    period = contract.period.of_file(file)
    rows, refused = _lines(body, contract, period)
    clean = rows.filter(~pl.col(LINE).is_in(list(refused))).drop(LINE)
    first = clean.head(1)
    like = {name: value or "" for name, value in first.row(0, named=True).items()}
    own = [column for column in contract.columns if _is_of_its_record(contract, column, first)]
    places = {name: place for place, name in enumerate(contract.names)}
    shown = {source for purpose in contract.purposes.values() for each in purpose.columns
             if each.derivation == "kopie" for source in each.sources}  # fmt: skip

    good = Seeds(contract.name, number, "g")
    closed = [column for column in own if column.privacy != "open" and column.name not in shown]
    tried = [
        (column, value) for column in closed for value in good.offers(column, like[column.name], places[column.name])
    ]
    tried = [(column, value) for column, value in tried if column.privacy != "gevoelig"]
    alone = pl.concat([_with(first, {column.name: value}) for column, value in tried] or [first])
    seen, why = _lines(render(alone, contract), contract, period)
    values: dict[str, str] = {}
    for (column, value), line, found in zip(tried, seen[LINE], seen.rows(named=True), strict=False):
        broken = any(rule.startswith(f"{column.name}.") for rule in why.get(line, ()) if "sleutel" not in rule)
        if column.name not in values and not broken and found[column.name] == value:
            values[column.name] = value
    for name, value in values.items():
        good.give(name, value)

    bad = Seeds(contract.name, number, "r")
    spoiled: dict[str, str] = {}
    for column in own:
        for value in bad.offers(column, like[column.name], places[column.name])[:1]:
            spoiled[column.name] = value
            bad.give(column.name, value)
    both = pl.concat([_with(first, values), _with(first, spoiled or {own[0].name: "Kanarie"})])
    seeded = render(pl.concat([clean[1:], both]), contract)
    final, why = _lines(seeded, contract, period)
    assert len(why) == 1, f"{contract.name}: {why}"
    told = dict(zip(final[LINE], final.drop(LINE).rows(named=True), strict=True))
    assert told[next(iter(why))].items() >= spoiled.items()
    assert any(values.items() <= row.items() for row in told.values())
    return seeded, good.given + bad.given


# --- sources that are asked --------------------------------------------------------------------------------------

DSN = "PROEF_DSN"


def _in_database(server: Any, table: str, rows: Sequence[Mapping[str, str | None]]) -> None:
    """Give a database a table with these rows; what quotes there are stays in the values."""
    columns = list(rows[0])
    told = ", ".join(
        "(" + ", ".join("NULL" if row[name] is None else literal(str(row[name])) for name in columns) + ")"
        for row in rows
    )
    typed = ", ".join(f"{quoted(name)} text" for name in columns)
    server.execute(f"DROP TABLE IF EXISTS {table}; CREATE TABLE {table} ({typed}); INSERT INTO {table} VALUES {told}")


def _served(layers: Mapping[str, Sequence[Mapping[str, str | None]]]) -> Any:
    """A service that gives layers: `/ogc/…` as GeoJSON with `next` links, `/wfs` as GML by `startIndex`."""

    def answer(path: str, query: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        layer = query.get("typeNames") or path.split("/")[-2]
        begin = int(query.get("startIndex", query.get("cursor", 0)))
        size = int(query.get("count", query.get("limit", 0)))
        rows, total = layers[layer][begin : begin + size], len(layers[layer])
        if path == "/wfs":
            members = "".join(
                f'<wfs:member><p:{layer} gml:id="{layer}.{begin + n}">'
                + "".join(f"<p:{name}>{escape(value or '')}</p:{name}>" for name, value in row.items())
                + f"</p:{layer}></wfs:member>"
                for n, row in enumerate(rows)
            )
            spaces = 'xmlns:wfs="http://www.opengis.net/wfs/2.0" xmlns:gml="http://www.opengis.net/gml/3.2" xmlns:p="p"'
            told = f'<wfs:FeatureCollection {spaces} numberMatched="{total}">{members}</wfs:FeatureCollection>'
            return 200, told.encode(), {}
        features = [{"type": "Feature", "id": begin + n, "properties": row} for n, row in enumerate(rows)]
        page: dict[str, Any] = {"type": "FeatureCollection", "numberMatched": total, "features": features}
        if begin + size < total:
            page["links"] = [{"rel": "next", "href": f"{path}?f=json&limit={size}&cursor={begin + size}"}]
        return 200, json.dumps(page).encode(), {}

    return answer


def _source(kind: str, url: str) -> dict[str, Any]:
    if kind == "uit_postgres":
        return {"source": {"kind": "postgres", "dsn_env": DSN, "query": f"SELECT * FROM {kind}"}}
    place = {"uit_ogc": {"kind": "ogc", "url": f"{url}/ogc"}, "uit_wfs": {"kind": "wfs", "url": f"{url}/wfs"}}[kind]
    return {"source": place | {"layer": kind, "page_size": 7} | ({"output": "gml"} if kind == "uit_wfs" else {})}


# --- the factory and its run -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ran:
    """A factory after its run: all that was seeded, and a folder with every temporary file there was."""

    folder: Path
    settings: Settings
    canaries: list[Canary]
    kinds: Sequence[str]
    screen: bytes
    kept: Path


def _bodies(kinds: Sequence[str], scale: float, folder: Path) -> Iterator[tuple[str, str, bytes]]:
    write_deliveries(folder, scale=scale, kinds=[kind for kind in SAMPLE if kind in kinds])
    for kind in sorted(folder.iterdir()):
        for path in sorted(kind.iterdir()):
            yield kind.name, path.name, path.read_bytes()
    people = population.generate(518_1916, 0.05)
    for kind in (kind for kind in kinds if kind in MAKERS):
        for file, body, _, _ in list(MAKERS[kind](people, 518_1916))[:2]:
            yield kind, file, body


def _prepare(
    folder: Path, kinds: Sequence[str], scale: float, database: Any, service: Any
) -> tuple[Settings, list[Canary]]:
    (folder / "contracts").mkdir()
    own = [kind for kind in kinds if kind in (PARQUET, *LIVE)]
    for kind in own:
        (folder / "contracts" / f"{kind}.yaml").write_text(CONTRACT.replace(PARQUET, kind))
    policy = yaml.safe_load((SHIPPED.parents[1] / "datafabriek/sample/policy/doelen.yaml").read_text())
    terms = {"bewaartermijn_maanden": 24, "vanaf": "ontvangst"}
    for kind in own:
        policy["doelen"][kind] = {
            "omschrijving": "Proef", "grondslag": "Proef", "verwerkingsactiviteit": "P-1", "leveringen": [kind], **terms
        }  # fmt: skip
        policy["leveringen"][kind] = terms
    shutil.copytree(SHIPPED.parents[1] / "datafabriek/sample/policy", folder / "policy")
    (folder / "policy" / "doelen.yaml").write_text(yaml.safe_dump(policy))
    # of so few inhabitants hardly a buurt has a count that may be shown: what goes out is searched as wijken
    norms = folder / "policy" / "normen.yaml"
    told = yaml.safe_load(norms.read_text()) | {"laagste_niveau": dict.fromkeys(PERSONS, "WK")}
    norms.write_text(yaml.safe_dump(told | {"aanvaller": {"vermoedt_klein": False}}, allow_unicode=True))
    told = {
        "name": "Kanarie-proef", "sample": True, "home": "home",
        "deliveries": {kind: _source(kind, service.url) if kind in LIVE else None for kind in kinds},
        "region": {"gemeenten": ["GM0518", "GM1916"], "provincie": "PV28"}, "cbs": {"kwb_years": [2020]},
        "resources": {"memory_limit": MEMORY if scale == SPILLS else ENOUGH, "threads": 1},
    }  # fmt: skip
    (folder / "factory.yaml").write_text(yaml.safe_dump(told))
    settings = load_settings(folder / "factory.yaml")
    settings.paths.create()
    canaries: list[Canary] = []
    made = [*_bodies(kinds, scale, folder / "bron")]
    made += [(kind, f"{kind}_202003.parquet", _parquet_of(settings, kind)) for kind in own]
    shutil.rmtree(folder / "bron")
    layers: dict[str, list[dict[str, Any]]] = {}
    for number, (kind, file, body) in enumerate(made):
        # of a kind with many files the first two; the sample would make anew what is not there at all
        earlier = [each[0] for each in made[:number]].count(kind)
        contract = load(kind, settings.contract_folders)
        seeded, given = seed(contract, number, file, body) if earlier < 2 else (body, [])
        canaries += given
        if kind in LIVE:
            layers[kind] = _read(seeded, contract).drop(LINE).to_dicts()
            continue
        # suppliers name files after persons, where the agreed name leaves room for it
        name = {"gws_trajecten": "SZDOS .*", "jw315": r"_\w{1,20}\.xml"}.get(kind)
        if name:
            word = f"Kanariebestand{kind[:3]}{number}"
            file = re.sub(r"SZDOS .*\.", f"SZDOS {word}.", file) if kind != "jw315" else f"{file[:14]}_{word}.xml"
            canaries.append(Canary(f"{kind}, naam van het bestand", word))
        target = settings.paths.inbox / kind / file
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(seeded)
    service.answer = _served(layers)
    if database is not None:
        _in_database(database, "uit_postgres", layers["uit_postgres"])
        canaries.append(Canary("wachtwoord van de databank", database.password))
    stray = Canary("bedrijven, naam van een geweigerd bestand", "Kanariezwerver")
    (settings.paths.inbox / "bedrijven" / f"{stray.value} {_bsn('76999999')}.csv").write_bytes(b"geen bedrijven")
    return settings, [*canaries, stray, Canary("bedrijven, nummer in die naam", _bsn("76999999"))]


def _parquet_of(settings: Settings, kind: str) -> bytes:
    numbers = [_bsn(f"9998{n:04}") for n in range(40)]
    frame = pl.DataFrame({"bsn": numbers, "naam": "Jansen", "geboortedatum": "19700101", "gemeente_code": "0518"})
    return render(frame, load(kind, settings.contract_folders))


@contextmanager
def _keeping(folders: Sequence[Path], kept: Path) -> Iterator[None]:
    """Keep every file that appears in these folders, however short it lives: a link of our own outlives it."""
    done = threading.Event()
    kept.mkdir()
    known: set[int] = set()

    def look() -> None:
        for folder in folders:
            for root, _, files in os.walk(folder):
                for name in files:
                    with suppress(OSError):
                        number = (Path(root) / name).stat().st_ino
                        if number not in known:
                            os.link(Path(root) / name, kept / f"{number}-{name}")
                            known.add(number)

    def watch() -> None:
        while not done.is_set():
            look()
            time.sleep(0.002)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _run(folder: Path, kinds: Sequence[str], scale: float, database: Any, service: Any) -> Ran:
    kinds = [kind for kind in kinds if kind != "uit_postgres" or database is not None]
    settings, canaries = _prepare(folder, kinds, scale, database, service)
    temporary = folder / "tijdelijk"
    temporary.mkdir()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DATAFABRIEK_")}
    clean |= {DSN: database.dsn} if database is not None else {}
    program = Path(sys.executable).with_name("datafabriek")
    with _keeping([settings.paths.temp, temporary, folder / ".tmp"], folder / "bewaard"):
        done = subprocess.run(
            [program, "run"], cwd=folder, env=clean | {"HOME": str(folder), "TMPDIR": str(temporary)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=900,
        )  # fmt: skip
    (folder / "scherm").write_bytes(done.stdout)
    assert done.returncode == 0, done.stdout.decode()[-3000:]
    key = ensure_key(settings.paths)
    secrets = {"hoofdsleutel": key.secret, "kluissleutel": key.vault, "originelen": key.originals.encode()}
    purposes = {purpose for kind in kinds for purpose in load(kind, settings.contract_folders).purposes}
    secrets |= {f"sleutel van {purpose}": key.purpose(purpose) for purpose in purposes}
    canaries += [Canary(name, value) for name, value in secrets.items()]
    return Ran(folder, settings, canaries, kinds, done.stdout, folder / "bewaard")


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((PER_LAYOUT, 0.01), id="a kind per layout"),
        pytest.param((EVERY, SPILLS), id="every kind, spilling", marks=pytest.mark.slow),
    ],
)
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, lasting_service: Any) -> Ran:
    """A factory after a run of `datafabriek run`, with canaries in every delivery."""
    # without a server all else is still tested; that there was one is a test of its own, which then skips
    is_there = any(Path("/usr/lib/postgresql").glob("*/bin"))
    database = request.getfixturevalue("postgres") if is_there else None
    return _run(tmp_path_factory.mktemp("kanaries"), *request.param, database, lasting_service)


# --- the search --------------------------------------------------------------------------------------------------


def views(place: str, data: bytes, depth: int = 0) -> Iterator[tuple[str, bytes]]:
    """Bytes as they are, and as whatever they turn out to be packed in."""
    yield place, data
    if depth > 4:
        return
    unpack: dict[bytes, Any] = {b"\x1f\x8b": gzip.decompress, b"BZh": bz2.decompress, b"\xfd7zXZ": lzma.decompress}
    unpack |= dict.fromkeys((b"x\x01", b"x^", b"x\x9c", b"x\xda"), zlib.decompress)
    for first, how in unpack.items():
        if data.startswith(first):
            with suppress(Exception):
                yield from views(f"{place}, uitgepakt", how(data), depth + 1)
    if data.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for part in archive.namelist():
                yield from views(f"{place}!{part}", archive.read(part), depth + 1)
    if data.startswith(b"PAR1"):
        with duckdb.connect(":memory:") as con:
            con.register("inhoud", pq.read_table(pa.BufferReader(data)))
            told = con.execute("SELECT CAST(COLUMNS(*) AS VARCHAR) FROM inhoud").pl()
        yield from ((f"{place}, kolom {name}", _column(told[name])) for name in told.columns)
    if data.startswith(b"SQLite format 3"):
        yield from _sqlite(place, data, depth)


def _column(values: pl.Series) -> bytes:
    return "\n".join(values.drop_nulls().unique().cast(pl.String).to_list()).encode()


def _sqlite(place: str, data: bytes, depth: int) -> Iterator[tuple[str, bytes]]:
    with sqlite3.connect(":memory:") as con:
        # the pages of a database in WAL mode say so in two bytes, and are read as any other's here
        con.deserialize(data[:18] + b"\x01\x01" + data[20:])
        for (table,) in con.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in con.execute(f"SELECT * FROM {quoted(table)}"):
                for cell in row:
                    if isinstance(cell, bytes):
                        yield from views(f"{place}, tabel {table}", cell, depth + 1)
                    elif isinstance(cell, str | int):
                        yield f"{place}, tabel {table}", str(cell).encode()


def _duckdb(path: Path) -> Iterator[tuple[str, bytes]]:
    """Every column of every table and view of a database, decoded, and its own words: definitions and comments."""
    with duckdb.connect(":memory:") as con:
        con.execute(f"ATTACH {literal(str(path))} AS {quoted(path.stem)} (READ_ONLY)")
        con.execute(f"USE {quoted(path.stem)}")
        own = "database_name = current_database()"
        query = f"""SELECT schema_name, table_name FROM duckdb_tables() WHERE {own}
            UNION ALL SELECT schema_name, view_name FROM duckdb_views() WHERE {own} AND NOT internal"""
        for schema, table in con.execute(query).fetchall():
            columns = [row[0] for row in con.execute(f"DESCRIBE {quoted(schema)}.{quoted(table)}").fetchall()]
            for column in columns:
                told = f"SELECT DISTINCT {quoted(column)}::VARCHAR AS v FROM {quoted(schema)}.{quoted(table)}"
                yield f"{path.name}, {schema}.{table}.{column}", _column(con.execute(told).pl()["v"])
        for kind in ("tables", "views", "columns"):
            words = con.execute(f"SELECT * FROM duckdb_{kind}() WHERE {own}").fetchall()
            yield f"{path.name}, duckdb_{kind}", repr(words).encode()


def everything(root: Path, but: Sequence[Path] = ()) -> Iterator[tuple[str, bytes]]:
    """All that a folder holds, taken apart; names of files and ends of links too."""
    for path in sorted(root.rglob("*")):
        if any(path.is_relative_to(other) for other in but):
            continue
        place = str(path.relative_to(root))
        yield f"naam van {path.parent.name}/…", place.encode("utf-8", "surrogateescape")
        if path.is_symlink():
            yield f"{place}, verwijzing", str(path.readlink()).encode()
        elif path.is_file():
            data = path.read_bytes()
            yield from views(place, data)
            if data[8:12] == b"DUCK":
                with suppress(duckdb.Error):  # an encrypted one does not open: that is as it should be
                    yield from ((f"{place}: {part}", told) for part, told in _duckdb(path))


def spellings(value: str | bytes) -> Iterator[tuple[str, bytes]]:
    """How a value may be written: plainly, apart, reversed, in other encodings, and hashed without a key."""
    words = {value} if isinstance(value, str) else set()
    if isinstance(value, bytes):
        yield "rauw", value
        yield "hex", value.hex().encode()
        yield from _base64(value)
        return
    if re.fullmatch(r"\d{9}", value):
        for cuts in ((3, 6), (4, 6), (2, 5), (4, 7), (2, 4, 6, 8)):
            parts = [value[begin:end] for begin, end in itertools.pairwise((0, *cuts, 9))]
            words |= {mark.join(parts) for mark in (" ", ".", "-")}
    day = re.fullmatch(r"(\d{4})-?(\d\d)-?(\d\d)", value) or re.fullmatch(r"(?P<d>\d\d)-(\d\d)-(\d{4})", value)
    if day:
        year, month, number = day.groups() if len(day[1]) == 4 else day.groups()[::-1]
        for mark in ("", "-", "/", ".", " "):
            words |= {mark.join((year, month, number)), mark.join((number, month, year))}
    if re.fullmatch(r"\d{4}[A-Z]{2}", value):
        words.add(f"{value[:4]} {value[4:]}")
    for word in words:
        for encoding in ("utf-8", "cp1252", "utf-16-le", "utf-16-be"):
            yield encoding, word.encode(encoding)
        yield "JSON", word.encode("ascii", "backslashreplace").replace(b"\\x", b"\\u00")
        yield "HTML", word.encode("ascii", "xmlcharrefreplace")
        yield "URL", quote(word).encode()
        yield "hex", word.encode().hex().encode()
        yield from _base64(word.encode())
    for word in {value, value.upper(), value.lower()}:
        for kind in ("md5", "sha1", "sha256", "sha512", "blake2b"):
            digest = hashlib.new(kind, word.encode()).digest()
            yield kind, digest
            yield f"{kind} hex", digest.hex().encode()
            yield f"{kind} base64", base64.b64encode(digest).rstrip(b"=")
            yield f"{kind} base64url", base64.urlsafe_b64encode(digest).rstrip(b"=")


def _base64(data: bytes) -> Iterator[tuple[str, bytes]]:
    """As it stands in base64 of something longer: three ways, by where it begins."""
    for shift in range(3):
        told = base64.b64encode(b"\0" * shift + data)
        inner = told[(0, 2, 3)[shift] : len(told) - (0, 3, 2)[(len(data) + shift) % 3]]
        if len(inner) > 10:
            yield "base64", inner


class Net:
    """Finds canaries in bytes, whatever the case of their letters."""

    def __init__(self, canaries: Sequence[Canary]) -> None:
        self._owners: dict[str, tuple[str, str]] = {}
        for canary in canaries:
            for how, data in spellings(canary.value):
                self._owners.setdefault(data.lower().decode("latin-1"), (canary.name, how))
        self._patterns = pl.Series([list(self._owners)])

    def catch(self, found: Iterator[tuple[str, bytes]]) -> list[tuple[str, str, str]]:
        """Which canaries are where, and how they are spelled: place, canary, spelling."""
        caught, batch, size = list[tuple[str, str, str]](), list[tuple[str, bytes]](), 0
        for place, data in found:
            batch.append((place, data))
            size += len(data)
            if size > 64 << 20 or len(batch) > 100_000:
                caught += self._look(batch)
                batch, size = [], 0
        return sorted({*caught, *self._look(batch)})

    def _look(self, batch: Sequence[tuple[str, bytes]]) -> Iterator[tuple[str, str, str]]:
        # in bytes only ASCII has capitals: those of Latin-1 would change hashes
        text = pl.Series([data.lower().decode("latin-1") for _, data in batch], dtype=pl.String)
        hits = text.str.contains_any(self._patterns).arg_true()
        held = text.gather(hits)
        found = held.str.extract_many(self._patterns, overlapping=True).list.unique()
        for index, whole, patterns in zip(hits, held, found, strict=True):
            for pattern in patterns:
                if any(not _within_a_hash(whole, place.start(), pattern) for place in _places(pattern, whole)):
                    yield batch[index][0], *self._owners[pattern]


def _places(pattern: str, text: str) -> Iterator[re.Match[str]]:
    return re.finditer(re.escape(pattern), text)


def _within_a_hash(text: str, place: int, pattern: str) -> bool:
    """Digits that stand in a long run of hex digits by chance: part of a pseudonym or a fingerprint."""
    if not pattern.isdigit() or len(pattern) > 12:
        return False
    begin, end = place, place + len(pattern)
    while begin and text[begin - 1] in "0123456789abcdef-":
        begin -= 1
    while end < len(text) and text[end] in "0123456789abcdef-":
        end += 1
    return end - begin >= 32 and bool(re.search("[a-f]", text[begin:end]))


def _outside(ran: Ran) -> list[Path]:
    home = ran.settings.paths
    return [home.vault, home.keys]


# --- the tests ---------------------------------------------------------------------------------------------------


def test_every_kind_has_canaries_that_came_in(ran: Ran) -> None:
    kinds = {canary.name.split(".")[0] for canary in ran.canaries}
    assert kinds >= set(ran.kinds) - {"cbs_maatwerk", "cbs_uitvoer", "verkeerstellingen"}  # these hold no one
    with vault(ran.settings.paths, ran.settings.resources, ensure_key(ran.settings.paths).vault) as con:
        for kind in ran.kinds:
            assert con.execute(f"SELECT count(*) FROM vault.quarantaine.{kind}").fetchone() >= (1,), kind
            for canary in (each for each in ran.canaries if each.name.startswith(f"{kind}.")):
                column = canary.name.split(".")[1].split(" ")[0]
                closed = load(kind, ran.settings.contract_folders)[column].privacy
                if canary.name.endswith("(goed)") and not closed.startswith("quasi"):
                    held = f"lower({quoted(column)}::VARCHAR)"
                    query = f"SELECT count(*) FROM vault.aanvoer.{kind} WHERE contains({held}, ?)"
                    # a declared repair may have made capitals of it
                    assert con.execute(query, [str(canary.value).lower()]).fetchone() == (1,), canary
                elif canary.name.endswith("(geweigerd)"):
                    query = f"SELECT count(*) FROM vault.quarantaine.{kind} WHERE contains(record, ?)"
                    assert con.execute(query, [canary.value]).fetchone() == (1,), canary


def test_canaries_came_from_services_that_were_asked(ran: Ran, lasting_service: Any) -> None:
    """Good rows and refused ones, over more pages than one."""
    asked = [path for path in lasting_service.asked if "/ogc/" in path or path.startswith("/wfs")]
    assert len([path for path in asked if "uit_ogc" in path]) > 3
    assert len([path for path in asked if "uit_wfs" in path]) > 3
    for kind in ("uit_ogc", "uit_wfs"):
        assert {canary.name.split(" ")[1] for canary in ran.canaries if canary.name.startswith(f"{kind}.")} == ROLES


@pytest.mark.postgres
def test_canaries_came_from_a_database_that_was_asked(ran: Ran, postgres: Any) -> None:
    seen = {canary.name.split(" ")[1] for canary in ran.canaries if canary.name.startswith("uit_postgres.")}
    assert seen == ROLES
    assert postgres.password in {canary.value for canary in ran.canaries}


ROLES = {"(goed)", "(geweigerd)"}


def test_the_run_spilled_and_left_nothing_behind(ran: Ran) -> None:
    spilled = [path for path in ran.kept.iterdir() if "duckdb_temp" in path.name and path.stat().st_size]
    assert spilled or len(ran.kinds) < len(EVERY), "the run has to spill, or its spill files prove nothing"
    assert not [path for path in ran.settings.paths.temp.rglob("*") if path.is_file()]
    assert not [path for path in ran.settings.paths.inbox.rglob("*") if path.is_file()]


def test_figures_about_persons_went_out(ran: Ran) -> None:
    """What goes to others has to be there to be searched."""
    for audience in ("intern", "open"):
        published = {path.stem for path in (ran.settings.paths.published / audience).glob("*.csv")}
        assert published >= set(PERSONS), audience


def test_no_canary_is_found_outside_the_vault(ran: Ran) -> None:
    assert Net(ran.canaries).catch(everything(ran.folder, _outside(ran))) == []


def test_no_canary_is_found_in_the_bytes_of_the_vault(ran: Ran) -> None:
    secret = [each for each in ran.canaries if "sleutel" not in each.name]
    stored = [path for path in ran.settings.paths.vault.rglob("*") if path.is_file()]
    assert ran.settings.paths.vault_database in stored
    assert Net(secret).catch(view for path in stored for view in views(path.name, path.read_bytes())) == []


# --- the eyes of the search ---------------------------------------------------------------------------------------

Plant = Callable[[Home, str], None]


def _a_dagster_run(home: Home, does: Callable[[Any], None]) -> None:
    # Dagster wants the context named so, and without a type that it would have to look up
    op = dg.op(name="stap", out=dg.Out(dg.Nothing))(lambda context: does(context))
    job = dg.GraphDefinition(name="lek", node_defs=[op]).to_job()
    with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
        job.execute_in_process(instance=instance, raise_on_error=False)


def _exception(home: Home, word: str) -> None:
    def step(_context: Any) -> None:
        raise ValueError(f"invalid literal for int() with base 10: {word!r}")

    _a_dagster_run(home, step)


def _log_line(home: Home, word: str) -> None:
    _a_dagster_run(home, lambda context: context.log.info(f"regel 12 heeft {word}"))


def _metadata(home: Home, word: str) -> None:
    def step(context: Any) -> None:
        context.log_event(dg.AssetMaterialization("raw_zzp/brp", metadata={"voorbeeld": word}))

    _a_dagster_run(home, step)


def _spill(home: Home, word: str) -> None:
    config = {"temp_directory": str(home.temp / "open"), "memory_limit": "24MB", "threads": 1}
    with duckdb.connect(":memory:", config=config) as con:
        con.execute("CREATE TABLE t AS SELECT ? || md5(i::VARCHAR) AS v FROM range(400000) t(i) ORDER BY v", [word])
        shutil.copytree(home.temp / "open", home.temp / "gelekt")


def _in_warehouse(home: Home, statement: str) -> None:
    with duckdb.connect(str(home.warehouse)) as con:
        con.execute(statement)


def _in_xlsx(path: Path, word: str) -> None:
    with xlsxwriter.Workbook(path) as book:
        book.add_worksheet().write_row(0, 0, ["naam", word])


def _in_sqlite(home: Home, word: str) -> None:
    with sqlite3.connect(home.ledger) as con:
        con.execute("CREATE TABLE lek (momentopname BLOB)")
        con.execute("INSERT INTO lek VALUES (?)", [zlib.compress(f"{{'run': '{word}'}}".encode() * 9)])


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _hashed(kind: str, word: str) -> bytes:
    return hashlib.new(kind, word.encode()).digest()


PLANTS: Mapping[str, tuple[str, str, Plant]] = {
    "a number that a model selects": (_bsn("74000001"), "marts.lek.nummer", lambda home, word: _in_warehouse(
        home, f"CREATE TABLE marts.lek AS SELECT {word} + i - 500 AS nummer FROM range(1000) t(i)")),
    "the definition of a view": ("Lekkendewater", "duckdb_views", lambda home, word: _in_warehouse(
        home, f"CREATE VIEW staging.lek AS SELECT 1 AS een WHERE '{word}' = ''")),
    "a comment on a column": ("Commentaartje", "duckdb_columns", lambda home, word: _in_warehouse(
        home, f"COMMENT ON COLUMN raw_leveringen.stand.status IS 'zoals bij {word}'")),
    "failing rows that a check kept": ("Toetsenaar", "toets__audit.fout.naam", lambda home, word: _in_warehouse(
        home, f"CREATE SCHEMA toets__audit; CREATE TABLE toets__audit.fout AS SELECT '{word}' AS naam")),
    "the text of an exception": (_bsn("75000002"), "dagster/", _exception),
    "a log line of a step": ("Logregelsma", "dagster/", _log_line),
    "metadata of a materialisation": (_bsn("75000003"), "dagster/", _metadata),
    "a line of a log file, in capitals": ("Hoofdlettermans", "logs/run.log", lambda home, word: _write(
        home.logs / "run.log", f"regel 12: {word.upper()}".encode())),
    "a log file in UTF-16": ("Zestienbitser", "logs/windows.log", lambda home, word: _write(
        home.logs / "windows.log", f"regel 12: {word}".encode("utf-16"))),
    "a Data Doc": ("Zo\u00ebmans", "reports/gx/validatie.html", lambda home, word: _write(
        home.reports / "gx" / "validatie.html", f"<td>{word}</td>".encode("ascii", "xmlcharrefreplace"))),
    "the results of a validation": ("Ren\u00e9entje", "reports/gx/validatie.json", lambda home, word: _write(
        home.reports / "gx" / "validatie.json", json.dumps({"partial_unexpected_list": [word]}).encode())),
    "a spill file in plain": ("Gemorstema", "tmp/gelekt/duckdb_temp", _spill),
    "a compressed CSV": ("Gezipterman", "export.csv.gz, uitgepakt", lambda home, word: _write(
        home.reports / "export.csv.gz", gzip.compress(f"naam;{word}\n".encode() * 99))),
    "a birth date, reversed, in Parquet": ("19650229", "gezin.parquet, kolom geboren", lambda home, word: pl.DataFrame(
        {"geboren": [f"{word[6:]}/{word[4:6]}/{word[:4]}"] * 9}).write_parquet(home.reports / "gezin.parquet")),
    "a cell of a workbook": ("Cellenbroek", "lijst.xlsx!", lambda home, word: _in_xlsx(
        home.reports / "lijst.xlsx", word)),
    "a file in an archive in an archive": ("Matroesjka", "bundel.zip!", lambda home, word: _in_zip(
        home.reports / "bundel.zip", gzip.compress(word.encode()))),
    "a compressed cell of the ledger": ("Kasboekhouder", "ledger.sqlite, tabel lek", _in_sqlite),
    "a hash as hex": (_bsn("75000004"), "koppel.csv", lambda home, word: _write(
        home.reports / "koppel.csv", _hashed("sha256", word).hex().encode())),
    "a hash as bytes": (_bsn("75000005"), "koppel.bin", lambda home, word: _write(
        home.reports / "koppel.bin", os.urandom(64) + _hashed("md5", word) + os.urandom(64))),
    "a hash of a name, in base64": ("Versluierd", "koppel.json", lambda home, word: _write(
        home.reports / "koppel.json", base64.b64encode(_hashed("sha1", word.lower())))),
    "a number in groups": (_bsn("75000006"), "brief.txt", lambda home, word: _write(
        home.reports / "brief.txt", f"{word[:4]}.{word[4:6]}.{word[6:]}".encode())),
    "base64 of something longer": ("Omhuldema", "post.eml", lambda home, word: _write(
        home.reports / "post.eml", base64.b64encode(f"Geachte heer {word}, dank".encode()))),
    "the name of a file": ("Naamgever", "naam van", lambda home, word: _write(home.reports / f"{word}.html", b"")),
    "the end of a link": ("Schakelaar", "verwijzing", lambda home, word: (home.reports / "laatste").symlink_to(word)),
}  # fmt: skip
"""Per sort of leak: the value, where it is to be found, and how it gets there."""


def test_every_sort_of_leak_is_caught(ran: Ran, tmp_path: Path) -> None:
    copy = tmp_path / "fabriek"
    shutil.copytree(ran.folder, copy, symlinks=True, ignore=shutil.ignore_patterns("vault", "keys", "bewaard"))
    home = Home(copy / "home", Roots())
    net = Net([*ran.canaries, *(Canary(name, word) for name, (word, _, _) in PLANTS.items())])
    assert net.catch(everything(copy)) == []
    for word, _, plant in PLANTS.values():
        plant(home, word)
    caught = net.catch(everything(copy))
    assert {name for _, name, _ in caught} == set(PLANTS)
    for name, (_, place, _) in PLANTS.items():
        assert [where for where, whose, _ in caught if whose == name and place in where], (name, caught)


def _in_zip(path: Path, data: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inhoud.gz", data)
