"""Download the files that a page asks for, some at once, and hand each one on as soon as it is whole.

A failure of one file stands alone. What was interrupted stays in staging for the next try.
"""

from __future__ import annotations

import anyio
import anyio.to_thread

from mirror.core.diff import Fetch, FetchMetadata, Rehash
from mirror.core.model import ListedFile
from mirror.core.names import ProjectName
from mirror.errors import (
    AccessDenied,
    MirrorError,
    NotListed,
    Reason,
    StateError,
    TreeError,
    Unreachable,
    UpstreamError,
)
from mirror.logs import get_logger
from mirror.sync.crawl import adopt_held
from mirror.sync.pool import work_through
from mirror.sync.record import Adopted, Arrived, Begun, Completed, Failed, Recorder, Verified
from mirror.sync.work import Cycle, IndexRun, Job, ProjectWork, asked_wait_s
from mirror.tree.staging import StagedFile
from mirror.upstream.download import FileRequest, algorithms_for, download, fetch_metadata

_log = get_logger(__name__)

_WAITING = 256
"""So many files may wait for a download to begin."""

_Job = tuple[ProjectWork, Job]


class Fetcher:
    """The downloads of one index: takes ``ProjectWork``, gives what arrived to the recorder."""

    def __init__(self, cycle: Cycle, run: IndexRun, recorder: Recorder) -> None:
        self._cycle, self._run, self._recorder = cycle, run, recorder
        self._send, self._receive = anyio.create_memory_object_stream[_Job](max_buffer_size=_WAITING)

    async def deliver(self, work: ProjectWork) -> None:
        """Take one project's work: what is held already is adopted, the rest waits for its turn."""
        adopted = await adopt_held(self._cycle, work)
        jobs = list(work.jobs)
        work.pending = len(jobs)
        await self._recorder.put(Begun(work=work))
        self._run.counters.files_wanted += len(jobs)
        for job in jobs:
            held = adopted.get(job.file.filename)
            if held is not None and isinstance(job, Fetch):
                await self._recorder.put(Adopted(work=work, fetch=job, size=held[0], metadata_sha256=held[1]))
            else:
                if not isinstance(job, FetchMetadata):
                    self._run.counters.bytes_wanted += job.file.size or 0
                try:
                    self._send.send_nowait((work, job))
                except anyio.WouldBlock:
                    await self._send.send((work, job))

    async def run(self) -> None:
        """Work until ``close`` was called and everything is done."""
        async with self._receive:
            await work_through(self._next, self._fetch, self._run.file_width)

    async def _next(self) -> _Job:
        """Return the next job. Raises ``EndOfStream`` after the last."""
        try:
            return self._receive.receive_nowait()
        except anyio.WouldBlock:
            return await self._receive.receive()

    def close(self) -> None:
        """Say that nothing more will be delivered."""
        self._send.close()

    def end(self) -> None:
        """Let go of what nobody takes any more, also where ``run`` was cancelled before it began."""
        self._receive.close()

    async def _fetch(self, job: _Job) -> None:
        work, wanted = job
        try:
            if isinstance(wanted, FetchMetadata):
                metadata = await self._fetch_metadata(wanted.file)
                await self._recorder.put(Completed(work=work, wanted=wanted, metadata=metadata))
                return
            if isinstance(wanted, Rehash):
                done = await self._rehash(work, wanted)
                if done:
                    return
                if self._run.selection.policy.keep_replaced:
                    await self._recorder.put(Verified(work=work, rehash=wanted, is_same=False))
                    return
                wanted = Fetch(file=wanted.file, replaces=wanted.held)
            await self._download(work, wanted)
            self._run.note_answer()
        except (StateError, TreeError):
            raise
        except MirrorError as exc:
            await self._failed(work, wanted, exc)
        except Exception as exc:  # noqa: BLE001 - a bug on one file is a failure of its project, not of the cycle
            _log.exception("file.failed", index=self._run.name, project=work.row.name, filename=wanted.file.filename)
            detail = f"{type(exc).__name__}: a bug of this program, see the log"
            await self._recorder.put(
                Failed(work=work, failure=work.failure(wanted.file.filename, Reason.INTERNAL, detail, wanted))
            )

    async def _rehash(self, work: ProjectWork, wanted: Rehash) -> bool:
        """Compare a digest that appeared later with the held bytes; tell whether they are the same."""
        if not await fits_held(self._cycle, wanted):
            return False
        await self._recorder.put(Verified(work=work, rehash=wanted))
        return True

    async def _download(self, work: ProjectWork, fetch: Fetch) -> None:
        file, limit = fetch.file, self._run.selection.policy.file_size_limit
        request = FileRequest(
            filename=file.filename, url=file.url, size=file.size, digests=file.digests, limit_bytes=limit
        )
        key = staging_key(self._run.name, work.row.name, file)
        staged = await self._cycle.files.open_staged(key, algorithms_for(file.digests))
        try:
            await download(self._run.session, request, staged)
            metadata = await self._fetch_metadata(file)
        except (Unreachable, AccessDenied, anyio.get_cancelled_exc_class()):
            await staged.keep()
            raise
        except BaseException:
            await staged.discard()
            raise
        await self._hand_on(Arrived(work=work, fetch=fetch, staged=staged, metadata=metadata), staged)

    async def _hand_on(self, arrived: Arrived, staged: StagedFile) -> None:
        try:
            await self._recorder.put(arrived)
        except BaseException:
            await staged.keep()
            raise

    async def _fetch_metadata(self, file: ListedFile) -> bytes | None:
        """Fetch advertised metadata of what is no wheel; a wheel's own is taken out of it when it is placed.

        None where it can't be had: a file is of use without it. It is asked for again when its page is read again.
        """
        if not file.metadata or file.filename.endswith(".whl"):
            return None
        url, limit = f"{file.url}.metadata", self._cycle.files.metadata_limit_bytes
        try:
            return await fetch_metadata(self._run.session, url, file.metadata, limit)
        except UpstreamError as exc:
            if isinstance(exc, AccessDenied) and exc.ends_index:
                raise
            _log.warning("metadata.failed", index=self._run.name, filename=file.filename, cause=str(exc))
            return None

    async def _failed(self, work: ProjectWork, fetch: Job, error: MirrorError) -> None:
        run = self._run
        if isinstance(error, AccessDenied) and error.ends_index:
            run.end(error)
            await anyio.lowlevel.checkpoint()
        if isinstance(error, Unreachable):
            await run.note_unreachable(error)
        else:
            run.note_answer()
        if work.is_retry and isinstance(error, NotListed | AccessDenied):
            run.rereads[work.row.name] = work
        failure = work.failure(fetch.file.filename, error.reason, str(error), fetch, wait_s=asked_wait_s(error))
        await self._recorder.put(Failed(work=work, failure=failure))


async def fits_held(cycle: Cycle, rehash: Rehash) -> bool:
    """Tell whether a digest that appeared later is that of the held bytes."""
    held = rehash.held
    actual = await anyio.to_thread.run_sync(
        cycle.files.hash_blob, held.sha256, held.filename, rehash.algorithm, abandon_on_cancel=True
    )
    return actual == rehash.expected


def staging_key(index: str, project: ProjectName, file: ListedFile) -> str:
    """Return what names a file on its way: the same bytes by name and digest, whatever their URL."""
    digest = dict(file.digests).get("sha256") or " ".join(f"{a}={d}" for a, d in file.digests)
    return f"{index}/{project}/{file.filename}/{digest}"
