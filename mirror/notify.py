"""Messages to systemd: readiness, current activity, watchdog (sd_notify(3)).

Responsible for the protocol only: the caller chooses the words and the time. A socket that is gone
is an ``OSError`` of ``send``; without ``$NOTIFY_SOCKET`` every message is dropped.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_MAX_STATUS = 400
_PATIENCE_S = 1.0


class ServiceManager:
    """The service manager that started this process, if there is one."""

    def __init__(self, env: Mapping[str, str]) -> None:
        path = env.get("NOTIFY_SOCKET", "")
        is_abstract = path.startswith("@")
        self._address = "\0" + path[1:] if is_abstract else path
        if not path.startswith(("@", "/")):
            self._address = ""
        self.watchdog_s = _watchdog_s(env) if self._address else None
        """The watchdog's timeout in seconds; None: no watchdog."""

    @property
    def is_there(self) -> bool:
        """Whether anybody listens."""
        return bool(self._address)

    def ready(self, status: str) -> None:
        """Report that start-up, or a reload, is done. Raises ``OSError``."""
        self.send("READY=1", _status(status))

    def reloading(self) -> None:
        """Report that the configuration is read again; ``ready`` ends it. Raises ``OSError``."""
        self.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Report that the shutdown has begun. Raises ``OSError``."""
        self.send("STOPPING=1", _status("stopping"))

    def status(self, text: str) -> None:
        """Send the current activity as one line. Raises ``OSError``."""
        self.send(_status(text))

    def alive(self) -> None:
        """Feed the watchdog. Raises ``OSError``."""
        self.send("WATCHDOG=1")

    def send(self, *assignments: str) -> None:
        """Send one message. Raises ``OSError`` where it can't be delivered."""
        if not self._address:
            return
        message = "\n".join(assignments).encode()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)
            try:
                sender.sendto(message, self._address)
            except BlockingIOError:
                # Its queue is full. Repeated messages may be lost; others are worth a short wait.
                if not assignments[0].startswith(("WATCHDOG=", "STATUS=")):
                    sender.settimeout(_PATIENCE_S)
                    sender.sendto(message, self._address)


def without_manager(env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a program that the mirror starts: it must not send messages in its
    name.
    """
    return {name: value for name, value in env.items() if name not in _VARIABLES}


def _status(text: str) -> str:
    return f"STATUS={' '.join(text.split())[:_MAX_STATUS]}"


def _watchdog_s(env: Mapping[str, str]) -> float | None:
    if env.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        return int(env.get("WATCHDOG_USEC", "")) / 1e6 or None
    except ValueError:
        return None
