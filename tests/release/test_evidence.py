"""The public evidence of a release: anyone can check it, with the command line alone, and see when it was changed."""

from __future__ import annotations

import json
import zipfile

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from typer.testing import CliRunner

from assets.release.evidence import PUBLIC, unpack
from assets.release.gate import GateError
from assets.release.history import refusals, seal, sealed_file
from assets.release.recheck import certificates
from datafabriek.cli import app
from quality.privacy.keys import load_key


@pytest.fixture
def released(factory):
    """A release with a breakdown, so with linked tables."""
    factory.zzp({"BU19160000": 3, "BU19160001": 24}, {"WK191600": {"A": 60, "B": 4, "C": 3}})
    return factory.release("open")[0]


def test_anyone_can_check_it_with_audit(released, tmp_path):
    with zipfile.ZipFile(released.folder / PUBLIC) as bundle:
        bundle.extractall(tmp_path)
    blocks = json.loads((tmp_path / "index.json").read_text())
    assert sorted(blocks) == [
        "bijstand/2020-01/GM0518",
        "bijstand/2020-01/GM1916",
        "vestigingen/2020/GM0518",
        "vestigingen/2020/GM1916",
    ]
    folder = tmp_path / "vestigingen/2020/GM1916"
    command = ["audit", "--table", str(folder), "--spec", str(folder / "spec.yaml")]
    command += ["--certificate", str(folder / "certificaat.json")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    proof = json.loads((folder / "certificaat.json").read_text())
    (hidden, *_) = [part for part in proof["tables"] if part["hidden"]]
    hidden["upper"][0] += 100
    (folder / "certificaat.json").write_text(json.dumps(proof))
    assert CliRunner().invoke(app, command).exit_code == 1, "a certificate that promises more than there is"


def test_a_recheck_finds_all_in_order_and_what_was_changed(released):
    assert certificates(released) == []
    path = released.folder / PUBLIC
    with zipfile.ZipFile(path) as bundle:
        files = {name: bundle.read(name) for name in bundle.namelist()}
    name = "bijstand/2020-01/GM1916/bijstand_per_regio.csv"
    assert b",,geheim" in files[name]
    files[name] = files[name].replace(b",,geheim", b",7,verstrekt", 1)
    path.chmod(0o600)
    with zipfile.ZipFile(path, "w") as bundle:
        for entry, content in files.items():
            bundle.writestr(entry, content)
    (told,) = certificates(released)
    assert told.startswith("bijstand/2020-01/GM1916")


def test_public_evidence_holds_nothing_but_what_is_shown(released):
    with zipfile.ZipFile(released.folder / PUBLIC) as bundle:
        for name in bundle.namelist():
            text = bundle.read(name).decode()
            assert "unsafe" not in text
            if name.endswith(".csv") and not name.endswith(".regio.csv"):
                for line in text.splitlines()[1:]:
                    *_, value, status = line.split(",")
                    assert (value == "") == (status == "geheim")
                    assert not value or int(value) == 0 or int(value) >= 15


def test_what_is_sealed_cannot_be_read_or_renamed(factory, released):
    path = sealed_file(factory.settings.paths, released.id)
    assert path.stat().st_mode & 0o077 == 0
    assert b"BU1916" not in path.read_bytes()
    own = seal(factory.settings)
    content = own.open(released.id, path.read_bytes())
    assert "bijstand/2020-01/GM1916" in content["blokken"]
    with pytest.raises(Exception, match="gaat niet open"):
        own.open("open-2020-01-01-aaaaaa", path.read_bytes())


def test_evidence_of_an_older_factory_is_not_blamed_on_the_key(factory, released):
    own = seal(factory.settings)
    plain = AESSIV(load_key(factory.settings.paths).evidence())
    with pytest.raises(Exception, match="oudere fabriek: begin in een nieuwe map"):
        own.open("open-1", plain.encrypt(b'{"blokken": {}}', [b"open-1"]))


def test_the_cells_that_stood_in_the_way_are_named_in_the_vault(factory):
    factory.zzp({})
    factory.norms(
        "{versie: 1, vastgesteld_op: 2026-11-22, vastgesteld_door: toets, herziening_maximaal: geen, tijdslimiet_s: 0, "
        "doelgroepen: {intern: {minimum: 5, afronding: 1, bescherming: 3}}}"
    )
    candidate = factory.candidate("intern")
    assert candidate.record["tabellen"]["bijstand_per_regio"]["staat"] == "ontbreekt"
    path = sealed_file(factory.settings.paths, refusals("intern"))
    named = seal(factory.settings).open(refusals("intern"), path.read_bytes())
    assert named["bijstand_per_regio"]["cellen"][0].startswith("bijstand/2020-01/GM")


def test_a_table_that_was_refused_on_the_way_is_in_no_evidence_and_comes_back(factory):
    """CBS tells a count of the second month: bijstand is refused after its first month was protected."""
    factory.zzp({})
    factory.bijstand({"2020-01": {"BU19160000": 3}, "2020-12": {"BU19160000": 3}})
    spec = factory.specs["bijstand_per_regio"]
    cbs = {"telling": "bijstand", "indicator": "bijstand_personen", "soort": "gelijk", "afronding": 1, "maand": 12}
    factory.specs["bijstand_per_regio"] = spec | {"cbs": [cbs]}
    factory.manifest()
    factory.sql("INSERT INTO raw_cbs.kerncijfers_wijken_en_buurten VALUES (2020, 'BU19160000', 'bijstand_personen', 3)")
    first, _ = factory.release("intern")
    assert first.record["tabellen"]["bijstand_per_regio"]["staat"] == "ontbreekt"
    assert not any(block.startswith("bijstand") for block, _ in unpack(first))
    factory.sql("DELETE FROM raw_cbs.kerncijfers_wijken_en_buurten WHERE indicator_sleutel = 'bijstand_personen'")
    second, _ = factory.release("intern")
    assert second.record["tabellen"]["bijstand_per_regio"]["staat"] == "actueel"


def test_a_period_from_before_there_were_norms_for_open_does_not_go_to_open_under_laxer_ones(factory):
    norms = "{versie: 1, vastgesteld_op: 2026-11-22, vastgesteld_door: toets, herziening_maximaal: geen, doelgroepen: "
    factory.zzp({})
    factory.norms(f"{norms} {{intern: {{minimum: 5, afronding: 5, bescherming: 3}}}}}}")
    factory.release("intern")
    factory.norms(
        f"{norms} {{intern: {{minimum: 5, afronding: 5, bescherming: 3}}, "
        "open: {minimum: 10, afronding: 5, bescherming: 5}}}"
    )
    with pytest.raises(GateError, match="die voor open niets bepaalden"):
        factory.candidate("open")
