"""Remove files that are named after another project and were published before there was a rule
against it.

Once for each state: from then on the rule keeps such files out (``core.policy``). No index can
bring this removal about, so it bypasses the removal brake.
"""

from __future__ import annotations

from collections.abc import Sequence

from mirror.core.files.distributions import is_foreign
from mirror.holdings.holdings import Holdings
from mirror.logs import get_logger
from mirror.publishing.publisher import Publisher
from mirror.state.entries.held import OpenFile, iter_open_files
from mirror.state.entries.removals import RemovalRecord, record_removals
from mirror.state.meta import load_meta, record_meta
from mirror.state.store import Store
from mirror.sync.report import PlanItem
from mirror.sync.work import IndexRun

_log = get_logger(__name__)

_DONE = "foreign_names"
_AT_ONCE = 500
_SHOWN = 5


async def remove_foreign(
    holdings: Holdings, runs: Sequence[IndexRun], publisher: Publisher
) -> None:
    """Close the rows of files that are named after another project, and write those pages."""
    if await load_meta(holdings.store, _DONE) is not None:
        return
    found = await _find(holdings.store)
    records = [
        RemovalRecord(
            project=file.project,
            source=file.source,
            name=file.name,
            filenames=(file.filename,),
            is_exempt=True,
            forgets=True,
        )
        for file in found
    ]
    if records:
        await record_removals(holdings.store, records, cycle=holdings.cycle, now=holdings.clock())
        counters = {run.source.id: run.counters for run in runs}
        for file in found:
            if file.source in counters:
                counters[file.source].files_removed += 1
        _log.warning(
            "files.removed",
            rule="foreign-name",
            count=len(found),
            files=[f"{file.name}: {file.filename}" for file in found[:_SHOWN]],
            problem="their names are those of another project,"
            " so that no client takes them from this one's page",
        )
    names = sorted({file.name for file in found})
    for start in range(0, len(names), _AT_ONCE):
        await publisher.publish(names[start : start + _AT_ONCE], ())
    await record_meta(holdings.store, _DONE, "1")


async def plan_foreign(store: Store) -> list[PlanItem]:
    """Return the removals of ``remove_foreign``, for ``--dry-run``."""
    if await load_meta(store, _DONE) is not None:
        return []
    return [
        PlanItem(
            index=file.index,
            project=file.name,
            filename=file.filename,
            action="remove",
            size=file.size,
            sha256=file.sha256,
        )
        for file in await _find(store)
    ]


async def _find(store: Store) -> list[OpenFile]:
    return [file async for file in iter_open_files(store) if is_foreign(file.filename, file.name)]
