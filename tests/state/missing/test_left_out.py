"""The queries of ``mirror.state.missing.left_out``."""

from __future__ import annotations

import pytest

from harness.state_rows import add, rows_of
from mirror.state.missing.left_out import (
    MAX_NAMES,
    LeftOut,
    count_left_out,
    enter_left_out,
    forget_left_out,
    left_out_rows,
    load_left_out,
)
from mirror.state.store import Store


@pytest.fixture
async def projects(store: Store) -> None:
    """Two projects of one index and one of another."""
    await add(store, "source", name="main")
    await add(store, "source", name="extra", position=1)
    for source, name in ((1, "a"), (1, "b"), (2, "a")):
        await add(store, "project", source=source, name=name, skipped=9)


async def test_enter_left_out(store: Store, projects: None) -> None:
    """What was left out of some pages replaces what was known of them; an unchanged project is not written."""
    await add(store, "left_out", project=1, rule="old", files=1, names='["x"]')
    await add(store, "left_out", project=2, rule="files", files=1, names='["y"]')
    await add(store, "left_out", project=3, rule="files", files=1, names='["z"]')
    await store.connection.execute("UPDATE project SET skipped = 1 WHERE id = 2")
    before = store.changes
    async with store.transaction() as tx:
        await enter_left_out(
            tx, {1: left_out_rows({"g": "files", "f": "files", "h": "size"}), 2: left_out_rows({"y": "files"})}
        )
    assert await rows_of(store, "left_out", "*") == [
        (1, "files", 2, '["f","g"]'),
        (1, "size", 1, '["h"]'),
        (2, "files", 1, '["y"]'),
        (3, "files", 1, '["z"]'),
    ]
    assert await rows_of(store, "project", "id, skipped") == [(1, 3), (2, 1), (3, 9)]
    assert (
        store.changes - before == 8
    )  # one row away, two new ones, each in its total; skipped of the first project twice


async def test_enter_left_out_of_a_page_that_left_out_nothing(store: Store, projects: None) -> None:
    """The count follows also where no rule had a row."""
    async with store.transaction() as tx:
        await enter_left_out(tx, {1: {}})
    assert await rows_of(store, "project", "id, skipped") == [(1, 0), (2, 9), (3, 9)]


async def test_enter_left_out_keeps_a_number_of_names(store: Store, projects: None) -> None:
    """The count is whole, the names are not."""
    names = [f"{number:05}" for number in range(MAX_NAMES + 1)]
    async with store.transaction() as tx:
        await enter_left_out(tx, {1: left_out_rows(dict.fromkeys(names, "files"))})
    assert await load_left_out(store, 1) == (
        LeftOut(rule="files", files=MAX_NAMES + 1, names=tuple(names[:MAX_NAMES])),
    )


async def test_forget_left_out(store: Store, projects: None) -> None:
    """What was left out of other projects stays."""
    for project in (1, 2):
        await add(store, "left_out", project=project, rule="files", files=1, names="[]")
    async with store.transaction() as tx:
        await forget_left_out(tx, [1])
    assert await rows_of(store, "left_out", "project") == [(2,)]
    assert await rows_of(store, "project", "id, skipped") == [(1, 0), (2, 9), (3, 9)]


async def test_load_left_out(store: Store, projects: None) -> None:
    """The rules of one project are sorted."""
    for project, rule in ((1, "size"), (1, "files"), (2, "files")):
        await add(store, "left_out", project=project, rule=rule, files=2, names=f'["{rule}"]')
    assert await load_left_out(store, 1) == (
        LeftOut(rule="files", files=2, names=("files",)),
        LeftOut(rule="size", files=2, names=("size",)),
    )


async def test_count_left_out(store: Store, projects: None) -> None:
    """The files of one index are counted by rule, in the projects that leave some out."""
    await add(store, "project", source=1, name="c", skipped=1)
    await add(store, "project", source=1, name="d", skipped=0)
    for project, rule, files in ((1, "size", 2), (1, "files", 5), (3, "files", 8), (4, "size", 3)):
        await add(store, "left_out", project=project, rule=rule, files=files, names="[]")
    found = await count_left_out(store, 1)
    assert list(found.items()) == [("files", 5), ("size", 5)]
