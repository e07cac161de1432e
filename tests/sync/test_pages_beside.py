"""Pages that other processes look at: the same comes of it as where one process does everything, also when they die."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from harness.program import Mirror, published, report_of
from harness.worker_program import Beside, grandchildren, log_of, needs_two_cores, told, used_processes
from mirror.core.model import Validators
from mirror.errors import Unavailable
from mirror.sync.pages.page_batches import PageBatches
from mirror.sync.reachability import Reachability
from mirror.workers.messages import JobOutcome
from simulator import Page, Redirect, Stall, Status, ThreadedSimulator, build_wheel, unavailable, withheld

if TYPE_CHECKING:
    from mirror.state.listing.due import ProjectRow
    from mirror.sync.pages.page_batches import PageHandler
    from mirror.sync.work import IndexRun
    from mirror.upstream.index import IndexClient
    from mirror.workers.pool import Workers

Simulators = Callable[..., ThreadedSimulator]

pytestmark = [needs_two_cores, pytest.mark.usefixtures("unmeasured")]


def fill(index: ThreadedSimulator, projects: int) -> None:
    for number in range(projects):
        index.state.publish(f"p{number}", *build_wheel(f"p{number}", "1.0"))


def offered(index: ThreadedSimulator) -> dict[str, dict[str, bytes]]:
    return {p.name: {f.filename: f.data for f in p.offered()} for p in index.state.projects.values() if p.offered()}


def pages_asked(index: ThreadedSimulator) -> list[str]:
    return sorted(r.project or "" for r in index.take_requests() if r.kind == "page")


def shown(mirror: Mirror, index: ThreadedSimulator, report: dict[str, Any]) -> str:
    """Return what a report says, but for where the index and the mirror are."""
    text = json.dumps(told(report))
    return text.replace(index.url.removesuffix("simple/"), "http://index/").replace(str(mirror.work), "work")


@pytest.mark.parametrize("validators", ["etag", "last-modified", "none"])
def test_idle_cycle(threaded_simulator: Simulators, tmp_path: Path, validators: str) -> None:
    """Each page is asked for once, more of them than may wait, and is unchanged by its validators or its bytes."""
    index = threaded_simulator(validators=validators, username="user", password="secret")
    fill(index, 150)
    mirror = Beside(tmp_path, index.url, {"MIRROR_DEFAULT_USERNAME": "user", "MIRROR_DEFAULT_PASSWORD": "secret"})
    mirror.sync_well()
    index.take_requests()
    done = mirror.sync("--json", "--log-level", "debug")
    assert done.returncode == 0, done.stderr
    assert used_processes(done)
    counters = report_of(done)["indexes"][0]
    assert (counters["projects_checked"], counters["projects_unchanged"], counters["projects_changed"]) == (150, 150, 0)
    assert pages_asked(index) == sorted(index.state.projects)
    assert counters["requests"] == 151


def test_pages_at_other_places(threaded_simulator: Simulators, tmp_path: Path) -> None:
    """Other processes ask where the root's links lead, and refuse other origins, as one process does."""
    found = []
    other = threaded_simulator()
    other.state.publish("p3", *build_wheel("p3", "9.0"))
    for kind in (Mirror, Beside):
        index = threaded_simulator(formats="html", documents=True)
        fill(index, 40)
        mirror = kind(tmp_path / kind.__name__, index.url)
        mirror.sync_well()
        index.inject(Redirect(url=f"{other.url}p3/"), kind="page", project="p3")
        done = mirror.sync("--json")
        index.faults.clear()
        report = shown(mirror, index, report_of(done))
        found.append((done.returncode, report, sorted({r.path for r in index.take_requests() if r.kind == "page"})))
        assert published(mirror.root) == offered(index)
    assert found[0] == found[1]
    assert found[0][0] == 5
    assert found[0][2] == sorted(f"/simple/p{n}/index.html" for n in range(40))
    assert other.take_requests() == []


def test_changes_are_the_same(threaded_simulator: Simulators, tmp_path: Path) -> None:
    """Over some cycles in which files come, go, fail and are had after all, the reports are those of a single process."""
    found = []
    for kind in (Mirror, Beside):
        index = threaded_simulator()
        fill(index, 20)
        mirror = kind(tmp_path / kind.__name__, index.url)
        reports = []

        def cycle(index: ThreadedSimulator = index, mirror: Mirror = mirror, reports: list[str] = reports) -> None:
            done = mirror.sync("--json", "--allow-shrink")
            reports.append(f"{done.returncode} {shown(mirror, index, report_of(done))}")
            reports.append(" ".join(pages_asked(index)))

        cycle()
        index.state.publish("p3", *build_wheel("p3", "2.0"))
        index.state.remove_file("p4", "p4-1.0-py3-none-any.whl")
        index.inject(Status(status=404), kind="file", project="p5")
        index.state.publish("p5", *build_wheel("p5", "2.0"))
        cycle()  # a first look at what is missing, and a failed file
        index.faults.clear()
        cycle()  # the second look; the file comes, though its page is unchanged
        cycle()
        assert {name: files for name, files in published(mirror.root).items() if files} == offered(index)
        found.append(reports)
    assert found[0] == found[1]


FAULTS = {
    "an outage": unavailable(503, retry_after="3600"),
    "a missing page": Status(status=404),
    "a refused page": Status(status=403),
    "a withheld project": withheld("POLICY_COOLDOWN"),
    "a withdrawn project": withheld("MALWARE_DETECTED"),
    "a login page": Page(body=b"<html><body>Please log in</body></html>"),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_failures_are_the_same(threaded_simulator: Simulators, tmp_path: Path, fault: Any) -> None:
    """What fails in another process fails in the same way: reason, sentence, counters and exit code; the rest goes on."""
    found = []
    for kind in (Mirror, Beside):
        index = threaded_simulator()
        fill(index, 12)
        mirror = kind(tmp_path / kind.__name__, index.url)
        mirror.sync_well()
        index.inject(fault, kind="page", project="p3")
        index.state.publish("p4", *build_wheel("p4", "2.0"))
        done = mirror.sync("--json")
        found.append((done.returncode, shown(mirror, index, report_of(done)), published(mirror.root).keys()))
        assert published(mirror.root)["p4"] == offered(index)["p4"]
    assert found[0] == found[1]


@pytest.mark.parametrize("status", [401, 403])
def test_denied(threaded_simulator: Simulators, tmp_path: Path, status: int) -> None:
    """An index that refuses its pages is not asked for all of them; exit code 3, and what was published stays."""
    index = threaded_simulator(username="user", password="secret")
    fill(index, 300)
    mirror = Beside(tmp_path, index.url, {"MIRROR_DEFAULT_USERNAME": "user", "MIRROR_DEFAULT_PASSWORD": "secret"})
    mirror.sync_well()
    index.take_requests()
    index.inject(Status(status=status), kind="page")
    done = mirror.sync("--json", "--log-level", "debug")
    assert done.returncode == 3, done.stderr
    assert used_processes(done)
    assert len(pages_asked(index)) < 200
    assert published(mirror.root) == offered(index)


def test_a_process_that_dies(threaded_simulator: Simulators, tmp_path: Path) -> None:
    """Pages that a process was to look at when it was killed are looked at all the same."""
    index = threaded_simulator()
    fill(index, 80)
    mirror = Beside(tmp_path, index.url)
    mirror.sync_well()
    index.state.publish("p3", *build_wheel("p3", "2.0"))
    stall = index.inject(Stall(after=None), kind="page")
    with mirror.start_sync("--json", "--log-level", "debug") as running:
        stall.wait()
        index.faults.clear()
        for pid in grandchildren(running.process.pid):
            os.kill(pid, signal.SIGKILL)
        index.release()
        done = running.end()
    assert done.returncode == 0, done.stderr
    assert log_of(done, "fetch_process.lost")
    assert report_of(done)["indexes"][0]["projects_checked"] == 80
    assert published(mirror.root) == offered(index)


def test_large_pages(threaded_simulator: Simulators, tmp_path: Path) -> None:
    """A page that is too large to be handed over is read here instead."""
    index = threaded_simulator()
    fill(index, 3)
    mirror = Beside(
        tmp_path, index.url, before="import mirror.workers.process as process; process._LARGE_PAGE_BYTES = 0"
    )
    mirror.sync_well()
    assert pages_asked(index) == sorted([*index.state.projects] * 2)
    assert published(mirror.root) == offered(index)


def test_scattered_refusals(threaded_simulator: Simulators, tmp_path: Path) -> None:
    """Pages that are refused among others that are not are no refusals in a row, however many are told of at once."""
    index = threaded_simulator()
    fill(index, 120)
    mirror = Beside(tmp_path, index.url)
    mirror.sync_well()
    broken = sorted(index.state.projects)[::10]
    for name in broken:
        index.inject(Status(status=403), kind="page", project=name)
    done = mirror.sync("--json")
    report = report_of(done)
    assert (done.returncode, report["outcome"], len(report["failures"])) == (5, "partial", len(broken)), done.stderr
    assert report["indexes"][0]["projects_checked"] == 120


def test_a_credential_that_breaks(threaded_simulator: Simulators, tmp_path: Path) -> None:
    """A file that is half written in the middle ends no cycle: the credential that is known goes on."""
    index = threaded_simulator(username="user", password="secret", validators="none")
    fill(index, 200)
    mirror = Beside(tmp_path, before="import mirror.upstream.credentials.source as source; source.CHECK_EVERY_S = 0")
    netrc = mirror.home / ".netrc"
    netrc.write_text("machine 127.0.0.1 login user password secret\n")
    netrc.chmod(0o600)
    mirror.configure(f'url = "{index.url}"\nauth = {{ kind = "netrc" }}')
    mirror.sync_well()
    stall = index.inject(Stall(after=None), kind="page")
    with mirror.start_sync("--json", "--log-level", "debug") as running:
        stall.wait()
        netrc.write_text("machine 127.0.0.1 login user passw\n")
        os.utime(netrc, (1, 1))
        index.faults.clear()
        index.release()
        done = running.end()
    assert done.returncode == 0, done.stderr
    assert used_processes(done)
    assert report_of(done)["indexes"][0]["projects_checked"] == 200
    assert published(mirror.root) == offered(index)


def test_connections_are_kept(threaded_simulator: Simulators, tmp_path: Path) -> None:
    """All processes together have at most ``max-connections`` pages under way."""
    index = threaded_simulator()
    fill(index, 60)
    stall = index.inject(Stall(after=None), kind="page")
    mirror = Beside(tmp_path)
    mirror.configure(f'url = "{index.url}"\nauth = {{ kind = "none" }}', limits="max-connections = 12\npages = 12")
    with mirror.start_sync("--json", "--log-level", "debug") as running:
        stall.wait()
        while len([r for r in index.requests if r.kind == "page"]) < 10:
            os.sched_yield()
        assert len([r for r in index.requests if r.kind == "page"]) <= 12
        index.faults.clear()
        index.release()
        done = running.end()
    assert done.returncode == 0, done.stderr
    assert used_processes(done)
    assert published(mirror.root) == offered(index)


def test_interrupted(threaded_simulator: Simulators, tmp_path: Path) -> None:
    """A signal while pages are looked at ends all processes; the next cycle does the rest."""
    index = threaded_simulator()
    fill(index, 60)
    stall = index.inject(Stall(after=None), kind="page", project="p7")
    mirror = Beside(tmp_path, index.url)
    with mirror.start_sync("--json") as running:
        stall.wait()
        done = running.end(signal.SIGINT)
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    index.faults.clear()
    index.release()
    mirror.sync_well()
    assert published(mirror.root) == offered(index)


class Judge:
    """Counts pages that are unchanged, and asks for nothing."""

    def count_unchanged(self, _row: object, _known: object) -> bool:
        return True


async def test_failures_in_a_row_are_those_that_came_so() -> None:
    """Whether pages failed one after another is seen when they come, not when somebody has time to judge them."""
    run = cast("IndexRun", SimpleNamespace(reach=Reachability(client=cast("IndexClient", None))))
    beside = PageBatches(run, cast("Workers[Any]", None), cast("PageHandler", Judge()))
    row, known = cast("ProjectRow", None), Validators(etag="x")
    failed = JobOutcome(number=1, error=Unavailable(url="http://127.0.0.1/", cause="busy"))
    with beside._send, beside._receive:
        for outcome in (failed, None, failed, failed, None, failed):
            if outcome is None:
                beside.confirmed(row, known)
            else:
                beside.answered(row, outcome)
        waiting = [beside._receive.receive_nowait()[1] for _ in range(4)]
    assert [found.unreachable_in_a_row for found in waiting if found is not None] == [1, 1, 2, 1]
