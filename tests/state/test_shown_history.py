"""The history of the published files, as pages and API show it."""

from __future__ import annotations

import pytest

from harness.state_rows import add, add_file, add_revisions
from mirror.core.names import ProjectName
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
from mirror.state.shown.origins import FirstSeen, NamedFile, load_files, load_origins, load_shown, load_summary
from mirror.state.store import Store

A, B, C = "a" * 64, "b" * 64, "c" * 64


@pytest.fixture
async def seeded(store: Store) -> Store:
    """Revisions 1 to 6: added, replaced, yanked, removed, and taken over by another index."""
    await add_revisions(store, 6)
    for number in (1, 2, 3):
        await add(store, "cycle", id=number, outcome="complete")
    await add(store, "source", id=1, name="first")
    await add(store, "source", id=2, name="second", position=1)
    await add(store, "project", id=1, name="p", source=1)
    await add(store, "project", id=2, name="p", source=2)
    await add(store, "project", id=3, name="q", source=1)
    await add_file(store, "p-1.zip", A, project=1, valid_from=1, valid_to=2, size=10)
    await add_file(store, "p-1.zip", B, project=1, valid_from=2, valid_to=3, size=20)
    await add_file(store, "p-1.zip", B, project=1, valid_from=3, valid_to=4, size=20, yanked="bad")
    await add_file(store, "p-1.zip", B, project=2, source=2, valid_from=4, size=20)
    await add_file(store, "q-1.zip", C, project=3, valid_from=1, valid_to=5, size=5)
    await add_file(store, "q-2.zip", C, project=3, valid_from=6, valid_to=6, size=5)
    return store


def change(revision: int, project: str, action: Action, **values: object) -> FileChange:
    return FileChange(
        revision=revision, at=revision * 10.0, project=project, filename=f"{project}-1.zip", action=action, **values
    )


CHANGES = [
    change(1, "p", Action.ADD),
    change(1, "q", Action.ADD),
    change(2, "p", Action.REPLACE),
    change(3, "p", Action.RELABEL, yanked="bad"),
    change(4, "p", Action.RELABEL, is_unyanked=True),
    change(5, "q", Action.REMOVE),
]


async def test_changes_have_their_kind(seeded: Store) -> None:
    """A file that opens and closes in one revision was replaced or relabelled, also by another index; one that never was
    published is no change.
    """
    assert await load_changes_between(seeded, 1, 6) == CHANGES
    assert await load_changes_between(seeded, 2, 3) == CHANGES[2:4]


@pytest.mark.parametrize(
    ("since", "limit", "changes", "revision", "more"),
    [
        (0, 1, slice(0, 2), 1, True),
        (0, 2, slice(0, 2), 1, True),
        (0, 3, slice(0, 3), 2, True),
        (1, 2, slice(2, 4), 3, True),
        (3, 9, slice(4, 6), 6, False),
        (6, 9, slice(0, 0), 6, False),
        (99, 9, slice(0, 0), 99, False),
    ],
)
async def test_changes_come_in_whole_revisions(
    seeded: Store, since: int, limit: int, changes: slice, revision: int, more: bool
) -> None:
    """Whole revisions are returned until the limit is reached; ``since`` is exclusive."""
    await seeded.connection.execute("DELETE FROM entry WHERE filename = 'q-2.zip'")
    found = await load_changes(seeded, since, limit)
    assert found == ChangeList(revision=revision, changes=tuple(CHANGES[changes]), more=more)


async def test_the_kept_history_begins_where_prune_says(store: Store) -> None:
    """Nothing was forgotten in a new state."""
    assert await load_history_start(store) == 0
    await add(store, "meta", key="history_from", value="7")
    assert await load_history_start(store) == 7


async def test_cycles_that_changed_the_pages(seeded: Store) -> None:
    """The newest is first, and only those with changes."""
    await seeded.connection.execute("UPDATE revision SET cycle = (id + 1) / 2")
    await seeded.connection.execute("DELETE FROM entry WHERE filename = 'q-2.zip'")
    cycles = [
        ChangedCycle(cycle=3, first=5, last=5, at=50.0, outcome="complete"),
        ChangedCycle(cycle=2, first=3, last=4, at=40.0, outcome="complete"),
        ChangedCycle(cycle=1, first=1, last=2, at=20.0, outcome="complete"),
    ]
    assert await load_changed_cycles(seeded, before=None, limit=9) == cycles
    assert await load_changed_cycles(seeded, before=3, limit=1) == cycles[1:2]
    assert await count_changed_rows(seeded, 1, 2) == ChangedRows(opened=3, closed=1)


async def test_growth_by_days(seeded: Store) -> None:
    """Each day with a change has what was published at its end."""
    await seeded.connection.execute("UPDATE revision SET at = id * 86400.0")
    assert await load_growth(seeded) == [
        GrowthPoint(day=1, files=2, size=15),
        GrowthPoint(day=2, files=2, size=25),
        GrowthPoint(day=3, files=2, size=25),
        GrowthPoint(day=4, files=2, size=25),
        GrowthPoint(day=5, files=1, size=20),
        GrowthPoint(day=6, files=1, size=20),
    ]


async def test_origins_remember_the_first_sight(seeded: Store) -> None:
    """The index is that of now; the time is that of the first publication with these bytes by it."""
    assert await load_origins(seeded, ProjectName("p")) == {("p-1.zip", B): FirstSeen(index="second", at=20.0)}
    assert await load_origins(seeded, ProjectName("q")) == {}


async def test_facts_for_hits(seeded: Store) -> None:
    """Published names, files and summaries of some projects."""
    await add(seeded, "page", name="p")
    await seeded.connection.execute("UPDATE about SET summary = 'text' WHERE name = 'p'")
    assert await load_shown(seeded, ["p", "q"]) == {"p"}
    assert await load_files(seeded, ["p", "q"]) == {"p": [NamedFile("p", "p-1.zip", None)], "q": []}
    assert await load_summary(seeded, ProjectName("p")) == "text"
    assert await load_summary(seeded, ProjectName("q")) is None
