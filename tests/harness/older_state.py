"""A state as an earlier version of the program left it: for tests of what an upgrade makes of it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from mirror.core.pages.unknown_keys import without_url_secrets_json
from mirror.state.schema import MIGRATIONS


def downgrade(state: Path, version: int) -> None:
    """Give a state the tables of an earlier version, with what they can hold of its rows."""
    older = state.with_suffix(".older")
    with closing(sqlite3.connect(older)) as connection:
        connection.create_function("without_url_secrets", 1, without_url_secrets_json, deterministic=True)
        for script in MIGRATIONS[:version]:
            connection.executescript(script)
        triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("ATTACH ? AS newer", (str(state),))
        for (table,) in connection.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'").fetchall():
            known = _columns(connection, "newer", table)
            shared = ", ".join(c for c in _columns(connection, "main", table) if c in known)
            connection.execute(f"INSERT INTO main.{table} ({shared}) SELECT {shared} FROM newer.{table}")
        for _, sql in triggers:
            connection.execute(sql)
        connection.execute(f"PRAGMA user_version = {version}")
        connection.commit()
    for suffix in ("-wal", "-shm"):
        Path(f"{state}{suffix}").unlink(missing_ok=True)
    older.replace(state)


def _columns(connection: sqlite3.Connection, schema: str, table: str) -> list[str]:
    return [row[1] for row in connection.execute(f"PRAGMA {schema}.table_info({table})")]
