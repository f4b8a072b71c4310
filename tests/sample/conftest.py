"""A small set of deliveries, the population at full size, and a sample factory in a folder of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from datafabriek.config import Settings, load_settings
from datafabriek.sample.deliveries import SEED, Manifest, write_deliveries
from datafabriek.sample.population import Population, generate

SCALE = 0.02


@dataclass(frozen=True)
class Written:
    folder: Path
    manifest: Manifest

    def path(self, name: str) -> Path:
        return next(self.folder.glob(f"*/{name}"))


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder = tmp_path_factory.mktemp("deliveries")
    return Written(folder, write_deliveries(folder, scale=SCALE))


@pytest.fixture(scope="session")
def people() -> Population:
    return generate(SEED)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "factory.yaml"
    path.write_text(
        """
name: proef
sample: true
home: home
region: {gemeenten: [GM0518, GM1916], provincie: PV28}
cbs: {kwb_years: [2019, 2020, 2021]}
deliveries:
  adressen:
  brp:
  bus: {expected_from: "2020-01", expected_until: "2020-12"}
  bedrijven:
"""
    )
    return load_settings(path)
