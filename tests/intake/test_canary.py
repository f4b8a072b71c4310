"""Canaries and attacks: what identifies a person is found nowhere outside the vault, and two purposes do not join."""

from __future__ import annotations

import hashlib
import itertools
import shutil
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import polars as pl
import pyarrow as pa
import pytest
import yaml

from assets.deliveries.derived import groups
from assets.deliveries.intake import take_inbox, write_standing
from assets.deliveries.purposes import derive, in_order
from datafabriek.config import Settings
from datafabriek.sample.deliveries import Manifest
from datafabriek.warehouse import vault, warehouse
from quality.checks.deliveries import identifying_values, other_columns
from quality.contracts.model import load
from quality.privacy.keys import ensure_key
from quality.privacy.policy import PolicyError
from quality.privacy.pseudonyms import KINDS, pseudonymise, recode, uuids

NAME, STREET, POSTCODE, NUMBER = "Kanariepietersz", "Kanariekooilaan", "9876ZX", "K4N4R13-0001"
GOOD, REFUSED, OWNER = "999990019", "999990018", "999990032"


def _insert(path: Path, line: str, encoding: str) -> None:
    head, _, tail = path.read_bytes().partition(b"\n")
    path.write_bytes(head + b"\n" + line.encode(encoding) + b"\n" + tail)


def _line(name: str, **values: str) -> str:
    return ";".join(values.get(column, "") for column in load(name).names)


@pytest.fixture(scope="module")
def seeded(shared_factory: Settings, delivered: tuple[Path, Manifest]) -> Settings:
    """A factory after a run over deliveries with canaries in good and in refused rows."""
    factory = shared_factory
    inbox = factory.paths.inbox
    shutil.copytree(delivered[0], inbox, dirs_exist_ok=True)
    person = {
        "geslachtsnaam": NAME, "straatnaam": STREET, "postcode": POSTCODE, "huisnummer": "77",
        "gemeente_code": "0518", "datum_aanvang_adres": "20200115", "huishoudnummer": NUMBER,
    }  # fmt: skip
    for bsn in (GOOD, REFUSED):
        _insert(inbox / "brp" / "brp_20201231.csv", _line("brp", bsn=bsn, **person), "utf-8")
    company = {
        "peildatum": "20200101", "kvknummer": "87654321", "vestigingsnummer": "000087654321", "handelsnaam": NAME,
        "indicatie_zzp": "J", "postcode": POSTCODE, "huisnummer": "77", "gemeente_code": "0518", "sbi_code": "6201",
    }  # fmt: skip
    for bsn in (OWNER, REFUSED):
        number = {"vestigingsnummer": f"00008765{bsn[-4:]}"}
        _insert(
            inbox / "bedrijven" / "bedrijven_20200101.csv",
            _line("bedrijven", **company | number, eigenaar_bsn=bsn),
            "cp1252",
        )
    # suppliers name files after persons too: one that is refused, and one whose period the name does not say
    (inbox / "bedrijven" / f"bedrijven_20190101.csv {NAME} {REFUSED}.csv").write_bytes(b"geen bedrijven")
    (inbox / "bedrijven" / f"{NAME}_{REFUSED}_bedrijven.csv").write_bytes(b"ook geen bedrijven")
    for name in factory.deliveries:
        for outcome in take_inbox(factory, name):
            assert not [word for word in (NAME, REFUSED) if word in (outcome.reason or "")]
    for name, purpose in in_order(factory):
        derive(factory, ensure_key(factory.paths), name, purpose.name)
    write_standing(factory, ensure_key(factory.paths))
    return factory


def _canaries(settings: Settings) -> list[bytes]:
    plain = [NAME, STREET, POSTCODE, NUMBER, GOOD, REFUSED, OWNER, "87654321"]
    hashes = [
        hashlib.new(kind, number.encode()).hexdigest() for kind in ("md5", "sha1", "sha256") for number in (GOOD, OWNER)
    ]
    key = ensure_key(settings.paths)
    secrets = [key.secret.hex(), key.vault.hex(), key.originals, key.purpose("bijstand").hex()]
    return [word.encode() for word in [*plain, *hashes, *secrets]]


def test_the_canaries_did_come_in(seeded: Settings) -> None:
    with vault(seeded.paths, seeded.resources, ensure_key(seeded.paths).vault) as con:
        rows = con.execute("SELECT count(*) FROM vault.aanvoer.brp WHERE geslachtsnaam = ?", [NAME]).fetchone()
        refused = con.execute("SELECT count(*) FROM vault.quarantaine.brp WHERE contains(record, ?)", [NAME]).fetchone()
    assert rows == refused == (1,)


def test_no_canary_is_found_in_any_byte_outside_the_keys(seeded: Settings) -> None:
    files = [path for path in seeded.paths.root.rglob("*") if path.is_file() and path != seeded.paths.key_file]
    assert seeded.paths.vault_database in files  # the vault and the originals too are unreadable without the key
    for path in files:
        data = path.read_bytes()
        found = [word for word in _canaries(seeded) if word in data]
        assert not found, f"{path.name} holds {len(found)} canaries"
    assert not [path for path in seeded.paths.inbox.rglob("*") if path.is_file()]


def test_no_canary_is_found_in_any_decoded_column(seeded: Settings) -> None:
    words = [word.decode() for word in _canaries(seeded)]
    with warehouse(seeded.paths, seeded.resources) as con:
        tables = con.execute("SELECT schema_name, table_name FROM duckdb_tables()").fetchall()
        assert len(tables) >= 6
        for schema, table in tables:
            frame = con.execute(f"SELECT CAST(COLUMNS(*) AS VARCHAR) FROM {schema}.{table}").pl()
            for column in frame.columns:
                values = frame[column].drop_nulls()
                assert not values.str.contains_any(words).any(), f"{schema}.{table}.{column}"


def test_no_birth_date_leaves_the_vault(seeded: Settings) -> None:
    with warehouse(seeded.paths, seeded.resources) as con:
        days = con.execute(
            """SELECT count(*) FILTER (WHERE day(geldig_van) <> 1 OR day(geldig_tot) <> 1) FROM raw_bijstand.brp"""
        ).fetchone()
        columns = [row[0] for row in con.execute("SELECT DISTINCT column_name FROM duckdb_columns()").fetchall()]
    assert days == (0,)
    assert not {"geboortedatum", "bsn", "postcode", "huisnummer", "straatnaam", "handelsnaam"} & set(columns)


def _frame(settings: Settings, purpose: str) -> pl.DataFrame:
    with warehouse(settings.paths, settings.resources) as con:
        return con.execute(
            f"SELECT persoon_pseudoniem::VARCHAR AS p, * EXCLUDE (persoon_pseudoniem) FROM raw_{purpose}.brp"
        ).pl()


def _texts(pseudonyms: pa.Array) -> pl.Series:
    return pl.Series([str(UUID(bytes=raw)) for raw in pseudonyms.storage.to_pylist()])


def test_a_positional_join_of_two_purposes_does_no_better_than_chance(seeded: Settings) -> None:
    one, other = _frame(seeded, "bijstand"), _frame(seeded, "zzp")
    assert one["p"].is_sorted()
    assert other["p"].is_sorted()
    assert not set(one["p"]) & set(other["p"])
    height = min(len(one), len(other))
    same = (one["buurt_code"].head(height) == other["buurt_code"].head(height)).mean()
    counts = [frame["buurt_code"].value_counts(name="share", normalize=True) for frame in (one, other)]
    chance = counts[0].join(counts[1], on="buurt_code").select((pl.col("share") * pl.col("share_right")).sum()).item()
    assert isinstance(same, float)
    assert same < chance + 5 * (chance / height) ** 0.5


def test_no_combination_of_columns_joins_more_rows_of_two_purposes_than_is_told(seeded: Settings) -> None:
    """Whoever has both tables tries every combination of what they share; the privacy officer is told of the best."""
    one, other = _frame(seeded, "bijstand"), _frame(seeded, "zzp")
    shared = sorted({*one.columns, *other.columns} - {"p", "levering", "herkomst"})
    with warehouse(seeded.paths, seeded.resources) as con:
        told = {measure.table: measure for measure in groups(con)}
    # who these truly are is known to the test alone: one key's pseudonyms turned into the other's
    key = ensure_key(seeded.paths)
    theirs = recode(uuids(other["p"].to_arrow().cast(pa.string())), key.purpose("zzp"), key.purpose("bijstand"))
    other = other.with_columns(really=_texts(theirs))
    matched, right = dict[tuple[str, ...], int](), dict[tuple[str, ...], int]()
    for size in range(1, len(shared) + 1):
        for columns in itertools.combinations(shared, size):
            found = [frame.filter(pl.struct(columns).is_unique()) for frame in (one, other)]
            pairs = found[0].join(found[1], on=list(columns), nulls_equal=True)
            matched[columns], right[columns] = len(pairs), int((pairs["p"] == pairs["really"]).sum())
    most = max(matched.values())
    assert most <= min(told["raw_zzp.brp"].beside, told["raw_bijstand.brp"].beside)
    # at this scale buurten are small: a hundredth of the inhabitants in as many buurten
    assert 0 < most < 0.05 * min(len(one), len(other))
    # only who is in both purposes can be found again at all, and most of what matches is of two different persons
    in_both = set(one["p"]) & set(other["really"])
    assert max(right.values()) <= len(in_both) < 0.1 * one["p"].n_unique()
    assert max(right.values()) < 0.3 * most


def test_a_k_stops_what_would_stand_out(seeded: Settings, tmp_path: Path) -> None:
    policy = yaml.safe_load((seeded.policy_folder / "doelen.yaml").read_text())
    policy["doelen"]["zzp"]["k"] = 2
    (tmp_path / "doelen.yaml").write_text(yaml.safe_dump(policy))
    with pytest.raises(PolicyError, match="smallest group over its columns has 1 rows, the policy asks at least 2"):
        derive(seeded.model_copy(update={"policy": tmp_path}), ensure_key(seeded.paths), "brp", "zzp")


def test_the_order_of_delivery_is_not_kept(seeded: Settings) -> None:
    with vault(seeded.paths, seeded.resources, ensure_key(seeded.paths).vault) as con:
        rows = con.execute("SELECT bsn, huishoudnummer FROM vault.aanvoer.brp ORDER BY _regel").pl()
    delivered, frame = rows["huishoudnummer"], _frame(seeded, "bijstand")
    # whose pseudonyms these are is known to the test alone
    made = pseudonymise(rows["bsn"].to_arrow(), KINDS["bsn"], ensure_key(seeded.paths).purpose("bijstand"))
    known = rows.with_columns(p=_texts(made)).unique("p")
    together = (delivered == delivered.shift(1)).mean()  # households stand together in the file
    households = frame.unique("p", maintain_order=True).join(known, on="p", maintain_order="left")["huishoudnummer"]
    apart = (households == households.shift(1)).mean()
    assert isinstance(together, float)
    assert isinstance(apart, float)
    assert together > 0.2
    assert apart < 0.01


@pytest.mark.parametrize(
    ("column", "value"),
    [("buurt_code", GOOD), ("gemeente_code", "2511 AB"), ("buurt_code", "zie 12345678")],
)
def test_a_leaking_column_is_caught_by_the_check(seeded: Settings, column: str, value: str) -> None:
    with warehouse(seeded.paths, seeded.resources) as con:
        assert identifying_values(con, "raw_bijstand", "brp") == {}
        con.execute("BEGIN")
        con.execute(f"UPDATE raw_bijstand.brp SET {column} = ? WHERE rowid = 0", [value])
        found = identifying_values(con, "raw_bijstand", "brp")
        con.execute("ROLLBACK")
    assert [name.partition(":")[0] for name in found] == [column]


def test_a_column_that_the_purpose_did_not_ask_for_is_caught(seeded: Settings) -> None:
    purpose = load("brp").purposes["bijstand"]
    with warehouse(seeded.paths, seeded.resources) as con:
        assert other_columns(con, "raw_bijstand", "brp", purpose) == []
        con.execute("BEGIN")
        con.execute("ALTER TABLE raw_bijstand.brp ADD COLUMN leeftijd INTEGER")
        extra = other_columns(con, "raw_bijstand", "brp", purpose)
        con.execute("ROLLBACK")
    assert extra == ["leeftijd"]


def test_no_canary_on_the_screen(seeded: Settings, tmp_path: Path) -> None:
    file = tmp_path / "brp_20201231.csv"
    file.write_text(";".join(load("brp").names) + "\n" + _line("brp", bsn=REFUSED, geslachtsnaam=NAME) + "\n")
    command = [str(Path(sys.executable).with_name("datafabriek")), "intake", "check", str(file), "--contract", "brp"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1, done.stderr
    assert "elfproef" in done.stdout
    assert not [word for word in (NAME, REFUSED) if word in done.stdout + done.stderr]
