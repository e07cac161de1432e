"""Files on their way in: hashed as they come, resumed where they were interrupted, or removed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import resource
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.errors import TreeError
from mirror.tree.files import FileStore
from mirror.tree.layout import Layout, create_tree
from mirror.tree.partial_files import stem_of
from mirror.tree.staging import BLOCK_BYTES, StagedFile

SMALL = b"0123456789"
LARGE = os.urandom(3 * BLOCK_BYTES + 777)
SDIST = "demo-1.0.tar.gz"


def new_store(root: Path) -> FileStore:
    layout = Layout(root)
    create_tree(layout)
    return FileStore(layout, metadata_limit_bytes=1 << 20, disk_reserve_bytes=0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def store(root: Path) -> FileStore:
    return new_store(root)


async def run(act: Callable[..., Any], *arguments: Any) -> Any:
    return await anyio.to_thread.run_sync(act, *arguments)


async def feed(staged: StagedFile, data: bytes, chunk: int = 100_000) -> None:
    for start in range(0, len(data), chunk):
        await staged.write(data[start : start + chunk])


def staging(root: Path) -> dict[str, int]:
    """Return the endings and sizes of what is in staging."""
    return {path.suffix: path.stat().st_size for path in (root / "staging").iterdir()}


@pytest.mark.parametrize("data", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
async def test_digests(store: FileStore, data: bytes) -> None:
    """sha256 is always computed, other digests on request, at any moment and again."""
    staged = await store.open_staged("key", ["sha512", "md5", "blake2b", "sha3_384"])
    await feed(staged, data)
    for _ in range(2):
        for name in ("sha256", "sha512", "md5", "blake2b", "sha3_384"):
            assert staged.hexdigest(name) == hashlib.new(name, data).hexdigest()
    assert staged.written == len(data)
    await staged.write(b"more")
    assert (staged.hexdigest("sha256"), staged.written) == (hashlib.sha256(data + b"more").hexdigest(), len(data) + 4)
    await staged.discard()


async def test_small_body_stays_in_memory(store: FileStore, root: Path) -> None:
    """Up to 1 MiB nothing is written to staging; beyond, a private file is."""
    staged = await store.open_staged("key")
    await staged.write(LARGE[:BLOCK_BYTES])
    assert await run(staging, root) == {}
    await staged.write(b"!")
    assert await run(staging, root) == {".part": BLOCK_BYTES + 1}
    part = await run(lambda: next((root / "staging").iterdir()).stat())
    assert stat.S_IMODE(part.st_mode) == 0o600
    await staged.discard()
    await staged.discard()
    assert await run(staging, root) == {}


@pytest.mark.parametrize("first", [0, 10, BLOCK_BYTES + 5, 2 * BLOCK_BYTES])
@pytest.mark.parametrize("same_process", [True, False], ids=["same process", "another process"])
async def test_resume(store: FileStore, root: Path, first: int, same_process: bool) -> None:
    """An interrupted file goes on where it stopped, with its validator, and becomes the whole file."""
    staged = await store.open_staged("key", ["md5"])
    staged.etag = '"v1"'
    await feed(staged, LARGE[:first])
    await staged.keep()
    later = store if same_process else await run(new_store, root)
    resumed = await later.open_staged("key", ["md5"])
    assert (resumed.written, resumed.etag) == (first, '"v1"' if first else None)
    assert resumed.hexdigest("md5") == hashlib.md5(LARGE[:first]).hexdigest()
    await feed(resumed, LARGE[first:])
    assert resumed.hexdigest("md5") == hashlib.md5(LARGE).hexdigest()
    placed = await run(later.place, resumed, SDIST)
    assert (placed.sha256, placed.size) == (hashlib.sha256(LARGE).hexdigest(), len(LARGE))
    assert await run(Path(Layout(root).blob_path(placed.sha256, SDIST)).read_bytes) == LARGE
    assert await run(staging, root) == {}


async def test_resume_in_place(root: Path) -> None:
    """On the way to an object store a kept file is continued where it lies: it takes no room twice."""
    await run(create_tree, Layout(root))
    store = FileStore(Layout(root), metadata_limit_bytes=1 << 20, disk_reserve_bytes=0, resumes_in_place=True)
    staged = await store.open_staged("key")
    await feed(staged, LARGE[:-10])
    await staged.keep()
    part = root / "staging" / f"{stem_of('key')}.part"
    number = (await run(part.stat)).st_ino
    resumed = await store.open_staged("key")
    assert (resumed.written, (await run(part.stat)).st_ino) == (len(LARGE) - 10, number)
    await feed(resumed, LARGE[-10:])
    placed = await run(store.place, resumed, SDIST)
    assert placed.sha256 == hashlib.sha256(LARGE).hexdigest()
    assert await run(Path(Layout(root).blob_path(placed.sha256, SDIST)).read_bytes) == LARGE


async def test_kept_file_that_is_not_wanted(store: FileStore, root: Path) -> None:
    """Without ``resume`` what was kept is removed, and the file begins anew."""
    staged = await store.open_staged("key")
    staged.etag = '"v1"'
    await feed(staged, LARGE)
    await staged.keep()
    again = await store.open_staged("key", resume=False)
    assert (again.written, again.etag) == (0, None)
    assert await run(staging, root) == {}


async def test_process_that_was_killed(store: FileStore, root: Path) -> None:
    """What a killed process had written is continued, with the validator that was set before the first byte."""
    killed = await store.open_staged("key")
    killed.etag = '"v1"'
    await feed(killed, LARGE)
    flushed = (await run(staging, root))[".part"]
    resumed = await (await run(new_store, root)).open_staged("key")
    assert (resumed.written, resumed.etag) == (flushed, '"v1"')
    assert resumed.hexdigest("sha256") == hashlib.sha256(LARGE[:flushed]).hexdigest()
    await killed.discard()
    await resumed.discard()


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(None, id="missing"),
        pytest.param(b"", id="empty"),
        pytest.param(b'{"key":', id="cut"),
        pytest.param(b'{"key":"other","etag":"x"}', id="of another key"),
        pytest.param(b"\xff\xfe", id="no text"),
    ],
)
async def test_unusable_record(store: FileStore, root: Path, record: bytes | None) -> None:
    """A partial file without a usable record is continued without a validator: its digest decides."""
    staged = await store.open_staged("key")
    staged.etag = '"v1"'
    await feed(staged, SMALL)
    await staged.keep()

    def spoil() -> None:
        (path,) = (root / "staging").glob("*.json")
        path.unlink()
        if record is not None:
            path.write_bytes(record)

    await run(spoil)
    resumed = await store.open_staged("key")
    assert (resumed.written, resumed.etag) == (len(SMALL), None)
    await resumed.discard()
    assert await run(staging, root) == {}


@pytest.mark.parametrize("first", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("second", [SMALL[::-1], LARGE[::-1]], ids=["small", "large"])
async def test_restart(store: FileStore, root: Path, first: bytes, second: bytes) -> None:
    """After a restart only what came since counts, also on the disk and for a later resume."""
    staged = await store.open_staged("key")
    staged.etag = '"old"'
    await feed(staged, first)
    await staged.restart()
    assert (staged.written, staged.etag, staged.hexdigest("sha256")) == (0, None, hashlib.sha256().hexdigest())
    staged.etag = '"new"'
    await feed(staged, second)
    await staged.keep()
    resumed = await store.open_staged("key")
    assert (resumed.written, resumed.etag) == (len(second), '"new"')
    placed = await run(store.place, resumed, SDIST)
    assert placed.sha256 == hashlib.sha256(second).hexdigest()
    assert await run(Path(Layout(root).blob_path(placed.sha256, SDIST)).read_bytes) == second


async def test_killed_after_a_restart(store: FileStore, root: Path) -> None:
    """Of a body that began anew before the process was killed nothing old is continued."""
    killed = await store.open_staged("key")
    killed.etag = '"old"'
    await feed(killed, LARGE)
    await killed.restart()
    resumed = await (await run(new_store, root)).open_staged("key")
    assert (resumed.written, resumed.etag) == (0, None)
    await killed.discard()
    await resumed.discard()


async def test_same_key_twice_at_once(store: FileStore, root: Path) -> None:
    """Two downloads of one key at the same time do not write into each other's file."""
    staged = [await store.open_staged("key") for _ in range(2)]
    for number in range(0, len(LARGE), 100_000):
        await staged[0].write(LARGE[number : number + 100_000])
        await staged[1].write(LARGE[::-1][number : number + 100_000])
    for one, data, name in zip(staged, (LARGE, LARGE[::-1]), ("a-1.zip", "b-1.zip"), strict=True):
        placed = await run(store.place, one, name)
        assert placed.sha256 == hashlib.sha256(data).hexdigest()
    assert await run(staging, root) == {}


async def test_many_begin_at_once(store: FileStore, root: Path) -> None:
    """Tasks that open their first files at the same time all find what was kept."""
    for key in ("a", "b"):
        staged = await store.open_staged(key)
        await feed(staged, key.encode())
        await staged.keep()
    later = await run(new_store, root)
    found: dict[str, int] = {}

    async def begin(key: str) -> None:
        found[key] = (await later.open_staged(key)).written

    async with anyio.create_task_group() as tasks:
        for key in ("a", "b", "c"):
            tasks.start_soon(begin, key)
    assert found == {"a": 1, "b": 1, "c": 0}


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
async def test_cancelled_download_is_kept(store: FileStore, data: bytes) -> None:
    """``keep`` works in a cancelled scope: a download stopped by a signal is continued later."""
    with anyio.CancelScope() as scope:
        staged = await store.open_staged("key")
        try:
            await feed(staged, data)
            scope.cancel()
            await anyio.sleep_forever()
        finally:
            await staged.keep()
    resumed = await store.open_staged("key")
    assert (resumed.written, resumed.hexdigest("sha256")) == (len(data), hashlib.sha256(data).hexdigest())
    await resumed.discard()


async def test_cancelled_block_is_not_counted_twice(store: FileStore) -> None:
    """A cancellation while a thread writes a block leaves count, digest and file in agreement."""
    staged = await store.open_staged("key")
    await staged.write(LARGE[:BLOCK_BYTES])
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(staged.write, LARGE[BLOCK_BYTES : BLOCK_BYTES + 5])
            tasks.start_soon(anyio.lowlevel.checkpoint)
            scope.cancel()
    await feed(staged, LARGE[staged.written :])
    placed = await run(store.place, staged, SDIST)
    assert (placed.sha256, placed.size) == (hashlib.sha256(LARGE).hexdigest(), len(LARGE))


async def test_closed_file_ignores_keep_and_discard(store: FileStore, root: Path) -> None:
    """After a file was placed, keeping or discarding it changes nothing."""
    staged = await store.open_staged("key")
    await feed(staged, LARGE)
    await run(store.place, staged, SDIST)
    await staged.keep()
    await staged.discard()
    assert await run(staging, root) == {}
    assert (await store.open_staged("key")).written == 0


@pytest.mark.parametrize("plant", ["link", "directory", "file"])
async def test_planted_part(store: FileStore, root: Path, tmp_path: Path, plant: str) -> None:
    """What someone put in the place of a staging file is replaced or refused, never followed."""
    first = await store.open_staged("key")
    await feed(first, LARGE)

    def swap() -> None:
        (part,) = (root / "staging").glob("*.part")
        part.unlink()
        {
            "link": lambda: part.symlink_to(tmp_path / "victim"),
            "directory": part.mkdir,
            "file": lambda: part.write_bytes(b"x" * 99),
        }[plant]()

    await run(swap)
    other = await run(new_store, root)
    staged = await other.open_staged("key", resume=False)
    if plant == "directory":
        with pytest.raises(TreeError):
            await feed(staged, LARGE)
    else:
        await feed(staged, LARGE)
        placed = await run(other.place, staged, SDIST)
        assert placed.sha256 == hashlib.sha256(LARGE).hexdigest()
    assert not await run((tmp_path / "victim").exists)


async def test_link_planted_after_the_listing(store: FileStore, root: Path, tmp_path: Path) -> None:
    """A kept file that became a link is refused, and the next try begins anew."""
    staged = await store.open_staged("key")
    await feed(staged, LARGE)
    await staged.keep()

    def swap() -> None:
        (part,) = (root / "staging").glob("*.part")
        part.unlink()
        part.symlink_to(tmp_path / "victim")

    await run(swap)
    with pytest.raises(TreeError, match="a symbolic link stands"):
        await store.open_staged("key")
    assert (await store.open_staged("key")).written == 0


async def test_kept_file_that_vanished(store: FileStore, root: Path) -> None:
    """A kept file that another process swept away is no error: the file begins anew."""
    staged = await store.open_staged("key")
    await feed(staged, LARGE)
    await staged.keep()
    await run(lambda: [path.unlink() for path in (root / "staging").iterdir()])
    again = await store.open_staged("key")
    assert (again.written, again.etag) == (0, None)


async def test_too_many_open_files(store: FileStore, root: Path) -> None:
    """When no more files can be opened the error says how to raise the limit, and the tree is as before."""
    staged = await store.open_staged("key")
    await staged.write(SMALL)
    # The thread pool must stand before the limit is reached.
    await run(int)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, limits[1]))
    taken: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        with pytest.raises(TreeError) as caught:
            await run(store.place, staged, SDIST)
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert caught.value.problem == "too many open files; raise `ulimit -n`, or LimitNOFILE= of the systemd unit"
    assert (await run(store.place, staged, SDIST)).size == len(SMALL)
    assert await run(staging, root) == {}


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
async def test_keep_that_fails(store: FileStore, root: Path, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    """Where the disk refuses even to keep what is there, it is discarded; the caller has its own failure already."""
    staged = await store.open_staged("key")
    await feed(staged, data)

    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", fail)
        await staged.keep()
    assert await run(staging, root) == {}
    assert (await store.open_staged("key")).written == 0


def test_disk_that_takes_only_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that writes less than it was given is asked again until all is written."""
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, offset: real(descriptor, bytes(data)[:50_000], offset))
    store = new_store(tmp_path / "root")

    async def scenario() -> None:
        staged = await store.open_staged("key")
        await feed(staged, LARGE)
        placed = await run(store.place, staged, SDIST)
        path = Layout(tmp_path / "root").blob_path(placed.sha256, SDIST)
        assert await run(Path(path).read_bytes) == LARGE

    anyio.run(scenario)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from([0, 1, 1000, 600_000, BLOCK_BYTES, BLOCK_BYTES + 1])),
        st.tuples(st.sampled_from(["restart", "keep", "hash"]), st.just(0)),
    ),
    max_size=12,
)


@given(steps=STEPS)
def test_random_histories(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]) -> None:
    """Whatever the order of writes, restarts and resumes, the bytes are those since the last restart."""
    store = new_store(tmp_path_factory.mktemp("tree") / "root")

    async def scenario() -> None:
        expected = b""
        staged = await store.open_staged("key")
        for step, size in steps:
            match step:
                case "write":
                    chunk = LARGE[len(expected) % 1000 :][:size]
                    await staged.write(chunk)
                    expected += chunk
                case "restart":
                    await staged.restart()
                    expected = b""
                case "keep":
                    await staged.keep()
                    staged = await store.open_staged("key")
                case _:
                    assert staged.hexdigest("sha256") == hashlib.sha256(expected).hexdigest()
            assert staged.written == len(expected)
        placed = await run(store.place, staged, SDIST)
        assert (placed.sha256, placed.size) == (hashlib.sha256(expected).hexdigest(), len(expected))

    anyio.run(scenario)
