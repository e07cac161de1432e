"""When the daemon reads which index: the schedule with the clocks and the signals that change it.

The rules are in ``core.schedule``. A jump of the wall clock moves the schedule, and a clock that
went back makes the next cycle try everything in the ledger.
"""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Mapping

import anyio

from mirror.core.schedule import (
    ClockWatch,
    Schedule,
    after_cycle,
    due_indexes,
    first_schedule,
    hurried,
    next_start_s,
    reloaded,
    shifted,
)
from mirror.logs import get_logger

CHECK_EVERY_S = 15.0
"""How often the daemon checks the clock and refused credentials, while it waits."""

_log = get_logger(__name__)


class Timetable:
    """The schedule of one daemon."""

    def __init__(self) -> None:
        self._schedule: Schedule = ()
        self._clock = ClockWatch(wall=time.time(), steady_s=time.monotonic())
        self._wake = anyio.Event()
        self.must_hurry = False
        """Whether a signal asked for a cycle that has not begun."""
        self._all_failures = False
        self._shown: tuple[Schedule, str] = ((), "")

    def begin(self, intervals: Mapping[str, float]) -> None:
        """Start with all indexes due."""
        self._schedule = first_schedule(intervals, now_s=time.monotonic())

    def wake(self) -> None:
        """End the current wait, as something has changed."""
        self._wake.set()

    def hurry(self) -> None:
        """Start a cycle over all indexes now, which tries everything in the ledger."""
        self.must_hurry = True
        self._wake.set()

    def heed_signals(self) -> None:
        """Take what signals have asked for since the last time."""
        self._wake = anyio.Event()
        if self.must_hurry:
            self.must_hurry, self._all_failures = False, True
            self.make_due()

    def due(self) -> tuple[str, ...]:
        """Return the indexes of a cycle that starts now; none while none is due."""
        return due_indexes(self._schedule, now_s=time.monotonic())

    def make_due(self, names: Collection[str] | None = None) -> None:
        """Make some indexes due now, or all of them."""
        self._schedule = hurried(self._schedule, now_s=time.monotonic(), names=names)

    def take_all_failures(self) -> bool:
        """Return whether the next cycle tries everything in the ledger, due or not; it is asked
        once.
        """
        all_failures, self._all_failures = self._all_failures, False
        return all_failures

    def cycle_ended(
        self, names: tuple[str, ...], failed: Mapping[str, float | None], *, started_s: float
    ) -> None:
        """Take a cycle over some indexes into account; ``failed`` with their Retry-After."""
        self._schedule = after_cycle(
            self._schedule,
            names,
            failed,
            started_s=started_s,
            now_s=time.monotonic(),
            random=random.random,
        )

    def reload(self, intervals: Mapping[str, float], changed: Collection[str]) -> None:
        """Take over the intervals of a new configuration; changed indexes are due now."""
        self._schedule = reloaded(self._schedule, intervals, changed, now_s=time.monotonic())

    async def rest(self) -> None:
        """Wait until a cycle is due, for a moment at most, or until a signal."""
        await self._rest(next_start_s(self._schedule) - time.monotonic())
        self._check_clock()

    async def until_due(self, least_s: float) -> None:
        """Return when a cycle is due and this time has passed, or after a signal."""
        earliest_s = time.monotonic() + least_s
        while not self._wake.is_set():
            left_s = max(next_start_s(self._schedule), earliest_s) - time.monotonic()
            if left_s <= 0:
                return
            await self._rest(left_s)
            self._check_clock()

    async def _rest(self, left_s: float) -> None:
        with anyio.move_on_after(max(min(left_s, CHECK_EVERY_S), 0.0)):
            await self._wake.wait()

    def _check_clock(self) -> None:
        now_s = time.monotonic()
        jump_s = self._clock.jump_s(wall=time.time(), steady_s=now_s)
        if not jump_s:
            return
        _log.warning("clock.jumped", seconds=round(jump_s, 1))
        self._schedule = shifted(self._schedule, jump_s, now_s=now_s)
        # The ledger's times of the next tries were written by the clock before the jump.
        self._all_failures = self._all_failures or jump_s < 0

    @property
    def is_shown(self) -> bool:
        """Whether ``describe`` has described the schedule as it is now."""
        return self._shown[0] is self._schedule

    def describe(self) -> str:
        """Return the reason that the daemon waits; the same words while the schedule is the
        same.
        """
        if not self.is_shown:
            resting = [turn.name for turn in self._schedule if turn.failures]
            failing = f"; could not be read: {', '.join(resting)}" if resting else ""
            words = f"waiting; next cycle at {_utc(self.next_at())}{failing}"
            self._shown = (self._schedule, words)
        return self._shown[1]

    def next_at(self) -> float:
        """Return when the next cycle starts by the wall's clock, to the second."""
        return float(round(time.time() + max(next_start_s(self._schedule) - time.monotonic(), 0.0)))


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
