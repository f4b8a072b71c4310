"""Files that mean harm are refused with a message that holds no value, or taken for the plain text they are."""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assets.deliveries import xlsx
from assets.deliveries.checking import check
from assets.deliveries.delivered import DeliveryError
from assets.deliveries.intake import deliver, take_inbox
from assets.deliveries.judging import Tally, judged
from assets.deliveries.layouts import Source
from datafabriek.config import Settings
from datafabriek.warehouse import vault
from quality.contracts.model import Contract, Layout, load
from quality.formulas import neutral, neutral_sql
from quality.privacy.keys import ensure_key

BRP = load("brp")
HEAD = ";".join(BRP.names)


def _row(**values: str) -> str:
    given = {"bsn": "999990019", "gemeente_code": "0518", "datum_aanvang_adres": "20200115"} | values
    return ";".join(given.get(name, "") for name in BRP.names)


def _told(path: Path) -> str:
    """What is said of a file, refused or not."""
    try:
        outcome = check(path, BRP)
    except DeliveryError as error:
        return str(error)
    assert outcome.delivered == outcome.accepted + outcome.refused
    return f"{outcome.reason}"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ((";".join(f"kolom{at}" for at in range(100_000)) + "\n").encode(), "header line is longer"),
        (f"{HEAD}\n{_row(geslachtsnaam='x' * 10_000_000)}\n".encode(), "None|refused|max"),
        (f"{HEAD}\n{_row(geslachtsnaam='a')}\0\n".encode(), "NUL byte"),
        (HEAD.encode() + b"\n" + _row(geslachtsnaam="\u00e9").encode("cp1252") + b"\n", "not utf-8"),
        (b"PK\x03\x04" + bytes(100), "ZIP"),
        (b"\x1f\x8b" + bytes(100), "gzip"),
        (f"{HEAD}\n{_row(geslachtsnaam=chr(34) + 'open')}\n{(_row() + chr(10)) * 100}".encode(), "double quote"),
    ],
    ids=["100,000 columns", "10 MB field", "NUL", "mixed encodings", "zip", "gzip", "open quote"],
)
def test_hostile_files_are_refused_with_a_clear_message(tmp_path: Path, data: bytes, told: str) -> None:
    path = tmp_path / "brp_20201231.csv"
    path.write_bytes(data)
    said = _told(path)
    assert any(part in said for part in told.split("|")), said
    assert len(said) < 1_000
    assert "999990019" not in said


@pytest.mark.parametrize("value", ["'; DROP TABLE vault.aanvoer.brp; --", "=cmd|' /C calc'!A0", "../../etc/passwd"])
def test_sql_formulas_and_paths_are_plain_text(tmp_path: Path, value: str) -> None:
    path = tmp_path / "brp_20201231.csv"
    path.write_text(f"{HEAD}\n" + "\n".join(_row(geslachtsnaam=f'"{value}"') for _ in range(1)) + "\n")
    outcome = check(path, BRP)
    assert outcome.delivered == 1
    assert value not in str(outcome.as_json())


# --- every layout, under a bound on memory ------------------------------------------------------------------------

SECRET = "Zeldzaamheid999990019"
MOST_MB = 900
"""Peak resident memory of a process that meets all of these files one after the other (its imports take 250)."""


def _as(layout: str) -> Contract:
    columns = tuple(replace(column, physical_name="") for column in load("bedrijven").columns)
    return replace(load("bedrijven"), layout=Layout(layout, ";", "utf-8", {"records": []}), columns=columns)


PARQUET, JSON = _as("parquet"), _as("json")
SRG, GWS, JW315 = load("srg"), load("gws_trajecten"), load("jw315")


def _sheet(xml: str, **parts: str) -> bytes:
    """A workbook of one sheet, written by hand."""
    space = "http://schemas.openxmlformats.org"
    files = {
        "[Content_Types].xml": f'<Types xmlns="{space}/package/2006/content-types"><Default Extension="rels" '
        'ContentType="'
        'application/vnd.openxmlformats-package.relationships+xml"/><Override PartName="/xl/workbook.xml" ContentType="'
        'application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{space}/package/2006/relationships"><Relationship Id="r1" Type="{space}/'
        'officeDocument/2006/relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{space}/spreadsheetml/2006/main" xmlns:r="{space}/officeDocument/2006/'
        'relationships"><sheets><sheet name="a" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{space}/package/2006/relationships"><Relationship '
        f'Id="r1" Type="{space}/officeDocument/2006/relationships/worksheet" '
        'Target="worksheets/sheet1.xml"/></Relationships>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{space}/spreadsheetml/2006/main">{xml}</worksheet>',
    }  # fmt: skip
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in {**files, **parts}.items():
            archive.writestr(name, text)
    return out.getvalue()


def _cells(*cells: str) -> str:
    told = "".join(f'<c t="inlineStr"><is><t>{cell}</t></is></c>' for cell in cells)
    return f"<sheetData><row>{told}</row></sheetData>"


def _parquet(**columns: pa.Array) -> bytes:
    height = max((len(column) for column in columns.values()), default=1)
    held = {name: columns.get(name, pa.nulls(height, pa.string())) for name in PARQUET.names} | columns
    out = io.BytesIO()
    pq.write_table(pa.table(held), out)
    return out.getvalue()


def _repeated(value: str | bytes, times: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array([0] * times, pa.int32()), pa.array([value]))


def _message(inside: str = "", before: str = "") -> bytes:
    space = "http://www.istandaarden.nl/ijw/3_2/jw315/schema"
    return f'{before}<Bericht xmlns="{space}"><Header>{inside}<x>{SECRET}</x></Header></Bericht>'.encode()


LONG = "x" * 10_000_000
SQL = 'x"; DROP TABLE vault.aanvoer.brp; --'

ATTACKS: dict[str, tuple[Contract, Callable[[], bytes], str]] = {
    "fixed width: a line of 10 MB": (SRG, lambda: f"{SECRET}{LONG}\r\n".encode(), "1 of 1 rows are refused"),
    "fixed width: no line end in 40 MB": (SRG, lambda: b"9" * (40 << 20), "is this the agreed file"),
    "fixed width: NUL": (SRG, lambda: f"{SECRET}\0\r\n".encode(), "NUL byte"),
    "fixed width: UTF-16": (SRG, lambda: f"{SECRET}\r\n".encode("utf-16"), "UTF-16"),
    "fixed width: two encodings": (SRG, lambda: f"{SECRET}\r\n".encode() + b"\x81\x8d\r\n", "not cp1252"),
    "fixed width: gzip": (SRG, lambda: b"\x1f\x8b" + bytes(99), "gzip"),
    "delimited: 100,000 columns": (BRP, lambda: ";".join(map(str, range(100_000))).encode(), "longer than 64 kB"),
    "delimited: SQL in a column's name": (BRP, lambda: f"{HEAD};{SQL}\n".encode(), "not in the contract"),
    "delimited: a column twice": (BRP, lambda: f"{HEAD};bsn\n".encode(), "stands there twice"),
    "delimited: 2 million delimiters": (BRP, lambda: f"{HEAD}\n{';' * 2_000_000}\n".encode(), "1 of 1 rows"),
    "delimited: a number of a million digits": (
        BRP, lambda: f"{HEAD}\n{_row(huisnummer='9' * 1_000_000)}\n".encode(), "1 of 1 rows"),
    "workbook: 16,000 columns": (
        GWS, lambda: _sheet(_cells(*map(str, range(16_000)))), "columns|not in the contract|no header"),
    "workbook: a cell of 10 MB": (GWS, lambda: _sheet(_cells(LONG)), "no header|larger|cannot be read"),
    "workbook: entities": (
        GWS, lambda: _sheet("<sheetData/>", **{"xl/sharedStrings.xml": '<!DOCTYPE a [<!ENTITY b "c">]>'}),
        "document type"),
    "workbook: paths that climb": (
        GWS, lambda: _sheet(_cells("a"), **{"../../../../tmp/kwaad": SECRET, "/etc/kwaad": SECRET}),
        "no header"),
    "workbook: a bomb": (
        GWS, lambda: _sheet("<sheetData/>", **{"xl/media/a.png": "0" * (40 << 20)}), "unpacks to more"),
    "XML: billion laughs": (JW315, lambda: _message(before=_laughs()), "document type"),
    "XML: a file of the system": (
        JW315, lambda: _message("&x;", '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'), "document type"),
    "XML: deep": (JW315, lambda: _message("<a>" * 100_000), "not well-formed"),
    "XML: a value of 10 MB": (JW315, lambda: _message(f"<a>{LONG}xx</a>"), "holds no rows|larger than 10 MB"),
    "XML: 100,000 attributes": (
        JW315, lambda: _message("<a " + " ".join(f"a{n}=''" for n in range(100_000)) + "/>"), "holds no rows|not well"),
    "JSON: deep": (JSON, lambda: b"[" * 1_000_000, "nested deeper"),
    "JSON: 100,000 keys": (JSON, lambda: json.dumps([{f"k{n}": n for n in range(100_000)}]).encode(), "and 99995 more"),
    "JSON: a key twice": (JSON, lambda: b'[{"kvknummer": "1", "kvknummer": "2"}]', "1 of 1 rows"),
    "JSON: a number of a million digits": (
        JSON, lambda: b'[{"huisnummer": ' + b"9" * 1_000_000 + b"}]", "1 of 1 rows"),
    "JSON: 1e400": (JSON, lambda: b'[{"huisnummer": 1e400}]', "1 of 1 rows"),
    "JSON: NUL in an escape": (JSON, lambda: b'[{"kvknummer": "\\u0000"}]', "NUL character"),
    "JSON: half a surrogate": (JSON, lambda: b'[{"kvknummer": "\\ud800"}]', "1 of 1 rows|no valid JSON"),
    "Parquet: 100,000 columns": (
        PARQUET, lambda: _parquet(**{f"k{n}": pa.nulls(1) for n in range(5_000)}), "columns"),
    "Parquet: one word of 1 MB for 100,000 rows": (
        PARQUET, lambda: _parquet(handelsnaam=_repeated("x" * (1 << 20), 100_000)), "unpack to more than 1 GB"),
    "Parquet: the same as bytes": (
        PARQUET, lambda: _parquet(handelsnaam=_repeated(b"x" * (1 << 20), 100_000)), "unpack to more than 1 GB"),
    "Parquet: a list": (PARQUET, lambda: _parquet(handelsnaam=pa.array([["x"]])), "lists or objects"),
    "Parquet: bytes that are no text": (
        PARQUET, lambda: _parquet(handelsnaam=pa.array([b"\xff\xfe"])), "is it the agreed Parquet"),
    "Parquet: a huge number": (
        PARQUET, lambda: _parquet(huisnummer=pa.array([10**37], pa.decimal128(38, 0))), "1 of 1 rows"),
    "Parquet: a footer that lies": (
        PARQUET, lambda: _parquet()[:-8] + b"\xff\xff\xff\x7fPAR1", "is it the agreed Parquet"),
}  # fmt: skip
"""Per attack: whose contract, the file, and what is told of it."""


def _laughs() -> str:
    lines = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    return f'<!DOCTYPE a [<!ENTITY e0 "lol">{lines}]>'


def _met() -> Iterator[tuple[str, str, int]]:
    """Each attack, what was told of it, and the peak of memory so far (MB)."""
    for name, (contract, make, _) in ATTACKS.items():
        tally = Tally()
        try:
            for _ in judged(Source("levering", make()), contract, None, tally):
                pass
            said = "nothing was told"
        except DeliveryError as error:
            said = str(error)
        assert tally.delivered == tally.accepted + tally.refused, name
        yield name, said + str(tally.as_json()), _peak_mb()


def _peak_mb() -> int:
    """This process's own peak of memory; the peak that `getrusage` tells begins at that of the parent."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) >> 10


@pytest.fixture(scope="module")
def met() -> dict[str, tuple[str, int]]:
    """What came of every attack, in a process of its own that may take no more than 6 GB of addresses."""
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    return {name: (said, peak) for name, said, peak in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_layout_refuses_what_means_harm(met: dict[str, tuple[str, int]], attack: str) -> None:
    said, peak = met[attack]
    assert any(part in said for part in ATTACKS[attack][2].split("|")), said[:500]
    assert SECRET not in said
    assert "999990019" not in said
    assert "root:" not in said
    assert len(said) < 4_000
    assert peak < MOST_MB


# --- what lies in the inbox ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["link to a key", "link to nowhere", "link to a folder", "pipe", "socket"])
def test_what_is_no_file_is_never_read_and_is_told(
    factory: Settings, delivered: tuple[Path, object], kind: str
) -> None:
    key = ensure_key(factory.paths)
    folder = factory.paths.inbox / "bedrijven"
    shutil.copytree(delivered[0] / "bedrijven", folder)
    place = folder / "bedrijven_20190101.csv"
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "socket":
        here = Path.cwd()
        os.chdir(folder)  # the path of a socket is short
        try:
            socket.socket(socket.AF_UNIX).bind(place.name)
        finally:
            os.chdir(here)
    else:
        target = {"link to a key": factory.paths.key_file, "link to a folder": factory.paths.keys}
        place.symlink_to(target.get(kind, "/nergens/te/vinden"))
    outcomes = take_inbox(factory, "bedrijven")
    assert sorted(outcome.status for outcome in outcomes) == ["geweigerd", "ontvangen"]
    assert "no file of its own but a link, pipe or device" in str([outcome.reason for outcome in outcomes])
    assert place.is_symlink() or place.exists()  # whoever made it takes it away
    with vault(factory.paths, factory.resources, key.vault) as con:
        assert con.execute("SELECT count(*) FROM vault.beheer.leveringen").fetchone() == (1,)


def test_a_pipe_or_device_that_is_named_by_hand_is_refused_and_not_waited_for(factory: Settings) -> None:
    pipe = factory.paths.inbox / "bedrijven_20200101.csv"
    os.mkfifo(pipe)
    told = "is a folder, pipe or device: deliver a file|Is a directory"
    for path in (pipe, Path("/dev/zero"), factory.paths.inbox):
        with pytest.raises(DeliveryError, match=told):
            deliver(factory, path, "bedrijven", "2020-01-01")
        with pytest.raises(DeliveryError, match=told):
            check(path, load("bedrijven"), "2020-01-01")


@pytest.mark.parametrize(
    "name",
    [
        "x/../../../keys/master.key",
        "bedrijven_20200101.csv\n.exe",
        "'; DROP TABLE x; --.csv",
        "$(id).csv",
        "\udcff.csv",
    ],
)
def test_no_name_of_a_file_leads_anywhere(factory: Settings, delivered: tuple[Path, object], name: str) -> None:
    folder = factory.paths.inbox / "bedrijven"
    folder.mkdir(parents=True)
    before = {path: path.read_bytes() for path in factory.paths.keys.rglob("*")}
    told = name.replace("/", "\u2215")  # the system itself lets no slash stand in a name
    source = next((delivered[0] / "bedrijven").iterdir())
    shutil.copyfile(source, os.fsencode(folder) + b"/" + os.fsencode(told))
    (outcome,) = take_inbox(factory, "bedrijven")
    assert outcome.status == "geweigerd"
    assert not any(folder.iterdir())
    assert {path: path.read_bytes() for path in factory.paths.keys.rglob("*") if path in before} == before
    assert name not in (outcome.reason or "")


# --- what contracts say -------------------------------------------------------------------------------------------


def test_names_in_a_contract_are_names_and_no_sql(factory: Settings) -> None:
    from quality.contracts.model import ContractError

    text = load("bedrijven").source.read_text().replace("bedrijven", "eigen")
    folder = factory.source.parent / "contracts"
    folder.mkdir()
    for hostile in ('x"; DROP TABLE beheer.leveringen; --', "x' OR '1'='1", "a b", "../../x", "x\u0000"):
        (folder / "eigen.yaml").write_text(text.replace("name: handelsnaam", f"name: {json.dumps(hostile)}"))
        with pytest.raises(ContractError, match="eigen"):
            load("eigen", (folder,))


@pytest.mark.parametrize("value", ["=1+1", "+1", "-1", "@A1", " =1", "\t=1", "\n=1", "\uff1dcmd", "\r\n@x"])
def test_a_formula_in_a_csv_file_is_text(value: str) -> None:
    """In what suppliers, privacy officers and readers open: made so in Python and in the engine alike."""
    with duckdb.connect(":memory:") as con:
        for each, told in ((value, f"'{value}"), ("Jansen", "Jansen"), ("'s-Gravenhage", "'s-Gravenhage"), ("", "")):
            assert neutral(each) == told
            assert con.execute(f"SELECT {neutral_sql('v')} FROM (SELECT ? AS v)", [each]).fetchone() == (told,)
        assert con.execute(f"SELECT {neutral_sql('v')} FROM (SELECT NULL::VARCHAR AS v)").fetchone() == (None,)


if __name__ == "__main__":
    xlsx._MOST_UNPACKED = 32 << 20  # a bomb of the real limit takes seconds to make
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
    for each in _met():
        print(json.dumps(each))
