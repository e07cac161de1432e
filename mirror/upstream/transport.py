"""The connections of one index: sockets, TLS, proxies, deadlines. Sends one request, follows nothing.

Invariants: a foreign host is connected to only at addresses that ``addresses`` allows; no cookie, netrc or proxy is
taken from anywhere but our own settings; a body is never decoded on the way; a URL's bytes are sent as they are.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import aiohttp
import anyio
import anyio.to_thread
from yarl import URL

from mirror import __version__
from mirror.config import IndexConfig, Limits
from mirror.errors import RedirectRefused
from mirror.upstream.addresses import AddressRule, reach_of, reach_of_host
from mirror.upstream.proxies import Proxy, ProxyChoice
from mirror.upstream.response import TRANSPORT_FAILURES, PeerResponse, failure_of, is_pushback, on_sent
from mirror.upstream.targets import Origin, origin_of
from mirror.upstream.tls import create_tls_context

USER_AGENT = f"offline-mirror/{__version__} (+python aiohttp)"

_HEADER_BYTES = 32 * 1024
"""A pre-signed Location can be longer than aiohttp's default of 8 KiB."""

_READ_BYTES = 256 * 1024


class Transport:
    """Two pools of connections: a free one for the index itself and proxies, a guarded one for foreign hosts."""

    def __init__(self, config: IndexConfig, limits: Limits, env: Mapping[str, str], origin: Origin) -> None:
        self.pushback = 0
        """Timeouts, resets and cut bodies so far."""
        self._config = config
        self._limits = limits
        self._env = env
        self._origin = origin
        self._rule = AddressRule(allow_private=config.allow_private)
        self._proxies = ProxyChoice(config.proxy, env=env, where=f"index {config.name!r}: proxy")
        self._tls: dict[bool, ssl.SSLContext] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        reach = reach_of_host(self._origin[1])
        if self._proxies.for_origin(*self._origin) is not None and reach is not None:
            # A proxy hides who answers; what the URL itself says is all that will be known.
            self._rule.learn_own(reach)
        self._free = await self._open(None)
        self._guarded = await self._open(self._rule.connect_foreign)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def prepare(self) -> None:
        """Read the certificates now. Raises ``ConfigError``."""
        if self._origin[0] == "https":
            await self._tls_for(is_own=True)

    async def send(
        self, target: URL, headers: Mapping[str, str], *, source: str, sent: Callable[[], None]
    ) -> PeerResponse:
        """GET ``target`` and return the answer, its body unread. ``source`` is the URL that led here, for errors.

        ``sent`` is called when the request is on its way. There is no deadline but that for connecting.

        Raises ``RedirectRefused`` (an address that must not be contacted), ``Unreachable``, ``ConfigError``,
        ``TreeError`` (too many open files).
        """
        origin = origin_of(target)
        is_own = origin == self._origin
        if not is_own:
            await self._check_host(target, source)
        proxy = self._proxies.for_origin(*origin)
        context: ssl.SSLContext | bool = True  # never used: aiohttp's own would know no authorities (mirror.upstream)
        if target.scheme == "https":
            context = await self._tls_for(is_own=is_own)
        elif proxy is not None and proxy.url.startswith("https:"):
            context = await self._tls_for(is_own=False)
        # Only a direct connection shows whom it reaches.
        client = self._free if is_own or proxy is not None else self._guarded
        attempts = self._rule.watch()
        on_sent.set(sent)
        try:
            raw = await client.get(
                target,
                headers=_plain_headers(headers, proxy, target),
                allow_redirects=False,
                ssl=context,
                proxy=None if proxy is None else proxy.url,
                proxy_headers=_tunnel_headers(proxy, target),
            )
        except TRANSPORT_FAILURES as exc:
            if attempts.refused is not None and not attempts.tried:
                raise RedirectRefused(url=source, target=str(target), cause=attempts.refused) from None
            self.note_failure(exc)
            raise failure_of(exc, source, timeout_s=self._limits.stall_timeout_s) from None
        assert isinstance(raw, PeerResponse)
        if is_own and proxy is None and raw.peer is not None:
            self._rule.learn_own_address(raw.peer)
        return raw

    def note_failure(self, exc: Exception) -> None:
        """Count a failure that may mean that the upstream has too much to do, also in the middle of a body."""
        self.pushback += is_pushback(exc)

    async def _check_host(self, target: URL, source: str) -> None:
        """Raise ``RedirectRefused`` where the text of a foreign URL already names an address that is not allowed."""
        if not self._rule.knows_own and self._proxies.for_origin(*self._origin) is None:
            # A file's link may be followed before the index itself was asked in this run.
            _, host, port = self._origin
            try:
                found = await anyio.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
            except OSError:
                found = []
            if found:
                self._rule.learn_own(max(reach_of(str(address[0])) for *_, address in found))
        cause = self._rule.refusal_of_host(target.raw_host or "")
        if cause is not None:
            raise RedirectRefused(url=source, target=str(target), cause=cause)

    async def _open(self, socket_factory: aiohttp.SocketFactoryType | None) -> aiohttp.ClientSession:
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._limits.max_connections, socket_factory=socket_factory),
            timeout=aiohttp.ClientTimeout(
                total=None,
                sock_connect=self._limits.connect_timeout_s,
                sock_read=None,  # who asks has a deadline for each wait: another timer for each is a tenth of a request
            ),
            headers={"User-Agent": USER_AGENT},
            cookie_jar=aiohttp.DummyCookieJar(),
            response_class=PeerResponse,
            auto_decompress=False,
            requote_redirect_url=False,
            trust_env=False,
            read_bufsize=_READ_BYTES,
            max_line_size=_HEADER_BYTES,
            max_field_size=_HEADER_BYTES,
        )
        return await self._stack.enter_async_context(session)

    async def _tls_for(self, *, is_own: bool) -> ssl.SSLContext:
        if is_own not in self._tls:
            made = await anyio.to_thread.run_sync(
                lambda: create_tls_context(self._config, env=self._env, is_own=is_own)
            )
            # Two requests may have made one each; all must use the same, or connections would not be shared.
            self._tls.setdefault(is_own, made)
        return self._tls[is_own]


def _plain_headers(headers: Mapping[str, str], proxy: Proxy | None, target: URL) -> Mapping[str, str]:
    if proxy is None or proxy.authorization is None or target.scheme == "https":
        return headers
    # Without a tunnel the proxy reads the request itself.
    return {**headers, "Proxy-Authorization": proxy.authorization}


def _tunnel_headers(proxy: Proxy | None, target: URL) -> dict[str, str] | None:
    if proxy is None or target.scheme != "https":
        return None
    headers = {"User-Agent": USER_AGENT}
    if proxy.authorization is not None:
        headers["Proxy-Authorization"] = proxy.authorization
    return headers
