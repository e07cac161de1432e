"""Read the pages of an index that are due, and deliver the work that they ask for.

A failure of one page affects no other: it goes to the ledger, and the crawl continues. Only a
refusal of the whole index, or too many consecutive failures to reach it, end its part of the cycle.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import msgspec
from anyio.lowlevel import checkpoint

from mirror.errors import MirrorError
from mirror.state.listing.due import Due, ProjectRow, load_due
from mirror.sync.cycle_parts import PageScope
from mirror.sync.pages.crawler import Crawler, Deliver
from mirror.sync.pages.page_batches import PageBatches
from mirror.sync.pages.page_pass import PagePass
from mirror.sync.work import FileWorkers, IndexRun, ProjectWork
from mirror.workers.concurrency import work_through
from mirror.workers.pool import are_worthwhile

MAX_FRUITLESS = 2
"""How often in a row a page is read again in one cycle without bringing a file."""


async def crawl(
    scope: PageScope, run: IndexRun, due: Due, workers: FileWorkers | None, deliver: Deliver
) -> None:
    """Read every page that is due, and deliver the work that it asks for.

    Many pages are read by the workers, if there are any.
    """
    rows = load_due(scope.holdings.store, due)
    crawler = Crawler(PagePass(scope=scope, run=run, due=due), deliver)
    pages_due = len(due.only) or run.counters.projects_due
    if workers is not None and are_worthwhile(pages=pages_due) and await _can_read(workers, run):
        await PageBatches(run, workers, crawler).read_all(rows)
    else:
        await work_through(_Rows(rows).next, crawler.work_on, run.access.page_width)
    if (
        crawler.refusal is not None
        and run.pages.refused == run.pages.asked
        and run.access.session.is_unproved
    ):
        # A root that is open to all proves nothing: where no page was ever served, the credential
        # is wrong.
        run.reach.end(run.access.session.deny_all(crawler.refusal))
        await checkpoint()


async def _can_read(workers: FileWorkers, run: IndexRun) -> bool:
    """Start the workers; return whether they can read pages of this index."""
    try:
        return await workers.start() and not run.access.client.reads_alone
    except MirrorError:  # of the credential: the first page that is read here reports it
        return False


async def reread(scope: PageScope, run: IndexRun, due: Due, deliver: Deliver) -> None:
    """Read some pages again without validators: a retry from the ledger, or an expired link, found
    them outdated.

    A page whose links expire is read as often as a reading brings a file, else ``MAX_FRUITLESS``
    times. Everything that the earlier reading delivered must be recorded; its removals are judged
    again, and its counts are undone first.
    """
    outdated, run.pages.rereads = run.pages.rereads, {}
    for name, work in outdated.items():
        if work.is_reread:
            run.pages.fruitless[name] = (
                0 if work.progress.brought else run.pages.fruitless[name] + 1
            )
    names = sorted(name for name in outdated if run.pages.fruitless[name] < MAX_FRUITLESS)
    for work in map(outdated.__getitem__, names):
        run.counters.projects_checked -= 1
        run.counters.projects_unchanged -= work.was_empty
        run.counters.projects_changed -= not work.was_empty
        run.counters.files_failed -= work.progress.failed
    placed = frozenset(name for name, work in outdated.items() if work.progress.has_placed)
    run.leaving.pending = [r for r in run.leaving.pending if r.name not in names]

    async def deliver_again(work: ProjectWork) -> None:
        work.progress.has_placed = work.row.name in placed
        await deliver(work)

    pages = PagePass(scope=scope, run=run, due=due, is_reread=True)
    crawler = Crawler(pages, deliver_again)
    for start in range(0, len(names), 500):
        narrowed = msgspec.structs.replace(
            due, only=tuple(names[start : start + 500]), trust_serials=False
        )
        await work_through(
            _Rows(load_due(scope.holdings.store, narrowed)).next,
            crawler.work_on,
            run.access.page_width,
        )


class _Rows:
    """Rows one by one for several workers, from an iterator of chunks."""

    def __init__(self, chunks: AsyncIterator[list[ProjectRow]]) -> None:
        self._chunks = chunks
        self._rows: list[ProjectRow] = []
        self._lock = anyio.Lock()

    async def next(self) -> ProjectRow:
        """Return the next row. Raises ``EndOfStream`` after the last."""
        while not self._rows:
            async with self._lock:
                if not self._rows:
                    try:
                        self._rows = list(reversed(await anext(self._chunks)))
                    except StopAsyncIteration:
                        raise anyio.EndOfStream from None
        return self._rows.pop()
