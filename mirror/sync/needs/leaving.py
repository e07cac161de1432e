"""Files that no want needs any more: they stay published for ``keep-unwanted``, then leave.

They leave after the brake has judged the cycle's other removals, by a count of their own: at most
``max-shrink`` of the index's files in 24 hours, the longest unwanted first. A jump of the clock
ends nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from mirror.core.policy import believable_end
from mirror.holdings.holdings import Holdings
from mirror.logs import get_logger
from mirror.publishing.publisher import Publisher
from mirror.state.blobs.prunable import load_cycle_starts
from mirror.state.entries.removals import RemovalRecord, record_removals
from mirror.state.store import Store
from mirror.state.wants.unwanted import (
    UnwantedFile,
    count_left,
    count_unwanted,
    forget_dropped,
    load_ended,
)
from mirror.sync.cycle_parts import CycleWants, Options
from mirror.sync.report import PlanItem
from mirror.sync.work import IndexRun

_log = get_logger(__name__)


async def drain_unwanted(
    holdings: Holdings,
    options: Options,
    wants: CycleWants,
    runs: Sequence[IndexRun],
    publisher: Publisher,
) -> None:
    """Take the files off the pages whose time has ended."""
    last_cycle = await _last_ended(holdings, options, wants)
    for run in runs:
        if run.reach.ended is not None or last_cycle is None:
            continue
        for part in _parts(await _ended(holdings, run, last_cycle)):
            records = [_record(run, files) for files in part]
            await record_removals(
                holdings.store, records, cycle=holdings.cycle, now=holdings.clock()
            )
            run.counters.files_removed += sum(len(record.filenames) for record in records)
            for record in records:
                _log.info(
                    "project.unwanted",
                    index=run.name,
                    project=record.name,
                    files=record.filenames,
                )
            await publisher.publish([record.name for record in records], ())
    await forget_dropped(holdings.store)


async def plan_unwanted(
    holdings: Holdings, options: Options, wants: CycleWants, runs: Sequence[IndexRun]
) -> list[PlanItem]:
    """Return the files that ``drain_unwanted`` would remove."""
    last_cycle = await _last_ended(holdings, options, wants)
    if last_cycle is None:
        return []
    return [
        PlanItem(
            index=run.name,
            project=file.name,
            filename=file.filename,
            action="remove",
            size=file.size,
            sha256=file.sha256,
        )
        for run in runs
        if run.reach.ended is None
        for file in await _ended(holdings, run, last_cycle)
    ]


async def count_unwanted_of(store: Store, runs: Sequence[IndexRun]) -> None:
    """Enter the number of unwanted files of each index into the report."""
    for run in runs:
        run.counters.files_unwanted = (await count_unwanted(store, run.source.id)).files


async def _last_ended(holdings: Holdings, options: Options, wants: CycleWants) -> int | None:
    """Return the newest cycle whose dropped files may leave now."""
    if wants.needs is None or options.is_narrowed:
        return None
    starts = await load_cycle_starts(holdings.store)
    keep_s = wants.keep_unwanted_s
    cutoff, newer = believable_end([at for _, at in starts], now=holdings.clock(), keep_s=keep_s)
    if cutoff is None:
        return None
    ended = [number for number, at in starts[newer:] if at <= cutoff]
    return max(ended, default=None)


async def _ended(holdings: Holdings, run: IndexRun, last_cycle: int) -> list[UnwantedFile]:
    left, published = await count_left(holdings.store, run.source.id, holdings.clock())
    allowed = max(1, math.floor((published + left) * run.leaving.max_shrink)) - left
    if allowed <= 0:
        return []
    return await load_ended(holdings.store, run.source.id, last_cycle=last_cycle, limit=allowed)


def _parts(files: list[UnwantedFile]) -> list[list[list[UnwantedFile]]]:
    """Group the files by project, some hundred projects at a time."""
    by_project: dict[int, list[UnwantedFile]] = {}
    for file in files:
        by_project.setdefault(file.project, []).append(file)
    groups = list(by_project.values())
    return [groups[start : start + 500] for start in range(0, len(groups), 500)]


def _record(run: IndexRun, files: list[UnwantedFile]) -> RemovalRecord:
    return RemovalRecord(
        project=files[0].project,
        source=run.source.id,
        name=files[0].name,
        filenames=tuple(file.filename for file in files),
        is_exempt=True,
        is_unwanted=True,
    )
