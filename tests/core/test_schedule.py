"""When which index is looked at: intervals, jitter, backoff, clocks that jump; ends of credentials; the disk's forecast."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.core.schedule import (
    ClockWatch,
    DiskSample,
    IndexTurn,
    after_cycle,
    days_until_full,
    due_indexes,
    expiry_step,
    first_schedule,
    growth_per_day,
    hurried,
    is_stale,
    next_start_s,
    reloaded,
    retry_delay_s,
    shifted,
    with_sample,
)

DAY, HOUR = 86_400.0, 3600.0


def middle() -> float:
    """A draw without jitter."""
    return 0.5


def turn(name: str, due_s: float, *, interval_s: float = 900.0, failures: int = 0) -> IndexTurn:
    return IndexTurn(name=name, interval_s=interval_s, due_s=due_s, failures=failures)


def test_start():
    """A daemon that starts looks at everything."""
    schedule = first_schedule({"a": 900.0, "b": HOUR}, now_s=100.0)
    assert schedule == (turn("a", 100.0), turn("b", 100.0, interval_s=HOUR))
    assert due_indexes(schedule, now_s=100.0) == ("a", "b")


DUE = {
    "none": ((turn("a", 101.0), turn("b", 102.0)), ()),
    "one": ((turn("a", 100.0), turn("b", 600.0)), ("a",)),
    "soon-comes-along": ((turn("a", 100.0), turn("b", 190.0)), ("a", "b")),
    "soon-in-its-own-interval": ((turn("a", 100.0), turn("b", 400.0, interval_s=HOUR)), ("a", "b")),
    "resting-does-not": ((turn("a", 100.0), turn("b", 101.0, failures=1)), ("a",)),
    "rested": ((turn("a", 500.0), turn("b", 100.0, failures=3)), ("b",)),
}


@pytest.mark.parametrize(("schedule", "expected"), DUE.values(), ids=DUE)
def test_due(schedule, expected):
    """A cycle starts when an index is due, and takes along what would be due soon, unless that failed and rests."""
    assert due_indexes(schedule, now_s=100.0) == expected


AFTER = {
    "from-the-start": ({}, 100.0, 160.0, turn("a", 1000.0)),
    "too-long-once": ({}, 100.0, 5000.0, turn("a", 5000.0)),
    "first-failure": ({"a": None}, 100.0, 160.0, turn("a", 460.0, failures=1)),
    "retry-after": ({"a": 7200.0}, 100.0, 160.0, turn("a", 7360.0, failures=1)),
    "retry-after-shorter": ({"a": 1.0}, 100.0, 160.0, turn("a", 460.0, failures=1)),
    "retry-after-unbelievable": ({"a": 1e9}, 100.0, 160.0, turn("a", 160.0 + 6 * HOUR, failures=1)),
}


@pytest.mark.parametrize(("failed", "started_s", "now_s", "expected"), AFTER.values(), ids=AFTER)
def test_after_cycle(failed, started_s, now_s, expected):
    """The next start is an interval after the last one; a failure backs off, and the other indexes stay as they were."""
    other = turn("b", 700.0)
    schedule = after_cycle((turn("a", 100.0), other), ["a"], failed, started_s=started_s, now_s=now_s, random=middle)
    assert schedule == (expected, other)


def test_failure_backs_off_alone_and_success_forgets_it():
    """Failures double the rest of that index only; one success brings its interval back."""
    schedule = (turn("a", 0.0), turn("b", 0.0))
    for _ in range(3):
        schedule = after_cycle(schedule, ["a", "b"], {"a": None}, started_s=0.0, now_s=0.0, random=middle)
    assert schedule == (turn("a", 1200.0, failures=3), turn("b", 900.0))
    assert after_cycle(schedule, ["a"], {}, started_s=0.0, now_s=0.0, random=middle)[0] == turn("a", 900.0)


RETRIES = {
    "quarter-of-an-hour": (900.0, [300.0, 600.0, 1200.0, 2400.0, 3600.0, 3600.0]),
    "a-minute": (60.0, [60.0, 120.0, 240.0, 480.0, 960.0, 1920.0]),
    "a-day": (DAY, [300.0, 600.0, 1200.0, 2400.0, 4800.0, 9600.0]),
}


@pytest.mark.parametrize(("interval_s", "expected"), RETRIES.values(), ids=RETRIES)
def test_retry_delays(interval_s, expected):
    """The first retry comes soon, then each takes twice as long, up to an hour or the interval."""
    assert [retry_delay_s(n, interval_s=interval_s) for n in range(1, 7)] == expected
    assert retry_delay_s(10**6, interval_s=interval_s) == max(interval_s, HOUR)


@given(random=st.floats(0, 1, exclude_max=True), interval_s=st.floats(1, 1e6), took_s=st.floats(0, 1e6))
def test_jitter_is_small_and_shared(random, interval_s, took_s):
    """Two indexes with one interval stay together; the start moves by a twentieth at most and is never in the past."""
    schedule = first_schedule({"a": interval_s, "b": interval_s}, now_s=0.0)
    one, other = after_cycle(schedule, ["a", "b"], {}, started_s=0.0, now_s=took_s, random=lambda: random)
    assert one.due_s == other.due_s >= took_s
    assert one.due_s == took_s or 0.949 * interval_s <= one.due_s <= 1.051 * interval_s


def test_hurried():
    """What is told to hurry is due now, all or by name; what is overdue stays so."""
    schedule = (turn("a", 50.0), turn("b", 500.0), turn("c", 600.0, failures=2))
    assert [t.due_s for t in hurried(schedule, now_s=100.0)] == [50.0, 100.0, 100.0]
    assert [t.due_s for t in hurried(schedule, now_s=100.0, names=["c"])] == [50.0, 500.0, 100.0]


def test_reloaded():
    """New and changed indexes are due at once; the others go on, a shorter interval counts from now, a rest goes on."""
    schedule = (
        turn("same", 500.0),
        turn("shorter", 5000.0, interval_s=HOUR),
        turn("resting", 2000.0, failures=2),
        turn("changed", 900.0, failures=1),
        turn("gone", 1.0),
    )
    intervals = {"same": 900.0, "shorter": 60.0, "resting": 60.0, "changed": 900.0, "new": 900.0}
    assert reloaded(schedule, intervals, {"changed"}, now_s=100.0) == (
        turn("same", 500.0),
        turn("shorter", 160.0, interval_s=60.0),
        turn("resting", 2000.0, interval_s=60.0, failures=2),
        turn("changed", 100.0),
        turn("new", 100.0),
    )


@pytest.mark.parametrize(("jump_s", "expected"), [(HOUR, 100.0), (300.0, 700.0), (-HOUR, 1000.0), (0.0, 1000.0)])
def test_clock_jumps(jump_s, expected):
    """Time that the machine slept counts as passed, and a missed cycle is made up for once; backwards nothing changes."""
    assert next_start_s(shifted((turn("a", 1000.0),), jump_s, now_s=100.0)) == expected


def test_clock_watch():
    """Only a jump is a jump: the two clocks may drift apart slowly, and each jump is told once."""
    watch = ClockWatch(wall=1000.0, steady_s=0.0)
    looks = [(1010.0, 10.0), (1045.0, 20.0), (5000.0, 30.0), (5010.0, 40.0), (10.0, 50.0), (20.0, 60.0)]
    assert [round(watch.jump_s(wall=w, steady_s=s)) for w, s in looks] == [0, 0, 3945, 0, -5010, 0]


EXPIRY = {
    "unknown": (None, None),
    "far": (15 * DAY, None),
    "two-weeks": (14 * DAY, 14),
    "a-week": (6.5 * DAY, 7),
    "three-days": (3 * DAY, 3),
    "a-day": (1.0, 1),
    "over": (0.0, 0),
    "long-over": (-DAY, 0),
}


@pytest.mark.parametrize(("left_s", "expected"), EXPIRY.values(), ids=EXPIRY)
def test_expiry_steps(left_s, expected):
    """A credential's end is told 14, 7, 3 and 1 days ahead, and when it is there."""
    assert expiry_step(None if left_s is None else 1e9 + left_s, now=1e9) == expected


def sample(at: float, used: int = 0) -> DiskSample:
    return DiskSample(at=at, used=used, free=1000 - used)


def test_samples_are_few():
    """A sample in six hours is kept, for thirty days; one that a wrong clock dated into the future goes."""
    samples: tuple[DiskSample, ...] = (sample(99 * DAY),)
    for hour in range(0, 24 * 40, 3):
        samples = with_sample(samples, sample(hour * HOUR))
    assert len(samples) in {120, 121}
    assert all(later.at - earlier.at == 6 * HOUR for earlier, later in itertools.pairwise(samples))
    assert samples[-1].at - samples[0].at <= 30 * DAY


def test_forecast():
    """Growth is judged over the last two weeks, once a day of them is known; it tells when the reserve is reached."""
    history = [sample(0.0, 0), sample(20 * DAY, 100), sample(29.5 * DAY, 190)]
    now = sample(30 * DAY, 200)
    assert growth_per_day(history, now) == 10.0
    assert days_until_full(now, 10.0, reserve=300) == 50.0
    assert days_until_full(now, 10.0, reserve=900) == 0.0
    assert growth_per_day(history[2:], now) is None
    assert [days_until_full(now, per_day, reserve=0) for per_day in (None, 0.0, -5.0)] == [None, None, None]


@pytest.mark.parametrize(
    ("last_success", "now", "expected"),
    [(100.0, 130.0, False), (100.0, 131.0, True), (None, 80.0, False), (None, 81.0, True)],
)
def test_stale(last_success, now, expected):
    """An index is stale after three intervals without a success, or since the mirror began where there was none."""
    assert is_stale(last_success, since=50.0, interval_s=10.0, now=now) is expected
