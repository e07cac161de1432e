"""The folder of a bundle on a medium, held by its descriptor: other writers there can't redirect
the program's writes.

Invariants: no link is followed, neither of the folder nor of a file in it; an existing file is
never opened for writing, each file is created; nothing that is read here is believed: it is
compared with the written bytes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from mirror.bundle.hashing import HashingFile, Written
from mirror.errors import BundleError
from mirror.tree.disk.failures import tree_errors

_CHUNK = 1 << 20
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_FILE = frozenset({errno.ENOENT, errno.ELOOP, errno.EINVAL, errno.ENXIO})
"""Errors of opening a name where there is no file, or a link, a pipe or a socket."""
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class OpenMedium:
    """An open folder. Every method raises ``TreeError`` where the disk refuses."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self._descriptor = path, descriptor

    def names(self) -> list[str]:
        """Return all names in the folder."""
        with tree_errors(self.path):
            return os.listdir(self._descriptor)  # noqa: PTH208 - of a descriptor

    def size(self, name: str) -> int | None:
        """Return the size of a plain file that has no other name; None for anything else."""
        try:
            found = os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
        except OSError:
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 else None

    def holds(self, written: Written) -> bool:
        """Read a file back and return whether it has the bytes that were written."""
        with tree_errors(self.path / written.name):
            try:
                descriptor = os.open(written.name, _READ, dir_fd=self._descriptor)
            except OSError as exc:
                if exc.errno in _NO_FILE:
                    return False
                raise
            with os.fdopen(descriptor, "rb", buffering=0) as file:
                return self._has_bytes(file, written)

    def _has_bytes(self, file: BinaryIO, written: Written) -> bool:
        found = os.fstat(file.fileno())
        is_own = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
        if not is_own or found.st_size != written.size:
            return False
        digest, left = hashlib.sha256(), written.size + 1
        while left and (data := file.read(min(_CHUNK, left))):
            digest.update(data)
            left -= len(data)
        return left == 1 and digest.hexdigest() == written.sha256

    def remove(self, name: str) -> None:
        """Remove a file or a link; a missing one is not an error."""
        with tree_errors(self.path / name), contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._descriptor)

    def create(self, name: str, on_write: Callable[[int], None] | None = None) -> HashingFile:
        """Return a new file of this name; an existing one is removed first.

        It is durable when it is closed.
        """
        path = self.path / name
        self.remove(name)
        with tree_errors(path):
            descriptor = os.open(name, _CREATE, 0o644, dir_fd=self._descriptor)
        return HashingFile(path, os.fdopen(descriptor, "wb", buffering=0), on_write)

    def write(self, name: str, pieces: Iterable[bytes]) -> Written:
        """Write a file from bytes in memory; ``compare`` checks the file on the medium later."""
        with self.create(name) as out:
            for piece in pieces:
                out.write(piece)
        return out.written()

    def compare(self, written: Written) -> None:
        """Raise ``BundleError`` unless a file has the bytes that were written."""
        if not self.holds(written):
            raise BundleError(
                problem=f"{self.path / written.name} does not have the bytes that were written:"
                " the medium is damaged, or another program writes to it; run the command again,"
                " on another medium if this happens twice"
            )

    def sync(self) -> None:
        """Make the names durable, where the file system knows how."""
        with tree_errors(self.path):
            try:
                os.fsync(self._descriptor)
            except OSError as exc:
                if exc.errno != errno.EINVAL:
                    raise


@contextlib.contextmanager
def open_medium(path: Path, *, make: bool = False) -> Iterator[OpenMedium]:
    """Open a bundle's folder; ``make``: create a missing one.

    Raises ``TreeError`` for a link or another kind of file.
    """
    with tree_errors(path):
        if make:
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                path.mkdir()
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield OpenMedium(path, descriptor)
    finally:
        os.close(descriptor)
