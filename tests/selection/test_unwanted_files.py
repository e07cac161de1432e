"""Files that no want needs any more, and changes of the wants that must not be silent."""

from __future__ import annotations

import pytest

from harness.in_process import DAY_S, counters
from harness.wants import WantingMirror, add
from mirror.errors import ConfigError


@pytest.fixture
async def index(simulator):
    return await simulator(core_metadata=True)


@pytest.fixture
def mirror(tmp_path, index) -> WantingMirror:
    return WantingMirror(tmp_path / "mirror", {"main": index})


async def test_they_leave_after_keep_unwanted(index, mirror):
    """They stay published for ``keep-unwanted``, then leave by a count of their own, which the brake does not see; needed
    again, the time is forgotten.
    """
    mirror.settings = {"keep_unwanted_s": 4 * DAY_S, "max_shrink": 0.5}
    names = [f"p{number}" for number in range(4)]
    for name in (*names, "kept"):
        add(index, name, "1.0")
    mirror.want(*names, "kept")
    await mirror.cycle()
    mirror.want("kept")
    report = await mirror.cycle()
    assert counters(report)["files_unwanted"] == 4
    assert len(mirror.names()) == 5
    for _ in range(3):
        mirror.clock.advance(DAY_S)
        await mirror.cycle()
    assert len(mirror.names()) == 5
    mirror.want("kept", "p3")
    await mirror.cycle()
    mirror.want("kept")
    await mirror.cycle()
    mirror.clock.advance(DAY_S)
    report = await mirror.cycle()
    assert mirror.exit_code == 0
    assert mirror.names() == {f"{name}-1.0-py3-none-any.whl" for name in ("kept", "p2", "p3")}
    mirror.clock.advance(DAY_S)
    await mirror.cycle()
    assert mirror.names() == {f"{name}-1.0-py3-none-any.whl" for name in ("kept", "p3")}
    index.state.remove_file("kept", "kept-1.0-py3-none-any.whl")
    await mirror.cycle()
    assert mirror.query("SELECT count(*) FROM entry WHERE exempt = 2") == [(3,)]


async def test_a_yank_of_an_unwanted_file_is_seen(index, mirror):
    """The page of each project of which something is published is asked for."""
    add(index, "app", "1.0")
    mirror.want("app")
    await mirror.cycle()
    add(index, "other", "1.0")
    mirror.want("other")
    await mirror.cycle()
    index.state.yank("app", "app-1.0-py3-none-any.whl", "broken")
    await mirror.cycle()
    assert mirror.labels("app", "app-1.0-py3-none-any.whl")["yanked"] == "broken"


async def test_the_first_want_and_the_last_are_never_silent(index, mirror):
    """Both are refused before any request until ``select`` is written."""
    add(index, "app", "1.0")
    add(index, "other", "1.0")
    mirror.wants = ()
    await mirror.cycle()
    assert len(mirror.names()) == 2
    mirror.want("app")
    with pytest.raises(ConfigError, match="2 published files of main are needed by no want"):
        await mirror.cycle()
    mirror.configure("main", select="listed")
    await mirror.cycle()
    assert len(mirror.names()) == 2
    mirror.configure("main", select=None)
    mirror.wants = ()
    index.take_requests()
    with pytest.raises(ConfigError, match="has no \\[\\[want\\]\\] any more"):
        await mirror.cycle()
    assert index.take_requests() == []
    mirror.configure("main", select="listed")
    await mirror.cycle()
    assert len(mirror.names()) == 2


async def test_a_resolver_that_is_missing(index, mirror):
    """``MIRROR_UV`` names a program that is not there: wrong configuration."""
    add(index, "app", "1.0")
    mirror.want("app")
    mirror.env = {"MIRROR_UV": "/nowhere/uv"}
    with pytest.raises(ConfigError, match="MIRROR_UV"):
        await mirror.cycle()
