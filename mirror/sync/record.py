"""Record finished files, in batches: place the bytes, make them durable, record the rows, publish
complete pages.

One task, the only writer. While one batch is written to the disk the next one is collected, so that
many files share the cost of a sync. The order within a batch is the order of writes
(``docs/explanation/order-of-writes.md``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import anyio
import anyio.to_thread
import msgspec

from mirror.core.diff import Fetch, FetchMetadata, HeldFile, Rehash
from mirror.core.files.distributions import is_wheel
from mirror.core.model import Digests
from mirror.core.names import ProjectName, Sha256
from mirror.errors import Reason, TreeError
from mirror.holdings.holdings import Holdings
from mirror.logs import EventLogger, gathered_lines, get_logger
from mirror.publishing.publisher import Publisher
from mirror.state.blobs.durability import record_unsure
from mirror.state.entries.changes import (
    Placed,
    ProjectRecord,
    record_changes,
    record_missing,
    record_offered,
)
from mirror.state.entries.held import HeldBlob, load_blobs
from mirror.state.entries.offered import Offered, load_first
from mirror.state.missing.ledger import Failure, record_failures
from mirror.state.missing.sights import ProjectSights, record_sights
from mirror.sync.work import ProjectWork
from mirror.tree.files import PlacedBlob
from mirror.tree.staging import StagedFile

_log = get_logger(__name__)

_WAITING = 512
"""Maximum number of queued events."""
_WAITING_BYTES = 32 * 1024 * 1024
"""Maximum number of bytes of finished files that wait in memory; later files wait in staging."""
_REPLACED_AT_ONCE = 16
"""Maximum number of files at a time that are put over others in an object store."""
_BATCH = 512
_MANY = 8
_GATHER_S = 0.05
"""After a large batch, wait this long before taking the next: a batch has a fixed cost (thread
switches, one sync).
"""


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """A project's work begins: changes without a download are recorded immediately, a yank first of
    all.
    """

    work: ProjectWork


class FileStaged(msgspec.Struct, frozen=True, kw_only=True):
    """A file is whole and checked. ``metadata``: of a file that is no wheel."""

    work: ProjectWork
    fetch: Fetch
    staged: StagedFile
    metadata: bytes | None = None

    @property
    def in_memory(self) -> int:
        """How many bytes it takes in memory."""
        return self.staged.in_memory + len(self.metadata or b"")


class BlobPlaced(msgspec.Struct, frozen=True, kw_only=True):
    """A worker process has placed a file; it is not durable yet.

    ``metadata``: of a file that is no wheel.
    """

    work: ProjectWork
    fetch: Fetch
    blob: PlacedBlob
    metadata: bytes | None = None


class BlobReused(msgspec.Struct, frozen=True, kw_only=True):
    """A wanted file is held already as a blob."""

    work: ProjectWork
    fetch: Fetch
    size: int
    metadata_sha256: Sha256 | None
    """A wheel's own; for another file the stored one, if this page lists it."""


class DigestCompared(msgspec.Struct, frozen=True, kw_only=True):
    """A digest that appeared later was compared with the held bytes."""

    work: ProjectWork
    rehash: Rehash
    is_same: bool = True
    """False: the digest is of other bytes, which ``on-replace = "keep"`` refuses."""


class MetadataFetched(msgspec.Struct, frozen=True, kw_only=True):
    """The metadata of a held file was requested; None where it can't be fetched."""

    work: ProjectWork
    wanted: FetchMetadata
    metadata: bytes | None


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """A file could not be fetched."""

    work: ProjectWork
    failure: Failure


_Sidecars = dict[tuple[int, Sha256, str], Sha256]
"""(project id, sha256, filename) -> sha256 of the metadata that its page may offer."""

_Placed = list[tuple[FileStaged | BlobPlaced, PlacedBlob]]
_Refused = list[tuple[FileStaged | BlobPlaced, TreeError]]
_Recorded = Mapping[tuple[str, str], HeldBlob]

Event = Begun | FileStaged | BlobPlaced | BlobReused | DigestCompared | MetadataFetched | Failed


class Recorder:
    """The stage behind all crawls and downloads of a cycle."""

    def __init__(
        self, holdings: Holdings, publisher: Publisher, *, has_overlays: bool = False
    ) -> None:
        """``has_overlays``: whether an index adds files to the projects of another."""
        self._holdings, self._publisher = holdings, publisher
        self._has_overlays = has_overlays
        self._send, self._receive = anyio.create_memory_object_stream[Event](
            max_buffer_size=_WAITING
        )
        self._is_closed = False
        self._is_pressing = anyio.Event()
        """Set when there is no room, or no event follows: collecting for longer would only delay
        others.
        """
        self._waiting_bytes = 0
        self._entered = anyio.Event()
        """Something that waited in memory was entered."""
        self._has_ended = False
        # Bound once: a module's own logger is a proxy that reads the configuration for each event.
        self._log = _log.bind()

    async def put(self, event: Event) -> None:
        """Queue one event; waits while the queue is full.

        A cancellation waits too: an event is taken whole or not at all.
        """
        if (
            isinstance(event, FileStaged)
            and self._waiting_bytes + event.staged.in_memory > _WAITING_BYTES
        ):
            await anyio.to_thread.run_sync(event.staged.flush)
        if isinstance(event, FileStaged | MetadataFetched):
            # A worker process sends small metadata only.
            await self._wait_for_room(len(event.metadata or b""))
        self._waiting_bytes += _bytes_of(event)
        try:
            try:
                self._send.send_nowait(
                    event
                )  # most of the time there is room: to wait costs several times as much
            except anyio.WouldBlock:
                self._is_pressing.set()
                with anyio.CancelScope(shield=True):
                    await self._send.send(event)
        except anyio.BrokenResourceError:
            # The recorder ended first; the error that ended it cancels this task soon, and is
            # reported by itself.
            await anyio.sleep_forever()

    async def _wait_for_room(self, metadata_bytes: int) -> None:
        """Wait until metadata fits into memory; unlike a file, it can't wait in staging."""
        most = max(0, _WAITING_BYTES - metadata_bytes)
        while metadata_bytes and self._waiting_bytes > most and not self._has_ended:
            self._is_pressing.set()
            await self._entered.wait()

    def close(self) -> None:
        """End the queue: no event follows."""
        self._send.close()
        self._is_closed = True
        self._is_pressing.set()

    def end(self) -> None:
        """Close the stream, also where ``run`` was cancelled before it began."""
        self._receive.close()
        self._has_ended = True
        self._entered.set()

    async def run(self) -> None:
        """Record batches until ``close`` was called and everything is recorded."""
        batch: list[Event] = []
        is_busy = False
        async with self._receive:
            try:
                while True:
                    try:
                        batch = [await self._receive.receive()]
                    except anyio.EndOfStream:
                        return
                    if is_busy and not self._is_closed:
                        with anyio.move_on_after(_GATHER_S):
                            await self._is_pressing.wait()
                    self._is_pressing = anyio.Event()
                    events, batch = self._gather(batch), []
                    is_busy = len(events) >= _MANY
                    await self._enter(events)
            except anyio.get_cancelled_exc_class():
                await self._enter_the_last(batch)
                raise
            finally:
                self._has_ended = True
                self._entered.set()
                await _put_aside(self._gather([]))

    async def _enter_the_last(self, batch: Sequence[Event]) -> None:
        """Record the files that workers have placed when all is cancelled; the senders end too, and
        close the stream.
        """
        with anyio.CancelScope(shield=True):
            rest = [*batch, *[event async for event in self._receive]]
            await _put_aside(rest)
            placed = [event for event in rest if not isinstance(event, FileStaged)]
            if any(isinstance(event, BlobPlaced) for event in placed):
                await self._enter_batch(placed)

    def _gather(self, batch: list[Event]) -> list[Event]:
        while len(batch) < _BATCH:
            try:
                batch.append(self._receive.receive_nowait())
            except (anyio.WouldBlock, anyio.EndOfStream):
                break
        return batch

    async def _enter(self, batch: Sequence[Event]) -> None:
        # Once begun, a batch is entered whole: bytes that are placed and not recorded would be
        # fetched again.
        with anyio.CancelScope(shield=True):
            works = await self._enter_batch(batch)
        finished = [work for work in works if work.progress.pending == 0]
        await self._close_finished(finished)
        for work in finished:
            work.release()

    async def _enter_batch(self, batch: Sequence[Event]) -> list[ProjectWork]:
        arrived = [e for e in batch if isinstance(e, FileStaged)]
        delivered = [e for e in batch if isinstance(e, BlobPlaced)]
        in_memory = sum(map(_bytes_of, batch))
        try:
            placed, refused = await self._place_all(arrived, delivered)
        except BaseException:
            await _put_aside(arrived)
            raise
        drafts: dict[int, _Draft] = {}
        for event in batch:
            draft = drafts.get(event.work.row.id)
            if draft is None:
                draft = drafts[event.work.row.id] = _Draft(event.work, self._log)
            draft.add(event)
        completed = [e for e in batch if isinstance(e, MetadataFetched)]
        for event, error in refused:
            failure = event.work.failure(
                event.fetch.file.filename, error.reason, str(error), event.fetch
            )
            drafts[event.work.row.id].add(Failed(work=event.work, failure=failure))
        await _put_aside([event for event, _ in refused])
        offered = await self._place_metadata(completed, placed)
        self._waiting_bytes -= in_memory
        entered, self._entered = self._entered, anyio.Event()
        entered.set()
        with gathered_lines():  # one line for each file
            for came, blob in placed:
                problem = _metadata_problem(came.fetch, blob)
                digest = offered.get(
                    (came.work.row.id, blob.sha256, blob.filename), blob.metadata_sha256
                )
                drafts[came.work.row.id].add_placed(
                    came.fetch, msgspec.structs.replace(blob, metadata_sha256=digest), problem
                )
        await self._record(list(drafts.values()))
        await self._complete(completed, offered)
        return [d.work for d in drafts.values()]

    async def _place_all(
        self, arrived: Sequence[FileStaged], delivered: Sequence[BlobPlaced]
    ) -> tuple[_Placed, _Refused]:
        """Move the files to their places that are not there yet, and make all durable.

        Return the placed files, in order, and the files whose own directory can't take them.
        """
        if not arrived and not delivered:
            return [], []
        placed, refused = await anyio.to_thread.run_sync(self._place, arrived, delivered)
        store = self._holdings.store
        recorded = await load_blobs(store, [(blob.sha256, blob.filename) for _, blob in placed])
        if recorded:
            unsure = await anyio.to_thread.run_sync(self._find_unsure, placed, recorded)
            await record_unsure(store, unsure)
            recorded = {pair: blob for pair, blob in recorded.items() if pair not in unsure}
        if any(blob.aside is not None for _, blob in placed):
            placed = await anyio.to_thread.run_sync(self._replace, placed, recorded, refused)
        if placed:
            await anyio.to_thread.run_sync(self._holdings.files.sync, [blob for _, blob in placed])
        return placed, refused

    def _find_unsure(self, placed: _Placed, recorded: _Recorded) -> set[tuple[str, str]]:
        """Return the recorded blobs that were missing or damaged before their files arrived."""
        known = [(blob, recorded.get((blob.sha256, blob.filename))) for _, blob in placed]
        files = self._holdings.files
        return {
            (blob.sha256, blob.filename)
            for blob, record in known
            if record is not None and not files.is_whole(blob, record)
        }

    def _replace(self, placed: _Placed, durable: _Recorded, refused: _Refused) -> _Placed:
        """Move files from staging over files at their paths that are not durable."""
        files = self._holdings.files

        def replace(item: tuple[FileStaged | BlobPlaced, PlacedBlob]) -> PlacedBlob | TreeError:
            blob = item[1]
            try:
                known = durable.get((blob.sha256, blob.filename))
                return blob if blob.aside is None else files.replace(blob, known)
            except TreeError as exc:
                if not files.fails_alone(exc):
                    raise
                return exc

        kept: _Placed = []
        with ThreadPoolExecutor(_REPLACED_AT_ONCE if files.places_early else 1) as threads:
            for (event, _), result in zip(placed, threads.map(replace, placed), strict=True):
                if isinstance(result, TreeError):
                    refused.append((event, result))
                else:
                    kept.append((event, result))
        return kept

    def _place(
        self, arrived: Sequence[FileStaged], delivered: Sequence[BlobPlaced]
    ) -> tuple[_Placed, _Refused]:
        files = self._holdings.files
        placed: _Placed = []
        refused: _Refused = []
        for event in arrived:
            try:
                placed.append((event, files.place(event.staged, event.fetch.file.filename)))
            except TreeError as exc:
                if not files.fails_alone(exc):
                    raise
                refused.append((event, exc))
        placed += [(event, event.blob) for event in delivered]
        return placed, refused

    async def _place_metadata(
        self,
        completed: Sequence[MetadataFetched],
        brought: Sequence[tuple[FileStaged | BlobPlaced, PlacedBlob]],
    ) -> _Sidecars:
        """Write fetched metadata into sidecars and make it durable; return the metadata that may be
        offered.

        Only the first that was ever published for a file: any other is left aside, whoever lists
        it.
        """
        fetched = [
            *(
                (e.work, e.wanted.held.sha256, e.wanted.held.filename, e.metadata)
                for e in completed
            ),
            *((e.work, blob.sha256, blob.filename, e.metadata) for e, blob in brought),
        ]
        found = [
            (work, sha256, name, data) for work, sha256, name, data in fetched if data is not None
        ]
        if not found:
            return {}
        first = await load_first(
            self._holdings.store, [(sha256, name) for _, sha256, name, _ in found]
        )
        offered: _Sidecars = {}
        placed: dict[tuple[Sha256, str], bytes] = {}
        for work, sha256, name, data in found:
            digest = Sha256(hashlib.sha256(data).hexdigest())
            if first.setdefault((sha256, name), digest) == digest:
                offered[work.row.id, sha256, name] = digest
                placed[sha256, name] = data
            else:
                _log.warning(
                    "metadata.refused",
                    index=work.run.name,
                    project=work.row.name,
                    filename=name,
                    cause="other metadata than was published for it first",
                )
        recorded = await load_blobs(self._holdings.store, placed)
        lost = await anyio.to_thread.run_sync(self._find_without_sidecar, list(recorded.values()))
        await record_unsure(self._holdings.store, lost)
        await anyio.to_thread.run_sync(self._place_sidecars, placed, recorded)
        return offered

    def _find_without_sidecar(self, recorded: Sequence[HeldBlob]) -> list[tuple[str, str]]:
        """Return the blobs whose recorded sidecar is missing or damaged."""
        has_sidecar = self._holdings.files.has_sidecar
        described = [(b.sha256, b.filename, b.metadata_sha256) for b in recorded]
        return [
            (s, name)
            for s, name, digest in described
            if digest and not has_sidecar(s, name, digest)
        ]

    def _place_sidecars(
        self, found: Mapping[tuple[Sha256, str], bytes], recorded: _Recorded
    ) -> None:
        files = self._holdings.files
        placed = []
        for (sha256, name), data in found.items():
            known = recorded.get((sha256, name))
            digest = files.place_sidecar(
                sha256, name, data, recorded=None if known is None else known.metadata_sha256
            )
            placed.append(PlacedBlob(sha256=sha256, filename=name, size=0, metadata_sha256=digest))
        files.sync(placed)

    async def _complete(self, completed: Sequence[MetadataFetched], offered: _Sidecars) -> None:
        """Record the metadata of files that were held already, and mark the pages that show it."""
        found: list[tuple[ProjectName, Offered]] = []
        for event in completed:
            row, held = event.work.row, event.wanted.held
            digest = offered.get((row.id, held.sha256, held.filename))
            if digest is not None:
                entered = Offered(
                    sha256=held.sha256,
                    filename=held.filename,
                    project=row.id,
                    metadata_sha256=digest,
                )
                found.append((row.name, entered))
                event.work.progress.shows = True
        if found:
            await record_offered(
                self._holdings.store, found, cycle=self._holdings.cycle, now=self._holdings.clock()
            )

    async def _record(self, drafts: Sequence[_Draft]) -> None:
        store, cycle = self._holdings.store, self._holdings.cycle
        now = self._holdings.clock()
        records = [d.record() for d in drafts if d.changes or (self._has_overlays and d.claims)]
        if records:
            await record_changes(
                store, records, cycle=cycle, now=now, has_overlays=self._has_overlays
            )
        await record_sights(store, [d.sights for d in drafts if d.sights.seen])
        missing = {d.work.row.id: d.missing for d in drafts if d.missing}
        if missing:
            await record_missing(store, missing, cycle=cycle)
        failures = [f for d in drafts for f in d.failures]
        await record_failures(store, failures, [c for d in drafts for c in d.closed()], now=now)

    async def _close_finished(self, works: Sequence[ProjectWork]) -> None:
        names = {w.row.name for w in works if w.progress.shows}
        pages_seen = [w.asked.page_seen for w in works if w.asked.page_seen is not None]
        if names or pages_seen:
            await self._publisher.publish(names, pages_seen)


class _Draft:
    """The records of one batch for one project."""

    def __init__(self, work: ProjectWork, log: EventLogger) -> None:
        self.work = work
        self._log = log
        self.failures: list[Failure] = []
        self.missing: tuple[HeldFile, ...] = ()
        self._begun = False
        self._placed: list[Placed] = []
        self._touched: list[Rehash] = []
        self._refused: list[tuple[HeldFile, Digests]] = []
        self._succeeded: list[str] = []

    def add(self, event: Event) -> None:
        """Take one event into account, except the bytes of a finished file."""
        work = self.work
        match event:
            case Begun():
                self._begun = True
                self.missing = work.asked.change.missing
                for failure in work.asked.failures:
                    self._fail(failure)
            case BlobReused(fetch=fetch):
                blob = PlacedBlob(
                    sha256=Sha256(dict(fetch.file.digests)["sha256"]),
                    filename=fetch.file.filename,
                    size=event.size,
                    metadata_sha256=event.metadata_sha256,
                )
                self.add_placed(fetch, blob, None)
            case DigestCompared(rehash=rehash, is_same=is_same):
                if is_same:
                    self._touched.append(rehash)
                else:
                    self._refused.append((rehash.held, rehash.file.digests))
                self._done(rehash.file.filename)
            case MetadataFetched(wanted=wanted):
                self._done(wanted.file.filename)
            case Failed(failure=failure):
                self._fail(failure)
                self._finish_one()
            case FileStaged() | BlobPlaced():
                pass

    def add_placed(self, fetch: Fetch, blob: PlacedBlob, problem: str | None) -> None:
        """Add a file whose bytes are in their place."""
        run = self.work.run
        self.work.progress.brought += 1
        self._placed.append(
            Placed(
                file=fetch.file,
                sha256=blob.sha256,
                size=blob.size,
                metadata_sha256=blob.metadata_sha256,
                summary=blob.summary,
            )
        )
        if fetch.replaces is not None and fetch.replaces.sha256 != blob.sha256:
            run.counters.files_replaced += 1
        else:
            run.counters.files_new += 1
        if not self.work.progress.has_placed:
            self.work.progress.has_placed = True
            run.counters.projects_fetched += 1
        self._log.info(
            "file.placed",
            index=run.name,
            project=self.work.row.name,
            filename=blob.filename,
            size=blob.size,
        )
        if problem:
            _log.warning(
                "file.metadata",
                index=run.name,
                project=self.work.row.name,
                filename=blob.filename,
                problem=problem,
            )
        self._done(blob.filename)

    @property
    def sights(self) -> ProjectSights:
        """The first sights to record."""
        work = self.work
        seen = work.asked.sights if self._begun else {}
        return ProjectSights(project=work.row.id, seen=seen, listed=work.asked.sighted)

    @property
    def changes(self) -> bool:
        """Whether any row of the project changes."""
        change = self.work.asked.change
        return bool(self._placed or self._touched or self._refused) or (
            self._begun
            and bool(
                change.relabel
                or change.meta
                or change.touch
                or change.refuse
                or change.missing
                or change.returned
            )
        )

    @property
    def claims(self) -> bool:
        """Whether a page that was just read lists files that can't be fetched: no overlay may add
        them either.
        """
        return not self.work.is_retry and any(f.filename for f in self.failures)

    def record(self) -> ProjectRecord:
        """Return the record for the transaction, and remember that it marks the page."""
        work, change = self.work, self.work.asked.change
        touch = tuple((r.held, r.file) for r in self._touched)
        refuse = (*self._refused, *(change.refuse if self._begun else ()))
        own = ProjectRecord(
            project=work.row.id,
            source=work.run.source.id,
            name=work.row.name,
            placed=tuple(self._placed),
            relabel=change.relabel if self._begun else (),
            meta=change.meta if self._begun else None,
            touch=(*touch, *(change.touch if self._begun else ())),
            refuse=refuse,
            returned=change.returned if self._begun else (),
        )
        self._log_refused(refuse)
        work.progress.shows = work.progress.shows or own.shows
        return own

    def closed(self) -> list[tuple[int, str, str]]:
        """Return the ledger rows that close."""
        work = self.work
        if not work.row.has_failures:
            return []
        names = [*self._succeeded, *(work.asked.closed if self._begun else ())]
        return [(work.run.source.id, work.row.name, name) for name in names]

    def _log_refused(self, refuse: Sequence[tuple[HeldFile, Digests]]) -> None:
        for held, digests in refuse:
            _log.warning(
                "file.replacement_refused",
                index=self.work.run.name,
                project=self.work.row.name,
                filename=held.filename,
                held=held.sha256,
                listed=dict(digests).get("sha256"),
            )

    def _done(self, filename: str) -> None:
        self._finish_one()
        self._succeeded.append(filename)

    def _finish_one(self) -> None:
        self.work.progress.pending -= 1
        self.work.run.counters.files_done += 1

    def _fail(self, failure: Failure) -> None:
        run = self.work.run
        self.failures.append(failure)
        if failure.reason is not Reason.WITHHELD and failure.filename:
            run.counters.files_failed += 1
            self.work.progress.failed += 1
        _log.warning(
            "file.failed" if failure.filename else "page.failed",
            index=run.name,
            project=failure.project,
            filename=failure.filename or None,
            reason=failure.reason.value,
            detail=failure.detail,
        )


def _bytes_of(event: Event) -> int:
    """Return how many bytes an event takes in memory."""
    match event:
        case FileStaged():
            return event.in_memory
        case BlobPlaced() | MetadataFetched():
            return len(event.metadata or b"")
    return 0


async def _put_aside(events: Sequence[Event]) -> None:
    """Keep finished but unplaced files in staging, for the next cycle; no file stays open."""
    for event in events:
        if isinstance(event, FileStaged):
            await event.staged.keep()


def _metadata_problem(fetch: Fetch, blob: PlacedBlob) -> str | None:
    """Return the fault of a file's metadata, or None. The wheel's own always counts."""
    if blob.metadata_problem is not None:
        return f"no metadata can be served for it: {blob.metadata_problem}"
    advertised = dict(fetch.file.metadata or ()).get("sha256") if is_wheel(blob.filename) else None
    if advertised and blob.metadata_sha256 and advertised != blob.metadata_sha256:
        return (
            "the index advertises other metadata than the wheel contains; the wheel's own is served"
        )
    return None
