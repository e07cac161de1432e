"""Clear up before and after a cycle: leftovers of kills and of failed syncs, and partial files that
nothing continues.

Only under the tree's lock, while no download is under way: before the first one of a cycle and
after the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import anyio.to_thread

from mirror.holdings.holdings import Holdings
from mirror.holdings.tree import TreeFiles
from mirror.logs import get_logger
from mirror.state.blobs.durability import (
    load_durable,
    load_ended_by_storage,
    load_unsure,
    record_durable,
)
from mirror.state.missing.ledger import has_page_failure, iter_failed_files
from mirror.sync.cycle_parts import Options
from mirror.sync.fetching.jobs import staging_key
from mirror.sync.report import Report
from mirror.sync.work import IndexRun
from mirror.tree.checking.unknown import iter_outer
from mirror.tree.layout import renew_blob_directories

_log = get_logger(__name__)

_KEPT_S = 7 * 86_400.0
"""Age at which a partial file is given up."""


async def sweep_before(files: TreeFiles) -> None:
    """Remove temporary files, and partial ones that are too old to be continued."""
    removed = await anyio.to_thread.run_sync(lambda: files.sweep_abandoned(older_than_s=_KEPT_S))
    if removed:
        _log.info("staging.swept", files=removed)


async def renew_unsure(holdings: Holdings) -> None:
    """Write again the parts of the tree that no good sync has covered: recorded blobs whose
    replacement was not synced, and directories that a failed cycle has made.
    """
    store, files = holdings.store, holdings.files
    is_local = holdings.client is None
    if is_local and await load_ended_by_storage(store, holdings.cycle):
        await _renew_directories(holdings)
    unsure = await load_unsure(store)
    renew = files.renew_if_whole
    whole = [blob for blob in unsure if await anyio.to_thread.run_sync(renew, blob)]
    if whole:
        await record_durable(store, whole, now=holdings.clock())
        _log.info("blobs.renewed", blobs=len(whole))


async def _renew_directories(holdings: Holdings) -> None:
    layout, renewed = holdings.files.layout, 0
    for outer, is_ours in await anyio.to_thread.run_sync(lambda: list(iter_outer(layout))):
        if is_ours:
            durable = await load_durable(holdings.store, outer)
            renew_below = partial(renew_blob_directories, layout, outer, durable)
            renewed += await anyio.to_thread.run_sync(renew_below)
    if renewed:
        _log.info("directories.renewed", directories=renewed)


async def sweep_after(
    holdings: Holdings, options: Options, report: Report, runs: Sequence[IndexRun]
) -> None:
    """Remove the partial files that no later cycle will continue, which only a cycle that saw every
    page can know. Each file in the ledger is tried again.
    """
    was_whole = options.sees_all and not (report.interrupted or report.aborted or options.dry_run)
    if (
        not was_whole
        or any(run.reach.ended for run in runs)
        or await has_page_failure(holdings.store)
    ):
        return
    is_kept = await anyio.to_thread.run_sync(holdings.files.find_kept)
    keys = [
        key
        async for found in iter_failed_files(holdings.store)
        if is_kept(key := staging_key(*found))
    ]
    removed = await anyio.to_thread.run_sync(holdings.files.sweep_staging, keys)
    if removed:
        _log.info("staging.swept", files=removed)
