"""When each table of CBS was last found to be what CBS has; no history of it is kept, so it stands beside the ledger.

Stands apart, so that `status` need not import what lands tables.
"""

from __future__ import annotations

import json
from pathlib import Path


def note_checked(path: Path, subject: str, at: str) -> None:
    """Keep that a table was looked at.

    Args:
        path: the file (`settings.paths.checked_cbs`).
        subject: schema and table.
        at: UTC, ISO 8601.
    """
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(checked(path) | {subject: at}, indent=1), encoding="utf-8")
    fresh.replace(path)


def checked(path: Path) -> dict[str, str]:
    """When each table was last looked at (UTC, ISO 8601); empty where nothing was noted."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
