"""Why a file is wanted: the chains of requirements that lead from a want to a project."""

from __future__ import annotations

import msgspec
from packaging.version import InvalidVersion, Version

from mirror.core.names import ProjectName
from mirror.errors import ConfigError, shown_text
from mirror.selection.resolving.results import Result, decode_result
from mirror.selection.resolving.walk import paths_to
from mirror.state.store import Store
from mirror.state.wants.needs import load_resolutions


class Path(msgspec.Struct, frozen=True, kw_only=True):
    """One chain of requirements in one target; the first one is a line of the want."""

    want: str
    target: str
    path: tuple[str, ...]


async def paths_of(store: Store, project: ProjectName, version: str | None) -> list[Path]:
    """Return the chains that lead to a project, or to one version of it. Raises ``ConfigError``."""
    try:
        wanted = None if version is None else Version(version)
    except InvalidVersion:
        problem = f"{shown_text(version or '')} is no version"
        raise ConfigError(where="PROJECT[==VERSION]", problem=problem) from None
    found: list[Path] = []
    for key, stored in (await load_resolutions(store)).items():
        result = decode_result(stored)
        if not _has(result, project, wanted):
            continue
        chains = paths_to(result.edges, project) or [
            (f"{project}=={v}",) for v in _versions(result, project)
        ]
        found += [Path(want=key.want, target=key.target, path=chain) for chain in chains]
    return list(dict.fromkeys(found))


def _versions(result: Result, project: ProjectName) -> list[str]:
    return sorted({file.version for file in result.files if file.project == project})


def _has(result: Result, project: ProjectName, wanted: Version | None) -> bool:
    versions = _versions(result, project)
    if wanted is None:
        return bool(versions) or any(edge.project == project for edge in result.edges)
    return wanted in {Version(text) for text in versions if text}
