"""Fixtures of the roof: a factory in a folder of its own, and parts small enough to run in a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from datafabriek.config import Settings, load_settings


@pytest.fixture
def factory(tmp_path: Path) -> Callable[..., Settings]:
    """Write a factory.yaml with the given lines besides name and region, and read it."""

    def make(extra: str = "") -> Settings:
        path = tmp_path / "factory.yaml"
        path.write_text(f"name: Proef\nhome: home\nregion: {{gemeenten: [GM0518], provincie: PV28}}\n{extra}")
        settings = load_settings(path)
        settings.paths.create()
        return settings

    return make
