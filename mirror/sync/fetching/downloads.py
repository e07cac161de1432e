"""Downloads in this process: each file within its room in staging, its metadata within memory."""

from __future__ import annotations

from mirror.core.diff import Fetch, FetchMetadata, Rehash
from mirror.errors import (
    LockHeld,
    MirrorError,
    StateError,
    TooLarge,
    TreeError,
    lacks_threads,
)
from mirror.holdings.tree import TreeFiles
from mirror.logs import get_logger
from mirror.sync.cycle_parts import PageScope
from mirror.sync.fetching.failures import FileFailures
from mirror.sync.fetching.jobs import FileJobs
from mirror.sync.pages.ruling import has_digests
from mirror.sync.recording.events import (
    BlobPlaced,
    DigestCompared,
    Failed,
    FileStaged,
    MetadataFetched,
)
from mirror.sync.recording.recorder import Recorder
from mirror.sync.work import IndexRun, Job, ProjectWork
from mirror.tree.staging import StagedFile
from mirror.upstream.limits.memory import PageLease
from mirror.workers.transfer import FetchJob, fetch_job_metadata, fetch_to_staging

_log = get_logger(__name__)

QueuedJob = tuple[ProjectWork, Job]


class Downloads:
    """Fetches files of one index in this process, and passes each to the recorder."""

    def __init__(
        self,
        scope: PageScope,
        run: IndexRun,
        recorder: Recorder,
        jobs: FileJobs,
        failures: FileFailures,
    ) -> None:
        self._holdings, self._room = scope.holdings, scope.room
        self._run, self._recorder = run, recorder
        self._jobs, self._failures = jobs, failures

    async def fetch(self, job: QueuedJob, size: int | None = None) -> None:
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
            await self._failures.record(work, wanted, exc)
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
            await self._failures.record_bug(work, wanted, type(exc).__name__)

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
            metadata = await self.metadata_of(
                self._jobs.job_of(work, Fetch(file=wanted.file)), lease
            )
            await self._recorder.put(MetadataFetched(work=work, wanted=wanted, metadata=metadata))

    async def metadata_of(self, job: FetchJob, lease: PageLease) -> bytes | None:
        """Fetch the metadata of a file; None where its index does not have it."""
        limit_bytes = self._holdings.files.metadata_limit_bytes
        return await fetch_job_metadata(self._run.access.session, job, limit_bytes, lease)

    async def _download(self, work: ProjectWork, fetch: Fetch, size: int | None) -> None:
        """Fetch a file within its room in staging.

        A file of unlisted size that turns out to be larger gives its room back and waits for more,
        so that no two files wait for each other.
        """
        await self._holdings.writer.begin()
        room, key = self._room, self._jobs.key_of(work, fetch)
        size = fetch.file.size if size is None else size
        while True:
            await room.take(key, size)
            try:
                return await self._download_into_room(work, fetch, size)
            except TooLarge as exc:
                if not self._jobs.has_outgrown(fetch, exc):
                    raise
                most, _ = self._jobs.size_limit()
                # one that has come to be larger than it was announced gets all that there is
                larger = min(exc.size_bytes or most, most) if size is None else most
            finally:
                await room.give_back(key, size)
            size = larger

    async def _download_into_room(self, work: ProjectWork, fetch: Fetch, size: int | None) -> None:
        session, files = self._run.access.session, self._holdings.files
        lease = session.metadata_memory.lease()
        with lease.body():  # until the recorder has taken the metadata
            job = self._jobs.job_of(work, fetch, size)
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
            blob = await files.place_early(staged, filename)
        except TreeError as exc:
            if not files.fails_alone(exc):
                raise
            await staged.discard()
            return Failed(work=work, failure=work.failure(filename, exc.reason, str(exc), fetch))
        return BlobPlaced(work=work, fetch=fetch, blob=blob, metadata=metadata)


async def fits_held(files: TreeFiles, rehash: Rehash) -> bool:
    """Return whether digests that appeared later match the held bytes."""
    return await has_digests(files, rehash.held.sha256, rehash.held.filename, rehash.expected)
