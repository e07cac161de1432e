"""One answer of an upstream, and every way in which it can fail; aiohttp's exceptions end here.

Invariants: a body is read in pieces, as received (never decoded); a cause is built from the kind of
the failure and the system's words, never from aiohttp's own text, which quotes URLs with their
queries.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextvars import ContextVar
from typing import Any, Protocol

import aiohttp
import anyio
from multidict import CIMultiDictProxy

from mirror.errors import MirrorError, Unavailable
from mirror.upstream.connections.descriptors import open_files_error
from mirror.upstream.limits.memory import PageLease

MIN_BYTES_PER_S = 1024
"""Minimum average rate of a body after the first stall-timeout; a slower one is given up."""

FREE_BYTES = 64 * 1024
"""A shorter body needs no room of its own in ``PageMemory``."""
DRAIN_BYTES = 64 * 1024
"""The body of a redirect or an error is read up to here, so that its connection can be used
again.
"""

TRANSPORT_FAILURES = (aiohttp.ClientError, TimeoutError, OSError)


_RESETS = frozenset({errno.ECONNRESET, errno.ECONNABORTED, errno.ETIMEDOUT})


on_sent: ContextVar[Callable[[], None]] = ContextVar("on_sent")
"""Called when the request of this task is on its way, and its answer is waited for."""


class PeerResponse(aiohttp.ClientResponse):
    """Remembers the peer's address: the connection of a short answer is gone before its caller
    could ask.
    """

    peer: str | None = None

    def start(self, connection: Any) -> Coroutine[Any, Any, aiohttp.ClientResponse]:
        """Record the peer's address, signal that the request is sent, then read the headers."""
        transport = connection.transport
        name = None if transport is None else transport.get_extra_info("peername")
        self.peer = str(name[0]) if isinstance(name, tuple) and name else None
        on_sent.get()()
        return super().start(connection)


class BodyWatch(Protocol):
    """Supervises the reading of a body: its deadline, its rate, its counters."""

    def expect_bytes_within(self, limit_s: float, url: str) -> None:
        """Cancel the request unless ``expect_anything`` is called in time."""

    def expect_anything(self) -> None:
        """The expected bytes have arrived: end the deadline."""

    def count_failure(self, exc: Exception) -> None:
        """The body broke off."""

    def take(self, length: int) -> Awaitable[None] | None:
        """Count ``length`` bytes; return the wait for their rate, where there is one."""

    async def wait_for(self, room: Awaitable[None]) -> None:
        """Wait for a local resource, which counts against no deadline.

        Raises ``Unavailable`` after a long time.
        """


class Response:
    """An answer whose body is still to be read. ``url`` is the final one, after redirects."""

    __slots__ = (
        "_peeked",
        "_raw",
        "_stall_timeout_s",
        "_waited_s",
        "_watch",
        "received",
        "status",
        "url",
    )

    def __init__(
        self, raw: aiohttp.ClientResponse, url: str, *, stall_timeout_s: float, watch: BodyWatch
    ) -> None:
        self._raw = raw
        self._stall_timeout_s = stall_timeout_s
        self._watch = watch
        self._waited_s = 0.0
        self._peeked: list[bytes] = []
        self.status = raw.status
        self.url = url
        self.received = 0

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        """The answer's headers; names in any case."""
        return self._raw.headers

    @property
    def content_length(self) -> int | None:
        """The length that the answer announces, or None."""
        text = self._raw.headers.get("Content-Length", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None

    @property
    def has_known_end(self) -> bool:
        """Whether a cut body would be noticed: it has a length, or announced chunks (RFC 9112,
        6.3).
        """
        return (
            self.content_length is not None
            or "chunked" in self._raw.headers.get("Transfer-Encoding", "").lower()
        )

    async def read_chunk(self) -> bytes:
        """Return the next bytes of the body, empty at its end.

        Raises ``Unavailable`` (cut, too slow).

        A body that stalls is cancelled; the caller that made the request reports the cause.
        """
        if self._peeked:
            return self._peeked.pop(0)
        asked_at = time.monotonic()
        content = self._raw.content
        try:
            chunk = content.read_nowait()
            if not chunk and not content.at_eof():
                # aiohttp's own deadline restarts with every input, also with input that is no byte
                # of a body: the extensions of a chunk's head have no end.
                self._watch.expect_bytes_within(self._stall_timeout_s, self.url)
                chunk = await content.readany()
                self._watch.expect_anything()
        except TRANSPORT_FAILURES as exc:
            self._watch.count_failure(exc)
            raise failure_of(exc, self.url, timeout_s=self._stall_timeout_s) from None
        self._waited_s += time.monotonic() - asked_at
        if not chunk:
            return chunk
        self.received += len(chunk)
        if (
            self._waited_s > self._stall_timeout_s
            and self.received < MIN_BYTES_PER_S * self._waited_s
        ):
            self._watch.count_failure(TimeoutError())
            raise Unavailable(
                url=self.url, cause=f"the body came slower than {MIN_BYTES_PER_S} bytes a second"
            )
        rate = self._watch.take(len(chunk))
        if rate is not None:
            await rate
        return chunk

    async def peek(self, limit_bytes: int) -> bytes:
        """Return the beginning of the body, which stays to be read. Raises as ``read_chunk``."""
        pieces: list[bytes] = []
        while sum(map(len, pieces)) < limit_bytes and (chunk := await self.read_chunk()):
            pieces.append(chunk)
        self._peeked = [*pieces, *self._peeked]
        return b"".join(pieces)

    async def wait_for(self, room: Awaitable[None]) -> None:
        """Wait for a local resource, such as memory, before more of the body is read.

        Raises ``Unavailable``.
        """
        await self._watch.wait_for(room)

    async def read_at_most(self, limit_bytes: int, lease: PageLease | None = None) -> bytes | None:
        """Return the whole body, or None when it is longer than ``limit_bytes``. Raises as
        ``read_chunk``.

        ``lease`` holds the room that a longer body needs.
        """
        body = bytearray()  # no list of pieces: each may be a single byte
        while chunk := await self.read_chunk():
            if self.received > limit_bytes:
                return None
            needed = len(body) + len(chunk)
            if lease is not None and needed > FREE_BYTES and not lease.covers(needed):
                await self.wait_for(lease.hold_body(min(4 * needed, limit_bytes)))
            body += chunk
        return bytes(body)

    async def drain(self) -> None:
        """Read a short body to its end, so that the connection stays usable; close the connection
        otherwise.
        """
        try:
            with anyio.move_on_after(self._stall_timeout_s):
                while self.received <= DRAIN_BYTES and (chunk := await self._raw.content.readany()):
                    self.received += len(chunk)
        except TRANSPORT_FAILURES:
            pass
        self.close()

    def close(self) -> None:
        """Give the connection back, or close it when the body was not read to its end."""
        self._raw.close()


def failure_of(exc: Exception, url: str, *, timeout_s: float) -> MirrorError:
    """Return the error that a failure of aiohttp or the system means for the request of ``url``."""
    if isinstance(exc, aiohttp.ClientConnectorCertificateError):
        said = exc.certificate_error
        cause = getattr(said, "verify_message", None) or "it does not fit the host"
        return Unavailable(
            url=url,
            cause=f"its TLS certificate is not trusted ({cause}); ca-file adds an authority",
        )
    cause_of_connect = exc.os_error if isinstance(exc, aiohttp.ClientConnectorError) else exc
    return open_files_error(cause_of_connect) or Unavailable(
        url=url, cause=_cause_of(exc, timeout_s)
    )


def cause_of_stall(timeout_s: float) -> str:
    """Return why a stalled answer was given up."""
    return f"no byte came for {timeout_s:g} s (stall-timeout)"


def cause_of_proxy(proxy: str | None, status: int) -> str:
    """Return why a proxy lets nothing through; 407 asks for a credential of its own (RFC 9110,
    15.5.8).
    """
    where = f" ({proxy})" if proxy else ""
    advice = ": give its user name and password in the proxy's URL" if status == 407 else ""
    return f"the proxy answered {status}{where}{advice}"


def is_pushback(exc: Exception) -> bool:
    """Whether a failure may mean that the upstream has too much to do: a timeout, a reset, a cut
    body.
    """
    if isinstance(
        exc,
        TimeoutError | aiohttp.ServerConnectionError | aiohttp.ClientPayloadError | ConnectionError,
    ):
        return True
    # aiohttp wraps a reset into an OSError of its own kind, which is no ConnectionError.
    return isinstance(exc, OSError) and exc.errno in _RESETS


def _cause_of(exc: Exception, timeout_s: float) -> str:
    match exc:
        case aiohttp.ConnectionTimeoutError():
            return "no connection within connect-timeout"
        case TimeoutError():
            return cause_of_stall(timeout_s)
        case aiohttp.ClientConnectorSSLError():
            return f"the TLS handshake failed ({_words_of(exc.os_error)})"
        case aiohttp.ClientConnectorDNSError():
            return f"the name of its host can't be resolved ({_words_of(exc.os_error)})"
        case aiohttp.ClientProxyConnectionError():
            return f"the proxy can't be reached ({_words_of(exc.os_error)})"
        case aiohttp.ClientHttpProxyError():
            return f"the proxy answered {exc.status}"
        case aiohttp.ClientConnectorError():
            return f"no connection ({_words_of(exc.os_error)})"
        case aiohttp.ServerDisconnectedError():
            return "the connection was closed without an answer"
        case aiohttp.ClientPayloadError():
            return "the body was cut or is malformed"
        case aiohttp.ClientResponseError():
            return "the answer is not valid HTTP"
        case OSError():
            return f"the connection broke ({_words_of(exc)})"
    return f"the request failed ({type(exc).__name__})"


def _words_of(exc: OSError) -> str:
    """Return the system's message, without names, addresses or URLs that a library may have
    added.
    """
    reason = getattr(exc, "reason", None)
    if isinstance(reason, str):
        return reason.replace("_", " ").lower()
    if exc.errno is not None and exc.errno > 0:
        return os.strerror(exc.errno)
    return exc.strerror or type(exc).__name__


def media_type(headers: Mapping[str, str]) -> tuple[str, str | None]:
    """Return the lower-cased media type of an answer and its ``charset``, if it names one."""
    kind, *parameters = headers.get("Content-Type", "").split(";")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return kind.strip().lower(), value.strip().strip("\"'") or None
    return kind.strip().lower(), None
