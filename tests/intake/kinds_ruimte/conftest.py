"""A factory that names the deliveries it is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from datafabriek.config import FACTORY_ENV, Settings, load_settings

SAMPLE_POLICY = Path(__file__).parents[3] / "datafabriek" / "sample" / "policy"

MakeFactory = Callable[..., Settings]

CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: meetpunten
name: Meetpunten
version: 1.0.0
status: active
customProperties:
  - {property: leverancier, value: Proef}
  - {property: layout, value: {formaat: gescheiden}}
  - {property: periode, value: {soort: maand, bestandsnaam: '^meetpunten_(?P<jaar>\\d{4})(?P<maand>\\d{2})\\.csv$'}}
  - {property: correctie, value: vervangt_periode}
  - {property: max_foutaandeel, value: 0.5}
  - {property: coordinaten, value: {breedtegraad: lat, lengtegraad: lon, herstel: [coordinaten_rd]}}
  - property: doelen
    value:
      proef:
        kolommen:
          nummer_pseudoniem: {bewerking: pseudoniem, van: nummer, soort: object}
          telling: {bewerking: kopie, van: telling}
          vierkant: {bewerking: vierkant_500m, van: [lat, lon]}
          dag: {bewerking: dag, van: moment}
          uur: {bewerking: uur, van: moment}
schema:
  - name: meetpunten
    properties:
      - {name: nummer, logicalType: string, required: true, primaryKey: true, classification: administratief_nummer}
      - {name: telling, logicalType: integer, classification: open, logicalTypeOptions: {minimum: 0}}
      - {name: moment, logicalType: timestamp, classification: open}
      - name: lat
        logicalType: number
        classification: quasi_identificerend
        logicalTypeOptions: {minimum: 50.7, maximum: 53.7}
      - name: lon
        logicalType: number
        classification: quasi_identificerend
        logicalTypeOptions: {minimum: 3.2, maximum: 7.3}
"""
POLICY = """
versie: proef-1
doelen:
  proef: {omschrijving: Proef, grondslag: Proef, verwerkingsactiviteit: P-1, leveringen: [meetpunten],
          bewaartermijn_maanden: 1200}
leveringen: {meetpunten: {bewaartermijn_maanden: 1200}}
"""


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeFactory:
    """Make a factory with these deliveries; by default under the sample's policy."""

    def factory(deliveries: dict[str, Any], *, own: bool = False) -> Settings:
        policy = SAMPLE_POLICY
        if own:
            (tmp_path / "contracts").mkdir(exist_ok=True)
            (tmp_path / "contracts" / "meetpunten.yaml").write_text(CONTRACT)
            policy = tmp_path / "policy"
            policy.mkdir(exist_ok=True)
            (policy / "doelen.yaml").write_text(POLICY)
        region = {"gemeenten": ["GM0518", "GM1916"], "provincie": "PV28"}
        told = {"name": "Proef", "sample": True, "home": "home", "policy": str(policy), "region": region}
        source = tmp_path / "factory.yaml"
        source.write_text(yaml.safe_dump({**told, "deliveries": deliveries}))
        monkeypatch.setenv(FACTORY_ENV, str(source))
        settings = load_settings(source)
        settings.paths.create()
        return settings

    return factory
