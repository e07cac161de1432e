"""Messages between two processes of this program, in order; both ends are trusted, so that they may
contain any value.
"""

from __future__ import annotations

import asyncio
import pickle
import socket
import threading
from collections.abc import Callable
from typing import Final, Self

_LENGTH_BYTES: Final = 4


class Channel(asyncio.Protocol):
    """One end of a connected socket. ``on_message`` and ``on_end`` are called in the event loop, and must not wait."""

    def __init__(self, on_message: Callable[[object], None], on_end: Callable[[], None]) -> None:
        self._on_message, self._on_end = on_message, on_end
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._is_closed = self._has_ended = False
        self._received = bytearray()
        self._unsent: list[bytes] = []

    @classmethod
    async def open(
        cls,
        connection: socket.socket,
        on_message: Callable[[object], None],
        on_end: Callable[[], None],
    ) -> Self:
        """Take over a connected socket of the kind that ``socketpair`` makes."""
        channel = cls(on_message, on_end)
        await channel.connect(connection)
        return channel

    async def connect(self, connection: socket.socket) -> None:
        """Take over a connected socket; messages, and its end, may arrive before this returns."""
        await self._loop.create_unix_connection(lambda: self, sock=connection)

    def send(self, message: object) -> None:
        """Send a message, from any thread; all of one turn of the event loop leave together."""
        if threading.get_ident() != self._thread:
            self._loop.call_soon_threadsafe(self.send, message)
            return
        data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent += (len(data).to_bytes(_LENGTH_BYTES, "big"), data)

    def close(self) -> None:
        """Close the connection; the other end sees its end."""
        self._is_closed = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport (asyncio)."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._is_closed:
            transport.abort()
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Pass on each complete message (asyncio)."""
        self._received += data
        start = 0
        while len(self._received) - start >= _LENGTH_BYTES:
            end = (
                start
                + _LENGTH_BYTES
                + int.from_bytes(self._received[start : start + _LENGTH_BYTES], "big")
            )
            if len(self._received) < end:
                break
            message = pickle.loads(memoryview(self._received)[start + _LENGTH_BYTES : end])  # noqa: S301 - from ourselves
            start = end
            self._on_message(message)
        if start:
            del self._received[:start]

    def connection_lost(self, exc: Exception | None) -> None:
        """Report that the other end is gone (asyncio)."""
        del exc
        self._transport = None
        self._has_ended = True
        self._on_end()

    def _flush(self) -> None:
        if self._transport is None and not self._has_ended:
            return  # not connected yet
        if self._transport is not None:
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()
