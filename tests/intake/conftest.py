"""A small factory with the sample's deliveries, dirt and labels."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest

from datafabriek.config import FACTORY_ENV, Settings, load_settings
from datafabriek.sample.deliveries import Manifest, write_deliveries

SCALE = 0.01

FACTORY = """
name: Proeffabriek
sample: true
home: home
policy: {policy}
region: {{gemeenten: [GM0518, GM1916], provincie: PV28}}
deliveries:
  adressen:
  brp:
  bus: {{expected_from: "2020-01", expected_until: "2020-12"}}
  bedrijven:
"""


@pytest.fixture(scope="session")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """The sample's deliveries at a hundredth of the inhabitants, and what was spoiled in them."""
    folder = tmp_path_factory.mktemp("leveringen")
    return folder, write_deliveries(folder, scale=SCALE)


@pytest.fixture
def labels(delivered: tuple[Path, Manifest]) -> pl.DataFrame:
    """Every piece of dirt: file, line, kind, field, outcome."""
    return delivered[1].labels


def make_factory(folder: Path) -> Settings:
    """A factory with the sample's policy and an empty inbox, in a folder of its own."""
    source = folder / "factory.yaml"
    policy = Path(__file__).parents[2] / "datafabriek" / "sample" / "policy"
    source.write_text(FACTORY.format(policy=policy))
    settings = load_settings(source)
    settings.paths.create()
    return settings


@pytest.fixture(scope="module")
def shared_factory(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A factory that the tests of one module look at and leave as it is."""
    return make_factory(tmp_path_factory.mktemp("fabriek"))


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A factory of its own with an empty inbox."""
    settings = make_factory(tmp_path)
    monkeypatch.setenv(FACTORY_ENV, str(settings.source))
    return settings


@pytest.fixture
def filled(factory: Settings, delivered: tuple[Path, Manifest]) -> Settings:
    """The same with all deliveries in the inbox."""
    shutil.copytree(delivered[0], factory.paths.inbox, dirs_exist_ok=True)
    return factory
