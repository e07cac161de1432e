"""The explanation in the body of a refusal: an index's policy, a bucket's error, a sign-in page.

Invariants: bounded, one line; no query of the request or of its redirects is repeated. Registered
secrets are removed later, by ``logs.redact``.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final
from urllib.parse import unquote, unquote_plus

import msgspec

from mirror.errors import BadPage, Unavailable, shown_url
from mirror.upstream.pages import Decoder
from mirror.upstream.response import DRAIN_BYTES, Response, media_type

MAX_CHARS: Final = 2000
"""More than any message shows: a secret in the text must be found before the text is cut."""

_MESSAGES: Final = 3
_KEYS: Final = ("message", "detail", "reason", "error_description", "error", "title")
_LEAST_HIDDEN: Final = 4
"""A shorter part of a query is no secret, and its letters occur in any text."""

_XML_MESSAGE = re.compile(r"<(?:\w+:)?Message>([^<]{1,4000})</(?:\w+:)?Message>", re.IGNORECASE)
_TITLE = re.compile(r"<title\b[^>]{0,200}>([^<]{1,4000})</title", re.IGNORECASE)
_HEADING = re.compile(r"<h[1-3]\b[^>]{0,200}>([^<]{1,4000})</h[1-3]", re.IGNORECASE)
_URL = re.compile(r"https?://[^\s\"'<>]+")


async def read_words(response: Response, *, asked: Iterable[str]) -> str:
    """Return the explanation in an answer's body, or an empty text.

    ``asked``: URLs whose queries are never repeated.
    """
    body = await read_text(response)
    return _without_queries(_message_of(body, response), asked)[:MAX_CHARS] if body else ""


async def read_text(response: Response) -> str:
    """Return the beginning of an answer's body as text; nothing where it can't be read."""
    try:
        body = await response.read_at_most(DRAIN_BYTES) or b""
        encoding = response.headers.get("Content-Encoding", "").strip().lower()
        if body and encoding in {"gzip", "x-gzip", "deflate"}:
            decoder = Decoder(is_gzip=encoding != "deflate", url=response.url)
            body = b"".join(decoder.feed(body, room=DRAIN_BYTES))[:DRAIN_BYTES]
    except (Unavailable, BadPage):
        return ""
    return body.decode("utf-8", "replace")


def _message_of(body: str, response: Response) -> str:
    kind = media_type(response.headers)[0]
    start = body.lstrip("\ufeff \t\r\n")
    if "json" in kind or start[:1] in {"{", "["}:
        return _one_line("; ".join(_json_messages(start)))
    if "xml" in kind or start.startswith("<?xml"):
        found = _XML_MESSAGE.search(body)
        if found is not None:
            return _one_line(html.unescape(found[1]))
    if start[:1] == "<":
        found = _TITLE.search(body) or _HEADING.search(body)
        return _one_line(html.unescape(found[1])) if found is not None else ""
    # Some servers label a bare sentence as HTML.
    return (
        _one_line(body) if kind in {"text/plain", "text/html", ""} and "\ufffd" not in body else ""
    )


def _json_messages(text: str) -> list[str]:
    try:
        answer = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return []
    return list(dict.fromkeys(_messages_in(answer)))[:_MESSAGES]


def _messages_in(answer: Any, depth: int = 0) -> Iterator[str]:
    if isinstance(answer, str) and depth:
        if answer.strip():
            yield answer[: 2 * MAX_CHARS]
    elif isinstance(answer, list) and depth <= 2:
        for item in answer[:_MESSAGES]:
            yield from _messages_in(item, depth + 1)
    elif isinstance(answer, dict) and depth <= 3:
        if isinstance(answer.get("errors"), list | dict):
            yield from _messages_in(answer["errors"], depth + 1)
        for key in _KEYS:
            found = list(_messages_in(answer.get(key), depth + 1))
            if found:
                yield from found
                return


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _without_queries(text: str, asked: Iterable[str]) -> str:
    """Return ``text`` without the queries of its own URLs and of those that were asked for, and
    without their parts.
    """
    found = _URL.sub(lambda match: shown_url(match[0]), text)
    for url in asked:
        for part in _parts_of_query(url.partition("#")[0].partition("?")[2]):
            found = found.replace(part, "…")
    return found


def _parts_of_query(query: str) -> list[str]:
    """Return a query and its values in each spelling in which an answer may repeat them, the
    longest first.
    """
    values = [query, *(part.partition("=")[2] or part for part in re.split("[&;]", query))]
    spelled = {
        text
        for value in values
        for text in (value, unquote(value), unquote_plus(value), html.escape(value))
    }
    return sorted((text for text in spelled if len(text) >= _LEAST_HIDDEN), key=len, reverse=True)
