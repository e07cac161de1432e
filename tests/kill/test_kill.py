"""Real cycles that are killed: at each step of the order of writes, and at random moments.

The figures are small here; ``make soak`` kills hundreds.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from soak.killing import LARGE_BYTES, Killing, check_disk, kill_many
from soak.program import STEPS

from harness.in_process import check_tree, offered, query
from simulator import Stall

CYCLE_STEPS = [
    *((step, 1) for step in STEPS if "pruned" not in step),
    ("block staged", 3),
    ("one of three pages", 2),
    ("one of three pages", 3),
    ("one of three pages", 7),
    ("page file removed", 2),
    ("page file removed", 3),
    ("pages synced", 2),
    ("validators", 2),
    ("validators", 3),
    ("rows", 2),
]
BESIDE_STEPS = ["block staged", "blob", "sidecar", "blobs synced", "rows", "ledger", "project page"]
"""Steps whose place in time is another one where files are fetched by other processes."""
PRUNE_STEPS = [
    ("blob's row pruned", 1),
    ("file pruned", 1),
    ("file pruned", 2),
    ("file pruned", 3),
    ("blob pruned", 1),
    ("history pruned", 1),
]


@pytest.fixture(scope="module")
def killing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killing]:
    """A mirror of a small index, in step with it; each test leaves it so."""
    with Killing(tmp_path_factory.mktemp("kill"), seed=3) as running:
        running.fill()
        running.publish("joining-0")
        running.heal()
        yield running


@pytest.fixture
def beside(killing: Killing) -> Iterator[None]:
    """Files are fetched by other processes, from the first on."""
    killing.beside = True
    yield
    killing.beside = False


def make_all_steps_due(killing: Killing) -> None:
    """Change the index so that the next cycle fetches, relabels, replaces, misses and removes, projects too."""
    state = killing.upstream.state
    leaving = [p.name for p in state.projects.values() if p.name.startswith("joining") and p.listed]
    gone = next(iter(state["project-0"].files))
    killing.publish("project-0")
    killing.change(lambda: state.remove_file("project-0", gone))
    for project in leaving:
        killing.change(lambda project=project: state.unlist_project(project))
    killing.cycle_here()
    killing.publish_large("project-1")
    killing.publish(f"joining-{killing._versions}")
    yanked = next(iter(state["project-2"].files))
    killing.change(lambda: state.yank("project-2", yanked, f"reason {killing._versions}"))
    missed = next(iter(state["project-3"].files))
    killing.publish("project-3")
    killing.change(lambda: state.remove_file("project-3", missed))
    wrong = killing.publish("project-4")
    size = len(state["project-4"].files[wrong].data) + 1
    killing.change(lambda: state.change("project-4", wrong, size=size))


def make_right(killing: Killing) -> None:
    """Mend what ``make_all_steps_due`` lists wrongly, so that the mirror can become complete, and shed large files."""
    state = killing.upstream.state
    # Each test leaves a large file: all but the newest leave the index, since each check reads every listed byte.
    for name in [n for n, file in state["project-1"].files.items() if len(file.data) >= LARGE_BYTES][:-1]:
        killing.change(lambda name=name: state.remove_file("project-1", name))
    for name, file in state["project-4"].files.items():
        size = len(file.data)
        killing.change(lambda name=name, size=size: state.change("project-4", name, size=size))


@pytest.mark.parametrize(("step", "count"), CYCLE_STEPS, ids=[f"{s}-{c}" for s, c in CYCLE_STEPS])
def test_killed_at_a_step(killing: Killing, step: str, count: int) -> None:
    """A cycle killed after any step leaves a whole tree, and the next ones bring it in step with the index."""
    make_all_steps_due(killing)

    assert killing.kill_at(step, count=count), f"the cycle never came to: {step}"

    make_right(killing)
    killing.heal()


@pytest.mark.parametrize("step", BESIDE_STEPS)
@pytest.mark.usefixtures("beside")
def test_killed_at_a_step_with_other_processes(killing: Killing, step: str) -> None:
    """It is the same where other processes fetch the files: they end with the one that was killed."""
    test_killed_at_a_step(killing, step, 1)


@pytest.mark.parametrize(("step", "count"), PRUNE_STEPS, ids=[f"{s}-{c}" for s, c in PRUNE_STEPS])
def test_prune_killed_at_a_step(killing: Killing, step: str, count: int) -> None:
    """A prune killed after any step touches nothing that is listed, and the next one takes away what it left."""
    names = [killing.publish("project-5"), killing.publish("project-5")]
    killing.heal()
    for name in names:
        killing.change(lambda name=name: killing.upstream.state.remove_file("project-5", name))
    killing.heal()
    before = killing.files()

    assert killing.kill_at(step, count=count, command=("prune",)), f"prune never came to: {step}"
    assert killing.files() == before
    if step == "blob's row pruned":
        assert killing.kill_at("leftover pruned", command=("prune",)), "there was no leftover"

    killing.check_prune()
    killing.heal()


def test_killed_at_random_moments(tmp_path: Path) -> None:
    """Cycles killed at random moments, one after the other, while the index changes: nothing lost, nothing half done."""
    with Killing(tmp_path, seed=int(os.environ.get("KILL_SEED", "7"))) as killing:
        kill_many(killing, 10)
        assert killing.kills.total() >= 10


def test_killed_in_the_middle_of_a_file(killing: Killing) -> None:
    """A large file that a kill interrupted is continued by the next cycle where its written bytes end."""
    name = killing.publish_large("project-1")
    assert killing.kill_at("block staged", count=2)
    killing.upstream.take_requests()

    killing.heal()

    ranges = [r.headers.get("range") for r in killing.upstream.requests if r.filename == name and r.kind == "file"]
    (asked,) = ranges
    assert asked is not None
    assert 0 < int(asked.removeprefix("bytes=").rstrip("-")) < LARGE_BYTES


def test_interrupted_file_that_changed(killing: Killing) -> None:
    """What a kill left of a file that the index has replaced meanwhile is swept, and the new bytes are held."""
    name = killing.publish_large("project-1")
    assert killing.kill_at("block staged", count=2)
    assert list((killing.root / "staging").glob("*.part"))
    killing.change(lambda: killing.upstream.state.replace("project-1", name, b"other bytes"))

    killing.heal()


STOPS = pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"]
)


@STOPS
@pytest.mark.usefixtures("beside")
def test_asked_to_stop_with_other_processes(killing: Killing, number: signal.Signals, code: int) -> None:
    """It is the same where other processes fetch the files: they keep what came, and what they have placed is recorded."""
    test_asked_to_stop(killing, number, code)


@STOPS
def test_asked_to_stop(killing: Killing, number: signal.Signals, code: int) -> None:
    """A cycle that is asked to stop ends although a download stalls, keeps what is finished, and is continued later."""
    finished = killing.publish("project-0")
    stalled = killing.publish("project-1", size_pad=LARGE_BYTES)
    stall = killing.upstream.inject(Stall(after=2 << 20), kind="file", filename=stalled, times=1)

    with killing.running("sync", "--once") as (pid, wait):
        stall.wait()
        while not held(killing, finished):
            os.sched_yield()
        os.kill(pid, number)
        assert wait() == code, killing.told()

    check_disk(killing.root)
    assert held(killing, finished)
    assert not held(killing, stalled)
    assert query(killing.root, "SELECT outcome, exit_code FROM cycle ORDER BY id DESC LIMIT 1") == [("aborted", code)]
    killing.upstream.release()
    killing.upstream.take_requests()
    killing.heal()
    asked = [r.headers.get("range") for r in killing.upstream.requests if r.filename == stalled and r.kind == "file"]
    assert len(asked) == 1
    assert asked[0] is not None


def test_killed_first_cycle(tmp_path: Path) -> None:
    """A first cycle that is killed before it wrote a page leaves nothing that a client could misread."""
    with Killing(tmp_path, seed=11) as killing:
        killing.publish("project-0")
        assert killing.kill_at("rows")
        assert list((killing.root / "public/simple").iterdir()) == []
        killing.heal()
        check_tree(killing.root)
        assert killing.files() == offered(killing.upstream)


def held(killing: Killing, filename: str) -> bool:
    """Tell whether the state holds a file."""
    return bool(query(killing.root, "SELECT 1 FROM entry WHERE filename = ? AND valid_to IS NULL", filename))
