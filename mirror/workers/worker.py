"""One worker process: its unanswered files and pages, and its end when it dies or is stuck.

Invariant: each job is answered once, also where the process dies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Generic, Protocol, TypeVar

import anyio
import msgspec
from anyio.abc import TaskGroup

from mirror.core.model import Validators
from mirror.core.names import ProjectName
from mirror.logs import get_logger, write_line
from mirror.workers.channel import Channel
from mirror.workers.fork_server import ForkedProcess
from mirror.workers.messages import (
    MAIN_END,
    FetchOrder,
    JobOutcome,
    LogLine,
    ReadPages,
    RefusalMet,
    Stopped,
    WorkerReport,
    known_page,
)
from mirror.workers.transfer import FetchJob

_log = get_logger(__name__)

T = TypeVar("T")

JOB_BYTES: Final = 256 * 1024
"""Fixed cost of a file, in byte equivalents; balances the load between workers."""
QUIET_TICKS: Final = 12
"""Maximum number of silent intervals of a worker with work."""
_KILL_S: Final = 10.0
"""How long a killed process may take to end, in seconds."""


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


class WorkerOwner(Protocol[T]):
    """The pool of a worker, as far as the worker acts on it."""

    is_stopping: bool
    on_stuck: Callable[[StuckWorker], None]

    def answered(self, known_by: T, outcome: JobOutcome | None) -> None:
        """Pass on the outcome of a job; None where nobody did it."""

    def count_traffic(self, report: WorkerReport) -> None:
        """Add a worker's traffic to the counters."""

    def record_page(self, name: ProjectName, address: str | None) -> None:
        """Record that the index served a project's page."""

    async def judge(self, member: FetchWorker[T], refused: RefusalMet) -> None:
        """Judge the refusal that a worker met."""


class FetchWorker(Generic[T]):
    """One process, and the work that it has not answered."""

    def __init__(self, process: ForkedProcess, pool: WorkerOwner[T], tasks: TaskGroup) -> None:
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
    async def open(
        cls, process: ForkedProcess, pool: WorkerOwner[T], tasks: TaskGroup
    ) -> FetchWorker[T]:
        """Connect to a process; its messages are taken from then on."""
        member = cls(process, pool, tasks)
        await member.channel.connect(process.connection)
        return member

    def read_pages(self, pages: Sequence[AskedPage]) -> None:
        """Send some pages to the worker."""
        first = self._last_number + 1
        self._last_number += len(pages)
        self.pages.update(enumerate(pages, first))
        self.load_bytes += JOB_BYTES * len(pages)
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
        if self._quiet_ticks > QUIET_TICKS:
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
        self.load_bytes -= JOB_BYTES
        page = self.pages.pop(number)
        self._pool.record_page(page.name, page.address)
        page.confirmed()

    def _answered(self, outcome: JobOutcome) -> None:
        page = self.pages.pop(outcome.number, None)
        if page is not None:
            if outcome.page is not None:
                self._pool.record_page(page.name, page.address)
            self.load_bytes -= JOB_BYTES
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
