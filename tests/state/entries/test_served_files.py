"""The queries of ``mirror.state.entries.served_files``."""

from __future__ import annotations

from typing import Any

import pytest

from harness.state_rows import add, add_file
from mirror.state.entries.served_files import ServedFile, load_blobs_without_entries, load_served_files
from mirror.state.store import Store


@pytest.fixture
async def indexes(store: Store) -> None:
    """``extra`` (position 1) with a (1), ``main`` (position 0) with a (2) and b (3)."""
    await add(store, "revision")
    for name, position in (("extra", 1), ("main", 0)):
        await add(store, "source", name=name, position=position)
    for source, name in ((1, "a"), (2, "a"), (2, "b")):
        await add(store, "project", source=source, name=name)


def served(filename: str, index: str = "main", *, project: str = "a", **values: Any) -> ServedFile:
    return ServedFile(project=project, filename=filename, sha256="x", size=1, index=index, **values)


async def test_load_served_files(store: Store, indexes: None) -> None:
    """Published files come first, those of earlier indexes first of them, newer rows before older ones."""
    await add_file(store, "old", "x", project=2, valid_to=1)
    await add_file(store, "older", "x", project=2, valid_to=1)
    await add_file(store, "f", "x", project=1)
    await add_file(store, "g", "x", project=2, upload_time="t", requires_python="r")
    await add_file(store, "h", "x", project=3)
    await add(store, "entry", filename="gone", sha256="x", project=2)
    await add(store, "blob", filename="gone", sha256="y")
    await add(store, "blob", filename="else", sha256="x")
    assert await load_served_files(store, ["b", "a", "a", *(f"n{number}" for number in range(600))]) == [
        served("g", upload_time="t", requires_python="r"),
        served("f", "extra"),
        served("older", is_published=False),
        served("old", is_published=False),
        served("h", project="b"),
    ]


@pytest.mark.parametrize(
    ("project", "values", "filenames"),
    [
        (2, {"withdrawn": "w"}, ["f"]),
        (2, {"status": "quarantined"}, ["f"]),
        (1, {"withdrawn": "w"}, ["f", "of main"]),
        (3, {"withdrawn": "w"}, ["f", "of main", "of extra"]),
    ],
)
async def test_withdrawn(
    store: Store, indexes: None, project: int, values: dict[str, str], filenames: list[str]
) -> None:
    """Of a withdrawn project only published files are served, also those of later indexes."""
    await add_file(store, "f", "x", project=2)
    await add_file(store, "of extra", "x", project=1, valid_to=1)
    await add_file(store, "of main", "x", project=2, valid_to=1)
    [(column, value)] = values.items()
    await store.connection.execute(f"UPDATE project SET {column} = ? WHERE id = ?", (value, project))
    assert [file.filename for file in await load_served_files(store, ["a"])] == filenames


async def test_load_blobs_without_entries(store: Store, indexes: None) -> None:
    """Blobs that no page lists or ever listed are found by their digest."""
    for filename, sha256 in (("f", "x"), ("g", "x"), ("f", "z")):
        await add(store, "blob", filename=filename, sha256=sha256, size=3)
    await add_file(store, "open", "x")
    await add_file(store, "closed", "x", valid_to=1)
    await add(store, "entry", filename="f", sha256="y")
    await add(store, "entry", filename="g", sha256="y", valid_to=1)
    digests = ["x", "y", *(f"n{number}" for number in range(600))]
    assert await load_blobs_without_entries(store, digests) == {"x": [("f", 3), ("g", 3)]}
