"""The sample's own asset: deliveries dropped in the inbox, as suppliers would, before the intake looks.

Belongs here: how the sample's deliveries show in the lineage. Does not belong here: what stands in them
(datafabriek.sample.deliveries) and how they are taken in (assets.deliveries).
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import dagster as dg

from datafabriek.config import Settings
from datafabriek.sample.deliveries import fill_inbox

KEY = dg.AssetKey(["inbox", "voorbeeldleveringen"])
GROUP = "aanvoer_leveringen"

SCALE_ENV = "DATAFABRIEK_SAMPLE_SCALE"
"""Share of the inhabitants that the made-up deliveries hold (over 0, at most 1): a small sample for a quick look."""

Part = tuple[Sequence[dg.AssetsDefinition], Sequence[dg.AssetChecksDefinition]]


def with_sample_deliveries(settings: Settings, part: Part) -> Part:
    """The intake's assets and checks, preceded by the asset that fills the inbox."""

    @dg.asset(
        key=KEY,
        group_name=GROUP,
        kinds={"python", "csv"},
        owners=["team:datafabriek"],
        description="Verzonnen leveringen van de voorbeeldfabriek, in de inbox gelegd zoals een leverancier dat doet.",
    )
    def voorbeeldleveringen() -> dg.MaterializeResult:
        dropped = fill_inbox(settings, scale=float(os.environ.get(SCALE_ENV, "1")))
        return dg.MaterializeResult(metadata={"bestanden": len(dropped), "herkomst": "synthetisch"})

    @dg.asset_check(
        asset=KEY,
        name="voorbeeldleveringen_staan_klaar",
        description="Alle verzonnen leveringen liggen in de inbox of zijn al aangenomen.",
    )
    def voorbeeldleveringen_staan_klaar() -> dg.AssetCheckResult:
        # filling is idempotent: what it would still drop is what is lacking
        lacking = fill_inbox(settings, scale=float(os.environ.get(SCALE_ENV, "1")))
        return dg.AssetCheckResult(passed=not lacking, metadata={"bestanden_bijgelegd": len(lacking)})

    assets, checks = part
    later = dg.map_asset_specs(_after_the_inbox, assets)
    return [voorbeeldleveringen, *later], [voorbeeldleveringen_staan_klaar, *checks]


def _after_the_inbox(spec: dg.AssetSpec) -> dg.AssetSpec:
    if any(dep.asset_key == KEY for dep in spec.deps):
        return spec
    return spec.replace_attributes(deps=[*spec.deps, dg.AssetDep(KEY)])
