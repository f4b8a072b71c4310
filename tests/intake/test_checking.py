"""Judging a file before it is delivered: what the vault tells of it, and what is said where the vault is shut."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from assets.deliveries import checking
from assets.deliveries.checking import check
from assets.deliveries.intake import Outcome, deliver
from datafabriek.cli import app
from datafabriek.config import Settings, load_settings
from quality.contracts.model import load
from quality.privacy.keys import MasterKey

FACTORY = """
name: Proef
sample: true
home: home
region: {gemeenten: [GM0518], provincie: PV28}
policy: policy
deliveries: {wijken: {}, straten: {}}
"""
POLICY = """
versie: 1
doelen: {proef: {omschrijving: Proef, grondslag: Proef, verwerkingsactiviteit: P-1, leveringen: [wijken, straten],
         bewaartermijn_maanden: 1200}}
leveringen: {wijken: {bewaartermijn_maanden: 1200}, straten: {bewaartermijn_maanden: 60, vanaf: periode}}
"""
CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: {name}
name: {name}
version: 1.0.0
status: active
customProperties:
  - {{property: leverancier, value: Proef}}
  - {{property: layout, value: {{formaat: gescheiden}}}}
  - {{property: periode, value: {{soort: jaar, bestandsnaam: '^{name}_(?P<jaar>\\d{{4}})\\.csv$'}}}}
  - {{property: correctie, value: toevoegen}}
  - {{property: groei, value: 2}}
  - {{property: max_foutaandeel, value: 0.6}}
  - {{property: doelen, value: {{proef: {{kolommen: {{nummer: {{bewerking: kopie, van: nummer}}}}}}}}}}
schema:
  - name: {name}
    properties:
      - {{name: nummer, logicalType: string, required: true, primaryKey: true, classification: open}}
      - {{name: wijk, logicalType: string, classification: open{relation}}}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a factory of which `straten` refers to `wijken`, and of which two wijken are in: to be copied."""
    folder = tmp_path_factory.mktemp("fabriek")
    for inner in ("contracts", "policy"):
        (folder / inner).mkdir()
    relation = ", relationships: [{type: foreignKey, to: wijken.nummer}]"
    for name, told in (("wijken", ""), ("straten", relation)):
        (folder / "contracts" / f"{name}.yaml").write_text(CONTRACT.format(name=name, relation=told))
    (folder / "policy" / "doelen.yaml").write_text(POLICY)
    (folder / "factory.yaml").write_text(FACTORY)
    settings = load_settings(folder / "factory.yaml")
    settings.paths.create()
    deliver(settings, _file(folder, "wijken", 2025, "W1;", "W2;"), "wijken")
    return folder


@pytest.fixture
def settings(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Such a factory, to do with as a test likes."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return load_settings(tmp_path / "factory.yaml")


def _file(folder: Path, name: str, year: int, *rows: str) -> Path:
    path = folder / f"{name}_{year}.csv"
    path.write_text("nummer;wijk\n" + "".join(f"{row}\n" for row in rows))
    return path


def _check(settings: Settings, path: Path, name: str = "straten") -> Outcome:
    return check(path, load(name, settings.contract_folders), settings=settings)


def _tree(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def test_rows_are_held_to_what_stands_in_the_vault_and_nothing_is_written(settings: Settings, tmp_path: Path) -> None:
    path = _file(tmp_path, "straten", 2025, "1;W1", "2;W3", "3;")
    before = _tree(settings.paths.root)
    outcome = _check(settings, path)
    assert _tree(settings.paths.root) == before
    assert (outcome.status, outcome.accepted, outcome.refused, outcome.remarks) == ("ontvangen", 2, 1, [])
    assert [found["rule"] for found in outcome.findings] == ["relatie_wijken"]
    taken = deliver(settings, path, "straten")
    assert (taken.accepted, taken.refused, taken.findings) == (outcome.accepted, outcome.refused, outcome.findings)
    assert "Dit bestand is er al" in _check(settings, path).remarks[0]


def _held_elsewhere(settings: Settings) -> subprocess.Popen[str]:
    """Another process that has the vault locked, as DuckDB locks what it may write to."""
    code = (
        "import fcntl, sys; file = open(sys.argv[1], 'r+b'); fcntl.lockf(file, fcntl.LOCK_EX);"
        "print('open', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-IS", "-c", code, str(settings.paths.vault_database)]
    run = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    assert run.stdout.readline() == "open\n"
    return run


@pytest.mark.parametrize("shut", ["no key", "another key", "no vault", "no rights", "in use"])
def test_what_could_not_be_judged_is_told_with_the_reason(
    settings: Settings, tmp_path: Path, shut: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, why, run = settings.paths, "de kluis is hier niet te lezen", None
    if shut == "no key":
        home.key_file.unlink()
    elif shut == "another key":
        home.key_file.write_text(MasterKey(bytes(32), "elsewhere").text())
    elif shut == "no vault":
        home.vault_database.unlink()
        why = "er is nog geen kluis"
    elif shut == "no rights":
        refused = PermissionError(13, "Permission denied")
        monkeypatch.setattr(checking, "load_key", lambda _home: (_ for _ in ()).throw(refused))
    else:
        run = _held_elsewhere(settings)
    try:
        outcome = _check(settings, _file(tmp_path, "straten", 2025, "1;W3"))
    finally:
        if run is not None:
            run.communicate("")
    assert (outcome.status, outcome.accepted) == ("ontvangen", 1)
    assert outcome.remarks[0].startswith("Niet getoetst: of wijk voorkomt in levering wijken; ")
    assert outcome.remarks[1].startswith("Niet getoetst: of dit bestand er al is, en of het veel groter is dan eerdere")
    assert all(why in remark for remark in outcome.remarks)


def test_without_a_factory_it_is_told_that_only_the_contract_was_looked_at(settings: Settings, tmp_path: Path) -> None:
    path = _file(tmp_path, "straten", 2025, "1;W3")
    outcome = check(path, load("straten", settings.contract_folders))
    assert len(outcome.remarks) == 4
    assert all("er is geen fabriek bij genoemd" in remark for remark in outcome.remarks)


def test_a_relation_to_a_delivery_that_is_not_named_is_told(settings: Settings, tmp_path: Path) -> None:
    settings.source.write_text(FACTORY.replace("wijken: {}, ", ""))
    outcome = _check(load_settings(settings.source), _file(tmp_path, "straten", 2025, "1;W3"))
    told = "Niet getoetst: of wijk voorkomt in levering wijken; factory.yaml noemt die levering niet."
    assert outcome.remarks == [told]


def test_a_delivery_that_is_not_named_is_told(settings: Settings, tmp_path: Path) -> None:
    settings.source.write_text(FACTORY.replace(", straten: {}", ""))
    outcome = _check(load_settings(settings.source), _file(tmp_path, "straten", 2025, "1;W3"))
    assert outcome.remarks == ["factory.yaml noemt geen levering straten: zo kan dit bestand er niet in."]
    assert [found["rule"] for found in outcome.findings] == ["relatie_wijken"]


def test_a_period_past_its_term_is_told_and_would_be_refused(settings: Settings, tmp_path: Path) -> None:
    path = _file(tmp_path, "straten", 2011, "1;W1")
    outcome = _check(settings, path)
    taken = deliver(settings, path, "straten")
    assert outcome.status == taken.status == "geweigerd"
    assert outcome.reason == taken.reason
    assert "the retention term of 2011 ended on 2016-12-31" in (outcome.reason or "")


def test_a_term_that_is_not_settled_is_told(settings: Settings, tmp_path: Path) -> None:
    policy = tmp_path / "policy" / "doelen.yaml"
    policy.write_text(policy.read_text().replace(", straten: {bewaartermijn_maanden: 60, vanaf: periode}", ""))
    (remark,) = _check(settings, _file(tmp_path, "straten", 2025, "1;W1")).remarks
    assert remark.startswith("Niet getoetst: of de bewaartermijn van 2025 voorbij is; delivery `straten` has no")


def test_a_delivery_that_balloons_would_be_refused(settings: Settings, tmp_path: Path) -> None:
    deliver(settings, _file(tmp_path, "straten", 2024, *(f"{n};W1" for n in range(1_000))), "straten")
    path = _file(tmp_path, "straten", 2025, *(f"{n};W1" for n in range(2_001)))
    outcome = _check(settings, path)
    assert outcome.status == "geweigerd"
    assert "over 2 times the 1000 of the largest before it" in (outcome.reason or "")


def test_the_command_tells_all_of_it(settings: Settings, tmp_path: Path) -> None:
    path = _file(tmp_path, "straten", 2025, "1;W1", "2;W3")
    words = ["intake", "check", str(path), "--contract", "straten"]
    assert "relatie_wijken: Waarde verwijst naar levering wijken" in CliRunner().invoke(app, words).stdout
    settings.paths.key_file.unlink()
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0
    assert "Niet getoetst: of wijk voorkomt in levering wijken; de kluis is hier" in " ".join(done.stdout.split())
    told = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert len(told["remarks"]) == 3
