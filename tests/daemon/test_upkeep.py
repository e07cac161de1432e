"""The daily upkeep: when it is due, how it yields to a cycle and goes on, and what it leaves for others to read."""

from __future__ import annotations

import anyio
import pytest

from harness.in_process import DAY_S, Mirror
from mirror.daemon.pulse import Pulse
from mirror.daemon.upkeep import Upkeep
from mirror.notify import ServiceManager
from mirror.state.notes import load_notes
from mirror.state.store import open_store
from mirror.tree.lock import hold
from simulator import build_wheel


@pytest.fixture
async def mirror(tmp_path, simulator):
    """A mirror of five files, and an upkeep of all of them."""
    index = await simulator()
    for n in range(5):
        index.state.publish(f"demo-{n}", *build_wheel(f"demo-{n}", "1.0"))
    mirror = Mirror(tmp_path / "mirror", {"main": index})
    mirror.settings = {"scrub": 1.0}
    await mirror.cycle()
    return mirror


def upkeep_of(mirror: Mirror) -> Upkeep:
    return Upkeep(Pulse(ServiceManager({})), clock=mirror.clock)


async def notes(mirror: Mirror):
    async with open_store(mirror.root / "state.db") as store:
        return await load_notes(store)


async def never() -> None:
    await anyio.sleep_forever()


async def at_once() -> None:
    """A cycle is due already."""


@pytest.mark.parametrize(
    ("ago_s", "expected"), [(None, True), (DAY_S - 1, False), (DAY_S, True), (0, False), (-60, True)]
)
async def test_due(mirror, ago_s, expected):
    """It is due once a day; a last time in the future is not believed."""
    assert upkeep_of(mirror).is_due(None if ago_s is None else mirror.clock.now - ago_s) is expected


async def test_whole_run(mirror):
    """It prunes and hashes its slice, and notes when it ended."""
    upkeep = upkeep_of(mirror)
    assert await upkeep.run(mirror.config, never)
    found = (await notes(mirror)).upkeep
    assert (found.at, found.checked, found.pruned) == (mirror.clock.now, 5, 0)
    assert upkeep.found == []


async def test_yields_and_goes_on(mirror):
    """When a cycle is due it stops early, stays due, and goes on from there until its slice is done."""
    upkeep = upkeep_of(mirror)
    assert not await upkeep.run(mirror.config, at_once)
    assert upkeep.is_due(mirror.clock.now)
    assert (await notes(mirror)).upkeep is None
    assert await upkeep.run(mirror.config, never)
    assert (await notes(mirror)).upkeep.checked == 5


async def test_nothing_to_scrub(mirror):
    """With scrub = 0 it only prunes."""
    mirror.settings = {"scrub": 0.0}
    assert await upkeep_of(mirror).run(mirror.config, never)
    assert (await notes(mirror)).upkeep.checked == 0


async def test_damage_is_noted_once(mirror):
    """Damage is told, noted, and the same damage is one note also after the next upkeep."""
    blob = next(iter(mirror.root.glob("public/files/*/*/*/*.whl")))
    blob.write_bytes(b"x" + blob.read_bytes()[1:])
    upkeep = upkeep_of(mirror)
    for _ in range(2):
        assert await upkeep.run(mirror.config, never)
    (note,) = (await notes(mirror)).damage
    assert (note.damage, note.filename, len(upkeep.found)) == ("bytes", blob.name, 2)


async def test_tree_is_in_use(mirror):
    """While another command works on the tree, it waits for another time."""
    upkeep = upkeep_of(mirror)
    with hold(mirror.root / "tree.lock"):
        assert not await upkeep.run(mirror.config, never)
    assert await upkeep.run(mirror.config, never)


async def test_state_is_gone(mirror):
    """What can't be worked with is told, and the daemon goes on."""
    (mirror.root / "state.db").rename(mirror.root / "aside")
    assert not await upkeep_of(mirror).run(mirror.config, never)


@pytest.mark.parametrize(("ago_s", "expected"), [(0, False), (2 * DAY_S, False), (2 * DAY_S + 1, True)])
async def test_overdue(mirror, ago_s, expected):
    """It is overdue when it was due a day ago."""
    assert upkeep_of(mirror).is_overdue(mirror.clock.now - ago_s) is expected
