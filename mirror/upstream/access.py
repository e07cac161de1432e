"""Access to one index: its credential, the meaning of a refusal, and the end of all requests after
a denial.

A 401 or 403 may concern one item or the whole index. ``Access.judge`` requests pages that the index
has served before, with the same credential: its root, and the most recent pages. Where these are
refused too, the index denies access; where they answer, the refusal belongs to the item, and the
next check waits for more consecutive refusals.

Invariants: one refusal is judged at a time; the credential's source is asked only at a check; after
a denial no further request is sent, and each caller gets an exception of its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final, Protocol

import anyio
import msgspec

from mirror.errors import AccessDenied, CredentialLost
from mirror.logs import redact
from mirror.upstream.credentials import Credential

FIRST_CHECK: Final = {401: 1, 403: 3}
"""How many refusals in a row lead to the first check."""

NEXT_CHECK: Final = 8
"""How many further refusals in a row lead to the second check; each later one waits for twice as
many.
"""

UNPROVED_LIMIT: Final = 20
"""Number of consecutive refusals that end the index's part where no page that it served before can
be requested.
"""

_PAGES_ASKED: Final = 2
_PAGES_KEPT: Final = 4
"""More than are asked for: a page that was refused in this part proves nothing."""


class Credentials(Protocol):
    """The origin of a credential: its source, or the main process, which has the source."""

    @property
    def kept(self) -> Credential | None:
        """The credential read last; the source is not asked."""

    def describe(self) -> str:
        """Return the origin of the credential, never its value."""

    async def load(self) -> Credential | None:
        """Return it, read again where that is due. Raises ``AccessDenied``, ``ConfigError``."""

    async def refresh(self) -> Credential | None:
        """Ask for it again, as after a 401. Raises as ``load``."""


class RefusedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The index itself answered 401 or 403, or as if it had."""

    url: str
    status: int
    used: Credential | None
    """The credential that was sent."""
    words: str = ""
    """The answer's own explanation, for people."""
    is_sign_in: bool = False
    """It sent the request to a sign-in page, which is a refusal too."""
    is_root: bool = False
    is_repeated: bool = False
    """The request was refused before, with another credential."""


Ask = Callable[[str, Mapping[str, str], Credential | None], Awaitable[bool | None]]
"""Asks for a URL and returns whether the answer is no refusal; None where there was no answer, or a
5xx.
"""

Judge = Callable[[RefusedRequest], Awaitable[AccessDenied | None]]
"""Returns the meaning of a refusal; None where the request is to be repeated with another
credential.
"""


class ServedPages(msgspec.Struct):
    """Pages that an index has served, in this cycle or an earlier one."""

    asks_root: bool = True
    """False where the index has no root page (``list = "config"``)."""
    root_headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    """The validators of the root, as headers."""
    pages: dict[str, str] = msgspec.field(default_factory=dict)
    """Project -> URL of its page; the page served last is the last one."""
    refused: set[str] = msgspec.field(default_factory=set)
    """Those URLs that were refused in this part."""

    def record_page(self, name: str, url: str) -> None:
        """Record a page that was served."""
        self.pages.pop(name, None)
        self.pages[name] = url
        if len(self.pages) > _PAGES_KEPT:
            del self.pages[next(iter(self.pages))]

    def record_refused(self, url: str) -> None:
        """Record a refusal: a page that is refused by now proves nothing."""
        if url in self.pages.values():
            self.refused.add(url)

    @property
    def names(self) -> tuple[str, ...]:
        """The projects that later cycles may ask for, the last one first; not those that are
        refused by now.
        """
        return tuple(name for name, url in reversed(self.pages.items()) if url not in self.refused)


class Access:
    """The access to one index."""

    def __init__(
        self,
        index_name: str,
        root_url: str,
        credentials: Credentials,
        ask: Ask,
        *,
        judge: Judge | None = None,
    ) -> None:
        """``judge``: judges refusals in place of this process, where another one does."""
        self.denied: AccessDenied | None = None
        """Set once the index has denied access."""
        self.served_pages = ServedPages()
        self.needs_credential = False
        """Whether the index was read with a credential before: without one it may show less, and is
        not asked.
        """
        self.had_credential: bool | None = None
        """Whether the last successful request was sent with a credential; None before the first
        one.
        """
        self.has_served = False
        """Whether anything but the root was served since the last call of ``take_has_served``."""
        self._index_name = index_name
        self._root_url = root_url
        self._credentials = credentials
        self._ask = ask
        self._judge_elsewhere = judge
        self._judging, self._turn = anyio.Lock(), anyio.Lock()
        self._in_a_row = 0
        self._since_check = 0
        self._next_check = 0
        """0 until the first check."""
        self._is_disproved = False
        """Whether the last check found refused all the pages that it could ask for, though too few
        to end the part.
        """

    @property
    def is_unproved(self) -> bool:
        """Whether nothing proves that the index grants access: then consecutive refusals are meant
        for all.
        """
        return self._is_disproved or not self.served_pages.pages

    def check(self, url: str) -> None:
        """Raise ``AccessDenied`` for ``url`` if the index has denied access before."""
        if self.denied is not None:
            # A copy: one exception raised in many tasks would collect all their tracebacks.
            raise self.denied.replaced(url=url)

    async def load(self) -> Credential | None:
        """Return the credential to send.

        Raises ``AccessDenied`` where it can't be read, ``ConfigError``.
        """
        return await self._admitted(self._credentials.load)

    def record_credential_use(self, *, had_credential: bool) -> None:
        """Record whether a successful request, the root's included, was sent with a credential."""
        self.had_credential = had_credential
        self.needs_credential = self.needs_credential or had_credential

    def succeeded(self) -> None:
        """Record that the index served a page or a file: consecutive refusals are counted from zero
        again.
        """
        self.has_served = True
        self._in_a_row = self._since_check = 0
        self._is_disproved = False

    def take_has_served(self) -> bool:
        """Return whether a page or file was served since the last call."""
        found, self.has_served = self.has_served, False
        return found

    async def judge(self, refusal: RefusedRequest) -> AccessDenied | None:
        """Return the meaning of a refusal; None where the request is to be repeated with another
        credential.

        Raises ``AccessDenied`` where the index has denied access, or the credential can't be read
        any longer.
        """
        async with self._judging:
            if self._judge_elsewhere is not None:
                return await self._ask_judge(self._judge_elsewhere, refusal)
            self.check(refusal.url)
            if not refusal.is_repeated and _differs(await self.load(), refusal.used):
                return (
                    None  # another request was refused before, and its check found this credential
                )
            self.served_pages.record_refused(refusal.url)
            if not (refusal.is_root or self._is_check_due(refusal.status)):
                self._count()
                return self._item_or_index(refusal)
            if not refusal.is_repeated and _differs(await self._refresh(), refusal.used):
                return None
            if refusal.is_root:
                return self.deny(refusal)
            self._count()
            return await self._check(refusal)

    @property
    def is_doubtful(self) -> bool:
        """Whether access must be proved first: until then requests are sent one by one."""
        return self._judging.locked() or (self._in_a_row > 0 and self.is_unproved)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until no refusal is judged and no other doubtful request is under way."""
        async with self._turn:
            async with self._judging:
                pass
            yield

    async def _ask_judge(self, judge: Judge, refusal: RefusedRequest) -> AccessDenied | None:
        error = await judge(refusal)
        if error is not None and error.ends_index:
            self.denied = error
        return error

    def deny(self, refusal: RefusedRequest) -> AccessDenied:
        """Record that the whole index denies access, and return the error."""
        self.denied = self._denial(refusal, ends_index=True)
        return self.denied

    def deny_unread(self, error: AccessDenied) -> AccessDenied:
        """The same for an item's refusal that turned out to be meant for all."""
        self.denied = error.replaced(ends_index=True)
        return self.denied

    def _is_check_due(self, status: int) -> bool:
        return self._since_check + 1 >= (self._next_check or FIRST_CHECK.get(status, 1))

    def _count(self) -> None:
        self._in_a_row += 1
        self._since_check += 1

    async def _refresh(self) -> Credential | None:
        return await self._admitted(self._credentials.refresh)

    async def _admitted(self, ask: Callable[[], Awaitable[Credential | None]]) -> Credential | None:
        """Return the answer of the source. Raises ``AccessDenied`` where a needed credential is
        missing.
        """
        try:
            found = await ask()
        except AccessDenied as exc:
            self.denied = exc
            raise
        if found is None and self.needs_credential:
            self.denied = self._lost()
            raise self.denied
        return found

    def _lost(self) -> CredentialLost:
        return CredentialLost(
            url=self._root_url,
            index=self._index_name,
            status=None,
            source=self._credentials.describe(),
        )

    async def _check(self, refusal: RefusedRequest) -> AccessDenied:
        lets_in = await self._ask_for_known(refusal)
        self._since_check = 0
        if lets_in is False:
            return self.deny(refusal)
        if lets_in:
            self._is_disproved = False
        if lets_in or not self._next_check or self.is_unproved:
            self._next_check = max(NEXT_CHECK, self._next_check * 2)
        return self._item_or_index(refusal)

    async def _ask_for_known(self, refusal: RefusedRequest) -> bool | None:
        """Return whether the index still serves pages that it served before; None where no page
        gave an answer.
        """
        if self.served_pages.asks_root:
            answer = await self._ask(self._root_url, self.served_pages.root_headers, refusal.used)
            if answer is False:
                return False
        pages = [self.served_pages.pages[name] for name in self.served_pages.names]
        for url in pages[:_PAGES_ASKED]:
            answer = await self._ask(url, {}, refusal.used)
            if answer is not False:
                return answer
            self.served_pages.refused.add(url)
        refused = len(self.served_pages.refused)
        self._is_disproved = refused > 0
        return False if refused >= _PAGES_ASKED else None

    def _item_or_index(self, refusal: RefusedRequest) -> AccessDenied:
        if self.is_unproved and self._in_a_row >= UNPROVED_LIMIT:
            return self.deny(refusal)
        return self._denial(refusal, ends_index=False)

    def _denial(self, refusal: RefusedRequest, *, ends_index: bool) -> AccessDenied:
        return AccessDenied(
            url=refusal.url,
            index=self._index_name,
            status=refusal.status,
            source=self._credentials.describe(),
            ends_index=ends_index,
            detail=redact(refusal.words),
            had_credential=refusal.used is not None,
            is_sign_in=refusal.is_sign_in,
        )


def _differs(one: Credential | None, other: Credential | None) -> bool:
    if one is None or other is None:
        return one is not None
    return one.fingerprint() != other.fingerprint()
