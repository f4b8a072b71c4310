"""One process of ours, for the harness: protect a table and audit it, or make the national one and do the same.

disclosure_ours.py tauargus T.tab [PATTERN.csv [exact]]   read τ-ARGUS files; write which cells are hidden
disclosure_ours.py national GEMEENTEN AGES
disclosure_ours.py scan MICRO.parquet                every margin of microdata, with the two largest contributors
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path


def tauargus(tab: str, pattern: str | None = None, way: str = "") -> None:
    from quality.disclosure import protect, read_tauargus

    table, spec = read_tauargus(Path(tab))
    done = protect([table], spec.norms(), exact=way == "exact" or None, time_limit=1200)
    if pattern:
        import polars as pl

        frame = table.frame().with_columns(
            hidden=pl.Series(done.hidden[0]),
            unsafe=pl.Series(done.unsafe[0]),
            lpl=pl.Series(table.columns["lpl"]),
            upl=pl.Series(table.columns["upl"]),
        )
        frame.write_csv(pattern)
    print(_told(done.summary))


def national(gemeenten: int, ages: int) -> None:
    from quality.disclosure import protect
    from quality.disclosure.synthetic import national as made

    table, spec = made(gemeenten, gemeenten * 3000 // 350, gemeenten * 40, ages)
    done = protect([table], spec.norms(), time_limit=3600)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{_told(done.summary)}, {peak:.0f} MB")


def scan(path: str) -> None:
    import duckdb

    from quality.disclosure.microdata import cells_from_microdata

    con = duckdb.connect()
    levels = {"geo": ["gemeente", "wijk", "buurt"], "cat": ["cat"]}
    print(len(cells_from_microdata(con, f"'{path}'", levels, amount="bedrag")))


def _told(counts: dict[str, float]) -> str:
    least = f", at least {counts['at_least']:.0f} by any pattern" if "at_least" in counts else ""
    return (
        f"{counts['cells']:.0f} cells, {counts['unsafe']:.0f} unsafe, {counts['secondary']:.0f} further hidden{least}, "
        f"narrowest {counts['narrowest']:g}, protect {counts['protect_seconds']:.2f} s, "
        f"audit {counts['audit_seconds']:.2f} s, in all {counts['seconds']:.2f} s"
    )


if __name__ == "__main__":
    task, *words = sys.argv[1:]
    match task:
        case "tauargus":
            tauargus(*words)
        case "national":
            national(int(words[0]), int(words[1]))
        case "scan":
            scan(*words)
