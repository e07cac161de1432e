"""Worker processes that stop or break: the cycle ends all the same, and names them."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.program import events_of, published, report_of
from harness.worker_program import Beside, is_running, log_of, needs_two_cores
from mirror.tree.disk.durability import reports_failed_syncs
from mirror.tree.files import FileStore
from mirror.tree.layout import Layout, create_tree
from mirror.tree.partial_files import stem_of
from simulator import ThreadedSimulator, build_wheel

Simulators = Callable[..., ThreadedSimulator]
pytestmark = needs_two_cores

STOPS = """
import os, signal, mirror.workers.pool as pool, mirror.workers.process as process, mirror.workers.worker as worker
pool._QUIET_S = 0.5
real = process._WorkerJobs.fetch
async def fetch(work, ordered):
    if ordered.job.request.filename.startswith("p3-"):
        os.kill(os.getpid(), signal.SIGSTOP)
    await real(work, ordered)
process._WorkerJobs.fetch = fetch
"""
"""The worker that is to fetch one file stops for ever."""


def filled(threaded_simulator: Simulators) -> ThreadedSimulator:
    index = threaded_simulator()
    for number in range(12):
        index.state.publish(f"p{number}", *build_wheel(f"p{number}", "1.0"))
    return index


def mirror_of(work: Path, index: ThreadedSimulator, before: str) -> Beside:
    mirror = Beside(work, before=before)
    mirror.configure(f'url = "{index.url}"\nauth = {{ kind = "none" }}', limits='stall-timeout = "1s"')
    return mirror


def test_stuck_worker(threaded_simulator: Simulators, tmp_path: Path) -> None:
    """A worker that does nothing any more is killed, its work is done elsewhere, and the report names it."""
    index = filled(threaded_simulator)
    mirror = mirror_of(tmp_path, index, STOPS)
    done = mirror.sync("--json")
    (event,) = [e for e in report_of(done)["events"] if e["event"] == "worker-stuck"]
    assert done.returncode == 0, done.stderr
    assert len(published(mirror.root)) == 12
    assert "p3-1.0-py3-none-any.whl" in event["files"]
    assert event["outcome"] == "killed"
    (line,) = log_of(done, "fetch_process.stuck")
    assert str(line["pid"]) == event["pid"]


def test_worker_that_cannot_be_killed(threaded_simulator: Simulators, tmp_path: Path) -> None:
    """It is named at the end, its work is done elsewhere, and what it may still write to is left alone.

    Who captures the program's output does not wait for it.
    """
    index = filled(threaded_simulator)
    unkillable = (
        f"{STOPS}worker._KILL_S = 0.1\nimport mirror.workers.fork_server as f; f.ForkedProcess.kill = lambda _: None"
    )
    mirror = mirror_of(tmp_path, index, unkillable)
    done = mirror.sync("--log-level", "info")
    (pid,) = re.findall(r"worker process (\d+) is stuck and can't be killed", done.stdout)
    try:
        assert done.returncode == 0, done.stderr
        assert len(published(mirror.root)) == 12
        assert is_running(int(pid))
        assert "p3-1.0-py3-none-any.whl" in done.stdout
        assert list((mirror.root / "staging").glob("*.stuck"))
    finally:
        os.kill(int(pid), signal.SIGKILL)


STOPPED_FORKER = """
import os, signal, mirror.workers.pool as pool, mirror.workers.worker as worker
pool._QUIET_S, worker._KILL_S = 0.5, 0.1
real = pool.Workers.start
async def start(self):
    if not self._has_tried:
        (child,) = open(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read().split()
        os.kill(int(child), signal.SIGSTOP)
    return await real(self)
pool.Workers.start = start
"""
"""The process that forks the workers stops before it forks any."""


def test_stopped_forker(threaded_simulator: Simulators, tmp_path: Path) -> None:
    """Where the process that starts workers is stopped, all is fetched without them, and it does not outlive the program."""
    index = filled(threaded_simulator)
    mirror = mirror_of(tmp_path, index, STOPPED_FORKER)
    done = mirror.sync("--json")
    assert done.returncode == 0, done.stderr
    assert len(published(mirror.root)) == 12
    assert {e["event"] for e in report_of(done)["events"]} == {"worker-stuck"}


BROKEN = {
    "an exception": "def broken(*_): raise ZeroDivisionError('a bug')",
    "a closed socket": "def broken(connection, *_): connection.close()",
    "an exit": "def broken(*_): import os; os._exit(3)",
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_worker_that_breaks_in_its_start(threaded_simulator: Simulators, tmp_path: Path, broken: str) -> None:
    """All is fetched by the program itself, and each line on standard error is one of the log, a traceback too."""
    index = filled(threaded_simulator)
    before = f"import mirror.cli.commands.sync.report as report\n{broken}\nreport.serve = broken"
    done = mirror_of(tmp_path, index, before).sync("--json", "--log-level", "debug")
    assert done.returncode == 0, done.stderr
    events = events_of(done)  # each line is one object
    assert not [e for e in events if "has no attribute" in str(e)]
    if "bug" in broken:
        assert any("ZeroDivisionError" in e.get("exception", "") for e in events if e["event"] == "worker.failed")


def test_staging_of_a_writer_that_runs_on(tmp_path: Path) -> None:
    """A partial file to which another process may still write is neither continued nor removed, until that has ended."""
    layout = Layout(tmp_path)
    create_tree(layout)
    stem = stem_of("key")
    part, note = layout.staging / f"{stem}.part", layout.staging / f"{stem}.stuck"
    part.write_bytes(b"x" * 100)

    def new_store() -> FileStore:
        return FileStore(layout, metadata_limit_bytes=1, disk_reserve_bytes=0)

    store = new_store()
    store.leave_alone("key", writer=os.getpid())
    for later in (store, new_store()):
        later.sweep_staging()
        later.sweep_abandoned(older_than_s=0)
        assert not later.find_kept()("key")
        assert part.stat().st_size == 100
    note.write_text(f"{os.getpid()} 1")  # another process of the same number
    new_store().sweep_staging()
    assert not part.exists()
    assert not note.exists()


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        ("5.7.19-generic", False),
        ("5.8.0", True),
        ("4.18.0-553.el8", False),
        ("6.12", True),
        ("5.8-rc1", True),
        ("x", False),
    ],
)
def test_kernels_whose_syncfs_reports(monkeypatch: pytest.MonkeyPatch, release: str, *, expected: bool) -> None:
    """Before Linux 5.8 syncfs hides that the disk failed, and each file is synced by itself."""
    real = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((*real[:2], release, *real[3:])))
    reports_failed_syncs.cache_clear()
    try:
        assert reports_failed_syncs() is expected
    finally:
        reports_failed_syncs.cache_clear()
