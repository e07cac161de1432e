"""Pages as they are sent: read, hashed and compressed once for each version of the page, kept up to
a number of bytes.

Invariants: an answer is one version of the page, as a reader of the file would get it; two requests
for the same page never compress it twice; a page that is large is neither kept nor compressed on
the event loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

import msgspec

from mirror.serve.requests.negotiation import Form

KEPT_BYTES: Final = 64 << 20
_INLINE_BYTES: Final = 512 << 10
"""A larger page is sent from its file, and never held in memory as a whole."""
_ON_LOOP_BYTES: Final = 16 << 10
"""A smaller page is compressed in less time than another thread takes to begin."""
_CHUNK: Final = 256 << 10
_ENTRY_COST: Final = 600
_MOST_TAGS: Final = 50_000
_GZIP: Final = 16 + zlib.MAX_WBITS

Signature = tuple[int, int, int, int]


class SentPage(msgspec.Struct, frozen=True, kw_only=True):
    """One page in one form and encoding."""

    signature: Signature
    etag: str
    modified: float
    size: int
    body: bytes | None
    """None: it is sent from the file."""


class PageCache:
    """Recently sent pages. Used by one event loop."""

    def __init__(self, limit_bytes: int = KEPT_BYTES) -> None:
        self._limit = limit_bytes
        self._kept: OrderedDict[tuple[object, ...], SentPage] = OrderedDict()
        self._bytes = 0
        self._making: dict[tuple[object, ...], asyncio.Future[SentPage]] = {}

    async def page(
        self,
        place: tuple[str, ...],
        form: Form,
        descriptor: int,
        found: os.stat_result,
        *,
        gzip: bool,
    ) -> SentPage:
        """Return a page whose file is open, from memory where this version of it is there."""
        key = (place, form, gzip)
        signature = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        kept = self._kept.get(key)
        if kept is not None and kept.signature == signature:
            self._kept.move_to_end(key)
            return kept
        making = self._making.get((key, signature))
        if making is None:
            making = asyncio.ensure_future(
                self._make(key, os.dup(descriptor), found, form, gzip=gzip)
            )
            self._making[key, signature] = making
            making.add_done_callback(lambda _: self._making.pop((key, signature), None))
        return await asyncio.shield(making)

    async def _make(
        self,
        key: tuple[object, ...],
        descriptor: int,
        found: os.stat_result,
        form: Form,
        *,
        gzip: bool,
    ) -> SentPage:
        def make() -> SentPage:
            return make_page(descriptor, found, form, gzip=gzip)

        try:
            small = found.st_size <= _ON_LOOP_BYTES
            page = make() if small else await asyncio.get_running_loop().run_in_executor(None, make)
        finally:
            os.close(descriptor)
        self._keep(key, page)
        return page

    def _keep(self, key: tuple[object, ...], page: SentPage) -> None:
        if (old := self._kept.pop(key, None)) is not None:
            self._bytes -= _cost(old)
        self._kept[key] = page
        self._bytes += _cost(page)
        while self._bytes > self._limit and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= _cost(dropped)


def make_page(descriptor: int, found: os.stat_result, form: Form, *, gzip: bool) -> SentPage:
    """Read an open page and return it as it is sent. Blocking."""
    # The tag is of the plain bytes with form and encoding, so that it does not depend on the
    # version of zlib.
    digest = hashlib.sha256(f"{form.value} {'gzip' if gzip else 'identity'}\n".encode())
    pieces: list[bytes] = []
    compressor = zlib.compressobj(6, zlib.DEFLATED, _GZIP) if gzip else None
    is_inline = found.st_size <= _INLINE_BYTES
    for chunk in _chunks(descriptor):
        digest.update(chunk)
        if compressor is not None:
            pieces.append(compressor.compress(chunk))
        elif is_inline:
            pieces.append(chunk)
    if compressor is not None:
        pieces.append(compressor.flush())
    body = b"".join(pieces) if gzip or is_inline else None
    return SentPage(
        signature=(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns),
        etag=f'"{digest.hexdigest()}"',
        modified=found.st_mtime,
        size=found.st_size if body is None else len(body),
        body=body,
    )


class MetadataTags:
    """The digests of ``.metadata`` files, each computed once for each version of the file."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Signature, str] = OrderedDict()

    async def digest(self, descriptor: int, found: os.stat_result) -> str:
        """Return the sha256 of an open file."""
        signature = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        if (kept := self._kept.get(signature)) is not None:
            return kept

        own = os.dup(
            descriptor
        )  # the caller may be cancelled and close it, while a thread still reads
        if found.st_size <= _CHUNK:
            digits = _digest_and_close(own)
        else:
            digits = await asyncio.get_running_loop().run_in_executor(None, _digest_and_close, own)
        self._kept[signature] = digits
        if len(self._kept) > _MOST_TAGS:
            self._kept.popitem(last=False)
        return digits


def _digest_and_close(descriptor: int) -> str:
    digest = hashlib.sha256()
    try:
        for chunk in _chunks(descriptor):
            digest.update(chunk)
    finally:
        os.close(descriptor)
    return digest.hexdigest()


def _chunks(descriptor: int) -> Iterator[bytes]:
    offset = 0
    while chunk := os.pread(descriptor, _CHUNK, offset):
        yield chunk
        offset += len(chunk)


def _cost(page: SentPage) -> int:
    return _ENTRY_COST + len(page.body or b"")
