"""Clocks that jump: nothing is deleted for it, and nothing stalls."""

from __future__ import annotations

import pytest

from harness.in_process import DAY_S, check_tree, counters, offered
from mirror.holdings.opening import opened_holdings
from mirror.upkeep.prune import Pruning, Retention, prune
from simulator import build_wheel, unavailable

YEAR_S = 365 * DAY_S
KEPT = Retention(removed_s=30 * DAY_S, history_s=YEAR_S)


def blobs(mirror):
    """Return the filenames of all blobs on disk."""
    files = mirror.root / "public/files"
    return sorted(p.name for p in files.rglob("*") if p.is_file() and not p.name.endswith(".metadata"))


async def prune_now(mirror):
    """Prune as ``mirror prune`` does, at the time of the mirror's clock."""
    config = mirror.config
    async with opened_holdings(config.mirror, config.limits, clock=mirror.clock) as tree:
        found = await prune(tree, KEPT, into=Pruning())
    check_tree(mirror.root)
    return found.blobs


async def with_one_removed(simulator, mirror_of):
    """Mirror two files, of which one leaves the pages; its blob waits for its retention to end."""
    index = await simulator()
    index.state.publish("alpha", *build_wheel("alpha", "1.0"))
    gone, _ = build_wheel("alpha", "2.0")
    index.state.publish("alpha", *build_wheel("alpha", "2.0"))
    mirror = mirror_of(index)
    await mirror.cycle()
    index.state.remove_file("alpha", gone)
    await mirror.cycle()
    await mirror.cycle()
    assert mirror.files() == offered(index)
    return index, mirror


@pytest.mark.parametrize("jump_s", [YEAR_S, 10 * YEAR_S, -YEAR_S], ids=["a-year", "ten-years", "back-a-year"])
async def test_a_jump_deletes_nothing(simulator, mirror_of, jump_s):
    """A clock that jumps, forwards or backwards, before a prune or a cycle lets no retention end."""
    _index, mirror = await with_one_removed(simulator, mirror_of)
    before = blobs(mirror)

    mirror.clock.advance(jump_s)
    assert (await prune_now(mirror), blobs(mirror)) == (0, before)
    await mirror.cycle()
    assert (await prune_now(mirror), blobs(mirror)) == (0, before)
    mirror.clock.advance(-jump_s)
    await mirror.cycle()
    assert (await prune_now(mirror), blobs(mirror)) == (0, before)


async def test_retention_ends_when_time_passes(simulator, mirror_of):
    """With a cycle each day, what nothing lists goes when its thirty days are over, and not before."""
    index, mirror = await with_one_removed(simulator, mirror_of)
    before, days = blobs(mirror), 0
    while not await prune_now(mirror):
        assert blobs(mirror) == before
        days += 1
        assert days < 40
        mirror.clock.advance(DAY_S - 60)
        await mirror.cycle()
    assert (days, blobs(mirror)) == (30, sorted(offered(index)["alpha"]))


@pytest.mark.parametrize("jump_s", [YEAR_S, -YEAR_S], ids=["forwards", "backwards"])
async def test_a_jump_stalls_nothing(simulator, mirror_of, jump_s):
    """After a jump the next cycle mirrors what is new, tries again what failed, and removes what is gone."""
    index, mirror = await with_one_removed(simulator, mirror_of)
    failed, data = build_wheel("beta", "1.0")
    index.state.publish("beta", failed, data)
    index.inject(unavailable(503, retry_after="3600"), filename=failed)
    await mirror.cycle()
    assert mirror.ledger() == [("main", "beta", failed, "unreachable")]
    index.faults.clear()
    mirror.clock.advance(jump_s)
    index.state.publish("alpha", *build_wheel("alpha", "3.0"))

    report = await mirror.cycle()

    assert counters(report)["files_new"] == 2
    assert (mirror.files(), mirror.ledger()) == (offered(index), [])
    index.state.remove_file("beta", failed)
    await mirror.cycle()
    await mirror.cycle()
    assert mirror.files()["beta"] == {}


async def test_the_daemon_tries_again_what_a_wrong_clock_put_off(simulator, mirror_of):
    """What failed while the clock was a year ahead is tried soon after it was set right, not in a year."""
    index = await simulator(serials=True)
    name, data = build_wheel("alpha", "1.0")
    index.state.publish("alpha", name, data)
    index.inject(unavailable(503), filename=name)
    mirror = mirror_of(index)
    mirror.clock.advance(YEAR_S)
    await mirror.cycle(all_failures=False)
    index.faults.clear()
    mirror.clock.advance(-YEAR_S)

    await mirror.cycle(all_failures=False)

    assert (mirror.files(), mirror.ledger()) == (offered(index), [])


async def test_a_jump_removes_nothing_by_one_look(simulator, mirror_of):
    """Two looks are two cycles, however much time the clock says has passed between them and a third."""
    index, mirror = await with_one_removed(simulator, mirror_of)
    (name,) = offered(index)["alpha"]
    index.state.remove_file("alpha", name)
    await mirror.cycle()
    mirror.clock.advance(YEAR_S)
    index.state.publish("alpha", *build_wheel("alpha", "1.0"))
    await mirror.cycle()
    assert mirror.files() == offered(index)
