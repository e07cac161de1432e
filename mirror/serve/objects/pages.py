"""Pages of a store as they are sent: read, hashed and compressed once for each version.

Invariants: an answer is one version of a page, at most a second old; a page that can't be confirmed
by the store is not sent.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import msgspec

from mirror.serve.objects.source import ObjectPart, ObjectSource
from mirror.serve.requests.negotiation import Form

KEPT_BYTES: Final = 128 << 20
_FRESH_S: Final = 1.0
"""How long a page is sent without asking the store for a newer one."""
_ON_LOOP_BYTES: Final = 16 << 10
_ENTRY_COST: Final = 800
_GZIP: Final = 16 + zlib.MAX_WBITS
_NAME: Final = re.compile(rb"([a-z0-9][a-z0-9-]{0,62})\s*")

_Key = tuple[str, Form, bool]


class StoredPage(msgspec.Struct, frozen=True, kw_only=True):
    """One page in one form and encoding."""

    store_tag: str
    """The store's ETag of the object: opaque, only compared."""
    etag: str
    modified: float
    body: bytes
    asked_s: float


def page_key(place: Sequence[str], form: Form) -> str:
    """Return the key of a page: JSON has a second prefix, since a store does not negotiate."""
    parts = list(place)
    if form is Form.JSON:
        parts[parts.index("simple")] = "simple-json"
    return "/".join((*parts, "index.html"))


class StoredPages:
    """Recently sent pages. Used by one event loop."""

    def __init__(self, source: ObjectSource, limit_bytes: int = KEPT_BYTES) -> None:
        self._source, self._limit = source, limit_bytes
        self._kept: OrderedDict[_Key, StoredPage] = OrderedDict()
        self._bytes = 0
        self._making: dict[_Key, asyncio.Future[StoredPage]] = {}

    async def page(self, place: Sequence[str], form: Form, *, gzip: bool) -> StoredPage:
        """Return a page. Raises ``FileNotFoundError``, ``StoreAway``."""
        if place[0] == "channels":
            snapshot = await self._snapshot_of(place[1])
            place = ("snapshots", snapshot, *place[2:])
        return await self._load((page_key(place, form), form, gzip))

    async def _snapshot_of(self, channel: str) -> str:
        """Return the snapshot that a channel names."""
        named = await self._load((f"channels/{channel}", Form.HTML, False))
        found = _NAME.fullmatch(named.body)
        if found is None:
            raise FileNotFoundError(f"the channel {channel} names no snapshot")
        return found[1].decode()

    async def _load(self, key: _Key) -> StoredPage:
        kept = self._kept.get(key)
        if kept is not None and time.monotonic() - kept.asked_s < _FRESH_S:
            self._kept.move_to_end(key)
            return kept
        making = self._making.get(key)
        if making is None:
            making = asyncio.ensure_future(self._renew(key, kept))
            self._making[key] = making
            making.add_done_callback(lambda done: self._made(key, done))
        return await asyncio.shield(making)

    def _made(self, key: _Key, done: asyncio.Future[StoredPage]) -> None:
        self._making.pop(key, None)
        if not done.cancelled():
            done.exception()  # its reader may be gone, and nobody else asks

    async def _renew(self, key: _Key, kept: StoredPage | None) -> StoredPage:
        asked_s = time.monotonic()
        try:
            found = await self._source.read(key[0], known=kept.store_tag if kept else None)
        except FileNotFoundError:
            self._drop(key)
            raise
        if found is None:
            assert kept is not None
            page = msgspec.structs.replace(kept, asked_s=asked_s)
        elif found.status.size <= _ON_LOOP_BYTES:
            page = _make(found, key, asked_s)
        else:
            loop = asyncio.get_running_loop()
            page = await loop.run_in_executor(None, _make, found, key, asked_s)
        self._keep(key, page)
        return page

    def _keep(self, key: _Key, page: StoredPage) -> None:
        self._drop(key)
        self._kept[key] = page
        self._bytes += _cost(page)
        while self._bytes > self._limit and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= _cost(dropped)

    def _drop(self, key: _Key) -> None:
        if (old := self._kept.pop(key, None)) is not None:
            self._bytes -= _cost(old)


def _make(found: ObjectPart, key: _Key, asked_s: float) -> StoredPage:
    _, form, gzip = key
    # The same tag as of a page on a disk (``serve.pages``): equal on each copy of a tree.
    digest = hashlib.sha256(f"{form.value} {'gzip' if gzip else 'identity'}\n".encode())
    digest.update(found.data)
    body = found.data
    if gzip:
        compressor = zlib.compressobj(6, zlib.DEFLATED, _GZIP)
        body = compressor.compress(body) + compressor.flush()
    return StoredPage(
        store_tag=found.status.etag,
        etag=f'"{digest.hexdigest()}"',
        modified=found.status.modified.timestamp(),
        body=body,
        asked_s=asked_s,
    )


def _cost(page: StoredPage) -> int:
    return _ENTRY_COST + len(page.body)
