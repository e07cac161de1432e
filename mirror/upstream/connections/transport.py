"""The connections of one index: sockets, TLS, proxies, deadlines.

Sends one request, follows nothing.

Invariants: a foreign host is connected to only at addresses that ``addresses`` allows, and the
index's own name only at addresses as public as it was before in this cycle, in every process;
cookies, netrc and proxies come from the mirror's own settings only; a body is never decoded on the
way; a URL's bytes are sent unchanged.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import aiohttp
import anyio.to_thread
from aiohttp.abc import ResolveResult
from yarl import URL

from mirror import __version__
from mirror.config import IndexConfig, Limits
from mirror.errors import RedirectRefused, Unavailable
from mirror.upstream.connections.addresses import AddressRule, Reach, reach_of, reach_of_host
from mirror.upstream.connections.proxies import Proxy, ProxyChoice
from mirror.upstream.connections.targets import Origin, origin_of
from mirror.upstream.connections.tls import create_tls_context
from mirror.upstream.response import (
    TRANSPORT_FAILURES,
    PeerResponse,
    cause_of_proxy,
    failure_of,
    is_pushback,
    on_sent,
)

USER_AGENT = f"offline-mirror/{__version__} (+python aiohttp)"

_HEADER_BYTES = 32 * 1024
"""A pre-signed Location can be longer than aiohttp's default of 8 KiB."""

_READ_BYTES = 256 * 1024

_PROXY_REFUSALS = frozenset(range(400, 500)) - {408, 425, 429}
"""Statuses of a proxy that refuses a tunnel for good: a repeated request would get the same
answer.
"""


class Transport:
    """Two pools of connections: a free one for proxies and an index at a literal address, a guarded
    one for the rest.

    ``own_reach``: how public the index is, where another process has learned it.
    """

    def __init__(
        self,
        config: IndexConfig,
        limits: Limits,
        env: Mapping[str, str],
        origin: Origin,
        *,
        own_reach: Reach | None = None,
    ) -> None:
        self.pushback = 0
        """Timeouts, resets and cut bodies so far."""
        self._config = config
        self._limits = limits
        self._env = env
        self._origin = origin
        self._rule = AddressRule(allow_private=config.allow_private)
        self._own_reach = own_reach
        self._proxies = ProxyChoice(config.proxy, env=env, where=f"index {config.name!r}: proxy")
        self._tls: dict[bool, ssl.SSLContext] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        reach = reach_of_host(self._origin[1])
        self._is_literal = reach is not None
        for known in (reach, self._own_reach):
            # A proxy hides the answering address, so the URL is the only information about it.
            if known is not None:
                self._rule.learn_own(known)
        self._free = await self._open(None)
        self._guarded = await self._open(self._rule.connect_foreign)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def prepare(self) -> None:
        """Read the certificates now. Raises ``ConfigError``."""
        if self._origin[0] == "https":
            await self._tls_for(is_own=True)

    async def send(
        self, target: URL, headers: Mapping[str, str], *, source: str, sent: Callable[[], None]
    ) -> PeerResponse:
        """GET ``target`` and return the answer, its body unread. ``source`` is the URL that led
        here, for errors.

        ``sent`` is called when the request is on its way. There is no deadline but that for
        connecting.

        Raises ``RedirectRefused`` (an address that must not be contacted), ``Unavailable``,
        ``ConfigError``, ``TreeError`` (too many open files).
        """
        origin = origin_of(target)
        is_own = origin == self._origin
        if not is_own:
            await self._check_host(target, source)
        proxy = self._proxies.for_origin(*origin)
        context: ssl.SSLContext | bool = (
            True  # never used: aiohttp's own would know no authorities (mirror.upstream)
        )
        if target.scheme == "https":
            context = await self._tls_for(is_own=is_own)
        elif proxy is not None and proxy.url.startswith("https:"):
            context = await self._tls_for(is_own=False)
        # Only a direct connection shows whom it reaches; an address that the configuration names
        # needs no judgement.
        is_free = proxy is not None or (is_own and self._is_literal)
        client = self._free if is_free else self._guarded
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
                of_name = "the name of the index now resolves to " if is_own else ""
                raise RedirectRefused(
                    url=source, target=str(target), cause=of_name + attempts.refused
                ) from None
            if isinstance(exc, aiohttp.ClientHttpProxyError) and exc.status in _PROXY_REFUSALS:
                cause = cause_of_proxy(None if proxy is None else proxy.url, exc.status)
                raise Unavailable(url=source, cause=cause, is_final=True) from None
            self.count_failure(exc)
            raise failure_of(exc, source, timeout_s=self._limits.stall_timeout_s) from None
        assert isinstance(raw, PeerResponse)
        if is_own and proxy is None and raw.peer is not None:
            self._rule.learn_own_address(raw.peer)
        return raw

    def proxy_for(self, url: str) -> str | None:
        """Return the proxy for a URL, without user info; None where there is none."""
        proxy = self._proxies.for_origin(*origin_of(URL(url, encoded=True)))
        return None if proxy is None else proxy.url

    def count_failure(self, exc: Exception) -> None:
        """Count a failure that may mean that the upstream has too much to do, also in the middle of
        a body.
        """
        self.pushback += is_pushback(exc)

    async def own_reach(self) -> Reach | None:
        """Return how public the index is, for every process that uses it in this cycle; None where
        that can't be known.
        """
        if self._rule.own is None and not self.hides_peers:
            _, host, port = self._origin
            with contextlib.suppress(OSError):
                await _Resolver(host, self._rule).resolve(host, port, socket.AF_UNSPEC)
        return self._rule.own

    @property
    def hides_peers(self) -> bool:
        """Whether connections go through a proxy, which hides the index's address."""
        return self._proxies.for_origin(*self._origin) is not None

    async def _check_host(self, target: URL, source: str) -> None:
        """Raise ``RedirectRefused`` where the text of a foreign URL already names an address that
        is not allowed.
        """
        await (
            self.own_reach()
        )  # a file's link may be followed before the index itself was asked in this run
        cause = self._rule.refusal_of_host(target.raw_host or "")
        if cause is not None:
            raise RedirectRefused(url=source, target=str(target), cause=cause)

    async def _open(
        self, socket_factory: aiohttp.SocketFactoryType | None
    ) -> aiohttp.ClientSession:
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._limits.max_connections,
                socket_factory=socket_factory,
                resolver=_Resolver(self._origin[1], self._rule),
            ),
            timeout=aiohttp.ClientTimeout(
                total=None,
                sock_connect=self._limits.connect_timeout_s,
                # each caller has a deadline for its waits: another timer for each costs a tenth of
                # a request
                sock_read=None,
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
            # Two requests may have made one each; all must use the same, or connections would not
            # be shared.
            self._tls.setdefault(is_own, made)
        return self._tls[is_own]


class _Resolver(aiohttp.ThreadedResolver):
    """Resolves names, and passes the index's own reach to the rule before the first connection."""

    def __init__(self, own_host: str, rule: AddressRule) -> None:
        super().__init__()
        self._own_host, self._rule = own_host.rstrip("."), rule

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await super().resolve(host, port, family)
        if found and self._rule.own is None and host.lower().rstrip(".") == self._own_host:
            self._rule.learn_own(max(reach_of(result["host"]) for result in found))
        return found


def _plain_headers(
    headers: Mapping[str, str], proxy: Proxy | None, target: URL
) -> Mapping[str, str]:
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
