"""Rendered pages and objects, kept up to a number of bytes while the mirror does not change.

Invariants: two requests for the same page never render it twice at the same time; a page is reused
without a look at the mirror for a second, or longer where it costs much to render; after a minute
it is rendered again, since ages and the disk change too.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from http import HTTPStatus
from typing import Final

import msgspec

from mirror.serve.facts.reading import Reading

KEPT_BYTES: Final = 32 << 20
_TRUSTED_S: Final = 1.0
_COST_FACTOR: Final = 20
_MAX_TRUSTED_S: Final = 30.0
_MAX_AGE_S: Final = 60.0
_ENTRY_COST: Final = 500


class Rendered(msgspec.Struct, frozen=True, kw_only=True):
    """A page or object as rendered."""

    body: bytes
    content_type: str
    status: HTTPStatus = HTTPStatus.OK
    is_page: bool = True
    """Whether a browser shows it as a page of the mirror, with the mirror's scripts."""
    has_address: bool = False
    """Whether it has marks in the place of the server's address."""


class _KeptEntry(msgspec.Struct, kw_only=True):
    rendered: Rendered
    signature: tuple[object, ...]
    made_s: float
    trusted_until_s: float
    trusted_s: float


class RenderedCache:
    """Recently rendered pages of one reading. Used by one event loop."""

    def __init__(self, reading: Reading, limit_bytes: int = KEPT_BYTES) -> None:
        self._reading, self._limit = reading, limit_bytes
        self._kept: OrderedDict[Hashable, _KeptEntry] = OrderedDict()
        self._bytes = 0
        self._making: dict[Hashable, asyncio.Future[Rendered]] = {}

    async def get(self, key: Hashable, render: Callable[[], Rendered]) -> Rendered:
        """Return what ``render`` makes, from memory where the mirror has not changed since."""
        entry = self._kept.get(key)
        if entry is not None and time.monotonic() < entry.trusted_until_s:
            self._kept.move_to_end(key)
            return entry.rendered
        making = self._making.get(key)
        if making is None:
            making = asyncio.ensure_future(self._make(key, entry, render))
            self._making[key] = making
            making.add_done_callback(lambda _: self._making.pop(key, None))
        return await asyncio.shield(making)

    async def _make(
        self, key: Hashable, entry: _KeptEntry | None, render: Callable[[], Rendered]
    ) -> Rendered:
        found = await self._reading.run(lambda: self._renew(entry, render))
        if found is not entry:
            self._keep(key, found)
        return found.rendered

    def _renew(self, entry: _KeptEntry | None, render: Callable[[], Rendered]) -> _KeptEntry:
        """Return the entry where it is still current, else a new one. Blocking."""
        signature, now_s = self._reading.signature(), time.monotonic()
        if entry is not None and entry.signature == signature and now_s - entry.made_s < _MAX_AGE_S:
            entry.trusted_until_s = now_s + entry.trusted_s
            return entry
        rendered = render()
        done_s = time.monotonic()
        trusted_s = min(max(_TRUSTED_S, _COST_FACTOR * (done_s - now_s)), _MAX_TRUSTED_S)
        return _KeptEntry(
            rendered=rendered,
            signature=signature,
            made_s=now_s,
            trusted_until_s=now_s + trusted_s,
            trusted_s=trusted_s,
        )

    def _keep(self, key: Hashable, entry: _KeptEntry) -> None:
        if (old := self._kept.pop(key, None)) is not None:
            self._bytes -= _cost(key, old)
        self._kept[key] = entry
        self._bytes += _cost(key, entry)
        while self._bytes > self._limit and len(self._kept) > 1:
            other, dropped = self._kept.popitem(last=False)
            self._bytes -= _cost(other, dropped)


def _cost(key: Hashable, entry: _KeptEntry) -> int:
    """Return the bytes of an entry; a client chooses the length of its key."""
    return _ENTRY_COST + 4 * len(str(key)) + len(entry.rendered.body)
