"""The peer: the same delivery, repairs, rules and pseudonyms with pandas, pandera and hmac, by hand and by column.

Less than ours: no encrypted original, no encrypted vault, no shapes in findings, all of the file in memory.
"""

from __future__ import annotations

import hmac
import sys
import tempfile
from collections import Counter
from datetime import date
from pathlib import Path

import duckdb
import pandas as pd
import pandera.pandas as pa

from quality.contracts.model import Column, Contract, load

KEY = bytes(32)
LAST_DAY = date(2020, 1, 31)
OPEN_ENDS = ["99991231", "29991231", "99999999"]

REPAIRS = {
    "voorloopnullen": lambda text, width: text.str.zfill(width),
    "gemeentecode": lambda text, _: text.str.removeprefix("GM").str.zfill(4),
    "kleine_letters": lambda text, _: text.str.lower(),
    "min_achteraan": lambda text, _: text.str.replace(r"^(\d+)\s*-$", r"-\1", regex=True),
    "datum_dmj": lambda text, _: text.str.replace(r"^(\d\d)[-/.](\d\d)[-/.](\d{4})$", r"\3\2\1", regex=True),
    "teken_los": lambda text, _: text.str.replace(r"^([+-])\s+([0-9]+(?:[.,][0-9]+)*)$", r"\1\2", regex=True),
    "open_einde": lambda text, _: text.mask(text.isin(OPEN_ENDS)),
    "datum_onbekend": lambda text, _: text.mask(text.isin(["0", "00000000", "99999999"])),
    "datum_deels_onbekend": lambda text, _: text.str.replace("0000$", "0101", regex=True).str.replace(
        "00$", "01", regex=True
    ),
}


def main(file: Path) -> None:
    contract = load("bus")
    text = pd.read_fwf(
        file,
        widths=[column.width for column in contract.columns],
        names=contract.names,
        dtype=str,
        encoding="cp1252",
        keep_default_na=False,
        na_values={column.name: ["", *column.empty] for column in contract.columns},
    )
    repaired, counts = repair(text, contract)
    findings = failures(schema(contract), repaired)
    bad = findings.loc[~findings["warning"], "index"].unique()
    refused = text.loc[bad]
    frame = typed(repaired.drop(index=bad), contract)
    month = pd.to_datetime(frame["statistiekjaar"] + frame["statistiekmaand"] + "01", format="%Y%m%d")
    last = month + pd.offsets.MonthEnd(0)
    ended = frame["einddatum_persoon"]
    raw = pd.DataFrame(
        {
            "statistiekmaand": month,
            "gemeente_code": "GM" + frame["gemeente_code"],
            "persoon_pseudoniem": keyed("bsn", frame["bsn"]),
            "regeling_code": frame["statistiekcode"],
            "is_lopend": (frame["aanvangsdatum_persoon"] <= last) & (ended.isna() | (ended > last)),
        }
    )
    raw = raw.drop_duplicates().sort_values("persoon_pseudoniem")
    with tempfile.TemporaryDirectory() as name:
        con = duckdb.connect(str(Path(name) / "warehouse.duckdb"))
        for table, rows in {"kluis": frame, "quarantaine": refused, "bus": raw}.items():
            con.register("_rows", rows)
            con.execute(f"CREATE TABLE {table} AS FROM _rows")
        con.close()
    told = findings.groupby(["column", "check"]).size().to_dict()
    print(len(text), len(frame), len(refused), counts.total(), dict(counts), told)


def repair(text: pd.DataFrame, contract: Contract) -> tuple[pd.DataFrame, Counter[tuple[str, str]]]:
    columns, counts = {}, Counter()
    for column in contract.columns:
        values = text[column.name]
        if values.notna().any():  # seven columns of a usual delivery are empty
            for step in column.repairs:
                after = REPAIRS[step.rule](values, step.argument)
                counts[column.name, step.rule] += int((after.ne(values) & values.notna()).sum())
                values = after
        columns[column.name] = values
    return pd.DataFrame(columns), counts


def failures(rules: pa.DataFrameSchema, frame: pd.DataFrame) -> pd.DataFrame:
    try:
        rules.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as errors:
        found = errors.failure_cases[["column", "check", "index"]]
        return found.assign(warning=found["check"].str.endswith("warning"))
    return pd.DataFrame({"column": [], "check": [], "index": [], "warning": pd.Series(dtype=bool)})


def schema(contract: Contract) -> pa.DataFrameSchema:
    def check(column: Column, name: str, test: object) -> pa.Check:
        return pa.Check(test, name=f"{name} {column.severity(name)}", error=f"{name} {column.severity(name)}")

    columns = {}
    for column in contract.columns:
        checks = []
        if column.type == "date":
            least = pd.Timestamp(column.options["minimum"])
            checks.append(
                check(
                    column, "datum", lambda s, least=least: pd.to_datetime(s, format="%Y%m%d", errors="coerce") >= least
                )
            )
            if column.window is not None:
                _, until = column.window.days(LAST_DAY.replace(day=1), LAST_DAY, date.today())
                most = pd.Timestamp(until)
                checks.append(
                    check(
                        column,
                        "venster",
                        lambda s, most=most: ~(pd.to_datetime(s, format="%Y%m%d", errors="coerce") > most),
                    )
                )
        elif column.type == "integer":
            checks.append(check(column, "getal", lambda s: pd.to_numeric(s, errors="coerce").notna()))
        if "pattern" in column.options:
            pattern = column.options["pattern"]
            checks.append(check(column, "patroon", lambda s, pattern=pattern: s.str.match(pattern)))
        if column.codes:
            codes = list(column.codes)
            checks.append(check(column, "codelijst", lambda s, codes=codes: s.isin(codes)))
        if any(rule.implementation == "elfproef" for rule in column.rules):
            checks.append(check(column, "elfproef", eleven_test))
        if column.name in ("statistiekjaar", "statistiekmaand"):
            period = {"statistiekjaar": "2020", "statistiekmaand": "01"}[column.name]
            checks.append(check(column, "periode", lambda s, period=period: s == period))
        columns[column.name] = pa.Column(nullable=not column.required, checks=checks)
    order = pa.Check(
        lambda f: f["einddatum_persoon"].isna() | (f["aanvangsdatum_persoon"] <= f["einddatum_persoon"]),
        name="volgorde error",
    )
    return pa.DataFrameSchema(columns, checks=[order], unique=contract.key, report_duplicates="exclude_first")


def eleven_test(numbers: pd.Series) -> pd.Series:
    number = pd.to_numeric(numbers, errors="coerce")
    total = -(number % 10)
    for place in range(1, 9):
        total += (place + 1) * (number // 10**place % 10)
    return (total % 11 == 0) & (number > 0)


def typed(frame: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    for column in contract.columns:
        if column.type == "date":
            frame[column.name] = pd.to_datetime(frame[column.name], format="%Y%m%d", errors="coerce")
        elif column.type == "integer":
            frame[column.name] = pd.to_numeric(frame[column.name], errors="coerce")
    return frame


def keyed(kind: str, values: pd.Series) -> list[str]:
    return [hmac.digest(KEY, f"{kind}{value}".encode(), "sha256").hex()[:32] for value in values]


main(Path(sys.argv[1]))
