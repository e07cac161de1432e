"""Atomic writes: a file is replaced by rename as a whole.

Invariants: a file appears under its name only when all of its bytes are written; unfinished files
are in ``staging/``, which no web server serves; a symbolic link at the name is replaced, never
followed; no ``OSError`` leaves ``tree_errors``.
"""

# Paths are plain strings: this runs for each file, and building a Path costs more than the call.

from __future__ import annotations

import errno
import functools
import itertools
import os
import re
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from mirror.tree.disk.failures import tree_errors
from mirror.tree.disk.places import is_there, remove_if_there

Buffer = bytes | bytearray | memoryview

_NOREPLACE: Final = 1
"""Of renameat2(2): fail where something has the new name already."""
_EXCHANGE: Final = 2
"""Of renameat2(2): each of the two gets the other's name."""
_UNKNOWN_FLAG: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
_AT_FDCWD: Final = -100

_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def temporary_path(directory: str | Path) -> str:
    """Return a fresh path for an unfinished file; a sweep recognises it by its ending."""
    return f"{directory}/{_token()}-{next(_numbers):x}.tmp"


def is_temporary(path: str) -> bool:
    """Return whether a path may come from ``temporary_path``, of any process."""
    return _TEMPORARY.fullmatch(os.path.basename(path)) is not None


_numbers = itertools.count()
_TEMPORARY: Final = re.compile(r"[0-9a-f]{16}-[0-9a-f]+\.tmp")


@functools.cache
def _token() -> str:
    """Return a token unique to this process; computed once, not for each small file."""
    return secrets.token_hex(8)


# A forked process gets a token of its own; to ask for the number of the process each time would be
# a call of the system for each file.
os.register_at_fork(after_in_child=_token.cache_clear)


def write_new(path: str, pieces: Iterable[Buffer], mode: int, *, sets_mode: bool = True) -> None:
    """Write a file that must not exist yet. On any failure nothing stays. Raises ``OSError``.

    ``sets_mode``: False where neither a umask nor an ACL changes the mode of a new file.
    """
    descriptor = os.open(path, _CREATE, mode)
    try:
        try:
            offset = 0
            for piece in pieces:
                write_at(descriptor, piece, offset)
                offset += len(piece)
            if sets_mode:
                # The user's umask applies to ``open``; public files must be readable all the same.
                os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)
    except BaseException:
        remove_if_there(path)
        raise


def write_at(descriptor: int, data: Buffer, offset: int) -> None:
    """Write all of ``data`` at ``offset``: one call of the system may take only a part."""
    written = os.pwrite(descriptor, data, offset)
    if written < len(data):
        with memoryview(data) as view:
            while written < len(view):
                written += os.pwrite(descriptor, view[written:], offset + written)


def rename_into(temporary: str, path: str) -> None:
    """Put a finished file in its place; on failure it does not stay behind. Raises ``OSError``."""
    try:
        os.rename(temporary, path)
    except OSError:
        remove_if_there(temporary)
        raise


def rename_new(temporary: str, path: str) -> bool:
    """Give a finished file its name, unless something has that name: then return False.

    Raises ``OSError``.
    """
    rename = _renameat2()
    if rename is not None:
        old, new = os.fsencode(temporary), os.fsencode(path)
        code = rename(_AT_FDCWD, old, _AT_FDCWD, new, _NOREPLACE)
        if code == 0:
            return True
        if code == errno.EEXIST:
            return False
        if code not in _UNKNOWN_FLAG:
            raise OSError(code, os.strerror(code), temporary, None, path)
    # A file system without it: two writers of one name within a moment are not distinguished.
    if is_there(path):
        return False
    os.rename(temporary, path)
    return True


def exchange(new: str, path: str) -> str:
    """Give ``new`` the name ``path``, and return the name that the old one has from now on.

    Raises ``OSError``.
    """
    rename = _renameat2()
    if rename is not None:
        code = rename(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(path), _EXCHANGE)
        if code == 0:
            return new
        if code not in _UNKNOWN_FLAG:
            raise OSError(code, os.strerror(code), new, None, path)
    # A file system without it: for a moment nothing has the name.
    old = temporary_path(os.path.dirname(new))
    os.rename(path, old)
    try:
        os.rename(new, path)
    except OSError:
        os.rename(old, path)
        raise
    return old


@functools.cache
def _renameat2() -> Callable[..., int] | None:
    """Return renameat2(2), which returns 0 or an errno; None for a C library without it."""
    import ctypes  # 4 ms

    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is None:  # pragma: no cover - musl before 1.2.6
        return None

    def call(*arguments: int | bytes) -> int:
        return 0 if function(*arguments) == 0 else ctypes.get_errno()

    return call


def replace_file(
    path: str | Path,
    data: Buffer,
    *,
    mode: int = 0o644,
    tmp_dir: str | Path,
    sets_mode: bool = True,
) -> None:
    """Replace ``path`` by a file with these bytes; readers see the old or the new one.

    Raises ``TreeError``.
    """
    with tree_errors(path):
        temporary = temporary_path(tmp_dir)
        write_new(temporary, (data,), mode, sets_mode=sets_mode)
        rename_into(temporary, str(path))
