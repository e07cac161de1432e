"""Clocks that jump by a century, again and again: what is kept for thirty days stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.in_process import DAY_S, Mirror, check_tree
from harness.upkeep import pass_time
from mirror.core.policy import believable_cutoff, believable_end
from mirror.holdings.opening import opened_holdings
from mirror.upkeep.prune import Pruning, Retention, preview_prune, prune
from simulator import build_wheel

CENTURY_S = 100 * 365 * DAY_S
KEPT = Retention(removed_s=30 * DAY_S, history_s=365 * DAY_S)


@pytest.fixture
def mirror_of(tmp_path: Path) -> Callable[..., Mirror]:
    return lambda main: Mirror(tmp_path / "mirror", {"main": main})


async def prune_now(mirror: Mirror) -> tuple[int, int]:
    """Prune as ``mirror prune`` does; return how many blobs and rows of history went, as a dry run had said."""
    config = mirror.config
    async with opened_holdings(config.mirror, config.limits, clock=mirror.clock) as tree:
        planned = await preview_prune(tree, KEPT)
        found = await prune(tree, KEPT, into=Pruning())
    check_tree(mirror.root)
    assert (planned.blobs, planned.entries) == (found.blobs, found.entries)
    return found.blobs, found.entries


async def test_two_jumps_delete_nothing(simulator, mirror_of):
    """Two jumps of a century, each seen by a cycle, end no retention of thirty days."""
    index = await simulator()
    index.state.publish("alpha", *build_wheel("alpha", "1.0"))
    gone, data = build_wheel("alpha", "2.0")
    index.state.publish("alpha", gone, data)
    mirror = mirror_of(index)
    await mirror.cycle()
    index.state.remove_file("alpha", gone)
    await mirror.cycle()
    await mirror.cycle()
    for _ in range(2):
        mirror.clock.advance(CENTURY_S)
        await mirror.cycle()
        assert await prune_now(mirror) == (0, 0)


async def test_a_clock_that_stood_back_while_a_file_left(simulator, mirror_of):
    """What left the pages while the clock was a century behind is kept for thirty days from then, all the same."""
    index = await simulator()
    index.state.publish("alpha", *build_wheel("alpha", "1.0"))
    gone, data = build_wheel("alpha", "2.0")
    index.state.publish("alpha", gone, data)
    mirror = mirror_of(index)
    await mirror.cycle()
    await pass_time(mirror, days=7, cycles=69)
    mirror.clock.advance(7 * DAY_S)
    mirror.clock.advance(-CENTURY_S)
    index.state.remove_file("alpha", gone)
    await mirror.cycle()
    await mirror.cycle()
    mirror.clock.advance(CENTURY_S)
    await mirror.cycle()
    assert await prune_now(mirror) == (0, 0)
    for _ in range(3):  # the jump counts for a week, as any gap
        mirror.clock.advance(7 * DAY_S)
        await mirror.cycle()
        assert await prune_now(mirror) == (0, 0)
    mirror.clock.advance(7 * DAY_S)
    await mirror.cycle()
    assert (await prune_now(mirror))[0] == 1


@pytest.mark.parametrize("days", [1, 2, 28, 30, 365, 3650])
def test_no_jump_counts_for_more_than_a_quarter(days):
    """Between two cycles at most a week passes, and at most a quarter of the retention, whatever the retention is."""
    keep_s, now = days * DAY_S, 4_000 * 365 * DAY_S
    starts = [now - n * CENTURY_S for n in range(1, 60)]
    ended = [n for n in range(len(starts) + 1) if believable_cutoff(starts[:n], now=now, keep_s=keep_s) is not None]
    most_s = min(7 * DAY_S, keep_s / 4)
    needed = -(-keep_s // most_s)
    assert min(ended, default=None) == (needed if needed <= len(starts) else None)


def test_cycles_once_a_month_end_a_retention():
    """Cycles by hand once a month: a retention of thirty days ends after the fifth."""
    now = 400 * DAY_S
    starts = [now - 30 * DAY_S * n for n in range(1, 9)]
    assert believable_end(starts[:4], now=now, keep_s=30 * DAY_S) == (None, 0)
    assert believable_end(starts, now=now, keep_s=30 * DAY_S) == (starts[3] - 2 * DAY_S, 4)
