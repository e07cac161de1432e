"""Connections: time limits, the maximum number for each client, and their log lines.

A request's header must be complete in time; a client that takes no byte of its answer for a while
is disconnected, however many it got before. A request that aiohttp's parser refuses is answered,
with one debug line and no traceback.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final

import msgspec
from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.http_exceptions import BadHttpMethod
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest
from aiohttp.web_server import Server

from mirror.logs import get_logger
from mirror.serve.answers import ALLOWED, NO_UPLOADS
from mirror.serve.connections.addresses import Address, Network, client_key, parse_address
from mirror.serve.connections.shared import Counters
from mirror.serve.requests.target import shown_path
from mirror.serve.sending import BodyAnswer, unacknowledged

HEADER_LIMIT_S: Final = 10.0
STALL_LIMIT_S: Final = 60.0
WATCH_EVERY_S: Final = 5.0
_KEEPALIVE_S: Final = 75.0
_DISCARD_S: Final = 2.0
_OTHER_METHOD: Final = re.compile(r"b['\"][A-Za-z0-9!#$%&*+.^_|~-]{1,40} [^ ]+ HTTP/1\.[01]['\"]")
"""A whole request line in the message of aiohttp's parser, which repeats it."""
_LINGER_S: Final = 30.0
"""How long the body of a request that is refused is read, so that the client sees the answer."""

Handler = Callable[[BaseRequest], Awaitable[web.StreamResponse]]

_log = get_logger(__name__)


class ConnectionLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of a connection. 0 connections: no limit."""

    connections_per_client: int
    header_s: float
    """Until a request's header is complete."""
    stall_s: float
    """Maximum time for which a client takes no byte."""
    uncounted: tuple[Network, ...] = ()
    """Networks whose connections are not counted: those of trusted proxies."""


class Connections(Server):
    """All connections of one process."""

    def __init__(self, handler: Handler, *, limits: ConnectionLimits, counters: Counters) -> None:
        super().__init__(
            handler,
            access_log=True,
            access_log_class=_AccessLog,
            keepalive_timeout=_KEEPALIVE_S,
            lingering_time=_LINGER_S,
            auto_decompress=False,
        )
        self.limits = limits
        self.counters = counters
        self.is_draining = False
        self.open: set[Connection] = set()

    def __call__(self) -> Connection:
        """Return the protocol of a new connection."""
        return Connection(self, loop=self._loop, **self._kwargs)

    def drain(self, *, at_once: bool) -> None:
        """Finish the requests under way, then close each connection; idle ones are closed now, or
        after the time for a header.
        """
        self.is_draining = True
        for connection in list(self.open):
            connection.drain(at_once=at_once)

    async def watch(self) -> None:
        """Disconnect clients that take no bytes, until cancelled."""
        while True:
            await asyncio.sleep(min(WATCH_EVERY_S, self.limits.stall_s / 4))
            now_s = asyncio.get_running_loop().time()
            for connection in list(self.open):
                connection.cut_if_stalled(now_s)


class Connection(RequestHandler):
    """One connection."""

    __slots__ = (
        "_answer",
        "_discarding",
        "_header_timer",
        "_is_answering",
        "_key",
        "_marker",
        "_moved_s",
        "_request_key",
        "_server",
        "address",
        "is_excess",
    )

    def __init__(self, manager: Connections, **options: Any) -> None:
        super().__init__(manager, **options)
        self._server = manager
        self.address: Address | None = None
        self.is_excess = False
        """Whether its client has too many."""
        self._key: str | None = None
        self._request_key: str | None = None
        self._is_answering = False
        self._discarding: asyncio.Future[None] | None = None
        self._header_timer: asyncio.TimerHandle | None = None
        self._answer: web.StreamResponse | None = None
        self._marker: tuple[int, ...] | None = None
        self._moved_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection and begin to wait for its first request."""
        peer = transport.get_extra_info("peername")
        self.address = parse_address(peer[0]) if isinstance(peer, tuple) else None
        self._server.open.add(self)
        self._server.counters.connected(1)
        self._count()
        self._await_header()
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Release everything that the connection holds."""
        self._stop_timer()
        if self._discarding is not None and not self._discarding.done():
            self._discarding.set_result(None)
        self._server.open.discard(self)
        self._server.counters.connected(-1)
        if self._key is not None:
            self._server.counters.leave(self._key)
            self._key = None
        self.end_request()
        if isinstance(self._answer, BodyAnswer):
            self._answer.stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Receive bytes; the time for a header begins with its first byte and ends with its
        last.
        """
        if self._discarding is not None:
            return
        before = self._request_count
        super().data_received(data)
        if self._request_count != before or self._current_request is not None or self._messages:
            self._stop_timer()
        elif self._header_timer is None and data:
            self._await_header()

    def begin_request(self, client: Address | None) -> bool:
        """Record that a request is being answered, until ``end_request``. Return whether a client
        behind a trusted proxy has too many of them.

        A client without a proxy has its connections counted instead.
        """
        self.end_request()
        self._is_answering = True
        limit = self._server.limits.connections_per_client
        is_forwarded = client is not None and client != self.address
        if not limit or not is_forwarded or client is None or client.is_loopback:
            return False
        if self.transport is None:
            return False
        self._request_key = client_key(client)
        return self._server.counters.enter(self._request_key) > limit

    def end_request(self) -> None:
        """Record that the answer was sent, or has failed."""
        is_last = self._is_answering and self._server.is_draining
        self._is_answering = False
        if is_last and self.transport is not None and self._header_timer is None:
            self._await_header()
        if self._request_key is not None:
            self._server.counters.leave(self._request_key)
            self._request_key = None

    def began(self, answer: web.StreamResponse) -> None:
        """Record which answer is on its way."""
        self._answer = answer

    @property
    def is_draining(self) -> bool:
        """Whether the process ends: no further request is answered here."""
        return self._server.is_draining

    def cut_if_stalled(self, now_s: float) -> None:
        """Cut the connection where its client has taken nothing for too long."""
        transport = self.transport
        connection = transport.get_extra_info("socket") if transport is not None else None
        if transport is None or connection is None:
            return
        waiting = transport.get_write_buffer_size() + unacknowledged(connection)
        sent = self._answer.position if isinstance(self._answer, BodyAnswer) else 0
        marker = (waiting, sent)
        if not waiting or marker != self._marker:
            self._marker, self._moved_s = marker, now_s
        elif now_s - self._moved_s >= self._server.limits.stall_s:
            _log.info(
                "connection.cut",
                client=str(self.address),
                reason="the client took no byte",
                waiting=waiting,
            )
            transport.abort()

    def drain(self, *, at_once: bool) -> None:
        """Close after the request under way; an idle one immediately, or after the time for a
        header.
        """
        if self._is_answering or self._messages:
            return
        if at_once and self._request_count and self._header_timer is None:
            self.close()
        elif self._header_timer is None:
            self._await_header()

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request that the parser refused (400; 405 for a method that it does not know),
        or a bug (500).
        """
        if status < 500:
            _log.debug("request.malformed", client=str(self.address), problem=type(exc).__name__)
        else:
            _log.error("request.failed", path=shown_path(request.message.path), exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("a part of the answer was sent")
        text = (
            "The request is malformed.\n"
            if status < 500
            else "Something went wrong here: see the log.\n"
        )
        headers = {
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Server": "mirror",
        }
        if isinstance(exc, BadHttpMethod) and _OTHER_METHOD.search(message or ""):
            status, text, headers = 405, NO_UPLOADS, headers | ALLOWED
        answer = _LastAnswer(status=status, text=text, headers=headers)
        answer.force_close()
        return answer

    async def discard_input(self) -> None:
        """Close the sending side and read without looking, for a moment at most.

        A client that still sends a refused request would lose the answer with the connection.
        """
        transport = self.transport
        if transport is None or not transport.can_write_eof():
            return
        self._discarding = asyncio.get_running_loop().create_future()
        transport.write_eof()
        transport.resume_reading()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DISCARD_S):
                await self._discarding

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log an exception that aiohttp could not handle: a bug."""
        _log.error(
            "connection.failed", problem=str(args[0]) if args else "", exc_info=kw.get("exc_info")
        )

    def _count(self) -> None:
        limits, address = self._server.limits, self.address
        if not limits.connections_per_client or address is None or address.is_loopback:
            return
        if any(address in network for network in limits.uncounted):
            return
        self._key = client_key(address)
        self.is_excess = self._server.counters.enter(self._key) > limits.connections_per_client

    def _await_header(self) -> None:
        self._header_timer = self._loop.call_later(
            self._server.limits.header_s, self._header_is_late
        )

    def _header_is_late(self) -> None:
        self._header_timer = None
        _log.debug("connection.cut", client=str(self.address), reason="no whole request in time")
        self.force_close()

    def _stop_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None


class _LastAnswer(web.Response):
    """The answer to a request that may still be on its way."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Send the rest, then let the client read it."""
        connection = self._req.protocol if self._req is not None else None
        await super().write_eof(data)
        if isinstance(connection, Connection):
            await connection.discard_input()


class _AccessLog(AbstractAccessLogger):
    """One line for each request, and its numbers."""

    @property
    def enabled(self) -> bool:
        return True

    def log(self, request: BaseRequest, response: web.StreamResponse, time: float) -> None:
        if isinstance(response, BodyAnswer):
            sent = response.sent_bytes
        else:
            has_body = request.method != "HEAD" and response.status != HTTPStatus.NOT_MODIFIED
            sent = response.content_length or 0 if has_body else 0
        connection = request.protocol
        assert isinstance(connection, Connection)
        connection.end_request()
        connection._server.counters.answered(response.status, sent)  # noqa: SLF001
        if request.method == "UNKNOWN":  # what the parser refused: logged where it was answered
            return
        _log.info(
            "request.answered",
            client=str(request.get("client") or connection.address or "unix"),
            method=request.method,
            path=shown_path(request.message.path),
            status=response.status,
            bytes=sent,
            ms=round(time * 1000, 1),
            agent=request.headers.get("User-Agent", ""),
        )
