"""Atomic and durable writes: a file is replaced by rename as a whole, and each refusal of a disk
becomes one clear sentence.

Invariants: a file appears under its name only when all of its bytes are written; unfinished files
are in ``staging/``, which no web server serves; a symbolic link at the name is replaced, never
followed; no ``OSError`` leaves ``tree_errors``.
"""

# Paths are plain strings: this runs for each file, and building a Path costs more than the call.

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Final

from mirror.errors import DiskFull, TreeError

Buffer = bytes | bytearray | memoryview

FEW: Final = 8
"""Maximum number of files and directories synced one by one; beyond it, one syncfs costs less and
disturbs as little.
"""

_FEW_INODES: Final = 64
_FEW_BYTES: Final = 1 << 20

_SYNCFS_REPORTS: Final = (5, 8)
"""The kernel from which on syncfs returns an error of the disk."""

_NOREPLACE: Final = 1
"""Of renameat2(2): fail where something has the new name already."""
_EXCHANGE: Final = 2
"""Of renameat2(2): each of the two gets the other's name."""
_UNKNOWN_FLAG: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
_AT_FDCWD: Final = -100

_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

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


def has_default_acl(directory: str | Path) -> bool:
    """Return whether new files below a directory get other modes than they are made with; True
    where that is unknown.
    """
    try:
        return bool(os.getxattr(directory, "system.posix_acl_default"))
    except OSError as exc:
        return exc.errno not in {errno.ENODATA, errno.ENOTSUP}


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
