"""Decides when the daemon reads each index, and when it warns of a credential's end.

Pure: clocks and randomness are arguments. Times with ``_s`` are seconds on a clock that never
jumps; the wall clock is used only by ``ClockWatch``, which measures how far it jumped. A missed
cycle is made up for once, never twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec

JITTER = 0.05
"""A start is earlier or later by up to this share of the interval, so that many mirrors do not ask
at the same second.
"""

TOGETHER = 0.1
"""When a cycle starts, an index that would be due within this share of its interval joins it."""

RETRY_FIRST_S = 300.0
"""After its first failure an index is asked again after this, or after its interval where that is
shorter.
"""

RETRY_CAP_S = 3600.0
"""An index that keeps failing is asked this often at least, or once in its interval where that is
longer.
"""

MAX_RETRY_AFTER_S = 6 * 3600.0
"""A longer ``Retry-After`` is not believed."""

STALE_AFTER = 3
"""Number of intervals without success after which an index is stale."""

_MAX_DOUBLINGS = 32
_DAY_S = 86_400.0
_WARNED_DAYS = (1, 3, 7, 14)

JUMP_S = 30.0
"""Maximum difference between the wall clock and the steady one between two readings; more is a
jump.
"""


class IndexTurn(msgspec.Struct, frozen=True, kw_only=True):
    """The next turn of one index."""

    name: str
    interval_s: float
    due_s: float
    failures: int = 0
    """Number of consecutive failed cycles."""


Schedule = tuple[IndexTurn, ...]


def first_schedule(intervals: Mapping[str, float], *, now_s: float) -> Schedule:
    """Return the schedule of a daemon that starts: everything is due."""
    return tuple(
        IndexTurn(name=name, interval_s=interval_s, due_s=now_s)
        for name, interval_s in intervals.items()
    )


def is_stale(last_success: float | None, *, since: float, interval_s: float, now: float) -> bool:
    """Return whether an index was not read for three of its intervals.

    ``since``: when the mirror's first cycle began, for an index that was never read.
    """
    return now - (last_success or since) > STALE_AFTER * interval_s


def next_start_s(schedule: Schedule) -> float:
    """Return when the next cycle starts."""
    return min(turn.due_s for turn in schedule)


def due_indexes(schedule: Schedule, *, now_s: float) -> tuple[str, ...]:
    """Return the indexes of a cycle that starts now; none while none is due.

    An index that is due soon is included, unless it failed and waits for its retry.
    """
    if next_start_s(schedule) > now_s:
        return ()
    return tuple(turn.name for turn in schedule if turn.due_s <= now_s + _ahead_s(turn))


def _ahead_s(turn: IndexTurn) -> float:
    """Return how much earlier than due a turn may start, to be in one cycle with others."""
    return 0.0 if turn.failures else TOGETHER * turn.interval_s


def after_cycle(
    schedule: Schedule,
    names: Collection[str],
    failed: Mapping[str, float | None],
    *,
    started_s: float,
    now_s: float,
    random: Callable[[], float],
) -> Schedule:
    """Return the schedule after a cycle over ``names``; ``failed`` are those that ended early, with
    their Retry-After.

    The others are due one interval after the start; if the cycle took longer than that,
    immediately, and only once.
    """
    share = 1.0 + JITTER * (
        2.0 * random() - 1.0
    )  # one draw: indexes with one interval stay together
    turns = []
    for turn in schedule:
        if turn.name not in names:
            turns.append(turn)
        elif turn.name in failed:
            failures = turn.failures + 1
            wait_s = retry_delay_s(failures, interval_s=turn.interval_s) * share
            asked_s = min(failed[turn.name] or 0.0, MAX_RETRY_AFTER_S)
            turns.append(
                msgspec.structs.replace(turn, due_s=now_s + max(wait_s, asked_s), failures=failures)
            )
        else:
            due_s = max(started_s + turn.interval_s * share, now_s)
            turns.append(msgspec.structs.replace(turn, due_s=due_s, failures=0))
    return tuple(turns)


def retry_delay_s(failures: int, *, interval_s: float) -> float:
    """Return how long an index waits after ``failures`` consecutive failures (1 or more)."""
    first_s = min(interval_s, RETRY_FIRST_S)
    return min(first_s * 2.0 ** min(failures - 1, _MAX_DOUBLINGS), max(interval_s, RETRY_CAP_S))


def hurried(schedule: Schedule, *, now_s: float, names: Collection[str] | None = None) -> Schedule:
    """Return the schedule with some indexes, or all of them, due now."""
    turns = []
    for turn in schedule:
        is_meant = names is None or turn.name in names
        due_s = min(turn.due_s, now_s) if is_meant else turn.due_s
        turns.append(msgspec.structs.replace(turn, due_s=due_s))
    return tuple(turns)


def reloaded(
    schedule: Schedule, intervals: Mapping[str, float], changed: Collection[str], *, now_s: float
) -> Schedule:
    """Return the schedule for a new configuration: new and ``changed`` indexes are due now, the
    others keep their turn.
    """
    known = {turn.name: turn for turn in schedule}
    turns = []
    for name, interval_s in intervals.items():
        turn = known.get(name)
        if turn is None or name in changed:
            turns.append(IndexTurn(name=name, interval_s=interval_s, due_s=now_s))
        else:
            due_s = min(turn.due_s, now_s + interval_s) if not turn.failures else turn.due_s
            turns.append(msgspec.structs.replace(turn, interval_s=interval_s, due_s=due_s))
    return tuple(turns)


def shifted(schedule: Schedule, jump_s: float, *, now_s: float) -> Schedule:
    """Return the schedule after the wall's clock jumped: forwards counts as time that has passed,
    as after a sleep.

    Backwards nothing changes: the steady clock has seen how long was really waited.
    """
    if jump_s <= 0:
        return schedule
    return tuple(
        msgspec.structs.replace(turn, due_s=max(turn.due_s - jump_s, now_s)) for turn in schedule
    )


class ClockWatch:
    """Compares the wall clock with the steady one at each reading."""

    def __init__(self, *, wall: float, steady_s: float) -> None:
        self._ahead = wall - steady_s

    def jump_s(self, *, wall: float, steady_s: float) -> float:
        """Return how far the wall clock jumped since the last reading; 0 if it didn't."""
        ahead = wall - steady_s
        moved_s, self._ahead = ahead - self._ahead, ahead
        return moved_s if abs(moved_s) > JUMP_S else 0.0


def expiry_step(expires_at: float | None, *, now: float) -> int | None:
    """Return how close a credential's end is: 14, 7, 3 or 1 for «in that many days or less», 0
    after it, else None.
    """
    if expires_at is None:
        return None
    left_s = expires_at - now
    if left_s <= 0:
        return 0
    return next((days for days in _WARNED_DAYS if left_s <= days * _DAY_S), None)


class DiskSample(msgspec.Struct, frozen=True, kw_only=True):
    """How full the mirror's file system was at one time."""

    at: float
    used: int
    free: int


KEPT_SAMPLES_S = 30 * _DAY_S
SAMPLE_EVERY_S = 6 * 3600.0
_JUDGED_S = 14 * _DAY_S
_LEAST_JUDGED_S = _DAY_S


def with_sample(samples: Sequence[DiskSample], new: DiskSample) -> tuple[DiskSample, ...]:
    """Return the samples with a new one: at most one in six hours, for thirty days, none from the
    future.
    """
    kept = [s for s in samples if new.at - KEPT_SAMPLES_S <= s.at <= new.at]
    if kept and new.at - kept[-1].at < SAMPLE_EVERY_S:
        return tuple(kept)
    return (*kept, new)


def growth_per_day(samples: Sequence[DiskSample], now: DiskSample) -> float | None:
    """Return the bytes by which the file system fills each day, over the last two weeks; None where
    a day is not known.
    """
    past = [s for s in samples if now.at - _JUDGED_S <= s.at <= now.at - _LEAST_JUDGED_S]
    if not past:
        return None
    return (now.used - past[0].used) / (now.at - past[0].at) * _DAY_S


def days_until_full(now: DiskSample, per_day: float | None, *, reserve: int) -> float | None:
    """Return in how many days the free space is down to the reserve at this growth; None where it
    never is.
    """
    if per_day is None or per_day <= 0:
        return None
    return max(now.free - reserve, 0) / per_day
