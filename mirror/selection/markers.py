"""Markers of lock files, in which a choice of extras and groups counts as made.

A lock is mirrored whole: each part of a marker that speaks of ``extra``, ``extras`` or
``dependency_groups`` counts as true, negated ones too, so that each side of uv's ``conflicts`` is
kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from packaging.markers import InvalidMarker, Marker, UndefinedComparison, UndefinedEnvironmentName

__all__ = [
    "InvalidMarker",
    "MarkerCache",
    "both_markers",
    "either_marker",
    "marker_holds",
    "parse_lock_marker",
]

_ALWAYS = 'python_version >= "0"'
_OPERATOR = r"(?:===|==|!=|~=|<=|>=|<|>|not in|in)"
_CHOICE = r"(?:extras?|dependency_groups)"
_CHOICES = re.compile(f'{_CHOICE} {_OPERATOR} "[^"]*"|"[^"]*" {_OPERATOR} {_CHOICE}')
MAX_MARKER_LENGTH = 20_000


@lru_cache(maxsize=4096)
def parse_lock_marker(text: str) -> Marker | None:
    """Return a marker of which every part about extras and groups is true; None for no marker.

    Raises ``InvalidMarker``.
    """
    if not text.strip():
        return None
    if len(text) > MAX_MARKER_LENGTH:
        raise InvalidMarker("longer than 20,000 characters")
    try:
        return Marker(_CHOICES.sub(_ALWAYS, str(Marker(text))))
    except RecursionError as exc:
        raise InvalidMarker("nested too deeply") from exc


def either_marker(one: Marker | None, other: Marker | None) -> Marker | None:
    """Return the marker that holds where one of two holds; None always holds."""
    return None if one is None or other is None else one | other


def both_markers(one: Marker | None, other: Marker | None) -> Marker | None:
    """Return the marker that holds where two hold; None always holds."""
    if one is None or other is None:
        return one or other
    return one & other


class MarkerCache:
    """Markers in one environment, each evaluated once: a lock repeats few markers very often."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._known: dict[str, bool] = {}

    def holds(self, marker: Marker | None) -> bool:
        """Return whether a marker holds, as ``marker_holds``."""
        if marker is None:
            return True
        text = str(marker)
        if text not in self._known:
            self._known[text] = marker_holds(marker, self._environment)
        return self._known[text]


def marker_holds(marker: Marker | None, environment: Mapping[str, str]) -> bool:
    """Return whether a marker holds. A comparison of unlike values is false."""
    if marker is None:
        return True
    try:
        return marker.evaluate({**environment, "extra": ""})
    except (UndefinedComparison, UndefinedEnvironmentName):
        return False
