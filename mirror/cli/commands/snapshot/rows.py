"""A snapshot as ``--json`` prints it."""

from __future__ import annotations

import time
from typing import Any

from mirror.state.frozen.snapshots import SnapshotRow


def row_json(row: SnapshotRow, channels: list[str]) -> dict[str, Any]:
    """Return the object of a snapshot and of the channels that show it."""
    return {
        "name": row.name,
        "made_at": utc_time(row.made_at),
        "note": row.note,
        "revision": None if row.rebuilt else row.revision,
        "projects": row.projects,
        "files": row.files,
        "bytes": row.bytes,
        "channels": channels,
    }


def utc_time(seconds: float) -> str:
    """Return a moment in UTC to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
