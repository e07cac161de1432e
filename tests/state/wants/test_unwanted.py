"""The queries of ``mirror.state.wants.unwanted``."""

from __future__ import annotations

import pytest

from harness.state_rows import add, add_file, rows_of
from mirror.core.names import ProjectName
from mirror.state.store import Store
from mirror.state.wants.unwanted import (
    UnwantedCount,
    UnwantedFile,
    count_left,
    count_unwanted,
    forget_dropped,
    load_ended,
    record_needed,
)

DAY = 86_400.0

SIZES = {"f": 1, "g": 2, "h": 3, "i": 4, "k": 100}


@pytest.fixture
async def files(store: Store) -> None:
    """The index ``main`` (needed only since cycle 2) publishes f to k of a (1) and b (2), of which a want needs f.

    g was dropped in cycle 4, h in 1; i is only wanted or dropped elsewhere, k is of b and dropped in 2.
    """
    for number in range(1, 6):
        await add(store, "revision", id=number, cycle=number, at=number * 10.0)
        await add(store, "cycle", started_at=number * 100.0)
    await add(store, "source", name="main", needed_since=2)
    await add(store, "source", name="extra")
    for name, source in (("a", 1), ("b", 1), ("a", 2)):
        await add(store, "project", name=name, source=source)
    for filename in "fghi":
        await add_file(store, filename, "x", size=SIZES[filename])
    await add_file(store, "k", "x", project=2, size=SIZES["k"])
    await add_file(store, "left", "x", size=1000, valid_to=3)
    await add_file(store, "f", "x", project=3, source=2)
    for index, project, filename in (("main", "a", "f"), ("extra", "a", "i"), ("main", "b", "i"), ("main", "a", "x")):
        await add(store, "wanted", resolution=1, part="set", index_name=index, project=project, filename=filename)
    for index, project, filename, cycle in (
        ("main", "a", "g", 4),
        ("main", "a", "h", 1),
        ("extra", "a", "i", 5),
        ("main", "b", "i", 5),
        ("main", "b", "k", 2),
    ):
        await add(store, "dropped_want", index_name=index, project=project, filename=filename, cycle=cycle)


async def test_record_needed(store: Store) -> None:
    """An index is needed only since the cycle in which its configuration began to say so."""
    for name, values in (
        ("new", {}),
        ("known", {"needed_since": 1}),
        ("all", {"needed_since": 1}),
        ("none", {}),
        ("former", {"needed_since": 1, "configured": 0}),
    ):
        await add(store, "source", name=name, **values)
    for _ in range(2):
        await record_needed(store, ["new", "known", "former"], cycle=7)
        assert await rows_of(store, "source", "name, needed_since") == [
            ("all", None),
            ("former", 1),
            ("known", 1),
            ("new", 7),
            ("none", None),
        ]
        changes = store.changes
    assert store.changes == changes


async def test_count_unwanted(store: Store, files: None) -> None:
    """Published files of an index that no want needs count, also where they were never wanted."""
    assert await count_unwanted(store, 1) == UnwantedCount(files=4, size=109, since=200.0)
    assert await count_unwanted(store, 2) == UnwantedCount(files=0, size=0, since=None)


async def test_count_unwanted_since_a_pruned_cycle(store: Store, files: None) -> None:
    """The time is not known where the cycle was pruned."""
    await store.connection.execute("DELETE FROM cycle WHERE id = 2")
    assert await count_unwanted(store, 1) == UnwantedCount(files=4, size=109, since=None)


@pytest.mark.parametrize(
    ("last_cycle", "limit", "filenames"), [(1, 9, ""), (2, 9, "hik"), (2, 2, "hi"), (3, 9, "hik"), (4, 9, "hikg")]
)
async def test_load_ended(store: Store, files: None, last_cycle: int, limit: int, filenames: str) -> None:
    """Files that were dropped until a cycle, the first ones first; none counts from before the index was limited."""
    projects = {"k": (2, "b")}
    assert await load_ended(store, 1, last_cycle=last_cycle, limit=limit) == [
        UnwantedFile(
            project=projects.get(filename, (1, "a"))[0],
            name=ProjectName(projects.get(filename, (1, "a"))[1]),
            filename=filename,
            size=SIZES[filename],
            sha256="x",
            since=4 if filename == "g" else 2,
        )
        for filename in filenames
    ]
    assert await load_ended(store, 2, last_cycle=9, limit=9) == []


async def test_count_left(store: Store, files: None) -> None:
    """Only files that left as unwanted within 24 hours count."""
    await add(store, "revision", id=6, at=DAY)
    for filename, values in {
        "at once": {"valid_to": 6, "exempt": 2},
        "too old": {"valid_to": 5, "exempt": 2},
        "removed": {"valid_to": 6, "exempt": 1},
        "other index": {"valid_to": 6, "exempt": 2, "source": 2},
    }.items():
        await add_file(store, filename, "y", **values)
    assert await count_left(store, 1, DAY + 50.0) == (1, 5)
    assert await count_left(store, 1, DAY + 49.0) == (2, 5)


async def test_forget_dropped(store: Store, files: None) -> None:
    """Files that no page of their project's name publishes are forgotten."""
    await forget_dropped(store)
    changes = store.changes
    await forget_dropped(store)
    assert store.changes == changes
    await add(store, "dropped_want", index_name="main", project="a", filename="left", cycle=1)
    await add(store, "dropped_want", index_name="main", project="none", filename="g", cycle=1)
    await forget_dropped(store)
    assert await rows_of(store, "dropped_want", "project, filename, index_name") == [
        ("a", "g", "main"),
        ("a", "h", "main"),
        ("a", "i", "extra"),
        ("b", "k", "main"),
    ]
