"""The bytes of an open file on their way to a client: by sendfile, or through TLS in pieces.

A client that takes nothing for a while is cut off by the connection's watch (``protocol``), never
by how long it takes in all.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import struct
import termios
from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.web_request import BaseRequest

from mirror.serve.answers import plain
from mirror.serve.requests.conditions import (
    ByteRange,
    JoinedHeaders,
    Unsatisfiable,
    format_date,
    is_unchanged,
    select_part,
)

FILE_CACHING: Final = "max-age=31536000, immutable"
_AT_ONCE: Final = 1 << 20
_PIECE: Final = 256 << 10


class SelectedPart(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a file that answers a request, with status and headers."""

    first: int
    end: int
    status: HTTPStatus
    headers: dict[str, str]


def answer_part(
    request: BaseRequest, *, size: int, modified: float, etag: str
) -> web.Response | SelectedPart:
    """Return the part of a file that a request asks for, or an answer without it (304, 416)."""
    headers = {
        "Content-Type": "application/octet-stream",
        "ETag": etag,
        "Last-Modified": format_date(modified),
        "Cache-Control": FILE_CACHING,
        "Accept-Ranges": "bytes",
    }
    headers_in = JoinedHeaders(request.headers)
    if is_unchanged(headers_in, etag=etag, modified=modified):
        return unchanged(headers)
    part = None
    if request.method == "GET":  # the only method with ranges (RFC 9110, 14.2)
        part = select_part(headers_in, size=size, etag=etag, modified=modified)
    if isinstance(part, Unsatisfiable):
        answer = plain(
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            "The range begins past the end of the file.\n",
        )
        answer.headers["Content-Range"] = f"bytes */{size}"
        return answer
    if part is None:
        return SelectedPart(first=0, end=size, status=HTTPStatus.OK, headers=headers)
    assert isinstance(part, ByteRange)
    headers["Content-Range"] = f"bytes {part.first}-{part.end - 1}/{size}"
    status = HTTPStatus.PARTIAL_CONTENT
    return SelectedPart(first=part.first, end=part.end, status=status, headers=headers)


def unchanged(headers: dict[str, str]) -> web.Response:
    """Return the answer to a client that has this representation."""
    kept = {
        name: value
        for name, value in headers.items()
        if name not in {"Content-Type", "Content-Encoding"}
    }
    return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=kept)


class BodyAnswer(web.StreamResponse):
    """An answer whose body is read while it is sent."""

    @property
    def position(self) -> int:
        """Up to where the connection has taken the body."""
        raise NotImplementedError

    @property
    def sent_bytes(self) -> int:
        """How many bytes were sent."""
        raise NotImplementedError

    def stop(self) -> None:
        """Give up: the connection is gone."""


class FileAnswer(BodyAnswer):
    """A part of an open file as an answer; the descriptor is closed when it was sent or failed."""

    def __init__(
        self, descriptor: int, *, first: int, end: int, status: int, headers: dict[str, str]
    ) -> None:
        super().__init__(status=status, headers=headers)
        self.content_length = end - first
        self._descriptor, self._first, self._end = descriptor, first, end
        self._begin = first
        self._waiter: asyncio.Future[None] | None = None

    @property
    def position(self) -> int:
        """Up to where the kernel has taken the file."""
        return self._first

    @property
    def sent_bytes(self) -> int:
        """How many bytes were sent."""
        return self._first - self._begin

    def stop(self) -> None:
        """Give up: the connection is gone."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ConnectionResetError("the connection is gone"))

    async def prepare(self, request: BaseRequest) -> AbstractStreamWriter | None:
        """Send the headers and the bytes."""
        try:
            writer = await super().prepare(request)
            if request.method != "HEAD":
                await self._send(request)
        finally:
            self.close()
        return writer

    def close(self) -> None:
        """Close the file, if it is open."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    async def _send(self, request: BaseRequest) -> None:
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError
        if transport.get_extra_info("sslcontext") is not None:
            await self._send_pieces()
            return
        # Bytes that the transport still holds must go first; a limit of 0 makes drain wait for all
        # of them.
        transport.set_write_buffer_limits(high=0)
        await request.protocol._drain_helper()  # noqa: SLF001 - as aiohttp's own writer does
        await self._send_natively(transport)

    async def _send_natively(self, transport: asyncio.Transport) -> None:
        # A duplicate descriptor: the loop refuses to watch one that a transport has.
        own = os.dup(transport.get_extra_info("socket").fileno())
        try:
            while self._first < self._end:
                if transport.is_closing():
                    raise ConnectionResetError
                try:
                    sent = os.sendfile(
                        own, self._descriptor, self._first, min(self._end - self._first, _AT_ONCE)
                    )
                except BlockingIOError:
                    await self._writable(own)
                    continue
                if not sent:
                    transport.abort()
                    raise ConnectionResetError("the file became shorter")
                self._first += sent
                await asyncio.sleep(0)
        finally:
            os.close(own)

    async def _writable(self, descriptor: int) -> None:
        loop = asyncio.get_running_loop()
        ready = self._waiter = loop.create_future()
        loop.add_writer(descriptor, _finish, ready)
        try:
            await ready
        finally:
            loop.remove_writer(descriptor)
            self._waiter = None

    async def _send_pieces(self) -> None:
        loop = asyncio.get_running_loop()
        while self._first < self._end:
            size = min(self._end - self._first, _PIECE)
            own = os.dup(self._descriptor)
            piece = await loop.run_in_executor(None, _read_and_close, own, size, self._first)
            if not piece:
                raise ConnectionResetError("the file became shorter")
            await self.write(piece)
            self._first += len(piece)


def _read_and_close(descriptor: int, size: int, offset: int) -> bytes:
    try:
        return os.pread(descriptor, size, offset)
    finally:
        os.close(descriptor)


def _finish(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def unacknowledged(connection: socket.socket) -> int:
    """Return the number of bytes in the kernel that the client has not taken; 0 where unknown."""
    try:
        return int(
            struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0]
        )
    except OSError:
        return 0
