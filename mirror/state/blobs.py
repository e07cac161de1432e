"""The bytes on disk as the state knows them: what to hash again, what to prune, what was found damaged."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence

import msgspec

from mirror.core.names import ProjectName, Sha256
from mirror.state.entries import close_entries, mark_pages
from mirror.state.store import Store

_CHUNK = 1000


class BlobRow(msgspec.Struct, frozen=True, kw_only=True):
    """A blob. Times are seconds since the epoch."""

    sha256: Sha256
    filename: str
    size: int
    metadata_sha256: Sha256 | None
    verified: float
    unlisted_since: float | None


_COLUMNS = "sha256, filename, size, metadata_sha256, verified, unlisted_since"


def _blob(r: Sequence[object]) -> BlobRow:
    return msgspec.convert(dict(zip(BlobRow.__struct_fields__, r, strict=True)), BlobRow)


async def load_oldest_verified(
    store: Store, *, before: float, limit: int | None = None
) -> AsyncIterator[list[BlobRow]]:
    """Yield the blobs last verified before a time, the oldest first, in chunks; ``limit``: at most so many.

    What is recorded as verified meanwhile is not met again.
    """
    after: tuple[float, str, str] = (-1.0, "", "")
    left = limit
    while left is None or left > 0:
        size = _CHUNK if left is None else min(_CHUNK, left)
        rows = await store.rows(
            f"SELECT {_COLUMNS} FROM blob WHERE verified < ? AND (verified, sha256, filename) > (?, ?, ?)"
            f" ORDER BY verified, sha256, filename LIMIT {size}",
            (before, *after),
        )
        if not rows:
            return
        yield [_blob(r) for r in rows]
        after = (rows[-1][4], rows[-1][0], rows[-1][1])
        left = None if left is None else left - len(rows)


async def count_blobs(store: Store, *, before: float) -> tuple[int, int]:
    """Return how many blobs were last verified before a time, and their bytes."""
    row = await store.row("SELECT count(*), coalesce(sum(size), 0) FROM blob WHERE verified < ?", (before,))
    assert row is not None
    return row[0], row[1]


async def record_verified(store: Store, blobs: Collection[BlobRow], now: float) -> None:
    """Note that the bytes of these blobs were found whole."""
    async with store.transaction() as tx:
        await tx.executemany(
            "UPDATE blob SET verified = ? WHERE sha256 = ? AND filename = ?",
            [(now, b.sha256, b.filename) for b in blobs],
        )


async def is_known(store: Store, blob: BlobRow) -> bool:
    """Tell whether the state still has this blob: a cycle may have pruned it meanwhile."""
    return bool(
        await store.value(
            "SELECT EXISTS (SELECT 1 FROM blob WHERE sha256 = ? AND filename = ?)", (blob.sha256, blob.filename)
        )
    )


async def load_known_files(store: Store, prefix: str) -> dict[tuple[str, str], str | None]:
    """Return the blobs whose sha256 begins with ``prefix``: (sha256, filename) -> sha256 of the sidecar."""
    rows = await store.rows(
        "SELECT sha256, filename, metadata_sha256 FROM blob WHERE sha256 >= ? AND sha256 < ?", (prefix, prefix + "g")
    )
    return {(r[0], r[1]): r[2] for r in rows}


async def load_prunable(store: Store, cutoff: float, limit: int = _CHUNK) -> list[BlobRow]:
    """Return some blobs that nothing lists since before a time."""
    rows = await store.rows(
        f"SELECT {_COLUMNS} FROM blob WHERE unlisted_since <= ? AND NOT EXISTS (SELECT 1 FROM entry"
        " WHERE entry.sha256 = blob.sha256 AND entry.filename = blob.filename AND entry.valid_to IS NULL)"
        " ORDER BY unlisted_since LIMIT ?",
        (cutoff, limit),
    )
    return [_blob(r) for r in rows]


async def record_pruned(store: Store, blobs: Collection[BlobRow]) -> list[BlobRow]:
    """Forget blobs that no open entry needs, before their bytes go; return those that were forgotten."""
    forgotten = []
    async with store.transaction() as tx:
        for blob in blobs:
            gone = await tx.execute(
                "DELETE FROM blob WHERE sha256 = ? AND filename = ? AND unlisted_since IS NOT NULL AND NOT EXISTS"
                " (SELECT 1 FROM entry WHERE entry.sha256 = blob.sha256 AND entry.filename = blob.filename"
                " AND entry.valid_to IS NULL)",
                (blob.sha256, blob.filename),
            )
            if gone:
                forgotten.append(blob)
    return forgotten


async def load_prunable_total(store: Store, cutoff: float) -> tuple[int, int]:
    """Return how many blobs ``load_prunable`` would give in all, and their bytes."""
    row = await store.row(
        "SELECT count(*), coalesce(sum(size), 0) FROM blob WHERE unlisted_since <= ? AND NOT EXISTS (SELECT 1 FROM entry"
        " WHERE entry.sha256 = blob.sha256 AND entry.filename = blob.filename AND entry.valid_to IS NULL)",
        (cutoff,),
    )
    assert row is not None
    return row[0], row[1]


async def record_history_pruned(store: Store, cutoff: float) -> int:
    """Drop the closed entries and the cycles that ended before a time; return how many entries went."""
    async with store.transaction() as tx:
        row = await tx.rows("SELECT coalesce(max(id), 0) FROM revision WHERE at <= ?", (cutoff,))
        entries = await tx.execute("DELETE FROM entry WHERE valid_to <= ?", (row[0][0],))
        await tx.execute(
            "DELETE FROM cycle WHERE started_at <= ? AND id < (SELECT max(id) FROM cycle) AND NOT EXISTS"
            " (SELECT 1 FROM revision WHERE revision.cycle = cycle.id)",
            (cutoff,),
        )
    return entries


async def count_history(store: Store, cutoff: float) -> int:
    """Return how many closed entries ``record_history_pruned`` would drop."""
    return int(
        await store.value(
            "SELECT count(*) FROM entry WHERE valid_to <= (SELECT coalesce(max(id), 0) FROM revision WHERE at <= ?)",
            (cutoff,),
        )
    )


async def load_cycle_starts(store: Store) -> list[float]:
    """Return the starts of all cycles, the newest first."""
    return [r[0] for r in await store.rows("SELECT started_at FROM cycle ORDER BY id DESC")]


async def record_lost(
    store: Store, blobs: Collection[BlobRow], *, cycle: int, now: float
) -> list[tuple[str, str, str]]:
    """Take damaged blobs off the pages and forget them, so that the next cycle fetches them again.

    Returns (index, project, filename) of the files that the pages listed.
    """
    lost: list[tuple[str, str, str]] = []
    async with store.transaction() as tx:
        revision = await tx.revision(cycle, now)
        for blob in blobs:
            same = (blob.sha256, blob.filename)
            rows = await tx.rows(
                "SELECT s.name, p.name, e.filename, p.id FROM entry e JOIN project p ON p.id = e.project"
                " JOIN source s ON s.id = p.source WHERE e.sha256 = ? AND e.filename = ? AND e.valid_to IS NULL",
                same,
            )
            await close_entries(tx, "sha256 = ? AND filename = ?", same, revision, now)
            await tx.execute("DELETE FROM blob WHERE sha256 = ? AND filename = ?", same)
            await tx.executemany(
                "UPDATE project SET etag = NULL, last_modified = NULL, serial = NULL, digest = NULL WHERE id = ?",
                [(r[3],) for r in rows],
            )
            await mark_pages(tx, (ProjectName(r[1]) for r in rows), revision)
            lost += [(r[0], r[1], r[2]) for r in rows]
    return lost


async def record_sidecars(
    store: Store, sidecars: Collection[tuple[BlobRow, Sha256 | None]], *, cycle: int, now: float
) -> None:
    """Enter the metadata that was taken out of some wheels again, and mark the pages that show it."""
    async with store.transaction() as tx:
        revision = await tx.revision(cycle, now)
        for blob, metadata_sha256 in sidecars:
            same = (blob.sha256, blob.filename)
            await tx.execute(
                "UPDATE blob SET metadata_sha256 = ? WHERE sha256 = ? AND filename = ?", (metadata_sha256, *same)
            )
            rows = await tx.rows(
                "SELECT p.name FROM entry e JOIN project p ON p.id = e.project"
                " WHERE e.sha256 = ? AND e.filename = ? AND e.valid_to IS NULL",
                same,
            )
            await mark_pages(tx, (ProjectName(r[0]) for r in rows), revision)


async def record_pages_damaged(store: Store, names: Collection[ProjectName], *, cycle: int, now: float) -> None:
    """Mark pages whose bytes on disk are not what the state says."""
    async with store.transaction() as tx:
        revision = await tx.revision(cycle, now)
        await mark_pages(tx, names, revision)
