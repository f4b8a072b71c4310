"""The refused rows by record key: for the supplier who holds the key, and for nobody else."""

from __future__ import annotations

import csv
from pathlib import Path

import pyrage
import pytest
import yaml

from assets.deliveries.companion import SUFFIX
from assets.deliveries.erasure import erase
from assets.deliveries.intake import take_inbox
from datafabriek.config import Settings
from datafabriek.warehouse import vault
from quality.privacy.keys import load_key
from quality.privacy.policy import PolicyError

POLICY = Path(__file__).parents[2] / "datafabriek" / "sample" / "policy" / "doelen.yaml"


def _with_key(settings: Settings, folder: Path, key: str) -> Settings:
    policy = yaml.safe_load(POLICY.read_text())
    policy["leveringen"]["brp"]["sleutel_leverancier"] = key
    (folder / "beleid").mkdir()
    (folder / "beleid" / "doelen.yaml").write_text(yaml.safe_dump(policy))
    return settings.model_copy(update={"policy": folder / "beleid"})


def test_the_supplier_reads_line_key_and_rule(filled: Settings, tmp_path: Path) -> None:
    identity = pyrage.x25519.Identity.generate()
    settings = _with_key(filled, tmp_path, str(identity.to_public()))
    (outcome,) = take_inbox(settings, "brp")
    (path,) = (settings.paths.reports / "op-orde" / "brp").glob(f"*{SUFFIX}")
    assert b"bsn" not in path.read_bytes()
    rows = list(csv.DictReader(pyrage.decrypt(path.read_bytes(), [identity]).decode().splitlines(), delimiter=";"))
    assert len(rows) == outcome.refused
    assert all(row["rij"].isdigit() and row["controles"] for row in rows)
    assert any(row["bsn"] for row in rows)
    with pytest.raises(pyrage.DecryptError):
        pyrage.decrypt(path.read_bytes(), [pyrage.x25519.Identity.generate()])


def test_of_a_delivery_refused_as_a_whole_each_wrong_row_is_listed(filled: Settings, tmp_path: Path) -> None:
    """Whoever must deliver anew needs the list most; the person on it who is erased goes from it."""
    identity = pyrage.x25519.Identity.generate()
    settings = _with_key(filled, tmp_path, str(identity.to_public()))
    (source,) = (settings.paths.inbox / "brp").iterdir()
    lines = source.read_bytes().splitlines(keepends=True)
    spoiled = [line.replace(b";0518;", b";vijf;") for line in lines[:1000]]
    source.write_bytes(b"".join([*spoiled, *lines[1000:]]))
    (outcome,) = take_inbox(settings, "brp")
    assert outcome.status == "geweigerd"
    (path,) = (settings.paths.reports / "op-orde" / "brp").glob(f"*{SUFFIX}")
    rows = list(csv.DictReader(pyrage.decrypt(path.read_bytes(), [identity]).decode().splitlines(), delimiter=";"))
    wrong = [row for row in rows if "gemeente_code.patroon" in row["controles"]]
    (finding,) = [each for each in outcome.findings if (each["column"], each["rule"]) == ("gemeente_code", "patroon")]
    assert len(wrong) == finding["count"] > 100
    assert path.name in path.with_name(path.name.removesuffix(SUFFIX) + ".html").read_text()
    with vault(settings.paths, settings.resources, load_key(settings.paths).vault) as con:
        assert con.execute("SELECT count(*) FROM vault.quarantaine.brp").fetchone() == (0,)
    erase(settings, load_key(settings.paths), wrong[0]["bsn"], "proef", "toets")
    assert not path.exists()


def test_without_a_key_there_is_none(filled: Settings) -> None:
    take_inbox(filled, "brp")
    assert not list(filled.paths.reports.rglob(f"*{SUFFIX}"))


def test_a_wrong_key_is_told(filled: Settings, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="no age public key"):
        take_inbox(_with_key(filled, tmp_path, "age1geen"), "brp")
