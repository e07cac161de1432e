"""Any call of the storage may fail: exit code 6 and one message, no traceback, and the next cycle repairs the mirror.

A few of each kind; ``make soak`` fails every call of a cycle.
"""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from soak.storage import FIRST, UPDATE, Case, Storage, compiler

from harness.quick_disk import QUICK_DISK

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C compiler for the library that lets calls fail")

STOPS = [
    Case(FIRST, "flock", 1, errno.EIO),
    Case(FIRST, "ftruncate", 1, errno.EIO),
    Case(FIRST, "mkdir", 3, errno.EROFS),
    Case(UPDATE, "open", 2, errno.EMFILE, below="staging"),
    Case(UPDATE, "write", 1, errno.ENOSPC, below="staging"),
    Case(UPDATE, "write", 2, errno.EDQUOT, below="staging"),
    Case(UPDATE, "rename", 3, errno.EIO, below="public/files"),
    Case(UPDATE, "link", 1, errno.EDQUOT, below="staging"),
    Case(UPDATE, "fsync", 1, errno.EIO, below="state.db-wal"),
]
"""Faults that the program can't do without."""

GOES_ON = [
    Case(UPDATE, "link", 1, errno.EACCES, below="staging"),
    Case(UPDATE, "stat", 9, errno.ENOSPC, below="public/simple"),
    Case(UPDATE, "unlink", 2, errno.EACCES, below="public"),
    Case(UPDATE, "chmod", 1, errno.EACCES, below="public/files"),
]
"""Faults after which a cycle may go on, in part or as a whole."""


@pytest.fixture(scope="module")
def storage() -> Iterator[Storage]:
    with tempfile.TemporaryDirectory(dir=QUICK_DISK) as work, Storage(Path(work)) as storage:
        storage.prepare()
        yield storage


@pytest.mark.parametrize("case", STOPS, ids=str)
def test_failed_call_that_ends_the_cycle(storage: Storage, case: Case) -> None:
    """The cycle ends with exit code 6 and one message; the next one repairs what it left."""
    assert storage.check(case) == 6, storage.told()


@pytest.mark.parametrize("case", GOES_ON, ids=str)
def test_failed_call(storage: Storage, case: Case) -> None:
    """However the cycle ends, no traceback is printed, and the next one repairs what it left."""
    storage.check(case)
