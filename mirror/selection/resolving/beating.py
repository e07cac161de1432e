"""Progress while resolvers run: each of them ends within its own limit, however long it takes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import anyio

from mirror.core.wants_progress import WantsProgress

_BEAT_S = 5.0


@contextlib.asynccontextmanager
async def beating(progress: WantsProgress) -> AsyncIterator[None]:
    """Count as progress, until the end of the block."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_beat, progress)
        yield
        tasks.cancel_scope.cancel()


async def _beat(progress: WantsProgress) -> None:
    while True:
        await anyio.sleep(_BEAT_S)
        progress.beats += 1
