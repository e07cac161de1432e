"""Decides which blobs may be served, for each request, also while another process writes the state.

Invariant: an answer is never older than the question. Where SQLite can keep a connection current,
one stays open. Where it can't (a read-only file system without the database's side files), each
question that finds the file changed opens it again, and a reading during a change is repeated.

Blocking, one thread at a time. Raises ``StateError`` where the state can't be read.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from enum import Enum
from pathlib import Path
from typing import Any, Final

from mirror.core.names import Sha256
from mirror.errors import StateError
from mirror.state.schema import SCHEMA_VERSION
from mirror.state.store import state_errors

_TRIES: Final = 20
"""How often a database that changes meanwhile is read again."""

# By the name of the project: a withdrawal by the owner also withdraws the files of later indexes.
_QUESTION: Final = """
    SELECT e.valid_to IS NULL OR NOT EXISTS (
        SELECT 1 FROM project w JOIN source o ON o.id = w.source
        WHERE w.name = p.name AND o.position <= s.position AND (w.withdrawn IS NOT NULL OR w.status = 'quarantined'))
    FROM entry e JOIN project p ON p.id = e.project JOIN source s ON s.id = p.source
    WHERE e.sha256 = ?1 AND e.filename = ?2 AND e.valid_to IS {} NULL"""
_IS_BLOB: Final = "SELECT 1 FROM blob WHERE sha256 = ? AND filename = ?"


class Verdict(Enum):
    """The state's verdict on a blob."""

    SERVED = "served"
    UNKNOWN = "unknown"
    WITHDRAWN = "withdrawn"


class BlobState:
    """The state as the server asks it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[Any, ...] = ()
        self._is_frozen = False

    def exists(self) -> bool:
        """Return whether there is a state at all; True where permissions hide it."""
        try:
            self._path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True
        return True

    def judge(self, sha256: Sha256, filename: str) -> Verdict:
        """Return the state's current verdict on a blob."""
        with state_errors(self._path):
            try:
                return self._judge(sha256, filename)
            except sqlite3.DatabaseError:
                self.close()
                raise

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
        self._connection, self._opened = None, ()

    def _judge(self, sha256: Sha256, filename: str) -> Verdict:
        for _ in range(_TRIES):
            connection = self._current()
            try:
                verdict = _ask(connection, sha256, filename)
            except sqlite3.DatabaseError:
                if not self._is_frozen or self._signature() == self._opened:
                    raise
            else:
                if not self._is_frozen or self._signature() == self._opened:
                    return verdict
            self.close()  # it changed while it was read
        raise StateError(path=str(self._path), problem="it changes all the time and can't be read")

    def _current(self) -> sqlite3.Connection:
        """Return a connection to the database that is there now."""
        signature = self._signature()
        # Of a database that SQLite keeps current only another file in its place counts.
        is_same = signature == self._opened if self._is_frozen else signature[:2] == self._opened[:2]
        if self._connection is not None and is_same:
            return self._connection
        self.close()
        mode = self._mode(has_wal=signature[-1])
        connection = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA query_only = ON")
            connection.execute("PRAGMA busy_timeout = 5000")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.DatabaseError:
            connection.close()
            raise
        if not 2 <= version <= SCHEMA_VERSION:
            connection.close()
            raise StateError(path=str(self._path), problem=f"of another version of this program (state {version})")
        self._connection, self._opened, self._is_frozen = connection, signature, "immutable" in mode
        return connection

    def _mode(self, *, has_wal: bool) -> str:
        if os.access(self._path, os.W_OK) and os.access(self._path.parent, os.W_OK):
            return "rw"
        # Without its side files, and where they can't be made, SQLite reads the database only as
        # immutable.
        return "ro" if has_wal else "ro&immutable=1"

    def _signature(self) -> tuple[Any, ...]:
        try:
            found = self._path.stat()
        except OSError as exc:
            raise StateError(path=str(self._path), problem=f"can't be read: {exc.strerror}") from exc
        has_wal = self._path.with_name(f"{self._path.name}-wal").exists()
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, has_wal


def _ask(connection: sqlite3.Connection, sha256: Sha256, filename: str) -> Verdict:
    if connection.execute(_IS_BLOB, (sha256, filename)).fetchone() is None:
        return Verdict.UNKNOWN
    question = f"{_QUESTION.format('')} UNION ALL {_QUESTION.format('NOT')}"
    rows = connection.execute(question, (sha256, filename)).fetchall()
    return Verdict.SERVED if not rows or any(row[0] for row in rows) else Verdict.WITHDRAWN
