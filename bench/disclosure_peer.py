"""One process of pytauargus, for the harness.

disclosure_peer.py MOD|OPT T.tab [OUT.csv]     protect and audit; write the pattern
disclosure_peer.py audit T.tab                 audit the cells marked unsafe in a table, without protecting
disclosure_peer.py group MICRO.parquet         the plain grouping of DuckDB over the same sets
"""

from __future__ import annotations

import csv
import os
import sys
import tempfile
from pathlib import Path


def _engine(tab: Path):
    from pytauargus.engine import run_batch

    # the first two variables of the metadata span the table, the third is the response
    names = [line.split()[0] for line in tab.with_suffix(".rda").read_text().splitlines() if line[:1].isalpha()]
    batch = Path(tempfile.mkdtemp()) / "job.arb"
    batch.write_text(
        f'<OPENTABLEDATA> "{tab}"\n<OPENMETADATA> "{tab.with_suffix(".rda")}"\n'
        f'<SPECIFYTABLE> "{names[0]}""{names[1]}"|"{names[2]}"||\n<SAFETYRULE>\n<READTABLE> 2\n'
    )
    return run_batch(batch)


def protect(way: str, tab: str, out: str | None = None) -> None:
    from pytauargus.batch import Suppress, WriteTable

    engine = _engine(Path(tab))
    engine.suppress(
        Suppress(
            kind=way, tab_no=1, mod_max_time=10, mod_singleton=True, mod_singleton_multi=True, mod_min_freq=True,
            opt_max_time=5,
        )
    )  # fmt: skip
    rows = engine.audit(0)
    if out:
        engine.write_table(WriteTable(tab_no=1, output_type=3, options=["+AS"], file=out))
    print(f"{len(rows)} hidden, {sum(row['unsafe'] for row in rows)} under-protected by its own audit")


def audit(tab: str) -> None:
    engine = _engine(Path(tab))
    rows = engine.audit(0)
    with Path(tab).open() as lines:
        # it wants every cell marked unsafe to be able to rise, also those with levels of 0 that protect others
        asked = {round(float(line[2]), 4) for line in csv.reader(lines, delimiter=";") if float(line[-1]) > 0}
    short = [round(row["value"], 4) in asked for row in rows if row["unsafe"]]
    others = f" ({len(short) - sum(short)} that need no protection cannot rise)" if len(short) > sum(short) else ""
    print(f"{len(rows)} hidden, {sum(short)} under-protected by the audit of pytauargus{others}")


def group(path: str) -> None:
    import duckdb

    areas = ("gemeente, wijk, buurt", "gemeente, wijk", "gemeente", "")
    sets = ", ".join(f"({', '.join(part for part in (area, cat) if part)})" for area in areas for cat in ("cat", ""))
    print(
        len(
            duckdb.sql(
                f"SELECT gemeente, wijk, buurt, cat, sum(bedrag), count(*) FROM '{path}' "
                f"GROUP BY GROUPING SETS ({sets})"
            ).pl()
        )
    )


if __name__ == "__main__":
    task, *words = sys.argv[1:]
    words = [str(Path(word).resolve()) for word in words]
    os.chdir(tempfile.mkdtemp())  # the engine leaves its logs where it runs
    match task:
        case "audit":
            audit(*words)
        case "group":
            group(*words)
        case _:
            protect(task, *words)
