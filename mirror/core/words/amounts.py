"""Numbers, sizes and ages as people read them; pure."""

from __future__ import annotations

_UNITS = ("kB", "MB", "GB", "TB", "PB")


def size(count: int | None) -> str:
    """Return bytes as ``12.4 MB`` (10⁶); ``unknown size`` for None."""
    if count is None:
        return "unknown size"
    if count < 1000:
        return f"{count} B"
    value, power = count / 1000, 0
    while value >= 999.5 and power < len(_UNITS) - 1:
        value, power = value / 1000, power + 1
    unit = _UNITS[power]
    return f"{value:.1f} {unit}" if value < 99.95 else f"{value:,.0f} {unit}"


def counted(count: int, noun: str) -> str:
    """Return ``1 file`` or ``2,000 files``."""
    plural = f"{noun}s" if not noun.endswith("x") else f"{noun}es"
    return f"{count:,} {noun if count == 1 else plural}"


def duration(seconds: float) -> str:
    """Return a length of time to the precision that matters: ``3 s``, ``12 min``, ``5 h``, ``3
    days``.
    """
    if seconds < 0.95:
        return f"{max(seconds, 0):.1f} s"
    for limit, unit, divisor in ((90, "s", 1), (90 * 60, "min", 60), (48 * 3600, "h", 3600)):
        if seconds < limit:
            return f"{seconds / divisor:.0f} {unit}"
    return f"{seconds / 86_400:,.0f} days"


def ago(then: float, now: float) -> str:
    """Return how long ago something was; a clock that was set back counts as «just now»."""
    return "just now" if now - then < 1 else f"{duration(now - then)} ago"
