"""Formats numbers, ages and tables for people. Pure: values in, text out.

Invariants: a text from an index passes ``safe`` before it reaches a terminal; nothing here uses
colours or inspects a terminal.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from mirror.errors import shown_text
from mirror.logs import redact

_UNITS = ("kB", "MB", "GB", "TB", "PB")
_LIMIT = 600


def safe(text: str) -> str:
    """Return ``text`` fit for a terminal: no control characters, no secrets."""
    return shown_text(redact(text), limit=_LIMIT)


def size(count: int | None) -> str:
    """Return bytes as ``12.4 MB`` (10⁶); ``unknown size`` for None."""
    if count is None:
        return "unknown size"
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in _UNITS:
        value /= 1000
        if value < 999.5 or unit == _UNITS[-1]:
            break
    return f"{value:.1f} {unit}" if value < 99.95 else f"{value:,.0f} {unit}"


def counted(count: int, noun: str) -> str:
    """Return ``1 file`` or ``2,000 files``."""
    plural = f"{noun}s" if not noun.endswith("x") else f"{noun}es"
    return f"{count:,} {noun if count == 1 else plural}"


def duration(seconds: float) -> str:
    """Return a length of time to the precision that matters: ``3 s``, ``12 min``, ``5 h``, ``3 days``."""
    if seconds < 0.95:
        return f"{max(seconds, 0):.1f} s"
    for limit, unit, divisor in ((90, "s", 1), (90 * 60, "min", 60), (48 * 3600, "h", 3600)):
        if seconds < limit:
            return f"{seconds / divisor:.0f} {unit}"
    return f"{seconds / 86_400:,.0f} days"


def ago(then: float, now: float) -> str:
    """Return how long ago something was; a clock that was set back counts as «just now»."""
    return "just now" if now - then < 1 else f"{duration(now - then)} ago"


def remaining(seconds: float) -> str:
    """Return ``1:05`` or ``2:03:04`` for a countdown; days for a long one."""
    whole = round(seconds)
    if whole >= 2 * 86_400:
        return duration(whole)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def table(rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> list[str]:
    """Return lines with aligned columns, the first row the head; columns of ``right`` are aligned to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def folded(lines: Iterable[str], width: int | None) -> list[str]:
    """Break lines between words so that they fit ``width`` columns; None, for a pipe, leaves them whole.

    The indentation of a line is kept, a path or URL is never broken, and an aligned table stays as it is.
    """
    out: list[str] = []
    for line in lines:
        if width is None or len(line) <= width or "  " in line.strip():
            out.append(line)
            continue
        indent = " " * (len(line) - len(line.lstrip()))
        out += textwrap.wrap(
            line.strip(),
            max(width, 20),
            initial_indent=indent,
            subsequent_indent=f"{indent}  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return out


def stdout_width() -> int | None:
    """Return the columns of the terminal on standard output, or None without one."""
    import shutil
    import sys

    if sys.stdout is None or not sys.stdout.isatty():
        return None
    return shutil.get_terminal_size().columns
