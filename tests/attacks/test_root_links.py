"""Another user of the machine who can make a link, or write, where the root has something of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.program import Mirror, contents
from mirror.errors import TreeError
from mirror.tree.layout import Layout, create_tree
from mirror.tree.owner import check_places
from simulator import ThreadedSimulator, build_wheel

NOBODY = 65534
OWN_PLACES = ["staging", "public", "public/simple", "public/files"]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give links away")


@pytest.fixture
def index(threaded_simulator: Callable[..., ThreadedSimulator]) -> ThreadedSimulator:
    made = threaded_simulator()
    made.state.publish("one", *build_wheel("one", "1.0"))
    return made


def linked(place: Path, target: Path, owner: int | None = None) -> None:
    """Move a directory away and leave a link in its place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    place.rename(target)
    place.symlink_to(target)
    if owner is not None:
        os.lchown(place, owner, owner)


def listed(mirror: Mirror, project: str) -> list[str]:
    """Return the files that a page names, each of which is there: a client follows ``..`` in the address."""
    page = mirror.simple / project
    found = [file["url"] for file in json.loads((page / "index.v1_json").read_bytes())["files"]]
    assert all(Path(os.path.normpath(page / url)).is_file() for url in found)
    return found


@pytest.mark.usefixtures("unmeasured")
def test_our_own_links_are_followed(tmp_path: Path, index: ThreadedSimulator) -> None:
    """Directories of the tree may lie elsewhere by a link that we have made: cycles, verify and prune work as ever."""
    mirror = Mirror(tmp_path / "work", url=index.url)
    mirror.sync_well()
    for place in ("public/simple", "public/files", "public", "staging"):
        linked(mirror.root / place, tmp_path / "elsewhere" / place.replace("/", "-"))
    linked(mirror.root, tmp_path / "elsewhere" / "root")
    index.state.publish("one", *build_wheel("one", "2.0"))
    index.state.publish("two", *build_wheel("two", "1.0"))
    mirror.sync_well()
    assert {name: len(listed(mirror, name)) for name in ("one", "two")} == {"one": 2, "two": 1}
    for command in (("verify",), ("prune",), ("verify", "--repair"), ("snapshot", "create", "s1")):
        done = mirror.run(*command, "--root", mirror.root)
        assert done.returncode == 0, (command, done.stdout + done.stderr)


@needs_root
@pytest.mark.parametrize("place", [".", *OWN_PLACES, "state.db"])
def test_link_of_another_user(tmp_path: Path, place: str) -> None:
    """A link of another user is not followed, and the command that mends it is named."""
    layout = Layout(tmp_path / "root")
    create_tree(layout)
    layout.state.touch()
    path = layout.root / place if place != "." else layout.root
    linked(path, tmp_path / "theirs", NOBODY)
    with pytest.raises(TreeError) as caught:
        check_places(layout)
    assert str(caught.value) == (
        f"{path}: a link that nobody has made; remove it, or if it leads to the right place, run `chown -h root {path}`"
    )
    os.lchown(path, 0, 0)
    check_places(layout)


@needs_root
def test_link_behind_a_link(tmp_path: Path) -> None:
    """Our link that leads to a link of another user is as bad."""
    layout = Layout(tmp_path / "root")
    create_tree(layout)
    (tmp_path / "real").mkdir()
    (tmp_path / "theirs").symlink_to("real")
    os.lchown(tmp_path / "theirs", NOBODY, NOBODY)
    layout.staging.rmdir()
    layout.staging.symlink_to("../theirs")
    with pytest.raises(TreeError, match="theirs: a link that nobody has made"):
        check_places(layout)


@pytest.mark.parametrize("place", [".", *OWN_PLACES])
def test_directory_that_others_may_write(tmp_path: Path, place: str) -> None:
    """A directory of the tree that is open to all is refused, also with the sticky bit, and behind a link of ours."""
    layout = Layout(tmp_path / "root")
    create_tree(layout)
    path = layout.root / place if place != "." else layout.root
    check_places(layout)
    for mode in (0o777, 0o1777, 0o772):
        path.chmod(mode)
        with pytest.raises(TreeError) as caught:
            check_places(layout)
        assert str(caught.value).endswith(f"every user may write to this directory of the tree; run `chmod o-w {path}`")
    path.chmod(0o2775)
    check_places(layout)
    linked(path, tmp_path / "elsewhere")
    (tmp_path / "elsewhere").chmod(0o757)
    with pytest.raises(TreeError, match=r"run `chmod o-w .*elsewhere`"):
        check_places(layout)


@pytest.mark.usefixtures("unmeasured")
def test_commands_are_refused(tmp_path: Path, index: ThreadedSimulator) -> None:
    """A command that writes ends with exit code 6 before it asks or writes anything."""
    mirror = Mirror(tmp_path / "work", url=index.url)
    mirror.sync_well()
    index.take_requests()
    (mirror.root / "public").chmod(0o777)
    before = contents(mirror.root)
    for command in (("sync", "--once"), ("sync",), ("verify",), ("prune",)):
        place = ("--index-url", index.url, "--root", str(mirror.root))[0 if command[0] == "sync" else 2 :]
        done = mirror.run(*command, *place)
        assert done.returncode == 6, (command, done.stdout + done.stderr)
        assert f"run `chmod o-w {mirror.root}/public`" in done.stderr
    assert index.take_requests() == []
    assert contents(mirror.root) == before
