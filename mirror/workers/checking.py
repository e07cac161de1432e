"""Checks of blobs in worker processes, one for each core, or in threads of this process.

Threads gain nothing on small files, which are bound by the interpreter's lock, and each hand-over
costs as much as a check: so a batch of blobs goes to a process at once.

Invariants: a worker only reads, and its facts about a blob are of known types (``channel``); the
blobs of a worker that is lost are checked in this process; a worker ends within a moment of the end
of its socket, also in the middle of a large file.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import msgspec

from mirror.core.names import Sha256
from mirror.logs import get_logger
from mirror.tree.checking.blobs import BlobCheck, Progress, check_blob
from mirror.tree.layout import Layout
from mirror.workers.channel import LENGTH_BYTES, Channel, Codec
from mirror.workers.fork_server import ForkedProcess, ForkServer

_log = get_logger(__name__)

BATCH_FILES: Final = 64
BATCH_BYTES: Final = 8 << 20
"""Of one hand-over: some hundredths of a second, which is how soon progress is seen and a stop is
heeded.
"""
_AT_MOST: Final = 8
"""Maximum number of processes."""
_AHEAD: Final = 2
"""Number of batches for each process, so that none waits for the next one."""


class BlobQuestion(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A blob to check, as the state records it."""

    sha256: Sha256
    filename: str
    size: int
    metadata_sha256: str | None
    is_vouched: bool


class _Order(msgspec.Struct, frozen=True, array_like=True):
    root: bytes
    metadata_limit_bytes: int
    blobs: tuple[BlobQuestion, ...]


class _Progressed(msgspec.Struct, frozen=True, array_like=True, tag=True):
    count: int


class _Checked(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The answer to the oldest order."""

    checks: tuple[BlobCheck, ...]


_ORDERS = msgspec.msgpack.Decoder(_Order)
_ENCODER = msgspec.msgpack.Encoder()
_MAIN_END = Codec(
    encode=_ENCODER.encode, decode=msgspec.msgpack.Decoder(_Progressed | _Checked).decode
)


class GaveUpError(Exception):
    """Nobody waits for the result any more."""


def serve(connection: socket.socket, pending_bytes: memoryview, slot: int) -> None:
    """Check the blobs of each order, until the other end closes the connection."""
    del pending_bytes, slot  # nothing is written
    ended = select.poll()
    ended.register(connection, select.POLLRDHUP | select.POLLHUP)

    def progress(count: int) -> None:
        if ended.poll(0):
            raise GaveUpError
        _send(connection, _Progressed(count))

    while message := _receive(connection):
        order = _ORDERS.decode(message)
        layout = Layout(Path(os.fsdecode(order.root)))
        try:
            checks = _check_all(layout, order.metadata_limit_bytes, progress, order.blobs)
        except GaveUpError:
            return
        _send(connection, _Checked(checks))


def _check_all(
    layout: Layout, limit_bytes: int, progress: Progress, blobs: Sequence[BlobQuestion]
) -> tuple[BlobCheck, ...]:
    return tuple(
        check_blob(
            layout,
            blob.sha256,
            blob.filename,
            blob.size,
            blob.metadata_sha256,
            limit_bytes,
            is_vouched=blob.is_vouched,
            progress=progress,
        )
        for blob in blobs
    )


def _send(connection: socket.socket, message: object) -> None:
    data = _ENCODER.encode(message)
    connection.sendall(len(data).to_bytes(LENGTH_BYTES, "big") + data)


def _receive(connection: socket.socket) -> bytes:
    """Return the next message; nothing at the end of the connection."""
    length = _receive_exactly(connection, LENGTH_BYTES)
    return _receive_exactly(connection, int.from_bytes(length, "big"))


def _receive_exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            return b""
        data += more
    return data


class Checkers:
    """Checks batches of blobs, several at a time. ``count_bytes`` is called as bytes are hashed."""

    def __init__(
        self, layout: Layout, metadata_limit_bytes: int, count_bytes: Callable[[int], None]
    ) -> None:
        self._layout, self._limit_bytes = layout, metadata_limit_bytes
        self._count_bytes = count_bytes
        self._members: list[_Checker] = []
        self._is_closed = False

    @property
    def width(self) -> int:
        """Number of batches to check at a time."""
        return len(self._members) * _AHEAD or len(os.sched_getaffinity(0))

    async def start(self, fork_server: ForkServer) -> None:
        """Fork a process for each core."""
        for _ in range(min(len(os.sched_getaffinity(0)), _AT_MOST)):
            process = fork_server.fork()
            if process is not None:
                self._members.append(_Checker(process, self._count_bytes))
                await self._members[-1].channel.connect(process.connection)

    async def check(self, blobs: Sequence[BlobQuestion]) -> Sequence[BlobCheck]:
        """Return the result for each blob. Raises ``TreeError`` for a fault of this process."""
        alive = [member for member in self._members if member.is_alive]
        if alive:
            order = _Order(os.fsencode(self._layout.root), self._limit_bytes, tuple(blobs))
            checks = await min(alive, key=lambda member: member.load_bytes).check(order)
            if checks is not None:
                return checks
        counted = 0
        count_soon = partial(_call_soon, self._count_bytes)

        def progress(count: int) -> None:
            nonlocal counted
            if self._is_closed:
                raise GaveUpError
            counted += count
            count_soon(count)

        work = partial(_check_all, self._layout, self._limit_bytes, progress, blobs)
        # Only read, so it may be left alone when the run is interrupted.
        found = await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
        self._count_bytes(sum(check.bytes_read for check in found) - counted)
        return found

    def close(self) -> None:
        """End the processes, and what threads still hash."""
        self._is_closed = True
        for member in self._members:
            member.end()


def _call_soon(function: Callable[[int], None], count: int) -> None:
    """Call a function in the event loop, from a thread."""
    anyio.from_thread.run_sync(function, count)


class _Checker:
    """One worker process. It answers orders one after the other."""

    def __init__(self, process: ForkedProcess, count_bytes: Callable[[int], None]) -> None:
        self.is_alive = True
        self.load_bytes = 0
        self.channel = Channel(self._take, self._lost, _MAIN_END)
        self._process, self._count_bytes = process, count_bytes
        self._waiting: list[_PendingOrder] = []
        self._counted = 0

    async def check(self, order: _Order) -> Sequence[BlobCheck] | None:
        """Return the results; None where the process is lost."""
        answer = _PendingOrder(sum(blob.size for blob in order.blobs))
        self._waiting.append(answer)
        self.load_bytes += answer.weight_bytes
        self.channel.send(order)
        await answer.has_come.wait()
        return answer.checks

    def end(self) -> None:
        """End the process; what waits for it gets no results."""
        if self.is_alive:
            self.is_alive = False
            self._process.end()
            self.channel.close()
        waiting, self._waiting = self._waiting, []
        for answer in waiting:
            answer.has_come.set()

    def _take(self, message: _Progressed | _Checked) -> None:
        if isinstance(message, _Progressed):
            self._counted += message.count
            self._count_bytes(message.count)
            return
        answer = self._waiting.pop(0)
        self.load_bytes -= answer.weight_bytes
        self._count_bytes(sum(check.bytes_read for check in message.checks) - self._counted)
        self._counted = 0
        answer.checks = message.checks
        answer.has_come.set()

    def _lost(self) -> None:
        if self.is_alive:
            _log.warning(
                "check_process.lost",
                problem="it was killed or has failed; its files are checked here",
            )
        self._count_bytes(-self._counted)
        self._counted = 0
        self.end()


class _PendingOrder:
    def __init__(self, weight_bytes: int) -> None:
        self.weight_bytes = weight_bytes
        self.has_come = anyio.Event()
        self.checks: Sequence[BlobCheck] | None = None
