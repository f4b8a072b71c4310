"""Whole processes measured in pairs, project and peer in turn, so that a noisy machine touches both alike."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TIMES = 5


@dataclass(frozen=True)
class Cost:
    """What one process took: seconds on the wall, seconds of CPU, the most memory it held at one time; what it said."""

    wall_s: float
    cpu_s: float
    rss_mb: float
    said: str = ""


def measure(command: Sequence[str]) -> Cost:
    """Run a command to its end. A child's peak memory starts at its parent's, so keep the caller small."""
    start = time.perf_counter()
    # where bytecode is not kept, whoever was not compiled by an installer is compiled anew in each run
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryFile() as out:
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, env=kept)
        assert child.stderr is not None
        said = child.stderr.read()
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - start
        out.seek(0)
        told = out.read().decode().strip()
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{said.decode()[-2000:]}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, told)


def pairs(
    what: str,
    ours: Sequence[str],
    peer: Sequence[str],
    *,
    times: int = TIMES,
    warm: bool = False,
    at_least: float | None = None,
    at_most_mb: float | None = None,
) -> tuple[str, str]:
    """Measure two commands in turn and print medians, the median ratio and whether the targets are met.

    With `warm` each runs once before, uncounted, so that neither is compiled to bytecode in the runs that count.
    Returns what each said the last time.
    """
    for command in (ours, peer) if warm else ():
        measure(command)
    costs = [(measure(ours), measure(peer)) for _ in range(times)]
    print(f"\n{what} (median of {times} pairs)")
    print(f"  {'':10}{'wall s':>9}{'CPU s':>9}{'peak MB':>9}")
    for index, name in enumerate(("ours", "peer")):
        wall, cpu, rss = (
            statistics.median(getattr(pair[index], field) for pair in costs) for field in ("wall_s", "cpu_s", "rss_mb")
        )
        print(f"  {name:10}{wall:9.2f}{cpu:9.2f}{rss:9.0f}")
    ratios = [other.wall_s / own.wall_s for own, other in costs]
    met = "" if at_least is None else f"; at least {at_least:g}: {_verdict(statistics.median(ratios) >= at_least)}"
    print(f"  ratio {statistics.median(ratios):.1f} (from {min(ratios):.1f} to {max(ratios):.1f}){met}")
    cpu = statistics.median(other.cpu_s / own.cpu_s for own, other in costs)
    print(f"  ratio of CPU {cpu:.1f}, which a busy machine blurs less")
    if at_most_mb is not None:
        most = max(own.rss_mb for own, _ in costs)
        print(f"  ours at most {at_most_mb:g} MB: {_verdict(most <= at_most_mb)} ({most:.0f})")
    sys.stdout.flush()
    return costs[-1][0].said, costs[-1][1].said


def _verdict(met: bool) -> str:
    return "met" if met else "MISSED"


@contextmanager
def serving(script: Path, *arguments: str) -> Iterator[str]:
    """A server in a process of its own; it prints its address when it is ready and stops at the end of the block."""
    child = subprocess.Popen([sys.executable, str(script), *arguments], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        address = child.stdout.readline().strip()
        if not address:
            raise SystemExit(f"{script} did not start serving")
        yield address
    finally:
        child.terminate()
        child.wait()
