"""A factory of one's own: what `init` makes can be read, and refuses what it must."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from datafabriek.cli import app
from datafabriek.cli.init import make
from datafabriek.config import ConfigError, load_settings
from quality.norms import NormsError, load_norms


def test_a_new_factory_can_be_read(tmp_path: Path) -> None:
    make(tmp_path / "eigen", 'Fabriek "Zuid": een', ["GM0518", "GM1916"], "PV28")
    settings = load_settings(tmp_path / "eigen" / "factory.yaml")
    assert settings.name == 'Fabriek "Zuid": een'
    assert settings.region.gemeenten == ("GM0518", "GM1916")
    assert not settings.sample
    assert settings.paths.root == tmp_path / "eigen" / ".datafabriek"
    assert settings.policy_folder == tmp_path / "eigen" / "policy"


def test_a_new_factory_releases_nothing_until_its_norms_are_set(tmp_path: Path) -> None:
    make(tmp_path / "eigen", "Eigen", ["GM0518"], "PV28")
    with pytest.raises(NormsError, match=r"normen\.yaml"):
        load_norms(load_settings(tmp_path / "eigen" / "factory.yaml").policy_folder)


def test_the_command_makes_it(tmp_path: Path) -> None:
    target = str(tmp_path / "eigen")
    result = CliRunner().invoke(app, ["init", target, "--gemeente", "518", "--provincie", "pv28", "--name", "X"])
    assert result.exit_code == 0, result.output
    assert load_settings(tmp_path / "eigen" / "factory.yaml").region.provincie == "PV28"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--gemeente", "Den Haag", "--provincie", "PV28"], "GM0518"),
        (["--gemeente", "GM0518"], "--provincie is missing"),
        ([], "--gemeente is missing"),
    ],
)
def test_a_wrong_or_missing_code_is_told(tmp_path: Path, arguments: list[str], told: str) -> None:
    result = CliRunner().invoke(app, ["init", str(tmp_path / "eigen"), *arguments])
    assert isinstance(result.exception, ConfigError)
    assert told in str(result.exception)
    assert not (tmp_path / "eigen").exists()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    result = CliRunner().invoke(app, ["init", str(tmp_path), "--gemeente", "GM0518", "--provincie", "PV28"])
    assert isinstance(result.exception, ConfigError)
    assert "not empty" in str(result.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
