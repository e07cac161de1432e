"""The middle of a cycle: read pages, fetch, record and publish files, for indexes side by side.

Stages are joined by bounded streams; after an early end of one index, its delivered files are still
recorded.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import anyio
import msgspec

from mirror.publishing.publisher import Publisher
from mirror.state.listing.due import Due
from mirror.sync.cycle_parts import Cycle
from mirror.sync.fetching.fetcher import Fetcher
from mirror.sync.fetching.workers import workers_of
from mirror.sync.pages.crawl import crawl, reread
from mirror.sync.pages.crawler import Deliver
from mirror.sync.plan import plan_stage
from mirror.sync.recording.recorder import Recorder
from mirror.sync.work import IndexRun

if TYPE_CHECKING:
    from mirror.sync.needs.pages import CyclePages
    from mirror.sync.needs.protocol import Needs

_MAX_SETTLED_AGAIN = 5
"""Maximum number of times that one cycle decides again which files are wanted, since files were
refused.
"""


def stages_of(dues: Sequence[tuple[IndexRun, Due]]) -> list[list[tuple[IndexRun, Due]]]:
    """Group the indexes: the owners side by side, then each overlay after those before it."""
    owners = [d for d in dues if not d[1].is_overlay]
    return [owners, *([d] for d in dues if d[1].is_overlay)]


async def work_through(
    cycle: Cycle, publisher: Publisher, stage: Sequence[tuple[IndexRun, Due]]
) -> None:
    """Crawl some indexes side by side until all that they ask for is held and published, or in the
    ledger.
    """
    if cycle.options.dry_run:
        await plan_stage(cycle, stage)
        return
    scope = cycle.page_scope()
    async with _recorder(cycle, publisher) as recorder, anyio.create_task_group() as tasks:
        for run, due in stage:
            workers = workers_of(cycle.holdings, cycle.transfers, cycle.report, run)
            read = partial(crawl, scope, run, due, workers)
            tasks.start_soon(_work_on_index, Fetcher(scope, run, recorder, workers), read)
    # Only now: a second reading of a project compares with the records of the first.
    while outdated := [
        (run, due) for run, due in stage if run.pages.rereads and run.reach.ended is None
    ]:
        async with _recorder(cycle, publisher) as recorder, anyio.create_task_group() as tasks:
            for run, due in outdated:
                workers = workers_of(cycle.holdings, cycle.transfers, cycle.report, run)
                read = partial(reread, scope, run, due)
                tasks.start_soon(_work_on_index, Fetcher(scope, run, recorder, workers), read)


async def _work_on_index(fetcher: Fetcher, read: Callable[[Deliver], Awaitable[None]]) -> None:
    """Read the pages of one index and fetch its files.

    After an early end, delivered files are still recorded.
    """
    try:
        with fetcher.scope:
            async with anyio.create_task_group() as tasks:
                await tasks.start(fetcher.run)
                try:
                    await read(fetcher.deliver)
                finally:
                    fetcher.close()
    finally:
        fetcher.end()


@asynccontextmanager
async def _recorder(cycle: Cycle, publisher: Publisher) -> AsyncIterator[Recorder]:
    recorder = Recorder(cycle.holdings, publisher, has_overlays=cycle.terms.has_overlays)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(recorder.run)
            try:
                yield recorder
            finally:
                recorder.close()
    finally:
        recorder.end()


async def settle_again(
    cycle: Cycle,
    needs: Needs,
    publisher: Publisher,
    pages: CyclePages,
    dues: Sequence[tuple[IndexRun, Due]],
) -> None:
    """Decide again which files are wanted while wanted files turn out to be refused, and fetch what
    changed.
    """
    for _ in range(_MAX_SETTLED_AGAIN):
        await publisher.flush()  # what failed is in the ledger now
        changed = sorted(await needs.settle_again(pages))
        if not changed:
            return
        for stage in stages_of(dues):
            for start in range(0, len(changed), 500):
                only = tuple(changed[start : start + 500])
                narrowed = [
                    # refused items of this cycle are not asked for again
                    (run, msgspec.structs.replace(due, only=only, now=cycle.clock()))
                    for run, due in stage
                    if run.reach.ended is None
                ]
                checked = [run.counters.projects_checked for run, _ in narrowed]
                await work_through(cycle, publisher, narrowed)
                for (run, _), before in zip(
                    narrowed, checked, strict=True
                ):  # each project counts once
                    run.counters.projects_checked = before
                    run.counters.projects_unchanged = max(0, before - run.counters.projects_changed)
