"""Which blobs are durable: the state is the only record of it.

A row of ``blob`` whose ``verified`` is negative is unsure: the file was missing or damaged, and its
replacement has not been synced yet.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from mirror.core.names import Sha256
from mirror.state.store import Store


class UnsureBlob(msgspec.Struct, frozen=True, kw_only=True):
    """A recorded blob whose bytes on disk may not be durable."""

    sha256: Sha256
    filename: str
    size: int
    metadata_sha256: Sha256 | None


async def load_ended_by_storage(store: Store, cycle: int) -> bool:
    """Return whether the cycle before this one came to no end, or a write to the disk or the state
    failed in it (exit code 6).
    """
    ends = await store.values(
        "SELECT finished_at IS NULL OR problem IS NOT NULL OR exit_code = 6"
        " FROM cycle WHERE id < ? ORDER BY id DESC LIMIT 1",
        (cycle,),
    )
    return any(ends)


async def load_durable(store: Store, prefix: str) -> set[str]:
    """Return the sha256 of each durable blob that begins with ``prefix``."""
    digests = await store.values(
        "SELECT sha256 FROM blob WHERE sha256 >= ? AND sha256 < ? AND verified >= 0",
        (prefix, prefix + "g"),
    )
    return set(digests)


async def load_unsure(store: Store) -> list[UnsureBlob]:
    """Return the unsure blobs."""
    return await store.rows_as(
        UnsureBlob, "SELECT sha256, filename, size, metadata_sha256 FROM blob WHERE verified < 0"
    )


async def record_unsure(store: Store, blobs: Iterable[tuple[str, str]]) -> None:
    """Record, before they are replaced, that these recorded blobs are missing or damaged."""
    rows = list(blobs)
    if rows:
        async with store.transaction() as tx:
            await tx.executemany(
                "UPDATE blob SET verified = -1 WHERE sha256 = ? AND filename = ?", rows
            )


async def record_durable(store: Store, blobs: Iterable[UnsureBlob], *, now: float) -> None:
    """Record that unsure blobs are whole and durable."""
    async with store.transaction() as tx:
        await tx.executemany(
            "UPDATE blob SET stored = ?, verified = ? WHERE sha256 = ? AND filename = ?"
            " AND verified < 0",
            [(now, now, b.sha256, b.filename) for b in blobs],
        )
