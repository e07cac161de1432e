"""Opens files to be served, without following links that leave the tree.

Two of the mirror's own links are followed, and only to their proper targets: ``simple`` of a far
side to ``snapshots/NAME/simple``, and ``channels/NAME`` to ``snapshots/NAME``. Where a state
vouches for the tree, ``simple`` and ``files`` themselves may be links that the tree's owner or root
has made (``owner``).
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from mirror.tree.layout import Layout

_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_SIMPLE_LINK: Final = re.compile(r"snapshots/([a-z0-9][a-z0-9-]{0,62})/simple/?")
_CHANNEL_LINK: Final = re.compile(r"\.\./snapshots/([a-z0-9][a-z0-9-]{0,62})/?")
_NOT_THERE: Final = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO, errno.EINVAL}
)
"""Errors of opening a missing file, or a path with a link, a pipe or a socket in it."""


class ServedTree:
    """The public part of a tree."""

    def __init__(self, layout: Layout) -> None:
        self._root = str(layout.root)
        self._public = str(layout.public)

    def open(self, place: Sequence[str], *, follows_owner: bool) -> tuple[int, os.stat_result]:
        """Open a plain file below ``public``; return its descriptor, which the caller closes, and
        its status.

        ``follows_owner``: a link in place of ``simple`` or ``files`` is followed where the tree's
        owner made it. Raises ``FileNotFoundError`` where the file is missing or of another kind,
        else ``OSError``.
        """
        try:
            with _Walk(self._public) as walk:
                self._enter(walk, place[:-1], follows_owner=follows_owner)
                descriptor = os.open(place[-1], _FILE, dir_fd=walk.descriptor)
        except OSError as exc:
            if exc.errno in _NOT_THERE:
                raise FileNotFoundError(exc.errno, exc.strerror) from exc
            raise
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            os.close(descriptor)
            raise FileNotFoundError(errno.ENOENT, "no plain file")
        return descriptor, found

    def _enter(self, walk: _Walk, directories: Sequence[str], *, follows_owner: bool) -> None:
        first, *rest = directories
        if first == "channels":
            walk.enter(first)
            target = _linked(_CHANNEL_LINK, walk, rest[0])
            walk.enter("..")
            rest = ["snapshots", target, *rest[1:]]
        elif not stat.S_ISLNK((found := walk.status(first)).st_mode):
            rest = [first, *rest]
        elif follows_owner and found.st_uid in {os.stat(self._root).st_uid, 0}:
            walk.enter(first, follows=True)
        elif first == "simple":
            rest = ["snapshots", _linked(_SIMPLE_LINK, walk, first), first, *rest]
        else:
            raise OSError(errno.ELOOP, "is a symbolic link")
        for name in rest:
            walk.enter(name)


class _Walk:
    """A directory that is entered step by step."""

    def __init__(self, start: str) -> None:
        self.descriptor = os.open(start, _DIRECTORY)

    def enter(self, name: str, *, follows: bool = False) -> None:
        """Enter one directory; a link is refused unless ``follows``."""
        inner = os.open(
            name, _DIRECTORY if follows else _DIRECTORY | os.O_NOFOLLOW, dir_fd=self.descriptor
        )
        os.close(self.descriptor)
        self.descriptor = inner

    def status(self, name: str) -> os.stat_result:
        """Return the status of an entry, of a link itself."""
        return os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        os.close(self.descriptor)


def _linked(pattern: re.Pattern[str], walk: _Walk, name: str) -> str:
    """Return the snapshot that a link names. Raises ``OSError`` for a link to anywhere else."""
    found = pattern.fullmatch(os.readlink(name, dir_fd=walk.descriptor))
    if found is None:
        raise OSError(errno.ELOOP, "is a symbolic link to elsewhere")
    return found[1]
