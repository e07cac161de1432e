"""Durable files and names: synced one by one, or with their whole file system."""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import os
from pathlib import Path
from typing import Final

from mirror.tree.disk.failures import tree_errors
from mirror.tree.disk.places import make_directory

FEW: Final = 8
"""Maximum number of files and directories synced one by one; beyond it, one syncfs costs less and
disturbs as little.
"""

_SYNCFS_REPORTS: Final = (5, 8)
"""The kernel from which on syncfs returns an error of the disk."""


def make_durable_directory(path: str | Path, mode: int = 0o755) -> None:
    """Make one directory unless it exists, and make its name durable. Raises ``OSError``,
    ``TreeError``.

    Where its name can't be made durable it is removed: a later sync would report no error.
    """
    if not make_directory(path, mode):
        return
    try:
        sync_directory(os.path.dirname(path))
    except BaseException:
        with contextlib.suppress(OSError):
            os.rmdir(path)
        raise


def sync_file(path: str | Path) -> None:
    """Make a file's bytes durable. Raises ``TreeError``."""
    _sync(path, os.O_RDONLY | os.O_NOFOLLOW)


def sync_directory(path: str | Path) -> None:
    """Make a directory's names durable, where the file system knows how: some of shared folders do
    not.

    Raises ``TreeError``.
    """
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


@functools.cache
def reports_failed_syncs() -> bool:
    """Return whether syncfs reports a failure: Linux does since 5.8. Before, only fsync does."""
    numbers = os.uname().release.split(".", 2)[:2]
    try:
        version = tuple(
            int("".join(itertools.takewhile(str.isdigit, number))) for number in numbers
        )
    except ValueError:
        return False
    return version >= _SYNCFS_REPORTS


def sync_file_system(path: str | Path) -> None:
    """Make all that was written to the file system of ``path`` durable. Raises ``TreeError``."""
    import ctypes  # 4 ms

    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    with tree_errors(path):
        if syncfs is None:  # pragma: no cover - a C library without it
            os.sync()
        else:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                if syncfs(descriptor) != 0:  # pragma: no cover - needs a disk that fails
                    code = ctypes.get_errno()
                    raise OSError(code, os.strerror(code), str(path))
            finally:
                os.close(descriptor)


def sync_below(directory: str | Path) -> None:
    """Make all files and names below a directory durable. Raises ``TreeError``."""
    if reports_failed_syncs():
        sync_file_system(directory)
        return
    for place, _directories, names in os.walk(directory, topdown=False):
        for name in names:
            if not os.path.islink(f"{place}/{name}"):
                sync_file(f"{place}/{name}")
        sync_directory(place)


def _sync(path: str | Path, flags: int) -> None:
    with tree_errors(path):
        descriptor = os.open(path, flags | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        except OSError as exc:
            if exc.errno != errno.EINVAL or not flags & os.O_DIRECTORY:
                raise
        finally:
            os.close(descriptor)
