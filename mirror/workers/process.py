"""The work of a worker process: it fetches the files and pages of its jobs, and checks and places
the files.

It decides nothing: the choice of files, the meaning of a refusal, records and publishing stay with
the main process. It exits immediately when its socket is closed; files that it had placed without a
report are the same as after a kill.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
from collections.abc import Callable
from functools import partial
from typing import Final

import anyio
import anyio.to_thread
import msgspec

from mirror.errors import AccessDenied, MirrorError, TooLarge, TreeError, lacks_threads
from mirror.holdings.tree import TreeFiles
from mirror.logs import forward_log, get_logger, register_secret
from mirror.tree.files import FileStore, PlacedBlob
from mirror.tree.staging import StagedFile
from mirror.upstream.access import RefusedRequest
from mirror.upstream.credentials import Credential
from mirror.upstream.index import IndexClient, Read
from mirror.upstream.session import IndexSession
from mirror.workers.channel import Channel
from mirror.workers.concurrency import AdaptiveLimit, next_of, work_through
from mirror.workers.messages import (
    WORKER_END,
    FetchOrder,
    JobOutcome,
    KnownPage,
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
    pack_answer,
)
from mirror.workers.transfer import fetch_to_staging

_LARGE_PAGE_BYTES: Final = 512 * 1024
"""A larger page, some thousand files, is read again by the process that asked for it: many would
fill its memory.
"""
_LARGE_METADATA_BYTES: Final = 512 * 1024
"""Larger metadata is fetched again by the process that asked for the file."""
_GATHER_S: Final = 0.005
_MOST_GATHERED: Final = 32
_MOST_GATHERED_BYTES: Final = 8 << 20
"""Files that finish within this window are placed and reported as one batch; batching costs a fifth
less CPU than alternating between receiving and placing for each file.
"""
_REPORT_EVERY_S: Final = 0.3
"""How often traffic is reported while no file finishes."""


def serve(connection: socket.socket, pending_bytes: memoryview, slot: int) -> None:
    """Serve the process at the other end of ``connection`` until it closes it."""
    os.umask(0)  # see FileStore: all files of this process get their mode when they are made

    async def run() -> None:
        await _WorkerProcess(pending_bytes, slot).run(connection)

    anyio.run(run)


class _HandedCredential:
    """The credential that the main process sends."""

    def __init__(self, opened: Orders) -> None:
        self.kept = opened.credential
        self._described = opened.credential_from
        if self.kept is not None:
            register_secret(self.kept.header)

    def describe(self) -> str:
        return self._described

    async def load(self) -> Credential | None:
        return self.kept

    refresh = load  # only the process that judges refusals reads the source

    def take(self, renewed: NewCredential) -> None:
        """Use another one from now on."""
        self.kept = renewed.credential
        if renewed.credential is not None:
            register_secret(renewed.credential.header)


class _Judgement:
    """Asks the main process for the meaning of a refusal."""

    def __init__(self, channel: Channel, send_report: Callable[[], None]) -> None:
        """``send_report`` reports earlier outcomes first: only so can the main process count
        consecutive refusals.
        """
        self._channel, self._send_report = channel, send_report
        self._last_number = 0
        self._answered: dict[int, anyio.Event] = {}
        self._answers: dict[int, RefusalAnswer] = {}

    async def judge(self, refusal: RefusedRequest) -> AccessDenied | None:
        """Return the item's or the index's error; None where the request is to be repeated.

        Raises ``MirrorError``.
        """
        self._last_number += 1
        number, answered = self._last_number, anyio.Event()
        self._answered[number] = answered
        self._send_report()
        self._channel.send(RefusalMet(number=number, refusal=refusal))
        await answered.wait()
        error = self._answers.pop(number).error
        if error is not None and not isinstance(error, AccessDenied):
            raise error
        return error

    def take(self, judged: RefusalAnswer) -> None:
        """Pass on an answer."""
        self._answers[judged.number] = judged
        self._answered.pop(judged.number).set()


class _WorkerProcess:
    """The worker's end of the connection: takes messages, and starts with the first one."""

    def __init__(self, pending_bytes: memoryview, slot: int) -> None:
        self._pending_bytes, self._slot = pending_bytes, slot
        self._send_file, self._files = anyio.create_memory_object_stream[FetchOrder](math.inf)
        self._send_page, self._pages = anyio.create_memory_object_stream[tuple[int, KnownPage]](
            math.inf
        )
        self._opened: Orders | None = None
        self._is_open = anyio.Event()
        self._scope = anyio.CancelScope()
        self._credential: _HandedCredential | None = None
        self._judgement: _Judgement | None = None
        self._work: _WorkerJobs | None = None

    async def run(self, connection: socket.socket) -> None:
        self._channel = Channel(self._take, lambda: os._exit(0), WORKER_END)
        await self._channel.connect(connection)
        forward_log(lambda line: self._channel.send(LogLine(line=line)))
        await self._is_open.wait()
        opened = self._opened
        assert opened is not None
        try:
            with self._scope:
                await self._begin(opened)
        except MirrorError as exc:
            # The worker could not start; the main process then does the work itself, and reports
            # the cause there.
            get_logger(__name__).info(
                "fetch_process.failed", index=opened.index.name, problem=str(exc)
            )
            return
        if self._work is None or self._work.send_report_or_end():
            self._channel.send(Stopped())
        await anyio.sleep_forever()

    def _take(self, message: object) -> None:
        match message:
            case FetchOrder():
                self._send_file.send_nowait(message)
            case ReadPages(first=first, pages=pages):
                for number, page in enumerate(pages, first):
                    self._send_page.send_nowait((number, page))
            case NewCredential() if self._credential is not None:
                self._credential.take(message)
            case RefusalAnswer() if self._judgement is not None:
                self._judgement.take(message)
            case Open():
                self._opened = orders = message.read()
                self._credential = _HandedCredential(orders)
                self._judgement = _Judgement(self._channel, self._send_report)
                self._is_open.set()
            case Stop():
                self._scope.cancel()
                self._is_open.set()

    def _send_report(self) -> None:
        if self._work is not None:
            self._work.send_report_or_end()

    async def _begin(self, opened: Orders) -> None:
        assert self._credential is not None
        assert self._judgement is not None
        limits = opened.limits
        local = FileStore(
            opened.layout,
            metadata_limit_bytes=limits.metadata_size,
            disk_reserve_bytes=limits.disk_reserve,
            pending_bytes=self._pending_bytes,
            slot=self._slot,
            in_threads=False,
            has_no_umask=True,
            resumes_in_place=opened.store is not None,
        )
        files: TreeFiles = local
        if opened.store is not None:
            files = await anyio.to_thread.run_sync(_in_store, local, opened.store)
        session = IndexSession(
            opened.index,
            limits,
            self._credential,
            os.environ,
            retry_policy=opened.retry_policy,
            own_reach=opened.own_reach,
            judge=self._judgement.judge,
        )
        async with session, anyio.create_task_group() as tasks:
            await session.prepare()
            client = IndexClient(session, opened.index, limits)
            self._work = work = _WorkerJobs(self._channel, session, client, files)
            tasks.start_soon(work.send_traffic_periodically)

            def width(start: int) -> AdaptiveLimit:
                return AdaptiveLimit(
                    start=start, maximum=limits.max_connections, pushbacks=lambda: session.pushback
                )

            tasks.start_soon(
                work_through, partial(next_of, self._files), work.fetch, width(limits.downloads)
            )
            tasks.start_soon(
                work_through, partial(next_of, self._pages), work.read_page, width(limits.pages)
            )


def _in_store(local: FileStore, place: StorePlace) -> TreeFiles:
    """Open a client of this process's own: one of its parent would hang here."""
    # 8 ms, only for a tree in an object store
    from mirror.holdings.store_writer import WorkerGate
    from mirror.tree.objects.client import ObjectClient
    from mirror.tree.objects.files import ObjectFiles

    client = ObjectClient(
        place.address,
        os.environ,
        connect_timeout_s=place.connect_timeout_s,
        stall_timeout_s=place.stall_timeout_s,
    )
    return ObjectFiles(local, client, WorkerGate(place.conditions))


class _Arrived(msgspec.Struct, frozen=True, kw_only=True):
    """A small file that is whole and checked, and not in its place yet."""

    number: int
    filename: str
    staged: StagedFile
    metadata: bytes | None
    has_large_metadata: bool


class _WorkerJobs:
    """Does jobs, and reports their outcomes; failures are judged by the main process."""

    def __init__(
        self, channel: Channel, session: IndexSession, client: IndexClient, files: TreeFiles
    ) -> None:
        self._channel, self._session, self._client, self._files = channel, session, client, files
        self._arrived: list[_Arrived] = []
        self._arrived_bytes = 0
        self._outcomes: list[JobOutcome | int] = []
        self._is_report_due = False

    async def fetch(self, ordered: FetchOrder) -> None:
        """Fetch a file."""
        number, job = ordered.number, ordered.job
        filename = job.request.filename
        lease = self._session.metadata_memory.lease()
        try:
            with lease.body():
                staged, metadata = await fetch_to_staging(self._session, self._files, job, lease)
                is_large = metadata is not None and len(metadata) > _LARGE_METADATA_BYTES
                metadata = None if is_large else metadata
            if staged.in_memory == staged.written and not self._files.places_early:
                # To hand a small file to a thread would cost more than to place it, and only other
                # downloads wait.
                arrived = _Arrived(
                    number=number,
                    filename=filename,
                    staged=staged,
                    metadata=metadata,
                    has_large_metadata=is_large,
                )
                self._arrived.append(arrived)
                self._arrived_bytes += staged.in_memory + len(metadata or b"")
            else:
                blob = await self._place_large(staged, filename)
                outcome = JobOutcome(
                    number=number, blob=blob, metadata=metadata, has_large_metadata=is_large
                )
                self._outcomes.append(outcome)
        except Exception as exc:  # noqa: BLE001 - a bug on one file or page is a failure of its project, not of the cycle
            self._outcomes.append(self._failed(number, exc))
        self._send_report_soon()

    async def read_page(self, asked: tuple[int, KnownPage]) -> None:
        """Read a page."""
        number, page = asked
        try:
            validators = page.validators
            answer = await self._client.fetch_project(page.name, validators, page.address)
            known = (validators, page.origin)
            if isinstance(answer, Read) or (answer.validators, answer.origin) != known:
                packed = pack_answer(answer)
                self._outcomes.append(
                    JobOutcome(
                        number=number, page=packed if len(packed) <= _LARGE_PAGE_BYTES else None
                    )
                )
            else:
                self._outcomes.append(number)
        except (TooLarge, MemoryError):
            self._outcomes.append(JobOutcome(number=number))  # with the limits of this process
        except Exception as exc:  # noqa: BLE001 - as above
            self._outcomes.append(self._failed(number, exc))
        self._send_report_soon()

    def _send_report(self) -> None:
        """Place the files that have arrived, and report everything since the last report."""
        self._place_arrived()
        outcomes, self._outcomes = tuple(self._outcomes), []
        traffic = self._session.take_traffic()
        has_served = self._session.take_has_served()
        if outcomes or has_served or traffic is not None:
            self._channel.send(
                WorkerReport(traffic=traffic, has_served=has_served, outcomes=outcomes)
            )

    def _send_report_soon(self) -> None:
        if len(self._arrived) >= _MOST_GATHERED or self._arrived_bytes >= _MOST_GATHERED_BYTES:
            self.send_report_or_end()
        elif not self._is_report_due:
            self._is_report_due = True
            asyncio.get_running_loop().call_later(_GATHER_S, self.send_report_or_end)

    def send_report_or_end(self) -> bool:
        """Report the outcomes; where even that fails, log the bug, end this process soon, and
        return False.
        """
        self._is_report_due = False
        try:
            self._send_report()
        except Exception:  # noqa: BLE001 - a bug: the main process must see that no outcome follows
            get_logger(__name__).exception("fetch_process.crashed", index=self._session.name)
            asyncio.get_running_loop().call_soon(os._exit, 1)  # after the line is written
            return False
        return True

    def _failed(self, number: int, error: Exception) -> JobOutcome:
        if isinstance(error, MirrorError):
            return JobOutcome(number=number, error=error)
        if isinstance(error, MemoryError) or lacks_threads(error):
            # No failure of this file: the main process does the work of a worker that is lost.
            get_logger(__name__).info(
                "fetch_process.failed", index=self._session.name, problem=repr(error)
            )
            asyncio.get_running_loop().call_soon(os._exit, 1)
            return JobOutcome(number=number, bug=type(error).__name__)
        get_logger(__name__).error(
            "fetch_process.crashed", index=self._session.name, exc_info=error
        )
        return JobOutcome(number=number, bug=type(error).__name__)

    async def send_traffic_periodically(self) -> None:
        """Report traffic periodically, also while no file finishes."""
        while True:
            await anyio.sleep(_REPORT_EVERY_S)
            self.send_report_or_end()

    def _place_arrived(self) -> None:
        arrived, self._arrived, self._arrived_bytes = self._arrived, [], 0
        for file in arrived:
            try:
                blob = self._files.place(file.staged, file.filename)
                outcome = JobOutcome(
                    number=file.number,
                    blob=blob,
                    metadata=file.metadata,
                    has_large_metadata=file.has_large_metadata,
                )
                self._outcomes.append(outcome)
            except Exception as exc:  # noqa: BLE001 - as above
                self._outcomes.append(self._failed(file.number, exc))
                with contextlib.suppress(TreeError):  # the disk refuses even that
                    file.staged.forget()

    async def _place_large(self, staged: StagedFile, filename: str) -> PlacedBlob:
        try:
            return await self._files.place_early(staged, filename)
        except BaseException:
            await staged.keep()
            raise
