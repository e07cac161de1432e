"""Ports for programs that choose none themselves, and ports on which nobody listens.

A port that the system chose and that was let go may be another process's a moment later: the system gives it to the next
one that asks, and each connection takes one too. These lie below the range that the system chooses from, and each belongs
to one process of the tests until that ends.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager

_RANGE = range(20_000, 32_000)
_CLAIMS: list[socket.socket] = []
"""Sockets with the names of the ports; the system closes them when the process ends."""


def claim_ports(count: int) -> list[int]:
    """Return free ports of loopback, which no other process of the tests gets."""
    found: list[int] = []
    for port in random.SystemRandom().sample(_RANGE, len(_RANGE)):
        if len(found) == count:
            return found
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(f"\0mirror-tests-port-{port}")
            with socket.socket() as tried:
                tried.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
            continue
        _CLAIMS.append(claim)
        found.append(port)
    raise RuntimeError("no port is free")


@contextmanager
def closed_port() -> Iterator[int]:
    """Yield a port of loopback that refuses connections: it is taken, and nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]
