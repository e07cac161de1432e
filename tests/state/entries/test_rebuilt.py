"""The queries of ``mirror.state.entries.rebuilt``."""

from __future__ import annotations

from typing import Any

import pytest

from harness.state_rows import add, add_file, add_revisions, rows_of
from mirror.core.names import ProjectName
from mirror.state.entries.rebuilt import (
    enter_unclaimed_projects,
    is_rebuild_unfinished,
    load_failed_filenames,
    load_judgeable,
    load_unclaimed,
    record_rebuilt_end,
    record_rebuilt_start,
    record_unlisted_blobs,
    settle_empty,
)
from mirror.state.listing.sources import UNCLAIMED, load_sources
from mirror.state.store import Store

A, B, C, D = (ProjectName(name) for name in "abcd")


async def test_record_rebuilt_start(store: Store) -> None:
    """Revisions go on where the pages stopped, and the source of unclaimed entries is made."""
    await add(store, "source", name="main")
    assert await record_rebuilt_start(store, revision=5, now=3.0) == 2
    assert await rows_of(store, "revision", "*") == [(5, 0, 3.0)]
    assert await rows_of(store, "source", "id, name, url, position, configured") == [
        (1, "main", "https://index/simple/", 0, 1),
        (2, UNCLAIMED, "", 1000000, 0),
    ]
    assert await rows_of(store, "meta", "*") == [("rebuilding", "1")]


async def test_record_rebuilt_end(store: Store) -> None:
    """Only the mark of the rebuild goes."""
    await record_rebuilt_start(store, revision=0, now=3.0)
    await add(store, "meta", key="other", value="1")
    await record_rebuilt_end(store)
    assert await rows_of(store, "meta", "*") == [("other", "1")]
    assert await rows_of(store, "revision", "id") == [(1,)]


async def test_is_rebuild_unfinished(store: Store) -> None:
    """A rebuild is unfinished from its start to its end."""
    found = [await is_rebuild_unfinished(store)]
    await record_rebuilt_start(store, revision=1, now=0.0)
    found.append(await is_rebuild_unfinished(store))
    await record_rebuilt_end(store)
    assert [*found, await is_rebuild_unfinished(store)] == [False, True, False]


async def test_enter_unclaimed_projects(store: Store) -> None:
    """Projects and pages are made; a project without files counts as listed, and a known page stays."""
    await add(store, "source", name="main")
    await add(store, "source", name=UNCLAIMED, configured=0)
    await add(store, "project", name="b")
    await add(store, "project", name="a")
    await add(store, "page", name="b", revision=4, marked=0, published=0)
    assert await enter_unclaimed_projects(store, 2, [A, B], {B}) == {A: 3, B: 4}
    assert await rows_of(store, "project", "id, source, name, listed, wanted") == [
        (1, 1, "b", 1, 1),
        (2, 1, "a", 1, 1),
        (3, 2, "a", 0, 0),
        (4, 2, "b", 1, 0),
    ]
    assert await rows_of(store, "page", "*") == [("a", 0, 1, 1), ("b", 4, 0, 0)]


async def test_record_unlisted_blobs(store: Store) -> None:
    """A known blob stays as it is."""
    await add(store, "blob", sha256="a", filename="f", size=9)
    await record_unlisted_blobs(store, [("a", "f", 1, None), ("a", "g", 2, "m")], now=5.0)
    columns = "sha256, filename, size, metadata_sha256, stored, verified, unlisted_since"
    assert await rows_of(store, "blob", columns) == [
        ("a", "f", 9, None, 0.0, 0.0, None),
        ("a", "g", 2, "m", 5.0, 5.0, 5.0),
    ]


async def test_load_unclaimed(store: Store) -> None:
    """The source is returned while one of its entries is open."""
    await add_revisions(store, 2)
    await add(store, "source", name="main")
    await add(store, "source", name=UNCLAIMED, configured=0)
    await add(store, "project", name="a")
    await add(store, "project", source=2, name="a")
    await add_file(store, "f", "x", project=1, source=1)
    await add_file(store, "f", "x", project=2, source=2, valid_to=2)
    assert await load_unclaimed(store) is None
    await add_file(store, "g", "x", project=2, source=2)
    assert await load_unclaimed(store) == (await load_sources(store))[1]


@pytest.fixture
async def unclaimed(store: Store) -> None:
    """Unclaimed projects a (1) and b (2) of source 1; ``main`` is source 2, ``former`` source 3."""
    await add_revisions(store, 2)
    await add(store, "source", name=UNCLAIMED, configured=0, position=9)
    await add(store, "source", name="main", position=1)
    await add(store, "source", name="former", position=2, configured=0)
    for name in "ab":
        await add(store, "project", name=name, listed=1)


class TestLoadJudgeable:
    """``load_judgeable``: the unclaimed projects whose absence can be seen."""

    @pytest.mark.parametrize(
        ("values", "is_judgeable"),
        [
            ({}, False),
            ({"digest": "d"}, True),
            ({"source": 3}, True),
            ({"listed": 0}, True),
            ({"wanted": 0}, True),
            ({"name": "c"}, True),
        ],
    )
    async def test_listed(self, store: Store, unclaimed: None, values: dict[str, Any], is_judgeable: bool) -> None:
        """Each index of the configuration that lists and wants the project must have its page read."""
        await add_file(store, "f", "x", project=1)
        await add(store, "project", **{"source": 2, "name": "a", **values})
        assert await load_judgeable(store, 1) == ([(1, A)] if is_judgeable else [])

    async def test_others(self, store: Store, unclaimed: None) -> None:
        """A project needs an open entry of this source, and a page that did not fail."""
        third, fourth = [await add(store, "project", name=name) for name in "cd"]
        other = await add(store, "project", source=3, name="e")
        await add_file(store, "f", "x", project=1, valid_to=2)
        for project in (2, third, fourth, other):
            await add_file(store, "f", "x", project=project)
        await add(store, "failure", source=2, project="c")
        await add(store, "failure", source=2, project="d", filename="f")
        assert await load_judgeable(store, 1) == [(2, B), (fourth, D)]


async def test_load_failed_filenames(store: Store) -> None:
    """The page itself is no file."""
    for project, filename in (("a", ""), ("a", "f"), ("b", "g")):
        await add(store, "failure", project=project, filename=filename)
    await add(store, "failure", source=2, project="a", filename="h")
    assert await load_failed_filenames(store, A) == {"f", "h"}


class TestSettleEmpty:
    """``settle_empty``: the unclaimed projects that show no file."""

    async def settle(self, store: Store, cycle: int) -> tuple[list[Any], list[Any]]:
        await settle_empty(store, cycle=cycle, now=cycle * 10.0)
        return await rows_of(store, "project", "id, listed, absent_since"), await rows_of(store, "page", "*")

    async def test_absent(self, store: Store, unclaimed: None) -> None:
        """What no index lists in two cycles leaves; the same cycle counts once."""
        assert await self.settle(store, 5) == ([(1, 1, 5), (2, 1, 5)], [])
        assert await self.settle(store, 5) == ([(1, 1, 5), (2, 1, 5)], [])
        await store.connection.execute("UPDATE project SET absent_since = 7 WHERE id = 2")
        assert await self.settle(store, 6) == ([(1, 0, None), (2, 1, 7)], [("a", 3, 1, 0)])
        assert (await rows_of(store, "revision", "*"))[2:] == [(3, 6, 60.0)]

    @pytest.mark.parametrize(
        ("values", "rows"),
        [
            ({}, (1, 0, None)),
            ({"source": 3}, (1, 1, 5)),
            ({"listed": 0}, (1, 1, 5)),
            ({"name": "c"}, (1, 1, 5)),
        ],
    )
    async def test_listed(self, store: Store, unclaimed: None, values: dict[str, Any], rows: tuple[Any, ...]) -> None:
        """What an index of the configuration lists is that index's at once."""
        await add(store, "project", **{"source": 2, "name": "a", **values})
        projects, pages = await self.settle(store, 5)
        assert projects[:2] == [rows, (2, 1, 5)]
        assert [page[0] for page in pages] == ([] if rows[1] else ["a"])

    async def test_others(self, store: Store, unclaimed: None) -> None:
        """Projects of other indexes, and those that are not listed, stay as they are."""
        await store.connection.execute("UPDATE project SET listed = 0")
        await add(store, "project", source=3, name="a")
        assert await self.settle(store, 5) == ([(1, 0, None), (2, 0, None), (3, 1, None)], [])
