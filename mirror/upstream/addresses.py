"""Which network addresses an index may send us to: no redirect or link from a public index reaches into our network.

Invariants: a foreign host is at least as public as the index itself (loopback < private < global); link-local,
multicast, unspecified and reserved addresses are never contacted. Judged at connect, after name resolution, for every
address tried, so that a name that resolves differently the second time gains nothing. Behind a proxy only literal
addresses and ``localhost`` can be judged. ``allow-private`` lifts all of it.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from contextvars import ContextVar
from dataclasses import dataclass
from enum import IntEnum

from aiohttp import AddrInfoType

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Reach(IntEnum):
    """How public an address is; a foreign host must reach at least as far as the index."""

    FORBIDDEN = -1
    LOOPBACK = 0
    PRIVATE = 1
    GLOBAL = 2


def reach_of(address: str) -> Reach:
    """Return how public a literal address is. Raises ``ValueError`` for what is no address."""
    ip = _unwrap(ipaddress.ip_address(address.partition("%")[0]))
    if ip.is_loopback:
        return Reach.LOOPBACK
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip.is_reserved:
        return Reach.FORBIDDEN
    return Reach.GLOBAL if ip.is_global else Reach.PRIVATE


def reach_of_host(host: str) -> Reach | None:
    """Return how public a host of a URL is as far as its text says, or None for a name to be resolved."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return Reach.LOOPBACK
    try:
        return reach_of(name)
    except ValueError:
        pass
    try:
        # The C library also reads "127.1", "0x7f000001" and "2130706433" as addresses.
        return reach_of(socket.inet_ntoa(socket.inet_aton(name)))
    except (OSError, ValueError):
        return None


@dataclass(slots=True)
class Attempts:
    """What the connects of one request came to; some addresses of a name may be refused and others tried."""

    tried: int = 0
    refused: str | None = None


class AddressRule:
    """The rule of one index; ``connect_foreign`` is the socket factory of its connector for foreign hosts."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_all = allow_private
        self._own: Reach | None = None
        self._attempts: ContextVar[Attempts | None] = ContextVar("attempts", default=None)

    def learn_own(self, reach: Reach) -> None:
        """Take how public the index itself is; the first that is known counts."""
        if self._own is None:
            self._own = Reach.PRIVATE if reach is Reach.FORBIDDEN else reach

    def learn_own_address(self, address: str) -> None:
        """Take the address at which the index itself answered."""
        if self._own is None:
            self.learn_own(reach_of(address))

    @property
    def knows_own(self) -> bool:
        """Whether it is known how public the index is."""
        return self._own is not None

    def refusal(self, reach: Reach) -> str | None:
        """Return why an address of this reach must not be contacted, or None if it may."""
        if self._allow_all:
            return None
        if reach is Reach.FORBIDDEN:
            return "a link-local, multicast or reserved address; allow-private = true would allow it"
        # Until the index was reached it counts as global: the strictest rule.
        if reach < (Reach.GLOBAL if self._own is None else self._own):
            return f"a {reach.name.lower()} address, which a more public index must not lead to (allow-private = true)"
        return None

    def refusal_of_host(self, host: str) -> str | None:
        """Return why a URL's host must not be contacted as far as its text says, or None."""
        reach = reach_of_host(host)
        return None if reach is None else self.refusal(reach)

    def watch(self) -> Attempts:
        """Start to record the connects of the current request, and return the record."""
        attempts = Attempts()
        self._attempts.set(attempts)
        return attempts

    def connect_foreign(self, info: AddrInfoType) -> socket.socket:
        """Return a socket for one resolved address (aiohttp's ``socket_factory``), or raise ``OSError``."""
        family, kind, protocol, _, address = info
        attempts = self._attempts.get()
        cause = self.refusal(reach_of(str(address[0])))
        if cause is not None:
            if attempts is not None:
                attempts.refused = cause
            raise OSError(errno.EACCES, cause)
        if attempts is not None:
            attempts.tried += 1
        return socket.socket(family=family, type=kind, proto=protocol)


def _unwrap(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the IPv4 address that an IPv6 address stands for, if it does."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip
