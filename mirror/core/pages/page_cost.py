"""Maximum memory that the values of a page can take, estimated from its bytes before any value is
made.

A page of some megabytes can hold enough small values to take gigabytes. The estimates count the
characters that each value needs in the text (a comma, a bracket, a tag), so no text can hold more
values than estimated. They are upper limits: a page of 100,000 ordinary files stays below them.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from mirror.core.files.links import MAX_LINK_LENGTH
from mirror.errors import TooLarge

PAGE_MEMORY_BYTES: Final = 800 << 20
"""Maximum for the values of one project's page, and of all that are under way."""
ROOT_MEMORY_BYTES: Final = 1500 << 20
"""Maximum for the values of a root page, its body included."""
MAX_FILE_BYTES: Final = 64 << 10
"""Maximum length of one file's entry on a page, its unknown keys included."""
MAX_VALUE_BYTES: Final = 16 << 10
"""Maximum length of each known key of a longer one."""
MAX_META_BYTES: Final = 64 << 10
"""Maximum length of a page's own unknown keys."""
MAX_VERSIONS_BYTES: Final = 256 << 10
NAME_BYTES: Final = 200
"""Bytes of a name in a mapping, in addition to its characters."""

_BASE: Final = re.compile(rb"<base[\s/>]", re.IGNORECASE)
_OBJECT_BYTES: Final = 500
"""A JSON object that may be a file, with the values made from it."""
_ARRAY_BYTES: Final = 150
_ITEM_BYTES: Final = 250
_TAG_BYTES: Final = 600
_FREE_URL: Final = 100
_WIDE: Final = 4
"""Bytes per character of a text that has one character beyond the Basic Multilingual Plane."""

_STEP_BYTES: Final = 1 << 20
_RAW_BYTES: Final = 80
_NESTED_OBJECTS: Final = 4
"""An item of a root page may have objects in it, in keys of later standards."""

Body = bytes | bytearray


def _width_of(body: Body, escape: bytes) -> int:
    """Return how many bytes a character may take in memory; ``escape`` begins a character
    reference.
    """
    return 1 if body.isascii() and escape not in body else _WIDE


def json_page_cost(body: Body, *, url: str) -> int:
    """Return how many bytes the values of a project's page may take.

    ``url`` is the base of relative links.
    """
    objects = body.count(b"{")
    return (
        len(body) * _width_of(body, b"\\u")
        + objects * (_OBJECT_BYTES + max(0, len(url) - _FREE_URL))
        + body.count(b"[") * _ARRAY_BYTES
        + body.count(b",") * _ITEM_BYTES
    )


def html_page_cost(body: Body, *, url: str) -> int:
    """Return the same for a page in HTML."""
    longest_base = MAX_LINK_LENGTH if _BASE.search(body) else len(url)
    cost = len(body) * _width_of(body, b"&") + body.count(b"<") * (
        _TAG_BYTES + max(0, longest_base - _FREE_URL)
    )
    # The parser itself counts the links that a base lengthens, and stops at the limit.
    return min(cost, PAGE_MEMORY_BYTES) if longest_base != len(url) else cost


def check_json_root(body: Body, *, url: str, max_projects: int) -> None:
    """Raise ``TooLarge`` where reading a root page would take too much memory."""
    objects = body.count(b"{")
    if objects > _NESTED_OBJECTS * max_projects:
        raise too_many_projects(url, max_projects)
    if len(body) * (1 + _width_of(body, b"\\u")) + objects * NAME_BYTES > ROOT_MEMORY_BYTES:
        raise too_costly(url, ROOT_MEMORY_BYTES, f"{objects} objects in {len(body)} bytes")


def check_json_items(projects: msgspec.Raw | bytes, *, url: str) -> None:
    """Raise ``TooLarge`` where the list of a root page would take too much memory to be read item
    by item.
    """
    text = memoryview(projects)
    items = sum(
        bytes(text[start : start + _STEP_BYTES]).count(b",")
        for start in range(0, len(text), _STEP_BYTES)
    )
    if len(text) * 2 + items * _RAW_BYTES > ROOT_MEMORY_BYTES:
        raise too_costly(url, ROOT_MEMORY_BYTES, f"{items} values in {len(text)} bytes")


def too_many_projects(url: str, max_projects: int) -> TooLarge:
    """Return the error for a root page that lists more names than the configuration allows."""
    what = f"lists more than {max_projects} projects; raise limits.projects to allow it"
    return TooLarge(url=url, limit_bytes=ROOT_MEMORY_BYTES, setting="limits.projects", what=what)


def too_costly(url: str, limit_bytes: int, found: str) -> TooLarge:
    """Return the error for a page whose values would take more memory than one page may."""
    what = (
        f"would take more than {limit_bytes} bytes of memory to read ({found});"
        " no key of [limits] raises this limit"
    )
    return TooLarge(url=url, limit_bytes=limit_bytes, setting="", what=what)
