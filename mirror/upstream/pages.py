"""The body of a page, decoded and bounded: no answer can fill the memory or keep a core busy,
compressed or not.

Invariants: at most the limit plus one piece is kept, regardless of the compression's claims; all
bodies under way share ``PageMemory``; each member of a gzip encoding yields some bytes.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator

import msgspec
from anyio.lowlevel import checkpoint

from mirror.errors import BadPage, TooLarge, Unavailable
from mirror.upstream.limits.memory import PageLease
from mirror.upstream.response import FREE_BYTES, Response

_GZIP = 16 + zlib.MAX_WBITS
_PIECE_BYTES = 1024 * 1024
_STEP_BYTES = 16 * 1024
"""zlib copies the input after a member or a piece: with steps this small the copies cost
nothing.
"""
_FREE_MEMBERS = 1024
_MEMBER_BYTES = 4096
"""How many bytes a member of a gzip encoding has to bring on average, after the first ones."""

Body = bytes | bytearray


class PageLimit(msgspec.Struct, frozen=True, kw_only=True):
    """The largest page, decoded, and the configuration's key for it."""

    limit_bytes: int
    setting: str


async def read_page(
    response: Response, limit: PageLimit, lease: PageLease | None = None
) -> tuple[Body, str]:
    """Return the decoded body and its sha256. ``lease`` holds the room that the body needs.

    Raises ``TooLarge``, ``BadPage`` (an encoding that was not asked for, or is damaged) or
    ``Unavailable`` (cut, or no room for it in time).
    """
    url = response.url
    decoder = _decoder(response.headers.get("Content-Encoding", ""), url)
    digest = hashlib.sha256()
    body = (
        bytearray()
    )  # no list of pieces: each may be a single byte, and joining them would take the room twice
    while chunk := await response.read_chunk():
        if response.received > limit.limit_bytes:
            raise TooLarge(url=url, limit_bytes=limit.limit_bytes, setting=limit.setting)
        for piece in (
            [chunk]
            if decoder is None
            else decoder.pieces(chunk, room=limit.limit_bytes - len(body))
        ):
            length = len(body) + len(piece)
            if length > limit.limit_bytes:
                raise TooLarge(url=url, limit_bytes=limit.limit_bytes, setting=limit.setting)
            if lease is not None and length > FREE_BYTES and not lease.covers(length):
                await response.wait_for(
                    lease.hold_body(min(max(4 * length, length), limit.limit_bytes))
                )
            digest.update(piece)
            body += piece
            if len(piece) == _PIECE_BYTES:
                await (
                    checkpoint()
                )  # a small answer may decode for seconds, and others must go on meanwhile
    if decoder is not None:
        decoder.finish()
    return bytes(body) if len(body) <= FREE_BYTES else body, digest.hexdigest()


class Decoder:
    """Undoes gzip or deflate piece by piece."""

    def __init__(self, *, is_gzip: bool, url: str) -> None:
        self._is_gzip = is_gzip
        self._url = url
        self._inflate: zlib._Decompress | None = None
        self._has_ended = False
        self._members = self._decoded = 0

    def feed(self, chunk: bytes, *, room: int) -> list[bytes]:
        """Return all of ``pieces``."""
        return list(self.pieces(chunk, room=room))

    def pieces(self, chunk: bytes, *, room: int) -> Iterator[bytes]:
        """Yield the decoded pieces of a chunk, up to 1 MiB each; at most ``room`` bytes and one
        piece more are decoded.
        """
        last = self._decoded + room
        for start in range(0, len(chunk), _STEP_BYTES):
            step = chunk[start : start + _STEP_BYTES]
            while step and self._decoded <= last:
                inflate = self._inflate = self._inflate or self._next_member(step)
                try:
                    piece = inflate.decompress(step, _PIECE_BYTES)
                except zlib.error:
                    raise BadPage(
                        url=self._url, cause="its gzip or deflate encoding is damaged"
                    ) from None
                step = inflate.unconsumed_tail
                if inflate.eof:
                    step = inflate.unused_data
                    self._inflate, self._has_ended = None, True
                self._decoded += len(piece)
                yield piece

    def _next_member(self, first: bytes) -> zlib._Decompress:
        """Return the decoder of the next member: a gzip body may consist of several.

        Raises ``BadPage``.
        """
        if self._has_ended and not self._is_gzip:
            raise BadPage(url=self._url, cause="bytes follow the end of its deflate encoding")
        self._members += 1
        if self._members > _FREE_MEMBERS + self._decoded // _MEMBER_BYTES:
            raise BadPage(
                url=self._url, cause="its gzip encoding has too many members for their content"
            )
        return zlib.decompressobj(_GZIP if self._is_gzip else _deflate_form(first))

    def finish(self) -> None:
        """Raise ``Unavailable`` if the encoding's end is missing: the body was cut on the way."""
        if self._inflate is not None or not self._has_ended:
            raise Unavailable(url=self._url, cause="its compressed body was cut")


def _decoder(encoding: str, url: str) -> Decoder | None:
    name = encoding.strip().lower()
    if name in {"", "identity"}:
        return None
    if name in {"gzip", "x-gzip", "deflate"}:
        return Decoder(is_gzip=name != "deflate", url=url)
    raise BadPage(url=url, cause=f"its Content-Encoding {name!r} was not asked for")


def _deflate_form(first: bytes) -> int:
    """Return zlib's window bits: "deflate" is sent with zlib's header (RFC 9110) or, by some
    servers, without.
    """
    has_header = len(first) >= 2 and first[0] & 0x0F == 8 and int.from_bytes(first[:2]) % 31 == 0
    return zlib.MAX_WBITS if has_header or len(first) < 2 else -zlib.MAX_WBITS
