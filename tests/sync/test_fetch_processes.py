"""Files that other processes fetch: the same comes of it as where one process does everything, also when they die."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.in_process import check_tree
from harness.program import Mirror, published, report_of
from harness.worker_program import (
    Beside,
    children,
    grandchildren,
    is_running,
    log_of,
    needs_two_cores,
    told,
    used_processes,
)
from simulator import (
    Corrupt,
    Cut,
    Resize,
    Stall,
    Status,
    ThreadedSimulator,
    build_sdist,
    build_wheel,
    unavailable,
    withheld,
)

Simulators = Callable[..., ThreadedSimulator]

MIB = 1 << 20
pytestmark = needs_two_cores


def fill(index: ThreadedSimulator, projects: int = 12) -> None:
    for number in range(projects):
        index.state.publish(f"p{number}", *build_wheel(f"p{number}", "1.0"))
        index.state.publish(f"p{number}", *build_sdist(f"p{number}", "1.0"))
    index.state.publish("large", *build_wheel("large", "1.0", size_pad=3 * MIB))


def offered(index: ThreadedSimulator) -> dict[str, dict[str, bytes]]:
    return {p.name: {f.filename: f.data for f in p.offered()} for p in index.state.projects.values()}


@pytest.mark.parametrize("second_origin", [False, True], ids=["own files", "redirected files"])
@pytest.mark.parametrize("core_metadata", [False, True], ids=["no metadata", "metadata"])
def test_first_fill(
    threaded_simulator: Simulators, tmp_path: Path, *, second_origin: bool, core_metadata: bool
) -> None:
    """A first fill by several processes holds the same and counts the same as one by a single process; then all is idle."""
    index = threaded_simulator(
        username="user", password="secret", second_origin=second_origin, core_metadata=core_metadata, serials=True
    )
    fill(index)
    reports = []
    for kind in (Mirror, Beside):
        mirror = kind(
            tmp_path / kind.__name__,
            index.url,
            {"MIRROR_DEFAULT_USERNAME": "user", "MIRROR_DEFAULT_PASSWORD": "secret"},
        )
        done = mirror.sync("--json", "--log-level", "debug")
        assert done.returncode == 0, done.stderr
        assert used_processes(done) == (kind is Beside)
        assert "secret" not in done.stderr.replace("password", "")
        assert published(mirror.root) == offered(index)
        reports.append(told(report_of(done)))
        assert mirror.run("verify", "--root", mirror.root).returncode == 0
        index.take_requests()
        mirror.sync_well()
        assert len(index.take_requests()) == 1
    assert reports[0] == reports[1]


FAULTS = {
    "a wrong digest": lambda i: i.inject(Corrupt(), kind="file", project="p3"),
    "a wrong size": lambda i: i.inject(Resize(by=-1), kind="file", project="p3"),
    "a missing file": lambda i: i.inject(Status(status=404), kind="file", project="p3"),
    "a withheld file": lambda i: i.inject(withheld("POLICY_COOLDOWN"), kind="file", project="p3"),
    "a refused file": lambda i: i.inject(Status(status=403), kind="file", filename="p3-1.0-py3-none-any.whl"),
    "a body that is cut once": lambda i: i.inject(Cut(after=MIB * 2), kind="file", project="large", times=1),
    "an index that is busy once": lambda i: i.inject(unavailable(), kind="file", project="p3", times=1),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_failures_are_the_same(threaded_simulator: Simulators, tmp_path: Path, fault: Any) -> None:
    """What fails in another process fails in the same way: reason, sentence, counters and exit code; the rest goes on."""
    found = []
    for kind in (Mirror, Beside):
        index = threaded_simulator()
        fill(index)
        fault(index)
        work = tmp_path / kind.__name__
        done = kind(work, index.url).sync("--json")
        text = json.dumps(told(report_of(done)))
        text = text.replace(index.url.removesuffix("simple/"), "http://index/").replace(str(work), "work")
        found.append((done.returncode, text))
    assert found[0] == found[1]


@pytest.mark.parametrize("open_root", [False, True], ids=["closed root", "open root"])
def test_denied_in_the_middle(threaded_simulator: Simulators, tmp_path: Path, *, open_root: bool) -> None:
    """A credential that ends among the files ends the index's part with exit code 3 after a few requests."""
    index = threaded_simulator(username="user", password="secret", open_root=open_root)
    fill(index, 40)
    stall = index.inject(Stall(after=MIB), kind="file", project="large", times=1)
    index.inject(Cut(after=MIB), kind="file", project="large", times=1)
    mirror = Beside(tmp_path, index.url, {"MIRROR_DEFAULT_USERNAME": "user", "MIRROR_DEFAULT_PASSWORD": "secret"})
    with mirror.start_sync("--json", "--log-level", "debug") as running:
        stall.wait()
        index.settings.password = "another"
        for number in range(40):
            index.state.publish(f"p{number}", *build_wheel(f"p{number}", "2.0"))
        index.release()
        first = running.end()
    assert first.returncode in {0, 3, 5}, first.stderr
    index.take_requests()
    done = mirror.sync("--json", "--log-level", "debug")
    assert done.returncode == 3, done.stderr
    assert "MIRROR_DEFAULT_PASSWORD" in done.stderr
    assert len(index.take_requests()) <= 2 * len(os.sched_getaffinity(0)) * 16
    index.settings.password = "secret"
    mirror.sync_well()
    assert published(mirror.root) == offered(index)


POLICIES = {
    "a policy": {"blocked": ("p1", "p2", "p3-1.0.tar.gz", "p4-1.0.tar.gz", "p4-1.0-py3-none-any.whl")},
    "an allow list": {"allow_list": ("large", *(f"p{n}" for n in range(4, 12)))},
}


@pytest.mark.parametrize("settings", POLICIES.values(), ids=POLICIES)
def test_refused_items(threaded_simulator: Simulators, tmp_path: Path, settings: dict[str, Any]) -> None:
    """Pages and files that a policy stops are refused by themselves, whichever process asked; the rest is held."""
    index = threaded_simulator(username="user", password="secret", **settings)
    fill(index)
    held = {}
    for kind in (Mirror, Beside):
        variables = {"MIRROR_DEFAULT_USERNAME": "user", "MIRROR_DEFAULT_PASSWORD": "secret"}
        mirror = kind(tmp_path / kind.__name__, index.url, variables)
        for _ in range(2):
            done = mirror.sync("--json", "--log-level", "debug")
            assert done.returncode == 5, done.stderr
            failed = report_of(done)["failures"]
            assert {f["reason"] for f in failed} == {"denied"}
            assert not any("credential" in f["detail"] for f in failed)
        assert used_processes(done) == (kind is Beside)
        held[kind] = (published(mirror.root), sorted((f["project"], f["filename"] or "", f["detail"]) for f in failed))
    assert held[Mirror] == held[Beside]
    words = "policy no-unscanned" if "blocked" in settings else "is not on the allow list"
    assert all(words in detail for _, _, detail in held[Mirror][1])
    assert "large" in held[Mirror][0]


def test_files_refused_where_nothing_was_let_out(threaded_simulator: Simulators, tmp_path: Path) -> None:
    """Refused files alone end nothing while the pages are let out, however many there are."""
    index = threaded_simulator()
    fill(index, 40)
    index.inject(Status(status=403), kind="file")
    done = Beside(tmp_path, index.url).sync("--json")
    assert done.returncode == 5, done.stderr
    assert len(report_of(done)["failures"]) == 81


def test_credential_is_renewed_once(threaded_simulator: Simulators, tmp_path: Path) -> None:
    """A credential that ends in the middle is asked for again by one process, once, and all go on with the new one."""
    index = threaded_simulator(token="first")
    fill(index)
    calls = tmp_path / "calls"
    script = tmp_path / "token"
    script.write_text(f"#!/bin/sh\necho call >> {calls}\ncat {tmp_path}/secret\n")
    script.chmod(0o755)
    (tmp_path / "secret").write_text("first\n")
    stall = index.inject(Stall(after=MIB), kind="file", project="large", times=1)

    def renew() -> None:
        stall.wait()
        (tmp_path / "secret").write_text("second\n")
        index.settings.token = "second"
        index.state.publish("late", *build_wheel("late", "1.0"))
        index.release()

    mirror = Beside(tmp_path / "mirror")
    mirror.configure(
        f'url = "{index.url}"\nauth = {{ kind = "command", command = ["{script}"] }}', limits="pages = 1\ndownloads = 1"
    )
    index.inject(Cut(after=2 * MIB), kind="file", project="large", times=1)
    thread = threading.Thread(target=renew)
    thread.start()
    done = mirror.sync("--json", "--log-level", "debug")
    thread.join()
    assert done.returncode == 0, done.stderr
    assert used_processes(done)
    assert calls.read_text().split() == ["call"] * 2
    assert "second" not in done.stderr
    assert published(mirror.root)["large"] == offered(index)["large"]


def test_a_process_that_dies(threaded_simulator: Simulators, tmp_path: Path) -> None:
    """What a process was to fetch when it was killed is fetched all the same, and the loss is told."""
    index = threaded_simulator()
    fill(index)
    stall = index.inject(Stall(after=MIB), kind="file", project="large", times=1)
    mirror = Beside(tmp_path, index.url)
    with mirror.start_sync("--json", "--log-level", "debug") as running:
        stall.wait()
        for pid in grandchildren(running.process.pid):
            os.kill(pid, signal.SIGKILL)
        done = running.end()
    index.release()
    assert done.returncode == 0, done.stderr
    assert log_of(done, "fetch_process.lost")
    assert published(mirror.root) == offered(index)


def test_no_process_outlives_the_program(threaded_simulator: Simulators, tmp_path: Path) -> None:
    """Where the program is killed all processes that it forked end by themselves."""
    index = threaded_simulator()
    fill(index)
    stall = index.inject(Stall(after=MIB), kind="file", project="large")
    with Beside(tmp_path, index.url).start_sync("--json") as running:
        stall.wait()
        forker = children(running.process.pid)
        left = [*forker, *grandchildren(running.process.pid)]
        assert len(left) > len(forker) == 1
        running.end(signal.SIGKILL)
    while any(is_running(pid) for pid in left):
        os.sched_yield()


def test_connections_are_shared(threaded_simulator: Simulators, tmp_path: Path) -> None:
    """All processes together have at most ``max-connections`` requests under way; where it is small there is but one."""
    for most, has_processes in ((12, True), (4, False)):
        index = threaded_simulator()
        fill(index, 30)
        stall = index.inject(Stall(after=None), kind="file")
        mirror = Beside(tmp_path / str(most))
        mirror.configure(
            f'url = "{index.url}"\nauth = {{ kind = "none" }}', limits=f"max-connections = {most}\npages = {most}"
        )
        with mirror.start_sync("--json", "--log-level", "debug") as running:
            stall.wait()
            while len([r for r in index.requests if r.kind == "file"]) < most * 3 // 4 // 2 * 2:
                os.sched_yield()
            assert len([r for r in index.requests if r.kind == "file"]) <= most
            index.faults.clear()
            index.release()
            done = running.end()
        assert done.returncode == 0, done.stderr
        assert used_processes(done) == has_processes


def test_a_rate_is_kept_by_one_process(threaded_simulator: Simulators, tmp_path: Path) -> None:
    """Where a rate limits what is asked for, there are no other processes that would have to share it."""
    index = threaded_simulator()
    fill(index, 3)
    mirror = Beside(tmp_path)
    mirror.configure(f'url = "{index.url}"\nauth = {{ kind = "none" }}', limits='bytes-per-second = "1GiB"')
    done = mirror.sync("--json", "--log-level", "debug")
    assert done.returncode == 0, done.stderr
    assert not used_processes(done)


def test_reserve_is_shared(threaded_simulator: Simulators, tmp_path: Path) -> None:
    """A reserve that is reached in another process stops the cycle with one sentence."""
    index = threaded_simulator()
    fill(index)
    mirror = Beside(tmp_path)
    mirror.configure(f'url = "{index.url}"\nauth = {{ kind = "none" }}', limits='disk-reserve = "1000TB"')
    done = mirror.sync()
    assert done.returncode == 6
    assert "would use up the reserve" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((mirror.root / "public/files").rglob("*.whl"))


REFUSING = """
import errno, os
from mirror.tree import files, staging
def refuse(*_):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))
files.FileStore._make_directories = staging.remove_if_there = refuse
begin = staging.StagedFile.__init__
def begin_in_staging(self, *arguments, **options):
    begin(self, *arguments, **options)
    self._descriptor = self._create()
staging.StagedFile.__init__ = begin_in_staging
"""


def test_a_disk_that_refuses_everything(threaded_simulator: Simulators, tmp_path: Path) -> None:
    """Where a file can neither be placed nor its beginning be removed, the cycle ends with the disk's error; nothing waits."""
    index = threaded_simulator()
    fill(index)
    done = Beside(tmp_path, index.url, before=REFUSING).sync("--json", "--log-level", "debug")
    assert done.returncode == 6, done.stderr
    assert used_processes(done)
    assert "read-only" in done.stderr


@pytest.mark.parametrize("every_s", [3600, 0], ids=["report of outcomes", "report of traffic"])
def test_a_bug_in_reporting(threaded_simulator: Simulators, tmp_path: Path, every_s: int) -> None:
    """A process that can't report its outcomes logs the bug and ends, and its work is done all the same."""
    index = threaded_simulator()
    fill(index)
    break_it = (
        f"import mirror.workers.process as process; process._REPORT_EVERY_S = {every_s};"
        " process._WorkerJobs._place_arrived = lambda self: 1 / 0"
    )
    done = Beside(tmp_path, index.url, before=break_it).sync("--json", "--log-level", "debug")
    assert done.returncode == 0, done.stderr
    assert log_of(done, "fetch_process.crashed")
    assert log_of(done, "fetch_process.lost")
    assert published(tmp_path / "mirror") == offered(index)


def test_large_metadata(threaded_simulator: Callable[..., ThreadedSimulator], tmp_path: Path) -> None:
    """Metadata that a worker process does not send is fetched by the program itself."""
    index = threaded_simulator(core_metadata=True)
    metadata = b"Metadata-Version: 2.1\nName: p\nVersion: 1.0\n\n" + b"y" * (1 << 20)
    listed = {"sha256": hashlib.sha256(metadata).hexdigest()}
    for number in range(3):
        sdist = build_sdist(f"p{number}", "1.0")
        index.state.publish(f"p{number}", *sdist, metadata=metadata, core_metadata=listed)
    mirror = Beside(tmp_path, index.url)
    done = mirror.sync("--log-level", "debug")
    assert (done.returncode, used_processes(done)) == (0, True), done.stderr
    assert {path.read_bytes() for path in mirror.root.rglob("*.metadata")} == {metadata}
    check_tree(mirror.root)
