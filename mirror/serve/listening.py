"""The sockets on which the server listens: bound once, before any process is forked."""

from __future__ import annotations

import socket

from mirror.errors import ConfigError

DEFAULT = "127.0.0.1:8080"
_BACKLOG = 1024


def bind(listen: str, *, where: str) -> list[socket.socket]:
    """Listen on ``HOST:PORT``, which was checked; a name may mean several addresses. Raises ``ConfigError``."""
    host, _, port = listen.rpartition(":")
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
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
        problem = f"{listen} can't be listened on: {exc.strerror or exc}; choose another address, or end what uses it"
        raise ConfigError(where=where, problem=problem) from exc
    return sockets


def address_of(listening: socket.socket) -> str:
    """Return ``HOST:PORT`` of a listening socket, with the port that the kernel gave where 0 was asked for."""
    if listening.family == socket.AF_UNIX:
        return f"unix:{listening.getsockname()}"
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
