"""Our side: `write ROWS FILE` makes a delivery, `take FILE` takes it in through the same functions as a run."""

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
    assert outcome.accepted == outcome.delivered == made.rows, outcome


def write(rows: int, file: Path) -> None:
    """Good records of one month: every person once, each with a benefit of her own."""
    import numpy as np
    import polars as pl

    from assets.deliveries.layouts import render
    from quality.contracts.model import load

    contract = load("bus")
    constant = {
        "statistiekjaar": "2020", "statistiekmaand": "01", "berichtgevercode": "0518", "gemeente_code": "0518",
        "softwarepakket": "gws", "softwareversie": "1.0", "statistiekcode": "01", "aantal_kostendelers": "01",
        "bedrag_norm": "1052", "bedrag_afstemming": "00000", "bedrag_inkomsten": "00000",
        "bedrag_betaalbaar": "001052", "datum_invoering": "20150101", "einddatum_persoon": "00000000",
        "einddatum_ontheffing": "00000000", "aanvangsdatum_vermindering": "00000000",
        "einddatum_vermindering": "00000000", "bedrag_inkomsten_persoon": "00000", "soort_inkomsten": "11",
        "leefvorm": "1", "geslacht": "1", "huisvesting": "1",
    }  # fmt: skip
    with file.open("wb") as out:
        for start in range(0, rows, 250_000):
            count = min(250_000, rows - start)
            place = np.arange(start, start + count, dtype=np.int64)
            body = 10_000_000 + place * 7  # the first eight digits of the number
            digits = (body[:, None] // 10 ** np.arange(7, -1, -1)) % 10
            rest = (digits * np.arange(9, 1, -1)).sum(axis=1) % 11
            body, rest = np.where(rest == 10, body + 1, body), rest
            digits = (body[:, None] // 10 ** np.arange(7, -1, -1)) % 10
            rest = (digits * np.arange(9, 1, -1)).sum(axis=1) % 11
            frame = pl.DataFrame({"bsn": body * 10 + rest, "place": place}).with_columns(
                pl.col("bsn").cast(pl.String).str.zfill(9),
                registratienummer_uitkering=(pl.col("place") + 1).cast(pl.String).str.zfill(10),
                geboortedatum=(1950 + pl.col("place") % 50).cast(pl.String) + "0615",
                aanvangsdatum_persoon=(2010 + pl.col("place") % 9).cast(pl.String) + "0301",
            )
            missing = [name for name in contract.names if name not in frame.columns]
            frame = frame.with_columns(pl.lit(constant.get(name, "")).alias(name) for name in missing)
            out.write(render(frame, contract))


if sys.argv[1] == "write":
    write(int(sys.argv[2]), Path(sys.argv[3]))
else:
    take(Path(sys.argv[2]))
