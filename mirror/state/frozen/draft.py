"""The work file of an unfinished bundle: its contents, the place of each piece, and the volumes
already written.

A small database of its own next to the bundle's pin, so that a bundle of millions of files is made
in bounded memory and continues after a kill. Blocking; used by one process at a time. SQLite's
errors are raised as ``StateError``.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from mirror.errors import StateError
from mirror.state.rows import Columns, Count, S, iter_structs, values_of

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS page (
    sha256 TEXT NOT NULL, path TEXT NOT NULL, PRIMARY KEY (sha256, path)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS item (
    kind TEXT NOT NULL, path TEXT NOT NULL, size INTEGER NOT NULL, sha256 TEXT NOT NULL,
    place TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (kind, path)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS removed (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS member (
    id INTEGER PRIMARY KEY, place TEXT NOT NULL, volume INTEGER NOT NULL, name TEXT NOT NULL,
    source TEXT NOT NULL,
    start INTEGER NOT NULL, size INTEGER NOT NULL, whole INTEGER NOT NULL, sha256 TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS member_place ON member (place, id);
CREATE INDEX IF NOT EXISTS member_volume ON member (volume, id);
CREATE TABLE IF NOT EXISTS volume (number INTEGER PRIMARY KEY, size INTEGER NOT NULL, sha256 TEXT);
"""


class BundleItem(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a bundle. ``kind``: blob, sidecar or page."""

    kind: str
    path: str
    size: int
    sha256: str


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A member of a volume: the stretch of a source file that it holds."""

    place: str
    """The key by which its parts are found."""
    volume: int
    name: str
    source: str
    """Path of the item whose bytes it has."""
    start: int
    size: int
    whole: int
    """The size of the whole item."""
    sha256: str
    """Of the whole item."""


class Volume(msgspec.Struct, frozen=True, kw_only=True):
    """A volume; without a digest it is not written yet."""

    number: int
    size: int
    sha256: str | None


class _DraftPage(Columns, frozen=True):
    sha256: str
    path: str


class _ItemColumns(Columns, frozen=True):
    place: str
    item: BundleItem


class _VolumePart(Columns, frozen=True):
    volume: int
    name: str
    size: int


class BundleDraft:
    """An open work file."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path, self._connection = path, connection

    def meta(self, key: str) -> Any:
        """Return a value that was kept, or None."""
        values = self._values("SELECT value FROM meta WHERE key = ?", (key,))
        return next(map(msgspec.json.decode, values), None)

    def keep(self, **values: Any) -> None:
        """Keep some values, durably."""
        with self._writing():
            self._connection.executemany(
                "INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)",
                [(key, msgspec.json.encode(value).decode()) for key, value in values.items()],
            )

    def forget(self) -> None:
        """Delete the whole draft, so that it is filled from the beginning."""
        with self._writing():
            for table in ("meta", "page", "item", "removed", "member", "volume"):
                self._connection.execute(f"DELETE FROM {table}")

    def add_pages(self, pages: Iterable[tuple[str, str]]) -> None:
        """Add (sha256, path) of pages of the resulting state."""
        with self._writing():
            self._connection.executemany("INSERT INTO page (sha256, path) VALUES (?, ?)", pages)

    def iter_pages(self, *, by_path: bool = False) -> Iterator[tuple[str, str]]:
        """Yield (sha256, path) of the resulting state's pages, as their lines sort or by path."""
        order = "path" if by_path else "sha256, path"
        for page in self._iter_as(_DraftPage, f"SELECT sha256, path FROM page ORDER BY {order}"):
            yield page.sha256, page.path

    def count_pages(self) -> int:
        """Return how many pages the resulting state has."""
        return sum(self._values("SELECT count(*) FROM page"))

    def add_items(self, items: Iterable[BundleItem]) -> None:
        """Add items to the bundle; the same path again is the same item."""
        with self._writing():
            self._connection.executemany(
                "INSERT OR IGNORE INTO item (kind, path, size, sha256) VALUES (?, ?, ?, ?)",
                [(i.kind, i.path, i.size, i.sha256) for i in items],
            )

    def add_removed(self, names: Iterable[str]) -> None:
        """Add the names of removed projects."""
        with self._writing():
            self._connection.executemany(
                "INSERT OR IGNORE INTO removed (name) VALUES (?)", [(n,) for n in names]
            )

    def removed(self) -> list[str]:
        """Return the projects that leave, by name."""
        return self._values("SELECT name FROM removed ORDER BY name")

    def iter_items(self, kind: str) -> Iterator[tuple[BundleItem, str]]:
        """Yield each item of a kind with its place, by path; the places may be entered
        meanwhile.
        """
        after = ""
        while True:
            items = list(
                self._iter_as(
                    _ItemColumns,
                    "SELECT place, kind, path, size, sha256 FROM item WHERE kind = ? AND path > ?"
                    " ORDER BY path LIMIT 1000",
                    (kind, after),
                )
            )
            if not items:
                return
            for row in items:
                yield row.item, row.place
                after = row.item.path

    def count_items(self, kind: str) -> tuple[int, int]:
        """Return how many items of a kind there are, and their bytes."""
        query = "SELECT count(*) AS number, coalesce(sum(size), 0) AS size FROM item WHERE kind = ?"
        count = next(self._iter_as(Count, query, (kind,)))
        return count.number, count.size

    def replace_layout(self, members: Iterable[tuple[BundleItem, str, list[Member]]]) -> None:
        """Record the place of each item, and the members that are new with it."""
        with self._writing():
            self._connection.execute("DELETE FROM member")
            for item, place, new in members:
                self._connection.execute(
                    "UPDATE item SET place = ? WHERE kind = ? AND path = ?",
                    (place, item.kind, item.path),
                )
                self._connection.executemany(
                    "INSERT INTO member (place, volume, name, source, start, size, whole, sha256)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    [msgspec.structs.astuple(m) for m in new],
                )

    def add_volumes(self, sizes: Iterable[int]) -> None:
        """Add the volumes, the first with number 1."""
        with self._writing():
            self._connection.executemany(
                "INSERT INTO volume (number, size) VALUES (?, ?)", enumerate(sizes, 1)
            )

    def parts(self, place: str) -> list[tuple[int, str, int]]:
        """Return (volume, member, size) of the parts at a place, in order."""
        query = "SELECT volume, name, size FROM member WHERE place = ? ORDER BY id"
        parts = self._iter_as(_VolumePart, query, (place,))
        return [(part.volume, part.name, part.size) for part in parts]

    def iter_members(self, volume: int) -> Iterator[Member]:
        """Yield the members of a volume in order."""
        return self._iter_as(
            Member,
            "SELECT place, volume, name, source, start, size, whole, sha256 FROM member"
            " WHERE volume = ? ORDER BY id",
            (volume,),
        )

    def volumes(self) -> list[Volume]:
        """Return the volumes."""
        query = "SELECT number, size, sha256 FROM volume ORDER BY number"
        return list(self._iter_as(Volume, query))

    def record_volume(self, number: int, sha256: str | None) -> None:
        """Record that a volume is written and durable, or with None that it has to be written
        again.
        """
        with self._writing():
            self._connection.execute(
                "UPDATE volume SET sha256 = ? WHERE number = ?", (sha256, number)
            )

    def _iter_as(self, kind: type[S], sql: str, parameters: tuple[Any, ...] = ()) -> Iterator[S]:
        return iter_structs(kind, self._connection.execute(sql, parameters))

    def _values(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[Any]:
        return values_of(self._connection.execute(sql, parameters))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.rollback()
            raise
        self._connection.commit()


@contextlib.contextmanager
def open_draft(path: Path) -> Iterator[BundleDraft]:
    """Open a work file, made where it is not there. Raises ``StateError``."""
    try:
        # Its users take turns: the draft is filled in threads of an event loop, then used without
        # one.
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            connection.executescript("PRAGMA synchronous = FULL;" + _SCHEMA)
            yield BundleDraft(path, connection)
        finally:
            connection.close()
    except sqlite3.DatabaseError as exc:
        raise StateError(
            path=str(path), problem=f"{exc}; delete it, and make the bundle again"
        ) from exc
