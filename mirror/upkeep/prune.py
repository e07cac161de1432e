"""Delete files that no page and no snapshot lists and whose retention has ended (``mirror prune``).

Order: marked pages are written first, so that no page on disk lists a deleted file; then the row is
deleted and committed, then the sidecar is removed, then the blob. After a kill, a leftover is a
file without a row, which the next run removes. The clock alone never ends a retention period
(``core.policy.believable_end``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import anyio.to_thread

from mirror.core.policy import believable_end
from mirror.holdings.holdings import Holdings
from mirror.logs import get_logger
from mirror.publishing.publisher import Publisher
from mirror.state.blobs.prunable import (
    count_history,
    load_cycle_starts,
    load_prunable,
    load_prunable_total,
    record_history_pruned,
    record_pruned,
)
from mirror.state.blobs.verified import BlobRow, load_known_files
from mirror.state.frozen.shipments import record_shipments_aged
from mirror.tree.checking.unknown import (
    Leftover,
    iter_outer,
    remove_leftover,
    scan_blobs,
    sort_unknown,
)
from mirror.upkeep.snapshot import clear_interrupted
from mirror.upkeep.stores.listing import OUTERS, list_files, unknown_of
from mirror.upkeep.verify import blob_place

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long unlisted files are kept, in seconds."""

    removed_s: float
    history_s: float


@dataclass(slots=True, kw_only=True)
class Pruning:
    """The deleted files, or with ``dry_run`` those to delete; live while it runs."""

    blobs: int = 0
    bytes: int = 0
    leftovers: int = 0
    leftover_bytes: int = 0
    entries: int = 0
    """Closed entries past ``keep-history``."""
    scanned: int = 0
    """Directories searched for leftovers: a sign of progress."""
    files: list[str] = field(default_factory=list)
    """Paths below ``public/files``; the first ones, for ``--dry-run``."""

    def as_json(self) -> dict[str, Any]:
        """Return the report object."""
        return {
            "format": 1,
            "blobs": self.blobs,
            "bytes": self.bytes,
            "leftovers": self.leftovers,
            "leftover_bytes": self.leftover_bytes,
            "history_entries": self.entries,
            "files": self.files,
        }


_SHOWN_FILES = 1000
_CACHED_S = 600.0
"""The ``max-age`` of pages in an object store."""


async def preview_prune(holdings: Holdings, retention: Retention) -> Pruning:
    """Return the files that ``prune`` would delete; changes nothing."""
    store, now = holdings.store, holdings.clock()
    found = Pruning()
    cycles = await load_cycle_starts(store)
    cutoff, kept_from = _end_of(_kept_s(holdings, retention), cycles, now)
    if cutoff is not None:
        found.blobs, found.bytes = await load_prunable_total(store, cutoff, kept_from=kept_from)
        rows = await load_prunable(store, cutoff, _SHOWN_FILES, kept_from=kept_from)
        found.files = [blob_place(holdings, b.sha256, b.filename) for b in rows]
    history, kept_from = _end_of(retention.history_s, cycles, now)
    if history is not None:
        found.entries = await count_history(store, history, kept_from=kept_from)
    for leftover in await _find_leftovers(holdings, found):
        found.leftovers += 1
        found.leftover_bytes += leftover.size
        found.files.append(_shown(holdings, leftover))
    return found


async def prune(holdings: Holdings, retention: Retention, *, into: Pruning) -> Pruning:
    """Delete unlisted files whose retention has ended. The tree's lock must be held."""
    await holdings.writer.begin()
    await clear_interrupted(holdings)
    await Publisher(holdings).publish_marked()
    now = holdings.clock()
    cycles = await load_cycle_starts(holdings.store)
    cutoff, kept_from = _end_of(_kept_s(holdings, retention), cycles, now)
    while cutoff is not None:
        prunable = await load_prunable(holdings.store, cutoff, kept_from=kept_from)
        blobs = await record_pruned(holdings.store, prunable)
        if not blobs:
            break
        await anyio.to_thread.run_sync(_remove, holdings, blobs)
        into.blobs += len(blobs)
        into.bytes += sum(b.size for b in blobs)
    history, kept_from = _end_of(retention.history_s, cycles, now)
    if history is not None:
        await record_shipments_aged(holdings.store, history)
        into.entries = await record_history_pruned(holdings.store, history, kept_from=kept_from)
    for leftover in await _find_leftovers(holdings, into):
        await anyio.to_thread.run_sync(_remove_leftover, holdings, leftover)
        into.leftovers += 1
        into.leftover_bytes += leftover.size
    _log.info(
        "tree.pruned",
        blobs=into.blobs,
        bytes=into.bytes,
        leftovers=into.leftovers,
        entries=into.entries,
    )
    return into


def _kept_s(holdings: Holdings, retention: Retention) -> float:
    """Return how long a blob is kept: in a store at least as long as caches keep a page."""
    return retention.removed_s if holdings.client is None else max(retention.removed_s, _CACHED_S)


def _shown(holdings: Holdings, leftover: Leftover) -> str:
    if holdings.client is None:
        return leftover.path
    return holdings.client.address.shown(leftover.path)


def _remove_leftover(holdings: Holdings, leftover: Leftover) -> None:
    if holdings.client is None:
        remove_leftover(holdings.layout, leftover)
        return
    holdings.writer.enter_for_delete()
    holdings.client.delete([leftover.path])


def _end_of(
    keep_s: float, cycles: list[tuple[int, float]], now: float
) -> tuple[float | None, int | None]:
    """Return the time before which a retention has ended, and the first cycle within it, if there
    is one.
    """
    cutoff, newer = believable_end([start for _, start in cycles], now=now, keep_s=keep_s)
    return cutoff, cycles[newer - 1][0] if newer else None


def _remove(holdings: Holdings, blobs: list[BlobRow]) -> None:
    for blob in blobs:
        holdings.files.remove_blob(blob.sha256, blob.filename)


async def _find_leftovers(holdings: Holdings, into: Pruning) -> list[Leftover]:
    """Return the files in blob directories that no row knows, as a kill leaves them."""
    found: list[Leftover] = []
    if holdings.client is not None:
        for outer in OUTERS:
            into.scanned += 1
            there = await anyio.to_thread.run_sync(list_files, holdings.client, outer)
            known = await load_known_files(holdings.store, outer)
            found += sort_unknown(map(unknown_of, there.values()), known)[1]
        return found
    for outer, is_ours in await anyio.to_thread.run_sync(lambda: list(iter_outer(holdings.layout))):
        into.scanned += 1
        if is_ours:
            # First the disk, then the state: a file that a concurrent cycle adds during a dry run
            # then has its row.
            on_disk = await anyio.to_thread.run_sync(scan_blobs, holdings.layout, outer)
            found += sort_unknown(on_disk, await load_known_files(holdings.store, outer))[1]
    return found
