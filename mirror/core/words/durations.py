"""Durations as a configuration and a command line write them: ``15m``, ``1h30m``, ``500ms``."""

from __future__ import annotations

import re

MAX_DURATION_S = 100 * 365 * 86_400.0
"""A hundred years: a longer duration is a slip, and would overflow clocks later."""

_NUMBER = r"([0-9]{1,12}(?:\.[0-9]{1,6})?)"
_DURATION_UNITS = (
    ("w", 604_800.0),
    ("d", 86_400.0),
    ("h", 3_600.0),
    ("m", 60.0),
    ("s", 1.0),
    ("ms", 0.001),
)
_DURATION = re.compile("".join(f"(?:{_NUMBER}{unit})?" for unit, _ in _DURATION_UNITS))


def parse_duration(value: object) -> float:
    """Return the seconds of ``15m``, ``1h30m``, ``500ms`` or ``0``; larger units first, each
    once.
    """
    match = _DURATION.fullmatch(value) if isinstance(value, str) and value else None
    if value == "0":
        return 0.0
    if match is None:
        raise ValueError("not a duration")
    seconds = sum(
        float(n) * unit_s
        for n, (_, unit_s) in zip(match.groups(), _DURATION_UNITS, strict=True)
        if n
    )
    if seconds > MAX_DURATION_S:
        raise ValueError("longer than a hundred years")
    return round(seconds, 3)


def format_duration(seconds: float) -> str:
    """Return the shortest text that ``parse_duration`` reads as the same number of seconds, such as
    ``1h30m``.

    Days are the largest unit: ``30d`` is clearer than ``4w2d``.
    """
    rest, pieces = round(seconds * 1000), []
    for unit, unit_s in _DURATION_UNITS[1:]:
        count, rest = divmod(rest, round(unit_s * 1000))
        if count:
            pieces.append(f"{count}{unit}")
    return "".join(pieces) or "0s"
