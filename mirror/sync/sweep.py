"""Keep ``staging/`` from growing: leftovers of kills and of vanished files are removed, resumable
files stay.

Only under the tree's lock, while no download is under way: before the first one of a cycle and
after the last.
"""

from __future__ import annotations

import anyio.to_thread

from mirror.logs import get_logger
from mirror.state.ledger import has_page_failure, iter_failed_files
from mirror.sync.fetch import staging_key
from mirror.sync.work import Cycle

_log = get_logger(__name__)

_KEPT_S = 7 * 86_400.0
"""Age at which a partial file is given up."""


async def sweep_before(cycle: Cycle) -> None:
    """Remove temporary files, and partial ones that are too old to be continued."""
    removed = await anyio.to_thread.run_sync(lambda: cycle.files.sweep_abandoned(older_than_s=_KEPT_S))
    if removed:
        _log.info("staging.swept", files=removed)


async def sweep_after(cycle: Cycle) -> None:
    """Remove the partial files that no later cycle will continue, which only a cycle that saw every
    page can know. Each file in the ledger is tried again.
    """
    report = cycle.report
    was_whole = cycle.options.sees_all and not (report.interrupted or report.aborted or cycle.options.dry_run)
    if not was_whole or any(run.ended for run in cycle.runs) or await has_page_failure(cycle.store):
        return
    is_kept = await anyio.to_thread.run_sync(cycle.files.find_kept)
    keys = [key async for found in iter_failed_files(cycle.store) if is_kept(key := staging_key(*found))]
    removed = await anyio.to_thread.run_sync(cycle.files.sweep_staging, keys)
    if removed:
        _log.info("staging.swept", files=removed)
