"""The worker processes of one index, and the report of one that is stuck."""

from __future__ import annotations

from functools import partial

from mirror.holdings.holdings import Holdings
from mirror.holdings.tree import TreeFiles
from mirror.logs import get_logger
from mirror.sync.cycle_parts import Transfers
from mirror.sync.report import Events, Report
from mirror.sync.work import FileWorkers, IndexRun
from mirror.workers.messages import StorePlace
from mirror.workers.worker import StuckWorker

_log = get_logger(__name__)

_NAMED = 20
"""How many files of a stuck worker are named."""


def workers_of(
    holdings: Holdings, transfers: Transfers, report: Report, run: IndexRun
) -> FileWorkers | None:
    """Return the workers of one index, not started yet; None where everything is done in this
    process.
    """
    if transfers.fork_server is None:
        return None
    on_stuck = partial(_report_stuck, holdings.files, report.events, run)
    client = holdings.client
    place = None if client is None else StorePlace.of(client, transfers.conditions)
    return FileWorkers(
        transfers.fork_server, run.access.session, holdings.files.layout, on_stuck, store=place
    )


def _report_stuck(files: TreeFiles, events: Events, run: IndexRun, stuck: StuckWorker) -> None:
    """Report a stuck worker process, and reserve the partial files to which it may still write."""
    names = [job.request.filename for job in stuck.jobs]
    for job in stuck.jobs:
        files.leave_alone(job.key, writer=None if stuck.was_killed else stuck.pid)
    what = (
        "killed"
        if stuck.was_killed
        else "can't be killed: look at the disk or network share it waits for"
    )
    events.append(
        {
            "event": "worker-stuck",
            "index": run.name,
            "pid": str(stuck.pid),
            "outcome": "killed" if stuck.was_killed else "not-killed",
            "files": ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else ""),
            "pages": str(stuck.pages),
        }
    )
    _log.warning(
        "fetch_process.stuck",
        index=run.name,
        pid=stuck.pid,
        files=names[:_NAMED],
        jobs=len(names) + stuck.pages,
        problem=f"a worker process did nothing any more and {what};"
        " its files and pages are fetched again here",
    )
