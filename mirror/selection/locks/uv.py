"""The format uv.lock, version 1: a graph, walked from the members and the manifest.

All extras and groups of members count; extras of other packages only where a dependency asks for
them. Who needs whom is kept, since a package may count on one platform only.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import reduce

from packaging.markers import Marker

from mirror.selection.documents import Table
from mirror.selection.locks.values import (
    check_count,
    check_file_count,
    checked_project,
    read_digest,
    read_filename,
    read_marker,
    read_project,
    shown_index,
    unknown_version,
)
from mirror.selection.markers import both_markers, either_marker
from mirror.selection.wants import (
    ForeignPackage,
    LockedDependency,
    LockedFile,
    LockedPackage,
    LockedSet,
    LockFormat,
    LockGraph,
    LockNode,
)

_FOREIGN = {"git": "a git repository", "url": "an address of its own", "path": "a local path"}
_FOREIGN |= {"directory": "a local folder"}
_MEMBER = ("virtual", "editable")
MAX_EDGES = 300_000
MAX_FORKS = 1_000
_SOURCES = ("registry", *_MEMBER, *_FOREIGN)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """One ``[[package]]`` with the keys by which edges and roots find it."""

    table: Table
    project: str
    version: str | None
    source: Table
    forks: Marker | None
    is_member: bool


@dataclass(kw_only=True)
class _Graph:
    """The graph while it is built: a node for each package, and one for each of its extras."""

    entries: tuple[_Entry, ...]
    by_name: dict[str, list[int]]
    nodes: list[LockNode] = field(default_factory=list)
    of_extra: dict[tuple[int, str], int] = field(default_factory=dict)
    edges: dict[int, list[LockedDependency]] = field(default_factory=lambda: defaultdict(list))
    edge_count: int = 0


def read_uv_lock(document: Table, *, want: str | None) -> LockedSet:
    """Return the packages of a uv.lock. Raises ``ConfigError``."""
    version = document.values.get("version")
    if version != 1 or isinstance(version, bool):
        raise unknown_version(document, version, "1")
    manifest = document.table("manifest")
    members = frozenset(checked_project(n, manifest, "members") for n in manifest.texts("members"))
    tables = document.tables("package")
    check_count(tables, document, "package")
    entries = tuple(_read_entry(table, members) for table in tables)
    by_name: dict[str, list[int]] = defaultdict(list)
    for place, entry in enumerate(entries):
        by_name[entry.project].append(place)
    graph = _Graph(entries=entries, by_name=by_name)
    graph.nodes = [_node(entry) for entry in entries]
    for place in range(len(entries)):
        _add_edges(graph, place)
    roots = (*_member_roots(graph), *_manifest_roots(graph, manifest))
    if not roots:
        roots = tuple(LockedDependency(packages=(place,)) for place in range(len(entries)))
    return LockedSet(
        want=want,
        file=document.where,
        format=LockFormat.UV,
        packages=tuple(n for n in graph.nodes if isinstance(n, LockedPackage)),
        foreign=tuple(n for n in graph.nodes if isinstance(n, ForeignPackage)),
        graph=LockGraph(
            nodes=tuple(graph.nodes),
            roots=roots,
            edges={place: tuple(edges) for place, edges in graph.edges.items()},
        ),
    )


def _read_entry(table: Table, members: frozenset[str]) -> _Entry:
    project = read_project(table)
    source = table.table("source")
    kind = next((key for key in _SOURCES if key in source), None)
    if kind is None:
        raise table.error(f"expected one of {', '.join(_SOURCES)}", "source")
    is_root = kind in _MEMBER and source.text(kind) == "."
    texts = table.texts("resolution-markers")
    if len(texts) > MAX_FORKS:
        raise table.error(f"more than {MAX_FORKS:,} markers", "resolution-markers")
    forks = [read_marker(text, table, "resolution-markers") for text in texts]
    return _Entry(
        table=table,
        project=project,
        version=table.optional_text("version"),
        source=source,
        forks=reduce(either_marker, forks) if forks else None,
        is_member=is_root or project in members,
    )


def _node(entry: _Entry) -> LockNode:
    if entry.is_member:
        return None
    index = entry.source.optional_text("registry")
    if index is not None and index.startswith(("http://", "https://")):
        return LockedPackage(
            project=entry.project,
            version=entry.version,
            files=_files(entry.table),
            index=shown_index(index),
        )
    kind = next((key for key in _FOREIGN if key in entry.source), "directory")
    detail = _FOREIGN[kind]
    return ForeignPackage(project=entry.project, version=entry.version, detail=detail)


def _files(table: Table) -> tuple[LockedFile, ...]:
    listed = list(table.tables("wheels"))
    if "sdist" in table:
        listed.append(table.table("sdist"))
    check_file_count(listed, table)
    return tuple(
        LockedFile(
            filename=read_filename(file, "filename", "url", "path"),
            digests=read_digest(file, "hash"),
            size=file.optional_size("size"),
        )
        for file in listed
    )


def _add_edges(graph: _Graph, place: int) -> None:
    """Add the dependencies of a package; those of its extras start at nodes of their own."""
    entry = graph.entries[place]
    for dependency in entry.table.tables("dependencies"):
        graph.edges[place].extend(_edges(graph, dependency))
    optional = entry.table.table("optional-dependencies")
    for extra in optional.values:
        node = _extra_node(graph, place, extra)
        for dependency in optional.tables(extra):
            graph.edges[node].extend(_edges(graph, dependency))
        if entry.is_member:
            graph.edges[place].append(LockedDependency(packages=(node,)))
    groups = entry.table.table("dev-dependencies")
    for group in groups.values if entry.is_member else ():
        for dependency in groups.tables(group):
            graph.edges[place].extend(_edges(graph, dependency))


def _edges(graph: _Graph, table: Table) -> list[LockedDependency]:
    """Return the edges of one dependency: one for each package that it may mean."""
    project = read_project(table)
    marker = read_marker(table.optional_text("marker"), table, "marker")
    candidates = graph.by_name.get(project, [])
    if (version := table.optional_text("version")) is not None:
        candidates = [n for n in candidates if graph.entries[n].version in {version, None}]
    if "source" in table:
        source = table.table("source").values
        candidates = [n for n in candidates if graph.entries[n].source.values == source]
    extras = [*table.texts("extra"), *table.texts("extras")]
    graph.edge_count += len(candidates)
    if graph.edge_count > MAX_EDGES:
        raise table.error(f"more than {MAX_EDGES:,} dependencies")
    found = []
    for place in candidates:
        forks = graph.entries[place].forks if len(candidates) > 1 else None
        nodes = (place, *(_extra_node(graph, place, extra) for extra in extras))
        found.append(LockedDependency(packages=nodes, marker=both_markers(marker, forks)))
    return found


def _extra_node(graph: _Graph, place: int, extra: str) -> int:
    """Return the node of a package's extra; a new one where no edge named it before."""
    key = (place, extra)
    if key not in graph.of_extra:
        graph.of_extra[key] = len(graph.nodes)
        graph.nodes.append(None)
    return graph.of_extra[key]


def _member_roots(graph: _Graph) -> tuple[LockedDependency, ...]:
    members = (place for place, entry in enumerate(graph.entries) if entry.is_member)
    return tuple(LockedDependency(packages=(place,)) for place in members)


def _manifest_roots(graph: _Graph, manifest: Table) -> list[LockedDependency]:
    """Return the requirements of a script, and those of groups of a workspace without a project."""
    requirements = list(manifest.tables("requirements"))
    groups = manifest.table("dependency-groups")
    for group in groups.values:
        requirements.extend(groups.tables(group))
    return [edge for table in requirements for edge in _edges(graph, table)]
