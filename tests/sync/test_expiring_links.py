"""Pages whose links end while they wait in our queue: the page is read again in the same cycle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.in_process import counters, failures, offered
from harness.program import published
from harness.worker_program import Beside, needs_two_cores, used_processes
from simulator import Status, ThreadedSimulator, build_wheel

PROJECT = "tide-tables"
FILES = 14


def fill(index) -> None:
    """Publish a project whose files take longer than its links live."""
    for number in range(FILES):
        index.state.publish(PROJECT, *build_wheel(PROJECT, f"1.{number}"))


@pytest.mark.parametrize("formats", ["html", "json"])
@pytest.mark.parametrize("validators", ["etag", "none"])
async def test_links_that_end_while_they_wait(simulator, mirror_of, formats, validators):
    """Each reading brings some files before its links end: all are held after one cycle, and the next one is idle."""
    index = await simulator(formats=formats, validators=validators, signed_links=4)
    fill(index)
    mirror = mirror_of(index)
    mirror.limits |= {"downloads": 1, "max_connections": 1}
    report = await mirror.cycle()
    assert (failures(report), mirror.exit_code) == ([], 0)
    assert mirror.files() == offered(index)
    assert counters(report) == {
        "projects_listed": 1,
        "projects_checked": 1,
        "projects_changed": 1,
        "files_new": FILES,
    }
    assert index.count(kind="page") == -(-FILES // 4)
    index.take_requests()
    assert failures(await mirror.cycle()) == []
    assert index.count(kind="store") == 0


async def test_one_file_that_is_always_refused(simulator, mirror_of):
    """It is asked for by each new link, in as many readings as bring others and two more; then it is denied."""
    index = await simulator(signed_links=4)
    fill(index)
    refused = build_wheel(PROJECT, "1.5")[0]
    index.inject(Status(status=403, text="policy"), kind="store", filename=refused)
    mirror = mirror_of(index)
    mirror.limits |= {"downloads": 1, "max_connections": 1}
    report = await mirror.cycle()
    assert failures(report) == [("main", PROJECT, refused, "denied")]
    assert "credential" not in report.failures[0].detail
    assert mirror.exit_code == 5
    assert len(mirror.files()[PROJECT]) == FILES - 1
    assert index.count(kind="page") <= -(-FILES // 4) + 3


async def test_readings_that_bring_nothing(simulator, mirror_of):
    """Where all links are refused, the page is read again twice and no more, in each cycle."""
    index = await simulator(signed_links=4)
    fill(index)
    index.inject(Status(status=403), kind="store")
    mirror = mirror_of(index)
    for _ in range(2):
        index.take_requests()
        report = await mirror.cycle()
        assert len(failures(report)) == FILES
        assert index.count(kind="page") == 3
        assert counters(report)["files_failed"] == FILES
    index.faults.clear()
    assert failures(await mirror.cycle()) == []
    assert mirror.files() == offered(index)


async def test_a_link_that_stays_the_same_is_refused(simulator, mirror_of):
    """A link with a query that is the same when its page is read again has not ended: it is not asked for a second time."""
    index = await simulator()
    name, data = build_wheel(PROJECT, "1.0")
    index.state.publish(PROJECT, name, data, url=f"{index.store_url}/b/{name}?Expires=1&Signature=5f%2B1e")
    index.state.publish(PROJECT, *build_wheel(PROJECT, "1.1"))
    mirror = mirror_of(index)
    for _ in range(2):
        index.take_requests()
        report = await mirror.cycle()
        assert failures(report) == [("main", PROJECT, name, "denied")]
        assert (index.count(kind="store"), index.count(kind="page")) == (1, 2)
        assert counters(report)["files_failed"] == 1


async def test_a_refused_link_without_a_query(simulator, mirror_of):
    """There is nothing in it that ends: one request, and its page is not read again."""
    index = await simulator()
    name, data = build_wheel(PROJECT, "1.0")
    index.state.publish(PROJECT, name, data, url=f"{index.store_url}/b/{name}")
    index.state.publish(PROJECT, *build_wheel(PROJECT, "1.1"))
    report = await mirror_of(index).cycle()
    assert failures(report) == [("main", PROJECT, name, "denied")]
    assert (index.count(kind="store"), index.count(kind="page")) == (1, 1)


@needs_two_cores
def test_links_that_end_while_other_processes_fetch(
    threaded_simulator: Callable[..., ThreadedSimulator], tmp_path: Path
) -> None:
    """The same where other processes fetch."""
    index = threaded_simulator(signed_links=5)
    fill(index)
    mirror = Beside(tmp_path, index.url)
    done = mirror.sync("--json", "--log-level", "debug")
    assert used_processes(done)
    assert done.returncode == 0, done.stderr
    assert len(published(mirror.root)[PROJECT]) == FILES
