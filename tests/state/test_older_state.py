"""A state that an older version left is read without being changed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from mirror.state.missing.left_out import load_left_out
from mirror.state.schema import MIGRATIONS
from mirror.state.store import open_store, open_store_for_reading


@pytest.mark.parametrize("version", range(2, len(MIGRATIONS)))
async def test_reading(tmp_path: Path, version: int) -> None:
    """Reading commands work on the state of each older version, and leave its bytes as they are."""
    path = tmp_path / "state.db"
    make_state(path, version)
    before = path.stat()
    async with open_store_for_reading(path) as store:
        assert await store.rows("SELECT name, let_out FROM source") == [("main", None)]
        assert await load_left_out(store, 1) == ()
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (version,)


def make_state(path: Path, version: int) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.create_function("without_url_secrets", 1, lambda text: text)
        for script in MIGRATIONS[:version]:
            db.executescript(script)
        db.execute(f"PRAGMA user_version = {version}")
        db.execute("INSERT INTO source (name, url, position) VALUES ('main', 'https://index/simple/', 0)")


async def test_upgrade(tmp_path: Path) -> None:
    """A state that held secret links is rewritten as a whole when it is upgraded, once."""
    path = tmp_path / "state.db"
    make_state(path, 4)
    secret = "secret-signature" * 50
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(
            "INSERT INTO failure (source, project, filename, reason, detail, listed, first_at, last_at, attempts,"
            " next_at) VALUES (1, 'a', 'f', 'denied', '', ?, 0, 0, 1, 0)",
            (f"https://index/f?{secret}",),
        )
    async with open_store(path) as store:
        assert await store.values("SELECT key FROM meta") == []
        assert await store.value("PRAGMA user_version") == len(MIGRATIONS)
        assert await store.value("PRAGMA freelist_count") == 0
    assert secret.encode() not in await anyio.Path(path).read_bytes()
