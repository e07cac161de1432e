"""Blobs on a real disk: placed whole, under their own digest, with the metadata of wheels, and removed again."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import stat
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from mirror.core.names import Sha256
from mirror.errors import TreeError
from mirror.tree.disk.writing import temporary_path
from mirror.tree.files import FileStore, PlacedBlob, StagedFile
from mirror.tree.layout import Layout, create_tree
from mirror.tree.staging import BLOCK_BYTES

METADATA = b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n"
WHEEL = "demo-1.0-py3-none-any.whl"
SDIST = "demo-1.0.tar.gz"
SMALL = b"some bytes"
LARGE = os.urandom(2 * BLOCK_BYTES + 12345)


def make_wheel(padding: int = 0) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        opened.writestr("demo/data.bin", os.urandom(padding))
        opened.writestr("demo-1.0.dist-info/METADATA", METADATA)
    return buffer.getvalue()


def sha(data: bytes) -> Sha256:
    return Sha256(hashlib.sha256(data).hexdigest())


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / "root")
    create_tree(made)
    return made


@pytest.fixture(params=[False, True], ids=["here", "in a worker"])
def store(layout: Layout, request: pytest.FixtureRequest) -> Iterator[FileStore]:
    """The store of the main process, and that of a worker process, which has no umask."""
    before = os.umask(0 if request.param else 0o022)
    yield FileStore(layout, metadata_limit_bytes=1 << 20, disk_reserve_bytes=0, has_no_umask=request.param)
    os.umask(before)


async def run(act: Callable[..., Any], *arguments: Any) -> Any:
    """Do something that blocks, as the program does."""
    return await anyio.to_thread.run_sync(act, *arguments)


async def arrive(store: FileStore, data: bytes, key: str = "key", chunk: int = 65536, **options: Any) -> StagedFile:
    """Let a body arrive in chunks."""
    staged = await store.open_staged(key, **options)
    for start in range(staged.written, len(data), chunk):
        await staged.write(data[start : start + chunk])
    return staged


async def put(store: FileStore, data: bytes, filename: str, *, recorded: PlacedBlob | None = None) -> PlacedBlob:
    """Let a body arrive and place it, as the recorder does; ``recorded``: what the state knows of it."""
    staged = await arrive(store, data)
    placed = await run(store.place, staged, filename)
    if placed.aside is None:
        return placed
    is_durable = recorded is not None and await run(store.is_whole, placed, recorded)
    return await run(store.replace, placed, recorded if is_durable else None)


def tree(layout: Layout) -> dict[str, bytes]:
    """Return all files below the root with their bytes."""
    return {str(p.relative_to(layout.root)): p.read_bytes() for p in layout.root.rglob("*") if p.is_file()}


def place_of(data: bytes, filename: str) -> str:
    digest = sha(data)
    return f"public/files/{digest[:2]}/{digest[2:4]}/{digest}/{filename}"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(SMALL, id="small"),
        pytest.param(LARGE[:BLOCK_BYTES], id="one block"),
        pytest.param(LARGE[: BLOCK_BYTES + 1], id="a block and a byte"),
        pytest.param(LARGE, id="large"),
    ],
)
async def test_file_is_placed(layout: Layout, store: FileStore, data: bytes) -> None:
    """A file lies under its digest, readable by all, whatever its size, and nothing stays in staging."""
    placed = await put(store, data, SDIST)
    assert placed == PlacedBlob(sha256=sha(data), filename=SDIST, size=len(data))
    assert await run(tree, layout) == {place_of(data, SDIST): data}
    found = await run(os.stat, layout.blob_path(sha(data), SDIST))
    assert stat.S_IMODE(found.st_mode) == 0o644
    directories = layout.blob_directories(sha(data))
    assert [stat.S_IMODE((await run(os.stat, path)).st_mode) for path in directories] == [0o755] * 3


@pytest.mark.parametrize("padding", [0, 2 * BLOCK_BYTES], ids=["small", "large"])
async def test_wheel_gets_its_metadata(layout: Layout, store: FileStore, padding: int) -> None:
    """A wheel's own METADATA lies beside it, byte for byte, with its digest told."""
    wheel = make_wheel(padding)
    placed = await put(store, wheel, WHEEL)
    assert placed == PlacedBlob(
        sha256=sha(wheel),
        filename=WHEEL,
        size=len(wheel),
        metadata_sha256=sha(METADATA),
        summary="",
    )
    assert await run(tree, layout) == {place_of(wheel, WHEEL): wheel, place_of(wheel, WHEEL) + ".metadata": METADATA}


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
async def test_wheel_without_readable_metadata(layout: Layout, store: FileStore, data: bytes) -> None:
    """What calls itself a wheel and is none is placed all the same, without a sidecar, with the reason."""
    placed = await put(store, data, WHEEL)
    assert (placed.metadata_sha256, placed.metadata_problem) == (None, "no zip archive")
    assert await run(tree, layout) == {place_of(data, WHEEL): data}


async def test_metadata_limit(layout: Layout) -> None:
    """METADATA over the limit of the configuration is not taken out."""
    store = FileStore(layout, metadata_limit_bytes=10, disk_reserve_bytes=0)
    placed = await put(store, make_wheel(), WHEEL)
    assert placed.metadata_problem == f"METADATA has {len(METADATA)} bytes, more than metadata-size allows (10)"


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
async def test_recorded_blob_is_not_written_again(layout: Layout, store: FileStore, data: bytes) -> None:
    """The same bytes once more do not replace a blob that the state knows, nor its metadata."""
    first = await put(store, data, SDIST)
    inode = (await run(os.stat, layout.blob_path(first.sha256, SDIST))).st_ino
    assert await put(store, data, SDIST, recorded=first) == first
    assert (await run(os.stat, layout.blob_path(first.sha256, SDIST))).st_ino == inode
    assert await run(tree, layout) == {place_of(data, SDIST): data}


@pytest.mark.parametrize("padding", [0, 2 * BLOCK_BYTES], ids=["small", "large"])
async def test_blob_that_the_state_does_not_know(layout: Layout, store: FileStore, padding: int) -> None:
    """What lies in a blob's place and is not recorded is another file of the system afterwards, its metadata too."""
    wheel = make_wheel(padding)
    path = Path(layout.blob_path(sha(wheel), WHEEL))
    first = await put(store, wheel, WHEEL)
    await run(lambda: [layout.root.joinpath(p.name).hardlink_to(p) for p in path.parent.iterdir()])
    assert await put(store, wheel, WHEEL) == first
    assert [p.samefile(layout.root / p.name) for p in path.parent.iterdir()] == [False, False]
    await run(lambda: [layout.root.joinpath(p.name).unlink() for p in path.parent.iterdir()])
    assert await run(tree, layout) == {place_of(wheel, WHEEL): wheel, place_of(wheel, WHEEL) + ".metadata": METADATA}


async def test_blob_is_written_anew(layout: Layout, store: FileStore) -> None:
    """What lies in the tree becomes another file of the system with the same bytes, and so does its metadata."""
    wheel = make_wheel(2 * BLOCK_BYTES)
    path = Path(layout.blob_path(sha(wheel), WHEEL))
    await put(store, wheel, WHEEL)
    await run(lambda: [layout.root.joinpath(p.name).hardlink_to(p) for p in path.parent.iterdir()])
    await run(store.rewrite_blob, sha(wheel), WHEEL)
    assert [p.samefile(layout.root / p.name) for p in path.parent.iterdir()] == [False, False]
    await run(lambda: [layout.root.joinpath(p.name).unlink() for p in path.parent.iterdir()])
    assert await run(tree, layout) == {place_of(wheel, WHEEL): wheel, place_of(wheel, WHEEL) + ".metadata": METADATA}


async def test_kept_part_is_written_anew(layout: Layout, store: FileStore) -> None:
    """A partial file is continued as another file of the system: what an earlier sync lost in it is on the disk then."""
    kept = await arrive(store, LARGE[:-5])
    await kept.keep()
    (part,) = layout.staging.glob("*.part")
    inode = part.stat().st_ino
    placed = await put(store, LARGE, SDIST)
    found = await run(os.stat, layout.blob_path(placed.sha256, SDIST))
    assert found.st_ino != inode
    assert await run(tree, layout) == {place_of(LARGE, SDIST): LARGE}


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda path: Path(path).write_bytes(b"SOME BYTES"), id="other bytes, same size"),
        pytest.param(lambda path: Path(path).write_bytes(b""), id="cut"),
        pytest.param(lambda path: (Path(path).unlink(), Path(path).symlink_to("/etc/hostname")), id="a link"),
        pytest.param(lambda path: Path(path).unlink(), id="missing"),
    ],
)
async def test_damaged_blob_is_replaced(layout: Layout, store: FileStore, damage: Callable[[str], None]) -> None:
    """What lies in the blob's place and is not it is replaced by the right bytes, also where the state knows the blob."""
    recorded = await put(store, SMALL, SDIST)
    await run(damage, layout.blob_path(sha(SMALL), SDIST))
    await put(store, SMALL, SDIST, recorded=recorded)
    assert await run(tree, layout) == {place_of(SMALL, SDIST): SMALL}


async def test_wrong_sidecar_is_replaced(layout: Layout, store: FileStore) -> None:
    """A sidecar that does not agree with its wheel is corrected; one that does is left as it is."""
    wheel = make_wheel()
    placed = await put(store, wheel, WHEEL)
    path = Path(layout.sidecar_path(placed.sha256, WHEEL))
    inode = (await run(path.stat)).st_ino
    await put(store, wheel, WHEEL, recorded=placed)
    assert (await run(path.stat)).st_ino == inode
    await run(path.write_bytes, METADATA.upper())
    assert await put(store, wheel, WHEEL, recorded=placed) == placed
    assert await run(path.read_bytes) == METADATA


async def test_sidecar_of_a_file_that_is_no_wheel(layout: Layout, store: FileStore) -> None:
    """Fetched metadata lies beside its file, and replaces what lay there."""
    await put(store, SMALL, SDIST)
    for metadata in (b"other", METADATA, METADATA):
        assert await run(store.place_sidecar, sha(SMALL), SDIST, metadata) == sha(metadata)
    assert await run(tree, layout) == {place_of(SMALL, SDIST): SMALL, place_of(SMALL, SDIST) + ".metadata": METADATA}


async def test_sidecar_that_leaves(layout: Layout, store: FileStore) -> None:
    """Metadata is taken away without its blob; where none is there, or no blob either, nothing happens."""
    await put(store, SMALL, SDIST)
    await run(store.place_sidecar, sha(SMALL), SDIST, METADATA)
    for _ in range(2):
        await run(store.remove_sidecar, sha(SMALL), SDIST)
        assert await run(tree, layout) == {place_of(SMALL, SDIST): SMALL}
    await run(store.remove_sidecar, sha(LARGE), SDIST)


async def test_other_digests_of_a_blob(store: FileStore) -> None:
    """Any digest of a held blob can be had; of one that is not there, none."""
    await put(store, SMALL, SDIST)
    assert await run(store.hash_blob, sha(SMALL), SDIST, "md5") == hashlib.md5(SMALL).hexdigest()
    assert await run(store.hash_blob, sha(LARGE), SDIST, "md5") is None


async def test_remove(layout: Layout, store: FileStore) -> None:
    """Removing takes sidecar, blob and empty directories; what shares a directory stays; twice is no error."""
    wheel = make_wheel()
    await put(store, wheel, WHEEL)
    await put(store, wheel, "demo-1.0-1-py3-none-any.whl")
    await run(store.remove_blob, sha(wheel), WHEEL)
    other = place_of(wheel, "demo-1.0-1-py3-none-any.whl")
    assert await run(tree, layout) == {other: wheel, other + ".metadata": METADATA}
    await run(store.remove_blob, sha(wheel), "demo-1.0-1-py3-none-any.whl")
    await run(store.remove_blob, sha(wheel), WHEEL)
    assert await run(lambda: list(layout.files.iterdir())) == []


async def test_directory_that_cannot_be_removed(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the disk while directories are tidied up is told."""
    await put(store, SMALL, SDIST)

    def fail(path: str) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "rmdir", fail)
        with pytest.raises(TreeError, match="input/output error"):
            await run(store.remove_blob, sha(SMALL), SDIST)


@pytest.mark.parametrize("depth", [0, 1, 2])
async def test_planted_links_are_not_followed(layout: Layout, store: FileStore, tmp_path: Path, depth: int) -> None:
    """A link in place of one of a blob's directories is refused; nothing is written or removed behind it."""
    outside = tmp_path / "outside"
    victim = outside / Path(layout.blob_path(sha(SMALL), SDIST)).relative_to(layout.blob_directories(sha(SMALL))[depth])
    place = Path(layout.blob_directories(sha(SMALL))[depth])

    def plant() -> None:
        victim.parent.mkdir(parents=True)
        victim.write_bytes(b"victim")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(outside)

    await run(plant)
    staged = await arrive(store, SMALL)
    for act in (
        lambda: store.place(staged, SDIST),
        lambda: store.place_sidecar(sha(SMALL), SDIST, b"m"),
        lambda: store.remove_blob(sha(SMALL), SDIST),
    ):
        with pytest.raises(TreeError) as caught:
            await run(act)
        assert caught.value.path == str(place)
    await staged.discard()
    assert await run(lambda: [p for p in outside.rglob("*") if p.is_file()]) == [victim]
    assert await run(victim.read_bytes) == b"victim"


@pytest.mark.parametrize("count", [0, 1, 8, 9])
async def test_sync(layout: Layout, store: FileStore, count: int) -> None:
    """Few or many, a batch can be made durable, and stays as it is."""
    placed = [await put(store, b"%d" % n, SDIST) for n in range(count)]
    before = await run(tree, layout)
    await run(store.sync, placed)
    assert await run(tree, layout) == before


async def test_sync_goes_from_the_deepest_up(layout: Layout, store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small batch is made durable with all the names that lead to it, each after what it leads to."""
    wheel = make_wheel()
    placed = await put(store, wheel, WHEEL)
    synced: list[str] = []
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
    )
    await run(store.sync, [placed])
    path = layout.blob_path(placed.sha256, WHEEL)
    outer, middle, inner = layout.blob_directories(placed.sha256)
    assert synced == [path, path + ".metadata", inner, middle, outer, str(layout.files)]


async def test_sync_of_a_missing_file(store: FileStore) -> None:
    """A file that vanished before it was durable is an error, not a success."""
    with pytest.raises(TreeError, match="No such file"):
        await run(store.sync, [PlacedBlob(sha256=sha(SMALL), filename=SDIST, size=10)])


async def test_reserve_is_kept(layout: Layout) -> None:
    """Where a file would use up the reserve it is refused before a byte is written; the message names the key."""
    store = FileStore(layout, metadata_limit_bytes=1, disk_reserve_bytes=1 << 60)
    with pytest.raises(TreeError) as caught:
        await arrive(store, LARGE)
    assert caught.value.path == str(layout.files)
    assert "1048576 bytes more" not in caught.value.problem
    assert f"would use up the reserve of {1 << 60} bytes (" in caught.value.problem
    assert caught.value.problem.endswith(" bytes free); free some space, or lower `disk-reserve`")
    staged = await arrive(store, SMALL, "small")
    with pytest.raises(TreeError, match="10 bytes more would use up the reserve"):
        await run(store.place, staged, SDIST)
    assert await run(tree, layout) == {}


async def test_sweep(layout: Layout, store: FileStore) -> None:
    """A sweep leaves what can be resumed or is under way, and removes everything else but directories."""
    kept = await arrive(store, LARGE, "kept")
    kept.etag = '"v1"'
    await kept.keep()
    lost = await arrive(store, LARGE, "lost")
    await lost.keep()
    running = await arrive(store, LARGE, "running")
    await run((layout.staging / "x.tmp").write_bytes, b"left by a kill")
    await run((layout.staging / "link.part").symlink_to, "/etc/hostname")
    await run((layout.staging / "directory").mkdir)
    assert await run(store.sweep_staging, ["kept", "never seen"]) == 4
    left = await run(lambda: sorted(p.suffix for p in layout.staging.iterdir()))
    assert left == ["", ".json", ".part", ".part"]
    resumed = await store.open_staged("kept")
    fresh = await store.open_staged("lost")
    assert (resumed.written, resumed.etag, fresh.written) == (len(LARGE), '"v1"', 0)
    for staged in (running, resumed, fresh):
        await staged.discard()
    assert await run(store.sweep_staging) == 0
    assert await run(lambda: [p.name for p in layout.staging.iterdir()]) == ["directory"]


def test_sweep_before_anything_was_opened(layout: Layout, store: FileStore) -> None:
    """A new store sweeps what an earlier process left."""
    (layout.staging / "00.part").write_bytes(b"old")
    assert store.sweep_staging(["another"]) == 1
    assert tree(layout) == {}


def test_many_threads_place_the_same_file(layout: Layout, store: FileStore) -> None:
    """Threads that place the same bytes at once all succeed, and the file is there once, whole."""

    async def stage(number: int) -> StagedFile:
        return await arrive(store, LARGE, f"key {number}")

    staged = [anyio.run(stage, number) for number in range(8)]
    placed: list[PlacedBlob] = []
    threads = [threading.Thread(target=lambda s=s: placed.append(store.place(s, SDIST))) for s in staged]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(one.aside is None for one in placed) == 1
    settled = [one if one.aside is None else store.replace(one, None) for one in placed]
    assert settled == [PlacedBlob(sha256=sha(LARGE), filename=SDIST, size=len(LARGE))] * 8
    assert tree(layout) == {place_of(LARGE, SDIST): LARGE}


@pytest.fixture
def worker(layout: Layout) -> Iterator[Callable[[bytes, str], PlacedBlob]]:
    """Places a file as a worker process does."""
    store = FileStore(layout, metadata_limit_bytes=1 << 20, disk_reserve_bytes=0, in_threads=False, has_no_umask=True)
    before = os.umask(0)
    yield lambda data, filename: store.place(anyio.run(arrive, store, data), filename)
    os.umask(before)


def test_worker_places_a_whole_directory(layout: Layout, worker: Callable[[bytes, str], PlacedBlob]) -> None:
    """A worker puts a wheel and its metadata in their place at once, in the modes of the tree; a place that is taken
    is left as it is, and directories that vanished meanwhile are made again.
    """
    data = make_wheel(1)
    directory = Path(layout.blob_path(worker(data, WHEEL).sha256, WHEEL)).parent
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (directory, *directory.iterdir())}
    assert modes == {directory.name: 0o755, WHEEL: 0o644, f"{WHEEL}.metadata": 0o644}
    assert worker(data, WHEEL).aside is not None
    assert worker(data, "demo-1.0-py2-none-any.whl").aside is None
    assert len(list(directory.iterdir())) == 4
    shutil.rmtree(directory.parent)
    assert worker(data, WHEEL).aside is None
    assert (directory / WHEEL).read_bytes() == data
    assert [item.name for item in layout.staging.iterdir() if item.is_dir()] == []


def test_worker_follows_no_link(layout: Layout, tmp_path: Path, worker: Callable[[bytes, str], PlacedBlob]) -> None:
    """A link in the place of a blob's directory is refused by a worker, and nothing is written behind it."""
    data = make_wheel(1)
    directory = Path(layout.blob_path(worker(data, WHEEL).sha256, WHEEL)).parent
    shutil.rmtree(directory)
    (tmp_path / "elsewhere").mkdir()
    directory.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TreeError, match="symbolic link"):
        worker(data, WHEEL)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert [item.name for item in layout.staging.iterdir() if item.is_dir()] == []


def test_group_of_the_files_is_kept(layout: Layout, worker: Callable[[bytes, str], PlacedBlob]) -> None:
    """Where ``files`` hands its group on to what is made below it, a worker's directories take it over too."""
    layout.files.chmod(0o2755)
    data = make_wheel(1)
    directory = Path(layout.blob_path(worker(data, WHEEL).sha256, WHEEL)).parent
    assert directory.stat().st_mode & stat.S_ISGID
    assert len(list(directory.iterdir())) == 2


def test_directory_of_a_killed_worker_is_swept(layout: Layout, store: FileStore) -> None:
    """What a worker that was killed while it placed a file left in staging is removed by the next sweep."""
    left = Path(temporary_path(layout.staging))
    left.mkdir()
    (left / WHEEL).write_bytes(b"half")
    assert store.sweep_abandoned(older_than_s=3600) == 1
    assert not left.exists()
