"""Clear up before and after a cycle: leftovers of kills and of failed syncs, and partial files that
nothing continues.

Only under the tree's lock, while no download is under way: before the first one of a cycle and
after the last.
"""

from __future__ import annotations

from functools import partial

import anyio.to_thread

from mirror.logs import get_logger
from mirror.state.blobs.durability import (
    load_durable,
    load_ended_by_storage,
    load_unsure,
    record_durable,
)
from mirror.state.missing.ledger import has_page_failure, iter_failed_files
from mirror.sync.fetch_keys import staging_key
from mirror.sync.work import Cycle
from mirror.tree.check import iter_outer
from mirror.tree.layout import renew_blob_directories

_log = get_logger(__name__)

_KEPT_S = 7 * 86_400.0
"""Age at which a partial file is given up."""


async def sweep_before(cycle: Cycle) -> None:
    """Remove temporary files, and partial ones that are too old to be continued."""
    removed = await anyio.to_thread.run_sync(
        lambda: cycle.files.sweep_abandoned(older_than_s=_KEPT_S)
    )
    if removed:
        _log.info("staging.swept", files=removed)


async def renew_unsure(cycle: Cycle) -> None:
    """Write again the parts of the tree that no good sync has covered: recorded blobs whose
    replacement was not synced, and directories that a failed cycle has made.
    """
    store, files = cycle.store, cycle.files
    is_local = cycle.holdings.client is None
    if is_local and await load_ended_by_storage(store, cycle.id):
        await _renew_directories(cycle)
    unsure = await load_unsure(store)
    renew = files.renew_if_whole
    whole = [blob for blob in unsure if await anyio.to_thread.run_sync(renew, blob)]
    if whole:
        await record_durable(store, whole, now=cycle.clock())
        _log.info("blobs.renewed", blobs=len(whole))


async def _renew_directories(cycle: Cycle) -> None:
    layout, renewed = cycle.files.layout, 0
    for outer, is_ours in await anyio.to_thread.run_sync(lambda: list(iter_outer(layout))):
        if is_ours:
            durable = await load_durable(cycle.store, outer)
            renew_below = partial(renew_blob_directories, layout, outer, durable)
            renewed += await anyio.to_thread.run_sync(renew_below)
    if renewed:
        _log.info("directories.renewed", directories=renewed)


async def sweep_after(cycle: Cycle) -> None:
    """Remove the partial files that no later cycle will continue, which only a cycle that saw every
    page can know. Each file in the ledger is tried again.
    """
    report = cycle.report
    was_whole = cycle.options.sees_all and not (
        report.interrupted or report.aborted or cycle.options.dry_run
    )
    if not was_whole or any(run.ended for run in cycle.runs) or await has_page_failure(cycle.store):
        return
    is_kept = await anyio.to_thread.run_sync(cycle.files.find_kept)
    keys = [
        key async for found in iter_failed_files(cycle.store) if is_kept(key := staging_key(*found))
    ]
    removed = await anyio.to_thread.run_sync(cycle.files.sweep_staging, keys)
    if removed:
        _log.info("staging.swept", files=removed)
