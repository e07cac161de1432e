"""How the state stores links of files: never a query, never the secret path of an index.

A query is often a signature that opens the file to every holder of the link, and it expires. The
state keeps such a link with a bare ``?`` at its end: to fetch the file again, its page is read
again. Links of an index whose own address is a secret are kept relative to that address.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from urllib.parse import unquote

import msgspec

from mirror.core.files.links import parse_base, resolve_link

_ORDINARY_SEGMENTS = frozenset(
    {
        "",
        "-",
        "+simple",
        "api",
        "groups",
        "index",
        "packages",
        "projects",
        "public",
        "pypi",
        "python",
        "root",
        "simple",
    }
)
"""Segments of a path that many indexes have; to hide them would blank out half of every message."""


class KeptLinks(msgspec.Struct, frozen=True, kw_only=True):
    """How the state keeps the links of one index."""

    secret_root: str | None = None
    """The absolute URL of the root page where its path is a secret; None where links are kept
    absolute.
    """

    def kept(self, url: str) -> str:
        """Return the form of an absolute link that the state stores: no query, no secret.

        The result is empty for a link whose secret can't be cut out.
        """
        bare, mark, _query = url.partition("?")
        if self.secret_root is not None:
            bare = _relative(bare, self.secret_root)
            if not bare or _has_any(bare, secret_segments(self.secret_root)):
                return ""
        return bare + mark

    def whole(self, kept: str) -> str:
        """Return the absolute link of ``kept``; an empty text stays empty."""
        if self.secret_root is None or not kept or "://" in kept:
            return kept
        return resolve_link(parse_base(self.secret_root), kept)

    def kept_address(self, address: str | None) -> str | None:
        """Return the stored form of a page's address, which is relative to the root; None is the
        usual address.
        """
        if address is None or self.secret_root is None:
            return address
        return self.kept(resolve_link(parse_base(self.secret_root), address)) or None


def masked_root(url: str) -> str:
    """Return the stored form of a secret address: its host, and a digest by which a change is
    noticed.
    """
    base = parse_base(url)
    return f"{base.origin}/***#{hashlib.sha256(url.encode()).hexdigest()[:32]}"


def is_masked(root: str) -> bool:
    """Return whether an address that the state keeps lacks its secret."""
    return "/***#" in root


ABSOLUTE_LINKS = KeptLinks()
"""Of an index whose address is not a secret."""


def is_incomplete(kept: str) -> bool:
    """Return whether a kept link is too incomplete to fetch the file, so that its page must be read
    again.
    """
    return not kept or kept.endswith("?")


def secret_segments(url: str) -> tuple[str, ...]:
    """Return the parts of a secret address that must not appear: its path and each segment that is
    no ordinary word.
    """
    path = url.split("://", 1)[-1].partition("/")[2]
    segments = [s for s in path.split("/") if s.lower() not in _ORDINARY_SEGMENTS]
    return tuple(dict.fromkeys([*segments, *(unquote(s) for s in segments)]))


def _relative(url: str, root: str) -> str:
    """Return ``url`` relative to the folder of ``root``; unchanged on another origin."""
    base = parse_base(root)
    if not url.startswith(f"{base.origin}/"):
        return url
    target, folder = url[len(base.origin) :].split("/")[1:], base.folder.split("/")[1:-1]
    shared = 0
    while shared < min(len(target) - 1, len(folder)) and target[shared] == folder[shared]:
        shared += 1
    ups = ["..", *[".."] * (len(folder) - shared - 1)] if shared < len(folder) else ["."]
    return "/".join([*ups, *target[shared:]])


def _has_any(text: str, secrets: Collection[str]) -> bool:
    plain = unquote(text)
    return any(secret in text or secret in plain for secret in secrets)
