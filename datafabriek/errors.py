"""What a user can cause or mend: every such error is a `FactoryError`, told in one message without a traceback."""

from __future__ import annotations

import errno

DISK_FULL = "the disk is full: free some space, then try again; what is complete is kept, and the next run carries on"

_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_FULL_SQLITE = frozenset(
    ("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE", "SQLITE_IOERR_SHMMAP", "SQLITE_IOERR_SHMOPEN")
)
"""What SQLite calls it; in WAL mode mostly one of its I/O errors, whose message does not tell them apart."""

_TOLD_FULL = (
    *("No space left on device", "Disk quota exceeded", "File too large", "database or disk is full"),
    # DuckDB's words for a write that was cut short, and for spill files that find no room
    *("Could not write all bytes", "failed to offload data block"),
)


class FactoryError(Exception):
    """A failure with a cause and a remedy that the message names.

    Subclasses set `exit_code` where a script should be able to tell them apart: 1 for work that failed,
    2 for bad input or configuration, 3 for a factory in use, 4 for a source out of reach.
    """

    exit_code = 1


_REMEDIES = {
    **dict.fromkeys((errno.EACCES, errno.EPERM), "run as the user who owns it, or have that user give you the rights"),
    errno.EROFS: "choose a folder that can be written to",
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), "a file stands where a folder must be: choose another path"),
    errno.ENOENT: "it is not there (any more): put it back, or correct the path",
}
"""What to do about an error of the operating system that no part of the factory foresaw."""


def of_system(error: OSError) -> str:
    """An error of the operating system with its file and, where there is one, its remedy."""
    where = f" ({error.filename})" if error.filename else ""
    remedy = f": {_REMEDIES[error.errno]}" if error.errno in _REMEDIES else ""
    return f"{error.strerror or error}{where}{remedy}"


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or one behind it, tells that no space is left: of the system, of SQLite or of DuckDB."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if getattr(error, "sqlite_errorname", None) in _FULL_SQLITE or tells_disk_full(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def tells_disk_full(text: str) -> bool:
    """The same of a message."""
    return any(told in text for told in _TOLD_FULL)
