"""The queries of ``mirror.state.shown.origins``."""

from __future__ import annotations

import pytest

from harness.state_rows import add, add_file, add_revisions
from mirror.core.names import ProjectName
from mirror.state.shown.origins import FirstSeen, NamedFile, load_files, load_origins, load_shown, load_summary
from mirror.state.store import Store

A = ProjectName("a")


@pytest.fixture
async def indexes(store: Store) -> None:
    """``main`` with a (1) and b (2), ``extra`` with a (3)."""
    await add_revisions(store, 5)
    for source, name in ((1, "main"), (2, "extra")):
        await add(store, "source", name=name, position=source)
    for source, name in ((1, "a"), (1, "b"), (2, "a")):
        await add(store, "project", source=source, name=name)


async def test_load_origins(store: Store, indexes: None) -> None:
    """A file was first seen when its bytes first had this name, also in the index before; its index is that of now."""
    await add_file(store, "f", "x", valid_from=2, valid_to=3)
    await add_file(store, "f", "y", valid_from=1, valid_to=2)
    await add_file(store, "g", "x", valid_from=1, valid_to=2)
    await add_file(store, "f", "x", valid_from=1, valid_to=2, project=2)
    await add_file(store, "f", "x", valid_from=4)
    await add_file(store, "k", "x", valid_from=5, project=3)
    await add_file(store, "other", "x", valid_from=5, project=2)
    await add(store, "project", source=1, name="gone")
    await add_file(store, "g", "x", valid_from=1, valid_to=5, project=4)
    await add_file(store, "t", "x", valid_from=2, valid_to=4)
    await add_file(store, "t", "x", valid_from=4, project=3)
    assert await load_origins(store, A) == {
        ("f", "x"): FirstSeen(index="main", at=20.0),
        ("k", "x"): FirstSeen(index="extra", at=50.0),
        ("t", "x"): FirstSeen(index="extra", at=20.0),
    }
    assert await load_origins(store, ProjectName("gone")) == {}


async def test_load_shown(store: Store) -> None:
    """Projects with a published page are found, of any number of names."""
    for name, published in (("a", 1), ("b", 0), ("c", 1)):
        await add(store, "page", name=name, published=published)
    await store.connection.execute("UPDATE about SET shown = 0 WHERE name = 'b'")
    assert await load_shown(store, ["a", "b", *(f"n{number}" for number in range(600))]) == {"a"}


async def test_load_summary(store: Store) -> None:
    """The summary is the project's own."""
    await add(store, "about", name="a", summary="s", words="a")
    await add(store, "about", name="b", words="b")
    assert await load_summary(store, A) == "s"
    assert await load_summary(store, ProjectName("b")) is None
    assert await load_summary(store, ProjectName("c")) is None


async def test_load_files(store: Store, indexes: None) -> None:
    """Published files of all indexes are found by project."""
    await add_file(store, "f", "x", yanked="y")
    await add_file(store, "f", "x", valid_to=2)
    await add_file(store, "k", "x", project=3)
    await add_file(store, "b", "x", project=2)
    assert await load_files(store, ["a", "none"]) == {
        "a": [NamedFile("a", "f", "y"), NamedFile("a", "k", None)],
        "none": [],
    }
