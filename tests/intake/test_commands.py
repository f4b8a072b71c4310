"""`datafabriek intake` and `contract` on the command line: what they tell whoever typed the name of a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from datafabriek.cli import app, main
from datafabriek.config import Settings
from datafabriek.sample.deliveries import FILES, Manifest
from quality.contracts.model import ContractError


@pytest.fixture(autouse=True)
def _narrow(factory: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert factory.source.is_file()
    monkeypatch.setenv("COLUMNS", "80")


def _told(*words: object) -> str:
    """What stands on the screen; an error of the user's raises."""
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False).stdout


@pytest.mark.parametrize("command", ["check", "deliver"])
def test_what_cannot_be_opened_is_told_under_the_name_that_was_typed(tmp_path: Path, command: str) -> None:
    missing = tmp_path / "brp_20301231.csv"
    for file, told in ((missing, f"{missing} cannot be read"), (tmp_path, f"{tmp_path} is a folder: name one file")):
        with pytest.raises(Exception, match=told):
            _told("intake", command, file, "--contract", "brp")


@pytest.mark.parametrize("command", ["check", "deliver"])
def test_a_refusal_names_the_file_that_was_typed(tmp_path: Path, command: str) -> None:
    file = tmp_path / "brp_20301231.csv"
    file.write_text("bsn;naam\n")
    assert f"{file}, line 1: column" in _told("intake", command, file, "--contract", "brp")


def test_columns_and_rules_stand_in_full_on_a_narrow_screen(delivered: tuple[Path, Manifest]) -> None:
    told = _told("intake", "check", delivered[0] / "brp" / FILES["brp"][0], "--contract", "brp")
    assert "…" not in told
    assert "\n codelijst: Code staat niet in de codelijst" in told


def test_contracts_are_told_in_eighty_columns() -> None:
    told = _told("contract", "check")
    assert "…" not in told
    assert "beleidsinformatie_jeugd" in told
    assert "key: bsn, datum_aanvang_adres" in _told("contract", "check", "brp")
    with pytest.raises(ContractError, match="did you mean `brp`"):
        _told("contract", "check", "bpr")


def test_a_misspelt_delivery_is_told_by_the_check_of_contracts(factory: Settings) -> None:
    factory.source.write_text(factory.source.read_text().replace("  adressen:", "  adresen:"))
    done = CliRunner().invoke(app, ["contract", "check"])
    assert done.exit_code == 2
    assert "delivery `adresen`: no contract is called `adresen`; did you mean `adressen`?" in done.stderr


def test_no_name_of_a_file_moves_the_cursor(
    factory: Settings,
    delivered: tuple[Path, Manifest],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whoever may write in the inbox chooses names that an operator sees."""
    (source,) = (delivered[0] / "brp").iterdir()
    hostile = tmp_path / "\x1b]0;kwaad\x07\x1b[31mrood_20200101.csv"
    hostile.write_bytes(source.read_bytes()[:20_000])
    (factory.paths.inbox / "\x1b[31mkwaad").mkdir()
    (factory.paths.inbox / "\x1b[31mkwaad" / "x").touch()
    check = ["intake", "check", str(hostile), "--contract", "brp"]
    for command in (check, [*check, "--period", "2020-01-01"], ["status"]):
        monkeypatch.setattr("sys.argv", ["datafabriek", *command])
        with pytest.raises(SystemExit):
            main()
        told = "".join(capsys.readouterr())
        assert "kwaad" in told
        assert not {"\x1b", "\x07"} & set(told)
