"""A factory that names the kinds of the social domain, and their deliveries with labelled dirt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from datafabriek.config import Settings, load_settings
from datafabriek.sample import population
from datafabriek.sample.deliveries import Made
from datafabriek.sample.kinds import istandaarden, schemes, work, youth
from datafabriek.sample.population import Population

MAKERS = {**work.MAKERS, **youth.MAKERS, **schemes.MAKERS, **istandaarden.MAKERS}

FACTORY = """
name: Proeffabriek
sample: true
home: home
policy: {policy}
region: {{gemeenten: [GM0518, GM1916], provincie: PV28}}
deliveries:
  adressen:
  {kind}:
"""


@pytest.fixture(scope="session")
def people() -> Population:
    """The sample's population at a twentieth."""
    return population.generate(518_1916, 0.05)


@pytest.fixture(scope="session")
def deliver(people: Population) -> Callable[[str], list[Made]]:
    """The files of a kind, with the labels of their dirt; made once."""
    made: dict[str, list[Made]] = {}

    def of(kind: str) -> list[Made]:
        if kind not in made:
            made[kind] = list(MAKERS[kind](people, 518_1916))
        return made[kind]

    return of


@pytest.fixture
def factory_of(tmp_path: Path) -> Callable[[str], Settings]:
    """A factory of its own that names one kind, with the sample's policy."""
    policy = Path(__file__).parents[3] / "datafabriek" / "sample" / "policy"

    def of(kind: str) -> Settings:
        source = tmp_path / "factory.yaml"
        source.write_text(FACTORY.format(policy=policy, kind=kind))
        settings = load_settings(source)
        settings.paths.create()
        return settings

    return of


@pytest.fixture
def refused_lines() -> Callable[[pl.DataFrame], set[int]]:
    """Lines that the labels say are refused."""
    return lambda labels: set(labels.filter(uitkomst="quarantined")["regel"])
