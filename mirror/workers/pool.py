"""Worker processes that fetch one index's files and pages, where there are many: one for each core,
at most four.

They share one index's limits: some of its connections are reserved for them, so that the requests
under way never exceed ``max-connections``; their traffic is added to the index's counters; refusals
are judged in this process alone, and the credential is renewed here.

Invariants: each job is answered once, also where its worker dies; no file of a worker is durable,
recorded or published before the one writer has done it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

import anyio
import msgspec
from anyio.abc import TaskGroup

from mirror.core.names import ProjectName
from mirror.core.pages.root_links import resolve_address
from mirror.errors import MirrorError
from mirror.logs import get_logger
from mirror.tree.layout import Layout
from mirror.upstream.connections.addresses import Reach
from mirror.upstream.credentials import Credential
from mirror.upstream.session import IndexSession
from mirror.workers.fork_server import ForkServer
from mirror.workers.messages import (
    JobOutcome,
    NewCredential,
    Open,
    Orders,
    RefusalAnswer,
    RefusalMet,
    Stop,
    StorePlace,
    WorkerReport,
)
from mirror.workers.transfer import FetchJob
from mirror.workers.worker import JOB_BYTES, QUIET_TICKS, AskedPage, FetchWorker, StuckWorker

_log = get_logger(__name__)

T = TypeVar("T")

_MANY_FILES = 64
_MANY_BYTES = 16 * 1024 * 1024
"""Files and bytes of one index in one cycle above which workers are forked.

To fork them takes as long as to fetch some dozens of files.
"""
_MANY_PAGES = 500
"""Number of due pages above which workers read them.

Most are unchanged, and cost next to nothing there.
"""
_AT_MOST: Final = 4
_WINDOW: Final = 128
"""Maximum number of files queued for each worker."""
_PAGE_BYTES: Final = 4 << 20
"""Maximum length of a page that a worker process reads; the process that runs the cycle reads a
larger one itself.
"""
_GROUP_BYTES: Final = 32 * JOB_BYTES
"""How much more work than the least busy worker the one with the group's other files may have."""
_LEAST_SHARE: Final = 2
"""Minimum number of connections that make a worker worth its cost."""
_QUIET_S: Final = 60.0
"""Maximum silence of a worker with work, in addition to ``stall-timeout``."""
_STOP_S: Final = 5.0
"""How long to wait for the workers to keep their interrupted files."""


def are_worthwhile(*, files: int = 0, size: int = 0, pages: int = 0) -> bool:
    """Return whether workers fetch this amount sooner than this process alone."""
    return files > _MANY_FILES or size > _MANY_BYTES or pages > _MANY_PAGES


class Workers(Generic[T]):
    """The worker processes of one index, forked once there is enough work for them.

    ``T`` is the caller's value for a job.
    """

    def __init__(
        self,
        fork_server: ForkServer,
        session: IndexSession,
        layout: Layout,
        on_stuck: Callable[[StuckWorker], None] = lambda _: None,
        *,
        store: StorePlace | None = None,
    ) -> None:
        """``on_stuck`` is called before the work of a stuck process is answered. ``store``: where
        the tree lies, if not on the disk.
        """
        self._store = store
        self.on_stuck = on_stuck
        self._watching = anyio.CancelScope()
        self.is_open = True
        """Whether jobs may still be accepted and answered."""
        self.is_started = False
        """Whether there are workers."""
        self.is_stopping = False
        self._fork_server, self._session, self._layout = fork_server, session, layout
        self._tasks: TaskGroup | None = None
        self._has_tried = False
        self._members: list[FetchWorker[T]] = []
        self._reserved = 0
        self._last_of_group: tuple[int, FetchWorker[T]] | None = None
        self._credential: Credential | None = None
        self._room = anyio.Semaphore(0)
        self._done, self._answers = anyio.create_memory_object_stream[tuple[T, JobOutcome | None]](
            math.inf
        )

    def attach(self, tasks: TaskGroup) -> None:
        """Run in this task group, which must last until ``close`` or ``stop``."""
        self._tasks = tasks

    async def start(self) -> bool:
        """Fork the workers and reserve connections for them; return whether there are any.

        It is tried once: files that come during the start need not wait for it. Where a rate limit
        applies, one process is fast enough and keeps it best. Raises ``AccessDenied``.
        """
        tasks = self._tasks
        if tasks is None or self._has_tried:
            return self.is_started
        self._has_tried = True
        limits = self._session.limits
        count = min(len(os.sched_getaffinity(0)), _AT_MOST)
        # One part in eight stays here, for requests that are still made in this process.
        share = limits.max_connections * 7 // 8 // count
        if share < _LEAST_SHARE or limits.requests_per_second or limits.bytes_per_second:
            return False
        self._credential = await self._session.load_credential()
        own_reach = await self._session.own_reach()
        if own_reach is None and not self._session.hides_peers:
            return False  # each worker would trust its own first look-up of the index's name
        await self._session.slots.reserve(share * count)
        self._reserved = share * count
        self._room = anyio.Semaphore(count * _WINDOW, fast_acquire=True)
        opened = self._opened(count, share, own_reach)
        try:
            for _ in range(count):
                process = self._fork_server.fork()
                if process is not None:
                    self._members.append(await FetchWorker.open(process, self, tasks))
                    self._members[-1].channel.send(opened)
        finally:
            if len(self._members) < count:
                self.close()
        if self.is_open:
            self.is_started = True
            tasks.start_soon(self._watch)
            _log.debug("fetch_processes.started", index=self._session.name, processes=count)
        return self.is_started

    @property
    def size(self) -> int:
        """How many processes it began with."""
        return len(self._members)

    async def submit(self, job: FetchJob, known_by: T, *, group: int = 0) -> bool:
        """Give a job to the least busy worker, waiting while all are full; False where none is
        left.

        Jobs of one ``group`` go to the same worker, so that they are done at about the same time
        and recorded in one transaction; a large group is shared.

        Raises ``MirrorError`` where the credential can't be read, or the index has denied access.
        """
        await self._refresh_credential()
        await self._room.acquire()
        member = self._least_busy()
        if member is None:
            self._room.release()
            return False
        last = self._last_of_group
        if last is not None and last[0] == group and last[1].is_alive:
            lead_bytes = last[1].load_bytes - member.load_bytes
            member = last[1] if lead_bytes <= _GROUP_BYTES else member
        self._last_of_group = (group, member)
        member.give(job, known_by, JOB_BYTES + (job.request.size or 0))
        return True

    async def read_pages(self, pages: Sequence[AskedPage]) -> None:
        """Let a worker read some pages; each page gets its outcome.

        Raises ``MirrorError`` where the credential can't be read, or the index has denied access.
        """
        await self._refresh_credential()
        member = self._least_busy()
        if member is not None:
            member.read_pages(pages)
            return
        for page in pages:
            page.answered(None)

    async def next_answer(self) -> tuple[T, JobOutcome | None]:
        """Return the outcome of a job; None where its worker died first.

        Raises ``EndOfStream`` after ``close``.
        """
        try:
            try:
                # Where there is one, to wait would be a turn of the event loop for each file.
                return self._answers.receive_nowait()
            except anyio.WouldBlock:
                return await self._answers.receive()
        except anyio.EndOfStream:
            self._answers.close()
            raise

    async def _watch(self) -> None:
        """Check regularly that each worker with work sends messages."""
        with self._watching:
            while True:
                await anyio.sleep((self._session.limits.stall_timeout_s + _QUIET_S) / QUIET_TICKS)
                for member in self._members:
                    member.tick()

    def close(self) -> None:
        """End the workers; their unfinished jobs are as after a kill."""
        self._watching.cancel()
        self.is_open = False
        for member in self._members:
            member.end()
        self._done.close()
        self._session.slots.release(self._reserved)
        self._reserved = 0

    async def stop(self) -> list[tuple[T, JobOutcome]]:
        """Let the workers keep their interrupted files, and end them; return the finished jobs."""
        self.is_stopping = True
        with anyio.CancelScope(shield=True):
            for member in self._members:
                if member.is_alive:
                    member.channel.send(Stop())
            with anyio.move_on_after(_STOP_S):
                for member in self._members:
                    await member.has_stopped.wait()
            self.close()
        finished: list[tuple[T, JobOutcome]] = []
        with self._answers:
            while True:
                try:
                    known_by, outcome = self._answers.receive_nowait()
                except (anyio.WouldBlock, anyio.EndOfStream):
                    return finished
                if outcome is not None:
                    finished.append((known_by, outcome))

    def answered(self, known_by: T, outcome: JobOutcome | None) -> None:
        """Pass on the outcome of a job."""
        self._room.release()
        self._done.send_nowait((known_by, outcome))

    def count_traffic(self, report: WorkerReport) -> None:
        """Add a worker's traffic to the counters."""
        if report.traffic is not None:
            self._session.add_traffic(report.traffic)
        if report.has_served:
            self._session.record_served()

    def record_page(self, name: ProjectName, address: str | None) -> None:
        """Record that the index served a project's page. ``address``: None for the usual one."""
        self._session.served_pages.record_page(
            name, resolve_address(self._session.root_url, name, address)
        )

    async def judge(self, member: FetchWorker[T], refused: RefusalMet) -> None:
        """Judge the refusal that a worker met, and send all workers the current credential."""
        error: MirrorError | None
        try:
            error = await self._session.judge(refused.refusal)
            if error is None:
                await self._refresh_credential()
        except MirrorError as exc:
            error = exc
        if member.is_alive:
            member.channel.send(RefusalAnswer(number=refused.number, error=error))

    def _least_busy(self) -> FetchWorker[T] | None:
        return min(
            (m for m in self._members if m.is_alive), key=lambda m: m.load_bytes, default=None
        )

    async def _refresh_credential(self) -> None:
        credential = await self._session.load_credential()
        if credential is not self._credential:
            self._hand_on(NewCredential(credential=credential))

    def _hand_on(self, renewed: NewCredential) -> None:
        self._credential = renewed.credential
        for member in self._members:
            if member.is_alive:
                member.channel.send(renewed)

    def _opened(self, count: int, share: int, own_reach: Reach | None) -> Open:
        session = self._session
        limits, policy = session.limits, session.retry_policy
        orders = Orders(
            index=session.config,
            limits=msgspec.structs.replace(
                limits,
                max_connections=share,
                downloads=min(share, max(1, limits.downloads // count)),
                pages=min(share, max(1, limits.pages // count)),
                page_size=min(limits.page_size, _PAGE_BYTES),
            ),
            layout=self._layout,
            store=self._store,
            retry_policy=msgspec.structs.replace(policy, spare=policy.spare // count),
            credential=self._credential,
            credential_from=session.credentials.describe(),
            own_reach=own_reach,
        )
        return Open.of(orders)
