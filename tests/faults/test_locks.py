"""One writer: a second process waits or is told whose turn it is, readers are free, and a dead holder holds nothing."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.program import Mirror, Running
from mirror.tree.layout import Layout
from mirror.tree.lock import hold
from simulator import Stall, ThreadedSimulator, build_wheel

Simulators = Callable[..., ThreadedSimulator]


@pytest.fixture
def index(threaded_simulator: Simulators) -> ThreadedSimulator:
    return threaded_simulator()


@pytest.fixture
def mirror(tmp_path: Path, index: ThreadedSimulator) -> Mirror:
    """A mirror of one file, and a second file that a cycle can stall on."""
    made = Mirror(tmp_path, url=index.url)
    index.state.publish("first", *build_wheel("first", "1.0"))
    made.sync_well()
    index.state.publish("second", *build_wheel("second", "1.0", size_pad=100_000))
    return made


@pytest.fixture
def stalled(mirror: Mirror, index: ThreadedSimulator) -> Iterator[Running]:
    """A cycle that holds the lock until it is released."""
    stall = Stall(after=1000)
    index.inject(stall, kind="file", times=1)
    with mirror.start_sync() as running:
        stall.wait()
        yield running


def test_second_writers(mirror: Mirror, index: ThreadedSimulator, stalled: Running) -> None:
    """While a cycle works, each writing command ends with exit code 8 and the holder's pid, and touches nothing."""
    for arguments in (
        ("sync", "--once", "--index-url", index.url, "--root", mirror.root),
        ("prune", "--root", mirror.root),
        ("verify", "--repair", "--root", mirror.root),
    ):
        done = mirror.run(*arguments)
        assert done.returncode == 8, done.stderr
        assert f"process {stalled.process.pid} is working on this mirror" in done.stderr
        assert "--wait" in done.stderr
    index.release()
    assert stalled.end().returncode == 0


def test_refused_writers_make_nothing(mirror: Mirror, index: ThreadedSimulator) -> None:
    """A command that does not get the lock makes no directory and no file: its holder might take it for a leftover."""
    layout = Layout(mirror.root)
    layout.staging.rmdir()

    def status() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in layout.root.rglob("*") if path.is_dir()}

    with hold(layout.tree_lock):
        before = status()
        for arguments in (
            ("sync", "--once", "--index-url", index.url, "--root", mirror.root),
            ("verify", "--repair", "--root", mirror.root),
        ):
            assert mirror.run(*arguments).returncode == 8
        assert status() == before


def test_readers_are_free(mirror: Mirror, index: ThreadedSimulator, stalled: Running) -> None:
    """While a cycle works, status, verify and dry runs answer."""
    assert mirror.run("status", "--root", mirror.root).returncode in {0, 4, 5}
    assert mirror.run("verify", "--root", mirror.root).returncode == 0
    assert mirror.run("prune", "--dry-run", "--root", mirror.root).returncode == 0
    assert mirror.sync("--dry-run").returncode == 0
    index.release()
    assert stalled.end().returncode == 0


def test_waiting(mirror: Mirror, index: ThreadedSimulator, stalled: Running) -> None:
    """With --wait a second cycle begins when the first one is done; a wait that is too short ends with exit code 8."""
    assert mirror.sync("--wait", "1s").returncode == 8
    with mirror.start_sync("--wait", "10m", "--json") as second:
        index.release()
        assert stalled.end().returncode == 0
        assert second.end().returncode == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_dead_holder(mirror: Mirror, index: ThreadedSimulator, stalled: Running, number: signal.Signals) -> None:
    """However a holder ends, its lock ends with it, and the next cycle completes what it had begun."""
    stalled.end(number)
    index.release()
    mirror.sync_well()
    assert mirror.run("verify", "--root", mirror.root).returncode == 0


def test_let_go_between_cycles(mirror: Mirror) -> None:
    """After a cycle nobody holds the lock, though its file stays."""
    mirror.sync_well()
    assert (mirror.root / "tree.lock").exists()
    assert mirror.run("prune", "--root", mirror.root).returncode == 0
    mirror.sync_well()
