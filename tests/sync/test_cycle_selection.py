"""Patterns: what they choose, that a change takes effect in the next cycle, and cycles narrowed by hand."""

from __future__ import annotations

import pytest

from harness.in_process import counters, failures, offered, requests
from simulator import build_sdist, build_wheel

KINDS = pytest.mark.parametrize("serials", [True, False], ids=["serials", "no-serials"])


def publish(simulator):
    for project in ("alpha", "beta", "gamma-tool"):
        simulator.state.publish(project, *build_wheel(project, "1.0"))
        simulator.state.publish(project, *build_sdist(project, "1.0"))


def without(files, project=None, ending=None):
    return {
        p: {name: sha for name, sha in names.items() if ending is None or not name.endswith(ending)}
        for p, names in files.items()
        if p != project
    }


@KINDS
@pytest.mark.parametrize(
    "change",
    [{"exclude_files": ("*.tar.gz",)}, {"files": ("*.whl",)}, {"skip_url_patterns": ("*.tar.gz",)}],
    ids=["exclude-files", "files", "skip-url-patterns"],
)
async def test_a_changed_file_pattern_takes_effect_in_the_next_cycle(simulator, mirror_of, serials, change):
    """Files that a new pattern leaves out leave without a second look, and come back without a download."""
    index = await simulator(serials=serials)
    publish(index)
    mirror = mirror_of(index)
    await mirror.cycle()
    everything = mirror.files()
    before = {key: getattr(mirror.config.indexes[0], key) for key in change}
    mirror.configure("main", **change)

    report = await mirror.cycle()
    assert mirror.files() == without(everything, ending=".tar.gz")
    assert (report.indexes["main"].files_removed, report.indexes["main"].files_skipped) == (3, 3)

    index.take_requests()
    await mirror.cycle()
    assert [r[3] for r in requests(index) if r[0] == "page"] == ([] if serials else [304] * 3)

    mirror.configure("main", **before)
    report = await mirror.cycle()
    assert (mirror.files(), report.indexes["main"].bytes_downloaded) == (everything, 0)
    assert report.indexes["main"].files_skipped == 0


@KINDS
@pytest.mark.parametrize(
    "change",
    [{"exclude_projects": ("gamma.*",)}, {"projects": ("alpha", "B*")}],
    ids=["exclude-projects", "projects"],
)
async def test_a_changed_project_pattern_takes_effect_in_the_next_cycle(simulator, mirror_of, serials, change):
    """Projects that a new pattern leaves out leave at once, although the root is unchanged, and come back alike."""
    index = await simulator(serials=serials)
    publish(index)
    mirror = mirror_of(index)
    await mirror.cycle()
    everything = mirror.files()
    before = {key: getattr(mirror.config.indexes[0], key) for key in change}
    mirror.configure("main", **change)

    report = await mirror.cycle()
    assert mirror.files() == without(everything, project="gamma-tool")
    assert report.indexes["main"].projects_removed == 1
    index.take_requests()
    await mirror.cycle()
    assert requests(index)[-1] == ("root", None, None, 304)

    mirror.configure("main", **before)
    report = await mirror.cycle()
    assert (mirror.files(), report.indexes["main"].bytes_downloaded) == (everything, 0)


async def test_patterns_from_the_start(simulator, mirror_of):
    """What the patterns leave out is not asked for, and skipped files are counted."""
    index = await simulator()
    publish(index)
    index.state.publish("alpha", "alpha-2.0.tar.gz", b"pass-through", directory="python-upstream")
    mirror = mirror_of(index)
    mirror.configure("main", projects=("alpha", "beta"), exclude_files=("beta*.whl",))

    report = await mirror.cycle()

    assert set(mirror.files()["alpha"]) == {build_wheel("alpha", "1.0")[0], build_sdist("alpha", "1.0")[0]}
    assert set(mirror.files()["beta"]) == {build_sdist("beta", "1.0")[0]}
    assert report.indexes["main"].files_skipped == 2
    assert {r[1] for r in requests(index) if r[0] != "root"} == {"alpha", "beta"}


async def test_a_failed_file_that_is_left_out_leaves_the_ledger(simulator, mirror_of):
    """A file that nobody wants any more is no failure."""
    index = await simulator(serials=True)
    publish(index)
    index.state.publish("alpha", "alpha-2.0.tar.gz", b"x", hashes={"sha256": "0" * 64})
    mirror = mirror_of(index)
    assert failures(await mirror.cycle()) == [("main", "alpha", "alpha-2.0.tar.gz", "digest-mismatch")]
    mirror.configure("main", exclude_files=("alpha-2*",))

    assert failures(await mirror.cycle()) == []


async def test_the_list_may_come_from_the_configuration(simulator, mirror_of):
    """With list = "config" the named projects are the list: no root is asked for; what is no longer named leaves."""
    index = await simulator()
    publish(index)
    mirror = mirror_of(index)
    mirror.configure("main", list="config", projects=("Alpha", "gamma_tool"))

    report = await mirror.cycle()
    assert mirror.files() == without(offered(index), project="beta")
    assert (index.count(kind="root"), report.indexes["main"].projects_listed) == (0, 2)

    mirror.configure("main", projects=("alpha", "missing"))
    report = await mirror.cycle()
    assert set(mirror.files()) == {"alpha"}
    assert failures(report) == [("main", "missing", None, "not-found")]

    mirror.configure("main", projects=("alpha",))
    report = await mirror.cycle()
    assert (set(mirror.files()), failures(report), mirror.exit_code) == ({"alpha"}, [], 0)


async def test_a_narrowed_cycle_counts_for_nothing_that_it_did_not_see(simulator, mirror_of):
    """``--project`` looks at that project alone: others get no look, no root look counts, no failure is forgotten."""
    index = await simulator()
    publish(index)
    index.state.publish("beta", "beta-9.tar.gz", b"x", hashes={"sha256": "0" * 64})
    mirror = mirror_of(index)
    await mirror.cycle()
    everything = mirror.files()
    index.state.unlist_project("gamma-tool")
    index.state.remove_file("beta", build_sdist("beta", "1.0")[0])
    index.state.publish("alpha", *build_wheel("alpha", "2.0"))
    index.state.publish("beta", *build_wheel("beta", "2.0"))
    index.take_requests()

    for _ in range(3):
        report = await mirror.cycle(projects=("alpha",))
        assert mirror.files() == everything | {"alpha": offered(index)["alpha"]}
        assert failures(report) == [("main", "beta", "beta-9.tar.gz", "digest-mismatch")]
    assert {r[1] for r in requests(index)} == {None, "alpha"}

    report = await mirror.cycle()
    assert set(mirror.files()["beta"]) >= set(everything["beta"])
    assert "gamma-tool" in mirror.files()
    await mirror.cycle()
    assert "gamma-tool" not in mirror.files()
    assert build_sdist("beta", "1.0")[0] not in mirror.files()["beta"]


async def test_a_project_that_is_no_longer_listed_is_not_asked_for_by_name(simulator, mirror_of):
    """``--project`` of a project that has left the root says so and sends no request for it; no look counts."""
    index = await simulator()
    publish(index)
    mirror = mirror_of(index)
    await mirror.cycle()
    before = mirror.files()
    index.state.unlist_project("beta")
    index.take_requests()

    for _ in range(3):
        report = await mirror.cycle(projects=("beta",))
        assert (failures(report), mirror.exit_code) == ([("main", "beta", None, "not-found")], 5)
    assert ({r[1] for r in requests(index)}, mirror.files()) == ({None}, before)

    await mirror.cycle()
    assert mirror.files() == before
    report = await mirror.cycle(projects=("beta",))
    assert failures(report) == [("main", "beta", None, "not-found")]
    await mirror.cycle()
    assert "beta" not in mirror.files()


async def test_a_narrowed_cycle_may_be_the_first(simulator, mirror_of):
    """A first cycle of one project holds that one; the next whole cycle holds the rest."""
    index = await simulator(serials=True)
    publish(index)
    mirror = mirror_of(index)

    report = await mirror.cycle(projects=("beta",))
    assert mirror.files() == {"beta": offered(index)["beta"]}
    assert counters(report)["projects_listed"] == 3

    await mirror.cycle()
    assert mirror.files() == offered(index)


async def test_a_cycle_narrowed_to_an_index_leaves_the_others_alone(simulator, mirror_of):
    """``--index`` asks that index only; removals of the other wait for their own looks."""
    first, second = await simulator(), await simulator()
    first.state.publish("one", *build_wheel("one", "1.0"))
    second.state.publish("two", *build_wheel("two", "1.0"))
    mirror = mirror_of(first=first, second=second)
    await mirror.cycle()
    before = mirror.files()
    second.state.create_project("other")
    second.state.unlist_project("two")
    second.take_requests()
    first.state.publish("one", *build_wheel("one", "2.0"))

    for _ in range(3):
        await mirror.cycle(indexes=("first",))
    assert (mirror.files(), requests(second)) == (before | {"one": offered(first)["one"]}, [])
    await mirror.cycle()
    assert "two" in mirror.files()
    await mirror.cycle()
    assert "two" not in mirror.files()
