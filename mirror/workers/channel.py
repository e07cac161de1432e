"""Messages between two processes of this program, in order, as MessagePack.

Invariant: each end decodes only the types of messages that it expects, strictly. Bytes that are
none of them end the connection, and run no code: a worker reads answers of an index, and its
messages are trusted as little as those.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import Any, Final, Self

import msgspec

from mirror.logs import get_logger

_log = get_logger(__name__)

LENGTH_BYTES: Final = 4


class Codec(msgspec.Struct, frozen=True, kw_only=True):
    """The bytes of the messages at one end."""

    encode: Callable[[object], bytes]
    decode: Callable[[memoryview], Any]
    """Of the messages that the other end may send. Raises ``msgspec.DecodeError`` for all
    others.
    """


class Channel(asyncio.Protocol):
    """One end of a connected socket.

    ``on_message`` and ``on_end`` are called in the event loop, and must not wait.
    """

    def __init__(
        self,
        on_message: Callable[[Any], None],
        on_end: Callable[[], None],
        codec: Codec,
    ) -> None:
        self._on_message, self._on_end = on_message, on_end
        self._encode, self._decode = codec.encode, codec.decode
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
        on_message: Callable[[Any], None],
        on_end: Callable[[], None],
        codec: Codec,
    ) -> Self:
        """Take over a connected socket of the kind that ``socketpair`` makes."""
        channel = cls(on_message, on_end, codec)
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
        data = self._encode(message)
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent += (len(data).to_bytes(LENGTH_BYTES, "big"), data)

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
        while len(self._received) - start >= LENGTH_BYTES:
            end = (
                start
                + LENGTH_BYTES
                + int.from_bytes(self._received[start : start + LENGTH_BYTES], "big")
            )
            if len(self._received) < end:
                break
            try:
                message = self._decode(memoryview(self._received)[start + LENGTH_BYTES : end])
            except msgspec.DecodeError as exc:
                _log.error("channel.malformed", problem=str(exc))
                self._received.clear()
                self.close()
                return
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
