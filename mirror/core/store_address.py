"""The address of a tree in an object store: ``s3://bucket`` or ``s3://bucket/prefix``."""

from __future__ import annotations

import re
from typing import Final

import msgspec

SCHEME: Final = "s3://"

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_SEGMENT = re.compile(r"[A-Za-z0-9!_.'()-]{1,200}")
_LONGEST_PREFIX: Final = 400
"""A key has at most 1,024 bytes; a blob's own part takes up to 330."""


class StoreAddress(msgspec.Struct, frozen=True, kw_only=True):
    """A bucket and the prefix of all keys of a tree; the prefix is empty or has no slash at its
    ends.
    """

    bucket: str
    prefix: str = ""

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.prefix}".rstrip("/")

    def shown(self, key: str) -> str:
        """Return the whole address of an object, for messages."""
        return f"{self}/{key}" if key else str(self)


def is_store_address(text: str) -> bool:
    """Return whether a text has the form of an address with a scheme, not of a path."""
    return "://" in text


def parse_store_address(text: str) -> StoreAddress:
    """Return the parts of an address; a slash at its end does not count.

    Raises ``ValueError``, whose text names the expected form.
    """
    if not text.startswith(SCHEME):
        raise ValueError("an address such as s3://bucket/prefix")
    bucket, _, prefix = text.removeprefix(SCHEME).partition("/")
    if not _BUCKET.fullmatch(bucket) or ".." in bucket:
        raise ValueError(
            "the name of a bucket after s3:// (3 to 63 lower-case letters, digits, dots and"
            " hyphens; no user, port or query)"
        )
    prefix = prefix.removesuffix("/")
    segments = prefix.split("/") if prefix else []
    if len(prefix) > _LONGEST_PREFIX or not all(map(_is_segment, segments)):
        raise ValueError(
            "a prefix of letters, digits and !_.'()- between single slashes, at most"
            f" {_LONGEST_PREFIX} characters"
        )
    return StoreAddress(bucket=bucket, prefix=prefix)


def _is_segment(segment: str) -> bool:
    return _SEGMENT.fullmatch(segment) is not None and segment not in {".", ".."}
