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

from mirror.core.diff import Fetch, FetchMetadata, HeldFile, Rehash, may_offer
from mirror.core.files.distributions import is_wheel, metadata_to_fetch
from mirror.core.model import Labels
from mirror.errors import (
    AccessDenied,
    LockHeld,
    MirrorError,
    NotFound,
    Reason,
    RefusedElsewhere,
    StateError,
    TooLarge,
    TreeError,
    Unavailable,
    lacks_threads,
)
from mirror.holdings.tree import TreeFiles
from mirror.logs import get_logger
from mirror.state.entries.held import HeldBlob
from mirror.sync.cycle_parts import PageScope
from mirror.sync.fetch_keys import staging_key
from mirror.sync.pages.file_jobs import adopt_held
from mirror.sync.pages.ruling import has_digests
from mirror.sync.recording.events import (
    Begun,
    BlobPlaced,
    BlobReused,
    DigestCompared,
    Failed,
    FileStaged,
    MetadataFetched,
)
from mirror.sync.recording.recorder import Recorder
from mirror.sync.staging_room import UNLISTED_BYTES
from mirror.sync.work import FileWorkers, IndexRun, Job, ProjectWork, asked_wait_s
from mirror.tree.files import PlacedBlob
from mirror.tree.staging import StagedFile
from mirror.upstream.download import FileRequest
from mirror.upstream.limits.memory import PageLease
from mirror.workers.concurrency import next_of, work_through
from mirror.workers.messages import JobOutcome
from mirror.workers.pool import are_worthwhile
from mirror.workers.transfer import FetchJob, fetch_job_metadata, fetch_to_staging

_log = get_logger(__name__)

_WAITING = 256
"""Maximum number of files that wait for a download to begin."""

_REFUSED_LINK_BYTES = 64 * 1024 * 1024
"""Maximum length of the refused links that one index's part remembers."""

_REFETCHES = 8
"""Maximum number of files at a time that are fetched in this process after a worker could not."""


_Job = tuple[ProjectWork, Job]


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
        self.scope = run.reach.scope
        self._send, self._receive = anyio.create_memory_object_stream[_Job](
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
            url, refusal = self._run.refused.links.get(
                (work.row.name, job.file.filename), ("", None)
            )
            if refusal is not None and url == job.file.url and isinstance(job, Fetch):
                # its page was read again: an unchanged link has not expired
                await self._failed(work, job, refusal)
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

    async def _queue(self, job: _Job) -> None:
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
                    partial(next_of, self._receive), self._fetch, self._run.access.file_width
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
        room, size, job = self._room, fetch.file.size, self._job_of(work, fetch)
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
            await self._room.give_back(self._key_of(work, fetch), fetch.file.size)
            if outcome is None or self._has_outgrown(fetch, outcome.error):
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
            await self._fetch((work, fetch), size)

    async def _take_outcome(self, work: ProjectWork, fetch: Fetch, outcome: JobOutcome) -> None:
        if outcome.blob is not None:
            self._run.reach.record_answer()
            await self._deliver(work, fetch, outcome.blob, outcome)
        elif isinstance(outcome.error, TreeError) and not self._holdings.files.fails_alone(
            outcome.error
        ):
            raise outcome.error
        elif outcome.error is not None:
            await self._failed(work, fetch, outcome.error)
        else:
            await self._put_bug(work, fetch, outcome.bug or "")

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
                metadata = await self._metadata_of(self._job_of(work, fetch), lease)
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

    # -- here --------------------------------------------------------------------------------------

    async def _fetch(self, job: _Job, size: int | None = None) -> None:
        """Do one job. ``size``: an unlisted one that a worker has learnt."""
        work, wanted = job
        try:
            if isinstance(wanted, FetchMetadata):
                await self._complete(work, wanted)
                return
            if isinstance(wanted, Rehash):
                done = await self._rehash(work, wanted)
                if done:
                    return
                if self._run.selection.policy.keep_replaced:
                    await self._recorder.put(
                        DigestCompared(work=work, rehash=wanted, is_same=False)
                    )
                    return
                wanted = Fetch(file=wanted.file, replaces=wanted.held)
            await self._download(work, wanted, size)
            self._run.reach.record_answer()
        except (StateError, TreeError, LockHeld):
            raise
        except MirrorError as exc:
            await self._failed(work, wanted, exc)
        except MemoryError:
            raise  # no failure of this file: others would only end the same way
        except Exception as exc:
            if lacks_threads(exc):
                raise
            _log.exception(
                "file.failed",
                index=self._run.name,
                project=work.row.name,
                filename=wanted.file.filename,
            )
            await self._put_bug(work, wanted, type(exc).__name__)

    async def _rehash(self, work: ProjectWork, wanted: Rehash) -> bool:
        """Compare a digest that appeared later with the held bytes; return whether they are the
        same.
        """
        if not await fits_held(self._holdings.files, wanted):
            return False
        await self._recorder.put(DigestCompared(work=work, rehash=wanted))
        return True

    async def _complete(self, work: ProjectWork, wanted: FetchMetadata) -> None:
        lease = self._run.access.session.metadata_memory.lease()
        with lease.body():  # until the recorder has taken it
            metadata = await self._metadata_of(self._job_of(work, Fetch(file=wanted.file)), lease)
            await self._recorder.put(MetadataFetched(work=work, wanted=wanted, metadata=metadata))

    async def _metadata_of(self, job: FetchJob, lease: PageLease) -> bytes | None:
        limit_bytes = self._holdings.files.metadata_limit_bytes
        return await fetch_job_metadata(self._run.access.session, job, limit_bytes, lease)

    async def _download(self, work: ProjectWork, fetch: Fetch, size: int | None) -> None:
        """Fetch a file within its room in staging.

        A file of unlisted size that turns out to be larger gives its room back and waits for more,
        so that no two files wait for each other.
        """
        await self._holdings.writer.begin()
        room, key = self._room, self._key_of(work, fetch)
        size = fetch.file.size if size is None else size
        while True:
            await room.take(key, size)
            try:
                return await self._download_into_room(work, fetch, size)
            except TooLarge as exc:
                if not self._has_outgrown(fetch, exc):
                    raise
                most, _ = self._size_limit()
                # one that has come to be larger than it was announced gets all that there is
                larger = min(exc.size_bytes or most, most) if size is None else most
            finally:
                await room.give_back(key, size)
            size = larger

    async def _download_into_room(self, work: ProjectWork, fetch: Fetch, size: int | None) -> None:
        session, files = self._run.access.session, self._holdings.files
        lease = session.metadata_memory.lease()
        with lease.body():  # until the recorder has taken the metadata
            job = self._job_of(work, fetch, size)
            staged, metadata = await fetch_to_staging(session, files, job, lease)
            try:
                await self._recorder.put(
                    await self._placed_early(work, fetch, staged, metadata)
                    if files.places_early
                    else FileStaged(work=work, fetch=fetch, staged=staged, metadata=metadata)
                )
            except BaseException:
                await staged.keep()
                raise

    async def _placed_early(
        self, work: ProjectWork, fetch: Fetch, staged: StagedFile, metadata: bytes | None
    ) -> BlobPlaced | Failed:
        """Place a file while others are downloaded."""
        files, filename = self._holdings.files, fetch.file.filename
        try:
            blob = await anyio.to_thread.run_sync(files.place, staged, filename)
        except TreeError as exc:
            if not files.fails_alone(exc):
                raise
            await staged.discard()
            return Failed(work=work, failure=work.failure(filename, exc.reason, str(exc), fetch))
        return BlobPlaced(work=work, fetch=fetch, blob=blob, metadata=metadata)

    def _size_limit(self) -> tuple[int, str]:
        """Return the largest size of a file, and the key that sets it; 0: no limit."""
        limit_bytes = self._run.selection.policy.file_size_limit
        room = self._room.limit_bytes
        if room is not None and not 0 < limit_bytes <= room:
            return room, "mirror.staging-size"
        return limit_bytes, "limits.file-size"

    def _has_outgrown(self, fetch: Fetch, error: MirrorError | None) -> bool:
        """Return whether a file of unlisted size was given up only since its room was too small."""
        if self._room.limit_bytes is None or fetch.file.size is not None:
            return False
        return isinstance(error, TooLarge) and error.limit_bytes < self._size_limit()[0]

    def _job_of(self, work: ProjectWork, fetch: Fetch, size: int | None = None) -> FetchJob:
        """Return the job of a file. ``size``: an unlisted one that is known by now."""
        file = fetch.file
        most_bytes, setting = self._size_limit()
        limit_bytes = most_bytes
        if self._room.limit_bytes is not None and file.size is None:
            limit_bytes = min(most_bytes, UNLISTED_BYTES if size is None else size)
        request = FileRequest(
            filename=file.filename,
            url=file.url,
            size=file.size,
            digests=file.digests,
            limit_bytes=limit_bytes,
            setting=setting,
        )
        metadata = metadata_to_fetch(file, work.row.name)
        return FetchJob(
            key=self._key_of(work, fetch),
            request=request,
            metadata=metadata,
            may_outgrow=limit_bytes < most_bytes,
        )

    def _key_of(self, work: ProjectWork, fetch: Fetch) -> str:
        return staging_key(self._run.name, work.row.name, fetch.file)

    async def _put_bug(self, work: ProjectWork, wanted: Job, kind: str) -> None:
        detail = f"{kind}: a bug of this program, see the log"
        failure = work.failure(wanted.file.filename, Reason.INTERNAL, detail, wanted)
        await self._recorder.put(Failed(work=work, failure=failure))

    async def _failed(self, work: ProjectWork, fetch: Job, error: MirrorError) -> None:
        run = self._run
        if isinstance(error, AccessDenied) and error.ends_index:
            run.reach.end(error)
            await anyio.lowlevel.checkpoint()
        if isinstance(error, Unavailable) and not isinstance(error, RefusedElsewhere):
            await run.reach.record_unreachable(error)
        else:
            run.reach.record_answer()
        is_new_link = self._record_refused_link(work, fetch, error)
        if is_new_link or (work.is_retry and isinstance(error, NotFound)):
            run.pages.rereads[work.row.name] = work
        failure = work.failure(
            fetch.file.filename, error.reason, str(error), fetch, wait_s=asked_wait_s(error)
        )
        await self._recorder.put(Failed(work=work, failure=failure))

    def _record_refused_link(self, work: ProjectWork, fetch: Job, error: MirrorError) -> bool:
        """Record a refused link that may have expired in the queue; False for one that can't have.

        A link without a query never expires, and one that is equal when its page is read again has
        not.
        """
        is_refusal = isinstance(error, AccessDenied | NotFound | RefusedElsewhere)
        if not is_refusal or "?" not in fetch.file.url:
            return False
        key = (work.row.name, fetch.file.filename)
        before, _ = self._run.refused.links.get(key, ("", None))
        if before == fetch.file.url:
            return False
        if self._run.refused.link_bytes > _REFUSED_LINK_BYTES:
            return False  # its page is read again in the next cycle only
        self._run.refused.link_bytes += len(fetch.file.url)
        self._run.refused.links[key] = (fetch.file.url, error)
        return True


async def fits_held(files: TreeFiles, rehash: Rehash) -> bool:
    """Return whether digests that appeared later match the held bytes."""
    return await has_digests(files, rehash.held.sha256, rehash.held.filename, rehash.expected)
