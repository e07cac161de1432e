"""The queries of ``mirror.state.shown.history``."""

from __future__ import annotations

from typing import Any

import pytest

from harness.state_rows import add, add_file
from mirror.state.shown.history import (
    Action,
    ChangedCycle,
    ChangedRows,
    ChangeList,
    FileChange,
    GrowthPoint,
    count_changed_rows,
    load_changed_cycles,
    load_changes,
    load_changes_between,
    load_growth,
    load_history_start,
)
from mirror.state.store import Store

DAY = 86_400.0


def change(revision: int, filename: str, action: Action, *, project: str = "a", **values: Any) -> FileChange:
    at = revision * DAY / 2
    return FileChange(revision=revision, at=at, project=project, filename=filename, action=action, **values)


CHANGES = [
    change(1, "f", Action.ADD),
    change(1, "g", Action.ADD),
    change(1, "t", Action.ADD, project="t"),
    change(2, "f", Action.ADD, project="b"),
    change(2, "f", Action.REPLACE),
    change(2, "g", Action.RELABEL, yanked="bad"),
    change(4, "g", Action.RELABEL, is_unyanked=True),
    change(4, "t", Action.RELABEL, project="t", is_unyanked=True),
    change(5, "f", Action.REMOVE),
]
CHANGES.sort(key=lambda one: (one.revision, one.project, one.filename))


@pytest.fixture
async def history(store: Store) -> None:
    """Six revisions at two a day, of the cycles 1 to 3 two each; the revisions 3 and 6 change no file.

    In revision 4 another index takes the project ``t`` over, with the same file.
    """
    for revision in range(1, 7):
        await add(store, "revision", id=revision, cycle=(revision + 1) // 2, at=revision * DAY / 2)
    await add(store, "source", name="main")
    await add(store, "source", name="later", position=1)
    await add(store, "cycle", outcome="ok")
    await add(store, "cycle")
    for name in "abt":
        await add(store, "project", name=name)
    await add(store, "project", source=2, name="t")
    await add_file(store, "f", "x", size=10, valid_from=1, valid_to=2)
    await add_file(store, "f", "y", size=20, valid_from=2, valid_to=5)
    await add_file(store, "g", "x", size=1, valid_from=1, valid_to=2)
    await add_file(store, "g", "x", size=1, valid_from=2, valid_to=4, yanked="bad")
    await add_file(store, "g", "x", size=1, valid_from=4)
    await add_file(store, "f", "x", size=100, valid_from=2, project=2)
    await add_file(store, "h", "x", size=1000, valid_from=3, valid_to=3)
    await add_file(store, "t", "x", size=7, valid_from=1, valid_to=4, project=3, yanked="bad")
    await add_file(store, "t", "x", size=7, valid_from=4, project=4, source=2)


@pytest.mark.parametrize(("values", "start"), [([], 0), ([("history_from", "12"), ("other", "99")], 12)])
async def test_load_history_start(store: Store, values: list[tuple[str, str]], start: int) -> None:
    """Without a mark all of the history is known."""
    for key, value in values:
        await add(store, "meta", key=key, value=value)
    assert await load_history_start(store) == start


@pytest.mark.parametrize(("first", "last"), [(1, 6), (2, 4), (3, 3), (5, 5)])
async def test_load_changes_between(store: Store, history: None, first: int, last: int) -> None:
    """Files are added, replaced, relabelled (by another index too) and removed; a row that no revision ever showed is
    no change.
    """
    found = await load_changes_between(store, first, last)
    assert found == [one for one in CHANGES if first <= one.revision <= last]


@pytest.mark.parametrize(
    ("since", "limit", "number", "revision", "more"),
    [
        (0, 99, 9, 6, False),
        (0, 1, 3, 1, True),
        (0, 3, 3, 1, True),
        (0, 4, 6, 2, True),
        (1, 3, 3, 2, True),
        (2, 1, 0, 3, True),
        (3, 9, 3, 6, False),
        (4, 9, 1, 6, False),
        (5, 9, 0, 6, False),
        (6, 9, 0, 6, False),
        (99, 9, 0, 99, False),
    ],
)
async def test_load_changes(
    store: Store, history: None, since: int, limit: int, number: int, revision: int, *, more: bool
) -> None:
    """Whole revisions are listed until there are enough changes; the last one is where to go on."""
    changes = [one for one in CHANGES if one.revision > since][:number]
    assert await load_changes(store, since, limit) == ChangeList(revision=revision, changes=tuple(changes), more=more)


@pytest.mark.parametrize(
    ("first", "last", "opened", "closed"), [(1, 6, 9, 6), (2, 4, 6, 5), (1, 2, 6, 2), (5, 5, 0, 1), (6, 9, 0, 0)]
)
async def test_count_changed_rows(store: Store, history: None, first: int, last: int, opened: int, closed: int) -> None:
    """The rows of some revisions are counted."""
    assert await count_changed_rows(store, first, last) == ChangedRows(opened=opened, closed=closed)


CYCLES = [
    ChangedCycle(cycle=3, first=5, last=5, at=5 * DAY / 2),
    ChangedCycle(cycle=2, first=3, last=4, at=4 * DAY / 2),
    ChangedCycle(cycle=1, first=1, last=2, at=2 * DAY / 2, outcome="ok"),
]


@pytest.mark.parametrize(
    ("before", "limit", "expected"), [(None, 9, CYCLES), (None, 1, CYCLES[:1]), (3, 9, CYCLES[1:]), (3, 1, CYCLES[1:2])]
)
async def test_load_changed_cycles(
    store: Store, history: None, before: int | None, limit: int, expected: list[ChangedCycle]
) -> None:
    """Cycles have the revisions that changed a page, the newest cycle first."""
    assert await load_changed_cycles(store, before=before, limit=limit) == expected


@pytest.mark.parametrize(
    ("revisions_a_day", "expected"),
    [
        (2, [(0, 3, 18), (1, 4, 128), (2, 3, 108)]),
        (1, [(1, 3, 18), (2, 4, 128), (3, 4, 128), (4, 4, 128), (5, 3, 108)]),
    ],
)
async def test_load_growth(
    store: Store, history: None, revisions_a_day: int, expected: list[tuple[int, int, int]]
) -> None:
    """Each day with a change, of labels too, has the files and bytes at its end."""
    await store.connection.execute(f"UPDATE revision SET at = id * {DAY / revisions_a_day}")
    assert await load_growth(store) == [GrowthPoint(day=day, files=files, size=size) for day, files, size in expected]
