"""Rates and deadlines of requests, on the event loop's clock.

Invariant: a wait that the program imposes itself (a rate limit) never counts against an upstream's
deadline.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import Final

import anyio

loop_time: Final = time.monotonic
"""The time on the event loop's clock: asyncio's own (``BaseEventLoop.time``). To ask the loop for
it costs several times as much, for each request several times.
"""


class Slots:
    """A semaphore of which some slots can be reserved for another process; a reservation precedes
    waiters.

    ``give_back`` follows each ``take``, and each ``take_free`` that returned True.
    """

    def __init__(self, count: int) -> None:
        self._semaphore = anyio.Semaphore(count, fast_acquire=True)
        self._reserving = 0
        self._is_reserved = anyio.Event()

    def take_free(self) -> bool:
        """Take one if it is free, and return whether it was: nobody waits then."""
        if not self._semaphore.value:
            return False
        self._semaphore.acquire_nowait()
        return True

    async def take(self) -> None:
        """Wait for one."""
        await self._semaphore.acquire()

    def give_back(self) -> None:
        """Release one, or give it to the reservation that waits."""
        if not self._reserving:
            self._semaphore.release()
            return
        self._reserving -= 1
        if not self._reserving:
            self._is_reserved.set()

    async def reserve(self, count: int) -> None:
        """Reserve ``count`` slots, waiting until they are free; one reservation at a time."""
        self._reserving = count
        while self._reserving and self._semaphore.value:
            self._semaphore.acquire_nowait()
            self._reserving -= 1
        if not self._reserving:
            return
        self._is_reserved = anyio.Event()
        try:
            await self._is_reserved.wait()
        except BaseException:
            reserved, self._reserving = count - self._reserving, 0
            self.release(reserved)
            raise

    def release(self, count: int) -> None:
        """Release reserved slots."""
        for _ in range(count):
            self._semaphore.release()


class TokenBucket:
    """At most ``per_second`` units each second, with a burst of one second's worth (at least 1); 0:
    no limit.
    """

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._burst = max(per_second, 1.0)
        self._tokens = self._burst
        self._filled_at: float | None = None

    @property
    def is_off(self) -> bool:
        """Whether there is no limit."""
        return self._per_second <= 0

    async def take(self, units: float) -> float:
        """Take ``units`` and return the seconds waited.

        More than the burst may be taken: the wait pays for it.
        """
        if self.is_off:
            return 0.0
        now = loop_time()
        if self._filled_at is not None:
            self._tokens = min(
                self._burst, self._tokens + (now - self._filled_at) * self._per_second
            )
        self._filled_at = now
        self._tokens -= units
        if self._tokens >= 0:
            return 0.0
        # The tokens are taken before the wait, so that later callers queue behind it.
        wait_s = -self._tokens / self._per_second
        await anyio.sleep(wait_s)
        return wait_s


class Budget:
    """How long one page may take over all of its tries; starts when its first request is really
    sent.
    """

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self.deadline = math.inf

    def start(self) -> None:
        """Start the clock, unless it runs."""
        if self.deadline == math.inf:
            self.deadline = loop_time() + self.limit_s

    def extend(self, waited_s: float) -> None:
        """Exclude the seconds of the program's own waiting."""
        self.deadline += waited_s

    def remaining_s(self) -> float:
        """Return the seconds left; the whole limit before the start."""
        return self.limit_s if self.deadline == math.inf else self.deadline - loop_time()


class Deadlines:
    """Cancels each scope whose time has come, by one timer for all: arming one for each request
    costs a tenth of it.
    """

    def __init__(self) -> None:
        self._watched: dict[anyio.CancelScope, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, scope: anyio.CancelScope, deadline: float) -> None:
        """Cancel ``scope`` at ``deadline``, on the loop's clock, in place of its earlier deadline;
        infinity: never.
        """
        if deadline == math.inf:
            self._watched.pop(scope, None)
            return
        self._watched[scope] = deadline
        if self._timer is None or deadline < self._timer.when():
            self._arm(deadline)

    def forget(self, scope: anyio.CancelScope) -> None:
        """The scope has ended."""
        self._watched.pop(scope, None)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, deadline: float) -> None:
        self.close()
        self._timer = asyncio.get_running_loop().call_at(deadline, self._check)

    def _check(self) -> None:
        self._timer = None
        now = loop_time()
        for scope in [scope for scope, deadline in self._watched.items() if deadline <= now]:
            del self._watched[scope]
            scope.cancel()
        if self._watched:
            self._arm(min(self._watched.values()))
