"""The place of the files that a dry run reads from the indexes."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from mirror.config import Config
from mirror.tree.files import FileStore
from mirror.tree.layout import Layout, create_tree

if TYPE_CHECKING:
    pass


@contextlib.asynccontextmanager
async def temporary_tree(*, is_needed: bool) -> AsyncIterator[Path | None]:
    """Yield a folder for the files that a dry run reads from the indexes."""
    if not is_needed:
        yield None
        return
    path = await anyio.to_thread.run_sync(partial(tempfile.mkdtemp, prefix="mirror-dry-run-"))
    try:
        await anyio.to_thread.run_sync(create_tree, Layout(Path(path)))
        yield Path(path)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(partial(shutil.rmtree, path, ignore_errors=True))


def scratch_of(config: Config, temporary: Path | None) -> FileStore | None:
    """Return the store of files in that place."""
    if temporary is None:
        return None
    return FileStore(
        Layout(temporary), metadata_limit_bytes=config.limits.metadata_size, disk_reserve_bytes=0
    )
