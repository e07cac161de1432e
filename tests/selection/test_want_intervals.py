"""Wants of a daemon whose indexes have intervals of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.in_process import requests
from harness.wants import WantingMirror, add, wheel

MAIN = {"indexes": ("main",), "is_scheduled": True}
SECOND = {"indexes": ("second",), "is_scheduled": True}


@pytest.fixture
async def both(simulator, tmp_path: Path):
    """Two indexes: a want of the first depends on the second."""
    main, second = await simulator(core_metadata=True), await simulator(core_metadata=True)
    add(main, "app", "1.0", "lib")
    add(second, "lib", "1.0")
    mirror = WantingMirror(tmp_path / "mirror", {"main": main, "second": second})
    mirror.want("app")
    return main, second, mirror


async def test_a_cycle_of_one_index_resolves(both):
    """The other one is as it was read last: only pages that were never read are asked for, and its files wait for its
    own turn, which the daemon lets come at once.
    """
    main, second, mirror = both
    await mirror.cycle()
    add(second, "lib", "2.0")
    second.take_requests()
    await mirror.cycle(**MAIN)
    assert mirror.names() == {wheel("app", "1.0"), wheel("lib", "1.0")}
    assert requests(second) == []
    add(main, "other", "1.0", "deep")
    add(second, "deep", "1.0")
    mirror.wants += mirror.wanted("other", name="more")
    report = await mirror.cycle(**SECOND)
    assert mirror.names() == {wheel("app", "1.0"), wheel("lib", "1.0"), wheel("lib", "2.0")}
    assert mirror.exit_code == 5  # the root that lists «other» was not read again
    second.take_requests()
    report = await mirror.cycle(**MAIN)
    assert wheel("other", "1.0") in mirror.names()
    assert [r[:2] for r in requests(second) if r[0] == "page"] == [("page", "deep")]
    assert report.waits_for == {"second"}
    report = await mirror.cycle(**SECOND)
    assert wheel("deep", "1.0") in mirror.names()
    assert report.waits_for == frozenset()
    assert mirror.exit_code == 0
    report = await mirror.cycle(**MAIN)
    assert (report.waits_for, mirror.exit_code) == (frozenset(), 0)


async def test_a_cycle_by_hand_of_one_index_resolves_nothing(both):
    """``--index`` narrows: a new want waits for a whole cycle."""
    main, _second, mirror = both
    await mirror.cycle()
    add(main, "other", "1.0")
    mirror.want("app", "other")
    await mirror.cycle(indexes=("main",))
    assert wheel("other", "1.0") not in mirror.names()
    await mirror.cycle()
    assert wheel("other", "1.0") in mirror.names()


async def test_an_index_that_was_never_read_is_waited_for(both):
    """No later index gives a project that it may list; its first reading resolves the want."""
    _main, second, mirror = both
    add(second, "app", "9.0")
    await mirror.cycle(**SECOND)
    assert mirror.names() == set()
    await mirror.cycle(**MAIN)
    await mirror.cycle(**SECOND)
    assert mirror.names() == {wheel("app", "1.0"), wheel("lib", "1.0")}
