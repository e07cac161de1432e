"""Which versions a part of an advisory names: its list of versions, and its ranges.

The rules are those of the OSV schema, in the order of PEP 440. A version with a local part is a
build of its own: only what names exactly that build hits it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Final

import msgspec

from mirror.core.files.versions import parse_version

if TYPE_CHECKING:
    from packaging.version import Version

INTRODUCED: Final = "introduced"
FIXED: Final = "fixed"
LAST_AFFECTED: Final = "last_affected"
LIMIT: Final = "limit"

Event = tuple[str, str]
"""(kind, version) of one event of a range."""

_START: Final = "0"
"""As ``introduced``: before every version."""
_LONGEST_VERSION: Final = 240
_END: Final = "*"
"""As ``limit``: after every version."""


class Meaning(Enum):
    """Whether an advisory is about a file."""

    OTHER = "other"
    UNJUDGED = "unjudged"
    """It names the public version of a local build, which may be patched."""
    MEANT = "meant"


class Affected(msgspec.Struct, frozen=True, array_like=True):
    """The statement of one record about one project."""

    project: str
    versions: tuple[str, ...] = ()
    ranges: tuple[tuple[Event, ...], ...] = ()
    is_whole: bool = False
    """Every version is meant, also one that is not a version by PEP 440."""
    is_malware: bool = False
    level: int = 0
    """The severity that counts for this project alone."""


class Range:
    """One range, its events in the order of their versions."""

    def __init__(self, events: Sequence[Event]) -> None:
        self._events = _ordered(events)
        self._limits = [_read_version(text) for kind, text in events if kind == LIMIT]

    def holds(self, version: Version) -> bool:
        """Return whether a version is in the range."""
        is_in = not self._limits or any(end is None or version < end for end in self._limits)
        if not is_in:
            return False
        is_in = False
        for kind, at in self._events:
            if kind == INTRODUCED:
                is_in = is_in or at is None or version >= at
            elif at is not None and (version >= at if kind == FIXED else version > at):
                is_in = False
        return is_in

    def names(self, version: Version) -> bool:
        """Return whether the range names exactly this version as affected."""
        return any(at == version for kind, at in self._events if kind != FIXED)

    @property
    def fixed(self) -> list[Version]:
        """The versions in which it is fixed."""
        return [at for kind, at in self._events if kind == FIXED and at is not None]


class AffectedVersions:
    """The statement of one record about one project, ready to be compared with many files."""

    def __init__(self, affected: Affected) -> None:
        self._affected = affected
        self._versions = frozenset(
            version for text in affected.versions if (version := _read_version(text)) is not None
        )
        self.ranges = tuple(map(Range, affected.ranges))

    def compare(self, version: Version | None) -> Meaning:
        """Return whether a file is meant, by the version in its name; None: it has none."""
        if version is None:
            return Meaning.MEANT if self._affected.is_whole else Meaning.OTHER
        if self._affected.is_whole and (self._affected.is_malware or version.local is None):
            return Meaning.MEANT
        is_in_range = any(one.holds(version) for one in self.ranges)
        if version in self._versions:
            return Meaning.MEANT
        if version.local is None:
            return Meaning.MEANT if is_in_range else Meaning.OTHER
        if any(one.names(version) and one.holds(version) for one in self.ranges):
            return Meaning.MEANT
        from packaging.version import Version  # 2 ms

        public = Version(version.public)
        is_near = (
            self._affected.is_whole
            or is_in_range
            or public in self._versions
            or any(one.holds(public) for one in self.ranges)
        )
        return Meaning.UNJUDGED if is_near else Meaning.OTHER


def _read_version(text: str) -> Version | None:
    """Return a version; None for any other text, and for one longer than a file's name can be."""
    return parse_version(text) if len(text) <= _LONGEST_VERSION else None


def is_unbounded(events: Iterable[Event]) -> bool:
    """Return whether a range holds every version: from the start, without an end."""
    listed = list(events)
    return (INTRODUCED, _START) in listed and all(
        kind == INTRODUCED or (kind, text) == (LIMIT, _END) for kind, text in listed
    )


def _ordered(events: Sequence[Event]) -> list[tuple[str, Version | None]]:
    """Return the events by version; None: before every version.

    An end that is not a version by PEP 440 ends nothing, and a beginning that is none begins before
    every version: an unreadable event keeps out more, not less. At one version, ``last_affected``
    comes after ``introduced``: that version alone is meant.
    """
    read = [
        (kind, None if text == _START and kind == INTRODUCED else _read_version(text))
        for kind, text in events
        if kind != LIMIT
    ]
    starts = [event for event in read if event[1] is None and event[0] == INTRODUCED]
    dated = [(kind, at) for kind, at in read if at is not None]
    dated.sort(key=lambda event: (event[1], event[0] == LAST_AFFECTED))
    return [*starts, *dated]
