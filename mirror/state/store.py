"""The connection to ``state.db``: opening, migrating, reading, and one transaction at a time.

SQLite's errors end here as ``StateError``. A transaction is shielded from cancellation: it is
committed whole or rolled back, never left open.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sqlite3
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite
import anyio
import anyio.to_thread
import msgspec

from mirror.core.files.kept_links import ABSOLUTE_LINKS, KeptLinks
from mirror.core.pages.unknown_keys import without_url_secrets_json
from mirror.errors import StateError
from mirror.state.rows import mapping_of, structs_of, values_of
from mirror.state.schema import MIGRATIONS, SCHEMA_VERSION
from mirror.state.shown.search_index import keep_index

S = TypeVar("S", bound=msgspec.Struct)
Row = tuple[Any, ...]
Parameters = Sequence[Any] | Mapping[str, Any]

_LITTLE_BYTES = 256 * 1024
"""With less free, a write that failed has met a full disk, whatever SQLite calls it: its side files
need as much.
"""
_MARKS = re.compile(r"\?[?,() ]+\?")
_MAX_STATEMENTS = 1000
"""Maximum number of statements whose columns are remembered."""
_SETTINGS = "PRAGMA busy_timeout = 10000; PRAGMA foreign_keys = ON; PRAGMA cache_size = -16000;"
_SMALL_BYTES = 64 << 20
_LARGE_BYTES = 512 << 20
_SMALL_TABLES = ("meta", "source", "cycle", "failure", "snapshot", "shipment", "unserved")
_REPAIR = "run `mirror verify --repair` to rebuild it from the tree, or restore it from a backup"


class Transaction:
    """An open transaction; its methods must not outlive the ``async with`` that made it."""

    def __init__(self, store: Store, connection: aiosqlite.Connection) -> None:
        self._store = store
        self.connection = connection
        self._revision: int | None = None

    def links_of(self, source: int) -> KeptLinks:
        """Return how the links of an index are kept."""
        return self._store.links_of(source)

    async def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run one statement and return how many rows it changed."""
        # To close the cursor would be a second turn of the connection's thread; it has no rows.
        return (await self.connection.execute(sql, parameters)).rowcount

    async def insert(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Insert one row and return its id."""
        made = await self.connection.execute(sql, parameters)
        assert made.lastrowid is not None
        return made.lastrowid

    async def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run one statement for each row; nothing at all for none."""
        listed = list(rows)
        if listed:
            await self.connection.executemany(sql, listed)

    async def rows_as(self, kind: type[S], sql: str, parameters: Parameters = ()) -> list[S]:
        """Return all rows of a query as structs, as this transaction sees them."""
        return await self._store.rows_as(kind, sql, parameters)

    async def values(self, sql: str, parameters: Parameters = ()) -> list[Any]:
        """Return the only column of all rows of a query, as this transaction sees them."""
        return await self._store.values(sql, parameters)

    async def value(self, sql: str, parameters: Parameters = ()) -> Any:
        """Return the value of a query of one column that always has a row."""
        return await self._store.value(sql, parameters)

    async def revision(self, cycle: int, now: float) -> int:
        """Return this transaction's revision, made at the first call."""
        if self._revision is None:
            self._revision = await self.insert(
                "INSERT INTO revision (cycle, at) VALUES (?, ?)", (cycle, now)
            )
        return self._revision


class Store:
    """An open ``state.db``; the only writer in this process."""

    def __init__(self, path: Path, connection: aiosqlite.Connection) -> None:
        self.path = path
        self.connection = connection
        self.links: Mapping[int, KeptLinks] = {}
        """How links are kept, by index; for those alone whose address is a secret."""
        self._writing = anyio.Lock()
        self._columns: dict[str, tuple[str, ...]] = {}
        """The names of the columns that a statement returns, by its text with one mark for all."""

    def links_of(self, source: int) -> KeptLinks:
        """Return how the links of an index are kept."""
        return self.links.get(source, ABSOLUTE_LINKS)

    @property
    def changes(self) -> int:
        """Number of rows that this connection has changed: a sign of progress."""
        try:
            return self.connection.total_changes
        except ValueError:  # it was closed
            return 0

    async def rows(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """Return all rows of a query, by position: for pragmas and tests; others name their
        columns.
        """
        with state_errors(self.path):
            return list(await self.connection.execute_fetchall(sql, parameters))  # type: ignore[arg-type]

    async def rows_as(self, kind: type[S], sql: str, parameters: Parameters = ()) -> list[S]:
        """Return all rows of a query as structs, by the names of the columns (``state.rows``)."""
        with state_errors(self.path):
            # Each call of the connection is a turn of its thread: rows come in one, and the columns
            # are asked for once, by the first answer that has rows.
            found = await self.connection.execute_fetchall(sql, parameters)
            if not found:
                return []
            # Statements that differ by the number of their marks have the same columns.
            shape = _MARKS.sub("?", sql)
            columns = self._columns.get(shape)
            if columns is None:
                columns = await self._load_columns(sql, parameters)
                if len(self._columns) >= _MAX_STATEMENTS:
                    self._columns.clear()
                self._columns[shape] = columns
            return structs_of(kind, columns, found)

    async def _load_columns(self, sql: str, parameters: Parameters) -> tuple[str, ...]:
        """Return the names of a query's columns."""
        # Its cursor has no rows, so that it need not be closed.
        cursor = await self.connection.execute(f"SELECT * FROM ({sql}) LIMIT 0", parameters)
        return tuple(column[0] for column in cursor.description)

    async def row_as(self, kind: type[S], sql: str, parameters: Parameters = ()) -> S | None:
        """Return the first row of a query as a struct, or None."""
        found = await self.rows_as(kind, sql, parameters)
        return found[0] if found else None

    async def only(self, kind: type[S], sql: str, parameters: Parameters = ()) -> S:
        """Return the row of a query that always has one, as a struct."""
        return next(iter(await self.rows_as(kind, sql, parameters)))

    async def values(self, sql: str, parameters: Parameters = ()) -> list[Any]:
        """Return the only column of all rows of a query."""
        return values_of(await self.rows(sql, parameters))

    async def mapping(self, sql: str, parameters: Parameters = ()) -> dict[Any, Any]:
        """Return all rows of a query of two columns, from the first column to the second."""
        return mapping_of(await self.rows(sql, parameters))

    async def value(self, sql: str, parameters: Parameters = ()) -> Any:
        """Return the value of a query of one column that always has a row."""
        return next(iter(await self.values(sql, parameters)))

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Yield one transaction: committed at the end, rolled back on any exception."""
        async with self._writing:
            with anyio.CancelScope(shield=True), state_errors(self.path):
                await self.connection.execute("BEGIN IMMEDIATE")
                try:
                    yield Transaction(self, self.connection)
                    await self.connection.commit()
                except BaseException:
                    await self.connection.rollback()
                    raise

    async def close(self) -> None:
        """Close the connection; committed transactions stay."""
        with anyio.CancelScope(shield=True):
            await self.connection.close()


@contextlib.asynccontextmanager
async def open_store(path: Path) -> AsyncIterator[Store]:
    """Open ``path`` for writing, made and migrated where needed. Raises ``StateError``.

    A new one is readable by its owner alone: it holds addresses that an index may have signed.
    """
    await anyio.to_thread.run_sync(_make_private, path)
    async with _connected(f"{path.absolute().as_uri()}?mode=rwc", path) as store:
        with state_errors(path):
            await _prepare(store)
        yield store


def _make_private(path: Path) -> None:
    """Create an empty file unless one exists; SQLite reports failures with a better message."""
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))


async def check_quickly(store: Store) -> None:
    """Read enough of the database to find it damaged. Raises ``StateError``.

    A small one is read as a whole, a large one without its indexes; of a very large one only the
    tables of cycles and failures.
    """
    with state_errors(store.path):
        size = (await anyio.Path(store.path).stat()).st_size
    if size <= _SMALL_BYTES:
        await check_integrity(store)
        return
    tables = ("",) if size <= _LARGE_BYTES else tuple(f"({name})" for name in _SMALL_TABLES)
    for table in tables:
        _raise_if_damaged(store, await store.value(f"PRAGMA quick_check{table or '(1)'}"))


async def check_integrity(store: Store) -> None:
    """Read the whole database and raise ``StateError`` where it is damaged, or where an index
    disagrees with its table.
    """
    _raise_if_damaged(store, await store.value("PRAGMA integrity_check(1)"))


def _raise_if_damaged(store: Store, found: str) -> None:
    if found != "ok":
        raise StateError(
            path=str(store.path), problem=f"damaged ({found}); {_REPAIR}", is_damage=True
        )


@contextlib.asynccontextmanager
async def open_store_for_reading(path: Path, *, may_note: bool = False) -> AsyncIterator[Store]:
    """Open an existing ``path`` without changing it, also while a daemon runs.

    Raises ``StateError``.

    ``may_note`` allows small writes where the file can be written; else every write raises. A state
    of an older version is read from a copy that is brought up to this version: only a command that
    writes changes it.

    Where permissions allow, the connection is a writing one used for reading: it removes SQLite's
    side files when it closes.
    """
    with state_errors(path):
        is_there = await anyio.Path(path).exists()
    if not is_there:
        raise StateError(
            path=str(path),
            problem="there is no state here: run `mirror sync --once` first, or check --root",
        )
    async with _as_it_is(path, may_note=may_note) as store:
        with state_errors(path):
            version = await store.value("PRAGMA user_version")
        if version == SCHEMA_VERSION:
            yield store
            return
        if version == 0:
            problem = (
                "it is empty: the first cycle is just making it, or its content was lost;"
                " where the tree has pages, run `mirror verify --repair` to rebuild it from them"
            )
            raise StateError(path=str(path), problem=problem, is_damage=True)
    async with open_copy(path) as copy:
        yield copy


async def is_of_an_older_version(path: Path) -> bool:
    """Return whether a state must be brought up to this version before it takes what this version
    writes.

    Raises ``StateError``.
    """
    async with _as_it_is(path) as store:
        with state_errors(path):
            return 0 < int(await store.value("PRAGMA user_version")) < SCHEMA_VERSION


@contextlib.asynccontextmanager
async def _as_it_is(path: Path, *, may_note: bool = False) -> AsyncIterator[Store]:
    """Open a state for reading, also one of an older version."""
    with state_errors(path):
        mode = await anyio.to_thread.run_sync(_reading_mode, path)
    async with _connected(f"{path.absolute().as_uri()}?mode={mode}", path) as store:
        with state_errors(path):
            if not may_note:
                await store.rows("PRAGMA query_only = ON")
            await _check_version(store, await store.value("PRAGMA user_version"))
        yield store


def _reading_mode(path: Path) -> str:
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        return "rw"
    # SQLite reads a database with a WAL only where its side files exist or can be made, or with
    # ``immutable``, which asserts that nobody writes; that is certain on a read-only file system.
    is_frozen = (
        os.statvfs(path).f_flag & os.ST_RDONLY and not path.with_name(f"{path.name}-wal").exists()
    )
    return "ro&immutable=1" if is_frozen else "ro"


@contextlib.asynccontextmanager
async def open_copy(path: Path) -> AsyncIterator[Store]:
    """Open a throw-away copy of the state, for a cycle that changes nothing (``--dry-run``).

    Raises ``StateError``.

    The copy is a temporary file of SQLite's own, which vanishes with the connection.
    """
    async with _connected("", path) as store:
        with state_errors(path):
            if await anyio.Path(path).exists():
                async with _as_it_is(path) as original:
                    await original.connection.backup(store.connection)
            await _prepare(store)
        yield store


@contextlib.asynccontextmanager
async def _connected(uri: str, path: Path) -> AsyncIterator[Store]:
    with state_errors(path):
        # Where this fails, aiosqlite's thread would outlive the event loop and end with a
        # traceback.
        await anyio.to_thread.run_sync(_try_to_open, uri)
        connection = await aiosqlite.connect(uri, uri=bool(uri), isolation_level=None)
    store = Store(path, connection)
    try:
        with state_errors(path):
            await connection.executescript(_SETTINGS)
        yield store
    finally:
        await store.close()


def _try_to_open(uri: str) -> None:
    sqlite3.connect(uri, uri=bool(uri)).close()


async def _prepare(store: Store) -> None:
    version = await store.value("PRAGMA user_version")
    await _check_version(store, version)
    await store.connection.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")
    await store.connection.create_function(
        "without_url_secrets", 1, without_url_secrets_json, deterministic=True
    )
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        await store.connection.executescript(
            f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;"
        )
    if version < SCHEMA_VERSION and await store.rows("SELECT 1 FROM meta WHERE key = 'vacuum'"):
        await _overwrite_free_pages(store)
    await keep_index(store.connection)


async def _overwrite_free_pages(store: Store) -> None:
    """Rewrite the database, so that data removed by a migration is no longer on the disk."""
    await store.rows("VACUUM")
    await store.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    await store.connection.execute("DELETE FROM meta WHERE key = 'vacuum'")


async def _check_version(store: Store, version: int) -> None:
    if version > SCHEMA_VERSION:
        raise StateError(
            path=str(store.path),
            problem=f"made by a newer version of this program (state {version},"
            f" known {SCHEMA_VERSION}): update it",
        )


@contextlib.contextmanager
def state_errors(path: Path) -> Any:
    """Turn errors of SQLite and of the disk into ``StateError`` with advice."""
    try:
        yield
    except sqlite3.DatabaseError as exc:
        raise StateError(
            path=str(path),
            problem=_advice(exc, path),
            is_damage=_is_damage(exc) or _is_directory(exc, path),
            is_full=_is_full(exc, path),
        ) from exc
    except OSError as exc:
        problem = f"can't be read: {exc.strerror or exc}; check its file system and permissions"
        raise StateError(path=str(path), problem=problem) from exc


def _is_directory(exc: sqlite3.DatabaseError, path: Path) -> bool:
    """Return whether a directory is in the place of the database: SQLite's error does not
    distinguish it.
    """
    if not (getattr(exc, "sqlite_errorname", "") or "").startswith("SQLITE_CANTOPEN"):
        return False
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _is_full(exc: sqlite3.DatabaseError, path: Path) -> bool:
    name = getattr(exc, "sqlite_errorname", "") or ""
    return name.startswith(("SQLITE_FULL", "SQLITE_IOERR")) and bool(_full_disk(name, path))


def _is_damage(exc: sqlite3.DatabaseError) -> bool:
    name = getattr(exc, "sqlite_errorname", "") or ""
    return name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or "no such table" in str(exc)


def _advice(exc: sqlite3.DatabaseError, path: Path) -> str:
    text = str(exc)
    name = getattr(exc, "sqlite_errorname", "") or ""
    if _is_directory(exc, path):
        return f"it is a directory, not a database; {_REPAIR}"
    if _is_damage(exc):
        return f"damaged ({text}); {_REPAIR}"
    if name.startswith("SQLITE_BUSY"):
        return "another process holds it for too long"
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")) and (full := _full_disk(name, path)):
        return (
            f"the disk is full ({full}); free some space,"
            " the next cycle goes on where this one stopped"
        )
    if name.startswith("SQLITE_IOERR"):
        return f"the disk reports an error ({text}, {name}); check it, then run `mirror verify`"
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        if _has_no_descriptors(path):
            return "too many open files; raise `ulimit -n`, or LimitNOFILE= of the systemd unit"
        return (
            f"can't be opened or written ({text}); run this as the user that owns the mirror, check"
            f" its permissions and that"
            " its file system is not read-only"
        )
    return f"{text} ({name or type(exc).__name__})"


def _full_disk(name: str, path: Path) -> str:
    """Return a text with the free space on the state's disk; empty where a failed write has another
    cause than a full disk.
    """
    try:
        found = os.statvfs(path.parent)
    except OSError:
        return ""
    free, has_no_inodes = found.f_bavail * found.f_frsize, found.f_files > 0 and found.f_favail == 0
    if not name.startswith("SQLITE_FULL") and free >= _LITTLE_BYTES and not has_no_inodes:
        return ""
    return f"{free} bytes free{', no inodes left' if has_no_inodes else ''}"


def _has_no_descriptors(path: Path) -> bool:
    """Return whether a file can't be opened since too many are open: SQLite's error does not
    distinguish it.
    """
    try:
        os.close(os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as exc:
        return exc.errno in {errno.EMFILE, errno.ENFILE}
    return False
