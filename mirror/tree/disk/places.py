"""Names on a disk: directories of the tree and plain files, neither of them a symbolic link, which
would redirect reads and writes out of the tree.
"""

# Paths are plain strings: this runs for each file, and building a Path costs more than the call.

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def make_directory(path: str | Path, mode: int = 0o755, *, sets_mode: bool = True) -> bool:
    """Make one directory, regardless of the umask, and return True; False where it exists.

    ``sets_mode``: as in ``write_new``. Raises ``OSError``.

    An existing one must be a directory, not a link to one: a link would redirect writes out of the
    tree.
    """
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        check_directory(path)
        return False
    if sets_mode:
        os.chmod(path, mode)
    return True


def is_there(path: str | Path) -> bool:
    """Return whether anything is there, a dangling link too. Raises ``OSError`` where that is
    unknown.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def check_directory(path: str | Path) -> None:
    """Raise ``OSError`` unless ``path`` is a directory itself."""
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        raise OSError(errno.ELOOP, "is a symbolic link", str(path))
    if not stat.S_ISDIR(mode):
        raise NotADirectoryError(errno.ENOTDIR, "is no directory", str(path))


def open_plain(path: str) -> int:
    """Open a file for reading that is not a link, without blocking on a pipe. Raises
    ``OSError``.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no plain file", path)
    return descriptor


def remove_if_there(path: str | Path) -> bool:
    """Remove a file or link; return whether it existed. Raises ``OSError`` for other failures."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def has_default_acl(directory: str | Path) -> bool:
    """Return whether new files below a directory get other modes than they are made with; True
    where that is unknown.
    """
    try:
        return bool(os.getxattr(directory, "system.posix_acl_default"))
    except OSError as exc:
        return exc.errno not in {errno.ENODATA, errno.ENOTSUP}
