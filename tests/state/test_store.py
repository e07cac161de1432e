"""The connection: transactions, damage, copies."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from harness.state_rows import add, rows_of
from mirror.core.files.kept_links import ABSOLUTE_LINKS, KeptLinks
from mirror.errors import StateError
from mirror.state import store as module
from mirror.state.parameters import chunks, marks
from mirror.state.schema import SCHEMA_VERSION
from mirror.state.store import (
    Store,
    check_integrity,
    check_quickly,
    is_of_an_older_version,
    open_copy,
    open_store_for_reading,
    state_errors,
)

INSERT = "INSERT INTO meta (key, value) VALUES (?, ?)"


async def test_transaction(store: Store) -> None:
    """A transaction is there as a whole or not at all, and has one revision."""
    async with store.transaction() as tx:
        assert await tx.execute(INSERT, ("a", "1")) == 1
        await tx.executemany(INSERT, iter([("b", "2"), ("c", "3")]))
        await tx.executemany(INSERT, [])
        assert [await tx.revision(5, 10.0), await tx.revision(6, 20.0)] == [1, 1]
    with pytest.raises(StateError, match="UNIQUE"):
        await enter_and_fail(store)
    assert await rows_of(store, "meta", "*") == [("a", "1"), ("b", "2"), ("c", "3")]
    assert await rows_of(store, "revision", "*") == [(1, 5, 10.0)]


async def enter_and_fail(store: Store) -> None:
    async with store.transaction() as tx:
        await tx.execute("DELETE FROM meta WHERE key = 'a'")
        await tx.revision(7, 30.0)
        await tx.execute(INSERT, ("b", "4"))


async def test_links_of(store: Store) -> None:
    """Only the links of a secret address are kept in another way."""
    links = KeptLinks(secret_root="https://index/secret/")
    store.links = {2: links}
    async with store.transaction() as tx:
        assert (tx.links_of(2), tx.links_of(1)) == (links, ABSOLUTE_LINKS)


@pytest.mark.parametrize(("small", "large"), [(1 << 30, 1 << 30), (0, 1 << 30), (0, 0)])
async def test_damage(store: Store, monkeypatch: pytest.MonkeyPatch, small: int, large: int) -> None:
    """Damage of a table is found in a database of any size, and a whole one has none."""
    monkeypatch.setattr(module, "_SMALL_BYTES", small)
    monkeypatch.setattr(module, "_LARGE_BYTES", large)
    for number in range(1000):
        await add(store, "failure", project=f"p{number}", detail="d" * 100)
    await store.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    for check in (check_quickly, check_integrity):
        await check(store)
    await anyio.to_thread.run_sync(damage, store.path)
    await store.rows("PRAGMA cache_size = 0")
    for check in (check_quickly, check_integrity):
        with pytest.raises(StateError) as raised:
            await check(store)
        assert raised.value.is_damage


def damage(path: Path) -> None:
    """Overwrite a page of the ledger."""
    with closing(sqlite3.connect(path)) as db:
        [(page,)] = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'failure'")
        [(size,)] = db.execute("PRAGMA page_size")
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)


async def test_open_copy(store: Store) -> None:
    """A copy has all rows; its changes go nowhere."""
    await add(store, "meta", key="a", value="1")
    async with open_copy(store.path) as copy:
        await add(copy, "meta", key="b", value="2")
        assert await rows_of(copy, "meta", "key") == [("a",), ("b",)]
    assert await rows_of(store, "meta", "key") == [("a",)]


async def test_open_copy_of_nothing(tmp_path: Path) -> None:
    """Without a state the copy is a new one, and none is made."""
    async with open_copy(tmp_path / "state.db") as copy:
        assert await copy.value("SELECT count(*) FROM source") == 0
    assert not await anyio.Path(tmp_path / "state.db").exists()


async def test_state_that_is_just_being_made(tmp_path: Path) -> None:
    """Between its file and its tables a state is empty: a reader that comes then names what may be the matter."""
    path = tmp_path / "state.db"
    path.touch()
    with pytest.raises(StateError, match="it is empty: the first cycle is just making it, or its content was lost"):
        async with open_store_for_reading(path):
            pass
    assert path.read_bytes() == b""


@pytest.mark.parametrize(
    ("version", "is_older"), [(SCHEMA_VERSION, False), (SCHEMA_VERSION - 1, True), (1, True), (0, False)]
)
async def test_is_of_an_older_version(store: Store, version: int, *, is_older: bool) -> None:
    """A state of an older version is told from a new one."""
    await store.connection.execute(f"PRAGMA user_version = {version}")
    assert await is_of_an_older_version(store.path) is is_older


async def test_state_errors(store: Store) -> None:
    """Errors of SQLite become errors of the state, with its path."""
    with pytest.raises(StateError) as raised:
        await store.rows("SELECT 1 FROM no_table")
    assert (raised.value.path, raised.value.is_damage) == (str(store.path), True)
    with pytest.raises(StateError, match="check its file system"), state_errors(store.path):
        raise PermissionError


def test_chunks() -> None:
    """A list is cut into parts, in order; each value has a mark."""
    assert list(chunks(list(range(5)), 2)) == [[0, 1], [2, 3], [4]]
    assert [len(chunk) for chunk in chunks(range(1001))] == [500, 500, 1]
    assert list(chunks([], 2)) == []
    assert [marks([]), marks("a"), marks("abc")] == ["", "?", "?,?,?"]
