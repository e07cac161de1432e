"""Text forms of durations, sizes, ratios and paths in a configuration, read and written.

Each of them is a ``Unit``: one place that names the expected form, reads it, writes it and
describes it to JSON Schema. A reader raises ``ValueError``; the caller adds the key and the
expected form.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from mirror.core.words.durations import format_duration, parse_duration

MAX_SIZE_BYTES = 2**62

_SIZE_UNITS = {
    "": 1,
    "b": 1,
    **{f"{prefix}b": 1000**n for n, prefix in enumerate("kmgtp", start=1)},
    **{f"{prefix}ib": 1024**n for n, prefix in enumerate("kmgtp", start=1)},
}
_SIZE = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,6})?) ?([A-Za-z]{0,3})")
_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?) ?%")


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """One way of writing a value.

    ``read`` also takes the directory that relative paths start from.
    """

    expected: str
    read: Callable[[object, Path], Any]
    write: Callable[[Any], str | int | float]
    schema: dict[str, Any]


def parse_size(value: object) -> int:
    """Return the bytes of ``50MiB`` (2²⁰), ``4GB`` (10⁹), ``"1024"`` or ``1024``."""
    if isinstance(value, int) and not isinstance(value, bool):
        count = value
    else:
        match = _SIZE.fullmatch(value) if isinstance(value, str) else None
        unit = _SIZE_UNITS.get(match[2].lower()) if match else None
        if match is None or unit is None:
            raise ValueError("not a size")
        count = round(float(match[1]) * unit) if "." in match[1] else int(match[1]) * unit
    if not 0 <= count <= MAX_SIZE_BYTES:
        raise ValueError("out of range")
    return count


def format_size(size: int) -> str:
    """Return the shortest exact writing that ``parse_size`` reads as the same number of bytes."""
    for power, prefix in sorted(enumerate("KMGTP", start=1), reverse=True):
        for unit, factor in (
            (f"{prefix}iB", 1024**power),
            (f"{'k' if prefix == 'K' else prefix}B", 1000**power),
        ):
            if size and size % factor == 0:
                return f"{size // factor}{unit}"
    return str(size)


def parse_ratio(value: object) -> float:
    """Return the part of one that ``0.1`` or ``"10%"`` means: from 0 to 1."""
    if isinstance(value, str):
        match = _PERCENT.fullmatch(value)
        if match is None:
            raise ValueError("not a ratio")
        ratio = round(float(match[1]) / 100, 10)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        ratio = float(value)
    else:
        raise ValueError("not a ratio")  # noqa: TRY004 - every reader of a unit has one kind of error
    if not 0.0 <= ratio <= 1.0:
        raise ValueError("out of range")
    return ratio


def parse_rate(value: object) -> float:
    """Return a finite number of 0 or more."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or value < 0
    ):
        raise ValueError("not a rate")
    return float(value)


def parse_path(value: object, base: Path) -> Path:
    """Return a path, absolute: ``~`` is the home directory, a relative one starts at ``base``."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("not a path")
    try:
        return base / Path(value).expanduser()
    except RuntimeError as exc:
        raise ValueError("no such home directory") from exc


def _positive(read: Callable[[object], Any]) -> Callable[[object, Path], Any]:
    def checked(value: object, _base: Path) -> Any:
        if (parsed := read(value)) <= 0:
            raise ValueError("must be more than 0")
        return parsed

    return checked


_DURATION_SCHEMA = {
    "type": "string",
    "pattern": "^(0|([0-9.]+w)?([0-9.]+d)?([0-9.]+h)?([0-9.]+m)?([0-9.]+s)?([0-9.]+ms)?)$",
    "examples": ["15m", "1h30m", "30d"],
}
_SIZE_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": 0},
        {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)? ?([bB]|[kKmMgGtTpP][iI]?[bB])?$"},
    ],
    "examples": ["50MiB", "4GB", 0],
}

DURATION = Unit(
    expected='a duration such as "15m"',
    read=lambda value, _base: parse_duration(value),
    write=format_duration,
    schema=_DURATION_SCHEMA,
)
POSITIVE_DURATION = Unit(
    expected='a duration such as "15m", more than 0',
    read=_positive(parse_duration),
    write=format_duration,
    schema=_DURATION_SCHEMA,
)
SIZE = Unit(
    expected='a size such as "50MiB" or "4GB", or a number of bytes',
    read=lambda value, _base: parse_size(value),
    write=format_size,
    schema=_SIZE_SCHEMA,
)
POSITIVE_SIZE = Unit(
    expected='a size such as "50MiB" or "4GB", or a number of bytes, more than 0',
    read=_positive(parse_size),
    write=format_size,
    schema=_SIZE_SCHEMA,
)
RATIO = Unit(
    expected='a ratio from 0 to 1, such as 0.1 or "10%"',
    read=lambda value, _base: parse_ratio(value),
    write=lambda ratio: ratio,
    schema={
        "anyOf": [
            {"type": "number", "minimum": 0, "maximum": 1},
            {"type": "string", "pattern": "^[0-9.]+ ?%$"},
        ],
        "examples": [0.1, "10%"],
    },
)
RATE = Unit(
    expected="a number of 0 or more",
    read=lambda value, _base: parse_rate(value),
    write=lambda rate: int(rate) if rate == int(rate) else rate,
    schema={"type": "number", "minimum": 0},
)
PATH = Unit(
    expected="a path in quotes",
    read=parse_path,
    write=str,
    schema={"type": "string", "minLength": 1},
)
