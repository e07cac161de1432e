"""Lists of parameters in a statement: their marks, and chunks of a length that SQLite takes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

_CHUNK = 500


def marks(values: Collection[object]) -> str:
    """Return ``?,?,?``: a mark for each value of a list in a statement."""
    return ",".join("?" * len(values))


def chunks(values: Sequence[T], size: int = _CHUNK) -> Iterator[Sequence[T]]:
    """Yield parts of at most ``size`` values, in order; none of no values."""
    for start in range(0, len(values), size):
        yield values[start : start + size]
