"""``--dry-run``: it says what the next cycle does, and changes no byte."""

from __future__ import annotations

import pytest

from harness.in_process import counters, failures
from simulator import Page, Status, build_sdist, build_wheel

ALPHA = [build_wheel("alpha", f"{n}.0") for n in range(4)]


def publish(simulator):
    for wheel in ALPHA:
        simulator.state.publish("alpha", *wheel)
    simulator.state.publish("beta", *build_wheel("beta", "1.0"))
    simulator.state.publish("gone", *build_wheel("gone", "1.0"))


def actions(items):
    return [(project, filename, action) for _, project, filename, action in items]


async def test_a_plan_before_the_first_cycle(simulator, mirror_of):
    """A plan for an empty root fetches everything, with sizes and digests, and does not even make the root."""
    index = await simulator()
    publish(index)
    mirror = mirror_of(index)

    report = await mirror.cycle(dry_run=True)

    assert report.plan is not None
    told = {(i.project, i.filename): (i.action, i.size, i.sha256) for i in report.plan}
    assert told == {
        (p.name, f.filename): ("fetch", len(f.data), f.hash("sha256"))
        for p in index.state.projects.values()
        for f in p.files.values()
    }
    assert (report.outcome.value, mirror.exit_code, mirror.root.exists(), index.count(kind="file")) == (
        "complete",
        0,
        False,
        0,
    )
    assert report.as_json()["plan"][0].keys() == {"index", "project", "filename", "action", "size", "sha256", "wants"}


@pytest.mark.parametrize("settings", [{}, {"serials": True}, {"validators": "none"}], ids=["etag", "serials", "digest"])
async def test_a_plan_is_what_the_next_cycle_does(simulator, mirror_of, settings):
    """Fetch, replace, relabel and remove are planned as the next cycle does them, and no byte on the disk changes."""
    index = await simulator(**settings)
    publish(index)
    mirror = mirror_of(index)
    await mirror.cycle()
    index.state.remove_file("alpha", ALPHA[0][0])
    index.state.unlist_project("gone")
    await mirror.cycle()
    before = mirror.bytes_on_disk()
    index.state.yank("alpha", ALPHA[1][0])
    index.state.replace("alpha", ALPHA[2][0], b"other bytes", yanked=True)
    index.state.publish("beta", *build_sdist("beta", "1.0"))
    index.state.publish("new", *build_wheel("new", "1.0"))

    plan = await mirror.plan()

    assert actions(plan) == [
        ("alpha", ALPHA[0][0], "remove"),
        ("alpha", ALPHA[1][0], "relabel"),
        ("alpha", ALPHA[2][0], "replace"),
        ("beta", build_sdist("beta", "1.0")[0], "fetch"),
        ("gone", build_wheel("gone", "1.0")[0], "remove"),
        ("new", build_wheel("new", "1.0")[0], "fetch"),
    ]
    assert mirror.bytes_on_disk() == before
    assert await mirror.plan() == plan
    done = counters(await mirror.cycle())
    assert (done["files_new"], done["files_replaced"], done["files_removed"]) == (2, 1, 2)
    assert await mirror.plan() == []


async def test_a_plan_of_a_changed_selection(simulator, mirror_of):
    """What a new pattern would take away is in the plan, and what it brings back is no download."""
    index = await simulator(serials=True)
    publish(index)
    mirror = mirror_of(index)
    await mirror.cycle()
    before = mirror.bytes_on_disk()
    mirror.configure("main", exclude_files=("alpha-0*",), exclude_projects=("gone",))
    assert actions(await mirror.plan()) == [
        ("alpha", ALPHA[0][0], "remove"),
        ("gone", build_wheel("gone", "1.0")[0], "remove"),
    ]
    assert mirror.bytes_on_disk() == before

    await mirror.cycle()
    mirror.configure("main", exclude_files=(), exclude_projects=())
    assert actions(await mirror.plan()) == [
        ("alpha", ALPHA[0][0], "relabel"),
        ("gone", build_wheel("gone", "1.0")[0], "relabel"),
    ]


async def test_a_plan_that_the_brake_would_stop_says_so(simulator, mirror_of):
    """Removals that the brake would hold are not planned; the failure and the exit code are those of the cycle."""
    index = await simulator()
    for number in range(10):
        index.state.publish("alpha", *build_wheel("alpha", f"{number}.0"))
    index.state.publish("beta", *build_wheel("beta", "1.0"))
    mirror = mirror_of(index)
    await mirror.cycle()
    mirror.configure("main", exclude_projects=("alpha",))

    report = await mirror.cycle(dry_run=True)
    assert (report.plan, failures(report), mirror.exit_code) == ([], [("main", None, None, "shrink")], 4)

    await mirror.cycle()
    report = await mirror.cycle(dry_run=True, allow_shrink=True)
    assert report.plan is not None
    assert (len(report.plan), {i.action for i in report.plan}) == (10, {"remove"})
    assert (failures(report), mirror.exit_code) == ([], 0)


async def test_a_plan_names_what_fails(simulator, mirror_of):
    """Pages and listings that fail are failures of the plan; the state's ledger does not change."""
    index = await simulator()
    publish(index)
    index.state.publish("beta", "../evil.tar.gz", b"x")
    index.inject(Status(status=404), kind="page", project="gone")
    mirror = mirror_of(index)

    report = await mirror.cycle(dry_run=True)

    assert sorted(f[1:] for f in failures(report)) == [
        ("beta", "../evil.tar.gz", "unsafe-name"),
        ("gone", None, "not-found"),
    ]
    assert mirror.exit_code == 5


async def test_a_plan_retries_the_ledger(simulator, mirror_of):
    """A file in the ledger is planned as a fetch, though its page is unchanged."""
    index = await simulator(serials=True)
    publish(index)
    index.inject(Status(status=404), filename=ALPHA[0][0])
    mirror = mirror_of(index)
    await mirror.cycle()

    assert actions(await mirror.plan()) == [("alpha", ALPHA[0][0], "fetch")]


async def test_a_plan_without_a_root(simulator, mirror_of):
    """An index that can't be read ends the plan with the exit code of the cycle, and changes nothing."""
    index = await simulator()
    publish(index)
    mirror = mirror_of(index)
    await mirror.cycle()
    before = mirror.bytes_on_disk()
    index.inject(Page(body=b"<html><input type=password></html>"), kind="root")

    report = await mirror.cycle(dry_run=True)

    assert (report.outcome.value, mirror.exit_code, mirror.bytes_on_disk()) == ("aborted", 4, before)
