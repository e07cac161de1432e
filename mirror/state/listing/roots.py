"""Which projects each index lists: the rows of ``project`` are the listing of the last good root.

Listed ones have their serial, absent ones the cycle that first missed them. An index whose root was
confirmed unchanged needs no more than these rows.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection

import msgspec

from mirror.core.files.kept_links import KeptLinks
from mirror.core.model import RootPage
from mirror.core.names import ProjectName
from mirror.state.listing.columns import FORGET_VALIDATORS, ProjectKey
from mirror.state.listing.sources import SourceRow
from mirror.state.rows import Columns
from mirror.state.store import Store

_CHUNK = 2000


class RootChange(msgspec.Struct, frozen=True, kw_only=True):
    """The consequences of reading a root, beyond the rows already written.

    Pairs are (project id, name).
    """

    gone: tuple[tuple[int, ProjectName], ...] = ()
    """Missing in two consecutive readings."""
    unwanted: tuple[tuple[int, ProjectName], ...] = ()
    """No longer wanted by the project patterns."""


async def record_root(
    store: Store,
    source: SourceRow,
    *,
    cycle: int,
    listing: RootPage | None,
    wants: Callable[[ProjectName], bool],
    only: Collection[ProjectName] = (),
    is_whole: bool = True,
) -> RootChange:
    """Compare a root with the rows of its index, write the changes, and return the projects that
    leave.

    ``listing`` is None for a root that was confirmed unchanged: then the rows are the listing, and
    only changes that an earlier cycle missed are judged. ``only`` narrows the comparison to some
    projects; unseen projects don't count as absent. Neither do the names missing from a root that
    is not whole.
    """
    if listing is not None:
        merge = _Merge(source.id, cycle, listing, store.links_of(source.id), is_whole=is_whole)
        names = sorted(n for n in listing.projects if wants(n) and (not only or n in only))
        await _merge_root(store, merge, names, wants, only)
        await merge.write(store)
    if only:
        return RootChange()
    return RootChange(
        gone=await _pairs(store, "listed = 1 AND absent_since < :cycle", source.id, cycle)
        if is_whole
        else (),
        unwanted=await _pairs(store, "listed = 1 AND wanted = 0", source.id, cycle),
    )


async def _pairs(
    store: Store, condition: str, source: int, cycle: int
) -> tuple[tuple[int, ProjectName], ...]:
    rows = await store.rows_as(
        ProjectKey,
        f"SELECT id, name FROM project WHERE source = :source AND {condition}",
        {"source": source, "cycle": cycle},
    )
    return tuple((row.id, row.name) for row in rows)


async def _merge_root(
    store: Store,
    merge: _Merge,
    names: list[ProjectName],
    wants: Callable[[ProjectName], bool],
    only: Collection[ProjectName],
) -> None:
    """Merge the sorted names with the sorted rows; a narrowed comparison marks only unwanted
    projects as missed.
    """
    position = 0
    async for row in _rows_by_name(store, merge.source):
        name = row.name
        while position < len(names) and names[position] < name:
            merge.add(names[position])
            position += 1
        if position < len(names) and names[position] == name:
            merge.keep(row)
            position += 1
        elif not only or (name in only and not wants(name)):
            merge.miss(row, wanted=wants(name))
    for name in names[position:]:
        merge.add(name)


class _ListedColumns(Columns, frozen=True):
    id: int
    name: ProjectName
    listed: int
    wanted: int
    listed_serial: int | None
    absent_since: int | None
    address: str | None


class _Merge:
    """The rows to write after one reading of a root."""

    def __init__(
        self, source: int, cycle: int, page: RootPage, links: KeptLinks, *, is_whole: bool
    ) -> None:
        self.source, self._cycle, self._is_whole = source, cycle, is_whole
        self._serials = page.projects
        self._addresses = {
            name: links.kept_address(address) for name, address in page.addresses.items()
        }
        self._added: list[tuple[int, str, int | None, str | None]] = []
        self._kept: list[tuple[int | None, int]] = []
        self._moved: list[tuple[str | None, int]] = []
        self._missed: list[tuple[int, int]] = []
        self._unwanted: list[tuple[int]] = []

    def add(self, name: ProjectName) -> None:
        self._added.append((self.source, name, self._serials[name], self._addresses.get(name)))

    def keep(self, row: _ListedColumns) -> None:
        serial = self._serials[row.name]
        is_current = row.listed and row.wanted and row.absent_since is None
        if not is_current or row.listed_serial != serial:
            self._kept.append((serial, row.id))
        address = self._addresses.get(row.name)
        if row.address != address:
            self._moved.append((address, row.id))

    def miss(self, row: _ListedColumns, *, wanted: bool) -> None:
        if not row.listed:
            return
        if not wanted:
            if row.wanted:
                self._unwanted.append((row.id,))
        elif row.absent_since is None and self._is_whole:
            self._missed.append((self._cycle, row.id))

    async def write(self, store: Store) -> None:
        if not (self._added or self._kept or self._moved or self._missed or self._unwanted):
            return
        async with store.transaction() as tx:
            await tx.executemany(
                "INSERT INTO project (source, name, listed_serial, address) VALUES (?, ?, ?, ?)",
                self._added,
            )
            await tx.executemany(
                f"{FORGET_VALIDATORS} id = ?", [(moved,) for _, moved in self._moved]
            )
            await tx.executemany("UPDATE project SET address = ? WHERE id = ?", self._moved)
            await tx.executemany(
                "UPDATE project SET listed = 1, wanted = 1, absent_since = NULL, listed_serial = ?"
                " WHERE id = ?",
                self._kept,
            )
            await tx.executemany(
                "UPDATE project SET absent_since = ?, wanted = 1 WHERE id = ?", self._missed
            )
            await tx.executemany(
                "UPDATE project SET wanted = 0, absent_since = NULL WHERE id = ?", self._unwanted
            )


async def _rows_by_name(store: Store, source: int) -> AsyncIterator[_ListedColumns]:
    """Yield the projects of an index by name, read in chunks."""
    after = ""
    while True:
        rows = await store.rows_as(
            _ListedColumns,
            "SELECT id, name, listed, wanted, listed_serial, absent_since, address FROM project"
            f" WHERE source = ? AND name > ? ORDER BY name LIMIT {_CHUNK}",
            (source, after),
        )
        for row in rows:
            yield row
        if len(rows) < _CHUNK:
            return
        after = rows[-1].name
