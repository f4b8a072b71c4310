"""The second look: leaks seeded in a finished candidate are each caught, and nothing is published."""

from __future__ import annotations

import json

import duckdb
import pyarrow.parquet as pq
import pytest

from assets.release.assets import release_candidate
from assets.release.gate import GateError
from assets.release.publish import RECORD, ReleaseError, candidate_folder, current, fingerprint

LEAKS = {
    "geen_kleine_aantallen": "UPDATE bijstand_per_regio SET teller = 7, waarde = 7, status = 'afgerond' "
    "WHERE regio_code = 'BU19160000' AND noemer IS NULL",
    "aantallen_zijn_afgerond": "UPDATE bijstand_per_regio SET teller = 24, waarde = 24 "
    "WHERE regio_code = 'BU19160001' AND noemer IS NULL",
    "geheim_toont_niets": "UPDATE bijstand_per_regio SET waarde = 7 WHERE regio_code = 'BU19160000' AND noemer IS NULL",
    "geheim_toont_niets (primair)": "UPDATE bijstand_per_regio SET status = 'geheim_primair' WHERE status = 'geheim'",
    "verhoudingen_uit_getoonde_aantallen": "UPDATE bijstand_per_regio SET waarde = 24.00 "
    "WHERE regio_code = 'BU19160001' AND noemer IS NOT NULL",
    "getoond_volgt_uit_de_norm": "UPDATE bijstand_per_regio SET teller = 15, waarde = CASE WHEN noemer IS NULL "
    "THEN 15 ELSE 15000 / noemer END, status = 'afgerond' WHERE regio_code = 'BU19160000'",
    "getoond_volgt_uit_de_norm (totaal)": "UPDATE bijstand_per_regio SET teller = 95, waarde = CASE "
    "WHEN noemer IS NULL THEN 95 ELSE 95000 / noemer END WHERE regio_code = 'WK191600'",
    "geen_persoonsgegevens": "ALTER TABLE bijstand_per_regio ADD COLUMN persoon_pseudoniem VARCHAR",
    "geen_persoonsgegevens (BSN)": "UPDATE bijstand_per_regio SET regio_naam = '999990019' WHERE regio_niveau = 'GM'",
    "geen_persoonsgegevens (postcode)": "UPDATE bijstand_per_regio SET regio_naam = '2512 AB 12'",
    "alle_tabellen_en_kolommen_beschreven": "COMMENT ON COLUMN bijstand_per_regio.waarde IS NULL",
    "alle_tabellen_en_kolommen_beschreven (type)": "ALTER TABLE bijstand_per_regio ALTER teller TYPE HUGEINT",
    "alle_tabellen_en_kolommen_beschreven (extra)": "CREATE TABLE ruw AS SELECT 1 AS een",
}


def record_again(release):
    """Renew the fingerprints, as an attacker inside would."""
    files = [file for file in release.folder.iterdir() if file.name != RECORD]
    release.record["bestanden"] = {file.name: fingerprint(file) for file in files}
    (release.folder / RECORD).write_text(json.dumps(release.record))


@pytest.mark.parametrize("leak", LEAKS)
def test_a_seeded_leak_is_caught_by_name(factory, leak):
    before, _ = factory.release("open")
    factory.bijstand({"2020-01": {"BU19160000": 7, "BU19160001": 24, "BU19160002": 40}})
    candidate = factory.candidate("open")
    with duckdb.connect(str(candidate.database)) as connection:
        connection.execute(LEAKS[leak])
    record_again(candidate)
    with pytest.raises(ReleaseError, match=leak.partition(" ")[0]):
        release_candidate(factory.settings, "open")
    assert current(factory.settings.paths, "open").id == before.id
    assert len(factory.ledger.events("release")) == 1


COPIES = {
    "csv": lambda folder: edit(folder / "bijstand_per_regio.csv", b"BU19160001", b"BU19160009"),
    "csv, a column named otherwise": lambda folder: edit(folder / "bijstand_per_regio.csv", b"noemer", b"totaal"),
    "csv, one more row": lambda folder: edit(folder / "release_info.csv", b"\n", b"\nkladblok,a,b,c\n"),
    "parquet": lambda folder: copy(
        f"SELECT * REPLACE (3 AS teller) FROM '{folder}/bijstand_per_regio.parquet'",
        folder / "bijstand_per_regio.parquet",
    ),
    "parquet, one more column": lambda folder: copy(
        f"SELECT *, 3 AS primair FROM '{folder}/bijstand_per_regio.parquet'", folder / "bijstand_per_regio.parquet"
    ),
    "a table that is in no database": lambda folder: copy("SELECT 3 AS geheim", folder / "kladblok.parquet"),
}


def edit(path, old, new):
    """Replace the first of something in a file."""
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new, 1))


def copy(query, path):
    """Put what a query makes of a Parquet file (`told`) in its place."""
    with duckdb.connect() as connection:
        if path.exists():
            connection.register("told", pq.read_table(path))
        made = connection.sql(query).to_arrow_table()
    pq.write_table(made, path)


@pytest.mark.parametrize("change", COPIES)
def test_files_beside_the_database_show_what_it_shows(factory, change):
    """The norms are held against the database: a copy of it that says something else would go out unseen."""
    candidate = factory.candidate("open")
    COPIES[change](candidate.folder)
    record_again(candidate)
    with pytest.raises(ReleaseError, match="alle_bestanden_tonen_hetzelfde"):
        release_candidate(factory.settings, "open")


def test_a_record_under_another_norm_is_caught(factory):
    candidate = factory.candidate("open")
    periods = candidate.record["normen"]["bijstand_per_regio"]
    candidate.record["normen"]["bijstand_per_regio"] = {"open:3/1/gewoon/1/-": next(iter(periods.values()))}
    record_again(candidate)
    with pytest.raises(ReleaseError, match="normen_zijn_van_kracht"):
        release_candidate(factory.settings, "open")


def test_a_table_taken_from_the_record_is_still_checked(factory):
    candidate = factory.candidate("open")
    candidate.record["normen"] = {}
    record_again(candidate)
    with pytest.raises(ReleaseError, match="normen_zijn_van_kracht"):
        release_candidate(factory.settings, "open")


def test_a_table_that_no_model_makes_is_caught(factory):
    candidate = factory.candidate("open")
    with duckdb.connect(str(candidate.database)) as connection:
        connection.execute("CREATE TABLE los AS SELECT 3 AS teller; COMMENT ON TABLE los IS 'Los.'")
        connection.execute("COMMENT ON COLUMN los.teller IS 'Teller.'")
    candidate.record["tabellen"]["los"] = {"staat": "actueel", "aantallen": {}}
    record_again(candidate)
    with pytest.raises(ReleaseError, match="normen_zijn_van_kracht"):
        release_candidate(factory.settings, "open")


@pytest.mark.parametrize("released", [False, True], ids=["from nowhere", "from the last one"])
def test_a_figure_that_is_said_to_be_carried_over_is_caught(factory, released):
    if released:
        factory.release("open")
        factory.bijstand({"2020-01": {"BU19160000": 7, "BU19160001": 24, "BU19160002": 40}})
    candidate = factory.candidate("open")
    with duckdb.connect(str(candidate.database)) as connection:
        connection.execute(LEAKS["getoond_volgt_uit_de_norm"])
    candidate.record["tabellen"]["bijstand_per_regio"] |= {"staat": "verouderd", "uit": "open-2020-01-01-abcdef"}
    record_again(candidate)
    with pytest.raises(ReleaseError, match="niet zoals in de levering"):
        release_candidate(factory.settings, "open")


def test_a_real_factory_releases_intern_and_open_where_both_are_approved(real):
    real.let_go("intern")
    with pytest.raises(GateError, match="release propose open"):
        real.release("open")
    real.let_go("open")
    assert real.release("intern")[1]
    release, is_new = real.release("open")
    assert is_new
    assert release.record["bewijs"]["blokken"] == 2


def test_a_candidate_of_another_audience_is_caught(factory):
    candidate = factory.candidate("intern")
    elsewhere = candidate_folder(factory.settings.paths, "open")
    elsewhere.parent.mkdir()
    candidate.folder.rename(elsewhere)
    with pytest.raises(ReleaseError, match="alleen_toegestane_doelgroep"):
        release_candidate(factory.settings, "open")
