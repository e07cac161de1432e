"""Full and read-only disks: real ones, small file systems in memory; the tree is afterwards as good as before."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from mirror.core.names import ProjectName
from mirror.core.pages.render_pages import RenderedPage
from mirror.errors import TreeError
from mirror.tree.disk.durability import sync_directory, sync_file_system
from mirror.tree.disk.failures import free_bytes
from mirror.tree.disk.writing import replace_file
from mirror.tree.files import FileStore
from mirror.tree.layout import Layout, create_tree
from mirror.tree.pages import PageStore
from mirror.tree.reserve import Reserve

NAME = ProjectName("demo")
OLD = RenderedPage(html=b"old", json=b"old")
SIZE = 8 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount 8 MiB of memory; only root may."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},nr_inodes=200", "none", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small file system is not permitted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def layout(small_disk: Path) -> Layout:
    made = Layout(small_disk / "root")
    create_tree(made)
    PageStore(made).write_project(NAME, OLD)
    return made


def tree(layout: Layout) -> dict[str, bytes]:
    return {str(p.relative_to(layout.root)): p.read_bytes() for p in layout.root.rglob("*") if p.is_file()}


def fill(layout: Layout, leave: int) -> Path:
    """Use up the disk but for some bytes; return the file that did."""
    path = layout.root.parent / "filler"
    free = free_bytes(layout.root)
    assert free is not None
    path.write_bytes(b"x" * (free - leave))
    return path


async def run(act: Any, *arguments: Any) -> Any:
    return await anyio.to_thread.run_sync(act, *arguments)


@pytest.mark.parametrize("size", [100_000, 3 << 20], ids=["small file", "large file"])
async def test_disk_fills_up(layout: Layout, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """A file that does not fit is an error that names path, free space and key; with space it goes on from there."""
    store = FileStore(layout, metadata_limit_bytes=1, disk_reserve_bytes=0)
    # The reserve is asked first; another program uses the disk up in between.
    monkeypatch.setattr(Reserve, "_is_enough", lambda *_: True)
    before = await run(tree, layout)
    filler = await run(fill, layout, 20_480)
    data = os.urandom(size)
    staged = await store.open_staged("key")

    async def arrive() -> None:
        await staged.write(data[: size // 2])
        await staged.write(data[size // 2 :])
        await run(store.place, staged, "demo-1.zip")

    with pytest.raises(TreeError) as caught:
        await arrive()
    assert caught.value.path.startswith(str(layout.root))
    assert caught.value.problem.startswith("no space left (")
    assert "`disk-reserve`" in caught.value.problem
    assert {path: body for path, body in (await run(tree, layout)).items() if not path.startswith("staging")} == before
    await run(filler.unlink)
    if staged.written < size:
        await staged.write(data[staged.written :])
    placed = await run(store.place, staged, "demo-1.zip")
    assert (placed.sha256, placed.size) == (hashlib.sha256(data).hexdigest(), size)
    assert (await run(tree, layout)).keys() - before.keys() == {
        str(Path(layout.blob_path(placed.sha256, "demo-1.zip")).relative_to(layout.root))
    }


def test_page_that_does_not_fit(layout: Layout) -> None:
    """A page that can't be written whole leaves the old one and nothing in staging."""
    before = tree(layout)
    filler = fill(layout, 20_480)
    pages = PageStore(layout)
    for large in (RenderedPage(html=b"x" * 50_000, json=b""), RenderedPage(html=b"", json=b"x" * 50_000)):
        with pytest.raises(TreeError, match="no space left"):
            pages.write_project(NAME, large)
    with pytest.raises(TreeError, match="no space left"):
        pages.write_root((b"x" * 10_000 for _ in range(9)), [])
    filler.unlink()
    assert tree(layout) == before


def test_no_more_inodes(layout: Layout) -> None:
    """A disk without free inodes is full as well, although it has free bytes."""
    pages = PageStore(layout)

    def write_many() -> None:
        for number in range(300):
            pages.write_project(ProjectName(f"p{number}"), OLD)

    with pytest.raises(TreeError, match=r"no space left \(\d+ bytes free\)"):
        write_many()
    assert list(layout.staging.iterdir()) == []


def test_read_only(small_disk: Path, layout: Layout) -> None:
    """On a read-only file system every way of writing says so, and what to do."""
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    acts = (
        lambda: create_tree(layout),
        lambda: PageStore(layout).write_project(NAME, OLD),
        lambda: PageStore(layout).remove_project(NAME),
        lambda: replace_file(layout.root / "x", b"", tmp_dir=layout.staging),
    )
    for act in acts:
        with pytest.raises(TreeError) as caught:
            act()
        assert caught.value.problem == "the file system is read-only; mount it writable, or choose another root"


def test_two_file_systems(small_disk: Path, tmp_path: Path) -> None:
    """Where staging and public are on two file systems nothing could be renamed: it is found when the tree is made."""
    layout = Layout(tmp_path / "root")
    create_tree(layout)
    subprocess.run(["mount", "--bind", str(small_disk), str(layout.files)], check=True)
    try:
        with pytest.raises(TreeError) as caught:
            create_tree(layout)
        assert caught.value.path.startswith(str(layout.files))
        assert caught.value.problem == "staging/ and public/ must lie on one file system"
        assert list(layout.staging.iterdir()) == []
    finally:
        subprocess.run(["umount", str(layout.files)], check=True)


def test_sync_of_what_is_not_there(tmp_path: Path) -> None:
    """Syncing what is missing is an error that names it."""
    for act in (sync_directory, sync_file_system):
        with pytest.raises(TreeError) as caught:
            act(tmp_path / "missing")
        assert str(caught.value) == f"{tmp_path / 'missing'}: No such file or directory"


def test_sync_where_directories_can_not_be_synced() -> None:
    """A file system that can't sync a directory, as some of shared folders, is no error."""
    sync_directory("/proc")


def test_replace_file(tmp_path: Path) -> None:
    """A file is replaced whole, with the mode asked for; a link in its place is replaced, not followed."""
    target = tmp_path / "target"
    target.write_bytes(b"victim")
    path = tmp_path / "file"
    path.symlink_to(target)
    replace_file(path, b"new", mode=0o600, tmp_dir=tmp_path)
    assert (path.read_bytes(), path.is_symlink(), path.stat().st_mode & 0o777) == (b"new", False, 0o600)
    assert target.read_bytes() == b"victim"
    (tmp_path / "directory").mkdir()
    with pytest.raises(TreeError, match="directory: a directory stands where the tree has a file"):
        replace_file(tmp_path / "directory", b"", tmp_dir=tmp_path)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["directory", "file", "target"]
