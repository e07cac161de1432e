"""The room that files take in staging, where the tree lies in an object store.

Files wait for room before they are fetched, so that staging never takes more of the local disk than
``staging-size``. Small files stay in memory and need none.
"""

from __future__ import annotations

from typing import Final

import anyio

from mirror.tree.staging import BLOCK_BYTES

_UNLISTED_BYTES: Final = 64 << 20
"""Room for a file whose size its index does not list."""


class StagingRoom:
    """Admits files to staging; ``limit_bytes``: None where only the disk limits it."""

    def __init__(self, limit_bytes: int | None) -> None:
        self.limit_bytes = limit_bytes
        self._used = 0
        self._freed = anyio.Event()

    def needed_for(self, size: int | None) -> int:
        """Return the room that a file of this size takes."""
        if self.limit_bytes is None or (size is not None and size <= BLOCK_BYTES):
            return 0
        return min(self.limit_bytes, _UNLISTED_BYTES if size is None else size)

    async def take(self, size: int | None) -> None:
        """Wait until there is room for a file, and take it."""
        needed = self.needed_for(size)
        while needed and self._used and self._used + needed > (self.limit_bytes or 0):
            await self._freed.wait()
        self._used += needed

    def give_back(self, size: int | None) -> None:
        """Free the room of a file that has left staging."""
        needed = self.needed_for(size)
        if needed:
            self._used -= needed
            freed, self._freed = self._freed, anyio.Event()
            freed.set()
