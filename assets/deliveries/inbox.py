"""The inbox: which delivered files are whole, and one taken out of its supplier's reach while it is judged.

A file that is being judged stands under another name: a correction that is dropped under its old name meanwhile is a
file of its own, which nobody deletes unseen, and nobody cuts off the file that is being read. What a killed run left
there is waiting still.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from assets.deliveries.delivered import DeliveryError

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
        *(path for path in _left_behind(folder) if _is_file(path)),
    ]


def _left_behind(folder: Path) -> Iterator[Path]:
    """What a killed run left; a link in the place of one of its folders leads nowhere."""
    claims = folder / _CLAIMED
    for place in claims.iterdir() if _is_folder(claims) else ():
        yield from place.iterdir() if _is_folder(place) else ()


def passed_over(folder: Path) -> dict[str, int]:
    """What lies in a folder of the inbox and is not taken in: how many `folders`, `hidden` and `unfinished` files.

    A file that calls itself unfinished counts once it was left alone for `STALLED_S`.
    """
    counts = {"folders": 0, "hidden": 0, "unfinished": 0}
    for path in folder.iterdir() if folder.is_dir() else ():
        is_unfinished = path.suffix.lower() in UNFINISHED
        if _is_folder(path):
            counts["folders"] += path.name != _CLAIMED
        elif is_unfinished and _is_file(path):
            counts["unfinished"] += time.time() - path.stat().st_mtime >= STALLED_S
        elif path.name.startswith(".") and _is_file(path):
            counts["hidden"] += 1
    return {kind: count for kind, count in counts.items() if count}


def strange(folder: Path) -> list[Path]:
    """What lies in the inbox of one delivery and is no file of its own: links, pipes, sockets and devices.

    A link would have the intake read, with its own rights, what whoever made it may not.
    """
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_symlink() or not (path.is_file() or path.is_dir()))


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def changed(path: Path) -> int:
    """When a file was last written to (nanoseconds); 0 where it is gone."""
    try:
        return path.lstat().st_mtime_ns
    except FileNotFoundError:
        return 0


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
        # a pipe that took its place would wait for ever, a link lead elsewhere
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        return None  # told when it is read
    except OSError as error:
        if error.errno == errno.ELOOP:
            return False  # told when it is claimed
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return False  # told when it is claimed
        # a read lease (fcntl(2)) is granted only where nobody writes; it is given back at once
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    finally:
        os.close(descriptor)
    return False


class SwappedError(DeliveryError):
    """What is no file of its own took a file's place after it was seen."""


class WithdrawnError(DeliveryError):
    """A file that its supplier took back after it was seen."""


@dataclass(frozen=True)
class Claim:
    """A file that is being taken in: the name that it was given, and under which it is opened, whoever moves what."""

    name: str
    opened: Path


@contextmanager
def claimed(path: Path, inbox: Path) -> Iterator[Claim]:
    """A file of the inbox under a name of its own; gone afterwards, back in place where the block fails.

    A file that stands elsewhere is left as it is. Whoever may write in the folder of a delivery may swap a link for a
    file, or for a folder on the way to it, between any two steps: so every step goes by descriptors, and only what was
    opened without following a link is read and removed.

    Raises:
        SwappedError: it is no file (any more); it is put back.
    """
    if inbox not in path.absolute().parents:
        yield Claim(path.name, path)
        return
    with ExitStack() as held:
        home, claims, place, name = _claim(path, held)
        try:
            with _opened(name, place) as descriptor:
                yield Claim(name, Path(f"/proc/self/fd/{descriptor}"))
        except Exception:
            # unlike a rename a link never replaces what was dropped there meanwhile; else the next run finds it here
            with suppress(OSError):
                os.link(name, name, src_dir_fd=place, dst_dir_fd=home, follow_symlinks=False)
                _remove(name, place, claims, home)
            raise
        _remove(name, place, claims, home)


def _claim(path: Path, held: ExitStack) -> tuple[int, int, int, str]:
    """Descriptors of the delivery's folder, that of what is in work and the file's own in it, and the file's name."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

    def inner(name: str, within: int) -> int:
        descriptor = os.open(name, flags | os.O_NOFOLLOW, dir_fd=within)
        held.callback(os.close, descriptor)
        return descriptor

    def made(name: str, within: int) -> int:
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=within)
        return inner(name, within)

    is_left = path.parents[1].name == _CLAIMED
    home = os.open(path.parents[2] if is_left else path.parent, flags)
    held.callback(os.close, home)
    try:
        if is_left:
            claims = inner(_CLAIMED, home)
            return home, claims, inner(path.parent.name, claims), path.name
        stamp = os.stat(path.name, dir_fd=home, follow_symlinks=False)
        claims = made(_CLAIMED, home)
        place = made(f"{stamp.st_ino}-{stamp.st_mtime_ns}", claims)
        # a name in another encoding is no text that the vault could keep
        name = os.fsencode(path.name).decode("utf-8", "replace")
        os.rename(path.name, name, src_dir_fd=home, dst_dir_fd=place)
    except FileNotFoundError:
        raise WithdrawnError("withdrawn before it was taken in") from None
    except NotADirectoryError:
        raise SwappedError(_NO_FOLDER) from None
    return home, claims, place, name


_NO_FOLDER = f"a link took the place of {_CLAIMED}, where files stand that are in work: remove it"


@contextmanager
def _opened(name: str, place: int) -> Iterator[int]:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise SwappedError(STRANGE) from None
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise SwappedError(STRANGE)
        yield descriptor
    finally:
        os.close(descriptor)


STRANGE = "no file of its own but a link, pipe or device lies in the inbox: remove it, and deliver a file"


def _remove(name: str, place: int, claims: int, home: int) -> None:
    number = Path(f"/proc/self/fd/{place}").readlink().name
    os.unlink(name, dir_fd=place)
    with suppress(OSError):  # another file is there
        os.rmdir(number, dir_fd=claims)
        os.rmdir(_CLAIMED, dir_fd=home)
