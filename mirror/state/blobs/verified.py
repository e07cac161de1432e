"""The blobs on disk as the state records them: those to hash again, and when each was last
verified.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Collection

import msgspec

from mirror.core.names import Sha256
from mirror.state.entries.offered import KnownMetadata
from mirror.state.rows import Count
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
    is_vouched: bool
    """False: pages list it, and no index lists a digest of it."""


_OPEN_ENTRY = (
    "SELECT 1 FROM entry e WHERE e.sha256 = blob.sha256 AND e.filename = blob.filename AND"
    " e.valid_to IS NULL"
)
BLOB_COLUMNS = (
    "sha256, filename, size, metadata_sha256, verified, unlisted_since,"
    f" NOT EXISTS ({_OPEN_ENTRY} AND e.digests = '') OR EXISTS ({_OPEN_ENTRY}"
    f" AND e.digests != '') AS is_vouched"
)


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """The blobs of one run, selected by the times of their last verification."""

    stamp: float
    """Verification time written by this run; unique, so that the run recognises its own rows."""
    before: float
    newest: float

    @property
    def condition(self) -> str:
        """SQL condition for the unverified rows: the old ones, and those with an implausible time
        in the future.
        """
        return (
            f"(verified < {self.before!r} OR verified > {self.stamp!r})"
            f" AND verified <= {self.newest!r} AND verified != {self.stamp!r}"
        )


async def open_window(store: Store, *, now: float, before: float | None = None) -> Window:
    """Return the blobs last verified before a time, or all of them; blobs stored later are not
    included.
    """
    stamp = now
    while await store.value("SELECT EXISTS (SELECT 1 FROM blob WHERE verified = ?)", (stamp,)):
        stamp = math.nextafter(stamp, math.inf)
    newest = await store.value("SELECT coalesce(max(verified), 0.0) FROM blob")
    return Window(stamp=stamp, before=9e99 if before is None else before, newest=newest)


async def load_oldest_verified(
    store: Store, window: Window, *, limit: int | None = None
) -> AsyncIterator[BlobRow]:
    """Yield the blobs of a window, the longest unverified first; ``limit``: maximum number of
    blobs.
    """
    after: tuple[float, str, str] = (-1.0, "", "")
    left = limit
    while left is None or left > 0:
        size = _CHUNK if left is None else min(_CHUNK, left)
        blobs = await store.rows_as(
            BlobRow,
            f"SELECT {BLOB_COLUMNS} FROM blob WHERE {window.condition}"
            f" AND (verified, sha256, filename) > (?, ?, ?)"
            f" ORDER BY verified, sha256, filename LIMIT {size}",
            after,
        )
        if not blobs:
            return
        for blob in blobs:
            yield blob
        after = (blobs[-1].verified, blobs[-1].sha256, blobs[-1].filename)
        left = None if left is None else left - len(blobs)


async def count_blobs(store: Store, window: Window) -> tuple[int, int]:
    """Return how many blobs a window has, and their bytes."""
    query = (
        "SELECT count(*) AS number, coalesce(sum(size), 0) AS size"
        f" FROM blob WHERE {window.condition}"
    )
    count = await store.only(Count, query)
    return count.number, count.size


async def record_verified(store: Store, blobs: Collection[BlobRow], stamp: float) -> None:
    """Record that the bytes of these blobs are whole; unsure ones stay so
    (``blobs.durability``).
    """
    async with store.transaction() as tx:
        await tx.executemany(
            "UPDATE blob SET verified = ? WHERE sha256 = ? AND filename = ? AND verified >= 0",
            [(stamp, b.sha256, b.filename) for b in blobs],
        )


async def load_blob(store: Store, sha256: Sha256, filename: str) -> BlobRow | None:
    """Return a blob as it is now, or None: a cycle may have changed or pruned it meanwhile."""
    query = f"SELECT {BLOB_COLUMNS} FROM blob WHERE sha256 = ? AND filename = ?"
    return await store.row_as(BlobRow, query, (sha256, filename))


async def load_known_files(store: Store, prefix: str) -> dict[tuple[str, str], str | None]:
    """Return the blobs whose sha256 begins with ``prefix``: (sha256, filename) -> sha256 of the
    sidecar.
    """
    rows = await store.rows_as(
        KnownMetadata,
        "SELECT sha256, filename, metadata_sha256 FROM blob WHERE sha256 >= ? AND sha256 < ?",
        (prefix, prefix + "g"),
    )
    return {(row.sha256, row.filename): row.metadata_sha256 for row in rows}
