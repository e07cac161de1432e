"""The removals at the end of a cycle, applied once the brake allows them.

Nothing is removed because of an error: the only causes are a confirmed absence, a withdrawal, and
the configuration. The brake must know all of a cycle's removals, so additions stream and removals
come at the end.
"""

from __future__ import annotations

from collections.abc import Sequence

from mirror.core.diff import RemovalKind
from mirror.holdings.holdings import Holdings
from mirror.logs import get_logger
from mirror.publishing.publisher import Publisher
from mirror.state.entries.removals import (
    RemovalRecord,
    count_pages_of,
    record_brake_lifted,
    record_removals,
)
from mirror.sync.cycle_parts import Options
from mirror.sync.removals.brake import RemovalScope, close_brake, count_files, holds_brake, split
from mirror.sync.work import PendingRemoval

_log = get_logger(__name__)


async def apply_removals(
    holdings: Holdings, options: Options, run: RemovalScope, publisher: Publisher
) -> bool:
    """Apply the pending removals, unless the brake holds them; return whether that was done."""
    exempt, removals = split(run)
    if options.allow_shrink:
        await record_brake_lifted(holdings.store, run.source.id, cycle=holdings.cycle)
    await _remove(holdings, run, exempt, publisher, files=await count_files(holdings.store, exempt))
    if not removals:
        if not options.is_narrowed:  # the brake may hold files that such a cycle did not read
            await close_brake(holdings, run)
        return True
    files = await count_files(holdings.store, removals)
    if not options.allow_shrink and files and await holds_brake(holdings, run, removals, files):
        return False
    if not options.is_narrowed:
        await close_brake(holdings, run)
    await _remove(holdings, run, removals, publisher, files=files)
    return True


async def _remove(
    holdings: Holdings,
    run: RemovalScope,
    removals: Sequence[PendingRemoval],
    publisher: Publisher,
    *,
    files: int,
) -> None:
    """Close the rows of the removed files, write the pages, and record the validators that waited
    for it.
    """
    if not removals:
        return
    now = holdings.clock()
    projects = await count_pages_of(holdings.store, [r.name for r in removals if r.leaves])
    await record_removals(
        holdings.store,
        [record_of(run, removal) for removal in removals],
        cycle=holdings.cycle,
        now=now,
    )
    run.counters.files_removed += files
    run.counters.projects_removed += projects
    for removal in removals:
        _log.info(
            "project.shrunk",
            index=run.name,
            project=removal.name,
            files=removal.filenames,
            leaves=removal.leaves,
        )
    pages_seen = [r.page_seen for r in removals if r.page_seen is not None]
    names = sorted({r.name for r in removals})
    for start in range(0, len(names), 500):
        await publisher.publish(names[start : start + 500], ())
    await publisher.publish((), pages_seen)


def record_of(run: RemovalScope, removal: PendingRemoval) -> RemovalRecord:
    """Return a removal as the state records it."""
    return RemovalRecord(
        project=removal.project,
        source=run.source.id,
        name=removal.name,
        filenames=removal.filenames,
        all_files=removal.leaves,
        leaves=removal.leaves,
        meta=removal.meta,
        withdrawn=removal.withdrawn,
        is_exempt=removal.is_exempt,
        # A file absent in two cycles is no longer on the page; any other may still be listed there.
        is_displaced=removal.is_displaced,
        forgets=removal.is_displaced
        or removal.meta is not None
        or any(r.kind is not RemovalKind.ABSENT for r in removal.files),
    )
