"""A person is found everywhere she stands, is taken out of all of it, and does not come back."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyrage
import pytest
import yaml
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from typer.testing import CliRunner

from assets.deliveries.delivered import DeliveryError
from assets.deliveries.erasure import _holds, erase, find, number_columns, parse_bsn
from assets.deliveries.intake import original, take_inbox
from assets.deliveries.purposes import derive, in_order
from datafabriek import warehouse as database
from datafabriek.cli import app
from datafabriek.config import FACTORY_ENV, Settings, load_settings
from datafabriek.ledger import Ledger
from datafabriek.sample.deliveries import Manifest
from datafabriek.warehouse import vault, warehouse
from quality.contracts.model import load
from quality.privacy.keys import ensure_key
from quality.privacy.pseudonyms import KINDS, pseudonymise

BSN, NAME = "000990012", "Wiswegstra"
STREET, POSTCODE = "Uitveegpad", "9876ZQ"
HERS = [word.encode() for word in (BSN, NAME, STREET, POSTCODE)]
assert parse_bsn("990012") == BSN


def _insert(path: Path, *lines: str) -> None:
    head, _, tail = path.read_bytes().partition(b"\n")
    path.write_bytes(head + b"\n" + "".join(f"{line}\n" for line in lines).encode() + tail)


def _line(name: str, **values: str) -> str:
    return ";".join(values.get(column, "") for column in load(name).names)


def _seed(inbox: Path) -> None:
    address = {"straatnaam": STREET, "huisnummer": "77", "postcode": POSTCODE}
    person = {"geslachtsnaam": NAME, "gemeente_code": "0518", "huishoudnummer": "H1", **address}
    _insert(
        inbox / "brp" / "brp_20201231.csv",
        _line("brp", bsn="990012", datum_aanvang_adres="20190115", **person),  # zeros in front lost
        _line("brp", bsn=BSN, datum_aanvang_adres="geen datum", **person),  # refused
    )
    company = {
        "peildatum": "20200101", "kvknummer": "87654321", "handelsnaam": NAME, "indicatie_zzp": "J",
        "gemeente_code": "0518", "sbi_code": "6201", "vestigingsnummer": "000087654321",
    }  # fmt: skip
    path = inbox / "bedrijven" / "bedrijven_20200101.csv"
    _insert(path, _line("bedrijven", eigenaar_bsn=BSN, **company))
    bus = inbox / "bus" / "BUS_202001.txt"
    first, _, rest = bus.read_bytes().partition(b"\n")
    place = sum(column.width or 0 for column in load("bus").columns[: load("bus").names.index("bsn")])
    bus.write_bytes(first[:place] + BSN.encode() + first[place + 9 :] + b"\n" + rest)


def _run(settings: Settings) -> None:
    for name in settings.deliveries:
        take_inbox(settings, name)
    for name, purpose in in_order(settings):
        derive(settings, ensure_key(settings.paths), name, purpose.name)


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory, delivered: tuple[Path, Manifest], make: Any) -> Path:
    """The folder of a factory in which she stands: to be copied."""
    folder = tmp_path_factory.mktemp("gezaaid")
    settings = make(folder)
    shutil.copytree(delivered[0], settings.paths.inbox, dirs_exist_ok=True)
    _seed(settings.paths.inbox)
    _run(settings)
    return folder


@pytest.fixture
def seeded(once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    shutil.copytree(once, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv(FACTORY_ENV, str(tmp_path / "factory.yaml"))
    return load_settings(tmp_path / "factory.yaml")


@pytest.mark.parametrize("text", ["123456789", "", "12345678x", "1234567890", "0"])
def test_what_is_no_bsn_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(DeliveryError) as told:
        parse_bsn(text)
    assert not text or text not in str(told.value)


def test_the_contracts_say_where_numbers_stand() -> None:
    assert number_columns(load("brp")) == ["bsn"]
    assert number_columns(load("bedrijven")) == ["eigenaar_bsn"]
    assert "bsn" in number_columns(load("bus"))
    assert number_columns(load("adressen")) == []


def test_she_is_found_wherever_she_stands(seeded: Settings) -> None:
    found = find(seeded, ensure_key(seeded.paths), BSN)
    places = {(place.place, place.delivery) for place in found}
    assert places >= {
        ("kluis", "brp"), ("quarantaine", "brp"), ("kluis", "bedrijven"), ("kluis", "bus"), ("origineel", "brp"),
        ("origineel", "bedrijven"), ("origineel", "bus"), ("raw_bijstand.brp", "brp"), ("raw_zzp.brp", "brp"),
        ("raw_bijstand.bus", "bus"), ("raw_zzp.bedrijven", "bedrijven"),
    }  # fmt: skip
    assert find(seeded, ensure_key(seeded.paths), "111222333") == []


def test_she_is_gone_from_everything_and_does_not_come_back(seeded: Settings, delivered: tuple[Path, Manifest]) -> None:
    key = ensure_key(seeded.paths)
    with warehouse(seeded.paths, seeded.resources) as con:
        before = con.execute("SELECT count(*) FROM raw_zzp.brp").fetchone()
    done = erase(seeded, key, BSN, "AVG 17 lid 1 onder d, besluit 2026-17", "fg")
    assert done.removed
    assert done.left == []
    assert find(seeded, key, BSN) == []
    (event,) = Ledger(seeded.paths.ledger).events("erasure")
    assert event.payload["ground"].startswith("AVG 17")
    assert BSN not in str(event)
    for path in seeded.paths.originals.iterdir():
        data = original(seeded.paths, key, path.stem)
        assert NAME.encode() not in data
        assert BSN.encode() not in data
    pseudonym = pseudonymise(pa.array([BSN]), KINDS["bsn"], key.purpose("zzp")).storage[0]
    raw = pseudonym.as_py()
    stored = (bytes([raw[0] ^ 0x80]) + raw[1:])[::-1]
    assert stored not in seeded.paths.warehouse.read_bytes()
    with warehouse(seeded.paths, seeded.resources) as con:
        after = con.execute("SELECT count(*) FROM raw_zzp.brp").fetchone()
    assert before is not None
    assert after == (before[0] - 1,)

    shutil.copytree(delivered[0], seeded.paths.inbox, dirs_exist_ok=True)
    again = seeded.paths.inbox / "brp" / "brp_20201231.csv"
    _seed(seeded.paths.inbox)
    again.rename(again.with_name("brp_20210131.csv"))  # the next full delivery
    (outcome,) = take_inbox(seeded, "brp")
    assert outcome.status == "ontvangen"
    assert outcome.delivered == outcome.accepted + outcome.refused
    (told,) = [finding for finding in outcome.findings if finding["rule"] == "gewist"]
    assert (told["count"], told["lines"], told["examples"]) == (1, [], [])
    _run(seeded)
    assert find(seeded, key, BSN) == []
    for path in seeded.paths.originals.iterdir():
        assert NAME.encode() not in original(seeded.paths, key, path.stem)
    with vault(seeded.paths, seeded.resources, key.vault) as con:
        known = con.execute("SELECT * FROM vault.beheer.gewist").fetchall()
    assert len(known) == 1
    assert BSN not in str(known)


def _under(settings: Settings, folder: Path, change: Callable[[dict[str, Any]], None]) -> Settings:
    """The same factory under a changed policy."""
    folder.mkdir()
    policy = yaml.safe_load((settings.policy_folder / "doelen.yaml").read_text())
    change(policy)
    (folder / "doelen.yaml").write_text(yaml.safe_dump(policy))
    return settings.model_copy(update={"policy": folder})


def test_what_policy_says_now_hides_nobody(seeded: Settings, tmp_path: Path) -> None:
    """A raised key version, a withdrawn purpose, a delivery no longer named: she stands where she was put."""
    key = ensure_key(seeded.paths)
    before = {(place.place, place.delivery_id) for place in find(seeded, key, BSN)}

    def change(policy: dict[str, Any]) -> None:
        policy["doelen"]["bijstand"]["sleutelversie"] = 7
        del policy["doelen"]["zzp"]

    settings = _under(seeded, tmp_path / "later", change)
    fewer = {name: each for name, each in settings.deliveries.items() if name == "brp"}
    settings = settings.model_copy(update={"deliveries": fewer})
    assert {(place.place, place.delivery_id) for place in find(settings, key, BSN)} == before
    erase(settings, key, BSN, "AVG 17 lid 1 onder d, besluit 2026-17", "fg")
    assert find(seeded, key, BSN) == []


def test_a_list_for_the_supplier_is_made_anew_without_her(seeded: Settings, tmp_path: Path) -> None:
    identity = pyrage.x25519.Identity.generate()
    key, folder = ensure_key(seeded.paths), seeded.paths.reports / "op-orde" / "brp"

    def change(policy: dict[str, Any]) -> None:
        policy["leveringen"]["brp"]["sleutel_leverancier"] = str(identity.to_public())

    settings = _under(seeded, tmp_path / "later", change)
    (entry,) = [place.delivery_id for place in find(settings, key, BSN) if place.place == "quarantaine"]
    path = folder / f"{entry}.regels.age"
    path.write_bytes(pyrage.encrypt(f"regel;bsn\n2;{BSN}\n".encode(), [identity.to_public()]))
    erase(settings, key, BSN, "AVG 17 lid 1 onder d, besluit 2026-17", "fg")
    text = pyrage.decrypt(path.read_bytes(), [identity]).decode()
    assert text.startswith("rij;bsn")
    assert BSN not in text


@pytest.mark.parametrize("kind", ["xlsx", "parquet", "json"])
def test_a_packed_original_goes_only_where_she_is_in_it(kind: str) -> None:
    def packed(number: str) -> bytes:
        frame, out = pl.DataFrame({"bsn": [number, "111222333"], "n": [1, 2]}), io.BytesIO()
        {"xlsx": frame.write_excel, "parquet": frame.write_parquet, "json": frame.write_json}[kind](out)
        return out.getvalue()

    assert _holds(packed(BSN), [BSN])
    assert _holds(packed(BSN.lstrip("0")), [BSN])
    assert not _holds(packed("123456782"), [BSN])
    assert _holds(b"PK\x03\x04 and no more", [BSN])  # nobody can tell


OTHER, CLIENT = "111222333", "C0077-123"
CLIENTS = r"""
apiVersion: v3.1.0
kind: DataContract
id: clienten
name: Cliënten
version: 1.0.0
status: active
customProperties:
  - {property: leverancier, value: Proef}
  - {property: layout, value: {formaat: gescheiden}}
  - {property: periode, value: {soort: jaar, bestandsnaam: '^clienten_(?P<jaar>\d{4})\.csv$'}}
  - {property: correctie, value: vervangt_periode}
  - property: doelen
    value:
      zzp:
        kolommen:
          client_pseudoniem: {bewerking: pseudoniem, van: [gemeente, clientnummer], soort: client}
          gemeente: {bewerking: gemeente, van: gemeente}
schema:
  - name: clienten
    properties:
      - {name: gemeente, logicalType: string, required: true, classification: open}
      - {name: clientnummer, logicalType: string, required: true, classification: administratief_nummer}
      - {name: opmerking, logicalType: string, classification: gevoelig}
"""


@pytest.fixture
def mentioned(filled: Settings, tmp_path: Path) -> Settings:
    """She stands in rows of others by her name, in a remark and a file's name, and by number in a delivery of clients.

    Her last name is nobody else's; her A-number is her own.
    """
    inbox, contracts, policy = filled.paths.inbox, tmp_path / "contracts", tmp_path / "beleid"
    contracts.mkdir()
    (contracts / "clienten.yaml").write_text(CLIENTS)

    def change(settled: dict[str, Any]) -> None:
        settled["doelen"]["zzp"]["leveringen"].append("clienten")
        settled["leveringen"]["clienten"] = {"bewaartermijn_maanden": 1200}

    _under(filled, policy, change)
    source = filled.source
    text = source.read_text().replace("  brp:\n", "  brp:\n  clienten:\n")
    source.write_text(re.sub("policy: .*", f"policy: {policy}", text))
    settings = load_settings(source)
    settings.paths.create()
    address = {"straatnaam": STREET, "huisnummer": "77", "postcode": POSTCODE, "gemeente_code": "0518"}
    _insert(
        inbox / "brp" / "brp_20201231.csv",
        _line("brp", bsn=BSN, voornamen="Aafke", geslachtsnaam=NAME, a_nummer="7001002003",
              datum_aanvang_adres="20190115", **address),
        _line("brp", bsn=OTHER, voornamen="Piet", geslachtsnaam=f"Bosveld-{NAME}", a_nummer="7001002003x",
              datum_aanvang_adres="20190115", **address),
    )  # fmt: skip
    company = {"peildatum": "20200101", "indicatie_zzp": "J", "gemeente_code": "0518", "sbi_code": "6201"}
    _insert(
        inbox / "bedrijven" / "bedrijven_20200101.csv",
        _line("bedrijven", eigenaar_bsn=OTHER, kvknummer="87654321", vestigingsnummer="000087654321",
              handelsnaam=f"Bosveld & {NAME.upper()} advies", **company),
        _line("bedrijven", eigenaar_bsn="geen", kvknummer="87654322", vestigingsnummer="000087654322",
              handelsnaam=f"De {NAME} groep", **company),
    )  # fmt: skip
    (inbox / "clienten").mkdir()
    (inbox / "clienten" / "clienten_2020.csv").write_text(
        f"gemeente;clientnummer;opmerking\n0518;{CLIENT};\n0518;D0088-456;belt namens mevr. {NAME}, anr 7001002003\n"
    )
    _run(settings)
    return settings


def test_where_her_name_or_another_number_stands_is_told_and_left_by_itself(mentioned: Settings) -> None:
    key = ensure_key(mentioned.paths)
    found = {(place.place, place.delivery, place.by) for place in find(mentioned, key, BSN, [CLIENT]) if place.by}
    assert found >= {
        ("kluis", "brp", "brp.geslachtsnaam"), ("kluis", "bedrijven", "brp.geslachtsnaam"),
        ("quarantaine", "bedrijven", "brp.geslachtsnaam"), ("kluis", "clienten", "brp.geslachtsnaam"),
        ("kluis", "clienten", "brp.a_nummer"), ("origineel", "brp", "brp.geslachtsnaam"),
        ("origineel", "clienten", "brp.a_nummer"), ("kluis", "clienten", "opgegeven"),
        ("origineel", "clienten", "opgegeven"), ("raw_zzp.clienten", "clienten", "opgegeven"),
    }  # fmt: skip
    done = erase(mentioned, key, BSN, "AVG 17 lid 1 onder d, besluit 2026-17", "fg", [CLIENT])
    assert not [place for place in done.removed if place.by]
    assert {(place.place, place.delivery, place.by) for place in done.left} == found
    assert Ledger(mentioned.paths.ledger).events("erasure")[-1].payload["left"] == len(done.left)


@pytest.mark.usefixtures("readable")
def test_her_name_is_blotted_out_of_the_rows_of_others(mentioned: Settings) -> None:
    """Their rows stay, in the vault, the originals and the purposes; the row by which only she is known goes."""
    key = ensure_key(mentioned.paths)

    def rows() -> list[Any]:
        with warehouse(mentioned.paths, mentioned.resources) as con:
            return con.execute("SELECT (SELECT count(*) FROM raw_zzp.brp), count(*) FROM raw_zzp.clienten").fetchall()

    ((persons, clients),) = rows()
    done = erase(mentioned, key, BSN, "AVG 17 lid 1 onder d, besluit 2026-17", "fg", [CLIENT], traces=True)
    assert done.left == []
    assert {place.by for place in done.removed} >= {"", "brp.geslachtsnaam", "brp.a_nummer", "opgegeven"}
    assert rows() == [(persons, clients - 1)]
    words = [word.encode() for word in (NAME, NAME.upper(), CLIENT, "7001002003;", "7001002003\n")]
    with vault(mentioned.paths, mentioned.resources, key.vault) as con:
        told = con.execute("SELECT geslachtsnaam FROM vault.aanvoer.brp WHERE bsn = ?", [OTHER]).fetchall()
        assert told == [("Bosveld-*",)]
        told = con.execute("SELECT clientnummer, opmerking FROM vault.aanvoer.clienten").fetchall()
        assert told == [("D0088-456", "belt namens mevr. *, anr *")]
    for path in mentioned.paths.originals.iterdir():
        data = original(mentioned.paths, key, path.stem)
        assert not [word for word in words if word in data], path.name
    assert not [word for word in words if word in _blocks(mentioned.paths.vault_database.read_bytes(), key.vault)]
    (rest,) = [data for path in mentioned.paths.originals.iterdir()
               if b"D0088-456" in (data := original(mentioned.paths, key, path.stem))]  # fmt: skip
    left = f"0518;D0088-456;belt namens mevr. {'*' * len(NAME)}, anr {'*' * 10}"
    assert rest.decode() == f"gemeente;clientnummer;opmerking\n{left}\n"
    _run(mentioned)  # and the factory goes on


def test_a_name_that_others_bear_is_hers_only_as_a_whole(filled: Settings) -> None:
    person = {"datum_aanvang_adres": "20190115", "gemeente_code": "0518"}
    _insert(
        filled.paths.inbox / "brp" / "brp_20201231.csv",
        _line("brp", bsn=BSN, voornamen="Aafke", geslachtsnaam=NAME, **person),
        _line("brp", bsn=OTHER, voornamen="Piet", geslachtsnaam=NAME, **person),
    )
    company = {"peildatum": "20200101", "indicatie_zzp": "J", "gemeente_code": "0518", "sbi_code": "6201"}
    _insert(
        filled.paths.inbox / "bedrijven" / "bedrijven_20200101.csv",
        _line("bedrijven", kvknummer="87654321", vestigingsnummer="000087654321", handelsnaam=f"{NAME} BV", **company),
        _line("bedrijven", kvknummer="87654322", vestigingsnummer="000087654322",
              handelsnaam=f"Aafke {NAME}", **company),
    )  # fmt: skip
    take_inbox(filled, "brp")
    take_inbox(filled, "bedrijven")
    found = [place for place in find(filled, ensure_key(filled.paths), BSN) if place.by and place.place == "kluis"]
    assert [(place.delivery, place.rows, place.by) for place in found] == [("bedrijven", 1, "brp: hele naam")]


def test_a_namesake_is_told_and_keeps_her_name(filled: Settings) -> None:
    person = {"datum_aanvang_adres": "20190115", "gemeente_code": "0518", "voornamen": "Aafke", "geslachtsnaam": NAME}
    lines = [_line("brp", bsn=number, **person) for number in (BSN, OTHER)]
    _insert(filled.paths.inbox / "brp" / "brp_20201231.csv", *lines)
    take_inbox(filled, "brp")
    key = ensure_key(filled.paths)
    done = erase(filled, key, BSN, "AVG 17 lid 1 onder d, besluit 2026-17", "fg", traces=True)
    told = {(place.place, place.by) for place in done.left}
    assert told == {
        ("kluis", "brp: naam die een ander ook draagt"),
        ("origineel", "brp: naam die een ander ook draagt"),
    }
    with vault(filled.paths, filled.resources, key.vault) as con:
        hers = con.execute("SELECT bsn FROM vault.aanvoer.brp WHERE geslachtsnaam = ?", [NAME]).fetchall()
    assert hers == [(OTHER,)]


@pytest.mark.parametrize("text", ["12345", "Jan", "x"])
def test_what_says_too_little_is_not_searched_for(factory: Settings, text: str) -> None:
    with pytest.raises(DeliveryError, match="says too little") as told:
        find(factory, ensure_key(factory.paths), BSN, [text])
    assert text not in str(told.value).replace("number of six signs", "")


_HEADERS, _BLOCK = 3 * 4096, 256 << 10


def _blocks(stored: bytes, key: bytes) -> bytes:
    """All blocks of an encrypted DuckDB file in plain, those that nothing points to any more among them.

    By the source of DuckDB 1.5: the key is the SHA-256 of the file's salt and the key that was given (read as base64);
    a block is nonce (12 bytes), tag (16), padding (4) and its encrypted bytes, AES-256-GCM, so from counter 2 on.
    """
    salt = stored.index(b"\x01\x01 \0\0\0", 0, 4096) + 6
    derived = hashlib.sha256(stored[salt : salt + 16] + base64.b64decode(key.hex())).digest()
    plain = []
    for begin in range(_HEADERS, len(stored), _BLOCK):
        block = stored[begin : begin + _BLOCK]
        counter = block[:12] + (2).to_bytes(4, "big")
        plain.append(Cipher(algorithms.AES(derived), modes.CTR(counter)).decryptor().update(block[32:]))
    return b"".join(plain)


def _told(data: bytes) -> list[bytes]:
    return [word for word in HERS if word in data]


@pytest.fixture
def readable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let databases be written without compression: what is in a block is then there to be seen."""
    real = database._connect

    def connect(*args: Any, **more: Any) -> duckdb.DuckDBPyConnection:
        con = real(*args, **more)
        con.execute("SET force_compression = 'uncompressed'")
        return con

    monkeypatch.setattr(database, "_connect", connect)


@pytest.mark.usefixtures("readable")
def test_no_old_block_of_the_vault_keeps_her(filled: Settings) -> None:
    """The vault is decrypted block by block, free ones too: a mere DELETE leaves her there, an erasure does not."""
    _seed(filled.paths.inbox)
    _run(filled)
    key, path = ensure_key(filled.paths), filled.paths.vault_database
    assert _told(_blocks(path.read_bytes(), key.vault)) == HERS
    with vault(filled.paths, filled.resources, key.vault) as con:
        con.execute("DELETE FROM vault.aanvoer.brp WHERE bsn = ?", [BSN])
        con.execute("DELETE FROM vault.quarantaine.brp WHERE contains(record, '990012')")
        con.execute("DELETE FROM vault.aanvoer.bus WHERE bsn = ?", [BSN])
        con.execute("DELETE FROM vault.aanvoer.bedrijven WHERE eigenaar_bsn = ?", [BSN])
        con.execute(f"UPDATE vault.beheer.leveringen SET bestand = 'zaak {BSN}.csv' WHERE levering = 'bus'")
        con.execute("CHECKPOINT vault")
    assert "naam van het bestand" in {place.place for place in find(filled, key, BSN)}
    assert _told(_blocks(path.read_bytes(), key.vault)) == HERS  # so the search sees what no query gives any more
    with path.open("rb") as old:
        erase(filled, key, BSN, "AVG 17 lid 1 onder d, besluit 2026-17", "fg")
        assert os.fstat(old.fileno()).st_nlink == 0  # no name leads to the old blocks
        assert os.fstat(old.fileno()).st_ino != path.stat().st_ino
    assert _told(_blocks(path.read_bytes(), key.vault)) == []
    assert _told(filled.paths.warehouse.read_bytes()) == []
    # nor what stood beside it: logs of writes, temporary files, originals, lists for suppliers
    assert sorted(each.name for each in path.parent.iterdir()) == ["originals", path.name]
    assert not [each for each in filled.paths.temp.rglob("*") if each.is_file()]
    for each in filled.paths.originals.iterdir():
        assert each.suffix == ".age"
        assert _told(original(filled.paths, key, each.stem)) == []
    for each in filled.paths.root.rglob("*"):
        assert not each.is_file() or _told(each.read_bytes()) == [], each
    assert find(filled, key, BSN) == []
    with vault(filled.paths, filled.resources, key.vault) as con:
        names = con.execute("SELECT DISTINCT bestand FROM vault.beheer.leveringen WHERE levering = 'bus'").fetchall()
        assert names == [("zaak *.csv",)]
        free = con.execute("SELECT free_blocks FROM pragma_database_size() WHERE database_name = 'vault'").fetchone()
        assert free == (0,)
        query = "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = 'vault'"
        tables = con.execute(query).fetchall()
        assert len(tables) > 6
        for schema, table in tables:
            told = con.execute(f"SELECT CAST(COLUMNS(*) AS VARCHAR) FROM vault.{schema}.{table}").fetchall()
            assert _told(str(told).encode()) == [], f"{schema}.{table}"


def test_the_commands_ask_for_a_reason_and_take_no_number_as_an_argument(
    seeded: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = CliRunner()
    found = run.invoke(app, ["privacy", "find", "--reason", "verzoek om inzage 2026-3"], input=f"{BSN}\n")
    assert found.exit_code == 0, found.output
    assert "raw_zzp.brp" in found.output
    assert BSN not in found.output
    assert Ledger(seeded.paths.ledger).events("vault_access")[-1].payload["reason"] == "verzoek om inzage 2026-3"
    more = run.invoke(app, ["privacy", "find", "--reason", "verzoek 2026-3", "--also"], input=f"{BSN}\nC0077-12\n\n")
    assert more.exit_code == 0, more.output
    assert "C0077" not in more.output
    gone = run.invoke(app, ["privacy", "erase", "--ground", "AVG 17, besluit 2026-3", "--yes"], input=f"{BSN}\n")
    assert gone.exit_code == 0, gone.output
    assert "Archiefwet" in gone.output
    assert run.invoke(app, ["privacy", "find", "--reason", "nog een keer zien"], input=f"{BSN}\n").exit_code == 0
    assert find(seeded, ensure_key(seeded.paths), BSN) == []
