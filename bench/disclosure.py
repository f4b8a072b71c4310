"""Disclosure control against pytauargus 0.6.0, at national size, and the scan for unsafe cells.

`BENCH_LARGE=1` adds the 780,795 cells of four age groups, which take some ten minutes.
"""

from __future__ import annotations

import csv
import os
import shutil
import sys
import tempfile
from pathlib import Path

from bench.harness import measure, pairs

HERE = Path(__file__).parent
OURS = [sys.executable, str(HERE / "disclosure_ours.py")]
PEER = [sys.executable, str(HERE / "disclosure_peer.py")]
SHARED = HERE.parents[1] / "shared" / "data" / "sdc"
TIMES = 3


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if SHARED.is_dir():
            _twenty_gemeenten(folder)
            _turnover(folder)
        else:
            print(f"left out: the cases with known answers are not at {SHARED}")
        _national()
        _scan(folder)


def _twenty_gemeenten(folder: Path) -> None:
    for file in (SHARED / "synthetic_geo20").iterdir():
        shutil.copyfile(file, folder / file.name)
    tab = folder / "t.tab"
    (folder / "patterns").mkdir()
    (folder / "geo20.yaml").write_text(
        "dimensions: {geo: {hierarchy: geo.hrc}, cat: {}}\nmeasure: val\nprimary: [{rule: given}]\n"
        "protection: {columns: true}\nattacker: {lower: 0}\n"
    )
    peer = [*PEER, "MOD", str(tab), str(folder / "peer.csv")]
    ours = [*OURS, "fast", "unit", str(folder / "patterns"), str(tab)]
    told = "20 gemeenten × 8 categories (7,461 cells), protect and audit; peer: pytauargus MOD and its audit"
    said = pairs(told, ours, peer, times=TIMES, at_least=10)
    print("  peer:", said[1], "\n  ours:", said[0])
    _judged_by_both(folder, tab, folder / "patterns" / "t.csv")
    print("  peer's pattern,", _ours_on(tab, folder / "peer.csv"))
    pairs(
        "the same as two commands with files, protect (which audits) and audit --truth; peer as before",
        [*OURS, "commands", str(folder / "geo20.yaml"), str(tab), str(folder)], peer, times=TIMES, at_least=10,
    )  # fmt: skip
    cost = measure([*OURS, "exact", "unit", str(folder / "patterns"), str(tab)])
    print(f"\n  ours, least cost: {cost.said}; {cost.cpu_s:.0f} s of CPU")
    _judged_by_both(folder, tab, folder / "patterns" / "t.csv")


def _turnover(folder: Path) -> None:
    """The tables of rtauargus: unsafe are 0 < N_OBS < 3 or MAX over 85% of TOT, levels 10% of the value."""
    source = SHARED / "rtauargus"
    tabs = [_tab(folder, source / f"turnover_act_{name}.csv") for name in ("size", "cj")]
    patterns = folder / "turnover"
    patterns.mkdir()
    z1 = measure([*OURS, "z1", str(SHARED / "gausssuppression" / "z1.csv")])
    print(f"\ngausssuppression z1, minimum 4, margins added (its own answer: 6 hidden): {z1.said}")
    print("\nrtauargus turnover_act_size (414 cells; τ-ARGUS OPT: 64 further hidden at cost TOT)")
    for cost in ("value", "unit"):
        print(f"  ours, cost {cost}:", measure([*OURS, "exact", cost, str(patterns), str(tabs[0])]).said)
        _judged_by_both(folder, tabs[0], patterns / f"{tabs[0].stem}.csv")
    print("  pytauargus OPT:", measure([*PEER, "OPT", str(tabs[0]), str(folder / "opt.csv")]).said)
    print("  that pattern,", _ours_on(tabs[0], folder / "opt.csv"))
    print("linked with turnover_act_cj, one joint audit (τ-ARGUS: 83 and 88, each table by itself)")
    for cost in ("value", "unit"):
        print(f"  ours, cost {cost}:", measure([*OURS, "fast", cost, str(patterns), *map(str, tabs)]).said)
        for tab in tabs:
            _judged_by_both(folder, tab, patterns / f"{tab.stem}.csv")


def _tab(folder: Path, path: Path) -> Path:
    """A table of rtauargus as files of τ-ARGUS, with statuses, levels and the tree of activities."""
    tree: dict[str, str] = {}
    with (SHARED / "rtauargus" / "activity_corr_table.csv").open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            tree.setdefault(row["A10"], "")
            for code, above in ((row["A21"], row["A10"]), (row["A88"], row["A21"])):
                if code not in (above, row["A10"]):
                    tree[code] = above
    with path.open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    there = {row["ACTIVITY"] for row in rows}
    below: dict[str, list[str]] = {}
    for code, above in tree.items():
        if code in there:
            below.setdefault(above, []).append(code)

    def listed(above: str, depth: int) -> str:
        return "".join("@" * depth + code + "\n" + listed(code, depth + 1) for code in below.get(above, []))

    (folder / "activity.hrc").write_text(listed("", 0))
    other = list(rows[0])[1]
    tab = folder / f"{path.stem}.tab"
    tab.with_suffix(".rda").write_text(
        '<SEPARATOR> ";"\nACTIVITY 6\n <RECODEABLE>\n <TOTCODE> "Total"\n <HIERARCHICAL>\n'
        f' <HIERCODELIST> "activity.hrc"\n <HIERLEADSTRING> "@"\n{other} 6\n <RECODEABLE>\n <TOTCODE> "Total"\n'
        "TOT 12\n <NUMERIC>\n <DECIMALS> 4\nN 8\n <FREQUENCY>\nst 1\n <STATUS>\n"
        ' <SAFE> "S"\n <UNSAFE> "U"\n <PROTECT> "P"\nlo 12\n <NUMERIC> <LOWERPL>\nup 12\n <NUMERIC> <UPPERPL>\n'
    )
    with tab.open("w") as out:
        for row in rows:
            value, many = float(row["TOT"]), int(row["N_OBS"])
            unsafe = 0 < many < 3 or (value > 0 and float(row["MAX"]) > 0.85 * value)
            level = 0.1 * value if unsafe else 0
            out.write(
                f'"{row["ACTIVITY"]}";"{row[other]}";{row["TOT"]};{many};{"SU"[unsafe]};{level:.6f};{level:.6f}\n'
            )
    return tab


def _judged_by_both(folder: Path, tab: Path, pattern: Path) -> None:
    """Our pattern before our auditor and before that of pytauargus, every unsafe cell with its own levels."""
    hidden = {tuple(line.split(";")[:2]): line.rstrip().endswith("True") for line in pattern.read_text().splitlines()}
    marked = folder / "marked.tab"
    with tab.open() as lines, marked.open("w") as out:
        for geo, cat, value, many, mark, low, high in csv.reader(lines, delimiter=";"):
            if hidden[geo, cat]:
                # in its audit what is hidden is unsafe: levels of zero ask nothing of what protects others
                low, high, mark = (low, high, "U") if mark == "U" else ("0", "0", "U")
            out.write(f'"{geo}";"{cat}";{value};{many};{mark};{low};{high}\n')
    shutil.copyfile(tab.with_suffix(".rda"), marked.with_suffix(".rda"))
    print("  that pattern,", _ours_on(tab, pattern))
    print("  that pattern,", measure([*PEER, "audit", str(marked)]).said)


def _ours_on(tab: Path, pattern: Path) -> str:
    """What our auditor says of a pattern: ours (codes and True or False) or that of the peer (codes … status)."""
    import numpy as np

    from quality.disclosure import audit, join, read_tauargus
    from quality.disclosure.auditor import bounds, demand_from_truth

    table, spec = read_tauargus(tab)
    place = [{code: i for i, code in enumerate(d.codes)} for d in table.dimensions]
    hidden = np.zeros(len(table), dtype=bool)
    with pattern.open() as lines:
        for first, second, *_, rest in csv.reader(line.replace(";", ",") for line in lines):
            if first in place[0] and second in place[1]:
                row = int(table.rows_of(np.array([[place[0][first], place[1][second]]]))[0])
                if row >= 0:
                    hidden[row] = rest in ("True", "9", "11", "12")
    system = join([table]).with_values([np.where(hidden, np.nan, table.value)])
    norms = spec.norms()
    lower, upper = bounds(system, norms, hidden, np.zeros_like(hidden))
    unsafe = system.status("U")
    levels = (np.where(unsafe, table.columns[name], 0.0) for name in ("lpl", "upl"))
    demand = demand_from_truth(system, table.value, hidden, *levels, lower, upper)
    result = audit(system, norms, demand=demand)
    return (
        f"{int((hidden & ~unsafe).sum())} further hidden, {len(result.failing)} under-protected by our audit, "
        f"{int((unsafe & ~hidden).sum())} unsafe shown ({result.seconds:.2f} s)"
    )


def _national() -> None:
    print("\nnational size, protected to width 5 and audited against the default attacker")
    for gemeenten, ages in ((35, 0), (350, 0), (3, 4), (10, 4), *([(350, 4)] if os.environ.get("BENCH_LARGE") else [])):
        cost = measure([*OURS, "national", str(gemeenten), str(ages)])
        print(f"  {gemeenten} gemeenten{f' × {ages} ages' if ages else ''}: {cost.said}; whole process "
              f"{cost.wall_s:.1f} s, {cost.cpu_s:.1f} s of CPU, {cost.rss_mb:.0f} MB", flush=True)  # fmt: skip


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
        times=TIMES,
        at_least=1 / 1.5,
    )
