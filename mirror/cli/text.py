"""Formats numbers, ages and tables for people. Pure: values in, text out.

Invariants: a text from an index passes ``safe`` before it reaches a terminal; nothing here uses
colours or inspects a terminal.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence

from mirror.core.words.amounts import ago, counted, duration, size
from mirror.errors import shown_text
from mirror.logs import redact

__all__ = [
    "ago",
    "counted",
    "duration",
    "fits",
    "fitted_table",
    "folded",
    "remaining",
    "safe",
    "size",
    "stdout_width",
    "table",
]

_LIMIT = 600


def safe(text: str) -> str:
    """Return ``text`` fit for a terminal: no control characters, no secrets."""
    return shown_text(redact(text), limit=_LIMIT)


def remaining(seconds: float) -> str:
    """Return ``1:05`` or ``2:03:04`` for a countdown; days for a long one."""
    whole = round(seconds)
    if whole >= 2 * 86_400:
        return duration(whole)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def table(rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> list[str]:
    """Return lines with aligned columns, the first row the head; columns of ``right`` are aligned
    to the right.
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    align = [str.rjust if column in right else str.ljust for column in range(len(widths))]
    lines = []
    for row in rows:
        cells = [align[column](cell, widths[column]) for column, cell in enumerate(row)]
        lines.append("  ".join(cells).rstrip())
    return lines


def fits(lines: Sequence[str], width: int | None) -> bool:
    """Return whether no line is longer than ``width`` columns; None for a pipe, which has no
    width.
    """
    return width is None or max(map(len, lines)) <= width


def fitted_table(
    rows: Sequence[Sequence[str]], width: int | None, *, right: frozenset[int] = frozenset()
) -> list[str]:
    """Return a table; where it is wider than ``width`` columns, a block for each row: its first
    cell, and below it each other cell that is not empty, after its column's name.

    ``width``: None for a pipe, where a table has any width.
    """
    lines = table(rows, right=right)
    if fits(lines, width):
        return lines
    names, *others = rows
    blocks: list[str] = []
    for first, *cells in others:
        blocks.append(first)
        named = zip(names[1:], cells, strict=True)
        blocks += [f"  {name.lower()}: {cell}" for name, cell in named if cell]
    return folded(blocks, width)


def folded(lines: Iterable[str], width: int | None) -> list[str]:
    """Break lines between words so that they fit ``width`` columns; None, for a pipe, leaves them
    whole.

    The indentation of a line is kept, a path or URL is never broken, and an aligned table stays as
    it is.
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
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    return shutil.get_terminal_size().columns
