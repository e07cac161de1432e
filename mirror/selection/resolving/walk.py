"""The dependencies of a set of chosen versions, by ``packaging``
alone.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from mirror.core.names import ProjectName
from mirror.selection.view.metadata import FileMetadata
from mirror.selection.wants import RequirementLine

_REMEMBERED = 1 << 15


class Edge(msgspec.Struct, frozen=True, kw_only=True):
    """One requirement that counts in an environment."""

    parent: str
    """The project whose file has it; empty for a line of the want."""
    project: str
    requirement: str
    """Without its marker, as it is written in the metadata or the want."""


class ReadRequirement(msgspec.Struct, frozen=True, kw_only=True):
    """A requirement, parsed."""

    requirement: Requirement
    project: ProjectName
    text: str
    """Without its marker."""


@functools.lru_cache(maxsize=_REMEMBERED)
def read_requirement(text: str) -> ReadRequirement:
    """Return a requirement; the same text is parsed once."""
    requirement = Requirement(text)
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    address = f" @ {requirement.url}" if requirement.url else ""
    return ReadRequirement(
        requirement=requirement,
        project=ProjectName(canonicalize_name(requirement.name)),
        text=f"{requirement.name}{extras}{requirement.specifier}{address}",
    )


def walk(
    roots: Sequence[RequirementLine],
    chosen: Mapping[ProjectName, Iterable[Version]],
    metadata: Mapping[tuple[ProjectName, Version], FileMetadata],
    markers: Mapping[str, str],
) -> list[Edge]:
    """Return the requirements that count, from the roots on, breadth first; each once.

    ``chosen``: the versions of each project whose dependencies count. ``markers``: of the
    environment, without ``extra``.
    """
    edges: dict[tuple[str, str, str], Edge] = {}
    queue: list[tuple[ProjectName, str]] = []
    known: set[tuple[ProjectName, str]] = set()

    def add(parent: str, read: ReadRequirement) -> None:
        key = (parent, read.project, read.text)
        edges.setdefault(key, Edge(parent=parent, project=read.project, requirement=read.text))
        for extra in ("", *sorted(map(canonicalize_name, read.requirement.extras))):
            if (read.project, extra) not in known:
                known.add((read.project, extra))
                queue.append((read.project, extra))

    for line in roots:
        add("", read_requirement(line.text))
    while queue:
        project, extra = queue.pop(0)
        for version in chosen.get(project, ()):
            found = metadata.get((project, version))
            for text in found.requires if found is not None else ():
                read = read_requirement(text)
                if counts(read.requirement, markers, extra):
                    add(project, read)
    return list(edges.values())


def unknown_extras(
    edges: Iterable[Edge],
    chosen: Mapping[ProjectName, Version],
    metadata: Mapping[tuple[ProjectName, Version], FileMetadata],
) -> tuple[str, ...]:
    """Return a sentence for each extra that a want asks for and the chosen version does not have.

    Installers only warn of it, and install without the dependencies that were meant.
    """
    found: dict[str, None] = {}
    for edge in edges:
        read = read_requirement(edge.requirement)
        version = chosen.get(read.project)
        if edge.parent or version is None or not read.requirement.extras:
            continue
        own = metadata.get((read.project, version), FileMetadata())
        known = set(map(canonicalize_name, own.extras))
        markers = " ".join(str(read_requirement(text).requirement.marker) for text in own.requires)
        for extra in sorted(map(canonicalize_name, read.requirement.extras)):
            if extra not in known and f'extra == "{extra}"' not in markers:
                have = f"it has {', '.join(sorted(known))}" if known else "it has none"
                words = f"{edge.requirement}: {read.project} {version} has no extra {extra}; {have}"
                found[words] = None
    return tuple(found)


def counts(requirement: Requirement, markers: Mapping[str, str], extra: str) -> bool:
    """Return whether a requirement counts in an environment, with an extra or without one."""
    marker = requirement.marker
    if marker is None:
        return not extra
    if extra and "extra" not in str(marker):
        return False  # it counts without the extra, too
    try:
        return bool(marker.evaluate({**markers, "extra": extra}))
    except (UndefinedComparison, UndefinedEnvironmentName):
        return False


def paths_to(edges: Sequence[Edge], project: str) -> list[tuple[str, ...]]:
    """Return the shortest chains of requirements that lead from a want to a project, one for each
    requirement of it.
    """
    first: dict[str, tuple[str, ...]] = {"": ()}
    for edge in edges:  # breadth first: a parent's chain is known before it is used
        if edge.parent in first and edge.project not in first:
            first[edge.project] = (*first[edge.parent], edge.requirement)
    return [
        (*first[e.parent], e.requirement)
        for e in edges
        if e.project == project and e.parent in first
    ]
