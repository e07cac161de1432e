"""Taking files off the pages, and what the brake must know to judge it.

The transaction comes first: rows close, pages are marked. Blobs stay until their retention has ended.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mirror.core.model import ProjectMeta
from mirror.core.names import ProjectName
from mirror.state.entries import close_entries, mark_pages
from mirror.state.listing import meta_values
from mirror.state.rebuilt import UNCLAIMED
from mirror.state.store import Store

_DAY_S = 86_400.0


class RemovalRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What one transaction takes away from one project of one index."""

    project: int
    source: int
    name: ProjectName
    filenames: tuple[str, ...] = ()
    all_files: bool = False
    leaves: bool = False
    """The index no longer lists the project, or nobody wants it."""
    meta: ProjectMeta | None = None
    withdrawn: str | None = None


class BrakeWindow(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to one index's files within the window of the brake."""

    published: int
    """Files on the pages at its start; where there were none yet, those on the pages since then."""
    left: int
    """Files that were there at its start and are no more."""


async def load_brake_window(store: Store, source: int, now: float) -> BrakeWindow:
    """Return the window of the last 24 hours, or since the brake was lifted by hand if that is later."""
    start = await store.value(
        "SELECT coalesce(max(id), 0) FROM revision WHERE at <= ?"
        " OR cycle IN (SELECT id FROM cycle WHERE allow_shrink = 1)",
        (now - _DAY_S,),
    )
    lapsed = (
        "FROM entry e WHERE e.source = :source AND e.valid_to > :start AND NOT EXISTS (SELECT 1 FROM entry o"
        " JOIN project p ON p.id = e.project JOIN project q ON q.name = p.name AND q.id = o.project"
        " WHERE o.filename = e.filename AND o.valid_to IS NULL)"
    )
    values = {"source": source, "start": start}
    published = await store.value(
        "SELECT count(*) FROM entry WHERE source = :source AND valid_from <= :start"
        " AND (valid_to IS NULL OR valid_to > :start)",
        values,
    )
    if published:
        lapsed += " AND e.valid_from <= :start"
    left = await store.value(
        f"SELECT count(*) FROM (SELECT DISTINCT e.project, e.filename {lapsed})",
        values,
    )
    if not published:
        published = await store.value(
            "SELECT count(*) FROM (SELECT DISTINCT project, filename FROM entry WHERE source = ?)", (source,)
        )
    return BrakeWindow(published=published, left=left)


async def load_files_of(store: Store, projects: Sequence[int]) -> int:
    """Return how many files of these projects the pages list."""
    total = 0
    for start in range(0, len(projects), 500):
        chunk = projects[start : start + 500]
        marks = ",".join("?" * len(chunk))
        total += await store.value(
            f"SELECT count(*) FROM entry WHERE valid_to IS NULL AND project IN ({marks})", tuple(chunk)
        )
    return total


async def load_displaced(store: Store) -> list[tuple[int, int, ProjectName, str, str]]:
    """Return the projects whose files are published for an index that no longer owns them.

    Each one as (project id, index id, name, index, owner); only where the owner's own page has been read.
    """
    if not await store.value("SELECT EXISTS (SELECT 1 FROM source WHERE position > 0)"):
        return []
    rows = await store.rows(
        "SELECT p.id, s.id, p.name, s.name, owner.name FROM source s JOIN project p ON p.source = s.id"
        " JOIN project o ON o.name = p.name AND o.id != p.id JOIN source owner ON owner.id = o.source"
        " WHERE s.configured = 1 AND owner.configured = 1 AND owner.position < s.position"
        " AND o.listed = 1 AND o.wanted = 1 AND o.digest IS NOT NULL"
        " AND EXISTS (SELECT 1 FROM entry e WHERE e.project = p.id AND e.valid_to IS NULL)"
        " ORDER BY p.name, owner.position"
    )
    seen: dict[int, tuple[int, int, ProjectName, str, str]] = {}
    for r in rows:
        seen.setdefault(r[0], (r[0], r[1], ProjectName(r[2]), r[3], r[4]))
    return list(seen.values())


async def load_orphaned(store: Store) -> list[tuple[int, int, ProjectName, str]]:
    """Return the projects with files on the pages whose index left the configuration."""
    rows = await store.rows(
        "SELECT p.id, s.id, p.name, s.name FROM source s JOIN project p ON p.source = s.id WHERE s.configured = 0 AND s.name != ?"
        " AND (p.listed = 1 OR EXISTS (SELECT 1 FROM entry e WHERE e.project = p.id AND e.valid_to IS NULL))",
        (UNCLAIMED,),
    )
    return [(r[0], r[1], ProjectName(r[2]), r[3]) for r in rows]


async def record_removals(store: Store, removals: Sequence[RemovalRecord], *, cycle: int, now: float) -> None:
    """Close the rows of what leaves and mark the pages."""
    async with store.transaction() as tx:
        revision = await tx.revision(cycle, now)
        for removal in removals:
            if removal.all_files:
                await close_entries(tx, "project = ?", (removal.project,), revision, now)
            for filename in removal.filenames:
                await close_entries(tx, "project = ? AND filename = ?", (removal.project, filename), revision, now)
        await tx.executemany(
            "UPDATE project SET listed = 0, absent_since = NULL, etag = NULL, last_modified = NULL, serial = NULL,"
            " digest = NULL, skipped = 0, claims = NULL WHERE id = ?",
            [(r.project,) for r in removals if r.leaves],
        )
        await tx.executemany(
            "DELETE FROM failure WHERE source = ? AND project = ?",
            [(r.source, r.name) for r in removals if r.leaves],
        )
        await tx.executemany(
            "UPDATE project SET status = ?, status_reason = ?, versions = ?, extra = ?, extra_meta = ?, withdrawn = ?"
            " WHERE id = ?",
            [(*meta_values(r.meta), r.withdrawn, r.project) for r in removals if r.meta is not None],
        )
        await tx.executemany(
            "UPDATE project SET etag = NULL, last_modified = NULL, serial = NULL, digest = NULL WHERE name = ? AND"
            " source IN (SELECT later.id FROM source later JOIN source mine ON mine.id = ?"
            " WHERE later.position > mine.position)",
            [(r.name, r.source) for r in removals],
        )
        await mark_pages(tx, (r.name for r in removals), revision)
