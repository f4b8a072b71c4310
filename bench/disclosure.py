"""Disclosure control against pytauargus 0.6.0, at national size, and the scan for unsafe cells."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.harness import measure, pairs

HERE = Path(__file__).parent
OURS = [sys.executable, str(HERE / "disclosure_ours.py")]
PEER = [sys.executable, str(HERE / "disclosure_peer.py")]
SHARED = HERE.parents[1] / "shared" / "data" / "sdc" / "synthetic_geo20"


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _against_tauargus(folder)
        _national()
        _scan(folder)


def _against_tauargus(folder: Path) -> None:
    if not SHARED.is_dir():
        print(f"left out: the case synthetic_geo20 is not at {SHARED}")
        return
    for file in SHARED.iterdir():
        shutil.copyfile(file, folder / file.name)
    tab = folder / "t.tab"
    pairs(
        "20 gemeenten × 8 categories (7,461 cells), protect and audit; peer: pytauargus MOD and its audit",
        [*OURS, "tauargus", str(tab)],
        [*PEER, "mod", str(tab)],
        at_least=10,
    )
    print("  peer:", _said([*PEER, "mod", str(tab), str(folder / "peer.csv")]))
    for way in ("fast", "exact"):
        print(f"  ours, {way}:", _said([*OURS, "tauargus", str(tab), str(folder / "ours.csv"), way]))
        _marked(folder)
        print("  that pattern,", _said([*PEER, "audit", str(folder / "marked.tab")]))
    print("  peer's pattern,", _judged(folder))


def _marked(folder: Path) -> None:
    """Our pattern as a table of τ-ARGUS in which every hidden cell is unsafe, with its own protection levels."""
    import csv

    with (folder / "ours.csv").open() as lines, (folder / "marked.tab").open("w") as out:
        for row in csv.DictReader(lines):
            hidden, unsafe = row["hidden"] == "true", row["unsafe"] == "true"
            value = int(float(row["val"]))
            levels = (int(float(row["lpl"])), int(float(row["upl"]))) if unsafe else (0, 0)
            mark = "U" if hidden else "S"
            out.write(f'"{row["geo"]}";"{row["cat"]}";{value};{value};{mark};{levels[0]};{levels[1]}\n')
    shutil.copyfile(folder / "t.rda", folder / "marked.rda")


def _judged(folder: Path) -> str:
    """The peer's pattern before our auditor."""
    import csv

    import numpy as np

    from quality.disclosure import audit, join, read_tauargus
    from quality.disclosure.auditor import bounds, demand_from_truth

    table, spec = read_tauargus(folder / "t.tab")
    place = [{code: i for i, code in enumerate(d.codes)} for d in table.dimensions]
    hidden = np.zeros(len(table), dtype=bool)
    with (folder / "peer.csv").open() as lines:
        for geo, cat, rest in (
            (row[0], row[1], row[-1]) for row in csv.reader(line.replace(";", ",") for line in lines)
        ):
            if geo in place[0] and cat in place[1]:
                row = int(table.rows_of(np.array([[place[0][geo], place[1][cat]]]))[0])
                if row >= 0:
                    hidden[row] = int(rest) in (9, 11, 12)
    system = join([table]).with_values([np.where(hidden, np.nan, table.value)])
    norms = spec.norms()
    lower, upper = bounds(system, norms, hidden, np.zeros_like(hidden))
    unsafe = system.status("U")
    levels = (np.where(unsafe, table.columns[name], 0.0) for name in ("lpl", "upl"))
    demand = demand_from_truth(system, table.value, hidden, *levels, lower, upper)
    result = audit(system, norms, demand=demand)
    return (
        f"{int((hidden & ~unsafe).sum())} further hidden, {len(result.failing)} under-protected by our audit "
        f"({result.seconds:.2f} s)"
    )


def _national() -> None:
    print("\nnational size, protected to width 5 and audited against the default attacker")
    for gemeenten, ages in ((35, 0), (350, 0), (3, 4), (10, 4)):
        command = [*OURS, "national", str(gemeenten), str(ages)]
        cost = measure(command)
        print(f"  {gemeenten} gemeenten{f' × {ages} ages' if ages else ''}: {_said(command)}; whole process "
              f"{cost.wall_s:.1f} s, {cost.cpu_s:.1f} s of CPU, {cost.rss_mb:.0f} MB")  # fmt: skip


def _scan(folder: Path) -> None:
    import duckdb

    path = folder / "micro.parquet"
    duckdb.sql(
        f"""COPY (SELECT (buurt // 40)::INTEGER AS gemeente, (buurt // 5)::INTEGER AS wijk, buurt::INTEGER AS buurt,
                         (8 * sqrt(random()))::INTEGER AS cat, round(exp(10 * random()), 2) AS bedrag
                  FROM (SELECT floor(14000 * random() * random()) AS buurt FROM range(5000000))) TO '{path}'"""
    )
    pairs(
        "every margin with contributors, top1 and top2 (5M records); peer: the plain grouping of DuckDB",
        [*OURS, "scan", str(path)],
        [sys.executable, PEER[1], "group", str(path)],
        at_least=1 / 1.5,
    )


def _said(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
