"""Versions in file names, in the order of PEP 440; pure."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import msgspec

from mirror.core.changes import file_version
from mirror.core.files.distributions import is_wheel

if TYPE_CHECKING:
    from packaging.version import Version

_SDIST_ENDINGS: Final = (".tar.gz", ".zip", ".tar.bz2", ".tgz", ".tar.xz", ".tar.Z")
_CACHED: Final = 200_000

Yanked = bool | str
"""As in a JSON page: whether, or why."""


class VersionFiles(msgspec.Struct, frozen=True, kw_only=True):
    """The files of one version."""

    version: str | None
    """Normalised; None for files whose names have none."""
    filenames: tuple[str, ...]
    yanked: Yanked
    """True or a reason where all its files are yanked."""
    is_prerelease: bool


def group_versions(files: Iterable[tuple[str, Yanked]]) -> list[VersionFiles]:
    """Return (filename, yanked) by version, the newest first; files without a version last."""
    found: dict[Version | None, list[tuple[str, Yanked]]] = {}
    for filename, yanked in files:
        found.setdefault(version_of(filename), []).append((filename, yanked))
    unnamed = found.pop(None, [])
    versions = sorted((version for version in found if version is not None), reverse=True)
    groups = [_version_files(version, found[version]) for version in versions]
    return [*groups, _version_files(None, unnamed)] if unnamed else groups


def newest_version(groups: Iterable[VersionFiles]) -> VersionFiles | None:
    """Return the newest version that is neither yanked nor a pre-release, else the newest."""
    versions = [group for group in groups if group.version is not None]
    final = (group for group in versions if not group.yanked and not group.is_prerelease)
    return next(final, versions[0] if versions else None)


def version_of(filename: str) -> Version | None:
    """Return the version in a file name."""
    text = _version_text(filename)
    version = parse_version(text) if text else None
    if version is not None:
        return version
    found = file_version(filename)
    return parse_version(found) if found else None


@functools.lru_cache(maxsize=_CACHED)
def parse_version(text: str) -> Version | None:
    """Return a version; None for any other text."""
    from packaging.version import InvalidVersion, Version  # 2 ms

    try:
        return Version(text)
    except InvalidVersion:
        return None


def _version_text(filename: str) -> str | None:
    """Return the probable version, so that ``packaging`` seldom reads the whole name."""
    if is_wheel(filename):
        parts = filename.split("-", 2)
        return parts[1] if len(parts) == 3 else None
    for ending in _SDIST_ENDINGS:
        if filename.endswith(ending):
            return filename.removesuffix(ending).rpartition("-")[2] or None
    return None


def _version_files(version: Version | None, group: list[tuple[str, Yanked]]) -> VersionFiles:
    reasons = [yanked for _, yanked in group]
    yanked: Yanked = False
    if all(reason is not False for reason in reasons):
        yanked = next((reason for reason in reasons if isinstance(reason, str) and reason), True)
    return VersionFiles(
        version=None if version is None else str(version),
        filenames=tuple(sorted(filename for filename, _ in group)),
        yanked=yanked,
        is_prerelease=version is not None and version.is_prerelease,
    )
