"""One process of ours, for the harness: protect tables and audit them, or make the national one and do the same.

disclosure_ours.py fast|exact unit|value PATTERNS T.tab [U.tab]    τ-ARGUS files; write which cells are hidden
disclosure_ours.py commands SPEC.yaml T.tab FOLDER                 what the two commands do, in two processes
disclosure_ours.py z1 Z1.csv                       its finest cells, with margins added
disclosure_ours.py national GEMEENTEN AGES
disclosure_ours.py scan MICRO.parquet                the margins of microdata, with the two largest contributors
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path


def tables(way: str, cost: str, patterns: str, *tabs: str) -> None:
    from quality.disclosure import protect, read_tauargus

    read = [read_tauargus(Path(tab)) for tab in tabs]
    norms = read[0][1].norms().model_copy(update={"cost": cost})
    done = protect([table for table, _ in read], norms, exact=way == "exact" or None, time_limit=1200)
    if Path(patterns).is_dir():
        for number, (table, tab) in enumerate(zip(done.tables, tabs, strict=True)):
            target = Path(patterns) / f"{Path(tab).stem}.csv"
            hidden = done.hidden[number].tolist()
            rows = zip(*(table.frame()[d.name].to_list() for d in table.dimensions), hidden, strict=True)
            target.write_text("".join(";".join(map(str, row)) + "\n" for row in rows))
    apart = [int((hidden & ~unsafe).sum()) for hidden, unsafe in zip(done.hidden, done.unsafe, strict=True)]
    print(_told(done.summary) + (f", per table {' and '.join(map(str, apart))}" if len(apart) > 1 else ""))


def commands(spec: str, tab: str, folder: str) -> None:
    out, proof = str(Path(folder) / "out.csv"), str(Path(folder) / "c.json")
    tool = str(Path(sys.executable).parent / "datafabriek")
    for words in (
        ["protect", "--table", tab, "--spec", spec, "--out", out, "--certificate", proof],
        ["audit", "--table", out, "--spec", spec, "--truth", tab],
    ):
        subprocess.run([tool, *words], check=True, capture_output=True)


def z1(path: str) -> None:
    import polars as pl

    from quality.disclosure import parse_spec, protect, table_from_frame

    norms = {"primary": [{"rule": "frequency", "minimum": 4}], "protection": {"width": 2}}
    spec = parse_spec({"dimensions": {"region": {}, "hovedint": {}}, "measure": "ant", **norms})
    done = protect([table_from_frame(pl.read_csv(path), spec, name="z1", add_margins=True)], spec.norms())
    print(f"{done.summary['hidden']:.0f} hidden; {_told(done.summary)}")


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
    gap = f", cost proved within {counts['gap_pct']:g}%" if "gap_pct" in counts else ""
    return (
        f"{counts['cells']:.0f} cells, {counts['unsafe']:.0f} unsafe, {counts['secondary']:.0f} further hidden{least}"
        f"{gap}, narrowest {counts['narrowest']:g}, protect {counts['protect_seconds']:.2f} s, "
        f"audit {counts['audit_seconds']:.2f} s, in all {counts['seconds']:.2f} s"
    )


if __name__ == "__main__":
    task, *words = sys.argv[1:]
    match task:
        case "commands":
            commands(*words)
        case "national":
            national(int(words[0]), int(words[1]))
        case "z1":
            z1(*words)
        case "scan":
            scan(*words)
        case _:
            tables(task, *words)
