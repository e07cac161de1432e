"""Records the names that clients asked for and that are not in the tree (``[serve] wishes``).

Several processes write to the same list. Invariants: only a missing page of a tree whose root page
is there makes a wish; a name that is known, or a full list, costs no thread and no write; a list
that can't be written is one error line, and requests are answered as without it.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from mirror.core.names import ProjectName
from mirror.errors import TreeError
from mirror.holdings.wishes import MAX_NAME, WishFile
from mirror.logs import get_logger
from mirror.tree.served import ServedTree

_log = get_logger(__name__)

_PAGE: Final = "index.html"
_Signature = tuple[int, int, int, int] | None
"""Of a file's content: device, inode, size and time of its last change; None for no file."""


class WishRecorder:
    """Records the wishes of one process's clients."""

    def __init__(self, file: WishFile, tree: ServedTree) -> None:
        self._file, self._tree = file, tree
        self._thread = ThreadPoolExecutor(1, "wishes")
        self._known: frozenset[ProjectName] = frozenset()
        self._is_closed = False
        """Whether no name can be added until list or tree change: it is full, or can't be written."""
        self._seen: tuple[_Signature, _Signature] | None = None
        """List and root page when they were read last."""

    def close(self) -> None:
        """End the thread; names that wait are recorded."""
        self._thread.shutdown(wait=True)

    async def record(self, name: ProjectName, *, follows_owner: bool) -> None:
        """Record a name that a client asked for, unless its page is there.

        ``follows_owner``: as of ``ServedTree.open``.
        """
        if len(name) > MAX_NAME:
            return
        root = self._page_status(("simple", _PAGE), follows_owner=follows_owner)
        if root is None:  # nothing at all is there: a disk that is not mounted, say
            return
        state = (self._list_status(), root)
        if state == self._seen and (self._is_closed or name in self._known):
            return
        if self._is_here(name, follows_owner=follows_owner):
            return
        await asyncio.get_running_loop().run_in_executor(
            self._thread, partial(self._record, name, root, follows_owner=follows_owner)
        )

    def _record(self, name: ProjectName, root: _Signature, *, follows_owner: bool) -> None:
        try:
            self._is_closed = bool(self._file.add([name])) and not self._made_room(
                name, follows_owner=follows_owner
            )
            self._known = frozenset(self._file.load())
        except TreeError as exc:
            self._is_closed = True
            advice = "wishes are not recorded until this is corrected; all else is served"
            _log.error("wishes.unwritable", problem=str(exc), advice=advice)
        self._seen = (self._list_status(), root)

    def _made_room(self, name: ProjectName, *, follows_owner: bool) -> bool:
        """Remove the names from a full list that are in the tree by now; return whether ``name``
        was added.
        """
        dropped = self._file.drop(lambda known: self._is_here(known, follows_owner=follows_owner))
        return bool(dropped) and not self._file.add([name])

    def _is_here(self, name: ProjectName, *, follows_owner: bool) -> bool:
        place = ("simple", name, _PAGE)
        return self._page_status(place, follows_owner=follows_owner) is not None

    def _page_status(self, place: tuple[str, ...], *, follows_owner: bool) -> _Signature:
        try:
            descriptor, found = self._tree.open(place, follows_owner=follows_owner)
        except OSError:
            return None
        os.close(descriptor)
        return _signature(found)

    def _list_status(self) -> _Signature:
        try:
            return _signature(self._file.path.lstat())
        except OSError:
            return None


def _signature(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
