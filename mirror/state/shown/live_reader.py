"""Reads the state while another process writes it.

Invariant: an answer is never older than the call. Where SQLite can keep a connection current, one
stays open. Where it can't (a read-only file system without the database's side files), each call
that finds the file changed opens it again, and a reading during a change is repeated.

Blocking, one thread at a time. Raises ``StateError`` where the state can't be read.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from mirror.errors import StateError
from mirror.state.rows import structs_of, values_of
from mirror.state.schema import SCHEMA_VERSION
from mirror.state.store import Parameters, Row, Store, state_errors

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)

_TRIES: Final = 20
"""How often a database that changes meanwhile is read again."""
_OLDEST_VERSION: Final = 2


class LiveReader:
    """One connection for reading, opened again as needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[Any, ...] = ()
        self._is_frozen = False
        self._count = 0
        """Number of connections that were opened."""

    def exists(self) -> bool:
        """Return whether there is a state at all; True where permissions hide it."""
        try:
            self._path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True
        return True

    def read(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        """Return the result of a function, called again where the database changes meanwhile."""
        with state_errors(self._path):
            try:
                return self._read(ask)
            except sqlite3.DatabaseError:
                self.close()
                raise

    def signature(self) -> tuple[Any, ...]:
        """Return a value that differs once another process has committed a change."""

        def ask(connection: sqlite3.Connection) -> tuple[Any, ...]:
            if self._is_frozen:
                return self._opened
            [version] = values_of(connection.execute("PRAGMA data_version"))
            return (*self._opened[:2], self._count, version)

        return self.read(ask)

    def load(self, ask: Callable[[Store], Coroutine[Any, Any, T]]) -> T:
        """Return the result of a loading function of ``state``, all of it as of one moment.

        Raises ``StateError`` too where another version of this program wrote the state.
        """

        def as_of_now(connection: sqlite3.Connection) -> T:
            version = _version_of(connection)
            if version != SCHEMA_VERSION:
                raise _other_version(self._path, version)
            connection.execute("BEGIN")
            try:
                return _result_of(ask(_BlockingStore(self._path, connection)))
            finally:
                connection.execute("ROLLBACK")

        return self.read(as_of_now)

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
        self._connection, self._opened = None, ()

    def _read(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        for _ in range(_TRIES):
            connection = self._current()
            try:
                found = ask(connection)
            except sqlite3.DatabaseError:
                if not self._is_frozen or self._signature() == self._opened:
                    raise
            else:
                if not self._is_frozen or self._signature() == self._opened:
                    return found
            self.close()  # it changed while it was read
        raise StateError(path=str(self._path), problem="it changes all the time and can't be read")

    def _current(self) -> sqlite3.Connection:
        """Return a connection to the database that is there now."""
        signature = self._signature()
        # Of a database that SQLite keeps current only another file in its place counts.
        shown = len(signature) if self._is_frozen else 2
        is_same = signature[:shown] == self._opened[:shown]
        if self._connection is not None and is_same:
            return self._connection
        self.close()
        mode = self._mode(has_wal=signature[-1])
        connection = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode={mode}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.execute("PRAGMA query_only = ON")
            connection.execute("PRAGMA busy_timeout = 5000")
            version = _version_of(connection)
        except sqlite3.DatabaseError:
            connection.close()
            raise
        if not _OLDEST_VERSION <= version <= SCHEMA_VERSION:
            connection.close()
            raise _other_version(self._path, version)
        self._connection, self._opened, self._is_frozen = connection, signature, "immutable" in mode
        self._count += 1
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
            problem = f"can't be read: {exc.strerror}"
            raise StateError(path=str(self._path), problem=problem) from exc
        has_wal = self._path.with_name(f"{self._path.name}-wal").exists()
        times = found.st_mtime_ns, found.st_ctime_ns
        return found.st_dev, found.st_ino, found.st_size, *times, has_wal


class _BlockingStore(Store):
    """A store whose methods never wait: a loading function runs to its end in one thread."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self.links = {}
        self._blocking = connection

    async def rows(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """Return all rows of a query."""
        return list(self._blocking.execute(sql, parameters))

    async def rows_as(self, kind: type[S], sql: str, parameters: Parameters = ()) -> list[S]:
        """Return all rows of a query as values, by the names of the columns."""
        cursor = self._blocking.execute(sql, parameters)
        columns = tuple(column[0] for column in cursor.description)
        return structs_of(kind, columns, cursor.fetchall())


def _other_version(path: Path, version: int) -> StateError:
    if version < SCHEMA_VERSION:
        words = "made by an earlier version of this program"
        advice = "the next cycle, `mirror sync --once`, brings it up to date"
    else:
        words, advice = "made by a newer version of this program", "update this server"
    problem = f"{words} (state {version}): {advice}"
    return StateError(path=str(path), problem=problem, is_older=version < SCHEMA_VERSION)


def _version_of(connection: sqlite3.Connection) -> int:
    [version] = values_of(connection.execute("PRAGMA user_version"))
    return int(version)


def _result_of(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as exc:
        return exc.value  # type: ignore[no-any-return]
    coroutine.close()
    raise RuntimeError("a loading function of the state waited for something else")
