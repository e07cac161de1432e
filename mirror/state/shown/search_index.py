"""The index of the search: three letters each of the words of ``about``, by FTS5.

Triggers on ``about`` keep it current in the writer's own transactions. Where SQLite has no FTS5
with trigrams (an option of its build; since 3.34), the triggers are dropped, so that the writer
goes on; the next program that can builds the index again.
"""

from __future__ import annotations

import sqlite3
from typing import Final

import aiosqlite

from mirror.state.rows import values_of

HAS_INDEX: Final = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'search_changed')"
"""Whether the index is there and current."""

_FORGET: Final = """
    INSERT INTO search (search, rowid, words)
        SELECT 'delete', old.id, old.words WHERE old.shown = 1;"""
_LEARN: Final = "INSERT INTO search (rowid, words) SELECT new.id, new.words WHERE new.shown = 1;"
_MAKE: Final = f"""
    DROP TABLE IF EXISTS search;
    CREATE VIEW IF NOT EXISTS searched AS SELECT id, words FROM about WHERE shown = 1;
    CREATE VIRTUAL TABLE search USING fts5 (
        words, content = 'searched', content_rowid = 'id', tokenize = 'trigram', detail = 'none');
    INSERT INTO search (search) VALUES ('rebuild');
    CREATE TRIGGER search_added AFTER INSERT ON about BEGIN {_LEARN} END;
    CREATE TRIGGER search_removed AFTER DELETE ON about BEGIN {_FORGET} END;
    CREATE TRIGGER search_changed AFTER UPDATE OF shown, words ON about
        WHEN old.shown != new.shown OR old.words != new.words BEGIN {_FORGET} {_LEARN} END;
    """
# The table itself stays: SQLite can't drop it without the module.
_LEAVE: Final = """
    DROP TRIGGER IF EXISTS search_added;
    DROP TRIGGER IF EXISTS search_removed;
    DROP TRIGGER IF EXISTS search_changed;
    """


async def keep_index(connection: aiosqlite.Connection) -> None:
    """Make the index where it is missing and can be; leave it where it can't be kept current."""
    [has] = values_of(await connection.execute_fetchall(HAS_INDEX))
    can = await _can_index(connection)
    if can != has:
        await connection.executescript(f"BEGIN IMMEDIATE;{_MAKE if can else _LEAVE}COMMIT;")


async def leave_index(connection: aiosqlite.Connection) -> None:
    """Keep the index no longer, so that the table is scanned."""
    await connection.executescript(f"BEGIN IMMEDIATE;{_LEAVE}COMMIT;")


async def _can_index(connection: aiosqlite.Connection) -> bool:
    try:
        await connection.executescript(
            "CREATE VIRTUAL TABLE temp.trial USING fts5 (words, tokenize = 'trigram');"
            "DROP TABLE temp.trial;"
        )
    except sqlite3.OperationalError:
        return False
    return True
