"""The values of a want's sources: requirements to resolve, the packages of a lock, or a failure.

A source is the list ``requirements`` of a want, or one file. It is read whole or it is an
``UnresolvedFile``: a file that can't be read never counts as empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from functools import lru_cache

import msgspec
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from mirror.selection.markers import MarkerCache, marker_holds
from mirror.selection.targets import Environment

_SDIST_ENDINGS = (".tar.gz", ".zip", ".tgz", ".tar.bz2", ".tar.xz", ".tar")


class LockFormat(Enum):
    """The formats of lock files.

    ``REQUIREMENTS``: a requirement file in which each line is pinned.
    """

    UV = "uv.lock"
    PYLOCK = "pylock.toml"
    POETRY = "poetry.lock"
    PDM = "pdm.lock"
    PIPFILE = "Pipfile.lock"
    REQUIREMENTS = "requirements"


class RequirementLine(msgspec.Struct, frozen=True, kw_only=True):
    """One requirement without an address, with the digests of its ``--hash`` options."""

    requirement: Requirement
    project: str
    """Normalised."""
    hashes: tuple[str, ...] = ()
    """Such as ``sha256:…``."""
    origin: str

    @property
    def text(self) -> str:
        """The line for a resolver: name, extras, specifier and marker."""
        return str(self.requirement)

    def applies(self, environment: Environment) -> bool:
        """Return whether its marker holds there, without any extra."""
        return marker_holds(self.requirement.marker, environment.markers)

    @property
    def pinned_version(self) -> str | None:
        """The version where ``==`` names exactly one."""
        specifiers = list(self.requirement.specifier)
        if len(specifiers) != 1 or specifiers[0].operator not in {"==", "==="}:
            return None
        return None if specifiers[0].version.endswith(".*") else specifiers[0].version


class Resolution(msgspec.Struct, frozen=True, kw_only=True):
    """Requirements that one resolution for each environment turns into files."""

    want: str | None
    file: str | None
    lines: tuple[RequirementLine, ...]
    """In their order; never empty."""
    constraints: tuple[RequirementLine, ...] = ()
    skipped: tuple[str, ...] = ()
    """One sentence for each line that is left out, such as a local path."""
    warnings: tuple[str, ...] = ()
    requires_python: str | None = None


class UnresolvedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A source that can't be read. ``problem`` names file and line, and holds no secret."""

    want: str | None
    file: str | None
    problem: str


class LockedFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file that a lock names."""

    filename: str
    digests: tuple[str, ...] = ()
    """Such as ``sha256:…``, lower case."""
    size: int | None = None

    @property
    def is_wheel(self) -> bool:
        """Whether it is a wheel, by its name."""
        return self.filename.endswith(".whl")

    @property
    def is_sdist(self) -> bool:
        """Whether it is a source distribution, by its name; an egg or an installer is neither."""
        return self.filename.endswith(_SDIST_ENDINGS)

    def place(self, environment: Environment) -> tuple[int, tuple[int, str]] | None:
        """Return how well a wheel fits, lower is better: its tag, then its build tag."""
        wheel = _parse_wheel(self.filename)
        rank = None if wheel is None else environment.rank(wheel[1])
        return None if wheel is None or rank is None else (rank, wheel[0])


@lru_cache(maxsize=65_536)
def _parse_wheel(filename: str) -> tuple[tuple[int, str], frozenset[Tag]] | None:
    """Return the order of a wheel's build tag, and its tags; None for another file."""
    try:
        _name, _version, build, tags = parse_wheel_filename(filename)
    except InvalidWheelFilename:
        return None
    return ((-build[0], build[1]) if build else (1, "")), tags


def choose(files: Iterable[LockedFile], environment: Environment) -> LockedFile | None:
    """Return the file that an installer chooses: the best wheel, else a source distribution."""
    known = tuple(files)
    placed = [(place, file) for file in known if (place := file.place(environment)) is not None]
    if placed:
        return min(placed, key=lambda pair: pair[0])[1]
    return next((file for file in known if file.is_sdist), None)


class LockedPackage(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a project in a lock, with the files or only the digests that it names."""

    project: str
    """Normalised."""
    version: str | None
    files: tuple[LockedFile, ...] = ()
    digests: tuple[str, ...] = ()
    """Where the format names no files."""
    names_only_digests: bool = False
    origin: str | None = None
    """The file and line of a requirement."""
    index: str | None = None
    """Without user info and query."""
    marker: Marker | None = None
    """When the package counts; its ``extra`` parts count as true."""

    def choice(self, environment: Environment) -> LockedFile | None:
        """Return the file that an installer chooses: the best wheel, else a source distribution."""
        return choose(self.files, environment)


class ForeignPackage(msgspec.Struct, frozen=True, kw_only=True):
    """A package that a lock takes from a repository, a folder or an address of its own."""

    project: str
    version: str | None
    detail: str
    """The kind of its source, such as ``a git repository``; never the address."""
    marker: Marker | None = None


LockNode = LockedPackage | ForeignPackage | None
"""None: a member of the workspace, or the project itself."""


class LockedDependency(msgspec.Struct, frozen=True, kw_only=True):
    """An edge of a lock's graph: the places of the packages that it may mean, and when it
    counts.
    """

    packages: tuple[int, ...]
    marker: Marker | None = None


class LockGraph(msgspec.Struct, frozen=True, kw_only=True):
    """Who needs whom, for a lock that is walked. Places count in ``nodes`` of the lock."""

    nodes: tuple[LockNode, ...]
    roots: tuple[LockedDependency, ...]
    edges: Mapping[int, tuple[LockedDependency, ...]]


class LockedSet(msgspec.Struct, frozen=True, kw_only=True):
    """All packages of a lock; the project itself and members of its workspace are not among
    them.
    """

    want: str | None
    file: str | None
    format: LockFormat
    packages: tuple[LockedPackage, ...]
    foreign: tuple[ForeignPackage, ...] = ()
    skipped: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    graph: LockGraph | None = None

    def packages_for(self, environment: Environment) -> tuple[LockedPackage, ...]:
        """Return the packages that an install in this environment needs."""
        if self.graph is None:
            markers = MarkerCache(environment.markers)
            return tuple(p for p in self.packages if markers.holds(p.marker))
        reached = _reached(self.graph, environment)
        return tuple(n for n in reached if isinstance(n, LockedPackage))

    def foreign_for(self, environment: Environment) -> tuple[ForeignPackage, ...]:
        """Return the packages from elsewhere that an install in this environment needs."""
        if self.graph is None:
            markers = MarkerCache(environment.markers)
            return tuple(p for p in self.foreign if markers.holds(p.marker))
        reached = _reached(self.graph, environment)
        return tuple(n for n in reached if isinstance(n, ForeignPackage))


WantSource = Resolution | LockedSet | UnresolvedFile


def _reached(graph: LockGraph, environment: Environment) -> list[LockNode]:
    """Return the nodes that the roots reach by edges whose markers hold, in the lock's order."""
    markers = MarkerCache(environment.markers)
    seen: set[int] = set()
    waiting = list(graph.roots)
    while waiting:
        edge = waiting.pop()
        if not markers.holds(edge.marker):
            continue
        for place in edge.packages:
            if place not in seen:
                seen.add(place)
                waiting.extend(graph.edges.get(place, ()))
    return [graph.nodes[place] for place in sorted(seen)]
