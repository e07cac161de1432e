"""The target in the first line of a request, split into its parts. Pure.

Invariant: a segment is decoded once and never split again, so that ``%2F`` or ``%2e%2e`` lead
nowhere.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl, unquote, unquote_to_bytes

import msgspec

LONGEST: Final = 4096
"""Maximum characters of a target: the longest file's has under 600, percent-encoded under 1,000."""

_BAD_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")


class MalformedTargetError(ValueError):
    """A target that can't be read; the text is the reason."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A path below the server's base address."""

    segments: tuple[str, ...]
    """Decoded; empty for the base address itself."""
    has_slash: bool
    """Whether it ends with one."""
    query: str
    """As received, without the question mark."""

    def value(self, key: str) -> str | None:
        """Return the first value of a key in the query, as a form sends it."""
        for name, value in parse_qsl(self.query, keep_blank_values=True):
            if name == key:
                return value.replace("\0", " ")
        return None

    @property
    def format(self) -> str | None:
        """The first value of ``format`` in the query; ``+`` is not a space."""
        for part in self.query.split("&") if self.query else ():
            key, has_value, value = part.partition("=")
            if key == "format" and has_value:
                return unquote(value)
        return None


def shown_path(raw: str) -> str:
    """Return the path of a raw target for the log: without user info, host and query."""
    return (_ABSOLUTE.sub("", raw, count=1) or "/").partition("?")[0].partition("#")[0]


def parse_target(raw: str) -> Target:
    """Return the parts of a raw target. Raises ``MalformedTargetError``."""
    if len(raw) > LONGEST:
        raise MalformedTargetError("the address is too long")
    path, _, query = _ABSOLUTE.sub("", raw, count=1).partition("#")[0].partition("?")
    path = path or "/"
    if not path.startswith("/"):
        raise MalformedTargetError("the address does not begin with a slash")
    if _BAD_PERCENT.search(path):
        raise MalformedTargetError("the address has a percent sign without two hexadecimal digits")
    *segments, last = path[1:].split("/")
    if last:
        segments.append(last)
    decoded = tuple(map(_decode, segments))
    return Target(segments=decoded, has_slash=not last, query=query)


def _decode(segment: str) -> str:
    try:
        text = unquote_to_bytes(segment).decode("utf-8")
    except UnicodeError:
        raise MalformedTargetError("the address is not UTF-8") from None
    if "\0" in text:
        raise MalformedTargetError("the address has a NUL")
    return text
