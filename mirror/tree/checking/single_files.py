"""Single files and directories: their bytes, kind and size; no link or pipe is opened."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable

from mirror.tree.disk.durability import sync_directory, sync_file
from mirror.tree.disk.failures import tree_error, tree_errors
from mirror.tree.disk.places import open_plain

_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Errors of this process, not of the tree."""


def open_checked(path: str) -> int:
    """Open a file that is not a link or pipe. Raises ``OSError``, ``TreeError``."""
    try:
        return open_plain(path)
    except OSError as exc:
        raise_if_ours(exc, path)
        raise


def raise_if_ours(exc: OSError, path: str) -> None:
    """Raise ``TreeError`` for a fault of this process, not of the tree: nothing is damaged by
    it.
    """
    if exc.errno in _OURS:
        raise tree_error(exc, path) from exc


def read_up_to(descriptor: int, size: int) -> bytes:
    """Return the bytes of a regular file up to ``size``, and one more where there is one."""
    data = os.read(descriptor, size + 1)
    while 0 < len(data) < size and (more := os.read(descriptor, size + 1 - len(data))):
        data += more
    return data


def read_plain(path: str, limit_bytes: int) -> bytes:
    """Return the bytes of a regular file that is not a link, one byte more than the limit at
    most.
    """
    descriptor = open_checked(path)
    try:
        return read_up_to(descriptor, min(os.fstat(descriptor).st_size, limit_bytes))
    finally:
        os.close(descriptor)


def read_page_file(path: str) -> bytes:
    """Return the bytes of one of the mirror's pages, which is not a link or pipe.

    Raises ``OSError``, ``TreeError``.
    """
    with os.fdopen(open_checked(path), "rb") as file:
        return file.read()


def is_exactly(path: str, expected: bytes) -> bool:
    """Return whether a regular file that is not a link holds exactly these bytes; read at once."""
    try:
        descriptor = open_checked(path)
    except OSError:
        return False
    try:
        return read_up_to(descriptor, len(expected)) == expected
    except OSError:
        return False
    finally:
        os.close(descriptor)


def has_bytes(path: str, expected: Iterable[bytes]) -> bool:
    """Return whether a regular file that is not a link holds exactly these pieces; read piece by
    piece.
    """
    try:
        with os.fdopen(open_checked(path), "rb") as file:
            return all(file.read(len(piece)) == piece for piece in expected) and not file.read(1)
    except OSError:
        return False


def size_of(path: str) -> int:
    """Return the size of a file; 0 where it does not exist."""
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


def is_directory(path: str) -> bool:
    """Return whether a directory is there, and no link to one."""
    return stat.S_ISDIR(mode_of(path))


def exists(path: str) -> bool:
    """Return whether anything is there, a dangling link too."""
    return os.path.lexists(path)


def mode_of(path: str) -> int:
    """Return the mode of a file, a link's own; 0 where nothing is there."""
    try:
        return os.lstat(path).st_mode
    except OSError:
        return 0


def entries_of(directory: str) -> list[os.DirEntry[str]]:
    """Return the entries of a directory, by name; none where it vanished."""
    with tree_errors(directory):
        try:
            with os.scandir(directory) as found:
                return sorted(found, key=lambda item: item.name)
        except FileNotFoundError:
            return []
        except PermissionError:
            return []  # ``closed_modes`` names the directory


def sync_path(path: str) -> None:
    """Make a file and its name durable."""
    sync_file(path)
    sync_directory(os.path.dirname(path))
