"""One process of pytauargus, for the harness.

disclosure_peer.py mod T.tab [OUT.csv]         protect with MOD and audit; write the pattern
disclosure_peer.py audit T.tab                 audit the cells marked unsafe in a table, without protecting
disclosure_peer.py group MICRO.parquet         the plain grouping of DuckDB over the same sets
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path


def _engine(tab: Path):
    from pytauargus.engine import run_batch

    batch = Path(tempfile.mkdtemp()) / "job.arb"
    batch.write_text(
        f'<OPENTABLEDATA> "{tab}"\n<OPENMETADATA> "{tab.with_suffix(".rda")}"\n'
        '<SPECIFYTABLE> "geo""cat"|"val"||\n<SAFETYRULE>\n<READTABLE> 2\n'
    )
    return run_batch(batch)


def mod(tab: str, out: str | None = None) -> None:
    from pytauargus.batch import Suppress, WriteTable

    engine = _engine(Path(tab).resolve())
    engine.suppress(
        Suppress(kind="MOD", tab_no=1, mod_max_time=10, mod_singleton=True, mod_singleton_multi=True, mod_min_freq=True)
    )
    rows = engine.audit(0)
    if out:
        engine.write_table(WriteTable(tab_no=1, output_type=3, options=["+AS"], file=str(Path(out).resolve())))
    print(f"{len(rows)} hidden, {sum(row['unsafe'] for row in rows)} under-protected by its own audit")


def audit(tab: str) -> None:
    engine = _engine(Path(tab).resolve())
    rows = engine.audit(0)
    print(f"{len(rows)} hidden, {sum(row['unsafe'] for row in rows)} under-protected by the audit of pytauargus")


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
    {"mod": mod, "audit": audit, "group": group}[task](*words)
