"""Pages that workers read: requested in batches, judged here as they arrive.

Invariants: each page is judged once, also where its worker dies; reachability is recorded in order
of arrival, not in order of processing.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any, Protocol

import anyio
import msgspec

from mirror.core.model import Validators
from mirror.errors import MirrorError, RefusedElsewhere, Unavailable
from mirror.state.listing.due import ProjectRow
from mirror.sync.work import IndexRun
from mirror.upstream.index import PageAnswer, Unchanged
from mirror.workers.concurrency import next_of, work_through
from mirror.workers.messages import JobOutcome, unpack_answer
from mirror.workers.pool import Workers

_UNDER_WAY = 64
"""Maximum number of pages at each worker, or queued for judgement."""
_UNPACKED = 8
"""Ratio of an unpacked page's memory to its packed length."""
_BATCH = 32
"""Number of pages in one request."""


class PageResult(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's result for a page."""

    unchanged: Unchanged | None = None
    page: bytes | None = None
    error: MirrorError | None = None
    unreachable_in_a_row: int | None = None

    @property
    def cost_bytes(self) -> int:
        """How many bytes the page may take once it is unpacked."""
        return _UNPACKED * len(self.page or b"")

    def answer(self) -> PageAnswer:
        """Return the page. Raises ``UpstreamError``."""
        if self.error is not None:
            raise self.error
        if self.unchanged is not None:
            return self.unchanged
        assert self.page is not None
        return unpack_answer(self.page)


class PageHandler(Protocol):
    """Decides about pages: the crawl."""

    def known_validators(self, row: ProjectRow) -> Validators | None:
        """Return the validators with which a project's page is asked for."""

    def needs_no_request(self, row: ProjectRow, known: Validators | None) -> bool:
        """Return whether no request is needed."""

    def count_unchanged(self, row: ProjectRow, known: Validators) -> bool:
        """Count a page that is as it was; False where it has to be judged all the same."""

    async def work_on(self, row: ProjectRow, found: PageResult | None = None) -> None:
        """Judge a worker's result, or read the page. Raises ``StateError``, ``TreeError``."""


class PageBatches:
    """Lets workers read pages, many by one message; their results are judged here, some
    concurrently.

    Unchanged pages, which are nearly all of an idle cycle, cost no task and no turn of the event
    loop here.
    """

    def __init__(self, run: IndexRun, pool: Workers[Any], handler: PageHandler) -> None:
        self._run, self._pool, self._handler = run, pool, handler
        self._send, self._receive = anyio.create_memory_object_stream[
            tuple[ProjectRow, PageResult | None]
        ](math.inf)
        self._under_way = 0
        self._enough = 0
        self._has_room = anyio.Event()

    async def read_all(self, chunks: AsyncIterator[list[ProjectRow]]) -> None:
        """Read all pages."""
        most = self._pool.size * _UNDER_WAY
        async with self._receive, self._send, anyio.create_task_group() as tasks:
            tasks.start_soon(
                work_through,
                partial(next_of, self._receive),
                self._judge_one,
                self._run.access.page_width,
            )
            async for rows in chunks:
                for start in range(0, len(rows), _BATCH):
                    if self._under_way + _BATCH > most:
                        await self._wait_until_left(most // 2)
                    await self._ask(rows[start : start + _BATCH])
            await self._wait_until_left(0)
            self._send.close()

    async def _ask(self, rows: Sequence[ProjectRow]) -> None:
        self._under_way += len(rows)
        pages: list[_BatchedPage] = []
        for row in rows:
            known = self._handler.known_validators(row)
            if self._handler.needs_no_request(row, known):
                self._put(row, None)
            else:
                pages.append(_BatchedPage(self, row, known))
        if not pages:
            return
        try:
            await self._pool.read_pages(pages)
        except MirrorError:  # of the credential: the reading in this process reports it
            for page in pages:
                page.answered(None)

    def answered(self, row: ProjectRow, outcome: JobOutcome | None) -> None:
        """Take a page's outcome; without one the page is read here.

        Reachability of the index is recorded immediately.
        """
        if outcome is None or (outcome.page is None and outcome.error is None):
            self._put(row, None)
            return
        in_a_row = None
        if isinstance(outcome.error, Unavailable) and not isinstance(
            outcome.error, RefusedElsewhere
        ):
            in_a_row = self._run.reach.count_unreachable()
        else:
            self._run.reach.record_answer()
        self._put(
            row, PageResult(page=outcome.page, error=outcome.error, unreachable_in_a_row=in_a_row)
        )

    def confirmed(self, row: ProjectRow, known: Validators) -> None:
        """Record that a page is unchanged."""
        self._run.reach.record_answer()
        if self._handler.count_unchanged(row, known):
            self._done()
        else:
            self._put(
                row, PageResult(unchanged=Unchanged(validators=known, origin=row.page_origin))
            )

    def _put(self, row: ProjectRow, found: PageResult | None) -> None:
        with contextlib.suppress(
            anyio.BrokenResourceError, anyio.ClosedResourceError
        ):  # all was cancelled
            self._send.send_nowait((row, found))

    async def _judge_one(self, answer: tuple[ProjectRow, PageResult | None]) -> None:
        row, found = answer
        await self._handler.work_on(row, found)
        self._done()

    def _done(self) -> None:
        self._under_way -= 1
        if self._under_way <= self._enough:
            self._has_room.set()

    async def _wait_until_left(self, count: int) -> None:
        """Wait until at most ``count`` pages are under way."""
        if self._under_way > count:
            self._enough, self._has_room = count, anyio.Event()
            await self._has_room.wait()


class _BatchedPage:
    """A page for a worker to read."""

    __slots__ = ("_batches", "_row", "address", "name", "origin", "validators")

    def __init__(
        self, batches: PageBatches, row: ProjectRow, validators: Validators | None
    ) -> None:
        self._batches, self._row = batches, row
        self.name, self.validators = row.name, validators
        self.address, self.origin = row.address, row.page_origin

    def confirmed(self) -> None:
        """It is unchanged, by the same validators."""
        assert self.validators is not None
        self._batches.confirmed(self._row, self.validators)

    def answered(self, outcome: JobOutcome | None) -> None:
        """Take the page's outcome; None where no worker could read it."""
        self._batches.answered(self._row, outcome)
