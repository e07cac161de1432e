"""Rows of a state, entered by their columns, for the tests of its queries."""

from __future__ import annotations

from typing import Any

from mirror.state.store import Row, Store

_DEFAULTS: dict[str, dict[str, Any]] = {
    "revision": {"cycle": 1, "at": 0.0},
    "cycle": {"started_at": 0.0},
    "source": {"url": "https://index/simple/", "position": 0},
    "project": {"source": 1},
    "entry": {"project": 1, "source": 1, "size": 1, "digests": "", "url": "https://index/f", "valid_from": 1},
    "blob": {"size": 1, "stored": 0.0, "verified": 0.0},
    "page": {"revision": 1, "marked": 0, "published": 1},
    "failure": {
        "source": 1, "filename": "", "reason": "not-found", "detail": "",
        "first_at": 0.0, "last_at": 0.0, "attempts": 1, "next_at": 0.0,
    },
    "snapshot": {"kind": "snapshot", "made_at": 0.0, "ready": 1},
    "shipment": {
        "site": "north", "chain": "c", "digest": "d", "state": "{}", "volumes": 1, "bytes": 1, "made_at": 0.0,
        "sequence": 1,
    },
    "unserved": {"filename": "", "reason": "not-served", "detail": "", "literal": 0, "first_at": 0.0},
}  # fmt: skip


async def add(store: Store, table: str, **values: Any) -> int:
    """Insert a row with these columns and the defaults of its table; return its number."""
    row = {**_DEFAULTS.get(table, {}), **values}
    columns, marks = ", ".join(row), ", ".join("?" * len(row))
    async with store.connection.execute(
        f"INSERT INTO {table} ({columns}) VALUES ({marks})", tuple(row.values())
    ) as cursor:
        assert cursor.lastrowid is not None
        return cursor.lastrowid


async def add_revisions(store: Store, number: int) -> None:
    """Make the revisions 1 to ``number``; revision n is of cycle n, at n * 10 seconds."""
    for one in range(1, number + 1):
        await add(store, "revision", id=one, cycle=one, at=one * 10.0)


async def add_file(store: Store, filename: str, sha256: str, **values: Any) -> int:
    """Insert an entry and its blob, where the blob is not there yet."""
    await store.connection.execute(
        "INSERT OR IGNORE INTO blob (sha256, filename, size, stored, verified) VALUES (?, ?, 1, 0.0, 0.0)",
        (sha256, filename),
    )
    return await add(store, "entry", filename=filename, sha256=sha256, **values)


async def rows_of(store: Store, table: str, columns: str) -> list[Row]:
    """Return some columns of a table, sorted."""
    return sorted(await store.rows(f"SELECT {columns} FROM {table}"), key=repr)
