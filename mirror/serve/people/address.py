"""The server's address in pages: marks that are replaced when a page is sent.

Invariant: the address depends on the request, so no page is kept with it. A mark begins with a NUL,
which no text of an index keeps (``rendering``).
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from markupsafe import Markup, escape

from mirror.config import is_loopback_host
from mirror.core.words.client_config import ClientAddress

INDEX_MARK: Final = Markup("\0index\0")
"""The address of the index."""
TRUST_MARK: Final = Markup("\0trust\0")
"""The option with which pip accepts plain http to another machine, or nothing."""


def client_address(base: str) -> ClientAddress:
    """Return how a client reaches the index below a base address, which ends in a slash."""
    parts = urlsplit(base)
    is_exposed = parts.scheme == "http" and not is_loopback_host(parts.hostname or "")
    return ClientAddress(url=f"{base}simple/", host=parts.netloc, is_exposed=is_exposed)


def put_address(body: bytes, base: str) -> bytes:
    """Return a page with the address in the place of its marks."""
    address = client_address(base)
    trust = f" --trusted-host {address.host}" if address.is_exposed else ""
    for mark, text in ((INDEX_MARK, address.url), (TRUST_MARK, trust)):
        body = body.replace(mark.encode(), str(escape(text)).encode())
    return body
