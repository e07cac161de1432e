"""Refusals of a disk: each becomes one clear sentence with its remedy, and with the free space
where that matters.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import TracebackType
from typing import Final

from mirror.errors import DiskFull, TreeError

_FEW_INODES: Final = 64
_FEW_BYTES: Final = 1 << 20
_ADVICE: Final = {
    errno.EROFS: "the file system is read-only; mount it writable, or choose another root",
    errno.EACCES: "permission denied; give the directory to the user that runs the mirror",
    errno.EPERM: "operation not permitted; give the directory to the user that runs the mirror",
    errno.EMFILE: "too many open files; raise `ulimit -n`, or LimitNOFILE= of the systemd unit",
    errno.ENFILE: "too many open files on this host; raise fs.file-max",
    errno.EXDEV: "staging/ and public/ must lie on one file system",
    errno.ELOOP: "a symbolic link stands where the tree has something of its own; remove it",
    errno.ENOTDIR: "something that is no directory stands in the way; remove it",
    errno.EISDIR: "a directory stands where the tree has a file; remove it",
    errno.EIO: "the disk reports an input/output error; check it, then run `mirror verify`",
    errno.ENOLCK: "the file system offers no locks; use a local disk, or enable its lock service",
}


class tree_errors:  # noqa: N801 - reads like a function, and is on the path of each small file
    """A context in which an ``OSError`` becomes a ``TreeError``; ``path`` is named where the error
    names none.
    """

    __slots__ = ("path",)

    def __init__(self, path: str | Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(
        self, _: type[BaseException] | None, exc: BaseException | None, __: TracebackType | None
    ) -> None:
        """Raise the ``TreeError`` for an ``OSError``; let everything else pass."""
        if isinstance(exc, OSError):
            raise tree_error(exc, self.path) from exc


def tree_error(exc: OSError, path: str | Path) -> TreeError:
    """Return the ``TreeError`` that describes the failure, its place and the remedy."""
    # A rename names two: the second is where the file belongs.
    named = exc.filename2 or exc.filename
    where = os.fsdecode(named) if isinstance(named, str | bytes) else str(path)
    if not os.path.isabs(where) and os.path.isabs(path):  # relative to a descriptor
        where = str(path)
    if exc.errno in {errno.ENOSPC, errno.EDQUOT}:
        what = "no space left" if exc.errno == errno.ENOSPC else "the quota is used up"
        advice = "free some space; `disk-reserve` stops a cycle before it comes to this"
        if exc.errno == errno.ENOSPC and _has_no_inodes(where):
            advice = "no inodes are left: remove small files, or use a file system with more inodes"
        return full_disk_error(where, what, advice)
    return TreeError(path=where, problem=_ADVICE.get(exc.errno or 0) or exc.strerror or str(exc))


def full_disk_error(path: str, what: str, advice: str) -> TreeError:
    """Return the ``TreeError`` for a disk that is full, or full up to the reserve; names the free
    space.
    """
    free = free_bytes(path)
    return DiskFull(
        path=path, problem=f"{what}{'' if free is None else f' ({free} bytes free)'}; {advice}"
    )


def free_bytes(path: str | Path) -> int | None:
    """Return the bytes that an unprivileged user may still write at ``path``, which need not exist;
    None if unknown.
    """
    found = _statvfs(path)
    # Some network file systems answer zeros.
    return found.f_bavail * found.f_frsize if found is not None and found.f_blocks else None


def disk_space(path: str | Path) -> tuple[int, int] | None:
    """Return the size of the file system and its writable free space, in bytes; None if unknown."""
    found = _statvfs(path)
    if found is None or not found.f_blocks:
        return None
    return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize


def _has_no_inodes(path: str | Path) -> bool:
    found = _statvfs(path)
    # The unfinished file has just been removed, so a few inodes may be free.
    has_bytes = found is not None and found.f_bavail * found.f_frsize > _FEW_BYTES
    return found is not None and has_bytes and found.f_files > 0 and found.f_favail < _FEW_INODES


def _statvfs(path: str | Path) -> os.statvfs_result | None:
    place = os.path.abspath(path)
    while not os.path.exists(place):
        place = os.path.dirname(place)
    try:
        return os.statvfs(place)
    except OSError:  # pragma: no cover - a file system that is gone
        return None
