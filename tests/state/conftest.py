"""A real state for each test, in a file of its own."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirror.state.store import Store, open_store


@pytest.fixture(scope="session")
def empty_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state with all its tables and no rows; made once, since the migrations take longer than a test."""
    path = tmp_path_factory.mktemp("empty") / "state.db"

    async def make() -> None:
        async with open_store(path):
            pass

    asyncio.run(make())
    return path


@pytest.fixture
async def store(tmp_path: Path, empty_state: Path) -> AsyncIterator[Store]:
    """An open state without rows."""
    path = tmp_path / "state.db"
    shutil.copy(empty_state, path)
    async with open_store(path) as opened:
        # No test of a query cuts the power: it need not wait for the disk.
        await opened.connection.execute("PRAGMA synchronous = OFF")
        yield opened
