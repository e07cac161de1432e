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
from typing import Final, Generic, Protocol, TypeVar

import anyio
import msgspec
from anyio.abc import TaskGroup

from mirror.core.model import Validators
from mirror.core.names import ProjectName
from mirror.core.pages.root_links import resolve_address
from mirror.errors import MirrorError
from mirror.logs import get_logger, write_line
from mirror.tree.layout import Layout
from mirror.upstream.connections.addresses import Reach
from mirror.upstream.credentials import Credential
from mirror.upstream.session import IndexSession
from mirror.workers.channel import Channel
from mirror.workers.fork_server import ForkedProcess, ForkServer
from mirror.workers.messages import (
    MAIN_END,
    FetchOrder,
    JobOutcome,
    LogLine,
    NewCredential,
    Open,
    Orders,
    ReadPages,
    RefusalAnswer,
    RefusalMet,
    Stop,
    Stopped,
    StorePlace,
    WorkerReport,
    known_page,
)
from mirror.workers.transfer import FetchJob

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
_JOB_BYTES: Final = 256 * 1024
"""Fixed cost of a file, in byte equivalents; balances the load between workers."""
_GROUP_BYTES: Final = 32 * _JOB_BYTES
"""How much more work than the least busy worker the one with the group's other files may have."""
_LEAST_SHARE: Final = 2
"""Minimum number of connections that make a worker worth its cost."""
_QUIET_S: Final = 60.0
"""Maximum silence of a worker with work, in addition to ``stall-timeout``."""
_QUIET_TICKS: Final = 12
_KILL_S: Final = 10.0
"""How long a killed process may take to end, in seconds."""
_STOP_S: Final = 5.0
"""How long to wait for the workers to keep their interrupted files."""


class AskedPage(Protocol):
    """A project's page for a worker to read.

    Its functions are called in the event loop, one of them once.
    """

    @property
    def name(self) -> ProjectName:
        """The project's name."""

    @property
    def address(self) -> str | None:
        """Where the page is, relative to the index's URL; None for the usual place."""

    @property
    def origin(self) -> str | None:
        """The page's earlier origin; None for the index's own origin."""

    @property
    def validators(self) -> Validators | None:
        """The known validators of the page."""

    def confirmed(self) -> None:
        """The page is unchanged, by the same validators."""

    def answered(self, outcome: JobOutcome | None) -> None:
        """Take the page's outcome; None where no worker could read it."""


class StuckWorker(msgspec.Struct, frozen=True, kw_only=True):
    """A worker process that made no progress, and its unfinished jobs."""

    pid: int | None
    was_killed: bool
    """False: it is in a call of the system that never returns, and may still write to its files."""
    jobs: tuple[FetchJob, ...]
    pages: int


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
        self._members: list[_Worker[T]] = []
        self._reserved = 0
        self._last_of_group: tuple[int, _Worker[T]] | None = None
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
                    self._members.append(await _Worker.open(process, self, tasks))
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
        member.give(job, known_by, _JOB_BYTES + (job.request.size or 0))
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
                await anyio.sleep((self._session.limits.stall_timeout_s + _QUIET_S) / _QUIET_TICKS)
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

    async def judge(self, member: _Worker[T], refused: RefusalMet) -> None:
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

    def _least_busy(self) -> _Worker[T] | None:
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


class _Worker(Generic[T]):
    """One process of a pool."""

    def __init__(self, process: ForkedProcess, pool: Workers[T], tasks: TaskGroup) -> None:
        self.jobs: dict[int, tuple[T, int, FetchJob]] = {}
        """Number -> the caller's value, the weight, and the job."""
        self.pages: dict[int, AskedPage] = {}
        self.load_bytes = 0
        self.is_alive = True
        self.has_stopped = anyio.Event()
        self._process, self._pool, self._tasks = process, pool, tasks
        self._last_number = 0
        self._quiet_ticks = 0
        self._is_stuck = False
        self._has_ended = anyio.Event()
        self.channel = Channel(self._take, self._lost, MAIN_END)
        """There from the start: the process may break before anything is sent to it."""

    @classmethod
    async def open(cls, process: ForkedProcess, pool: Workers[T], tasks: TaskGroup) -> _Worker[T]:
        member = cls(process, pool, tasks)
        await member.channel.connect(process.connection)
        return member

    def read_pages(self, pages: Sequence[AskedPage]) -> None:
        """Send some pages to the worker."""
        first = self._last_number + 1
        self._last_number += len(pages)
        self.pages.update(enumerate(pages, first))
        self.load_bytes += _JOB_BYTES * len(pages)
        known = tuple(
            known_page(page.name, page.validators, page.address, page.origin) for page in pages
        )
        self.channel.send(ReadPages(first=first, pages=known))

    def give(self, job: FetchJob, known_by: T, weight: int) -> None:
        """Let the process do a job."""
        self._last_number += 1
        self.jobs[self._last_number] = (known_by, weight, job)
        self.load_bytes += weight
        self.channel.send(FetchOrder(number=self._last_number, job=job))

    def end(self) -> None:
        """End the worker; its outstanding pages are answered with None, so that this process reads
        them.
        """
        if self.is_alive:
            self.is_alive = False
            self._process.end()
            self.channel.close()
            self.has_stopped.set()
            pages, self.pages = self.pages, {}
            for page in pages.values():
                page.answered(None)

    @property
    def has_work(self) -> bool:
        """Whether anything is expected of it."""
        return bool(self.jobs or self.pages)

    def tick(self) -> None:
        """Count an interval without messages; a worker that has work and was silent for too many is
        stuck.

        Ticks, not a clock: where all processes were stopped for an hour, none was silent in that
        time.
        """
        if not self.is_alive or self._is_stuck or not self.has_work:
            self._quiet_ticks = 0
            return
        self._quiet_ticks += 1
        if self._quiet_ticks > _QUIET_TICKS:
            self._is_stuck = True
            self._tasks.start_soon(self._end_stuck)

    async def _end_stuck(self) -> None:
        """Kill the process, and let its work be done elsewhere once it is gone, or can't be
        killed.
        """
        pid = self._process.pid
        self._process.kill()
        with anyio.move_on_after(_KILL_S):
            await self._has_ended.wait()
        self._lost_stuck(pid, was_killed=self._has_ended.is_set())

    def _lost_stuck(self, pid: int | None, *, was_killed: bool) -> None:
        if not self.is_alive:
            return
        jobs = tuple(job for _, _, job in self.jobs.values())
        stuck = StuckWorker(pid=pid, was_killed=was_killed, jobs=jobs, pages=len(self.pages))
        if not was_killed:
            self._process.abandon()
        self._pool.on_stuck(stuck)
        self._give_back()

    def _take(self, message: object) -> None:
        self._quiet_ticks = 0
        match message:
            case WorkerReport():
                self._pool.count_traffic(message)
                for outcome in message.outcomes:
                    if isinstance(outcome, int):
                        self._confirmed(outcome)
                    else:
                        self._answered(outcome)
            case LogLine():
                write_line(message.line)
            case RefusalMet() if not self._pool.is_stopping:
                self._tasks.start_soon(self._pool.judge, self, message)
            case Stopped():
                self.has_stopped.set()

    def _confirmed(self, number: int) -> None:
        self.load_bytes -= _JOB_BYTES
        page = self.pages.pop(number)
        self._pool.record_page(page.name, page.address)
        page.confirmed()

    def _answered(self, outcome: JobOutcome) -> None:
        page = self.pages.pop(outcome.number, None)
        if page is not None:
            if outcome.page is not None:
                self._pool.record_page(page.name, page.address)
            self.load_bytes -= _JOB_BYTES
            page.answered(outcome)
            return
        known_by, weight, _ = self.jobs.pop(outcome.number)
        self.load_bytes -= weight
        self._pool.answered(known_by, outcome)

    def _lost(self) -> None:
        """Answer the jobs of a worker that is gone, though nobody ended it."""
        self._has_ended.set()
        if not self.is_alive or self._is_stuck:
            return
        _log.warning(
            "fetch_process.lost",
            jobs=len(self.jobs) + len(self.pages),
            problem="it was killed or has failed; its files and pages are fetched here",
        )
        self._give_back()

    def _give_back(self) -> None:
        """Answer all outstanding jobs of the worker with None."""
        self.end()
        jobs, self.jobs = self.jobs, {}
        for known_by, _, _ in jobs.values():
            self._pool.answered(known_by, None)
