"""Entries that were rebuilt from the tree and belong to no index yet.

They hang on a source of their own, which no configuration can name. A cycle that lists the same bytes claims them: opening
the entry for its index closes the unclaimed one (``state.entries``).
"""

from __future__ import annotations

from collections.abc import Sequence

from mirror.core.names import ProjectName
from mirror.state.listing import SourceRow, load_sources
from mirror.state.store import Store

UNCLAIMED = "(unclaimed)"


async def record_rebuilt_start(store: Store, *, revision: int, now: float) -> int:
    """Make the source of what is rebuilt, and go on counting revisions where the tree's pages stopped; return its id."""
    async with store.transaction() as tx:
        await tx.execute("INSERT INTO revision (id, cycle, at) VALUES (?, 0, ?)", (max(revision, 1), now))
        await tx.execute(
            "INSERT INTO source (name, url, position, configured) VALUES (?, '', 1000000, 0)", (UNCLAIMED,)
        )
    return int(await store.value("SELECT id FROM source WHERE name = ?", (UNCLAIMED,)))


async def enter_unclaimed_project(store: Store, source: int, name: ProjectName) -> int:
    """Make the row of a project whose index is not known, and of its page; return the project's id."""
    async with store.transaction() as tx:
        await tx.execute("INSERT INTO project (source, name, listed, wanted) VALUES (?, ?, 0, 0)", (source, name))
        await tx.execute("INSERT OR IGNORE INTO page (name, revision, marked, published) VALUES (?, 0, 1, 1)", (name,))
    return int(await store.value("SELECT id FROM project WHERE source = ? AND name = ?", (source, name)))


async def record_unlisted_blobs(store: Store, blobs: Sequence[tuple[str, str, int, str | None]], *, now: float) -> None:
    """Enter blobs that no page lists, (sha256, filename, size, metadata sha256); their retention begins now."""
    async with store.transaction() as tx:
        await tx.executemany(
            "INSERT OR IGNORE INTO blob (sha256, filename, size, metadata_sha256, stored, verified, unlisted_since)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(*blob, now, now, now) for blob in blobs],
        )


async def load_unclaimed(store: Store) -> SourceRow | None:
    """Return the source of unclaimed entries while any are open."""
    for source in await load_sources(store):
        if source.name == UNCLAIMED and await store.value(
            "SELECT EXISTS (SELECT 1 FROM entry WHERE source = ? AND valid_to IS NULL)", (source.id,)
        ):
            return source
    return None


async def load_judgeable(store: Store, source: int) -> list[tuple[int, ProjectName]]:
    """Return the projects with unclaimed entries whose absence this cycle could see.

    Either an index lists the project and its page has been read, or no index lists it; not one whose page failed.
    """
    rows = await store.rows(
        "SELECT p.id, p.name FROM project p WHERE p.source = ?"
        " AND EXISTS (SELECT 1 FROM entry e WHERE e.project = p.id AND e.valid_to IS NULL)"
        " AND NOT EXISTS (SELECT 1 FROM failure f WHERE f.project = p.name AND f.filename = '')"
        " AND NOT EXISTS (SELECT 1 FROM project o JOIN source s ON s.id = o.source WHERE o.name = p.name"
        " AND s.configured = 1 AND o.listed = 1 AND o.wanted = 1 AND o.digest IS NULL)",
        (source,),
    )
    return [(r[0], ProjectName(r[1])) for r in rows]
