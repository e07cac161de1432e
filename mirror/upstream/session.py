"""One index's HTTP: every request to an index passes ``get``, which follows redirects,
authenticates and paces.

Invariants: the credential goes to the index's own origin only, and never again within a chain of
redirects that left it; at most ``max-connections`` requests are under way; an index that denied
access gets no further request; every wait for the network has a deadline, which the program's own
pacing does not use up; no log line or error carries a query or a secret.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from yarl import URL

from mirror.config import IndexConfig, Limits
from mirror.core.files.kept_links import secret_segments
from mirror.errors import (
    AccessDenied,
    MirrorError,
    RedirectRefused,
    Unavailable,
)
from mirror.logs import get_logger, register_secret
from mirror.upstream.access import Access, Credentials, Judge, RefusedRequest, ServedPages
from mirror.upstream.connections.addresses import Reach
from mirror.upstream.connections.transport import Transport
from mirror.upstream.credentials import Credential
from mirror.upstream.exchange import Exchange, RequestKind
from mirror.upstream.failed_answers import PUSHBACKS, REFUSALS, FailedAnswers, has_expired, words_of
from mirror.upstream.limits.memory import METADATA_BYTES, PageMemory
from mirror.upstream.limits.rate import Budget, Deadlines, Slots, TokenBucket
from mirror.upstream.limits.retry import Allowance, RetryPolicy
from mirror.upstream.limits.traffic import Traffic, TrafficCounters
from mirror.upstream.own_origin import OwnOrigin
from mirror.upstream.response import Response
from mirror.upstream.sign_in import is_sign_in as leads_to_sign_in

MAX_REDIRECTS = 5

CHECK_S = 30.0
"""How long to wait for an answer to a check of the access."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SUCCESSES = frozenset({200, 206, 304})


class IndexSession:
    """The connections to one index; an async context manager. Used from one event loop."""

    def __init__(
        self,
        config: IndexConfig,
        limits: Limits,
        credentials: Credentials,
        env: Mapping[str, str],
        *,
        retry_policy: RetryPolicy | None = None,
        own_reach: Reach | None = None,
        judge: Judge | None = None,
    ) -> None:
        """``own_reach``: how public the index is, where another process has found out.

        ``judge``: judges refusals in place of this process, where another one does.
        """
        self.retry_policy = retry_policy or RetryPolicy()
        self.allowance = Allowance(self.retry_policy)
        self.config, self.limits = config, limits
        self.credentials = credentials
        self.traffic = TrafficCounters()
        self.metadata_memory = PageMemory(METADATA_BYTES)
        """For the metadata of files; not the memory of pages: a page that waits for room there
        would wait for the metadata of an earlier page.
        """
        self._headers_limit_s = limits.connect_timeout_s + limits.stall_timeout_s
        # Bound once: a module's own logger is a proxy that reads the configuration for each event.
        self._log = get_logger(__name__).bind()
        self._logs_answers = self._log.is_enabled_for(logging.DEBUG)
        if config.has_secret_url:
            for secret in secret_segments(config.url):
                register_secret(secret)
        self._own = OwnOrigin(config)
        self._deadlines = Deadlines()
        self._access = Access(config.name, config.url, credentials, self._ask, judge=judge)
        self._access.served_pages.asks_root = config.list != "config"
        self._transport = Transport(config, limits, env, self._own.origin, own_reach=own_reach)
        self._failed_answers = FailedAnswers(
            config.name,
            credentials,
            listed_by_config=config.list == "config",
            proxy_for=self._transport.proxy_for,
        )
        self.slots = Slots(limits.max_connections)
        """Maximum number of concurrent requests."""
        self._request_rate = TokenBucket(limits.requests_per_second)
        self._byte_rate = TokenBucket(limits.bytes_per_second)

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._deadlines.close()
        await self._transport.__aexit__(kind, error, trace)

    @property
    def name(self) -> str:
        """The index's name."""
        return self.config.name

    @property
    def root_url(self) -> str:
        """The index's URL."""
        return self.config.url

    @property
    def denied(self) -> AccessDenied | None:
        """Set once the index has denied access; no request is sent after that."""
        return self._access.denied

    @property
    def pushback(self) -> int:
        """How often the upstream asked for less: 429, 503, timeouts, resets. It only grows."""
        return self._transport.pushback

    async def prepare(self) -> None:
        """Read the credential and the certificates, so that a mistake is reported before anything
        is touched.

        Raises ``ConfigError``, or ``AccessDenied`` where the credential can't be read.
        """
        await self._transport.prepare()
        await self._access.load()

    async def own_reach(self) -> Reach | None:
        """Return how public the index is, for its worker processes; None where that can't be
        known.
        """
        return await self._transport.own_reach()

    @property
    def hides_peers(self) -> bool:
        """Whether connections go through a proxy, which hides the index's address."""
        return self._transport.hides_peers

    async def load_credential(self) -> Credential | None:
        """Return the credential to send.

        Raises ``AccessDenied`` where it can't be read, or the index has denied access.
        """
        self._access.check(self.root_url)
        return await self._access.load()

    @property
    def served_pages(self) -> ServedPages:
        """Pages that the index served, in this cycle or an earlier one: refusals are judged by
        them.
        """
        return self._access.served_pages

    @property
    def is_unproved(self) -> bool:
        """Whether nothing proves that the index grants access."""
        return self._access.is_unproved

    @property
    def had_credential(self) -> bool | None:
        """Whether the index's last successful answer took a credential; None before the first
        one.
        """
        return self._access.had_credential

    async def require_credential(self) -> None:
        """Record that the index was read with a credential: without one no request is sent.

        Raises ``CredentialLost``.
        """
        self._access.needs_credential = True
        await self._access.load()

    def take_has_served(self) -> bool:
        """Return whether a page or file was served since the last call."""
        return self._access.take_has_served()

    def record_served(self) -> None:
        """Record that the index served a page or file to a worker process."""
        self._access.record_credential_use(had_credential=self.credentials.kept is not None)
        self._access.succeeded()

    async def judge(self, refusal: RefusedRequest) -> AccessDenied | None:
        """Return the meaning of a refusal that a worker process met.

        Raises ``AccessDenied``, ``ConfigError``.
        """
        return await self._access.judge(refusal)

    def deny_all(self, error: AccessDenied) -> AccessDenied:
        """Treat the refusal of an item as one of the whole index: no further request is sent."""
        return self._access.deny_unread(error)

    def take_traffic(self) -> Traffic | None:
        """Return the traffic since the last call, or None."""
        return self.traffic.take(self.pushback)

    def add_traffic(self, traffic: Traffic) -> None:
        """Add a worker process's traffic at this index to the counters."""
        self.traffic.add(traffic)
        self._transport.pushback += traffic.pushback

    def get(
        self,
        url: str,
        *,
        kind: RequestKind,
        headers: Mapping[str, str],
        budget: Budget | None = None,
    ) -> Exchange:
        """GET ``url``; ``async with`` yields the answer: 200, 206, 304, or 416 to a range; its body
        is read inside.

        ``budget`` bounds all of it, also over several calls. Raises ``UpstreamError`` for
        everything else, ``ConfigError`` or ``TreeError`` (too many open files).
        """
        stall_timeout_s = self.limits.stall_timeout_s
        return Exchange(self, self._deadlines, url, kind, headers, budget, stall_timeout_s)

    async def enter(self, exchange: Exchange) -> Response:
        """Wait for a free slot and return a successful answer, having repeated the request where a
        new credential or a new URL may help.
        """
        if not self.slots.take_free():
            await self.slots.take()
        exchange.holds_slot = True
        exchange.start()
        exchange.started_s = time.monotonic()
        while True:
            if not self._access.is_doubtful:
                response = await self._try(exchange)
            else:
                async with AsyncExitStack() as stack:
                    with exchange.paused():
                        await stack.enter_async_context(self._access.turn())
                    response = await self._try(exchange)
            if response is not None:
                exchange.is_answered = True
                return response

    def leave(self, exchange: Exchange, *, is_whole: bool) -> None:
        """Close the answer and return the slot. ``is_whole``: the caller has read all that it
        needs.
        """
        if not exchange.holds_slot:
            return
        exchange.holds_slot = False
        try:
            if is_whole:
                self.allowance.earn()
            if exchange.response is not None:
                exchange.response.close()
                if exchange.is_answered:
                    self._log_answer("request.done", exchange.response, exchange.started_s)
        finally:
            self.slots.give_back()

    def count_failure(self, exc: Exception) -> None:
        """Count a failure that may mean that the upstream has too much to do."""
        self._transport.count_failure(exc)

    async def _try(self, exchange: Exchange) -> Response | None:
        """Return a successful answer; None where the request is to be repeated."""
        self._access.check(exchange.url)
        credential = await self._access.load()
        response = await self._follow(exchange, credential)
        is_own = exchange.is_own
        is_sign_in = is_own and exchange.was_redirected and await leads_to_sign_in(response)
        is_success = response.status in _SUCCESSES or (
            response.status == 416 and "Range" in exchange.headers
        )
        if is_success and not is_sign_in:
            if exchange.began_own:
                self._access.record_credential_use(had_credential=credential is not None)
                if exchange.kind is not RequestKind.ROOT:  # a root may be open to all
                    self._access.succeeded()
            return response
        if is_sign_in or (is_own and response.status in REFUSALS):
            refusal = await self._refusal(exchange, response, credential, is_sign_in=is_sign_in)
            with exchange.paused():
                error = await self._access.judge(refusal)
            if error is not None:
                raise error
            exchange.has_renewed = True
        elif has_expired(exchange, response) and not exchange.has_asked_again:
            await response.drain()
            exchange.has_asked_again = True
        else:
            raise await self._failure(exchange, response)
        return None

    async def _refusal(
        self,
        exchange: Exchange,
        response: Response,
        credential: Credential | None,
        *,
        is_sign_in: bool,
    ) -> RefusedRequest:
        words = "" if is_sign_in else await words_of(exchange, response)
        await response.drain()
        return RefusedRequest(
            url=exchange.url,
            status=response.status,
            used=credential,
            words=words,
            is_sign_in=is_sign_in,
            is_root=exchange.kind is RequestKind.ROOT,
            is_repeated=exchange.has_renewed,
        )

    async def _ask(
        self, url: str, headers: Mapping[str, str], credential: Credential | None
    ) -> bool | None:
        """Request a page that the index served before, without reading it, in the place of a
        refused request.

        Return whether the answer is no refusal; None where there was no answer, or a 5xx.
        """
        exchange = self.get(url, kind=RequestKind.PAGE, headers=headers, budget=Budget(CHECK_S))
        with exchange:
            exchange.start()
            try:
                response = await self._follow(exchange, credential)
                is_own = exchange.is_own
                is_sign_in = is_own and exchange.was_redirected and await leads_to_sign_in(response)
            except RedirectRefused:
                return True
            except Unavailable:
                return None
            response.close()
            if is_sign_in or (is_own and response.status in REFUSALS):
                return False
            return None if response.status >= 500 else True
        return None

    async def _failure(self, exchange: Exchange, response: Response) -> MirrorError:
        """Return the error that an unsuccessful answer means, and act on it."""
        error = await self._failed_answers.error_of(exchange, response)
        if response.status in PUSHBACKS:
            self._transport.pushback += 1
        is_root = exchange.is_own and exchange.kind is RequestKind.ROOT
        if isinstance(error, AccessDenied) and is_root:
            return self._access.deny_unread(error)
        return error

    async def _follow(self, exchange: Exchange, credential: Credential | None) -> Response:
        """Send the request, and again to where each redirect leads; the redirects' own bodies are
        dropped.
        """
        kind = exchange.kind
        target, is_own = self._own.parse(exchange.url, kind)
        exchange.began_own = is_own
        for hop in range(MAX_REDIRECTS + 1):
            response = await self._send(exchange, target, credential if is_own else None)
            exchange.response = response
            if response.status not in _REDIRECTS:
                exchange.is_own, exchange.was_redirected = is_own, hop > 0
                return response
            location = response.headers.get("Location")
            await response.drain()
            target, stays_own = self._own.follow(target, location, kind, source=exchange.url)
            is_own = is_own and stays_own
        raise RedirectRefused(
            url=exchange.url, target=str(target), cause=f"more than {MAX_REDIRECTS} redirects"
        )

    async def _send(
        self, exchange: Exchange, target: URL, credential: Credential | None
    ) -> Response:
        """Send one request and return its answer, for any status."""
        if not self._request_rate.is_off:
            await exchange.pace(self._request_rate, 1)
        self.traffic.requests += 1
        started_s = time.monotonic()
        headers = (
            exchange.headers
            if credential is None
            else {**exchange.headers, "Authorization": credential.header}
        )
        exchange.expect_headers_within(self._headers_limit_s)
        raw = await self._transport.send(target, headers, source=exchange.url, sent=exchange.sent)
        exchange.expect_anything()
        status = raw.status
        statuses = self.traffic.statuses
        statuses[status] = statuses.get(status, 0) + 1
        exchange.counts_file = exchange.kind is RequestKind.FILE and status in _SUCCESSES
        response = Response(
            raw, str(target), stall_timeout_s=self.limits.stall_timeout_s, watch=exchange
        )
        if status not in _SUCCESSES:
            self._log_answer("request.answered", response, started_s)
        return response

    def take_body(self, length: int, *, is_file: bool) -> TokenBucket | None:
        """Count bytes of a body; return the rate to wait for, where there is one."""
        self.traffic.body_bytes += length
        if is_file:
            self.traffic.file_bytes += length
        return None if self._byte_rate.is_off else self._byte_rate

    def _log_answer(self, event: str, response: Response, started: float) -> None:
        if not self._logs_answers:  # usually disabled, and this is the path of each page
            return
        self._log.debug(
            event,
            method="GET",
            url=response.url.partition("?")[0],
            status=response.status,
            duration_ms=round((time.monotonic() - started) * 1000),
            bytes=response.received,
        )
