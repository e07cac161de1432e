"""After a sync that failed, nothing placed since the last good one is trusted, and nothing durable is written again."""

from __future__ import annotations

import dataclasses
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from soak.storage import FIRST, UPDATE, Case, Storage, compiler

from harness.quick_disk import QUICK_DISK

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C compiler for the library that lets calls fail")

FILES, PAGES = "public/files", "public/simple"


@pytest.fixture(scope="module")
def storage() -> Iterator[Storage]:
    with tempfile.TemporaryDirectory(dir=QUICK_DISK) as work, Storage(Path(work)) as storage:
        storage.prepare()
        yield storage


@pytest.mark.parametrize(
    "case",
    [
        Case(FIRST, "fsync", 1, errno.EIO, below=FILES),
        Case(UPDATE, "fsync", 2, errno.EIO, below=FILES),
        Case(UPDATE, "fsync", 1, errno.ENOSPC, below=FILES, beside=True),
        Case(FIRST, "syncfs", 1, errno.EIO, below=FILES, many=True),
        Case(UPDATE, "syncfs", 1, errno.EIO, below=FILES, many=True),
        Case(UPDATE, "syncfs", 1, errno.EDQUOT, below=FILES, many=True, beside=True),
        Case(UPDATE, "fsync", 1, errno.EIO, below=PAGES),
        Case(UPDATE, "syncfs", 1, errno.EIO, below=PAGES, many=True),
    ],
    ids=str,
)
def test_failed_sync(storage: Storage, case: Case) -> None:
    """The cycle ends with exit code 6; the next one writes anew what is not recorded, and leaves alone what is."""
    assert storage.check(case) == 6, storage.told()


def test_lost_blob(storage: Storage) -> None:
    """A recorded blob that is gone does not count as durable when the sync of its replacement fails."""
    storage.begin(UPDATE)
    storage.beside = False
    storage.cycle_to_its_end()
    project = storage.upstream.state["project-2"]
    file = next(iter(project.files.values()))
    blob = next((storage.root / "public/files").glob(f"*/*/*/{file.filename}"))
    blob.unlink()
    listed = dataclasses.replace(file, hashes={"sha512": file.hash("sha512")})
    storage.change(lambda: project.files.update({file.filename: listed}))
    storage.change(lambda: storage.upstream.state.relist("project-2"))
    try:
        fail = {"tree": str(storage.root / FILES), "call": "fsync", "number": 1, "error": errno.EIO}
        assert storage.cycle(fail=fail) == 6, storage.told()
        with blob.open("rb") as left:  # so that no new file gets its inode
            storage.check_repaired("a lost blob")
            assert not os.path.samestat(blob.stat(), os.fstat(left.fileno()))
    finally:
        storage.change(lambda: project.files.update({file.filename: file}))
        storage.change(lambda: storage.upstream.state.unlist_project("project-2"))


def test_killed_before_the_sync(storage: Storage) -> None:
    """What a killed cycle had placed and never synced is written anew too."""
    storage.begin(UPDATE)
    storage.beside = False
    assert storage.kill_at("blob", count=2)
    storage.check_repaired("killed before the sync")
