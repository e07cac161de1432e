"""Names to paths: the place of every file below the root.

Responsible for directories and their modes: public ones are 0755 and readable by a web server of
another user, the others 0700. A root that can't be written is found here, before any request is
made. A directory that a failed sync has left is replaced by a new one, under a new inode: it may
exist in memory only, and a later sync of it would report no error.
"""

# Paths are plain strings: this runs for each file, and building a Path costs more than the call.

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

import msgspec

from mirror.core.names import ProjectName, Sha256
from mirror.tree.disk.durability import make_durable_directory
from mirror.tree.disk.failures import tree_errors
from mirror.tree.disk.places import is_there, make_directory, remove_if_there
from mirror.tree.disk.writing import exchange, temporary_path, write_new

PUBLIC_DIRECTORY: Final = 0o755
PRIVATE_DIRECTORY: Final = 0o700
PUBLIC_FILE: Final = 0o644
PRIVATE_FILE: Final = 0o600

METADATA_ENDING: Final = ".metadata"

_HEX: Final = frozenset("0123456789abcdef")
_CHILD_LENGTH: Final = {2: 4, 4: 64}
"""Length of a digest's part that names a directory -> that of the directories in it."""


class Layout(msgspec.Struct, frozen=True):
    """The paths below one root.

    Names and digests were checked when they were made (``core.names``).
    """

    root: Path

    @property
    def state(self) -> Path:
        """The state's default path."""
        return self.root / "state.db"

    @property
    def tree_lock(self) -> Path:
        """Held by each cycle and each writing command."""
        return self.root / "tree.lock"

    @property
    def daemon_lock(self) -> Path:
        """Held by the daemon as long as it lives."""
        return self.root / "daemon.lock"

    @property
    def staging(self) -> Path:
        """Unfinished files; never served."""
        return self.root / "staging"

    @property
    def cache(self) -> Path:
        """Files that were read from the indexes and can be read again."""
        return self.root / "cache"

    @property
    def public(self) -> Path:
        """The directory that a web server serves."""
        return self.root / "public"

    @property
    def simple(self) -> Path:
        """The pages."""
        return self.root / "public" / "simple"

    @property
    def files(self) -> Path:
        """The blobs."""
        return self.root / "public" / "files"

    def blob_directories(self, sha256: Sha256) -> tuple[str, str, str]:
        """Return the directories of a blob below ``files``, the outermost first."""
        outer = f"{self.root}/public/files/{sha256[:2]}"
        middle = f"{outer}/{sha256[2:4]}"
        return outer, middle, f"{middle}/{sha256}"

    def blob_path(self, sha256: Sha256, filename: str) -> str:
        """Return the path of a blob."""
        return f"{self.root}/public/files/{sha256[:2]}/{sha256[2:4]}/{sha256}/{filename}"

    def sidecar_path(self, sha256: Sha256, filename: str) -> str:
        """Return the path of a blob's core metadata (PEP 658)."""
        return self.blob_path(sha256, filename) + METADATA_ENDING

    def project_dir(self, name: ProjectName) -> str:
        """Return the directory of a project's pages."""
        return f"{self.root}/public/simple/{name}"


def create_root(layout: Layout) -> None:
    """Make the root and its missing parents: all that the root's locks need. Raises
    ``TreeError``.
    """
    with tree_errors(layout.root):
        _make_root(layout.root)


def create_tree(layout: Layout, *, has_public: bool = True) -> None:
    """Make the directories that are missing, and see that files can be written and moved.

    The root's lock must be held where there may be other processes: they remove what they find in
    ``staging``. ``has_public``: the tree lies here, not in an object store. Raises ``TreeError``.
    """
    create_root(layout)
    with tree_errors(layout.root):
        _make_or_follow(layout.staging, PRIVATE_DIRECTORY)
        if not has_public:
            return
        for directory in (layout.public, layout.simple, layout.files):
            _make_or_follow(directory, PUBLIC_DIRECTORY)
            _probe(layout.staging, directory)


def _make_root(root: Path) -> None:
    """Make the root and its missing parents, regardless of the umask: a web server must reach the
    public files.
    """
    for place in (*reversed(root.parents), root):
        if not place.is_dir():
            make_durable_directory(place, PUBLIC_DIRECTORY)


def _make_or_follow(path: Path, mode: int) -> None:
    """Make one directory, unless it or a link to one exists: ``owner`` has checked earlier whose
    links are followed.
    """
    if not path.is_dir():
        make_durable_directory(path, mode)


def _probe(staging: Path, directory: Path) -> None:
    """Place an empty file and remove it: only a rename shows that both are writable and on one file
    system.
    """
    temporary = temporary_path(staging)
    target = temporary_path(directory)
    write_new(temporary, (), PUBLIC_FILE)  # a verification may see it meanwhile
    try:
        os.rename(temporary, target)
        os.rename(target, temporary)  # an unremovable file stays in staging, which is swept
    finally:
        remove_if_there(temporary)
        remove_if_there(target)


class CheckedDirectories:
    """The two outer levels of the directories of blobs, each made or checked once by this process.

    Invariant: no link in the place of a directory is followed. One that is planted after the check,
    in the same run, needs somebody who may write to the tree anyway. 64 KiB remember all of them.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._outer, self._middle = bytearray(1 << 8), bytearray(1 << 16)
        self._is_group_inherited: bool | None = None

    def require(self, sha256: Sha256) -> bool:
        """Make the directories around a blob's own, or check that they are none but directories.

        Return False where a directory that is made elsewhere would not take over the group of
        ``files``. For a process without a umask. Raises ``OSError``.
        """
        if self._is_group_inherited is None:
            self._is_group_inherited = bool(os.stat(self._layout.files).st_mode & stat.S_ISGID)
        number = int(sha256[:4], 16)
        if self._middle[number] or self._is_group_inherited:
            return not self._is_group_inherited
        outer, middle, _ = self._layout.blob_directories(sha256)
        if not self._outer[number >> 8]:
            make_directory(outer, sets_mode=False)
            self._outer[number >> 8] = 1
        make_directory(middle, sets_mode=False)
        self._middle[number] = 1
        return True

    def forget(self, sha256: Sha256) -> None:
        """Check the directories around a blob again at their next use."""
        number = int(sha256[:4], 16)
        self._outer[number >> 8] = self._middle[number] = 0


def renew_blob_directories(layout: Layout, outer: str, durable: Collection[str]) -> int:
    """Renew the directories from ``files/<outer>`` on that have no durable blob below them; return
    their number.

    ``durable``: the sha256 of every durable blob whose digest begins with ``outer``. No other
    process may place blobs meanwhile. A directory without write permission is left alone: no blob
    can be placed there either. Raises ``TreeError``.
    """
    known = {sha256[:length] for sha256 in durable for length in (2, 4, 64)}
    waiting = [(f"{layout.files}/{outer}", outer)]
    renewed = 0
    while waiting:
        path, part = waiting.pop()
        with tree_errors(path), contextlib.suppress(PermissionError, FileNotFoundError):
            if part not in known:
                renew_directory(path, str(layout.staging))
                renewed += 1
            waiting += _children(path, part)
    return renewed


def renew_directory(path: str, staging: str) -> None:
    """Replace a directory by a new one with the same contents. Raises ``OSError``."""
    new = temporary_path(staging)
    make_directory(new)
    put_directory(new, path)


def put_directory(new: str, path: str) -> None:
    """Put a finished directory in the place of another; entries that only the old one has move
    into it.

    A reader sees the old or the new directory, where the file system can exchange two names.
    Raises ``OSError``.
    """
    try:
        old = exchange(new, path)
    except OSError:
        _remove_directory(new)
        raise
    for name in os.listdir(old):
        if is_there(f"{path}/{name}"):
            os.unlink(f"{old}/{name}")
        else:
            os.rename(f"{old}/{name}", f"{path}/{name}")
    os.rmdir(old)


def _remove_directory(path: str) -> None:
    for name in os.listdir(path):
        os.unlink(f"{path}/{name}")
    os.rmdir(path)


def _children(path: str, part: str) -> Iterator[tuple[str, str]]:
    """Yield the directories of blobs in one of the outer two levels, with their parts of a
    digest.
    """
    length = _CHILD_LENGTH.get(len(part))
    if length is None:
        return
    with os.scandir(path) as found:
        for item in found:
            child = part + item.name if length == 4 else item.name
            is_name = len(child) == length and child.startswith(part) and set(item.name) <= _HEX
            if is_name and item.is_dir(follow_symlinks=False):
                yield item.path, child
