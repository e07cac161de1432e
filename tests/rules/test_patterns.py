"""Versions, yanks, numbers and platforms over cycles: what patterns take, and what leaves under the brake."""

from __future__ import annotations

import pytest

from harness.in_process import DAY_S, Mirror, counters, failures
from mirror.config import TargetConfig
from simulator import build_sdist, build_wheel, withheld


@pytest.fixture
async def index(simulator):
    return await simulator()


@pytest.fixture
def mirror(tmp_path, index):
    return Mirror(tmp_path / "mirror", {"main": index})


def add(index, version, tag="py3-none-any", *, project="app", **labels):
    filename, data = build_wheel(project, version, tag=tag)
    index.state.publish(project, filename, data, **labels)
    return filename


def names(mirror):
    return sorted(name for files in mirror.files().values() for name in files)


def left_out(report):
    return report.as_json()["indexes"][0]["left_out"]


async def test_an_upgrade_without_rules_removes_nothing(index, mirror):
    """Without the table everything that is listed comes, pre-releases and yanked files too; the report has no new key."""
    held = [
        add(index, "1.0"),
        add(index, "2.0rc1"),
        add(index, "1.1", yanked="broken"),
        add(index, "1.0", "cp39-cp39-win32"),
    ]
    report = await mirror.cycle()
    assert names(mirror) == sorted(held)
    assert "left_out" not in report.as_json()["indexes"][0]
    footprint = mirror.footprint()
    await mirror.cycle()
    assert mirror.footprint() == footprint


async def test_a_narrower_rule_lets_files_go_under_the_brake(index, mirror):
    """What a rule leaves out of a page that is held leaves like a removal by configuration: the brake judges it."""
    versions = [add(index, f"1.{n}") for n in range(12)]
    await mirror.cycle()
    mirror.rules = {"versions": ("app>=1.9",)}
    report = await mirror.cycle()
    assert names(mirror) == sorted(versions)
    assert [reason for *_, reason in failures(report)] == ["shrink"]
    report = await mirror.cycle(allow_shrink=True)
    assert names(mirror) == sorted(versions[9:])
    assert left_out(report) == {"versions": 9}
    mirror.rules = {}
    await mirror.cycle()
    assert names(mirror) == sorted(versions)


async def test_a_yank_takes_a_file_away_and_its_end_brings_it_back(index, mirror):
    """``yanked = "never"``: a file that is yanked leaves, one that is not any more returns without a download."""
    mirror.rules = {"yanked": "never"}
    held = [add(index, "1.0"), add(index, "1.1")]
    await mirror.cycle()
    index.state.yank("app", held[1])
    report = await mirror.cycle()
    assert (names(mirror), left_out(report)) == (held[:1], {"yanked": 1})
    index.state.unyank("app", held[1])
    report = await mirror.cycle()
    assert names(mirror) == held
    assert report.indexes["main"].bytes_downloaded == 0


async def test_newest_displaces_once_the_new_one_is_held(index, mirror):
    """A newer version takes the place of the oldest; one that is withheld displaces nothing until it comes."""
    mirror.rules = {"newest": 2}
    held = [add(index, "1.0"), add(index, "1.1"), add(index, "1.2")]
    report = await mirror.cycle()
    assert (names(mirror), left_out(report)) == (held[1:], {"newest": 1})
    late = add(index, "2.0")
    index.inject(withheld("POLICY_COOLDOWN"), project="app", filename=late, times=2)
    for _ in range(2):
        report = await mirror.cycle()
        assert (names(mirror), mirror.exit_code) == (held[1:], 0)
        assert left_out(report) == {"newest": 1}  # what is published is not left out
    report = await mirror.cycle()
    assert (names(mirror), left_out(report)) == ([held[2], late], {"newest": 2})
    report = await mirror.cycle()
    assert (names(mirror), counters(report).get("files_removed")) == ([held[2], late], None)
    index.state.remove_file("app", late)
    for _ in range(2):
        await mirror.cycle()
    assert names(mirror) == held[1:]


async def test_newest_and_the_cooldown(index, mirror):
    """A version in cooldown displaces none; at its end, judged from the state, it displaces the oldest."""
    mirror.rules = {"newest": 1, "min_age_s": 7 * DAY_S}
    old = add(index, "1.0", upload_time="2020-01-01T00:00:00Z")
    await mirror.cycle()
    new = add(index, "2.0", upload_time=None)
    await mirror.cycle()
    assert names(mirror) == [old]
    mirror.clock.advance(7 * DAY_S)
    report = await mirror.cycle()
    assert (names(mirror), left_out(report)) == ([new], {"newest": 1})
    await mirror.cycle(full=True)
    assert names(mirror) == [new]


async def test_a_pre_release_stays_until_a_final_version_is_held(index, mirror):
    """A final version in cooldown, or withheld after it, takes the place of no pre-release."""
    mirror.rules = {"pre_releases": "where-needed", "min_age_s": 7 * DAY_S}
    early = add(index, "2.0rc1", upload_time="2020-01-01T00:00:00Z")
    await mirror.cycle()
    final = add(index, "2.0", upload_time=None)
    index.inject(withheld("POLICY_COOLDOWN"), project="app", filename=final, times=1)
    plan = (await mirror.cycle(dry_run=True)).plan
    assert [item.filename for item in plan] == []
    for days in (0, 0, 7):
        mirror.clock.advance(days * DAY_S)
        report = await mirror.cycle()
        assert (names(mirror), mirror.exit_code) == ([early], 0)
    mirror.clock.advance(DAY_S)
    report = await mirror.cycle()
    assert (names(mirror), left_out(report)) == ([final], {"pre-releases": 1})
    report = await mirror.cycle()
    assert (names(mirror), left_out(report)) == ([final], {"pre-releases": 1})


async def test_platforms_of_the_targets(index, mirror):
    """Wheels that fit no target stay out; source distributions and pure wheels come; another target brings its wheels."""
    mirror.targets = (TargetConfig(name="linux", python=("3.12",), platforms=("linux-x86_64",)),)
    mirror.rules = {"platforms": "targets"}
    pure, linux = add(index, "1.0"), add(index, "1.0", "cp312-cp312-manylinux_2_17_x86_64")
    windows = add(index, "1.0", "cp312-cp312-win_amd64")
    too_new = add(index, "1.0", "cp312-cp312-manylinux_2_34_x86_64")
    sdist, data = build_sdist("app", "1.0")
    index.state.publish("app", sdist, data)
    report = await mirror.cycle()
    assert names(mirror) == sorted([pure, linux, sdist])
    assert left_out(report) == {"platforms": 2}
    mirror.targets += (TargetConfig(name="win", python=("3.12",), platforms=("windows-x86_64",)),)
    await mirror.cycle()
    assert names(mirror) == sorted([pure, linux, sdist, windows])
    assert too_new not in names(mirror)


async def test_rules_of_one_index(simulator, index, tmp_path):
    """A key of an index replaces that of all; what one index leaves out, no later one may add."""
    from mirror.config.rules import IndexRulesConfig

    other = await simulator()
    mirror = Mirror(tmp_path / "two", {"first": index, "second": other})
    mirror.rules = {"versions": ("app<2", "lib<2")}
    mirror.configure("second", rules=IndexRulesConfig(versions=()), overlay=True)
    add(index, "1.0")
    add(index, "2.0")
    add(other, "2.0")
    add(other, "3.0")
    add(other, "2.0", project="lib")
    report = await mirror.cycle()
    assert names(mirror) == ["app-1.0-py3-none-any.whl", "app-3.0-py3-none-any.whl", "lib-2.0-py3-none-any.whl"]
    assert report.as_json()["indexes"][1]["left_out"] == {}


async def test_a_rule_that_leaves_nothing_is_said(index, mirror):
    """Every file of an index is left out: a warning in words and exit code 0, also for a project that is named."""
    mirror.configure("main", projects=("app",))
    add(index, "1.0")
    add(index, "1.1rc1")
    mirror.rules = {"versions": ("app>9",), "pre_releases": "never"}
    report = await mirror.cycle()
    assert (names(mirror), mirror.exit_code, failures(report)) == ([], 0, [])
    assert report.events == [{"event": "all-left-out", "index": "main", "rules": "pre-releases 1, versions 1"}]


async def test_a_plan_counts_what_the_rules_leave_out(index, mirror):
    """``--dry-run`` shows what a rule lets go, and counts as the cycle would."""
    files = [add(index, "1.0"), add(index, "2.0")]
    await mirror.cycle()
    mirror.rules = {"versions": ("app>=2",)}
    report = await mirror.cycle(dry_run=True)
    assert [(item.filename, item.action) for item in report.plan] == [(files[0], "remove")]
    assert left_out(report) == {"versions": 1}
    assert names(mirror) == files
