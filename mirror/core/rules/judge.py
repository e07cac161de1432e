"""Which listed files of one project the rules keep out, and until when.

Pure: the time, the first sights and the advisories are facts that the caller hands in. Of several
rules that keep a file out the first in the order of ``RULE_KEYS`` is named. The cooldown
(``min-age``) and ``not-after`` judge only files that are not held; ``newest`` judges last, of the
files that all other rules leave. The files of a want are judged by the defaults of wants, and not
by ``newest`` and ``platforms``.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from mirror.core.files.distributions import WHEEL_ENDING, is_wheel
from mirror.core.files.upload_time import upload_seconds
from mirror.core.files.versions import version_of
from mirror.core.model import ListedFile
from mirror.core.names import ProjectName, compile_patterns
from mirror.core.rules.model import (
    EXCLUDE_VULNERABLE,
    MIN_AGE,
    NEWEST,
    NOT_AFTER,
    PLATFORMS,
    PRE_RELEASES,
    VERSIONS,
    YANKED,
    Admitted,
    Rules,
)
from mirror.core.times import utc_text

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet
    from packaging.version import Version

Sight = tuple[str, str]
"""A file name and the digest with which an index lists it (``sight_of``)."""


class RuleFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about the files of one project, beyond their listing."""

    now: float = 0.0
    """Seconds since 1970."""
    sights: Mapping[Sight, float] = {}
    """When each listed digest was seen first."""
    held: Collection[str] = ()
    """Names under which the pages publish a file, also one with other bytes than the listed
    ones.
    """
    replaced: Collection[str] = ()
    """Those of ``held`` of which the index lists other bytes."""
    known: Collection[str] = ()
    """Names under which a file was ever published, of another index other bytes: the listed
    upload time counts for nothing.
    """
    needed: Collection[str] | None = ()
    """Names that a want needs; None: wants alone decide, all files are judged as files of wants."""
    advised: Mapping[str, str] = {}
    """Names that an advisory keeps out, each with words about it."""
    listed: Collection[str] = ()
    """All names that the index lists, for «no other version»."""


class RuleVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """Why a file is kept out."""

    rule: str
    """The key of the configuration."""
    until: float | None = None
    """The end of the cooldown; None where the file is in none."""
    after: str = ""
    """The rule that keeps the file out at the end of the cooldown too; empty: none does."""
    keeps_held: bool = False
    """The file that is published under this name stays: only time keeps its replacement out."""


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """The verdicts about the files of one project."""

    out: Mapping[str, RuleVerdict] = {}
    """By file name; a file without a verdict may come in."""
    sights: Mapping[Sight, float] = {}
    """First sights to record, with their times."""


class RuleBook:
    """The rules of one index, compiled."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._is_urgent = compile_patterns(rules.urgent)
        self._versions: dict[ProjectName, list[SpecifierSet]] = {}
        if rules.versions:
            from packaging.specifiers import SpecifierSet  # 4 ms
        for project, text in rules.versions:
            self._versions.setdefault(project, []).append(SpecifierSet(text))

    @property
    def is_dated(self) -> bool:
        """Whether a rule asks for the age of files."""
        return self.rules.min_age_s > 0 or self.rules.not_after is not None

    @property
    def depends_on_needs(self) -> bool:
        """Whether a rule of patterns judges a file otherwise where a want needs it."""
        rules = self.rules
        return (
            rules.newest > 0
            or rules.platform_tags is not None
            or rules.pre_releases is Admitted.WHERE_NEEDED
            or rules.yanked is Admitted.WHERE_PINNED
        )

    def judge(
        self,
        project: ProjectName,
        files: Mapping[str, ListedFile],
        facts: RuleFacts,
        known: Mapping[str, str] | None = None,
    ) -> Judgement:
        """Judge the files that the patterns leave.

        ``known``: the rules that kept files out when the page was read (empty: none), instead of
        those that depend on the whole page, which is not here.
        """
        sights: dict[Sight, float] = {}
        versions = {name: version_of(name) for name in files}
        lasting = known
        if lasting is None:
            lasting = self._lasting(project, files, versions, facts) if self._is_lasting else {}
        ends = self._ends(project, files, facts, sights)
        out: dict[str, RuleVerdict] = {}
        suspects = ends.keys() | lasting.keys() | facts.advised.keys()
        for name in filter(suspects.__contains__, files):
            rules = self._rules_of(name, ends.get(name), lasting.get(name, ""), facts)
            if rules:
                out[name] = _verdict(rules, ends.get(name), is_held=name in facts.held)
        self._displace(versions, facts, out)
        return Judgement(out=out, sights=sights)

    def superseded(
        self, files: Collection[str], facts: RuleFacts, out: Collection[str]
    ) -> frozenset[str]:
        """Return the held pre-releases whose place an admitted final version takes."""
        if self.rules.pre_releases is not Admitted.WHERE_NEEDED or facts.needed is None:
            return frozenset()
        versions = {name: v for name in files if (v := version_of(name)) is not None}
        if all(v.is_prerelease or name in out for name, v in versions.items()):
            return frozenset()
        early = {name for name in facts.held if name in versions and versions[name].is_prerelease}
        return frozenset(early.difference(facts.needed, out))

    def _rules_of(
        self, name: str, dates: _Dates | None, lasting: str, facts: RuleFacts
    ) -> list[str]:
        """Return all rules that keep a file out, in the order in which they are named."""
        found = []
        if dates is not None:
            found += [MIN_AGE] if dates.until is not None else []
            found += [NOT_AFTER] if dates.is_late else []
        if lasting:
            found.append(lasting)
        if name in facts.advised and (name not in facts.held or name in facts.replaced):
            found.append(EXCLUDE_VULNERABLE)
        return found

    @property
    def _is_lasting(self) -> bool:
        """Whether a rule judges files by their versions, yanks or tags."""
        rules = self.rules
        is_by_label = rules.pre_releases is not None or rules.yanked is not None
        return is_by_label or bool(self._versions) or rules.platform_tags is not None

    def _lasting(
        self,
        project: ProjectName,
        files: Mapping[str, ListedFile],
        versions: Mapping[str, Version | None],
        facts: RuleFacts,
    ) -> dict[str, str]:
        """Return the rules that no passing time changes while the page is the same."""
        found = dict[str, str]()
        specifiers = self._versions.get(project, [])
        only_pre_releases = self.rules.pre_releases is Admitted.WHERE_NEEDED and not any(
            version is not None and not version.is_prerelease
            for version in _versions_of(facts.listed, versions)
        )
        for name, version in versions.items():
            if version is None:
                continue
            is_needed = facts.needed is None or name in facts.needed
            if version.is_prerelease and self._bars_pre_release(
                is_needed=is_needed, only_pre_releases=only_pre_releases
            ):
                found[name] = PRE_RELEASES
            elif files[name].labels.yanked is not None and self._bars_yanked(is_needed=is_needed):
                found[name] = YANKED
            elif not all(one.contains(version, prereleases=True) for one in specifiers):
                found[name] = VERSIONS
            elif not is_needed and self._fits_no_target(name):
                found[name] = PLATFORMS
        return found

    def _fits_no_target(self, name: str) -> bool:
        tags = self.rules.platform_tags
        if tags is None or not is_wheel(name):
            return False
        ending = "-".join(name.removesuffix(WHEEL_ENDING).rsplit("-", 3)[1:])
        return not _fits(ending, tags)

    def _bars_pre_release(self, *, is_needed: bool, only_pre_releases: bool) -> bool:
        match self.rules.pre_releases:
            case Admitted.NEVER:
                return True
            case Admitted.WHERE_NEEDED:
                return not is_needed and not only_pre_releases
        return False

    def _bars_yanked(self, *, is_needed: bool) -> bool:
        match self.rules.yanked:
            case Admitted.NEVER:
                return True
            case Admitted.WHERE_PINNED:
                return not is_needed
        return False

    def _ends(
        self,
        project: ProjectName,
        files: Mapping[str, ListedFile],
        facts: RuleFacts,
        sights: dict[Sight, float],
    ) -> dict[str, _Dates]:
        """Return the verdicts of the rules about the age of files, for files that are not held."""
        if not self.is_dated:
            return {}
        age_s = 0.0 if self._is_urgent(project) else self.rules.min_age_s
        limit = self.rules.not_after
        if not age_s and limit is None:
            return {}
        found = {}
        for name, file in files.items():
            if name in facts.held and name not in facts.replaced:
                continue
            since = None if name in facts.known else upload_seconds(file.labels.upload_time)
            if since is None:
                sight = name, sight_of(file)
                since = min(facts.sights.get(sight, facts.now), facts.now)
                if facts.sights.get(sight) != since:
                    sights[sight] = since
            end = min(since + age_s, _LAST_S)
            until = end if age_s and end > facts.now else None
            is_late = limit is not None and since >= limit
            if until is not None or is_late:
                found[name] = _Dates(until=until, is_late=is_late)
        return found

    def _displace(
        self,
        versions: Mapping[str, Version | None],
        facts: RuleFacts,
        out: dict[str, RuleVerdict],
    ) -> None:
        """Keep out all but the newest versions, of those that all other rules leave."""
        most = self.rules.newest
        if not most or facts.needed is None:
            return
        counted = {
            name: _public(version)
            for name, version in versions.items()
            if version is not None and (name not in out or out[name].keeps_held)
        }
        if len(counted) <= most:
            return
        newest = frozenset(itertools.islice(sorted(set(counted.values()), reverse=True), most))
        for name, version in counted.items():
            if version in newest or name in facts.needed:
                continue
            before = out.get(name)
            out[name] = (
                RuleVerdict(rule=NEWEST)
                if before is None
                else msgspec.structs.replace(before, after=NEWEST, keeps_held=False)
            )


class _Dates(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on the age of a file."""

    until: float | None
    is_late: bool


def _verdict(rules: list[str], dates: _Dates | None, *, is_held: bool) -> RuleVerdict:
    first, *others = rules
    lasting = [rule for rule in others if rule != EXCLUDE_VULNERABLE]
    return RuleVerdict(
        rule=first,
        until=None if dates is None else dates.until,
        after=lasting[0] if lasting else "",
        keeps_held=is_held and set(rules) <= {MIN_AGE, NOT_AFTER, EXCLUDE_VULNERABLE},
    )


def words_of_rule(filename: str, index: str, rule: str, until: float | None) -> str:
    """Return a sentence on a file that a rule of an index keeps out; ``until``: of a cooldown."""
    if rule == MIN_AGE and until is not None:
        return f"{filename} of {index} is in cooldown until {utc_text(until)} ({MIN_AGE})"
    return f"{filename} is left out by {rule} of {index}"


def public_version(filename: str) -> Version | None:
    """Return the version in a file name without its local part."""
    version = version_of(filename)
    return None if version is None else _public(version)


def _public(version: Version) -> Version:
    from packaging.version import Version  # 2 ms

    return version if version.local is None else Version(version.public)


def _versions_of(
    listed: Collection[str], known: Mapping[str, Version | None]
) -> Iterator[Version | None]:
    """Yield the versions in all names that an index lists, the known ones without reading them."""
    yield from known.values()
    yield from (version_of(name) for name in listed if name not in known)


def sight_of(file: ListedFile) -> str:
    """Return what identifies the bytes of a file as an index lists them.

    Without a digest its size and upload time do, as where a replacement is recognised.
    """
    digests = dict(file.digests)
    for algorithm in ("sha256", "sha384", "sha512"):
        if algorithm in digests:
            return f"{algorithm}:{digests[algorithm]}"
    weak = [f"{algorithm}:{digits}" for algorithm, digits in file.digests]
    return " ".join([*weak, f"size:{file.size}", f"time:{file.labels.upload_time}"])


_LAST_S = datetime(9999, 12, 31, tzinfo=UTC).timestamp()
"""The last end of a cooldown: an index may list any time."""


@lru_cache(maxsize=4096)
def _fits(ending: str, tags: frozenset[str]) -> bool:
    """Return whether one of the tags in the last parts of a wheel's name is among ``tags``.

    The tags are not kept: a name may hold tens of thousands.
    """
    parts = (part.split(".") for part in ending.lower().split("-"))
    return not tags.isdisjoint(map("-".join, itertools.product(*parts)))
