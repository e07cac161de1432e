"""Entries that were rebuilt from the tree and belong to no index yet.

They hang on a source of their own, which no configuration can name. A cycle that lists the same
bytes claims them: opening the entry for its index closes the unclaimed one (``state.entries``).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from mirror.core.model import Labels
from mirror.core.names import ProjectName, Sha256
from mirror.state.entries.labels import LABEL_MARKS, LABELS, label_values
from mirror.state.entries.pages import mark_pages
from mirror.state.entries.removals import NOT_COUNTED
from mirror.state.listing.columns import ProjectKey
from mirror.state.listing.sources import UNCLAIMED, SourceRow, load_sources
from mirror.state.meta import load_meta
from mirror.state.rows import Columns
from mirror.state.store import Store

_UNFINISHED = "rebuilding"


async def record_rebuilt_start(store: Store, *, revision: int, now: float) -> int:
    """Create the source of rebuilt entries, and continue the revisions of the tree's pages; return
    its id.

    Until ``record_rebuilt_end`` the state must not be used: files that it does not know yet would
    be taken for leftovers.
    """
    async with store.transaction() as tx:
        await tx.execute("INSERT INTO meta (key, value) VALUES (?, '1')", (_UNFINISHED,))
        await tx.execute(
            "INSERT INTO revision (id, cycle, at) VALUES (?, 0, ?)", (max(revision, 1), now)
        )
        await tx.execute(
            "INSERT INTO source (name, url, position, configured) VALUES (?, '', 1000000, 0)",
            (UNCLAIMED,),
        )
    return int(await store.value("SELECT id FROM source WHERE name = ?", (UNCLAIMED,)))


async def record_rebuilt_end(store: Store) -> None:
    """Record that every file on the disk has its rows."""
    async with store.transaction() as tx:
        await tx.execute("DELETE FROM meta WHERE key = ?", (_UNFINISHED,))


async def is_rebuild_unfinished(store: Store) -> bool:
    """Return whether a rebuild was interrupted."""
    return await load_meta(store, _UNFINISHED) is not None


async def enter_unclaimed_projects(
    store: Store, source: int, names: Sequence[ProjectName], empty: Collection[ProjectName]
) -> dict[ProjectName, int]:
    """Make the rows of projects whose index is not known, and of their pages; return the projects'
    ids.

    The ``empty`` ones show no file, as one that was withdrawn: they count as listed, so that their
    pages stay.
    """
    async with store.transaction() as tx:
        await tx.executemany(
            "INSERT INTO project (source, name, listed, wanted) VALUES (?, ?, ?, 0)",
            [(source, name, name in empty) for name in names],
        )
        await tx.executemany(
            "INSERT OR IGNORE INTO page (name, revision, marked, published) VALUES (?, 0, 1, 1)",
            [(name,) for name in names],
        )
        ids = {}
        for name in names:
            ids[name] = int(
                await tx.value(
                    "SELECT id FROM project WHERE source = ? AND name = ?", (source, name)
                )
            )
    return ids


async def record_unlisted_blobs(
    store: Store, blobs: Sequence[tuple[str, str, int, str | None]], *, now: float
) -> None:
    """Record blobs that no page lists, (sha256, filename, size, metadata sha256); their retention
    begins now.
    """
    async with store.transaction() as tx:
        await tx.executemany(
            "INSERT OR IGNORE INTO blob (sha256, filename, size, metadata_sha256, stored, verified,"
            " unlisted_since)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(*blob, now, now, now) for blob in blobs],
        )


class FormerFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file on a page of a snapshot whose history is lost."""

    project: ProjectName
    filename: str
    sha256: Sha256
    size: int
    labels: Labels


async def record_former_files(store: Store, source: int, files: Sequence[FormerFile]) -> None:
    """Record files of a snapshot that no row of their project has, as published at no revision.

    So a withdrawal finds them by project and name. The removal brake does not count them.
    """
    async with store.transaction() as tx:
        await tx.executemany(
            "INSERT OR IGNORE INTO project (source, name, listed, wanted) VALUES (?, ?, 0, 0)",
            [(source, name) for name in sorted({file.project for file in files})],
        )
        await tx.executemany(
            "INSERT INTO entry (project, source, filename, sha256, size, digests, url, exempt,"
            f" valid_from, valid_to, {LABELS})"
            f" SELECT p.id, p.source, ?, ?, ?, ?, '', {NOT_COUNTED}, r.id, r.id, {LABEL_MARKS}"
            " FROM project p CROSS JOIN (SELECT max(id) AS id FROM revision) r"
            " WHERE p.source = ? AND p.name = ? AND NOT EXISTS (SELECT 1 FROM entry e"
            " JOIN project o ON o.id = e.project WHERE o.name = p.name AND e.filename = ?"
            " AND e.sha256 = ?)",
            [
                (
                    *(file.filename, file.sha256, file.size, f"sha256={file.sha256}"),
                    *label_values(file.labels),
                    *(source, file.project, file.filename, file.sha256),
                )
                for file in files
            ],
        )


async def load_unclaimed(store: Store) -> SourceRow | None:
    """Return the source of unclaimed entries while any are open."""
    for source in await load_sources(store):
        if source.name == UNCLAIMED and await store.value(
            "SELECT EXISTS (SELECT 1 FROM entry WHERE source = ? AND valid_to IS NULL)",
            (source.id,),
        ):
            return source
    return None


async def load_judgeable(store: Store, source: int) -> list[tuple[int, ProjectName]]:
    """Return the projects with unclaimed entries whose absence this cycle could see.

    Either an index lists the project and its page has been read, or no index lists it; not one
    whose page failed.
    """
    rows = await store.rows_as(
        ProjectKey,
        "SELECT p.id, p.name FROM project p WHERE p.source = ?"
        " AND EXISTS (SELECT 1 FROM entry e WHERE e.project = p.id AND e.valid_to IS NULL)"
        " AND NOT EXISTS (SELECT 1 FROM failure f WHERE f.project = p.name AND f.filename = '')"
        " AND NOT EXISTS (SELECT 1 FROM project o JOIN source s ON s.id = o.source"
        " WHERE o.name = p.name"
        " AND s.configured = 1 AND o.listed = 1 AND o.wanted = 1 AND o.digest IS NULL)",
        (source,),
    )
    return [(row.id, row.name) for row in rows]


async def load_failed_filenames(store: Store, name: ProjectName) -> set[str]:
    """Return the files of a project that an index lists and that could not be fetched, or not yet:
    held copies of them stay.
    """
    query = (
        "SELECT filename FROM failure WHERE project = ?1 AND filename != ''"
        " UNION SELECT d.filename FROM project p JOIN deferred d ON d.project = p.id"
        " WHERE p.name = ?1"
    )
    return set(await store.values(query, (name,)))


class _EmptyColumns(Columns, frozen=True):
    id: int
    name: ProjectName
    absent_since: int | None
    is_listed: int


async def settle_empty(store: Store, *, cycle: int, now: float) -> None:
    """Judge the unclaimed projects that show no file: a project that an index lists belongs to that
    index from now on.

    A project that no index lists in two whole cycles is removed: its page is marked.
    """
    found = await store.rows_as(
        _EmptyColumns,
        "SELECT p.id, p.name, p.absent_since, EXISTS (SELECT 1 FROM project o JOIN source s"
        " ON s.id = o.source"
        " WHERE o.name = p.name AND o.listed = 1 AND s.configured = 1) AS is_listed"
        " FROM project p JOIN source u ON u.id = p.source"
        " WHERE u.name = ? AND p.listed = 1",
        (UNCLAIMED,),
    )
    if not found:
        return
    async with store.transaction() as tx:
        for row in found:
            was_missed_before = row.absent_since is not None and row.absent_since < cycle
            if not row.is_listed and not was_missed_before:
                await tx.execute(
                    "UPDATE project SET absent_since = coalesce(absent_since, ?) WHERE id = ?",
                    (cycle, row.id),
                )
                continue
            await tx.execute(
                "UPDATE project SET listed = 0, absent_since = NULL WHERE id = ?", (row.id,)
            )
            await mark_pages(tx, [row.name], await tx.revision(cycle, now))
