"""How long to wait before the next try: exponential backoff with full jitter, and ``Retry-After``.

Pure: the clock and the randomness are arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MAX_RETRY_AFTER_S = 7 * 24 * 3600.0
"""A longer ``Retry-After`` is read as this: no caller waits for it anyway, and sums with it must
not overflow.
"""

_MAX_DOUBLINGS = 32
_FLOOR_SHARE = 0.1


def delay_s(tries_made: int, *, base_s: float, cap_s: float, random: Callable[[], float]) -> float:
    """Return the seconds to wait after ``tries_made`` (1 or more) failed tries.

    Full jitter over a window that doubles from ``base_s`` up to ``cap_s``; never less than a tenth
    of ``base_s``, so that an unlucky draw is not an immediate repetition. ``random`` gives numbers
    in [0, 1).
    """
    window_s = min(cap_s, base_s * 2.0 ** min(max(tries_made - 1, 0), _MAX_DOUBLINGS))
    floor_s = min(window_s, base_s * _FLOOR_SHARE)
    return floor_s + (window_s - floor_s) * random()


def parse_retry_after(value: str | None, *, now: datetime) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for (RFC 9110, 10.2.3), or None where
    it can't be read.

    Both forms: seconds and an HTTP date. A date in the past means 0. ``now`` is aware.
    """
    text = (value or "").strip()
    if not text:
        return None
    if text.isascii() and text.isdigit():
        # int() of very many digits is refused by Python and would be slow before that.
        return MAX_RETRY_AFTER_S if len(text) > 9 else min(float(text), MAX_RETRY_AFTER_S)
    try:
        until = parsedate_to_datetime(text)
    except (ValueError, IndexError, TypeError, OverflowError):
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return min(max((until - now).total_seconds(), 0.0), MAX_RETRY_AFTER_S)
