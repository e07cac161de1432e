"""The values of ``[rules]`` and ``[index.rules]``, and the rules that count for one index.

A key that an index writes replaces that of ``[rules]``; a key that nobody writes has its default.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from mirror.config import units
from mirror.core.names import ProjectName, normalize_pattern, normalize_project
from mirror.core.rules.model import Admitted, Level, Rules
from mirror.errors import ConfigError, UnsafeName

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_VERSIONS = re.compile(r"\s*([A-Za-z0-9._-]+)\s*(?:\((.*)\)|([^(].*)?)\s*", re.DOTALL)
"""A project with a specifier, with or without parentheses."""


def _read_day(value: object, _base: Path) -> date:
    if not isinstance(value, str) or not _DAY.fullmatch(value):
        raise ValueError("not a day")
    return date.fromisoformat(value)


_DAY_UNIT = units.Unit(
    expected='a day such as "2026-11-01"',
    read=_read_day,
    write=date.isoformat,
    schema={"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"},
)

Day = Annotated[date, msgspec.Meta(extra={"unit": _DAY_UNIT})]
Duration = Annotated[float, msgspec.Meta(extra={"unit": units.DURATION})]
FilePath = Annotated[Path, msgspec.Meta(extra={"unit": units.PATH})]
VersionCount = Annotated[int, msgspec.Meta(ge=0, le=2**31)]
OfPatterns = Literal["all", "targets"]
PreReleases = Literal["never", "where-needed", "always"]
YankedFiles = Literal["never", "where-pinned", "always"]
Vulnerable = Literal["none", "malicious", "critical", "high", "all"]


class RulesConfig(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """The table ``[rules]``."""

    min_age_s: Duration = msgspec.field(default=0.0, name="min-age")
    urgent: tuple[str, ...] = ()
    not_after: Day | None = None
    pre_releases: PreReleases | None = None
    """None: ``where-needed`` for wants, ``always`` for patterns."""
    yanked: YankedFiles | None = None
    """None: ``where-pinned`` for wants, ``always`` for patterns."""
    newest: VersionCount = 0
    versions: tuple[str, ...] = ()
    platforms: OfPatterns = "all"
    exclude_vulnerable: Vulnerable = "none"
    advisories: FilePath | None = None
    ignore_advisories: tuple[str, ...] = ()


class IndexRulesConfig(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """The table ``[index.rules]``; None: the key is not written, so that of ``[rules]`` counts."""

    min_age_s: Duration | None = msgspec.field(default=None, name="min-age")
    urgent: tuple[str, ...] | None = None
    not_after: Day | None = None
    pre_releases: PreReleases | None = None
    yanked: YankedFiles | None = None
    newest: VersionCount | None = None
    versions: tuple[str, ...] | None = None
    exclude_vulnerable: Vulnerable | None = None
    ignore_advisories: tuple[str, ...] | None = None


def effective(rules: RulesConfig, of_index: IndexRulesConfig | None) -> RulesConfig:
    """Return the rules of one index: each key as the index writes it, else as ``[rules]`` does."""
    if of_index is None:
        return rules
    written = {
        name: value for name, value in msgspec.structs.asdict(of_index).items() if value is not None
    }
    return msgspec.structs.replace(rules, **written)


def judged_rules(config: RulesConfig, platform_tags: Iterable[str] = ()) -> Rules:
    """Return checked rules in the form in which files are judged.

    ``platform_tags``: the tags of all targets, for ``platforms = "targets"``.
    """
    return Rules(
        min_age_s=config.min_age_s,
        urgent=tuple(normalize_pattern(pattern) for pattern in config.urgent),
        not_after=_end_of(config.not_after),
        pre_releases=Admitted(config.pre_releases) if config.pre_releases else None,
        yanked=Admitted(config.yanked) if config.yanked else None,
        newest=config.newest,
        versions=tuple(_specifier(text) for text in config.versions),
        platform_tags=frozenset(platform_tags) if config.platforms == "targets" else None,
        exclude_vulnerable=Level(config.exclude_vulnerable),
        ignore_advisories=config.ignore_advisories,
    )


def check_rules(config: RulesConfig, where: str, *, has_targets: bool) -> None:
    """Raise ``ConfigError`` for the rules of one index that can't work."""
    _check_texts(config.urgent, f"{where}.urgent", example='"urllib3"')
    _check_texts(config.ignore_advisories, f"{where}.ignore-advisories", example='"GHSA-…"')
    for n, text in enumerate(config.versions):
        _check_specifier(text, f"{where}.versions[{n}]")
    if config.platforms == "targets" and not has_targets:
        problem = (
            'expected one or more [[target]] tables with "targets", got none; '
            "`mirror target here` prints that of a machine"
        )
        raise ConfigError(where=f"{where}.platforms", problem=problem)
    if config.exclude_vulnerable != "none" and config.advisories is None:
        problem = (
            f'"{config.exclude_vulnerable}" needs [rules] advisories: '
            "the folder or zip of an OSV database"
        )
        raise ConfigError(where=f"{where}.exclude-vulnerable", problem=problem)


def _check_texts(texts: tuple[str, ...], where: str, *, example: str) -> None:
    if not all(text.strip() and text.isprintable() for text in texts):
        problem = f"expected printable characters such as {example}, none empty"
        raise ConfigError(where=where, problem=problem)


def _check_specifier(text: str, where: str) -> None:
    """Raise ``ConfigError`` for an entry of ``versions`` that is no project with a specifier."""
    # Only here: it takes 0.02 s; packaging's requirements, which read the whole text, take 0.05 s.
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    problem = 'expected a project with a specifier such as "numpy>=1.26"'
    try:
        _, specifier = _specifier(text)
        is_limit = bool(SpecifierSet(specifier))
    except UnsafeName:
        raise ConfigError(where=where, problem=f"{problem}; this one can't be read") from None
    except InvalidSpecifier:
        raise ConfigError(where=where, problem=f"{problem}{_unread(text)}") from None
    if not is_limit:
        raise ConfigError(where=where, problem=f"{problem}; this one limits no version")


def _unread(text: str) -> str:
    """Return why an entry of ``versions`` is refused, by the parts of a requirement in it."""
    if "@" in text:
        return "; this one names an address"
    if "[" in text or ";" in text:
        return ", without extras and markers"
    return "; this one can't be read"


def _specifier(text: str) -> tuple[ProjectName, str]:
    """Return project and specifier. Raises ``UnsafeName``."""
    found = _VERSIONS.fullmatch(text)
    if found is None:
        raise UnsafeName(name=text, cause="not a project with a specifier")
    return normalize_project(found[1]), (found[2] or found[3] or "").strip()


def _end_of(day: date | None) -> float | None:
    """Return the first moment after a day, UTC."""
    if day is None:
        return None
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() + 86_400.0
