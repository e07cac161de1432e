"""The client behind trusted proxies, and the address by which it reached the server. Pure.

Invariant: ``X-Forwarded-*`` counts only from a trusted proxy, and only for shown addresses, the
limit for each client, and the log.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from mirror.serve.connections.addresses import Address, Network, parse_address

_HOST: Final = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9.])?|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?",
    re.ASCII,
)
_PREFIX: Final = re.compile(r"(?:/[A-Za-z0-9._~@:+,=-]{1,200}){1,20}", re.ASCII)
_WITH_PORT: Final = re.compile(r"\[([^\]]*)\](?::[0-9]+)?|([0-9.]+):[0-9]+", re.ASCII)


class Headers(Protocol):
    """The headers of a request."""

    def getall(self, key: str, default: list[str], /) -> list[str]:
        """Return all values of a header."""


class Proxies:
    """The trusted proxies."""

    def __init__(self, networks: Iterable[str] = (), *, url: str | None = None) -> None:
        """``networks``: checked addresses and networks. ``url``: the configured base address."""
        self.networks: tuple[Network, ...] = tuple(map(ipaddress.ip_network, networks))
        self._url = url

    def is_trusted(self, address: Address | None) -> bool:
        """Return whether a proxy with this address is trusted."""
        return address is not None and any(address in network for network in self.networks)

    def client(self, peer: Address | None, headers: Headers) -> Address | None:
        """Return the client of a request: the last forwarded address that is not a trusted
        proxy's.
        """
        if not self.is_trusted(peer):
            return peer
        client = peer
        for word in reversed(_words(headers, "X-Forwarded-For")):
            address = _parse_forwarded(word)
            if address is None:
                break
            client = address
            if not self.is_trusted(address):
                break
        return client

    def shown_base(
        self, peer: Address | None, headers: Headers, *, is_tls: bool, fallback: str
    ) -> str:
        """Return the base address that a page shows to its reader; it ends in a slash.

        ``fallback``: ``HOST:PORT`` for a request without a valid ``Host``.
        """
        if self._url is not None:
            return self._url
        given = headers.getall("Host", [])
        scheme, prefix = "https" if is_tls else "http", ""
        host = given[0].strip() if len(given) == 1 else ""
        if self.is_trusted(peer):
            scheme = _last(headers, "X-Forwarded-Proto", ("http", "https")) or scheme
            host = _last(headers, "X-Forwarded-Host", _HOST) or host
            prefix = _last(headers, "X-Forwarded-Prefix", _PREFIX)
        shown = host if _HOST.fullmatch(host) else fallback
        return f"{scheme}://{shown}{prefix}/"


def _last(headers: Headers, name: str, allowed: re.Pattern[str] | Sequence[str]) -> str:
    """Return the last value of a header, as the nearest proxy wrote it, or nothing."""
    value = next(iter(reversed(_words(headers, name))), "")
    if isinstance(allowed, re.Pattern):
        value = value.rstrip("/")
        is_dotted = any(part in {".", ".."} for part in value.split("/"))
        return value if allowed.fullmatch(value) and not is_dotted else ""
    return value.lower() if value.lower() in allowed else ""


def _words(headers: Headers, name: str) -> list[str]:
    found = [word.strip() for value in headers.getall(name, []) for word in value.split(",")]
    return [word for word in found if word]


def _parse_forwarded(word: str) -> Address | None:
    found = _WITH_PORT.fullmatch(word.strip('"'))
    return parse_address((found[1] or found[2]) if found else word.strip('"'))
