"""The sample's own asset: deliveries dropped in the inbox, as suppliers would, before the intake looks.

Belongs here: how the sample's deliveries show in the lineage. Does not belong here: what stands in them
(datafabriek.sample.deliveries) and how they are taken in (assets.deliveries).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import dagster as dg

from datafabriek.config import ConfigError, Settings
from datafabriek.sample.deliveries import fill_inbox

GROUP = "aanvoer_leveringen"

SCALE_ENV = "DATAFABRIEK_SAMPLE_SCALE"
"""Share of the inhabitants that the made-up deliveries hold (over 0, at most 1): a small sample for a quick look."""


def _scale() -> float:
    told = os.environ.get(SCALE_ENV, "1")
    with suppress(ValueError):
        if 0 < (scale := float(told)) <= 1:
            return scale
    raise ConfigError(f"environment variable {SCALE_ENV}: {told!r} is no number over 0 and at most 1, as in 0.1")


def sample_deliveries(settings: Settings) -> dg.AssetsDefinition:
    """The asset that fills the inbox (`inbox/<delivery>`) with what the ledger does not know yet."""
    keys = {name: dg.AssetKey(["inbox", name]) for name in settings.deliveries}
    checks = {
        name: dg.AssetCheckSpec(
            f"inbox_{name}_is_gevuld",
            asset=key,
            description="Elk verzonnen bestand ligt in de inbox of is al aangenomen.",
        )
        for name, key in keys.items()
    }

    @dg.multi_asset(
        name="voorbeeldleveringen",
        specs=[
            dg.AssetSpec(
                key,
                group_name=GROUP,
                kinds={"python", "file"},
                owners=["team:datafabriek"],
                description=f"Verzonnen levering {name}, in de inbox gelegd zoals een leverancier dat doet.",
            )
            for name, key in keys.items()
        ],
        check_specs=list(checks.values()),
    )
    def voorbeeldleveringen() -> Iterator[Any]:
        scale = _scale()
        dropped = fill_inbox(settings, scale=scale)
        # filling is idempotent: what it would drop a second time is what is lacking
        lacking = {path.parent.name for path in fill_inbox(settings, scale=scale)}
        for name, key in keys.items():
            files = sum(path.parent.name == name for path in dropped)
            held = dg.AssetCheckResult(check_name=checks[name].name, asset_key=key, passed=name not in lacking)
            yield dg.MaterializeResult(
                asset_key=key, metadata={"bestanden": files, "herkomst": "synthetisch"}, check_results=[held]
            )

    return voorbeeldleveringen
