"""Who approves a bundle sees which versions leave with it, whose README.txt is signed by its digest."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.bundles import Gap, make_key
from mirror.bundle import inspection
from mirror.cli.commands.bundle.contents import _show_contents
from simulator import build_wheel


@pytest.fixture
def gap(tmp_path, threaded_simulator) -> Gap:
    """Two projects with two versions each, carried once."""
    keys = tmp_path / "keys"
    keys.mkdir()
    gap = Gap(tmp_path, threaded_simulator(), make_key(keys))
    for project in ("alpha", "beta"):
        for version in ("1.0", "2.0"):
            gap.upstream.state.publish(project, *build_wheel(project, version))
    gap.cycle()
    gap.carry()
    return gap


def test_versions_that_leave(gap, capsys):
    """They are named, also of a project that leaves as a whole; by --since those that an older state has too."""
    state = gap.upstream.state
    state.remove_file("alpha", build_wheel("alpha", "1.0")[0])
    gap.settle()
    second = Path(gap.create()["path"])
    assert inspection.inspect([second]).leaving == {"alpha": ["1.0"]}
    state.publish("alpha", *build_wheel("alpha", "3.0"))
    state.unlist_project("beta")
    gap.settle()
    third = inspection.inspect([Path(gap.create()["path"])])
    assert third.leaving == third.as_json()["leaves"] == {"beta": ["1.0", "2.0"]}
    place = Path(gap.create(since=1)["path"])
    found = inspection.inspect([place])
    assert found.leaving == {"alpha": ["1.0"], "beta": ["1.0", "2.0"]}
    _show_contents(found)
    said = capsys.readouterr().out
    assert "  comes    alpha 3.0\n" in said
    assert "  leaves   alpha 1.0\n" in said
    assert "versions that leave" not in said
    assert gap.receive(place)[0] == 0
    # By a changed README.txt nothing is said.
    readme = place / "README.txt"
    readme.write_text(readme.read_text().replace("alpha 1.0", "alpha 9.9"))
    assert inspection.inspect([place]).leaving is None


def test_nothing_leaves(gap):
    """A bundle that only adds says so."""
    gap.upstream.state.publish("alpha", *build_wheel("alpha", "3.0"))
    gap.cycle()
    assert inspection.inspect([Path(gap.create()["path"])]).leaving == {}
