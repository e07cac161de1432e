"""The modes of public files: which a web server of another user can't read, and mend them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator

from mirror.tree.checking.single_files import entries_of, mode_of
from mirror.tree.disk.failures import tree_errors
from mirror.tree.layout import PUBLIC_DIRECTORY, PUBLIC_FILE, Layout

_READ, _ENTER = 0o004, 0o001


def iter_public(layout: Layout) -> Iterator[str]:
    """Yield all that a web server serves or passes through: the root, ``public``, everything below
    it.
    """
    yield str(layout.root)
    yield from _public_paths(str(layout.public))


def closed_modes(paths: Iterable[str]) -> list[tuple[str, str]]:
    """Return (path, fault) of the public files that a web server of another user can't read."""
    found = []
    for path in paths:
        mode = mode_of(path)
        wanted = _READ if stat.S_ISREG(mode) else _READ | _ENTER if stat.S_ISDIR(mode) else 0
        if mode & wanted != wanted:
            found.append((path, f"mode {stat.S_IMODE(mode):04o}: a web server answers 403 for it"))
    return found


def _public_paths(directory: str) -> Iterator[str]:
    """Yield a directory and everything below it; links are not followed."""
    waiting = [directory]
    while waiting:
        place = waiting.pop()
        yield place
        for item in entries_of(place):
            if item.is_dir(follow_symlinks=False):
                waiting.append(item.path)
            else:
                yield item.path


def open_modes(paths: Iterable[str]) -> None:
    """Give files and directories of the tree the modes that a web server needs; those above
    first.
    """
    for path in sorted(paths):
        mode = mode_of(path)
        with tree_errors(path):
            if stat.S_ISDIR(mode):
                os.chmod(path, PUBLIC_DIRECTORY)
            elif stat.S_ISREG(mode):
                os.chmod(path, PUBLIC_FILE)
