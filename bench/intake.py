"""A municipal delivery of fixed width (BUS), checked, pseudonymised and loaded, against pandas, pandera and hmac."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from bench.harness import measure, pairs

HERE = Path(__file__).parent
OURS = [sys.executable, str(HERE / "intake_ours.py")]
PEER = [sys.executable, str(HERE / "intake_peer.py")]

ROWS, MANY = 1_000_000, 5_000_000
TIMES = 3  # the peer takes minutes
MOST_MB = 2_000


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        file, large = Path(name) / "BUS_202001.txt", Path(name) / "large" / "BUS_202001.txt"
        measure([*OURS, "write", str(ROWS), str(file)])  # in a process of its own: this one stays small
        pairs(
            f"BUS, {ROWS:,} records of 153 positions into vault and purpose; peer: read_fwf, pandera, hmac, DuckDB",
            [*OURS, "take", str(file)],
            [*PEER, str(file)],
            times=TIMES,
            at_least=10,
        )
        one = measure([*OURS, "take", str(file)])
        large.parent.mkdir()
        measure([*OURS, "write", str(MANY), str(large)])
        many = measure([*OURS, "take", str(large)])
        growth = many.cpu_s / one.cpu_s
        print(f"\nBUS, {MANY:,} records alone: {many.wall_s:.1f} s, {many.cpu_s:.1f} s of CPU, {many.rss_mb:.0f} MB")
        print(f"  under {MOST_MB} MB: {'met' if many.rss_mb < MOST_MB else 'MISSED'}")
        told = "met" if growth <= MANY / ROWS else "MISSED"
        print(f"  {growth:.1f} times the CPU for {MANY // ROWS} times the rows, no faster than the rows: {told}")
