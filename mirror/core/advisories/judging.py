"""The judgement of files by advisories: which stay out, which leave, and which are reported.

An ``AdvisoryBook`` holds the advisories in force, an ``AdvisoryRule`` the choice of one index:
which level counts, and which advisories are ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from mirror.core.advisories.joining import Advisory
from mirror.core.advisories.ranges import AffectedVersions, Meaning
from mirror.core.advisories.severity import Severity
from mirror.core.files.distributions import SDIST_ENDINGS, is_wheel
from mirror.core.files.versions import parse_version, version_of
from mirror.core.names import ProjectName, normalize_project
from mirror.core.rules.model import Level
from mirror.errors import UnsafeName

if TYPE_CHECKING:
    from packaging.version import Version

_REMEMBERED: Final = 4096
"""Number of projects whose advisories stay decoded."""
_SHOWN: Final = 5
_BLOCKED: Final = "the advisories were never read"
_decoder = msgspec.json.Decoder(tuple[Advisory, ...])


_LEAST: Final = {
    Level.MALICIOUS: Severity.MALICIOUS,
    Level.CRITICAL: Severity.CRITICAL,
    Level.HIGH: Severity.HIGH,
    Level.ALL: Severity.UNKNOWN,
}
"""The mildest severity that counts."""


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """The advisories that count for one file."""

    ids: tuple[str, ...]
    """Of the records that count, sorted."""
    level: Severity
    """The worst."""
    fixed: str | None = None
    """The first later version that none of the advisories names; None where they name none."""


class _KnownAdvisory:
    """One advisory, ready to be compared with many files of one project."""

    def __init__(self, advisory: Advisory) -> None:
        self.ids, self.names, self.level = advisory.ids, advisory.names, advisory.level
        self._parts = tuple(map(AffectedVersions, advisory.parts))

    def compare(self, version: Version | None) -> Meaning:
        found = {part.compare(version) for part in self._parts}
        return next(
            (hit for hit in (Meaning.MEANT, Meaning.UNJUDGED) if hit in found), Meaning.OTHER
        )

    @property
    def fixed(self) -> list[Version]:
        return [at for part in self._parts for one in part.ranges for at in one.fixed]


class AdvisoryBook:
    """The advisories in force, by project; kept as JSON until a project is asked for.

    A book may know of projects whose advisories are not read yet: they are added before the first
    question about them, so that a cycle in which nothing changes reads none.
    """

    def __init__(self, advisories: Mapping[str, bytes], unread: Iterable[str] = ()) -> None:
        self._encoded = dict(advisories)
        self._unread = set(unread)
        self._read: dict[str, tuple[_KnownAdvisory, ...]] = {}
        self.parts = 0
        """Number of times that advisories were added."""

    def unread_of(self, projects: Iterable[str]) -> list[str]:
        """Return those of some projects whose advisories are to be added."""
        return sorted(self._unread.intersection(projects))

    def add(self, projects: Iterable[str], advisories: Mapping[str, bytes]) -> None:
        """Add the advisories of some projects, or of all that are not read yet."""
        self._encoded.update(advisories)
        self._unread.difference_update(projects, advisories)
        self.parts += 1

    def of(self, project: str) -> tuple[_KnownAdvisory, ...]:
        """Return the advisories about one project."""
        if project in self._unread:
            raise LookupError(f"the advisories of {project} were not read")
        encoded = self._encoded.get(project)
        if encoded is None:
            return ()
        if project not in self._read:
            if len(self._read) >= _REMEMBERED:
                self._read.clear()
            self._read[project] = tuple(map(_KnownAdvisory, _decoder.decode(encoded)))
        return self._read[project]


def encode_advisories(advisories: Sequence[Advisory]) -> bytes:
    """Return the advisories of one project in the form of an ``AdvisoryBook``."""
    return msgspec.json.encode(advisories)


class AdvisoryRule:
    """The rules of one index about advisories."""

    def __init__(
        self,
        book: AdvisoryBook,
        excludes: Level,
        ignored: Iterable[str] = (),
        *,
        is_blocked: bool = False,
    ) -> None:
        """``is_blocked``: no database was ever read, so that nothing new may come in."""
        self.exclusion = excludes
        self.is_blocked = is_blocked and excludes is not Level.NONE
        self.book = book
        self._ignored = frozenset(name.lower() for name in ignored)
        self._found_of: ProjectName | None = None
        self._found: dict[Version | None, Advice | None] = {}
        """The findings of the last project: a version may have very many files."""

    @property
    def text(self) -> str:
        """The rule as a text: another one judges all files again."""
        return " ".join((self.exclusion.value, *sorted(self._ignored)))

    @classmethod
    def of_text(cls, book: AdvisoryBook, text: str) -> AdvisoryRule:
        """Return the rule that has this text."""
        level, *ignored = text.split(" ")
        return cls(book, Level(level), ignored)

    def advised(self, project: ProjectName, filenames: Iterable[str]) -> dict[str, str]:
        """Return which of a project's files stay out unless they are held, each with the reason."""
        if self.is_blocked:
            return dict.fromkeys(filenames, _BLOCKED)
        counted = self._counted(project, self._counts)
        if not counted:
            return {}
        words: dict[Version | None, str] = {}
        found = {}
        for filename in filenames:
            version = version_in(filename, project)
            if version not in words:
                hits = [one for one in counted if one.compare(version) is Meaning.MEANT]
                words[version] = _described(hits) if hits else ""
            if words[version]:
                found[filename] = words[version]
        return found

    def withdraws(self, project: ProjectName, filename: str) -> bool:
        """Return whether a file leaves the pages although it is held: it is malware."""
        return self.exclusion is not Level.NONE and self._is_hit(project, filename, _is_malicious)

    def find(self, project: ProjectName, filename: str) -> Advice | None:
        """Return the advisories that are reported of a held or needed file; with ``none``, all."""
        counted = self._counted(project, self._is_reported)
        if not counted:
            return None
        version = version_in(filename, project)
        if self._found_of != project:
            self._found_of, self._found = project, {}
        if version not in self._found:
            self._found[version] = _advice(version, counted)
        return self._found[version]

    def is_unjudged(self, project: ProjectName, filename: str) -> bool:
        """Return whether advisories name a local build by its public version alone."""
        counted = self._counted(project, self._is_reported)
        version = version_in(filename, project) if counted else None
        found = {one.compare(version) for one in counted}
        return Meaning.UNJUDGED in found and Meaning.MEANT not in found

    def _counts(self, level: int) -> bool:
        return self.exclusion in _LEAST and level >= _LEAST[self.exclusion]

    def _is_reported(self, level: int) -> bool:
        return self.exclusion is Level.NONE or self._counts(level)

    def _counted(self, project: ProjectName, counts: Callable[[int], bool]) -> list[_KnownAdvisory]:
        return [
            one
            for one in self.book.of(project)
            if counts(one.level) and self._ignored.isdisjoint(one.names)
        ]

    def _is_hit(self, project: ProjectName, filename: str, counts: Callable[[int], bool]) -> bool:
        counted = self._counted(project, counts)
        version = version_in(filename, project) if counted else None
        return any(one.compare(version) is Meaning.MEANT for one in counted)


def version_in(filename: str, project: ProjectName) -> Version | None:
    """Return the version in the name of a file of ``project``; None where it is none by PEP 440.

    The project's name shows where the version begins: ``foo-1.0-1.tar.gz`` is a post-release of
    ``foo``.
    """
    stem = next((filename[: -len(e)] for e in SDIST_ENDINGS if filename.endswith(e)), None)
    parts = (filename if stem is None else stem).split("-")
    for end in (1,) if is_wheel(filename) else range(1, len(parts)):
        if _is_name("-".join(parts[:end]), project):
            rest = parts[end:]
            texts = rest[:1] if stem is None else ["-".join(rest), *rest[:1]]
            return next((v for v in map(parse_version, texts) if v is not None), None)
    return version_of(filename)


def _is_name(text: str, project: ProjectName) -> bool:
    try:
        return normalize_project(text) == project
    except UnsafeName:
        return False


def _advice(version: Version | None, counted: Sequence[_KnownAdvisory]) -> Advice | None:
    hits = [one for one in counted if one.compare(version) is Meaning.MEANT]
    if not hits:
        return None
    return Advice(
        ids=tuple(sorted({one for hit in hits for one in hit.ids})),
        level=Severity(max(hit.level for hit in hits)),
        fixed=_first_fixed(version, hits, counted),
    )


def _first_fixed(
    version: Version | None, hits: Sequence[_KnownAdvisory], counted: Sequence[_KnownAdvisory]
) -> str | None:
    """Return the first later version in which a hit is fixed and which no advisory names."""
    if version is None:
        return None
    later = sorted({at for hit in hits for at in hit.fixed if at > version})
    clean = (at for at in later if all(one.compare(at) is not Meaning.MEANT for one in counted))
    return next(map(str, clean), None)


def _described(hits: Sequence[_KnownAdvisory]) -> str:
    ids = sorted({one for hit in hits for one in hit.ids})
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return f"{Severity(max(hit.level for hit in hits)).word}: {', '.join(ids[:_SHOWN])}{more}"


def _is_malicious(level: int) -> bool:
    return level >= Severity.MALICIOUS
