"""However the bytes of a file come, the same file lies in the tree in the end."""

import hashlib
import itertools
import os

import pytest
from anyio.to_thread import run_sync

from mirror.tree.files import FileStore
from mirror.tree.layout import Layout, create_tree
from mirror.tree.staging import BLOCK_BYTES

DATA = os.urandom(2 * BLOCK_BYTES + 12_345)
SMALL = DATA[:50_000]
PATTERNS = [(1, 40_000), (40_000, 1), (7, 7, 31_000, 32_768, 262_144), (100, 100_000, 100), (32_767,), (32_768,)]


@pytest.fixture
def store(tmp_path):
    layout = Layout(tmp_path / "root")
    create_tree(layout)
    return FileStore(layout, metadata_limit_bytes=1 << 20, disk_reserve_bytes=0)


async def feed(staged, data, sizes):
    start = 0
    for size in itertools.cycle(sizes):
        if start >= len(data):
            return
        await staged.write(data[start : start + size])
        start += size


@pytest.mark.parametrize("data", [SMALL, DATA], ids=["in memory", "through staging"])
@pytest.mark.parametrize("sizes", PATTERNS, ids=str)
async def test_chunks_of_any_size_make_the_same_file(store, data, sizes):
    """Small and large chunks in any mixture, asked for their digest in between, give the file and its digest."""
    staged = await store.open_staged("key")
    await feed(staged, data[:70_000], sizes)
    assert staged.hexdigest("sha256") == hashlib.sha256(data[:70_000]).hexdigest()
    await feed(staged, data[70_000:], sizes)
    assert staged.written == len(data)
    blob = await run_sync(store.place, staged, "demo-1.0.tar.gz")
    assert (blob.sha256, blob.size) == (hashlib.sha256(data).hexdigest(), len(data))
    assert await run_sync(store.hash_blob, blob.sha256, blob.filename, "md5") == hashlib.md5(data).hexdigest()


async def test_many_small_chunks_are_joined(store):
    """A body that comes byte by byte is not kept as an object for each byte."""
    staged = await store.open_staged("key")
    await feed(staged, SMALL, [1])
    assert len(staged._pending) == 1
    await staged.discard()


async def test_a_restart_forgets_all(store):
    """What came before a restart is neither hashed nor placed."""
    staged = await store.open_staged("key")
    await feed(staged, DATA, [40_000])
    staged.hexdigest("sha256")
    await staged.restart()
    assert staged.written == 0
    await feed(staged, SMALL, [999])
    blob = await run_sync(store.place, staged, "demo-1.0.tar.gz")
    assert blob.sha256 == hashlib.sha256(SMALL).hexdigest()
