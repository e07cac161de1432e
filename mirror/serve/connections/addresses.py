"""Addresses: the sockets of the server, bound once before a fork, and the clients of its limits."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Mapping

from mirror.errors import ConfigError

DEFAULT = "127.0.0.1:8080"
_BACKLOG = 1024
_FIRST_INHERITED = 3
_IPV6_PREFIX = 64
"""The addresses that one customer of a network has."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def bind(listen: str, *, where: str) -> list[socket.socket]:
    """Listen on ``HOST:PORT``, which was checked; a name may mean several addresses.

    Raises ``ConfigError``.
    """
    host, _, port = listen.rpartition(":")
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, kind, protocol, _, address in dict.fromkeys(found):
            listening = socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol)
            sockets.append(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.setblocking(False)
            listening.bind(address)
            listening.listen(_BACKLOG)
    except OSError as exc:
        for listening in sockets:
            listening.close()
        problem = (
            f"{listen} can't be listened on: {exc.strerror or exc}; choose another address,"
            " or end what uses it"
        )
        raise ConfigError(where=where, problem=problem) from exc
    return sockets


def address_of(listening: socket.socket) -> str:
    """Return ``HOST:PORT`` of a listening socket, with the port that the kernel gave where 0 was
    asked for.
    """
    if listening.family == socket.AF_UNIX:
        return f"unix:{listening.getsockname()}"
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def inherited_sockets(env: Mapping[str, str]) -> list[socket.socket]:
    """Return the listening sockets that systemd opened for this process (sd_listen_fds(3))."""
    if env.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = int(env.get("LISTEN_FDS", "0") or 0)
    sockets = [
        socket.socket(fileno=number) for number in range(_FIRST_INHERITED, _FIRST_INHERITED + count)
    ]
    for listening in sockets:
        listening.set_inheritable(False)
        listening.setblocking(False)
    return sockets


def parse_address(text: str) -> Address | None:
    """Return an address; one of IPv4 that is written as IPv6 is that of IPv4.

    None for any other text.
    """
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped if mapped is not None else address


def client_key(address: Address) -> str:
    """Return the unit that limits count: an address of IPv4, a network of IPv6."""
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
