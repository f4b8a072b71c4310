"""The peer: the same delivery and the same rules with pandas, pandera and hmac, as one would write it by hand.

It keeps no encrypted original and no encrypted vault, repairs nothing and reports nothing: less than we do.
"""

from __future__ import annotations

import hmac
import sys
import tempfile
import uuid
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pandera.pandas as pa

from quality.contracts.model import load

KEY = bytes(32)


def main(file: Path) -> None:
    contract = load("bus")
    frame = pd.read_fwf(
        file, widths=[c.width for c in contract.columns], names=contract.names, dtype=str, encoding="cp1252"
    )
    for column in contract.columns:
        values = frame[column.name].where(~frame[column.name].isin(column.empty))
        if column.type == "date":
            values = pd.to_datetime(values, format="%Y%m%d")
        elif column.type == "integer":
            values = pd.to_numeric(values)
        frame[column.name] = values
    frame = schema(contract).validate(frame, lazy=True)
    month = pd.to_datetime(frame["statistiekjaar"] + frame["statistiekmaand"] + "01", format="%Y%m%d")
    last = month + pd.offsets.MonthEnd(0)
    ended = frame["einddatum_persoon"]
    raw = pd.DataFrame(
        {
            "statistiekmaand": month,
            "gemeente_code": "GM" + frame["gemeente_code"],
            "uitkering_pseudoniem": keyed("u", frame["gemeente_code"] + frame["registratienummer_uitkering"]),
            "persoon_pseudoniem": keyed("bsn", frame["bsn"]),
            "regeling_code": frame["statistiekcode"],
            "leefvorm_code": frame["leefvorm"],
            "is_lopend": (frame["aanvangsdatum_persoon"] <= last) & (ended.isna() | (ended > last)),
        }
    )
    raw = raw.drop_duplicates().sort_values(["uitkering_pseudoniem", "persoon_pseudoniem"])
    with tempfile.TemporaryDirectory() as name:
        con = duckdb.connect(str(Path(name) / "warehouse.duckdb"))
        con.register("delivered", frame)
        con.register("raw", raw)
        con.execute("CREATE TABLE kluis AS FROM delivered")
        con.execute("CREATE TABLE bus AS FROM raw")
        assert con.execute("SELECT count(*) FROM bus").fetchone() == (len(frame),)
        con.close()


def schema(contract: object) -> pa.DataFrameSchema:
    columns = {}
    for column in contract.columns:
        checks = []
        if "pattern" in column.options:
            checks.append(pa.Check.str_matches(column.options["pattern"]))
        if column.codes:
            checks.append(pa.Check.isin(list(column.codes)))
        if any(rule.implementation == "elfproef" for rule in column.rules):
            checks.append(pa.Check(eleven_test))
        columns[column.name] = pa.Column(nullable=not column.required, checks=checks)
    order = pa.Check(lambda f: f["einddatum_persoon"].isna() | (f["aanvangsdatum_persoon"] <= f["einddatum_persoon"]))
    return pa.DataFrameSchema(columns, checks=[order], unique=contract.key)


def eleven_test(numbers: pd.Series) -> pd.Series:
    digits = np.stack([numbers.str[place].astype(int) for place in range(9)], axis=1)
    return pd.Series(digits @ np.array([9, 8, 7, 6, 5, 4, 3, 2, -1]) % 11 == 0, index=numbers.index)


def keyed(kind: str, values: pd.Series) -> list[uuid.UUID]:
    return [uuid.UUID(bytes=hmac.new(KEY, f"{kind}{value}".encode(), "sha256").digest()[:16]) for value in values]


main(Path(sys.argv[1]))
