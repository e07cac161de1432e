"""Characters that turn the direction of text around, so that a name or a reason reads as something
that it is not.

Their data stays the same: they are escaped in the way of each format, never left out.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Final

_MARKS: Final = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))

HTML_REFERENCES: Final[Mapping[int, str]] = {mark: f"&#x{mark:X};" for mark in _MARKS}
"""For ``str.translate``: each mark as a character reference."""

_ESCAPES: Final[Mapping[int, str]] = {mark: f"\\u{mark:04x}" for mark in _MARKS}


def escape_marks(text: str) -> str:
    r"""Return text with each mark as a visible escape, ``\u202e``; JSON stays JSON of the same
    value.
    """
    return text if text.isascii() else text.translate(_ESCAPES)


def escape_marks_in_json(data: bytes) -> bytes:
    """Return JSON in UTF-8 with each mark as an escape: non-ASCII characters occur in its strings
    only.
    """
    if data.isascii():
        return data
    return _marks_in_utf8().sub(lambda found: _ESCAPES[ord(found[0].decode())].encode(), data)


@functools.cache
def _marks_in_utf8() -> re.Pattern[bytes]:
    """Return what matches each mark; compiled with the first page that is not ASCII."""
    # In UTF-8 no character's bytes are found within others.
    return re.compile(b"|".join(re.escape(chr(mark).encode()) for mark in _MARKS))
