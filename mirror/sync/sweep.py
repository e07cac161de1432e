"""Keep ``staging/`` from growing: leftovers of kills and of vanished files are removed, resumable
files stay.

Only under the tree's lock, while no download is under way: before the first one of a cycle and
after the last.
"""

from __future__ import annotations

from collections.abc import Sequence

import anyio.to_thread

from mirror.core.names import ProjectName
from mirror.logs import get_logger
from mirror.state.ledger import FailureRow
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


async def sweep_after(cycle: Cycle, ledger: Sequence[FailureRow]) -> None:
    """Remove the partial files that no later cycle will continue, which only a cycle that saw every
    page can know.

    ``ledger`` is the whole one: each file in it is tried again.
    """
    report = cycle.report
    was_whole = cycle.options.sees_all and not (report.interrupted or report.aborted or cycle.options.dry_run)
    if not was_whole or any(run.ended for run in cycle.runs) or any(not f.filename and f.project for f in ledger):
        return
    keys = [staging_key(f.index, ProjectName(f.project), f.file) for f in ledger if f.file is not None]
    removed = await anyio.to_thread.run_sync(cycle.files.sweep_staging, keys)
    if removed:
        _log.info("staging.swept", files=removed)
