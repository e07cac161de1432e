"""Removal of files from the pages, and the figures that the brake needs to judge it.

The transaction comes first: rows close, pages are marked. Blobs stay until their retention has
ended.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import msgspec

from mirror.core.model import ProjectMeta
from mirror.core.names import ProjectName
from mirror.state.entries.changes import close_entries, enter_meta
from mirror.state.entries.claims import forget_later_indexes
from mirror.state.entries.pages import mark_pages
from mirror.state.listing.columns import FORGET_VALIDATORS, ProjectKey
from mirror.state.listing.sources import UNCLAIMED, load_sources
from mirror.state.missing.deferred import forget_deferred
from mirror.state.missing.left_out import forget_left_out
from mirror.state.parameters import chunks, marks
from mirror.state.rows import Columns
from mirror.state.store import Store

_DAY_S = 86_400.0


class RemovalRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The files that one transaction removes from one project of one index."""

    project: int
    source: int
    name: ProjectName
    filenames: tuple[str, ...] = ()
    all_files: bool = False
    leaves: bool = False
    """The index no longer lists the project, or the patterns exclude it."""
    is_exempt: bool = False
    """The brake neither judges it nor counts it afterwards."""
    is_unwanted: bool = False
    """No want needs the files any more; the brake does not count them either."""
    is_displaced: bool = False
    """Another index owns it now; its failures here are not tried again."""
    meta: ProjectMeta | None = None
    withdrawn: str | None = None
    forgets: bool = False
    """Its page must be read again before it counts as unchanged: the page may still list the
    removed files.
    """


class BrakeWindow(msgspec.Struct, frozen=True, kw_only=True):
    """The changes of one index's files within the window of the brake."""

    published: int
    """Files on the pages at its start; where there were none yet, those on the pages since then."""
    left: int
    """Number of files published at its start that have left since."""


async def load_brake_window(
    store: Store, source: int, now: float, *, enough: Callable[[int], int]
) -> BrakeWindow:
    """Return the window of the last 24 hours, or since the brake was lifted by hand if that is
    later.

    ``published`` is counted up to ``enough(left)`` files only: a higher count would not change the
    brake's decision.
    """
    start = await store.value(
        "SELECT coalesce(max(id), 0) FROM revision WHERE at <= ?"
        " OR cycle <= (SELECT brake_lifted FROM source WHERE id = ?)",
        (now - _DAY_S, source),
    )
    values = {"source": source, "start": start}
    had_files = await store.value(f"SELECT EXISTS (SELECT 1 {_PUBLISHED_AT_START})", values)
    left = await store.value(
        "SELECT count(*) FROM (SELECT DISTINCT e.project, e.filename FROM entry e"
        " WHERE e.source = :source AND e.valid_to > :start AND e.exempt = 0"
        " AND NOT EXISTS (SELECT 1 FROM entry o"
        " JOIN project p ON p.id = e.project JOIN project q ON q.name = p.name AND q.id = o.project"
        f" WHERE o.filename = e.filename AND o.valid_to IS NULL)"
        f" {'AND e.valid_from <= :start' if had_files else ''})",
        values,
    )
    files = _PUBLISHED_AT_START if had_files else _PUBLISHED_SINCE
    published = await store.value(
        f"SELECT count(*) FROM (SELECT 1 {files} LIMIT :enough)", values | {"enough": enough(left)}
    )
    return BrakeWindow(published=published, left=left)


async def record_brake_lifted(store: Store, source: int, *, cycle: int) -> None:
    """Record that a person lifted the brake of one index in this cycle; before any file is removed
    by it.
    """
    async with store.transaction() as tx:
        await tx.execute("UPDATE source SET brake_lifted = ? WHERE id = ?", (cycle, source))


NOT_COUNTED = 2
"""The exemption of a file that left since no want needs it, or that only a snapshot had when a
state was rebuilt: the brake counts it neither as published nor as leaving.
"""
_PUBLISHED_AT_START = (
    "FROM entry WHERE source = :source AND valid_from <= :start"
    f" AND (valid_to IS NULL OR valid_to > :start) AND exempt != {NOT_COUNTED}"
)


_PUBLISHED_SINCE = (
    "FROM (SELECT DISTINCT project, filename FROM entry WHERE source = :source"
    f" AND (valid_to IS NULL OR valid_to > :start) AND exempt != {NOT_COUNTED})"
)


async def load_files_of(store: Store, projects: Sequence[int]) -> int:
    """Return how many files of these projects the pages list."""
    total = 0
    for chunk in chunks(projects):
        total += await store.value(
            f"SELECT count(*) FROM entry WHERE valid_to IS NULL AND project IN ({marks(chunk)})",
            chunk,
        )
    return total


async def count_pages_of(store: Store, names: Sequence[ProjectName]) -> int:
    """Return how many of some projects have a page."""
    total = 0
    for chunk in chunks(names):
        total += await store.value(
            f"SELECT count(*) FROM page WHERE name IN ({marks(chunk)})", chunk
        )
    return total


class _Displaced(Columns, frozen=True):
    project: int
    source: int
    name: ProjectName
    index: str
    owner: str


async def load_displaced(store: Store) -> list[tuple[int, int, ProjectName, str, str]]:
    """Return the projects whose files are published, or tried again, for an index that no longer
    owns them.

    Each one as (project id, index id, name, index, owner); only where the owner's own page has been
    read.
    """
    sources = [s for s in await load_sources(store) if s.configured]
    if len(sources) < 2:
        return []
    sizes = await store.mapping("SELECT source, count(*) FROM project GROUP BY source")
    seen: dict[int, _Displaced] = {}
    for owner, index in itertools.combinations(sources, 2):
        # From the smaller index's projects to the larger one's: SQLite does not know which of them
        # lists only a few.
        small, large = sorted(
            ("o", "p"), key=lambda t: sizes.get(owner.id if t == "o" else index.id, 0)
        )
        rows = await store.rows_as(
            ProjectKey,
            f"SELECT p.id, p.name FROM project {small} CROSS JOIN project {large}"
            f" ON {large}.name = {small}.name"
            " WHERE o.source = ? AND p.source = ? AND o.listed = 1 AND o.wanted = 1"
            " AND o.digest IS NOT NULL"
            " AND (EXISTS (SELECT 1 FROM entry e WHERE e.project = p.id AND e.valid_to IS NULL)"
            " OR EXISTS (SELECT 1 FROM failure f WHERE f.source = p.source"
            " AND f.project = p.name))",
            (owner.id, index.id),
        )
        for row in rows:
            seen.setdefault(row.id, _Displaced(row.id, index.id, row.name, index.name, owner.name))
    by_name = sorted(seen.values(), key=lambda displaced: displaced.name)
    return [(d.project, d.source, d.name, d.index, d.owner) for d in by_name]


async def load_overlaid(
    store: Store, position: int, names: Sequence[ProjectName]
) -> list[tuple[int, ProjectName]]:
    """Return the (project id, name) of these projects for which an index after ``position`` has
    files on the pages, or a rebuilt state has unclaimed files.
    """
    found: list[tuple[int, ProjectName]] = []
    for chunk in chunks(names):
        rows = await store.rows_as(
            ProjectKey,
            "SELECT p.id, p.name FROM project p JOIN source s ON s.id = p.source"
            " WHERE (s.configured = 1 OR s.name = ?) AND s.position > ?"
            f" AND p.name IN ({marks(chunk)})"
            " AND EXISTS (SELECT 1 FROM entry e WHERE e.project = p.id AND e.valid_to IS NULL)",
            (UNCLAIMED, position, *chunk),
        )
        found += [(row.id, row.name) for row in rows]
    return found


class _Orphaned(Columns, frozen=True):
    project: int
    source: int
    name: ProjectName
    index_name: str


async def load_orphaned(store: Store) -> list[tuple[int, int, ProjectName, str]]:
    """Return the projects with files on the pages whose index left the configuration."""
    rows = await store.rows_as(
        _Orphaned,
        "SELECT p.id AS project, s.id AS source, p.name, s.name AS index_name FROM source s"
        " JOIN project p ON p.source = s.id WHERE s.configured = 0 AND s.name != ?"
        " AND (p.listed = 1 OR EXISTS (SELECT 1 FROM entry e WHERE e.project = p.id"
        " AND e.valid_to IS NULL))",
        (UNCLAIMED,),
    )
    return [(row.project, row.source, row.name, row.index_name) for row in rows]


async def record_removals(
    store: Store, removals: Sequence[RemovalRecord], *, cycle: int, now: float
) -> None:
    """Close the rows of the removed files and mark the pages."""
    async with store.transaction() as tx:
        revision = await tx.revision(cycle, now)
        for removal in removals:
            if removal.all_files:
                await close_entries(tx, "project = ?", (removal.project,), revision, now)
            for filename in removal.filenames:
                same = (removal.project, filename)
                await close_entries(
                    tx,
                    "project = ? AND filename = ?",
                    same,
                    revision,
                    now,
                    exempt=NOT_COUNTED if removal.is_unwanted else int(removal.is_exempt),
                )
        await tx.executemany(
            "UPDATE project SET listed = 0, absent_since = NULL, etag = NULL, last_modified = NULL,"
            " serial = NULL,"
            " digest = NULL, selection = NULL, claims = NULL WHERE id = ?",
            [(r.project,) for r in removals if r.leaves],
        )
        leaving = [r.project for r in removals if r.leaves]
        await forget_left_out(tx, leaving)
        await forget_deferred(tx, leaving)
        await tx.executemany(
            f"{FORGET_VALIDATORS} id = ?", [(r.project,) for r in removals if r.forgets]
        )
        await tx.executemany(
            "DELETE FROM failure WHERE source = ? AND project = ?",
            [(r.source, r.name) for r in removals if r.leaves or r.is_displaced],
        )
        await enter_meta(tx, [(r.project, r.meta, r.withdrawn) for r in removals])
        await forget_later_indexes(tx, [(r.name, r.source) for r in removals])
        await mark_pages(tx, (r.name for r in removals), revision)
