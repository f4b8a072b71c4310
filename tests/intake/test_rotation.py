"""A new key for a purpose: every pseudonym changes, every link stays, and no delivery is needed for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from assets.deliveries import purposes
from assets.deliveries.delivered import DeliveryError
from assets.deliveries.purposes import derive
from assets.deliveries.retention import expire
from datafabriek.cli import app
from datafabriek.config import FACTORY_ENV, Settings
from datafabriek.ledger import Ledger
from datafabriek.warehouse import warehouse
from quality.privacy.keys import ensure_key

POLICY = Path(__file__).parents[2] / "datafabriek" / "sample" / "policy" / "doelen.yaml"


@pytest.fixture
def settle(working: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A run under a policy of one's own: key version, and a term of brp in months after the period."""

    def made(version: int, term: int = 1200) -> Settings:
        policy = yaml.safe_load(POLICY.read_text())
        policy["doelen"]["bijstand"] |= {"sleutelversie": version}
        policy["leveringen"]["brp"] = {"bewaartermijn_maanden": term, "vanaf": "periode"}
        folder = tmp_path / "beleid"
        folder.mkdir(exist_ok=True)
        (folder / "doelen.yaml").write_text(yaml.safe_dump(policy))
        source = tmp_path / "factory.yaml"
        source.write_text(source.read_text().replace(str(POLICY.parent), str(folder)))
        monkeypatch.setenv(FACTORY_ENV, str(source))
        return working.model_copy(update={"policy": folder})

    return made


def _ask(settings: Settings, query: str) -> list[tuple[Any, ...]]:
    with warehouse(settings.paths, settings.resources) as con:
        return con.execute(query).fetchall()


LINKED = """SELECT buurt_code, regeling_code, count(*) FROM raw_bijstand.bus JOIN raw_bijstand.brp
    USING (persoon_pseudoniem) GROUP BY ALL ORDER BY ALL"""


def test_rotation_needs_no_source_and_keeps_every_link(settle: Any) -> None:
    settings = settle(1)
    before, linked = _ask(settings, "SELECT DISTINCT persoon_pseudoniem FROM raw_bijstand.bus"), _ask(settings, LINKED)
    other = _ask(settings, "SELECT persoon_pseudoniem FROM raw_zzp.brp LIMIT 5")
    raw = before[0][0].bytes
    stored = (bytes([raw[0] ^ 0x80]) + raw[1:])[::-1]
    assert stored in settings.paths.warehouse.read_bytes()

    settings = settle(2, term=24)
    expire(settings, ensure_key(settings.paths))  # the source of brp is gone for good
    done = CliRunner().invoke(app, ["key", "rotate", "bijstand"])
    assert done.exit_code == 0, done.output
    after = _ask(settings, "SELECT DISTINCT persoon_pseudoniem FROM raw_bijstand.bus")
    assert len(after) == len(before)
    assert not {row[0] for row in after} & {row[0] for row in before}
    assert _ask(settings, LINKED) == linked
    assert _ask(settings, "SELECT persoon_pseudoniem FROM raw_zzp.brp LIMIT 5") == other
    assert stored not in settings.paths.warehouse.read_bytes()
    assert Ledger(settings.paths.ledger).events("key")[-1].payload["version"] == 2
    again = CliRunner().invoke(app, ["key", "rotate", "bijstand"])
    assert "raise `sleutelversie`" in str(again.exception)


def test_recoding_equals_making_anew(settle: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settle(1)
    settings = settle(2)
    key = ensure_key(settings.paths)
    everything = "SELECT * FROM raw_bijstand.brp ORDER BY ALL"
    with pytest.raises(DeliveryError, match="pseudonyms of key version 1, and these would be of 2"):
        derive(settings, key, "brp", "bijstand")  # nobody would be known again
    derive(settings, key, "bus", "bijstand")
    assert derive(settings, key, "brp", "bijstand").renewed
    recoded = _ask(settings, everything)
    _ask(settings, "DELETE FROM raw_leveringen.afleiding")
    monkeypatch.setattr(purposes, "_recoded", lambda *_: pytest.fail("made from the vault now"))
    assert derive(settings, key, "brp", "bijstand").renewed
    assert _ask(settings, everything) == recoded
