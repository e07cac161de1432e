"""Detects an index that redirects a request to a sign-in page instead of answering it.

Only an answer to which the index itself redirected is examined: a root page that asks for a
password is no index.
"""

from __future__ import annotations

import re
import zlib
from typing import Final
from urllib.parse import unquote, urlsplit

from mirror.upstream.response import Response, media_type

PEEK_BYTES: Final = 64 * 1024

_VERSION = b"pypi:repository-version"
_PASSWORD = re.compile(rb"<input\b[^>]{0,1000}\btype\s*=\s*[\"']?password\b", re.IGNORECASE)
_FORM = re.compile(rb"<form\b", re.IGNORECASE)
_TITLE = re.compile(
    rb"<title\b[^>]{0,200}>[^<]{0,200}\b(?:sign|log)[\s-]?(?:in|on)\b", re.IGNORECASE
)
_ADDRESSES: Final = frozenset(
    {
        "login",
        "log-in",
        "signin",
        "sign-in",
        "sign_in",
        "sso",
        "saml",
        "saml2",
        "oauth2",
        "authorize",
    }
)


async def is_sign_in(response: Response) -> bool:
    """Return whether the answer, which stays unread, is a page at which people sign in.

    Raises ``Unavailable``.
    """
    kind = media_type(response.headers)[0]
    if response.status != 200 or kind not in {"text/html", "application/xhtml+xml", ""}:
        return False
    head = _decoded(await response.peek(PEEK_BYTES), response.headers.get("Content-Encoding", ""))
    if _VERSION in head:
        return False
    if _PASSWORD.search(head):
        return True
    is_named = bool(_TITLE.search(head)) or not _ADDRESSES.isdisjoint(_segments(response.url))
    return is_named and bool(_FORM.search(head))


def _segments(url: str) -> list[str]:
    return [unquote(part).lower() for part in urlsplit(url).path.split("/")]


def _decoded(head: bytes, encoding: str) -> bytes:
    if encoding.strip().lower() not in {"gzip", "x-gzip"}:
        return head
    try:
        return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(head, PEEK_BYTES)
    except zlib.error:
        return b""
