"""Which file of each version an environment gets: the rules of the resolver's view, free of I/O.

The view decides tags and ``requires-python``, the resolver decides markers. Of each version (equal
by PEP 440): first the files that ``requires-python`` admits, those that are not yanked before the
yanked ones; of these the best by tag, then by build tag. It is shown under an alias name that fits
every platform, with its own metadata.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from typing import Literal
from urllib.parse import quote

import msgspec
from packaging.tags import Tag
from packaging.utils import (
    BuildTag,
    InvalidSdistFilename,
    InvalidWheelFilename,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from mirror.core.files.distributions import is_wheel
from mirror.core.names import ProjectName
from mirror.core.offers import Offer, ProjectOffers
from mirror.selection.gaps import GapReason, gap_of_hidden
from mirror.selection.targets import Environment

Sdists = Literal["never", "where-no-wheel", "always"]

CONTENT_TYPE = "application/vnd.pypi.simple.v1+json"
_ALIAS_ENDING = "-py3-none-any.whl"
_SEPARATORS = re.compile(r"[-_.]+")
_PARSED = 1 << 16


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """A file name, read."""

    version: Version
    tags: frozenset[Tag] = frozenset()
    """Empty for a source distribution."""
    build: BuildTag = ()

    @property
    def is_wheel(self) -> bool:
        """Whether it is a wheel."""
        return bool(self.tags)


class ShownVersion(msgspec.Struct, frozen=True, kw_only=True):
    """The file of one version that the resolver sees."""

    version: Version
    offer: Offer
    is_wheel: bool

    @property
    def is_yanked(self) -> bool:
        """Whether it is yanked."""
        return self.offer.file.labels.yanked is not None


class Passed(msgspec.Struct, frozen=True, kw_only=True):
    """A version that the resolver does not see."""

    version: Version
    reason: GapReason
    detail: str
    offers: tuple[Offer, ...] = ()
    """The files that would be chosen if they could be had."""
    shown: ShownVersion | None = None
    """As the resolver saw it on the page, before its metadata was refused."""


class VersionTable(msgspec.Struct, frozen=True, kw_only=True):
    """All versions of one project for one environment."""

    listing: ProjectOffers
    shown: Mapping[Version, ShownVersion] = {}
    passed: Mapping[Version, Passed] = {}

    @property
    def project(self) -> ProjectName:
        """The project."""
        return self.listing.project

    def versions(self) -> list[Version]:
        """Return the versions that are shown, the newest first."""
        return sorted(self.shown, reverse=True)


@functools.lru_cache(maxsize=_PARSED)
def read_distribution(filename: str) -> Distribution | None:
    """Return the version and tags in a file name, or None for a file that no installer takes."""
    try:
        if is_wheel(filename):
            _, version, build, tags = parse_wheel_filename(filename)
            return Distribution(version=version, tags=tags, build=build)
        return Distribution(version=parse_sdist_filename(filename)[1])
    except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion):
        return None


def build_table(listing: ProjectOffers, environment: Environment, sdists: Sdists) -> VersionTable:
    """Choose the file of each version."""
    versions: dict[Version, list[_Candidate]] = {}
    for offer in listing.offers:
        if offer.targets and environment.target not in offer.targets:
            continue
        read = read_distribution(offer.file.filename)
        if read is not None:
            versions.setdefault(read.version, []).append(_judge(offer, read, environment))
    shown: dict[Version, ShownVersion] = {}
    passed: dict[Version, Passed] = {}
    for version, candidates in versions.items():
        best = _best(candidates, sdists)
        if best is not None:
            shown[version] = ShownVersion(
                version=version, offer=best.offer, is_wheel=best.read.is_wheel
            )
        else:
            passed[version] = _passed(version, candidates, listing, environment, sdists)
    return VersionTable(listing=listing, shown=shown, passed=passed)


def alias_of(project: str, version: Version) -> str:
    """Return the name under which a version is shown."""
    return f"{_SEPARATORS.sub('_', project)}-{version}{_ALIAS_ENDING}"


def version_of_alias(alias: str) -> tuple[ProjectName, Version] | None:
    """Return the project and version of an alias name; None for another name."""
    if not alias.endswith(_ALIAS_ENDING):
        return None
    name, _, version = alias.removesuffix(_ALIAS_ENDING).partition("-")
    try:
        return ProjectName(_SEPARATORS.sub("-", name)), Version(version)
    except InvalidVersion:
        return None


def render_page(table: VersionTable) -> bytes:
    """Return the page that the resolver reads; its files are below ``../../files/``."""
    files = []
    for version in sorted(table.shown):
        one, name = table.shown[version], alias_of(table.project, version)
        labels = one.offer.file.labels
        files.append(
            {
                "filename": name,
                "url": f"../../files/{quote(name)}",
                "hashes": {},
                "core-metadata": True,
                "yanked": False if labels.yanked is None else labels.yanked or True,
            }
        )
    page = {
        "meta": {"api-version": "1.1"},
        "name": table.project,
        "versions": [str(version) for version in sorted(table.shown)],
        "files": files,
    }
    return json.dumps(page).encode()


def rows_of(table: VersionTable) -> list[list[str]]:
    """Return all of a table on which a resolution depends, in a form that has a digest."""
    rows = []
    for version, one in sorted(table.shown.items()):
        file = one.offer.file
        digests = " ".join(f"{algorithm}={digits}" for algorithm, digits in file.digests)
        yanked = "" if file.labels.yanked is None else "yanked"
        rows.append([str(version), one.offer.index, file.filename, digests, yanked])
    rows += [[str(version), "", one.reason.value] for version, one in sorted(table.passed.items())]
    if not table.listing.is_listed:
        rows.append(["not-listed", table.listing.rule])
    return rows


class _Candidate(msgspec.Struct, frozen=True, kw_only=True):
    offer: Offer
    read: Distribution
    rank: int | None
    """By tag; lower is better. None for a wheel that does not fit."""
    is_admitted: bool

    @property
    def is_usable(self) -> bool:
        return self.rank is not None and self.is_admitted and self.offer.hidden is None

    def order(self) -> tuple[bool, int, tuple[int, str]]:
        """Return the sort key; the best one has the highest."""
        assert self.rank is not None
        build = (self.read.build[0], self.read.build[1]) if self.read.build else (-1, "")
        return self.offer.file.labels.yanked is None, -self.rank, build


def _judge(offer: Offer, read: Distribution, environment: Environment) -> _Candidate:
    return _Candidate(
        offer=offer,
        read=read,
        rank=environment.rank(read.tags) if read.is_wheel else 0,
        is_admitted=environment.admits(offer.file.labels.requires_python),
    )


def _best(candidates: list[_Candidate], sdists: Sdists) -> _Candidate | None:
    usable = [one for one in candidates if one.is_usable]
    wheels = [one for one in usable if one.read.is_wheel]
    if not wheels and sdists != "never":
        wheels = usable
    # the first of equal ones: of the owner, and as listed
    return max(wheels, key=_Candidate.order, default=None)


def _passed(
    version: Version,
    candidates: list[_Candidate],
    listing: ProjectOffers,
    environment: Environment,
    sdists: Sdists,
) -> Passed:
    counted = [one for one in candidates if one.read.is_wheel or sdists != "never"]
    fitting = [one for one in counted if one.rank is not None]
    admitted = [one for one in fitting if one.is_admitted]
    if admitted:
        best = max(admitted, key=_Candidate.order)
        hidden = best.offer.hidden
        assert hidden is not None
        reason, words = gap_of_hidden(hidden)
        return Passed(version=version, reason=reason, detail=words, offers=(best.offer,))
    if fitting:
        asked = fitting[0].offer.file.labels.requires_python
        detail = f"{listing.project} {version} requires Python {asked}, not {environment.release}"
        return Passed(version=version, reason=GapReason.REQUIRES_PYTHON, detail=detail)
    detail = f"{listing.project} {version} has no wheel for {environment.name}"
    if not any(one.read.is_wheel for one in candidates):
        detail = f'{listing.project} {version} has only a source distribution, and sdists = "never"'
    detail += later_words(listing)
    return Passed(version=version, reason=GapReason.NO_WHEEL, detail=detail)


def later_words(listing: ProjectOffers) -> str:
    """Return words on the indexes that list a project and do not own it; empty where none does."""
    if not listing.later:
        return ""
    verb = "lists" if len(listing.later) == 1 else "list"
    return f"; {listing.owner} owns it; {' and '.join(listing.later)} {verb} it too"
