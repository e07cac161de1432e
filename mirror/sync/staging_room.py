"""The room that files take in staging, where the tree lies in an object store.

Files wait for room before they are fetched, so that staging never takes more of the local disk than
``staging-size``. Partial files that earlier cycles left count too; they are continued where they
lie, and the largest of them go where nothing else makes room. Small files stay in memory and need
none.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

import anyio
import anyio.to_thread

from mirror.logs import get_logger
from mirror.tree.disk.failures import tree_errors
from mirror.tree.disk.places import remove_if_there
from mirror.tree.layout import Layout
from mirror.tree.partial_files import stem_of
from mirror.tree.staging import BLOCK_BYTES, PART_ENDING, RECORD_ENDING

_log = get_logger(__name__)

UNLISTED_BYTES: Final = 64 << 20
"""Room for a file whose size its index does not list, until more is known of it."""


class StagingRoom:
    """Admits files to staging, each by the key of its partial file there."""

    def __init__(self, layout: Layout, limit_bytes: int | None) -> None:
        """``limit_bytes``: None where only the disk limits it."""
        self.limit_bytes = limit_bytes
        self._staging = str(layout.staging)
        self._used = 0
        self._kept: dict[str, int] = {}
        """Stem -> size of the partial files that nobody continues yet."""
        self._continued: set[str] = set()
        """Stems of small files, which need no room, while they are fetched."""
        self._is_measured = False
        self._judging = anyio.Lock()
        self._freed = anyio.Event()

    def needed_for(self, size: int | None) -> int:
        """Return the room that a file of this size takes; None: an unlisted one, which has to ask
        for more before it is larger.
        """
        if self.limit_bytes is None or (size is not None and size <= BLOCK_BYTES):
            return 0
        return min(self.limit_bytes, UNLISTED_BYTES if size is None else size)

    async def take(self, key: str, size: int | None) -> None:
        """Wait until there is room for a file, and take it. Raises ``TreeError``."""
        needed = self.needed_for(size)
        if self.limit_bytes is None:
            return
        stem = stem_of(key)
        if not needed:
            self._continued.add(stem)
            return
        while True:
            async with self._judging:  # so that no partial file goes while its file is admitted
                others = await self._load_others(stem)
                taken = self._used + sum(others.values())
                if taken + needed <= (self.limit_bytes or 0) or not taken:
                    self._kept.pop(stem, None)  # its bytes are part of the file's own room
                    self._used += needed
                    return
                if not self._used:
                    await self._drop_largest(others)
                    continue
                freed = self._freed
            await freed.wait()

    async def give_back(self, key: str, size: int | None) -> None:
        """Free the room of a file that has left staging, except that of a partial file left
        there.
        """
        needed = self.needed_for(size)
        if self.limit_bytes is None:
            return
        stem = stem_of(key)
        if not needed:
            self._continued.discard(stem)
            return
        with anyio.CancelScope(shield=True):
            left = await anyio.to_thread.run_sync(_size_of, f"{self._staging}/{stem}{PART_ENDING}")
        if left:
            self._kept[stem] = left
        self._used -= needed
        freed, self._freed = self._freed, anyio.Event()
        freed.set()

    async def _load_others(self, stem: str) -> dict[str, int]:
        """Return the partial files that nobody continues yet, but for one."""
        if not self._is_measured:
            self._kept |= await anyio.to_thread.run_sync(_measure, self._staging)
            self._is_measured = True
        known = self._continued | {stem}
        return {other: size for other, size in self._kept.items() if other not in known}

    async def _drop_largest(self, others: dict[str, int]) -> None:
        stem = max(others, key=others.__getitem__)
        size = self._kept.pop(stem)
        await anyio.to_thread.run_sync(_remove, f"{self._staging}/{stem}")
        _log.info("staging.dropped", bytes=size, cause="mirror.staging-size")


def _measure(staging: str) -> dict[str, int]:
    """Return stem -> size of the partial files in staging."""
    sizes: dict[str, int] = {}
    with tree_errors(staging), os.scandir(staging) as found:
        for item in found:
            if item.name.endswith(PART_ENDING):
                with contextlib.suppress(FileNotFoundError):  # a small file is whole by now
                    size = item.stat(follow_symlinks=False).st_size
                    sizes[item.name.removesuffix(PART_ENDING)] = size
    return sizes


def _size_of(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


def _remove(stem: str) -> None:
    with tree_errors(stem + PART_ENDING):
        remove_if_there(stem + PART_ENDING)
        remove_if_there(stem + RECORD_ENDING)
