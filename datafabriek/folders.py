"""Folders of the factory on disk: made for the owner alone.

Stands apart from the configuration, which takes a quarter of a second to import.
"""

from __future__ import annotations

from pathlib import Path


def private_folder(folder: Path) -> Path:
    """Make a folder that only its owner can read (mode 0700), and so every folder above it that is missing.

    `mkdir(parents=True)` gives the ones above the umask's mode, so each is made by itself.
    """
    for missing in reversed([folder, *folder.parents]):
        if not missing.exists():
            missing.mkdir(mode=0o700, exist_ok=True)
    return folder
