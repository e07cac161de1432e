"""Whether an index lets us in: its credential, what a 401 or 403 means, and when nothing more is asked.

Invariants: after a refusal the source is asked once, by one request at a time; once the index denied us, no request
is sent any more, and each caller is told so by an exception of its own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import anyio

from mirror.errors import AccessDenied
from mirror.upstream.credentials import Credential

DENIALS_THAT_END = 3
"""So many 403 in a row without a success in between, and the whole index counts as denied."""


class Credentials(Protocol):
    """Where a credential comes from: its source, or another process of ours that has the source."""

    @property
    def kept(self) -> Credential | None:
        """What was read last; nothing is asked."""

    def describe(self) -> str:
        """Return where it comes from, never what it is."""

    async def load(self) -> Credential | None:
        """Return it, read again where that is due. Raises ``AccessDenied``, ``ConfigError``."""

    async def refresh(self) -> Credential | None:
        """Ask for it again, as after a 401. Raises as ``load``."""


class Access:
    """The access to one index."""

    def __init__(self, index_name: str, root_url: str, credentials: Credentials) -> None:
        self.denied: AccessDenied | None = None
        """Set once the index denied us."""
        self._index_name = index_name
        self._root_url = root_url
        self._credentials = credentials
        self._renewal = anyio.Lock()
        self._denials = 0

    def check(self, url: str) -> None:
        """Raise ``AccessDenied`` for ``url`` if the index has denied us before."""
        if self.denied is not None:
            # A copy: one exception raised in many tasks would collect all their tracebacks.
            raise replace(self.denied, url=url)

    async def load(self) -> Credential | None:
        """Return the credential to send. Raises ``AccessDenied`` where it can't be had, ``ConfigError``."""
        try:
            return await self._credentials.load()
        except AccessDenied as exc:
            self.denied = exc
            raise

    async def renew(self, used: Credential | None) -> bool:
        """Ask the source again, and say whether it has another secret than the one that was just refused."""
        async with self._renewal:
            self.check(self._root_url)
            if _differs(await self.load(), used):
                # Another request was refused at the same time and has asked already.
                return True
            try:
                return _differs(await self._credentials.refresh(), used)
            except AccessDenied as exc:
                self.denied = exc
                raise

    def succeeded(self) -> None:
        """Note that the index let something out: the row of denials ends."""
        self._denials = 0

    def deny(self, url: str, status: int) -> AccessDenied:
        """Note that the whole index refuses us, and return the error."""
        self.denied = self._denial(url, status, ends_index=True)
        return self.denied

    def deny_item(self, url: str, status: int, *, by_index: bool) -> AccessDenied:
        """Note that one page or file is refused, by the index itself or another host, and return the error."""
        if not by_index:
            return self._denial(url, status, ends_index=False)
        self._denials += 1
        if self._denials >= DENIALS_THAT_END:
            return self.deny(url, status)
        return self._denial(url, status, ends_index=False)

    def _denial(self, url: str, status: int, *, ends_index: bool) -> AccessDenied:
        return AccessDenied(
            url=url,
            index=self._index_name,
            status=status,
            source=self._credentials.describe(),
            ends_index=ends_index,
        )


def _differs(one: Credential | None, other: Credential | None) -> bool:
    if one is None or other is None:
        return one is not None
    return one.fingerprint() != other.fingerprint()
