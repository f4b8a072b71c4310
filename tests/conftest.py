"""Fixtures for every test: where the reference data lies, and a factory in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a developer's own DATAFABRIEK_ variables out of the tests."""
    import os

    for name in list(os.environ):
        if name.startswith("DATAFABRIEK_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout under test."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real CBS recordings, standards and cases beside the repository; tests that need them skip without."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the reference data (../shared/data) is not beside this checkout")
    return folder
