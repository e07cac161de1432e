"""Any call of the storage may fail in a writing command too: exit code 6, and the same command repairs it.

A few of each kind; ``make soak`` fails every call of each command.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from soak.commands import COMMANDS, CommandCase, Commands
from soak.storage import compiler

from harness.handmade_bundles import Far, Site, State, some_file
from harness.quick_disk import QUICK_DISK

needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C compiler for the library that lets calls fail")

CASES = [
    CommandCase("verify", "rename", 20, errno.EIO),
    CommandCase("verify", "stat", 551, errno.EROFS),
    CommandCase("prune", "rmdir", 1, errno.EROFS),
    CommandCase("create", "syncfs", 1, errno.EIO),
    CommandCase("promote", "symlink", 1, errno.ENOSPC),
    CommandCase("delete", "rename", 7, errno.EACCES),
    CommandCase("bundle", "link", 3, errno.EDQUOT),
    CommandCase("bundle", "unlink", 57, errno.EROFS),
    CommandCase("bundle, medium", "write", 5, errno.ENOSPC),
    CommandCase("bundle, medium", "open", 13, errno.EIO),
    CommandCase("acknowledge", "fsync", 2, errno.EIO),
    CommandCase("receive", "mkdir", 15, errno.ENOSPC),
    CommandCase("receive", "open", 9, errno.EMFILE),
    CommandCase("receive, medium", "read", 2, errno.EIO),
]


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    with tempfile.TemporaryDirectory(dir=QUICK_DISK) as work, Commands(Path(work)) as commands:
        commands.prepare()
        yield commands


@needs_compiler
@pytest.mark.parametrize("case", CASES, ids=str)
def test_failed_call_of_a_command(commands: Commands, case: CommandCase) -> None:
    """No traceback, at most one error, and the same command completes the work."""
    commands.try_case(case)


@needs_compiler
@pytest.mark.parametrize("number", [2, 3])
def test_failed_sync_on_the_far_side(commands: Commands, number: int) -> None:
    """Blobs that were placed before a sync failed are written again as new files."""
    command = COMMANDS["receive"]
    commands.start(command)
    before = set((commands.far / "public/files").rglob("*"))
    fail = {"call": "syncfs", "number": number, "error": errno.EIO, "tree": str(commands.far)}
    assert commands.run_command(command, fail) == 6, commands.told()
    placed = [path for path in set((commands.far / "public/files").rglob("*")) - before if path.is_file()]
    assert placed
    left = {path: path.open("rb") for path in placed}  # so that no new file gets an inode of theirs
    try:
        assert commands.run_command(command, None) == 0, commands.told()
        is_same = {os.path.samestat(path.stat(), os.fstat(file.fileno())) for path, file in left.items()}
        # With the third one the blobs were synced before.
        assert is_same == {number == 3}
    finally:
        for file in left.values():
            file.close()
    command.check(commands)


def test_kernel_that_hides_failed_syncs(monkeypatch: pytest.MonkeyPatch, site: Site, far: Far) -> None:
    """Before Linux 5.8 the receiver syncs every file and directory by itself."""
    real, fsync = os.uname(), os.fsync
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((*real[:2], "4.18.0-553.el8", *real[3:])))
    synced: set[int] = set()

    def noted(descriptor: int) -> None:
        fsync(descriptor)
        synced.add(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", noted)
    first = State({"aa": [some_file("aa", "1.0", 5000)]}, 1)
    far.receive_well(site.make(first))
    far.receive_well(site.make(State({**first.projects, "bb": [some_file("bb", "1.0")]}, 2)))
    public = [path for path in (far.root / "public").rglob("*") if not path.is_symlink()]
    assert {path for path in public if path.stat().st_ino not in synced} == set()


def test_unpacked_files_that_can_not_be_looked_at(monkeypatch: pytest.MonkeyPatch, site: Site, far: Far) -> None:
    """What can't be looked at is not taken for absent: a state whose files were not placed is never served."""
    state = State({"aa": [some_file("aa", "1.0", 5000)]}, 1)
    bundle, lstat = site.make(state), os.lstat

    def refuse(path: str, **options: object) -> os.stat_result:
        if str(path).endswith("/files") and "/staging/" in str(path):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return lstat(path, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "lstat", refuse)
        assert far.receive(bundle).code == 6
    assert not (far.public / "simple").exists()
    far.receive_well(bundle)
    far.check_serves(state)
