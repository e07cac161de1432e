"""The files of indexes that left the configuration: removed once the brake is lifted."""

from __future__ import annotations

from collections import Counter

from mirror.holdings.holdings import Holdings
from mirror.logs import get_logger
from mirror.publishing.publisher import Publisher
from mirror.state.entries.removals import (
    RemovalRecord,
    load_orphaned,
    record_removals,
)
from mirror.sync.cycle_parts import Options
from mirror.sync.report import Report

_log = get_logger(__name__)


async def remove_orphaned(
    holdings: Holdings, options: Options, report: Report, publisher: Publisher
) -> None:
    """Report the files of indexes that left the configuration; take them away if the brake is
    lifted.
    """
    if options.is_narrowed:
        return
    orphaned = await load_orphaned(holdings.store)
    counts = Counter(index for _, _, _, index in orphaned)
    for index, projects in counts.items():
        report.events.append({"event": "index-left", "index": index, "projects": str(projects)})
        _log.warning(
            "index.left",
            index=index,
            projects=projects,
            advice="its files stay until a cycle with --allow-shrink",
        )
    if not orphaned or not options.allow_shrink:
        return
    records = [
        RemovalRecord(project=project, source=source, name=name, all_files=True, leaves=True)
        for project, source, name, _ in orphaned
    ]
    await record_removals(holdings.store, records, cycle=holdings.cycle, now=holdings.clock())
    names = sorted({name for _, _, name, _ in orphaned})
    for start in range(0, len(names), 500):
        await publisher.publish(names[start : start + 500], ())
