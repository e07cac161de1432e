"""Network addresses that an index may refer to: no redirect or link of a public index reaches into
the mirror's network.

Invariants: a host is at least as public as the index itself (loopback < private < global), and so
is the index's own name whenever it is resolved again in a cycle; link-local, multicast, unspecified
and reserved addresses, and the addresses of clouds' metadata services, are never contacted. Judged
at connect, after name resolution, for every address tried, so that a name that resolves differently
the second time gains nothing. Behind a proxy only literal addresses and ``localhost`` can be
judged. ``allow-private`` lifts all of it.

The tables follow the IANA special-purpose registries as of 2025, not the ``ipaddress`` module,
whose answers differ between versions of the interpreter.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from contextvars import ContextVar
from enum import IntEnum
from typing import Final

import msgspec
from aiohttp import AddrInfoType

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _networks(*texts: str) -> tuple[_Network, ...]:
    return tuple(map(ipaddress.ip_network, texts))


_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_LOOPBACK: Final = _networks("127.0.0.0/8", "::1/128")
_METADATA_SERVICES: Final = _networks(
    "100.100.100.200/32",  # Alibaba
    "168.63.129.16/32",  # Azure, in a public network
    "192.0.0.192/32",  # Oracle
    "fd00:42::42/128",  # Scaleway
    "fd00:ec2::23/128",  # Amazon, of containers
    "fd00:ec2::254/128",  # Amazon
    "fd20:ce::254/128",  # Google
)
_NEVER_CONTACTED: Final = _networks(
    "0.0.0.0/8",
    "169.254.0.0/16",  # link-local, where most clouds have their metadata services
    "224.0.0.0/4",  # multicast
    "240.0.0.0/4",  # reserved, and broadcast
    "fe80::/10",  # link-local
    "ff00::/8",  # multicast
)
_ASSIGNED_IPV6: Final = _networks("2000::/3", "fc00::/7", "fec0::/10")
"""Every other IPv6 address is reserved, or an alias of another address."""
_NOT_GLOBAL: Final = _networks(
    "10.0.0.0/8",
    "100.64.0.0/10",  # carrier-grade NAT
    "172.16.0.0/12",
    "192.0.0.0/24",  # protocol assignments
    "192.0.2.0/24",  # documentation
    "192.88.99.0/24",  # 6to4 relays
    "192.168.0.0/16",
    "198.18.0.0/15",  # benchmarks
    "198.51.100.0/24",  # documentation
    "203.0.113.0/24",  # documentation
    "2001::/23",  # protocol assignments, Teredo among them
    "2001:db8::/32",  # documentation
    "3fff::/20",  # documentation
    "fc00::/7",  # unique local
    "fec0::/10",  # site-local
)


class Reach(IntEnum):
    """How public an address is; a foreign host must reach at least as far as the index."""

    FORBIDDEN = -1
    LOOPBACK = 0
    PRIVATE = 1
    GLOBAL = 2


def reach_of(address: str) -> Reach:
    """Return how public a literal address is.

    Raises ``ValueError`` for a text that is not an address.
    """
    ip = _unwrap(ipaddress.ip_address(address.partition("%")[0]))
    if _is_in(ip, _LOOPBACK):
        return Reach.LOOPBACK
    if _is_in(ip, _NEVER_CONTACTED) or _is_in(ip, _METADATA_SERVICES):
        return Reach.FORBIDDEN
    if ip.version == 6 and not _is_in(ip, _ASSIGNED_IPV6):
        return Reach.FORBIDDEN
    return Reach.PRIVATE if _is_in(ip, _NOT_GLOBAL) else Reach.GLOBAL


def _is_in(ip: _Address, networks: tuple[_Network, ...]) -> bool:
    return any(ip in network for network in networks)


def reach_of_host(host: str) -> Reach | None:
    """Return how public a host of a URL is by its text alone, or None for a name to be resolved."""
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


class Attempts(msgspec.Struct):
    """The outcome of one request's connects; some addresses of a name may be refused and others
    tried.
    """

    tried: int = 0
    refused: str | None = None


class AddressRule:
    """The rule of one index; ``connect_foreign`` is the socket factory of its connector for names
    and foreign hosts.
    """

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_all = allow_private
        self._own: Reach | None = None
        self._learned: str | None = None
        self._attempts: ContextVar[Attempts | None] = ContextVar("attempts", default=None)

    def learn_own(self, reach: Reach) -> None:
        """Record how public the index itself is; the most public value counts."""
        reach = Reach.PRIVATE if reach is Reach.FORBIDDEN else reach
        self._own = reach if self._own is None else max(self._own, reach)

    def learn_own_address(self, address: str) -> None:
        """Record an address at which the index itself answered, or to which its name resolves."""
        if address != self._learned:  # it is the same one for each request of a connection
            self._learned = address
            self.learn_own(reach_of(address))

    @property
    def own(self) -> Reach | None:
        """How public the index is, if known."""
        return self._own

    @property
    def knows_own(self) -> bool:
        """Whether it is known how public the index is."""
        return self._own is not None

    def refusal(self, reach: Reach) -> str | None:
        """Return why an address of this reach must not be contacted, or None if it may."""
        if self._allow_all:
            return None
        if reach is Reach.FORBIDDEN:
            what = (
                "a link-local, multicast or reserved address, or that of a cloud's metadata service"
            )
            return f"{what}; allow-private = true would allow it"
        # Until the index was reached it counts as global: the strictest rule.
        if reach < (Reach.GLOBAL if self._own is None else self._own):
            return (
                f"a {reach.name.lower()} address, which a more public index must not lead to"
                " (allow-private = true)"
            )
        return None

    def refusal_of_host(self, host: str) -> str | None:
        """Return why a URL's host must not be contacted, judged by its text alone, or None."""
        reach = reach_of_host(host)
        return None if reach is None else self.refusal(reach)

    def watch(self) -> Attempts:
        """Start to record the connects of the current request, and return the record."""
        attempts = Attempts()
        self._attempts.set(attempts)
        return attempts

    def connect_foreign(self, info: AddrInfoType) -> socket.socket:
        """Return a socket for one resolved address (aiohttp's ``socket_factory``), or raise
        ``OSError``.
        """
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


def _unwrap(ip: _Address) -> _Address:
    """Return the IPv4 address in an IPv6 address, if there is one."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip
