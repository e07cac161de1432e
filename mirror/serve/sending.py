"""The bytes of an open file on their way to a client: by sendfile, or through TLS in pieces.

A client that takes nothing for a while is cut off by the connection's watch (``protocol``), never by how long it takes in all.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import struct
import termios
from typing import Final

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.web_request import BaseRequest

_AT_ONCE: Final = 1 << 20
_PIECE: Final = 256 << 10


class FileAnswer(web.StreamResponse):
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
