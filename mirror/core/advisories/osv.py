"""One record of an OSV database: from its JSON to the parts that the mirror needs.

The bytes are not trusted. A record that can't be read raises ``BadRecord``; text that is shown
later (ids) is checked here. https://ossf.github.io/osv-schema/
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from mirror.core.advisories.ranges import (
    FIXED,
    INTRODUCED,
    LAST_AFFECTED,
    LIMIT,
    Affected,
    Event,
    is_unbounded,
)
from mirror.core.advisories.severity import Severity, severity_of_vectors, severity_of_word
from mirror.core.names import ProjectName, normalize_project
from mirror.errors import UnsafeName, shown_text

MAX_RECORD_BYTES: Final = 32 * 1024 * 1024
"""Maximum size of one record; the largest that exist have a few MB."""

_ECOSYSTEM: Final = "PyPI"
_MALWARE: Final = "MAL-"
"""How the ids of the records of malware begin."""
_VERSIONED: Final = frozenset({"ECOSYSTEM", "SEMVER"})
_ID: Final = re.compile(r"[!-~]{1,200}\Z")
_MAX_DETAIL: Final = 200
_MAX_EVENTS: Final = 10_000
"""Maximum number of events for one project; each is compared with each of its files."""


class BadRecord(Exception):
    """A file of the database is not a record; the text says why."""


class OsvRecord(msgspec.Struct, frozen=True, array_like=True):
    """A record as the state keeps it."""

    id: str
    aliases: tuple[str, ...] = ()
    is_withdrawn: bool = False
    level: int = 0
    """Its severity, whichever project it is about."""
    modified: float = 0.0
    """Seconds since the epoch; 0 where it is not known."""
    affected: tuple[Affected, ...] = ()
    """One item for each statement about a project of the ecosystem."""


class _Package(msgspec.Struct):
    ecosystem: str = ""
    name: str = ""


class _Event(msgspec.Struct):
    introduced: str | None = None
    fixed: str | None = None
    last_affected: str | None = None
    limit: str | None = None


class _Range(msgspec.Struct):
    type: str = ""
    events: list[_Event] | None = None


class _Severity(msgspec.Struct):
    type: str = ""
    score: str = ""


class _Specific(msgspec.Struct):
    severity: str | None = None


class _Affected(msgspec.Struct):
    package: _Package | None = None
    versions: list[str] | None = None
    ranges: list[_Range] | None = None
    severity: list[_Severity] | None = None
    database_specific: msgspec.Raw = msgspec.Raw(b"null")


class _Osv(msgspec.Struct):
    id: str
    schema_version: str | None = None
    modified: str | None = None
    withdrawn: str | None = None
    aliases: list[str] | None = None
    severity: list[_Severity] | None = None
    affected: list[_Affected] | None = None
    database_specific: msgspec.Raw = msgspec.Raw(b"null")


@functools.cache
def _decoder() -> msgspec.json.Decoder[_Osv]:
    """Return the decoder of a record, made for the first one: each start would take 5 ms for it."""
    return msgspec.json.Decoder(_Osv)


@functools.cache
def _specific_decoder() -> msgspec.json.Decoder[_Specific | None]:
    return msgspec.json.Decoder(_Specific | None)


def parse_record(data: bytes) -> OsvRecord:
    """Return one record. Raises ``BadRecord``."""
    try:
        osv = _decoder().decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise BadRecord(f"not an OSV record: {shown_text(str(exc))[:_MAX_DETAIL]}") from exc
    if not _ID.match(osv.id):
        raise BadRecord("not an OSV record: its id is no word of printable letters")
    if (osv.schema_version or "1").partition(".")[0] != "1":
        version = shown_text(osv.schema_version or "")[:20]
        raise BadRecord(f"made for version {version} of the OSV schema, and only 1 is known")
    is_malware = osv.id.upper().startswith(_MALWARE)
    word = _word(osv.database_specific)
    listed = [(one, _project_of(one)) for one in osv.affected or ()]
    parts = [
        _read_affected(one, project, is_malware=is_malware, has_word=word is not Severity.UNKNOWN)
        for one, project in listed
        if project is not None
    ]
    return OsvRecord(
        id=osv.id,
        aliases=tuple(alias for alias in osv.aliases or () if _ID.match(alias)),
        is_withdrawn=bool(osv.withdrawn),
        level=max(
            Severity.MALICIOUS if is_malware else Severity.UNKNOWN,
            word or _level_of_scores(osv.severity),
        ),
        modified=_seconds(osv.modified),
        affected=tuple(parts),
    )


def _project_of(affected: _Affected) -> ProjectName | None:
    """Return the project of the ecosystem that a statement is about; None for any other, and for
    names that no index can list.
    """
    package = affected.package
    if package is None or package.ecosystem.partition(":")[0] != _ECOSYSTEM:
        return None
    with contextlib.suppress(UnsafeName):
        return normalize_project(package.name)
    return None


def _read_affected(
    affected: _Affected, project: ProjectName, *, is_malware: bool, has_word: bool
) -> Affected:
    """``has_word``: the record names its severity, so that scores do not count."""
    versions = tuple(affected.versions or ())
    ranges = [one for one in affected.ranges or () if one.events]
    if sum(len(one.events or ()) for one in ranges) > _MAX_EVENTS:
        raise BadRecord(f"has more than {_MAX_EVENTS} events for one project")
    read = tuple(_events(one.events or ()) for one in ranges if one.type in _VERSIONED)
    is_bare = is_malware and not versions and not ranges
    scores = () if has_word else affected.severity
    return Affected(
        project,
        versions,
        read,
        is_whole=is_bare or any(map(is_unbounded, read)),
        is_malware=is_malware,
        level=_word(affected.database_specific) or _level_of_scores(scores),
    )


def _events(events: Sequence[_Event]) -> tuple[Event, ...]:
    found: list[Event] = []
    for event in events:
        named = (
            (INTRODUCED, event.introduced),
            (FIXED, event.fixed),
            (LAST_AFFECTED, event.last_affected),
            (LIMIT, event.limit),
        )
        found += [(kind, text) for kind, text in named if text is not None]
    return tuple(found)


def _word(specific: msgspec.Raw) -> Severity:
    """Return the level that a database names in its own part of a record."""
    with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        found = _specific_decoder().decode(specific)
        return severity_of_word(None if found is None else found.severity)
    return Severity.UNKNOWN


def _level_of_scores(scores: Sequence[_Severity] | None) -> Severity:
    if not scores:
        return Severity.UNKNOWN
    return severity_of_vectors(one.score for one in scores if one.type.startswith("CVSS"))


def _seconds(text: str | None) -> float:
    """Return an RFC 3339 time as seconds since the epoch; 0 for any other text."""
    with contextlib.suppress(ValueError, OverflowError):
        moment = datetime.fromisoformat(text or "")
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return 0.0
