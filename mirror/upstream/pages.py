"""The body of a page, decoded and bounded: no answer can fill our memory, compressed or not.

Invariant: never more than the limit plus one piece is kept, whatever the compression promises.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass

from mirror.errors import BadPage, TooLarge, Unreachable
from mirror.upstream.response import Response

_GZIP = 16 + zlib.MAX_WBITS
_PIECE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class PageLimit:
    """The largest page, decoded, and the configuration's key that says so."""

    limit_bytes: int
    setting: str


async def read_page(response: Response, limit: PageLimit) -> tuple[bytes, str]:
    """Return the decoded body and its sha256.

    Raises ``TooLarge``, ``BadPage`` (an encoding that was not asked for, or is damaged) or ``Unreachable`` (cut).
    """
    url = response.url
    decoder = _decoder(response.headers.get("Content-Encoding", ""), url)
    digest = hashlib.sha256()
    pieces: list[bytes] = []
    kept = 0
    while chunk := await response.read_chunk():
        if response.received > limit.limit_bytes:
            raise TooLarge(url=url, limit_bytes=limit.limit_bytes, setting=limit.setting)
        for piece in [chunk] if decoder is None else decoder.feed(chunk, room=limit.limit_bytes - kept):
            kept += len(piece)
            if kept > limit.limit_bytes:
                raise TooLarge(url=url, limit_bytes=limit.limit_bytes, setting=limit.setting)
            digest.update(piece)
            pieces.append(piece)
    if decoder is not None:
        decoder.finish()
    return b"".join(pieces), digest.hexdigest()


class Decoder:
    """Undoes gzip or deflate piece by piece."""

    def __init__(self, *, is_gzip: bool, url: str) -> None:
        self._is_gzip = is_gzip
        self._url = url
        self._inflate: zlib._Decompress | None = None
        self._has_ended = False

    def feed(self, chunk: bytes, *, room: int) -> list[bytes]:
        """Return what a chunk decodes to; at most about ``room`` bytes and one piece more, the rest is not decoded."""
        pieces: list[bytes] = []
        left = room
        while chunk and left >= 0:
            if self._inflate is None:
                if self._has_ended and not self._is_gzip:
                    raise BadPage(url=self._url, cause="bytes follow the end of its deflate encoding")
                self._inflate = zlib.decompressobj(_GZIP if self._is_gzip else _deflate_form(chunk))
            try:
                piece = self._inflate.decompress(chunk, _PIECE_BYTES)
            except zlib.error:
                raise BadPage(url=self._url, cause="its gzip or deflate encoding is damaged") from None
            left -= len(piece)
            pieces.append(piece)
            chunk = self._inflate.unconsumed_tail
            if self._inflate.eof:
                # A gzip body may consist of several members.
                chunk = self._inflate.unused_data
                self._inflate, self._has_ended = None, True
        return pieces

    def finish(self) -> None:
        """Raise ``Unreachable`` if the encoding's end is missing: the body was cut on the way."""
        if self._inflate is not None or not self._has_ended:
            raise Unreachable(url=self._url, cause="its compressed body was cut")


def _decoder(encoding: str, url: str) -> Decoder | None:
    name = encoding.strip().lower()
    if name in {"", "identity"}:
        return None
    if name in {"gzip", "x-gzip", "deflate"}:
        return Decoder(is_gzip=name != "deflate", url=url)
    raise BadPage(url=url, cause=f"its Content-Encoding {name!r} was not asked for")


def _deflate_form(first: bytes) -> int:
    """Return zlib's window bits: "deflate" is sent with zlib's header (RFC 9110) or, by some servers, without."""
    has_header = len(first) >= 2 and first[0] & 0x0F == 8 and int.from_bytes(first[:2]) % 31 == 0
    return zlib.MAX_WBITS if has_header or len(first) < 2 else -zlib.MAX_WBITS
