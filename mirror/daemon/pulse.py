"""The daemon's liveness and current activity: for systemd's watchdog and status line, and for the
health endpoint.

Invariant: the watchdog is fed only after progress since the last check, or while the daemon rightly
waits. A cycle that is stuck is not fed, although the event loop turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio

from mirror.logs import get_logger
from mirror.notify import ServiceManager

CHECK_EVERY_S = 5.0

LOOP_LIMIT_S = 60.0
"""Maximum time between two turns of the event loop before it counts as dead."""

STUCK_LIMIT_S = 900.0
"""Maximum time without progress before work counts as stuck; the longest waits for an upstream are
far shorter.
"""

_log = get_logger(__name__)


class Pulse:
    """The current activity and its progress. ``is_alive`` may be called from another thread."""

    def __init__(
        self, manager: ServiceManager, *, steady: Callable[[], float] = time.monotonic
    ) -> None:
        self._manager = manager
        self._steady = steady
        self._beat_s = self._moved_s = steady()
        self._describe: Callable[[], str] = lambda: "starting"
        self._marker: Callable[[], object] | None = None
        self._seen: object = None
        self._sent_status = ""
        self._is_unheard = False

    @property
    def doing(self) -> str:
        """The current activity, in words."""
        return self._describe()

    def wait(self, text: str) -> None:
        """From now on there is nothing to do but wait."""
        self._describe, self._marker = lambda: text, None
        self._send_status()

    @contextmanager
    def work(self, describe: Callable[[], str], marker: Callable[[], object]) -> Iterator[None]:
        """Work; ``marker`` gives another value whenever it has moved on."""
        before = self._describe
        self._describe, self._marker, self._seen = describe, marker, object()
        self._send_status()
        try:
            yield
        finally:
            self._describe, self._marker = before, None

    async def run(self) -> None:
        """Check again and again, until cancelled."""
        period_s = min(CHECK_EVERY_S, (self._manager.watchdog_s or 4 * CHECK_EVERY_S) / 4)
        while True:
            self.check()
            await anyio.sleep(period_s)

    def check(self) -> None:
        """Record that the loop turns; feed the watchdog if all is well."""
        self._beat_s = self._steady()
        value = self._marker() if self._marker is not None else None
        is_well = self._marker is None or value != self._seen
        self._seen = value
        if is_well:
            self._moved_s = self._beat_s
            self.send(self._manager.alive)
        self._send_status()

    def _send_status(self) -> None:
        doing = self.doing
        if doing != self._sent_status:
            self._sent_status = doing
            self.send(lambda: self._manager.status(doing))

    def send(self, message: Callable[[], None]) -> None:
        """Send a message to the service manager; a failure is logged once and stops nothing."""
        try:
            message()
        except OSError as exc:
            if not self._is_unheard:
                self._is_unheard = True
                _log.warning("systemd.unreachable", problem=exc.strerror or str(exc))
            return
        if self._is_unheard:
            self._is_unheard = False
            _log.info("systemd.reached")

    def is_alive(self) -> bool:
        """Return whether the loop turns and the work moves."""
        now_s = self._steady()
        return now_s - self._beat_s < LOOP_LIMIT_S and now_s - self._moved_s < STUCK_LIMIT_S
