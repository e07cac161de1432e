"""The blobs and the history that nothing needs any longer, and their end."""

from __future__ import annotations

from collections.abc import Collection

from mirror.state.blobs.verified import BLOB_COLUMNS, BlobRow
from mirror.state.rows import Count
from mirror.state.store import Store

_CHUNK = 1000


_UNNEEDED = (
    "NOT EXISTS (SELECT 1 FROM entry WHERE entry.sha256 = blob.sha256"
    " AND entry.filename = blob.filename"
    " AND entry.valid_to IS NULL)"
    " AND NOT EXISTS (SELECT 1 FROM entry WHERE entry.sha256 = blob.sha256"
    " AND entry.filename = blob.filename"
    " AND entry.valid_to IS NOT NULL AND EXISTS (SELECT 1 FROM snapshot"
    " WHERE snapshot.revision >= entry.valid_from AND snapshot.revision < entry.valid_to))"
    " AND NOT EXISTS (SELECT 1 FROM kept_blob WHERE kept_blob.sha256 = blob.sha256"
    " AND kept_blob.filename = blob.filename)"
)
"""The blobs that neither a page nor a snapshot lists."""

_UNNEEDED_HISTORY = (
    "NOT EXISTS (SELECT 1 FROM snapshot WHERE snapshot.revision >= valid_from"
    " AND snapshot.revision < valid_to)"
    " AND NOT EXISTS (SELECT 1 FROM shipment WHERE shipment.needed = 1"
    " AND shipment.revision >= valid_from AND shipment.revision < valid_to)"
    " AND NOT EXISTS (SELECT 1 FROM kept_blob WHERE kept_blob.sha256 = entry.sha256"
    " AND kept_blob.filename = entry.filename)"
)
"""The closed entries that neither a snapshot nor a future bundle needs."""

_NOT_RECENT = (
    "(sha256, filename) NOT IN (SELECT entry.sha256, entry.filename FROM entry"
    " WHERE entry.valid_to >"
    " (SELECT coalesce(max(id), 0) FROM revision WHERE cycle < coalesce(?, 9223372036854775807)))"
)
"""The blobs that no cycle from a given one on took off the pages."""

_LAST_REVISION = (
    "coalesce(max(id), 0) FROM revision WHERE at <= ? AND cycle < coalesce(?, 9223372036854775807)"
)
"""The last revision until a time, before a given cycle."""


async def load_prunable(
    store: Store, cutoff: float, limit: int = _CHUNK, *, kept_from: int | None = None
) -> list[BlobRow]:
    """Return some blobs that no page and no snapshot has listed since before a time.

    ``kept_from``: files that this cycle or a later one removed from the pages are kept, whatever
    their recorded time.
    """
    return await store.rows_as(
        BlobRow,
        f"SELECT {BLOB_COLUMNS} FROM blob WHERE unlisted_since <= ? AND {_UNNEEDED}"
        f" AND {_NOT_RECENT}"
        " ORDER BY unlisted_since LIMIT ?",
        (cutoff, kept_from, limit),
    )


async def record_pruned(store: Store, blobs: Collection[BlobRow]) -> list[BlobRow]:
    """Forget blobs that no open entry needs, before their bytes go; return those that were
    forgotten.
    """
    forgotten = []
    async with store.transaction() as tx:
        for blob in blobs:
            gone = await tx.execute(
                f"DELETE FROM blob WHERE sha256 = ? AND filename = ? AND unlisted_since IS NOT NULL"
                f" AND {_UNNEEDED}",
                (blob.sha256, blob.filename),
            )
            if gone:
                forgotten.append(blob)
        # With no shipment, no far side can have the metadata of a deleted blob.
        await tx.executemany(
            "DELETE FROM first_metadata WHERE sha256 = ? AND filename = ? AND NOT EXISTS (SELECT 1"
            " FROM shipment)",
            [(blob.sha256, blob.filename) for blob in forgotten],
        )
    return forgotten


async def load_prunable_total(
    store: Store, cutoff: float, *, kept_from: int | None = None
) -> tuple[int, int]:
    """Return how many blobs ``load_prunable`` would give in all, and their bytes."""
    count = await store.only(
        Count,
        "SELECT count(*) AS number, coalesce(sum(size), 0) AS size FROM blob"
        f" WHERE unlisted_since <= ? AND {_UNNEEDED} AND {_NOT_RECENT}",
        (cutoff, kept_from),
    )
    return count.number, count.size


async def record_history_pruned(
    store: Store, cutoff: float, *, kept_from: int | None = None
) -> int:
    """Delete the closed entries and the cycles that ended before a time; return the number of
    deleted entries.

    ``kept_from``: records of this cycle and later ones are kept, whatever their recorded time.
    """
    async with store.transaction() as tx:
        last = await tx.value(f"SELECT {_LAST_REVISION}", (cutoff, kept_from))
        entries = await tx.execute(
            f"DELETE FROM entry WHERE valid_to <= ? AND {_UNNEEDED_HISTORY}", (last,)
        )
        if entries:
            # Earlier history is known only at the revisions of snapshots and shipments.
            await tx.execute(
                "INSERT OR REPLACE INTO meta (key, value)"
                " VALUES ('history_from', max(?, coalesce((SELECT"
                " CAST(value AS INTEGER) FROM meta WHERE key = 'history_from'), 0)))",
                (last,),
            )
        await tx.execute(
            "DELETE FROM cycle WHERE started_at <= ? AND id < coalesce(?, (SELECT max(id)"
            " FROM cycle)) AND NOT EXISTS"
            " (SELECT 1 FROM revision WHERE revision.cycle = cycle.id)",
            (cutoff, kept_from),
        )
    return entries


async def count_history(store: Store, cutoff: float, *, kept_from: int | None = None) -> int:
    """Return how many closed entries ``record_history_pruned`` would drop."""
    return int(
        await store.value(
            f"SELECT count(*) FROM entry WHERE valid_to <= (SELECT {_LAST_REVISION})"
            f" AND {_UNNEEDED_HISTORY}",
            (cutoff, kept_from),
        )
    )


async def load_cycle_starts(store: Store) -> list[tuple[int, float]]:
    """Return number and start of all cycles, the newest first."""
    starts = await store.mapping("SELECT id, started_at FROM cycle ORDER BY id DESC")
    return list(starts.items())
