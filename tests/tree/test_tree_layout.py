"""Where everything lies, and that a root which can't be used is found at once."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mirror.core.names import ProjectName, Sha256
from mirror.errors import TreeError
from mirror.tree.layout import Layout, create_tree

NOBODY = 65534
DIGEST = Sha256("ab" + "cd" + "0" * 60)


def test_paths() -> None:
    """Paths are those of the contract."""
    layout = Layout(Path("/r"))
    assert (layout.state, layout.tree_lock, layout.daemon_lock) == (
        Path("/r/state.db"),
        Path("/r/tree.lock"),
        Path("/r/daemon.lock"),
    )
    assert (layout.staging, layout.public) == (Path("/r/staging"), Path("/r/public"))
    assert (layout.simple, layout.files) == (Path("/r/public/simple"), Path("/r/public/files"))
    assert layout.blob_path(DIGEST, "a.whl") == f"/r/public/files/ab/cd/{DIGEST}/a.whl"
    assert layout.sidecar_path(DIGEST, "a.whl") == f"/r/public/files/ab/cd/{DIGEST}/a.whl.metadata"
    assert layout.project_dir(ProjectName("x-y")) == "/r/public/simple/x-y"


def modes(root: Path) -> dict[str, int]:
    """Return the directories and files below a root with their modes."""
    return {str(p.relative_to(root)): stat.S_IMODE(p.lstat().st_mode) for p in root.rglob("*")}


def test_tree_is_made(tmp_path: Path) -> None:
    """Missing directories are made, parents too, what is there stays, and the probe leaves nothing."""
    layout = Layout(tmp_path / "deep" / "root")
    for _ in range(2):
        create_tree(layout)
        assert modes(layout.root) == {"staging": 0o700, "public": 0o755, "public/simple": 0o755, "public/files": 0o755}


def test_links_of_ours_are_followed(tmp_path: Path) -> None:
    """The user may link the root, and the directories of the tree in it; a link to nothing is refused."""
    (tmp_path / "real").mkdir()
    (tmp_path / "root").symlink_to(tmp_path / "real")
    layout = Layout(tmp_path / "root")
    create_tree(layout)
    layout.staging.rmdir()
    layout.staging.symlink_to(tmp_path)
    create_tree(layout)
    layout.staging.unlink()
    layout.staging.symlink_to(tmp_path / "nothing")
    with pytest.raises(TreeError) as caught:
        create_tree(layout)
    assert str(caught.value) == (
        f"{layout.staging}: a symbolic link stands where the tree has something of its own; remove it"
    )


def test_root_is_a_file(tmp_path: Path) -> None:
    """A file in place of the root is an error that names it."""
    (tmp_path / "root").write_bytes(b"")
    with pytest.raises(TreeError) as caught:
        create_tree(Layout(tmp_path / "root"))
    assert caught.value.path == str(tmp_path / "root")


def as_plain_user(act: Callable[[], None]) -> None:
    """Do something as a user without privileges: root may write everywhere."""
    if os.geteuid() != 0:
        act()
        return
    os.seteuid(NOBODY)
    try:
        act()
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("locked", [".", "root", "root/staging", "root/public/simple", "root/public/files"])
def test_root_without_permission(locked: str) -> None:
    """Wherever writing is not permitted, the error names that place and says what to do."""
    with tempfile.TemporaryDirectory() as name:
        place, layout = Path(name), Layout(Path(name) / "root")
        if locked == "root":
            layout.root.mkdir()
        elif locked != ".":
            create_tree(layout)
        for directory in (place, *place.rglob("*")):
            if os.geteuid() == 0:
                os.chown(directory, NOBODY, NOBODY)
        target = place / locked
        target.chmod(0o555)
        with pytest.raises(TreeError) as caught:
            as_plain_user(lambda: create_tree(layout))
        target.chmod(0o755)
    assert caught.value.path.startswith(str(target))
    assert caught.value.problem == "permission denied; give the directory to the user that runs the mirror"
