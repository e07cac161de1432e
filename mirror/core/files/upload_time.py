"""Upload times that clients can read (PEP 700): one that a client can't read makes the whole
project uninstallable.

pip reads the formats of ``datetime.fromisoformat`` of its own Python, from 3.10 on; uv reads an
instant with an offset. The stored times are readable for both.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

_SHAPE = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ]"
    r"[0-9]{2}(?::[0-9]{2}(?::[0-9]{2}(?:\.(?:[0-9]{3}|[0-9]{6}))?)?)?"
    r"(?:Z|[+-][0-9]{2}:[0-9]{2})\Z"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(9999, 12, 30, 22, 0, 0, 999_999, tzinfo=UTC) - _EPOCH
"""The last instant that uv can hold."""


def is_readable_time(text: str) -> bool:
    """Return whether pip and uv both read ``text`` as an upload time."""
    return upload_seconds(text) is not None


def upload_seconds(text: str | None) -> float | None:
    """Return a listed upload time in seconds since the epoch; None where clients can't read it."""
    if text is None or not _SHAPE.match(text):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    since = moment - _EPOCH
    return since.total_seconds() if since <= _LATEST else None
