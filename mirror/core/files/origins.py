"""The origins from which the pages of an index may be read.

An origin has the form of a resolved link's: ``https://host`` or ``http://host:8080``, lower-case,
without user info and without the scheme's usual port.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from mirror.core.files.links import parse_base

_PORT = re.compile(r":[0-9]+\Z")


class PageOrigins(msgspec.Struct, frozen=True, kw_only=True):
    """The origins of one index's pages. Made by ``page_origins``."""

    index: str
    """The origin of the index's own URL."""
    own: frozenset[str]
    """The index's origin; of an http index on the usual port, the same host's https as well."""
    allowed: frozenset[str]
    """``own`` and the origins that ``page-hosts`` adds."""


def page_origins(url: str, hosts: Iterable[str] = ()) -> PageOrigins:
    """Return the origins from which the pages of the index at ``url`` may be read.

    ``hosts``: ``host`` or ``host:port``, reached by https, or by http where the index is http.
    """
    index = parse_base(url)
    own = {index.origin}
    if index.scheme == "http" and not _PORT.search(index.authority):
        own.add(f"https://{index.authority}")
    schemes = ("https", "http") if index.scheme == "http" else ("https",)
    added = {parse_base(f"{scheme}://{host}/").origin for scheme in schemes for host in hosts}
    return PageOrigins(index=index.origin, own=frozenset(own), allowed=frozenset(own | added))


def origin_of_url(url: str) -> str:
    """Return the origin of an absolute http(s) URL. Raises ``ValueError`` for anything else."""
    return parse_base(url).origin
