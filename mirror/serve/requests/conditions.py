"""Whether a client has a representation already, and which part of it is asked for (RFC 9110, 13
and 14). Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, Protocol

import msgspec

_TAG: Final = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_ONE_RANGE: Final = re.compile(r"bytes\s*=\s*([0-9]*)\s*-\s*([0-9]*)", re.ASCII | re.IGNORECASE)
_MOST_DIGITS: Final = 18


class Lines(Protocol):
    """The lines of a request's headers."""

    def getall(self, key: str, /) -> list[str]:
        """Return the values of a header. Raises ``KeyError``."""

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of all lines."""


class JoinedHeaders(Mapping[str, str]):
    """The headers of a request; the values of a header that was sent in several lines are joined
    (RFC 9110, 5.3).
    """

    def __init__(self, headers: Lines) -> None:
        self._headers = headers

    def __getitem__(self, name: str) -> str:
        return ", ".join(self._headers.getall(name))

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(self._headers))

    def __len__(self) -> int:
        return len(set(self._headers))


class ByteRange(msgspec.Struct, frozen=True, kw_only=True):
    """The bytes from ``first`` up to ``end``, without ``end``."""

    first: int
    end: int


class Unsatisfiable(msgspec.Struct, frozen=True):
    """A range that begins past the end (416)."""


def is_unchanged(headers: Mapping[str, str], *, etag: str, modified: float) -> bool:
    """Return whether the client has this representation (304). A date counts only without a tag."""
    named = headers.get("If-None-Match")
    if named is not None:
        return named.strip() == "*" or etag in _TAG.findall(named)
    since = _parse_date(headers.get("If-Modified-Since"))
    return since is not None and int(modified) <= since


def select_part(
    headers: Mapping[str, str], *, size: int, etag: str, modified: float
) -> ByteRange | Unsatisfiable | None:
    """Return the part that a request asks for; None: the whole, also where several or malformed
    ones are asked for.
    """
    asked = headers.get("Range")
    found = _ONE_RANGE.fullmatch(asked.strip()) if asked is not None else None
    if found is None or not _is_same(headers.get("If-Range"), etag=etag, modified=modified):
        return None
    first, last = found.groups()
    if len(first) > _MOST_DIGITS or len(last) > _MOST_DIGITS:
        return Unsatisfiable() if len(first) > _MOST_DIGITS else _open_part(first, size)
    if not first:
        return _suffix(last, size)
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        return Unsatisfiable()
    return ByteRange(first=int(first), end=min(int(last) + 1, size) if last else size)


def _open_part(first: str, size: int) -> ByteRange | Unsatisfiable:
    """Return the part from ``first`` on, for a last byte far past the end."""
    if not first:
        return ByteRange(first=0, end=size) if size else Unsatisfiable()
    return ByteRange(first=int(first), end=size) if int(first) < size else Unsatisfiable()


def _suffix(last: str, size: int) -> ByteRange | Unsatisfiable | None:
    if not last:
        return None
    if not int(last) or not size:
        return Unsatisfiable()
    return ByteRange(first=max(size - int(last), 0), end=size)


def _is_same(if_range: str | None, *, etag: str, modified: float) -> bool:
    if if_range is None:
        return True
    text = if_range.strip()
    if text.startswith(('"', "W/")):
        return text == etag  # strong comparison: a weak tag never matches
    date = _parse_date(text)
    return date is not None and date == int(modified)


def _parse_date(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        date = parsedate_to_datetime(text)
        return int((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


def format_date(seconds: float) -> str:
    """Return a time as HTTP writes it."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
