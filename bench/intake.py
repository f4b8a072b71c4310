"""A municipal delivery of fixed width (BUS), checked, pseudonymised and loaded, against pandas, pandera and hmac."""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from bench.harness import measure, pairs

HERE = Path(__file__).parent
DELIVERY = [sys.executable, str(HERE / "intake_delivery.py")]
OURS = [sys.executable, str(HERE / "intake_ours.py")]
PEER = [sys.executable, str(HERE / "intake_peer.py")]

ROWS, MANY = 1_000_000, 5_000_000
DIRT = 0.1
TIMES = 3  # the peer takes minutes
MOST_MB = 2_000
SLACK = 1.1


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for what, dirt in {"clean": 0.0, f"{DIRT:.0%} of them with a fault": DIRT}.items():
            file = _written(Path(folder), ROWS, dirt)
            pairs(
                f"BUS, {ROWS:,} records of 153 positions, {what}, into vault and purpose; "
                "peer: read_fwf, pandera, hmac, DuckDB",
                [*OURS, str(file)],
                [*PEER, str(file)],
                times=TIMES,
                at_least=10,
            )
            _grown(what, file, _written(Path(folder), MANY, dirt))


def _written(folder: Path, rows: int, dirt: float) -> Path:
    file = folder / f"{rows}-{dirt}" / "BUS_202001.txt"
    file.parent.mkdir()
    measure([*DELIVERY, str(rows), str(file), str(dirt)])  # in a process of its own: this one stays small
    return file


def _grown(what: str, few: Path, many: Path) -> None:
    """Measure in turn how time and memory grow with the rows."""
    costs = [(measure([*OURS, str(few)]), measure([*OURS, str(many)])) for _ in range(TIMES)]
    wall = statistics.median(more.wall_s / less.wall_s for less, more in costs)
    cpu = statistics.median(more.cpu_s / less.cpu_s for less, more in costs)
    most = max(more.rss_mb for _, more in costs)
    last = costs[-1][1]
    limit = MANY / ROWS * SLACK
    print(f"\nBUS, {MANY:,} records, {what}: {last.wall_s:.1f} s, {last.cpu_s:.1f} s of CPU, {most:.0f} MB")
    print(f"  under {MOST_MB} MB: {'met' if most < MOST_MB else 'MISSED'}")
    print(
        f"  {wall:.1f} times the time and {cpu:.1f} times the CPU for {MANY // ROWS} times the rows, "
        f"at most {limit:g}: {'met' if max(wall, cpu) <= limit else 'MISSED'}"
    )
