"""How many things are under way at once, and how that number follows what the upstream bears."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.workers.concurrency import AdaptiveLimit, work_through


class Upstream:
    """Counts push-backs."""

    def __init__(self) -> None:
        self.pushbacks = 0

    def width(self, start=8, maximum=64):
        return AdaptiveLimit(start=start, maximum=maximum, pushbacks=lambda: self.pushbacks)


def finish(width, count):
    """Finish so many items, and return the targets on the way."""
    targets = []
    for _ in range(count):
        width.count_done()
        targets.append(width.target)
    return targets


def test_growth_doubles_each_round_until_the_maximum():
    """Without a push-back each success adds one, so that a round doubles the number."""
    width = Upstream().width(start=4, maximum=10)
    assert finish(width, 8) == [5, 6, 7, 8, 9, 10, 10, 10]


def test_the_start_is_at_most_the_maximum():
    """A start over the maximum counts as the maximum."""
    assert Upstream().width(start=16, maximum=4).target == 4


def test_one_burst_is_one_signal():
    """Of a burst only the first item halves the number; what was under way with it does not halve it again."""
    upstream = Upstream()
    width = upstream.width(start=16, maximum=16)
    targets = []
    for _ in range(16):
        upstream.pushbacks += 1
        targets += finish(width, 1)
    assert targets == [8] * 16


def test_pushing_back_without_end_leads_to_one():
    """An upstream that refuses everything is asked by one worker in the end, never by none."""
    upstream = Upstream()
    width = upstream.width(start=16, maximum=16)
    targets = []
    for _ in range(40):
        upstream.pushbacks += 1
        targets += finish(width, 1)
    assert list(dict.fromkeys(targets)) == [8, 4, 2, 1]
    assert targets[16 : 16 + 8 + 4] == [4] * 8 + [2] * 4


def test_growth_after_a_push_back_is_careful():
    """After a push-back a whole round of successes adds one."""
    upstream = Upstream()
    width = upstream.width(start=4, maximum=64)
    upstream.pushbacks = 1
    assert finish(width, 1) == [2]
    assert finish(width, 9) == [2, 3, 3, 3, 4, 4, 4, 4, 5]


def test_push_backs_before_the_beginning_do_not_count():
    """What happened to the root page before is no signal for the pages."""
    upstream = Upstream()
    upstream.pushbacks = 5
    assert finish(upstream.width(start=2), 1) == [3]


@given(st.lists(st.integers(0, 3), max_size=200), st.integers(1, 20), st.integers(1, 20))
def test_the_number_stays_within_its_bounds(pushes, start, maximum):
    """Whatever happens, there is at least one worker, at most the maximum, and no step but one up or a halving."""
    upstream = Upstream()
    width = upstream.width(start=start, maximum=maximum)
    for pushed in pushes:
        before = width.target
        upstream.pushbacks += pushed
        (after,) = finish(width, 1)
        assert 1 <= after <= maximum
        assert after in ({before, max(1, before // 2)} if pushed else {before, before + 1})


class Source:
    """Numbers one by one, and how many are worked on at once."""

    def __init__(self, count):
        self.left = list(range(count))
        self.done = []
        self.running = self.most = 0

    async def next(self):
        if not self.left:
            raise anyio.EndOfStream
        return self.left.pop(0)

    async def work(self, item):
        self.running += 1
        self.most = max(self.most, self.running)
        await anyio.lowlevel.checkpoint()
        self.running -= 1
        self.done.append(item)


@pytest.mark.parametrize("count", [0, 1, 3, 100])
async def test_everything_is_worked_on_once(count):
    """Each item is taken by exactly one worker, also where there are fewer items than workers."""
    source = Source(count)
    await work_through(source.next, source.work, Upstream().width(start=8, maximum=16))
    assert sorted(source.done) == list(range(count))


async def test_workers_follow_the_number():
    """Workers come while it grows and leave when it is halved; nothing is lost, and the work goes on to its end."""
    upstream = Upstream()
    width = upstream.width(start=2, maximum=8)
    source = Source(400)
    seen = []

    async def work(item):
        if item in {100, 200, 201, 202}:
            upstream.pushbacks += 1
        await source.work(item)
        seen.append((source.running, width.target))

    await work_through(source.next, work, width)
    assert sorted(source.done) == list(range(400))
    assert source.most == 8
    assert min(target for _, target in seen[101:]) == 4


async def test_always_pushed_back():
    """Where every item is pushed back, the last worker stays and works through all of it."""
    upstream = Upstream()
    source = Source(60)

    async def work(item):
        upstream.pushbacks += 1
        await source.work(item)

    await work_through(source.next, work, upstream.width(start=8, maximum=8))
    assert sorted(source.done) == list(range(60))


async def test_a_failure_ends_all_workers():
    """What a worker raises ends the others too."""
    source = Source(60)

    async def work(item):
        await source.work(item)
        if item == 5:
            raise ValueError

    with pytest.raises(ExceptionGroup) as caught:
        await work_through(source.next, work, Upstream().width())
    assert [type(e) for e in caught.value.exceptions] == [ValueError]
    assert len(source.done) < 60
