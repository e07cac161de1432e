"""Root, or anybody else, beside a mirror that belongs to another user: who may write, and what reading leaves behind."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.program import Mirror, call, clean_environment
from mirror.errors import WrongUser
from mirror.tree.owner import check_owner
from simulator import ThreadedSimulator, build_wheel

NOBODY = 65534
UNNAMED = 54_321

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


@pytest.fixture
def index(threaded_simulator: Callable[..., ThreadedSimulator]) -> ThreadedSimulator:
    made = threaded_simulator()
    made.state.publish("one", *build_wheel("one", "1.0"))
    return made


@pytest.fixture
def mirror(tmp_path: Path, index: ThreadedSimulator) -> Iterator[Mirror]:
    """A mirror of another user, with a page that has news since."""
    made = Mirror(tmp_path / "work", url=index.url)
    made.sync_well()
    give_away(made.root)
    index.state.publish("one", *build_wheel("one", "2.0"))
    index.take_requests()
    yield made
    assert owners(made.root) == {NOBODY}


def give_away(place: Path, uid: int = NOBODY) -> None:
    for path in (place, *place.rglob("*")):
        os.lchown(path, uid, uid)


def owners(place: Path) -> set[int]:
    return {path.lstat().st_uid for path in (place, *place.rglob("*"))}


def inventory(place: Path) -> dict[str, tuple[int, ...]]:
    """Return what a write would change of each file."""
    found = {str(p): p.lstat() for p in (place, *place.rglob("*"))}
    return {name: (s.st_ino, s.st_size, s.st_mtime_ns, s.st_mode, s.st_uid) for name, s in found.items()}


WRITING = (
    ("sync",),
    ("sync", "--once"),
    ("sync", "--once", "--full", "--json"),
    ("verify",),
    ("verify", "--sample", "1%", "--json"),
    ("verify", "--repair"),
    ("prune",),
    ("snapshot", "create", "s1"),
    ("snapshot", "promote", "s1", "--channel", "stable"),
    ("snapshot", "delete", "s1"),
    ("bundle", "create", "--site", "plant", "--to", "medium", "--unsigned"),
    ("bundle", "acknowledge", "receipt.json"),
)


@pytest.mark.usefixtures("unmeasured")
def test_writing(mirror: Mirror, index: ThreadedSimulator) -> None:
    """A command that writes ends before it asks or writes anything, and names the command that does it right."""
    (mirror.work / "medium").mkdir()
    before = inventory(mirror.work)
    for command in WRITING:
        place = ("--index-url", index.url, "--root", str(mirror.root))[0 if command[0] == "sync" else 2 :]
        done = mirror.run(*command, *place)
        assert (done.returncode, done.stdout) == (2, ""), (command, done.stderr)
        words = " ".join((*command, *place))
        assert done.stderr == (
            f"error: {mirror.root}/state.db belongs to nobody, and root would leave files that nobody can't change:"
            f" run `runuser -u nobody -- {sys.executable} -m mirror {words}`\n"
        )
        assert index.take_requests() == []
        assert inventory(mirror.work) == before


READING = (
    ("sync", "--once", "--dry-run"),
    ("status", "--json"),
    ("prune", "--dry-run"),
    ("snapshot", "list"),
    ("snapshot", "diff", "cycle:1"),
    ("bundle", "list"),
)


@pytest.mark.usefixtures("unmeasured")
def test_reading(mirror: Mirror, index: ThreadedSimulator) -> None:
    """A command that reads works for root, and leaves no file in the tree: SQLite's side files neither."""
    names = sorted(map(str, mirror.root.rglob("*")))
    for command in READING:
        place = ("--index-url", index.url, "--root", str(mirror.root))[0 if command[0] == "sync" else 2 :]
        done = mirror.run(*command, *place)
        assert done.returncode == 0, (command, done.stdout + done.stderr)
        assert sorted(map(str, mirror.root.rglob("*"))) == names


KILLED = """\
import anyio, os, signal, sys
from pathlib import Path
from mirror.state.store import open_store_for_reading
async def main():
    async with open_store_for_reading(Path(sys.argv[1])) as store:
        await store.value("SELECT count(*) FROM entry")
        os.kill(os.getpid(), signal.SIGKILL)
anyio.run(main)
"""


@pytest.mark.usefixtures("unmeasured")
def test_reading_that_is_killed(mirror: Mirror) -> None:
    """What SQLite puts beside the state for a reader belongs to the state's owner, so a kill locks nobody out."""
    command = [sys.executable, "-c", KILLED, mirror.root / "state.db"]
    done = call(command, env=clean_environment(mirror.home), cwd=mirror.work)
    assert done.returncode == -signal.SIGKILL
    assert (mirror.root / "state.db-shm").exists()


@pytest.mark.usefixtures("unmeasured")
def test_fresh_root_of_another(tmp_path: Path, index: ThreadedSimulator) -> None:
    """Where there is no state yet, the owner of the root counts."""
    mirror = Mirror(tmp_path, url=index.url)
    mirror.root.mkdir()
    give_away(mirror.root)
    done = mirror.sync()
    assert done.returncode == 2
    assert f"{mirror.root} belongs to nobody" in done.stderr
    assert list(mirror.root.iterdir()) == []


@pytest.mark.parametrize(
    ("mode", "gid", "is_allowed"),
    [(0o2775, 0, True), (0o2775, NOBODY, False), (0o2755, 0, False)],
    ids=["our group writes", "another group", "group reads"],
)
def test_fresh_root_of_our_group(tmp_path: Path, mode: int, gid: int, is_allowed: bool) -> None:
    """A root whose group lets us write may be begun by us; its state then is ours."""
    root = tmp_path / "root"
    root.mkdir()
    os.chown(root, NOBODY, gid)
    root.chmod(mode)
    if is_allowed:
        check_owner(root, root / "state.db")
    else:
        with pytest.raises(WrongUser):
            check_owner(root, root / "state.db")


def test_state_elsewhere(tmp_path: Path) -> None:
    """A state outside of the root counts before the root; one that is there and ours is enough."""
    root, state = tmp_path / "root", tmp_path / "state.db"
    root.mkdir()
    state.touch()
    give_away(root)
    check_owner(root, state)
    give_away(state)
    give_away(root, 0)
    with pytest.raises(WrongUser, match=str(state)):
        check_owner(root, state)


def test_owner_without_a_name(tmp_path: Path) -> None:
    """An owner that this machine has no name for is named by number, with a program that takes numbers."""
    give_away(tmp_path, UNNAMED)
    with pytest.raises(WrongUser) as caught:
        check_owner(tmp_path, tmp_path / "state.db")
    assert caught.value.owner == "user 54321"
    assert caught.value.run_as == ("setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", "--")
    give_away(tmp_path, 0)
