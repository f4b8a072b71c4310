"""One writer at a time: the exclusive lock that every writing command and every run holds.

DuckDB has one writer (docs/adr/001). The lock is an advisory `flock` on a file in the home: the kernel frees it
when its holder ends, however it ends, so a killed run leaves nothing to clean up.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from datafabriek.errors import FactoryError
from datafabriek.folders import private_folder

_held: dict[Path, int] = {}


class FactoryBusyError(FactoryError):
    """Another process works on this factory: the message says which and since when."""

    exit_code = 3


@contextmanager
def factory_lock(path: Path, what: str) -> Iterator[None]:
    """Hold the factory's lock for the duration of the block; re-entrant within one process.

    Args:
        path: the lock file (`settings.paths.lock`).
        what: the work done under it, told to whoever finds the lock taken.

    Raises:
        FactoryBusyError: another process holds it.
    """
    if path in _held:
        _held[path] += 1
        try:
            yield
        finally:
            _held[path] -= 1
        return
    private_folder(path.parent)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FactoryBusyError(_told_by(path)) from None
        holder = {
            "pid": os.getpid(),
            "mark": process_mark(),
            "what": what,
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        _held[path] = 1
        try:
            yield
        finally:
            del _held[path]
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether this very process holds the lock: it is a run, or another command that writes."""
    return path in _held


def is_taken(path: Path) -> bool:
    """Whether a living process says to hold the lock: a look that never gets in its way, not a promise."""
    try:
        return is_alive(json.loads(path.read_text())["mark"])
    except (OSError, ValueError, KeyError):
        return False


def process_mark() -> str:
    """This process, told apart from a later one with the same number: `<pid>:<start in clock ticks>`."""
    return f"{os.getpid()}:{_started(os.getpid())}"


def is_alive(mark: str) -> bool:
    """Whether the process that gave itself this `process_mark` still runs."""
    pid, _, started = mark.partition(":")
    return bool(started) and started == _started(int(pid))


def _started(pid: int) -> str:
    """Start of a process in clock ticks since boot (proc(5), field 22); empty where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _told_by(path: Path) -> str:
    try:
        holder = json.loads(path.read_text())
        told = f"process {holder['pid']} ({holder['what']}, since {holder['since']})"
    except (OSError, ValueError, KeyError):
        told = "another process"
    return f"this factory is in use by {told}: wait for it to end, then try again"
