"""The inbox: which delivered files are whole, and one taken out of its supplier's reach while it is judged.

A file that is being judged stands under another name: a correction that is dropped under its old name meanwhile is a
file of its own, which nobody deletes unseen, and nobody cuts off the file that is being read. What a killed run left
there is waiting still.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

UNFINISHED = (".part", ".tmp", ".filepart", ".crdownload")
"""Suffixes that transfer programs give to a file until it is whole."""

SETTLED_S = 30
"""Where nobody can tell whether a file is still open, it is whole when untouched for this long (seconds)."""

STALLED_S = 3600
"""A file that is still open but untouched for this long (seconds) is no longer waited for: some network folders
call every file open."""

_CLAIMED = ".in_behandeling"
_LOOK_S = 0.5


def waiting(folder: Path) -> list[Path]:
    """Files in the inbox of one delivery that do not call themselves unfinished, and what a killed run left."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if not path.name.startswith(".") and _is_file(path)]
    return [
        *(path for path in found if path.suffix.lower() not in UNFINISHED),
        *(path for path in folder.glob(f"{_CLAIMED}/*/*") if _is_file(path)),
    ]


def strange(folder: Path) -> list[Path]:
    """What lies in the inbox of one delivery and is no file of its own: links, pipes, sockets and devices.

    A link would have the intake read, with its own rights, what whoever made it may not.
    """
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_symlink() or not (path.is_file() or path.is_dir()))


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def is_whole(path: Path) -> bool:
    """Whether a file can be taken in: no one has it open for writing, or none has written to it for long."""
    try:
        untouched = time.time() - path.stat().st_mtime
        is_open = _is_open(path)
    except FileNotFoundError:
        return False  # withdrawn by its supplier
    if is_open is None:
        return untouched >= SETTLED_S
    return not is_open or untouched >= STALLED_S


def whole(paths: Iterable[Path]) -> list[Path]:
    """Those of the files that are whole; where that cannot be told, time is given to see whether they still grow."""
    paths = list(paths)
    end = time.monotonic() + SETTLED_S
    while any(_may_settle(path) for path in paths) and time.monotonic() < end:
        time.sleep(_LOOK_S)
    return [path for path in paths if is_whole(path)]


def _may_settle(path: Path) -> bool:
    return path.exists() and _is_open(path) is None and not is_whole(path)


def _is_open(path: Path) -> bool | None:
    """Whether some process has a file open for writing; None where that cannot be told."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        return None  # told when it is read
    try:
        # a read lease (fcntl(2)) is granted only where nobody writes; it is given back at once
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    finally:
        os.close(descriptor)
    return False


@contextmanager
def claimed(path: Path, inbox: Path) -> Iterator[Path]:
    """A file of the inbox under a name of its own; gone afterwards, back in place where the block fails.

    A file that stands elsewhere is left as it is.

    Yields:
        where it is to be read.
    """
    if inbox not in path.absolute().parents:
        yield path
        return
    place = path if path.parents[1].name == _CLAIMED else _claim(path)
    try:
        yield place
    except Exception:
        _give_back(place)
        raise
    place.unlink()
    _tidy(place)


def _claim(path: Path) -> Path:
    stamp = path.stat()
    # a name in another encoding is no text that the vault could keep
    name = os.fsencode(path.name).decode("utf-8", "replace")
    place = path.parent / _CLAIMED / f"{stamp.st_ino}-{stamp.st_mtime_ns}" / name
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.rename(place)
    return place


def _give_back(place: Path) -> None:
    home = place.parents[2] / place.name
    try:
        os.link(place, home)  # unlike a rename it never replaces what was dropped there meanwhile
    except OSError:
        return  # the next run finds it where it stands
    place.unlink()
    _tidy(place)


def _tidy(place: Path) -> None:
    for folder in place.parents[:2]:
        try:
            folder.rmdir()
        except OSError:
            return  # another file is there
