"""The queries of ``mirror.state.cycles``."""

from __future__ import annotations

import pytest

from harness.state_rows import add, rows_of
from mirror.state.cycles import (
    CycleRow,
    forget_cycle,
    load_killed_before,
    load_last_cycle,
    record_cycle_end,
    record_cycle_start,
)
from mirror.state.meta import load_meta, record_meta
from mirror.state.store import Store


async def test_record_cycle_start(store: Store) -> None:
    """A cycle gets the next number."""
    assert await record_cycle_start(store, 5.0, allow_shrink=False) == 1
    assert await record_cycle_start(store, 6.0, allow_shrink=True) == 2
    assert await rows_of(store, "cycle", "*") == [
        (1, 5.0, None, None, None, 0, None, None),
        (2, 6.0, None, None, None, 1, None, None),
    ]


async def test_forget_cycle(store: Store) -> None:
    """One cycle is forgotten; the others stay."""
    for _ in range(3):
        await add(store, "cycle")
    await forget_cycle(store, 2)
    assert await rows_of(store, "cycle", "id") == [(1,), (3,)]


async def test_record_cycle_end(store: Store) -> None:
    """The end of a cycle is entered in its own row."""
    await add(store, "cycle", started_at=1.0)
    await add(store, "cycle", started_at=2.0)
    await record_cycle_end(store, 1, 9.0, outcome="partial", exit_code=3, report="{}", problem="full")
    assert await rows_of(store, "cycle", "*") == [
        (1, 1.0, 9.0, "partial", 3, 0, "{}", "full"),
        (2, 2.0, None, None, None, 0, None, None),
    ]


async def test_load_last_cycle(store: Store) -> None:
    """The cycle that began last is returned, or the last one of those that ended."""
    assert await load_last_cycle(store) is None
    await add(store, "cycle", started_at=1.0, finished_at=2.0)
    await add(
        store, "cycle", started_at=3.0, finished_at=4.0, outcome="complete", exit_code=0, report="{}", problem="p"
    )
    await add(store, "cycle", started_at=5.0)
    assert await load_last_cycle(store) == CycleRow(
        id=3, started_at=5.0, finished_at=None, outcome=None, exit_code=None, report=None
    )
    assert await load_last_cycle(store, finished=True) == CycleRow(
        id=2, started_at=3.0, finished_at=4.0, outcome="complete", exit_code=0, report="{}", problem="p"
    )


@pytest.mark.parametrize(
    ("ends", "killed"),
    [
        ([], None),
        ([None], None),
        ([None, None], 1),
        ([1.0, None, None, None], 3),
        ([None, 1.0, None], None),
        ([1.0, None, 1.0, None], None),
        ([1.0, None, 1.0], None),
    ],
)
async def test_load_killed_before(store: Store, ends: list[float | None], killed: int | None) -> None:
    """The newest killed cycle after the last finished one is returned, without the very last cycle."""
    for finished_at in ends:
        await add(store, "cycle", finished_at=finished_at)
    assert await load_killed_before(store) == killed


async def test_load_meta(store: Store) -> None:
    """A value is found by its key."""
    await add(store, "meta", key="a", value="1")
    await add(store, "meta", key="b", value="2")
    assert [await load_meta(store, key) for key in ("a", "b", "c")] == ["1", "2", None]


async def test_record_meta(store: Store) -> None:
    """A value replaces the one of the same key."""
    for key, value in (("a", "1"), ("b", "2"), ("a", "3")):
        await record_meta(store, key, value)
    assert await rows_of(store, "meta", "*") == [("a", "3"), ("b", "2")]
