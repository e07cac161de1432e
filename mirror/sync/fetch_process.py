"""What a forked process does: it fetches the files that it is told to, checks them, and puts them in their places; and pages.

It decides nothing: which files, whether a credential is renewed, what is recorded and published stays with the process that
asked. It ends at once when its socket is closed; what it had placed and not told of is the same as after a kill.
"""

from __future__ import annotations

import asyncio
import math
import os
import socket
from typing import Final

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from mirror.errors import MirrorError
from mirror.logs import forward_log, get_logger, register_secret
from mirror.sync.arrival import FetchJob, bring
from mirror.sync.channel import Channel
from mirror.sync.messages import LookJob, Open, Ordered, Outcome, Renew, Renewed, Said, Stop, Stopped, Told
from mirror.sync.pool import Width, work_through
from mirror.tree.files import FileStore, PlacedBlob
from mirror.upstream.credentials import Credential
from mirror.upstream.index import IndexClient, Read
from mirror.upstream.session import IndexSession

_MOST_LISTED: Final = 10_000
"""A page with more files would take longer to hand over than to read it again."""
_GATHER_S: Final = 0.005
"""Files that end within so long of each other are told of together."""
_TELL_EVERY_S: Final = 0.3
"""How often it is told that bytes move, where no file ends."""


def serve(connection: socket.socket, promises: memoryview, own: int) -> None:
    """Serve the process at the other end of ``connection`` until it closes it."""

    async def run() -> None:
        await _FetchProcess(promises, own).run(connection)

    anyio.run(run)


class _HandedCredential:
    """The credential as it is handed to us; a new one is asked for where it came from."""

    def __init__(self, channel: Channel, opened: Open) -> None:
        self.kept = opened.credential
        self._channel = channel
        self._described = opened.credential_from
        self._answer: Renewed | None = None
        self._answered = anyio.Event()

    def describe(self) -> str:
        return self._described

    async def load(self) -> Credential | None:
        return self.kept

    async def refresh(self) -> Credential | None:
        self._answered = anyio.Event()
        self._channel.send(Renew(used=self.kept))
        await self._answered.wait()
        answer = self._answer
        assert answer is not None
        if answer.error is not None:
            raise answer.error
        return self.kept

    def take(self, answer: Renewed) -> None:
        """Use what was handed over, asked for or not."""
        if answer.error is None:
            self.kept = answer.credential
            if answer.credential is not None:
                register_secret(answer.credential.header)
        self._answer = answer
        self._answered.set()


class _FetchProcess:
    """Our end of the connection: takes messages, and begins with the first one."""

    def __init__(self, promises: memoryview, own: int) -> None:
        self._promises, self._own = promises, own
        self._send, self._receive = anyio.create_memory_object_stream[Ordered](math.inf)
        self._opened: Open | None = None
        self._is_open = anyio.Event()
        self._scope = anyio.CancelScope()
        self._credential: _HandedCredential | None = None
        self._work: _Work | None = None

    async def run(self, connection: socket.socket) -> None:
        self._channel = await Channel.open(connection, self._take, lambda: os._exit(0))
        forward_log(lambda line: self._channel.send(Said(line=line)))
        await self._is_open.wait()
        opened = self._opened
        assert opened is not None
        try:
            with self._scope:
                await self._begin(opened)
        except MirrorError as exc:
            # It could not even begin; whoever asked does the work itself, and is told why there.
            get_logger(__name__).info("fetch_process.failed", index=opened.index.name, problem=str(exc))
            return
        if self._work is not None:
            self._work.tell()
        self._channel.send(Stopped())
        await anyio.sleep_forever()

    def _take(self, message: object) -> None:
        match message:
            case Ordered(job=LookJob()) if self._work is not None:
                self._work.start(message)  # before all files that wait: pages are what brings more
            case Ordered():
                self._send.send_nowait(message)
            case Renewed() if self._credential is not None:
                self._credential.take(message)
            case Open():
                self._opened = message
                self._credential = _HandedCredential(self._channel, message)
                self._is_open.set()
            case Stop():
                self._scope.cancel()
                self._is_open.set()

    async def _begin(self, opened: Open) -> None:
        assert self._credential is not None
        limits = opened.limits
        files = FileStore(
            opened.layout,
            metadata_limit_bytes=limits.metadata_size,
            disk_reserve_bytes=limits.disk_reserve,
            promises=self._promises,
            own=self._own,
            in_threads=False,
        )
        session = IndexSession(opened.index, limits, self._credential, os.environ, retry_policy=opened.retry_policy)
        async with session, anyio.create_task_group() as tasks:
            await session.prepare()
            client = IndexClient(session, opened.index, limits)
            self._work = _Work(self._channel, session, client, files, tasks)
            tasks.start_soon(self._work.tell_that_bytes_move)
            width = Width(start=limits.downloads, maximum=limits.max_connections, pushbacks=lambda: session.pushback)
            await work_through(self._receive.receive, self._work.do, width)


class _Work:
    """Does jobs, and tells what came of them; what fails here is judged by who asked for it."""

    def __init__(
        self, channel: Channel, session: IndexSession, client: IndexClient, files: FileStore, tasks: TaskGroup
    ) -> None:
        self._channel, self._session, self._client, self._files, self._tasks = channel, session, client, files, tasks
        self._outcomes: list[Outcome] = []

    def start(self, ordered: Ordered) -> None:
        """Begin a job beside the others."""
        self._tasks.start_soon(self.do, ordered)

    async def do(self, ordered: Ordered) -> None:
        """Do a job."""
        try:
            outcome = await self._outcome_of(ordered)
        except MirrorError as exc:
            outcome = Outcome(number=ordered.number, error=exc)
        except Exception as exc:  # noqa: BLE001 - a bug on one file or page is a failure of its project, not of the cycle
            get_logger(__name__).exception("fetch_process.crashed", index=self._session.name)
            outcome = Outcome(number=ordered.number, bug=type(exc).__name__)
        if isinstance(ordered.job, LookJob):
            asyncio.get_running_loop().call_soon(self.tell)  # somebody waits for it
        elif not self._outcomes:
            asyncio.get_running_loop().call_later(_GATHER_S, self.tell)
        self._outcomes.append(outcome)

    def tell(self) -> None:
        """Say what was done since the last time."""
        outcomes, self._outcomes = tuple(self._outcomes), []
        traffic = self._session.take_traffic()
        if outcomes or traffic is not None:
            self._channel.send(Told(traffic=traffic, outcomes=outcomes))

    async def tell_that_bytes_move(self) -> None:
        """Say it now and then, also where no file ends."""
        while True:
            await anyio.sleep(_TELL_EVERY_S)
            self.tell()

    async def _outcome_of(self, ordered: Ordered) -> Outcome:
        job, number = ordered.job, ordered.number
        if isinstance(job, FetchJob):
            return Outcome(number=number, blob=await self._bring(job))
        look = await self._client.fetch_project(job.name, job.validators)
        if isinstance(look, Read) and len(look.page.files) > _MOST_LISTED:
            return Outcome(number=number)
        return Outcome(number=number, look=look)

    async def _bring(self, job: FetchJob) -> PlacedBlob:
        staged, metadata = await bring(self._session, self._files, job)
        filename = job.request.filename
        try:
            if staged.in_memory == staged.written:
                # A small file: to hand it to a thread would cost more than to place it, and only other downloads wait.
                return self._files.place(staged, filename, metadata)
            return await anyio.to_thread.run_sync(self._files.place, staged, filename, metadata)
        except BaseException:
            await staged.keep()
            raise
