"""Records the names that clients asked for and that are not in the tree (``[serve] wishes``).

Several processes write to the same list. Invariants: only a missing page of a tree whose root page
is there makes a wish; a name that is known, or a full list, costs no thread and no write; a list
that can't be written is one error line, and requests are answered as without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, Protocol, TypeVar

from mirror.core.names import ProjectName
from mirror.errors import TreeError
from mirror.holdings.wishes import MAX_NAME, WishFile
from mirror.logs import get_logger
from mirror.serve.blobs import BlobJudge
from mirror.tree.served import ServedTree

_log = get_logger(__name__)

T = TypeVar("T")

_PAGE: Final = "index.html"


class Presence(Protocol):
    """Finds out whether a page is in the tree."""

    async def mark(self, name: ProjectName | None) -> Hashable | None:
        """Return what changes with the page of a project, or with the root page; None for no page.

        Raises ``OSError`` where that is not known at the moment.
        """


class TreePresence:
    """Pages of a tree on a disk."""

    def __init__(self, tree: ServedTree, judge: BlobJudge) -> None:
        self._tree, self._judge = tree, judge

    async def mark(self, name: ProjectName | None) -> Hashable | None:
        """Return what changes with a page; None for no page."""
        place = ("simple", _PAGE) if name is None else ("simple", name, _PAGE)
        try:
            descriptor, found = self._tree.open(place, follows_owner=self._judge.has_state)
        except OSError:
            return None
        os.close(descriptor)
        return _signature(found)


class WishRecorder:
    """Records the wishes of one process's clients."""

    def __init__(self, file: WishFile, presence: Presence) -> None:
        self._file, self._presence = file, presence
        self._thread = ThreadPoolExecutor(1, "wishes")
        self._known: frozenset[ProjectName] = frozenset()
        self._is_closed = False
        """Whether no name can be added until list or tree change: it is full, or can't be
        written.
        """
        self._seen: Hashable = None
        """List and root page when the list was read last."""

    def close(self) -> None:
        """End the thread; names that wait are recorded."""
        self._thread.shutdown(wait=True)

    async def record(self, name: ProjectName) -> None:
        """Record a name that a client asked for, unless its page is there."""
        if len(name) > MAX_NAME:
            return
        with contextlib.suppress(OSError):  # whether it is there is not known: asked for again
            await self._record(name)

    async def _record(self, name: ProjectName) -> None:
        root = await self._presence.mark(None)
        if root is None:  # nothing at all is there: a disk that is not mounted, say
            return
        if (self._list_status(), root) == self._seen and (self._is_closed or name in self._known):
            return
        if await self._presence.mark(name) is not None:
            return
        try:
            self._is_closed = bool(await self._run(partial(self._file.add, [name])))
            if self._is_closed and await self._made_room():
                self._is_closed = bool(await self._run(partial(self._file.add, [name])))
            self._known = frozenset(await self._run(self._file.load))
        except TreeError as exc:
            self._is_closed = True
            advice = "wishes are not recorded until this is corrected; all else is served"
            _log.error("wishes.unwritable", problem=str(exc), advice=advice)
        self._seen = (self._list_status(), root)

    async def _made_room(self) -> bool:
        """Remove the names from a full list that are in the tree by now; return whether any was."""
        known = await self._run(self._file.load)
        here = {one for one in known if await self._presence.mark(one) is not None}
        return bool(here and await self._run(partial(self._file.drop, here.__contains__)))

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _list_status(self) -> Hashable | None:
        try:
            return _signature(self._file.path.lstat())
        except OSError:
            return None


def _signature(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
