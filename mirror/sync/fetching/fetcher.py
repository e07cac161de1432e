"""Download the files that a page asks for, some concurrently, and pass each one on as soon as it is
whole.

A failure of one file affects no other. An interrupted file stays in staging for the next try. A few
files are fetched in this process, many by worker processes (``mirror.workers``); the results are
judged here in either case.
"""

from __future__ import annotations

import contextlib
from functools import partial

import anyio
import anyio.to_thread
import msgspec
from anyio.abc import TaskGroup, TaskStatus

from mirror.core.diff import Fetch, FetchMetadata, HeldFile, may_offer
from mirror.core.files.distributions import is_wheel, metadata_to_fetch
from mirror.core.model import Labels
from mirror.errors import (
    AccessDenied,
    LockHeld,
    MirrorError,
    StateError,
    TooLarge,
    TreeError,
)
from mirror.state.entries.held import HeldBlob
from mirror.sync.cycle_parts import PageScope
from mirror.sync.fetching.downloads import Downloads, QueuedJob
from mirror.sync.fetching.failures import FileFailures
from mirror.sync.fetching.jobs import FileJobs
from mirror.sync.pages.file_jobs import adopt_held
from mirror.sync.recording.events import (
    Begun,
    BlobPlaced,
    BlobReused,
)
from mirror.sync.recording.recorder import Recorder
from mirror.sync.work import FileWorkers, IndexRun, ProjectWork
from mirror.tree.files import PlacedBlob
from mirror.workers.concurrency import next_of, work_through
from mirror.workers.messages import JobOutcome
from mirror.workers.pool import are_worthwhile

_WAITING = 256
"""Maximum number of files that wait for a download to begin."""
_REFETCHES = 8
"""Maximum number of files at a time that are fetched in this process after a worker could not."""


class Fetcher:
    """The downloads of one index: takes ``ProjectWork``, passes finished files to the recorder."""

    def __init__(
        self, scope: PageScope, run: IndexRun, recorder: Recorder, workers: FileWorkers | None
    ) -> None:
        """``workers``: take the files where there are many; None: all are fetched in this
        process.
        """
        self._holdings, self._room = scope.holdings, scope.room
        self._has_blobs = scope.terms.has_blobs
        self._run, self._recorder, self._workers = run, recorder, workers
        limit_bytes = run.selection.policy.file_size_limit
        self._jobs = FileJobs(run.name, file_limit_bytes=limit_bytes, room=scope.room)
        self._failures = FileFailures(run, recorder)
        self._downloads = Downloads(scope, run, recorder, self._jobs, self._failures)
        self.scope = run.reach.scope
        self._send, self._receive = anyio.create_memory_object_stream[QueuedJob](
            max_buffer_size=_WAITING
        )
        self._is_closed = False
        self._files = self._bytes = 0
        self._unanswered = 0
        """Number of files that worker processes are fetching."""
        self._refetches = anyio.Semaphore(_REFETCHES)

    async def deliver(self, work: ProjectWork) -> None:
        """Take one project's work: files already held are adopted, the others are queued."""
        adopted = await adopt_held(self._holdings, work, has_blobs=self._has_blobs)
        jobs = list(work.asked.jobs)
        work.progress.pending = len(jobs)
        await self._recorder.put(Begun(work=work))
        self._run.counters.files_wanted += len(jobs)
        for job in jobs:
            held = adopted.get(job.file.filename)
            if held is not None and isinstance(job, Fetch):
                await self._adopt(work, job, held)
                continue
            if not isinstance(job, FetchMetadata):
                self._run.counters.bytes_wanted += job.file.size or 0
            refusal = self._failures.refusal_of(work, job) if isinstance(job, Fetch) else None
            if refusal is not None:
                await self._failures.record(work, job, refusal)
                continue
            if isinstance(job, Fetch) and await self._submit(work, job):
                continue
            await self._queue((work, job))

    async def _adopt(self, work: ProjectWork, fetch: Fetch, blob: HeldBlob) -> None:
        """Adopt a blob that is held already; missing metadata that this page may offer is still
        fetched.
        """
        listed = metadata_to_fetch(fetch.file, work.row.name)
        is_there = (
            blob.metadata_sha256 is not None and dict(listed).get("sha256") == blob.metadata_sha256
        )
        offered = blob.metadata_sha256 if is_there or is_wheel(blob.filename) else None
        is_wanted = not is_there and may_offer(listed, blob.first_metadata)
        work.progress.pending += is_wanted
        await self._recorder.put(
            BlobReused(work=work, fetch=fetch, size=blob.size, metadata_sha256=offered)
        )
        if is_wanted:
            held = HeldFile(
                id=0,
                filename=blob.filename,
                sha256=blob.sha256,
                size=blob.size,
                digests=(),
                url="",
                labels=Labels(),
            )
            await self._queue((work, FetchMetadata(held=held, file=fetch.file)))

    async def _queue(self, job: QueuedJob) -> None:
        try:
            try:
                self._send.send_nowait(job)
            except anyio.WouldBlock:
                await self._send.send(job)
        except anyio.BrokenResourceError:
            # ``run`` ended first; the error that ended it cancels this task soon, and is reported
            # by itself.
            await anyio.sleep_forever()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Work until ``close`` was called and everything is done."""
        try:
            async with self._receive, anyio.create_task_group() as tasks:
                if self._workers is not None:
                    self._workers.attach(tasks)
                    tasks.start_soon(self._take_answers, self._workers, tasks)
                task_status.started()
                await work_through(
                    partial(next_of, self._receive),
                    self._downloads.fetch,
                    self._run.access.file_width,
                )
        finally:
            await self._stop_workers()

    def close(self) -> None:
        """End the queue: nothing more will be delivered."""
        self._send.close()
        self._is_closed = True
        self._close_workers_if_done()

    def end(self) -> None:
        """Close the queue of jobs, also where ``run`` was cancelled before it began."""
        self._receive.close()

    # -- worker processes ---------------------------------------------------------------

    async def _submit(self, work: ProjectWork, fetch: Fetch) -> bool:
        """Pass a file to a worker process, where there are many; return whether a worker takes
        it.
        """
        workers = self._workers
        if workers is None:
            return False
        self._files += 1
        self._bytes += fetch.file.size or 0
        try:
            if not workers.is_started and not (
                are_worthwhile(files=self._files, size=self._bytes) and await workers.start()
            ):
                return False
            await self._holdings.writer.begin()
            if not await self._given(workers, work, fetch):
                return False
        except (StateError, TreeError, LockHeld):
            raise
        except MirrorError:
            return False  # of the credential: the download in this process reports it
        self._unanswered += 1
        return True

    async def _given(self, workers: FileWorkers, work: ProjectWork, fetch: Fetch) -> bool:
        """Give a file to a worker once there is room for it in staging; return whether one takes
        it.
        """
        room, size, job = self._room, fetch.file.size, self._jobs.job_of(work, fetch)
        await room.take(job.key, size)
        is_given = False
        try:
            is_given = await workers.submit(job, (work, fetch), group=work.row.id)
        finally:
            if not is_given:
                await room.give_back(job.key, size)
        return is_given

    async def _take_answers(self, workers: FileWorkers, tasks: TaskGroup) -> None:
        while True:
            try:
                (work, fetch), outcome = await workers.next_answer()
            except anyio.EndOfStream:
                return
            await self._room.give_back(self._jobs.key_of(work, fetch), fetch.file.size)
            if outcome is None or self._jobs.has_outgrown(fetch, outcome.error):
                # in another task: it may wait for room that only further answers free
                error = None if outcome is None else outcome.error
                tasks.start_soon(self._fetch_here, work, fetch, error)
            else:
                await self._take_outcome(work, fetch, outcome)
            self._unanswered -= 1
            self._close_workers_if_done()

    async def _fetch_here(self, work: ProjectWork, fetch: Fetch, error: MirrorError | None) -> None:
        """Fetch a file that a worker could not; ``error``: why, where its room was too small."""
        size = error.size_bytes if isinstance(error, TooLarge) else None
        async with self._refetches:
            await self._downloads.fetch((work, fetch), size)

    async def _take_outcome(self, work: ProjectWork, fetch: Fetch, outcome: JobOutcome) -> None:
        if outcome.blob is not None:
            self._run.reach.record_answer()
            await self._deliver(work, fetch, outcome.blob, outcome)
        elif isinstance(outcome.error, TreeError) and not self._holdings.files.fails_alone(
            outcome.error
        ):
            raise outcome.error
        elif outcome.error is not None:
            await self._failures.record(work, fetch, outcome.error)
        else:
            await self._failures.record_bug(work, fetch, outcome.bug or "")

    async def _deliver(
        self, work: ProjectWork, fetch: Fetch, blob: PlacedBlob, outcome: JobOutcome
    ) -> None:
        delivered = BlobPlaced(work=work, fetch=fetch, blob=blob, metadata=outcome.metadata)
        if not outcome.has_large_metadata:
            await self._recorder.put(delivered)
            return
        lease = self._run.access.session.metadata_memory.lease()
        with lease.body():  # until the recorder has taken it
            with contextlib.suppress(AccessDenied):  # of the index: its next request reports it
                metadata = await self._downloads.metadata_of(self._jobs.job_of(work, fetch), lease)
                delivered = msgspec.structs.replace(delivered, metadata=metadata)
            await self._recorder.put(delivered)

    def _close_workers_if_done(self) -> None:
        if self._workers is not None and self._is_closed and not self._unanswered:
            self._workers.close()

    async def _stop_workers(self) -> None:
        """After an early end: record the files that workers have placed by now, and keep
        interrupted ones in staging.
        """
        if self._workers is None or not self._workers.is_open:
            return
        for (work, fetch), outcome in await self._workers.stop():
            if outcome.blob is not None:
                await self._recorder.put(
                    BlobPlaced(work=work, fetch=fetch, blob=outcome.blob, metadata=outcome.metadata)
                )
