"""Room in staging, while small files that need none come and go."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mirror.sync.staging_room import StagingRoom
from mirror.tree.layout import Layout
from mirror.tree.partial_files import stem_of

SMALL, LARGE = 600_000, 2 << 20


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    """A staging directory with a part of a small file that an earlier cycle left."""
    layout = Layout(tmp_path)
    layout.staging.mkdir()
    (layout.staging / f"{stem_of('small')}.part").write_bytes(bytes(SMALL))
    return layout.staging


async def test_part_that_is_continued(staging):
    """The part of a small file stays while the file is fetched, however little room there is for a large one."""
    room = StagingRoom(Layout(staging.parent), LARGE)
    await room.take("small", SMALL + 1)
    await room.take("large", LARGE)
    assert [path.name for path in staging.iterdir()] == [f"{stem_of('small')}.part"]
    await room.give_back("small", SMALL + 1)
    await room.give_back("large", LARGE)
    await room.take("large", LARGE)
    assert list(staging.iterdir()) == []


async def test_part_that_is_whole_by_now(staging, monkeypatch):
    """A small file that is placed between the listing of staging and the look at its size takes no room."""

    @contextmanager
    def listed(path: str) -> Iterator[list[os.DirEntry[str]]]:
        with scandir(path) as found:
            entries = list(found)
        for entry in entries:
            Path(entry.path).unlink()
        yield entries

    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", listed)
    room = StagingRoom(Layout(staging.parent), LARGE)
    await room.take("large", LARGE)
