"""Frozen states as recorded: snapshots, the hidden pins of unfinished bundles, and changes between
two revisions.

A row is committed before its pages are linked and deleted after they are removed, so that no blob
that they list is pruned. The temporal ``entry`` rows hold the files published at each revision, so
a frozen state needs no copy beyond its row.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from enum import Enum

import msgspec

from mirror.core.changes import PublishedFile
from mirror.core.model import Labels
from mirror.core.names import ProjectName, Sha256
from mirror.core.pages.render_pages import RENDERER
from mirror.state.entries.labels import label_columns
from mirror.state.parameters import chunks, marks
from mirror.state.rows import Columns, Count
from mirror.state.store import Store

_UNKNOWN_RENDERER = 0
"""Of pages that were found in the tree."""


class FrozenKind(Enum):
    """The purpose of a frozen state."""

    SNAPSHOT = "snapshot"
    PIN = "pin"


class SnapshotRow(msgspec.Struct, frozen=True, kw_only=True):
    """A frozen state. ``made_at``: seconds since the epoch."""

    id: int
    kind: FrozenKind
    name: str
    revision: int
    made_at: float
    note: str = ""
    projects: int = 0
    files: int = 0
    bytes: int = 0
    ready: bool = False
    """Whether its pages are in place: one that is not was interrupted."""
    rebuilt: bool = False
    """The state was lost since: its history is not known, only its pages and blobs."""


_FILE = (
    f"p.name, e.filename, e.sha256, e.size, {label_columns('e')}"
    " FROM project p JOIN entry e ON e.project = p.id"
)
_COLUMNS = "id, kind, name, revision, made_at, note, projects, files, bytes, ready, rebuilt"


async def load_snapshots(store: Store, kind: FrozenKind) -> list[SnapshotRow]:
    """Return all of a kind, the oldest first, those too that were interrupted."""
    query = f"SELECT {_COLUMNS} FROM snapshot WHERE kind = ? ORDER BY made_at, id"
    return await store.rows_as(SnapshotRow, query, (kind.value,))


async def load_snapshot(store: Store, kind: FrozenKind, name: str) -> SnapshotRow | None:
    """Return the one of a name, or None."""
    query = f"SELECT {_COLUMNS} FROM snapshot WHERE kind = ? AND name = ?"
    return await store.row_as(SnapshotRow, query, (kind.value, name))


async def record_snapshot(
    store: Store,
    kind: FrozenKind,
    name: str,
    *,
    revision: int,
    now: float,
    note: str = "",
    rebuilt: bool = False,
) -> SnapshotRow:
    """Record a state before it is frozen: from now on no file of it is pruned."""
    async with store.transaction() as tx:
        await tx.execute(
            "INSERT INTO snapshot (kind, name, revision, made_at, note, rebuilt, renderer)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                kind.value,
                name,
                revision,
                now,
                note,
                rebuilt,
                _UNKNOWN_RENDERER if rebuilt else RENDERER,
            ),
        )
    row = await load_snapshot(store, kind, name)
    assert row is not None
    return row


async def record_snapshot_ready(
    store: Store,
    row: SnapshotRow,
    *,
    projects: int,
    files: int,
    size: int,
    is_current: bool = False,
) -> None:
    """Record that its pages are in place, and the totals of their files.

    ``is_current``: pages that were found are as this version's renderer writes them.
    """
    async with store.transaction() as tx:
        if is_current:
            query = "UPDATE snapshot SET renderer = ? WHERE id = ?"
            await tx.execute(query, (RENDERER, row.id))
        await tx.execute(
            "UPDATE snapshot SET ready = 1, projects = ?, files = ?, bytes = ? WHERE id = ?",
            (projects, files, size, row.id),
        )


async def record_snapshot_gone(store: Store, row: SnapshotRow) -> None:
    """Forget a frozen state whose pages are gone: files that only it listed may be pruned."""
    async with store.transaction() as tx:
        await tx.execute("DELETE FROM snapshot WHERE id = ?", (row.id,))


async def record_kept_blobs(
    store: Store, row: SnapshotRow, blobs: Collection[tuple[Sha256, str]]
) -> None:
    """Record the (sha256, filename) on the pages of a frozen state without a history."""
    async with store.transaction() as tx:
        await tx.executemany(
            "INSERT OR IGNORE INTO kept_blob (sha256, filename, snapshot) VALUES (?, ?, ?)",
            [(sha256, filename, row.id) for sha256, filename in blobs],
        )


async def count_published(
    store: Store, revision: int, names: Sequence[ProjectName] | None = None
) -> tuple[int, int]:
    """Return the number of files on the pages of a revision, all or those of some projects, and
    their bytes.
    """
    if names is None:
        count = await store.only(
            Count,
            "SELECT count(*) AS number, coalesce(sum(size), 0) AS size FROM entry"
            " WHERE valid_from <= ?"
            " AND (valid_to IS NULL OR valid_to > ?)",
            (revision, revision),
        )
        return count.number, count.size
    files = size = 0
    for chunk in chunks(names):
        found = await load_files_at(store, chunk, revision)
        for listed in found.values():
            files += len(listed)
            size += sum(file.size for file in listed.values())
    return files, size


async def count_projects_at(store: Store, revision: int) -> int:
    """Return how many projects had files on their pages at a revision."""
    return int(
        await store.value(
            "SELECT count(DISTINCT p.name) FROM entry e JOIN project p ON p.id = e.project"
            " WHERE e.valid_from <= ?"
            " AND (e.valid_to IS NULL OR e.valid_to > ?)",
            (revision, revision),
        )
    )


class _ListOwner(Columns, frozen=True):
    sha256: str
    filename: str
    name: ProjectName


async def load_owners(
    store: Store, blobs: Collection[tuple[str, str]]
) -> dict[tuple[str, str], set[ProjectName]]:
    """Return the projects that list each (sha256, filename), or once did, where the history is
    known.
    """
    found: dict[tuple[str, str], set[ProjectName]] = {}
    for chunk in chunks(sorted({sha256 for sha256, _ in blobs})):
        owner = (
            "SELECT e.sha256, e.filename, p.name FROM entry e JOIN project p ON p.id = e.project"
            f" WHERE e.sha256 IN ({marks(chunk)})"
        )
        # In two halves, since each has an index of its own.
        query = f"{owner} AND e.valid_to IS NULL UNION {owner} AND e.valid_to IS NOT NULL"
        for row in await store.rows_as(_ListOwner, query, (*chunk, *chunk)):
            found.setdefault((row.sha256, row.filename), set()).add(row.name)
    return found


class _LostColumns(Columns, frozen=True):
    snapshot: str
    project: str
    sha256: str
    filename: str


async def load_lost_blobs(store: Store) -> list[tuple[str, str, str, str]]:
    """Return (snapshot, project, sha256, filename) of files that snapshots list and no row has;
    project "" where unknown.
    """
    lost = (
        "NOT EXISTS (SELECT 1 FROM blob b WHERE b.sha256 = {0}.sha256 AND b.filename"
        " = {0}.filename)"
    )
    rows = await store.rows_as(
        _LostColumns,
        "SELECT s.name AS snapshot, p.name AS project, e.sha256, e.filename FROM entry e"
        " JOIN snapshot s ON s.revision >= e.valid_from"
        " AND s.revision < e.valid_to AND s.kind = 'snapshot' AND s.ready = 1 AND s.rebuilt = 0"
        f" JOIN project p ON p.id = e.project WHERE e.valid_to IS NOT NULL AND {lost.format('e')}"
        " UNION SELECT s.name, '', k.sha256, k.filename FROM kept_blob k JOIN snapshot s"
        " ON s.id = k.snapshot"
        f" WHERE {lost.format('k')} ORDER BY 3, 4, 1",
    )
    return [(row.snapshot, row.project, row.sha256, row.filename) for row in rows]


async def load_revision_of_cycle(store: Store, cycle: int) -> int | None:
    """Return the revision that stood when a cycle had ended; None where there was no such cycle."""
    if not await store.value("SELECT EXISTS (SELECT 1 FROM cycle WHERE id = ?)", (cycle,)):
        return None
    return int(
        await store.value("SELECT coalesce(max(id), 0) FROM revision WHERE cycle <= ?", (cycle,))
    )


async def load_revision_at(store: Store, at: float) -> int:
    """Return the revision that stood at a time; 0 before the first."""
    return int(await store.value("SELECT coalesce(max(id), 0) FROM revision WHERE at <= ?", (at,)))


async def is_known(store: Store, revision: int) -> bool:
    """Return whether all of a revision is still known: ``prune`` forgets the history that nothing
    needs.
    """
    query = "SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'history_from'"
    if all(revision >= known_from for known_from in await store.values(query)):
        return True
    return bool(
        await store.value(
            "SELECT EXISTS (SELECT 1 FROM snapshot WHERE revision = ? AND rebuilt = 0)"
            " OR EXISTS (SELECT 1 FROM shipment WHERE revision = ? AND needed = 1)",
            (revision, revision),
        )
    )


async def load_touched(store: Store, first: int, second: int) -> AsyncIterator[list[ProjectName]]:
    """Yield the projects with an entry that opened or closed between two revisions, by name, in
    chunks.
    """
    low, high = sorted((first, second))
    names = await store.values(
        "SELECT DISTINCT name FROM project WHERE id IN (SELECT project FROM entry"
        " WHERE valid_from > ? AND valid_from <= ?"
        " UNION SELECT project FROM entry WHERE valid_to > ? AND valid_to <= ?) ORDER BY name",
        (low, high, low, high),
    )
    for chunk in chunks(names):
        yield list(chunk)


class _FileColumns(Columns, frozen=True):
    name: ProjectName
    filename: str
    sha256: str
    size: int
    labels: Labels


async def load_files_at(
    store: Store, names: Sequence[ProjectName], revision: int
) -> dict[ProjectName, dict[str, PublishedFile]]:
    """Return the files that the pages of some projects listed at a revision: project -> filename ->
    file.
    """
    found: dict[ProjectName, dict[str, PublishedFile]] = {}
    for chunk in chunks(names):
        given = marks(chunk)
        # In two halves, since each has an index of its own.
        for row in await store.rows_as(
            _FileColumns,
            f"SELECT {_FILE} WHERE p.name IN ({given}) AND e.valid_to IS NULL AND e.valid_from <= ?"
            f" UNION ALL SELECT {_FILE} WHERE p.name IN ({given}) AND e.valid_to IS NOT NULL"
            f" AND +e.valid_to > ?"
            " AND +e.valid_from <= ?",
            (*chunk, revision, *chunk, revision, revision),
        ):
            file = PublishedFile(sha256=row.sha256, size=row.size, labels=row.labels)
            found.setdefault(row.name, {})[row.filename] = file
    return found


class _SidecarColumns(Columns, frozen=True):
    sha256: str
    filename: str
    metadata_revision: int


async def load_sidecar_revisions(
    store: Store, blobs: Collection[tuple[Sha256, str]]
) -> dict[tuple[str, str], int]:
    """Return the revision at which the sidecar of each of some blobs last changed."""
    found: dict[tuple[str, str], int] = {}
    for chunk in chunks(sorted({sha256 for sha256, _ in blobs})):
        for row in await store.rows_as(
            _SidecarColumns,
            "SELECT sha256, filename, metadata_revision FROM blob"
            f" WHERE sha256 IN ({marks(chunk)})",
            chunk,
        ):
            found[(row.sha256, row.filename)] = row.metadata_revision
    return found
