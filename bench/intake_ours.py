"""Our side: takes a delivery in through the same functions as a run, under a memory limit of 1 GB for DuckDB."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

POLICY = Path(__file__).parents[1] / "datafabriek" / "sample" / "policy"
FACTORY = """
name: Meting
sample: true
home: home
policy: {policy}
region: {{gemeenten: [GM0518], provincie: PV28}}
deliveries: {{bus: }}
resources: {{memory_limit: 1GB}}
"""


def take(file: Path) -> None:
    from assets.deliveries.intake import deliver
    from assets.deliveries.purposes import derive
    from datafabriek.config import load_settings
    from quality.privacy.keys import ensure_key

    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "factory.yaml"
        source.write_text(FACTORY.format(policy=POLICY))
        settings = load_settings(source)
        outcome = deliver(settings, file, "bus")
        made = derive(settings, ensure_key(settings.paths), "bus", "bijstand")
    assert outcome.delivered == outcome.accepted + outcome.refused, outcome
    assert outcome.accepted == made.rows > 0, outcome
    print(outcome.delivered, outcome.accepted, outcome.refused, outcome.repaired)


take(Path(sys.argv[1]))
