"""One call of ``IndexSession.get``: its request, its deadline, and the watch over its body.

One object for all of it: a request is made for each page and file, and each further object, context
manager and question to the event loop costs as much as a step of the work itself.

Invariants: every wait for the network has a deadline; the program's own waits (a rate limit, a
judged refusal, memory) do not use it up; a slot is returned once, however the request ends.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from types import TracebackType
from typing import Protocol

import anyio

from mirror.errors import Unavailable
from mirror.upstream.limits.rate import Budget, Deadlines, TokenBucket, loop_time
from mirror.upstream.response import Response, cause_of_stall


class RequestKind(Enum):
    """The kind of a request; a refusal means more on the root, and only the bodies of files are
    counted.
    """

    ROOT = "root"
    PAGE = "page"
    FILE = "file"


class ExchangeOwner(Protocol):
    """The index's session, as one request uses it."""

    async def enter(self, exchange: Exchange) -> Response:
        """Wait for a free slot, and return a successful answer."""

    def leave(self, exchange: Exchange, *, is_whole: bool) -> None:
        """Close the answer and return the slot. ``is_whole``: the caller has read all that it
        needs.
        """

    def count_failure(self, exc: Exception) -> None:
        """A body broke off."""

    def take_body(self, length: int, *, is_file: bool) -> TokenBucket | None:
        """Count bytes of a body; return the rate to wait for, where there is one."""


class Exchange:
    """A request on its way, as an async context manager that yields the answer.

    As a plain context manager it bounds its block by its deadline, without a slot.
    """

    __slots__ = (
        "_deadlines",
        "_session",
        "_stall_timeout_s",
        "began_own",
        "budget",
        "counts_file",
        "has_asked_again",
        "has_renewed",
        "headers",
        "headers_limit_s",
        "holds_slot",
        "is_answered",
        "is_own",
        "kind",
        "response",
        "scope",
        "shown_url",
        "stall_s",
        "started_s",
        "url",
        "was_redirected",
    )

    def __init__(
        self,
        session: ExchangeOwner,
        deadlines: Deadlines,
        url: str,
        kind: RequestKind,
        headers: Mapping[str, str],
        budget: Budget | None,
        stall_timeout_s: float,
    ) -> None:
        self._session, self._deadlines = session, deadlines
        self._stall_timeout_s = stall_timeout_s
        self.url, self.kind, self.headers, self.budget = url, kind, headers, budget
        self.scope = anyio.CancelScope()
        self.holds_slot = self.is_answered = False
        self.started_s = 0.0
        self.headers_limit_s = 0.0
        """Over 0 until the headers are awaited, where nothing stricter holds."""
        self.stall_s = 0.0
        """Over 0 while headers or bytes of a body are awaited and nothing stricter holds."""
        self.shown_url = ""
        """The URL requested last, after redirects."""
        self.response: Response | None = None
        """The answer at the end of the chain of redirects."""
        self.counts_file = False
        """Whether the body is a file's."""
        self.is_own = self.began_own = self.was_redirected = False
        """The chain never left the index's own origin; it began there; it had a redirect."""
        self.has_renewed = self.has_asked_again = False
        """The request was repeated: with a renewed credential; since a signed URL had expired."""

    async def __aenter__(self) -> Response:
        self.__enter__()
        try:
            return await self._session.enter(self)
        except BaseException as exc:
            await self.__aexit__(type(exc), exc, exc.__traceback__)
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._session.leave(self, is_whole=error is None)
        finally:
            # The answer refers to this object: without this, only a collection would free the two.
            self.response = None
            self.__exit__(kind, error, trace)
        if self.scope.cancelled_caught:
            self._session.count_failure(TimeoutError())
            raise self.timeout() from None

    def __enter__(self) -> None:
        self.scope.__enter__()

    def start(self) -> None:
        """Start the clock: the request is to be sent now."""
        if self.budget is not None:
            self.budget.start()
            self._deadlines.watch(self.scope, self.budget.deadline)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self._deadlines.forget(self.scope)
        return bool(self.scope.__exit__(kind, error, trace))

    @property
    def deadline(self) -> float:
        """When the budget ends, on the loop's clock."""
        return math.inf if self.budget is None else self.budget.deadline

    def timeout(self) -> Unavailable:
        """Return the error for the expiry of the current deadline."""
        if self.stall_s:
            return Unavailable(url=self.shown_url, cause=cause_of_stall(self.stall_s))
        limit_s = self.headers_limit_s or (
            self.budget.limit_s if self.budget is not None else math.inf
        )
        return Unavailable(url=self.url, cause=f"no complete answer within {limit_s:g} s")

    def expect_headers_within(self, limit_s: float) -> None:
        """Bound all until the headers: aiohttp's deadlines leave out name resolution and a proxy's
        answer.
        """
        deadline = loop_time() + limit_s
        if deadline < self.deadline:
            self.headers_limit_s = limit_s
            self._deadlines.watch(self.scope, deadline)

    def sent(self) -> None:
        """Bound the wait for the answer's first bytes, as for all that follow."""
        self.expect_bytes_within(self._stall_timeout_s, self.url)

    def expect_bytes_within(self, limit_s: float, url: str) -> None:
        """Bound the wait for the next bytes of an answer."""
        deadline = loop_time() + limit_s
        if deadline < self.deadline and not self.scope.cancel_called:
            self.stall_s, self.shown_url = limit_s, url
            self._deadlines.watch(self.scope, deadline)

    def expect_anything(self) -> None:
        """Let the budget alone hold again."""
        if (self.stall_s or self.headers_limit_s) and not self.scope.cancel_called:
            self.stall_s = self.headers_limit_s = 0.0
            self._deadlines.watch(self.scope, self.deadline)

    def count_failure(self, exc: Exception) -> None:
        """The body broke off."""
        self._session.count_failure(exc)

    def take(self, length: int) -> Awaitable[None] | None:
        """Count bytes of the body; return the wait for their rate, where there is one."""
        rate = self._session.take_body(length, is_file=self.counts_file)
        return None if rate is None else self.pace(rate, length)

    async def wait_for(self, room: Awaitable[None]) -> None:
        """Wait for a local resource; the wait does not count against the deadline, and has one of
        its own.
        """
        with anyio.move_on_after(self._stall_timeout_s), self.paused():
            await room
            return
        raise Unavailable(url=self.url, cause="other pages take all the memory that pages may have")

    async def pace(self, bucket: TokenBucket, units: float) -> None:
        """Wait for a rate limit; the wait does not count against the deadline."""
        with self.paused():
            await bucket.take(units)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude a wait inside from the deadline: pacing must not count against it."""
        self._deadlines.watch(self.scope, math.inf)
        started = loop_time()
        yield
        if self.budget is not None:
            self.budget.extend(loop_time() - started)
            self._deadlines.watch(self.scope, self.budget.deadline)
