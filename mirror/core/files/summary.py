"""The summary in a wheel's METADATA; pure.

Every placed wheel needs it, and no parser of mail, whose import takes 0.03 s of CPU: that is in
``project_metadata``. The bytes are untrusted: text of bounded size comes out.
"""

from __future__ import annotations

import re
from typing import Any, Final

MAX_SUMMARY: Final = 512
NO_VALUE: Final = "UNKNOWN"
"""The text of older tools for a field without a value."""
_MAX_LINE: Final = 2_000
_SUMMARY: Final = re.compile(rb"^Summary:[ \t]*([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
_END_OF_HEADERS: Final = re.compile(rb"\r?\n\r?\n")


def parse_summary(data: bytes) -> str:
    """Return the summary in the headers of METADATA; empty where there is none."""
    found = _END_OF_HEADERS.search(data)
    headers = data[: found.start()] if found else data
    summary = _SUMMARY.search(headers)
    text = one_line(summary[1].decode("utf-8", "replace"), MAX_SUMMARY) if summary else ""
    return "" if text == NO_VALUE else text


def one_line(text: Any, limit: int = _MAX_LINE) -> str:
    """Return a text as one line."""
    return " ".join(plain_text(text).split())[:limit]


def plain_text(value: Any) -> str:
    """Return a text without lone surrogates, as which the parser keeps bytes that are no UTF-8."""
    return str(value or "").encode("utf-8", "replace").decode()
