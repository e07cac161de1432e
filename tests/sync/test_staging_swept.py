"""What lies in ``staging/``: continued where its file is still wanted, else swept; never there for ever."""

from __future__ import annotations

import os
import time

import pytest

from harness.in_process import offered
from simulator import Status, build_wheel, unavailable

DAY_S = 86_400.0


@pytest.fixture
async def interrupted(simulator, mirror_of):
    """Return an index with one large file and its mirror, where a partial file of it lies in staging."""
    index = await simulator()
    index.state.publish("small", *build_wheel("small", "1.0"))
    name, data = build_wheel("large", "1.0", size_pad=3 << 20)
    index.state.publish("large", name, data)
    mirror = mirror_of(index)
    await mirror.cycle(projects=("small",))
    return index, mirror, name


def plant(mirror, name, age_s=0.0):
    """Leave a file in staging as a killed process does."""
    path = mirror.root / "staging" / name
    path.write_bytes(b"left by a kill")
    os.utime(path, (time.time() - age_s,) * 2)


def staged(mirror):
    """Return what lies in staging."""
    return sorted(p.name for p in (mirror.root / "staging").iterdir())


async def test_temporary_files_go_at_once(interrupted):
    """Even a narrowed cycle takes away the temporary files of a killed one."""
    _index, mirror, _name = interrupted
    plant(mirror, "0123456789abcdef.tmp")
    await mirror.cycle(projects=("small",))
    assert staged(mirror) == []


@pytest.mark.parametrize(
    ("age_s", "left"),
    [(6 * DAY_S, ["x.json", "x.part"]), (8 * DAY_S, []), (-8 * DAY_S, [])],
    ids=["six-days", "eight-days", "eight-days-ahead"],
)
async def test_partial_files_of_an_unknown_file(interrupted, age_s, left):
    """A cycle that can't tell whether a partial file is wanted keeps it for a week."""
    _index, mirror, _name = interrupted
    plant(mirror, "x.part", age_s)
    plant(mirror, "x.json", age_s)
    await mirror.cycle(projects=("small",))
    assert staged(mirror) == left


async def test_a_whole_cycle_sweeps_what_nothing_wants(interrupted):
    """After a cycle that saw every page, only the partial files of what is in the ledger are left."""
    index, mirror, name = interrupted
    plant(mirror, "x.part")
    index.inject(Status(status=404), filename=name)
    await mirror.cycle()
    assert staged(mirror) == []
    assert mirror.ledger() == [("main", "large", name, "not-found")]


async def test_a_page_that_failed_keeps_partial_files(interrupted):
    """As long as a page could not be read, a partial file may be one of its."""
    index, mirror, _name = interrupted
    plant(mirror, "x.part")
    index.inject(unavailable(503, retry_after="3600"), kind="page", project="large", times=1)
    await mirror.cycle()
    assert staged(mirror) == ["x.part"]
    await mirror.cycle()
    assert (staged(mirror), mirror.files()) == ([], offered(index))


async def test_dry_run_sweeps_nothing(interrupted):
    """``--dry-run`` leaves staging as it is."""
    _index, mirror, _name = interrupted
    plant(mirror, "x.part", 30 * DAY_S)
    plant(mirror, "x.tmp")
    await mirror.cycle(dry_run=True)
    assert staged(mirror) == ["x.part", "x.tmp"]
