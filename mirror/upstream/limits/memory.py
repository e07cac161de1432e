"""Maximum memory for the pages of one index together, and for the metadata of its files, regardless
of its answers.

Invariants: the bodies under way and the values made from them stay below their limits; a page that
waits for room never keeps another one from ending, so that no two wait for each other.
"""

from __future__ import annotations

from types import TracebackType
from typing import Final

import anyio

from mirror.core.pages.page_cost import PAGE_MEMORY_BYTES

_BODIES_BYTES: Final = 256 << 20
"""Maximum of all bodies of pages; the oldest one may go beyond it, up to the limit of one page."""


METADATA_BYTES: Final = 128 << 20
"""Maximum of all metadata of files that is on its way to its place."""


class PageMemory:
    """The memory for an index's pages in one process."""

    def __init__(self, bodies_bytes: int = _BODIES_BYTES) -> None:
        self._most_bytes = bodies_bytes
        self._bodies_bytes = self._values_bytes = 0
        self._growing: dict[PageLease, None] = {}
        """Pages whose bodies are being read, the oldest first."""
        self._freed = anyio.Event()
        self._waiting = 0
        """Number of pages that wait for room."""

    def lease(self) -> PageLease:
        """Return a lease for one page, which holds nothing yet."""
        return PageLease(self)

    async def grow(self, lease: PageLease, more_bytes: int) -> None:
        """Wait until a body may grow."""
        self._growing.setdefault(lease)
        most = self._most_bytes
        while self._bodies_bytes + more_bytes > most and next(iter(self._growing)) is not lease:
            await self._wait()
        self._bodies_bytes += more_bytes

    async def admit(self, needed_bytes: int) -> None:
        """Wait for room for the values of a page; at most ``PAGE_MEMORY_BYTES`` are needed for
        one.
        """
        while self._values_bytes and self._values_bytes + needed_bytes > PAGE_MEMORY_BYTES:
            await self._wait()
        self._values_bytes += needed_bytes

    def is_growing(self, lease: PageLease) -> bool:
        """Return whether a page's body is being read."""
        return lease in self._growing

    def free(self, lease: PageLease | None, *, body_bytes: int = 0, value_bytes: int = 0) -> None:
        """Release a page's room for others."""
        if lease is not None:
            self._growing.pop(lease, None)
        self._bodies_bytes -= body_bytes
        self._values_bytes -= value_bytes
        if self._waiting:  # seldom: a new event for each page would be for nothing
            freed, self._freed = self._freed, anyio.Event()
            freed.set()

    async def _wait(self) -> None:
        self._waiting += 1
        try:
            await self._freed.wait()
        finally:
            self._waiting -= 1


class PageLease:
    """The memory of one page: its body until it is parsed, its values until all of its files are
    done.
    """

    __slots__ = ("_body_bytes", "_memory", "_value_bytes")

    def __init__(self, memory: PageMemory) -> None:
        self._memory = memory
        self._body_bytes = self._value_bytes = 0

    def covers(self, body_bytes: int) -> bool:
        """Return whether a body of this length needs no additional room."""
        return body_bytes <= self._body_bytes

    async def hold_body(self, body_bytes: int) -> None:
        """Hold room for a body of this length."""
        await self._memory.grow(self, body_bytes - self._body_bytes)
        self._body_bytes = body_bytes

    async def hold_values(self, value_bytes: int) -> None:
        """Hold room for the values of the page."""
        await self._memory.admit(value_bytes)
        self._value_bytes += value_bytes

    def body(self) -> _HeldBody:
        """Release the body's room at the end of the ``with``."""
        return _HeldBody(self)

    def release_body(self) -> None:
        """Release the body's room."""
        held, self._body_bytes = self._body_bytes, 0
        if held or self._memory.is_growing(self):
            self._memory.free(self, body_bytes=held)

    def release(self) -> None:
        """Release everything; does nothing the second time."""
        held, self._value_bytes = self._value_bytes, 0
        if held:
            self._memory.free(None, value_bytes=held)


class _HeldBody:
    """The time of a body in memory; a class, since a generator costs several times as much a
    page.
    """

    __slots__ = ("_lease",)

    def __init__(self, lease: PageLease) -> None:
        self._lease = lease

    def __enter__(self) -> None:
        """Nothing to do: a body has no room yet."""

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        """Release its room."""
        self._lease.release_body()
