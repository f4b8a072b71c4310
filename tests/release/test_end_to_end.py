"""From marts to a published file that plain DuckDB answers from."""

from __future__ import annotations

import json
import stat

import duckdb
import pytest

BIJSTAND_PER_WIJK = """
    SELECT regio_naam, waarde, teller, noemer FROM bijstand_per_regio
    WHERE indicator = 'bijstand_aantal_per_1000_inwoners' AND regio_niveau = 'WK' AND gemeente_code = 'GM1916'
    ORDER BY regio_code"""


def test_a_plain_duckdb_answers_bijstand_per_1000_per_wijk(factory):
    release, is_new = factory.release("open")
    assert is_new
    file = factory.settings.paths.published / "open" / "datafabriek.duckdb"
    with duckdb.connect(str(file), read_only=True) as connection:
        found = connection.execute(BIJSTAND_PER_WIJK).fetchall()
    # wijk 00: 7 is hidden (counts for 6.5), 24 -> 25, 20, 20: 71.5 -> 70; wijk 01: 0, 3 hidden, 20, 20: 46.5 -> 45
    assert [(float(w), t, n) for _, w, t, n in found] == [(17.5, 70, 4000), (11.25, 45, 4000), (20.0, 80, 4000)]
    assert release.id.startswith("open-2026-11-21-")


def test_the_release_is_complete_described_and_immutable(factory):
    release, _ = factory.release("intern")
    names = {file.name for file in release.folder.iterdir()}
    assert {"datafabriek.duckdb", "catalogus.json", "bewijs.json", "index.html", "release.json"} <= names
    assert {"bijstand_per_regio.parquet", "bijstand_per_regio.csv", "release_info.csv"} <= names
    assert {stat.S_IMODE(file.stat().st_mode) for file in release.folder.iterdir()} == {0o444}
    with duckdb.connect(str(release.database), read_only=True) as connection:
        bare = "SELECT count(*) FROM duckdb_columns() WHERE NOT internal AND coalesce(comment, '') = ''"
        assert connection.execute(bare).fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM duckdb_tables() WHERE comment IS NULL").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM duckdb_views() WHERE NOT internal").fetchone() == (0,)
        facts = "SELECT naam, waarde FROM release_info WHERE onderwerp = 'release'"
        info = dict(connection.execute(facts).fetchall())
        tags = connection.execute(
            "SELECT tags['storage_version'] FROM duckdb_databases() WHERE NOT internal"
        ).fetchone()
    assert info["id"] == release.id
    assert info["voorbeeld"] == "ja"
    assert tags is not None
    assert "v1.0.0" in tags[0]
    catalogue = json.loads((release.folder / "catalogus.json").read_text())
    assert {table["naam"] for table in catalogue["tabellen"]} == {"bijstand_per_regio", "release_info"}
    with duckdb.connect() as connection:
        for form in ("csv", "parquet"):
            path = release.folder / f"bijstand_per_regio.{form}"
            assert connection.execute(f"SELECT count(*) FROM '{path}'").fetchone() == (2 * (18 + 5 + 2 + 2),)


def test_unchanged_inputs_make_no_new_release(factory):
    first, _ = factory.release("open")
    factory.now = factory.now.replace(day=22)
    second, is_new = factory.release("open")
    assert not is_new
    assert second.id == first.id
    assert len(factory.ledger.events("release")) == 1
    factory.bijstand({"2020-01": {"BU19160000": 40}})
    third, is_new = factory.release("open")
    assert is_new
    assert third.id != first.id
    assert first.folder.is_dir()


def test_a_count_below_the_norm_that_changes_makes_no_new_release(factory):
    """What is shown did not change, so a new release would only tell that something did."""
    first, _ = factory.release("open")
    factory.bijstand({"2020-01": {"BU19160000": 6, "BU19160001": 23, "BU19160100": 0, "BU19160101": 4}}, unknown=12)
    assert not factory.release("open")[1]
    assert first.folder.is_dir()


def test_candidates_are_the_same_bytes_for_the_same_input(factory):
    first = {n: d for n, d in factory.candidate("open").record["bestanden"].items() if not n.endswith(".duckdb")}
    second = {n: d for n, d in factory.candidate("open").record["bestanden"].items() if not n.endswith(".duckdb")}
    assert first == second


def test_a_month_that_was_not_delivered_is_unknown_and_never_zero(factory, ask, buurten):
    gap = dict.fromkeys(buurten)
    factory.bijstand({"2020-01": {}, "2020-02": gap})
    release, _ = factory.release("open")
    found = ask(
        release,
        "SELECT DISTINCT status, waarde, teller FROM bijstand_per_regio WHERE periode = '2020-02' "
        "AND regio_niveau <> 'ONB'",
    )
    assert found == [("onbekend", None, None)]


@pytest.mark.parametrize("audience", ["intern", "open"])
def test_the_whole_chain_holds_with_a_breakdown(factory, audience):
    factory.zzp({"BU19160000": 9, "BU05180000": 130}, {"WK191600": {"A": 40, "B": 25, "C": 4}})
    release, _ = factory.release(audience)
    assert {n: f["staat"] for n, f in release.record["tabellen"].items()} == {
        "bijstand_per_regio": "actueel",
        "zzp_per_regio": "actueel",
        "zzp_per_sector": "actueel",
    }
