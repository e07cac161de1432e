"""Which projects each index lists, and which of their pages are due.

The rows of ``project`` are the listing of the last good root: listed ones with their serial, absent ones with the cycle
that first missed them. An index whose root was confirmed unchanged needs no more than these rows.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import Protocol

import msgspec

from mirror.core.kept_links import KeptLinks
from mirror.core.model import ProjectMeta, RootPage, Validators
from mirror.core.names import ProjectName
from mirror.state.rows import Columns
from mirror.state.store import Row, Store, Transaction

FORGET_VALIDATORS = "UPDATE project SET etag = NULL, last_modified = NULL, serial = NULL, digest = NULL WHERE"
"""Has the pages of some projects read again; to be followed by the condition that selects them."""

_CHUNK = 2000
_LET_OUT, _LET_OUT_ASKED = 4, 2
"""How many projects are chosen by whose pages a refusal is judged, and how many of them are asked for."""

_REFUSED_PAGE = "source = ? AND filename = '' AND reason = 'denied'"


class SourceRow(msgspec.Struct, frozen=True, kw_only=True):
    """An index as the state knows it."""

    id: int
    name: str
    url: str
    position: int
    configured: bool
    validators: Validators | None
    """Of its root page; None where it must be read."""
    selection: str | None
    root_read: int | None
    """The cycle of the last good root."""
    listed: int
    """How many projects that root listed."""
    succeeded_at: float | None
    let_out: tuple[str, ...] = ()
    """The projects whose pages it served last, the last one first."""
    had_credential: bool | None = None
    """Whether it was read with a credential; None until a cycle has found out."""
    page_origin: str | None = None
    """The origin of its root at the last reading; None for its own origin."""
    is_flat: bool = False
    """Whether its root is a page of files."""
    unread: int = 0
    """Number of files of a flat page whose names hold no project."""
    unread_names: tuple[str, ...] = ()


class ProjectRow(msgspec.Struct, frozen=True, kw_only=True):
    """A project of an index that is due."""

    id: int
    name: ProjectName
    address: str | None
    """Where its page is, relative to the index's URL; None for the usual place."""
    page_origin: str | None
    """The origin of its page at the last reading; None for the index's own origin."""
    listed_serial: int | None
    validators: Validators | None
    selection: str | None
    meta: ProjectMeta
    withdrawn: str | None
    has_entries: bool
    has_absent: bool
    has_failures: bool
    needs_page: bool = False
    """Whether a ledger item is due whose link had a query: only the page has the file's current
    link.
    """


class RootChange(msgspec.Struct, frozen=True, kw_only=True):
    """The consequences of reading a root, beyond the rows already written.

    Pairs are (project id, name).
    """

    gone: tuple[tuple[int, ProjectName], ...] = ()
    """Missing in two consecutive readings."""
    unwanted: tuple[tuple[int, ProjectName], ...] = ()
    """No longer wanted by the project patterns."""


async def record_sources(store: Store, indexes: Sequence[tuple[str, str]]) -> dict[str, SourceRow]:
    """Record the configured indexes, (name, URL) in their order.

    A changed URL drops the validators of all pages; the root of an index that returns is read again
    as well.
    """
    known = {row.name: row for row in await load_sources(store)}
    wanted = [(name, url, position) for position, (name, url) in enumerate(indexes)]
    same = {name: known[name] for name, url, position in wanted if name in known}
    unchanged = len(same) == len(wanted) and all(
        (same[n].url, same[n].position, same[n].configured) == (u, p, True) for n, u, p in wanted
    )
    if not unchanged or any(row.configured and row.name not in same for row in known.values()):
        async with store.transaction() as tx:
            await tx.execute("UPDATE source SET configured = 0")
            for name, url, position in wanted:
                if name in known and known[name].url != url:
                    await _forget_all_validators(tx, known[name].id)
                elif name in known and not known[name].configured:
                    await _forget_root(tx, known[name].id)
                await tx.execute(
                    "INSERT INTO source (name, url, position) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET"
                    " url = excluded.url, position = excluded.position, configured = 1",
                    (name, url, position),
                )
    return {row.name: row for row in await load_sources(store)}


async def _forget_all_validators(tx: Transaction, source: int) -> None:
    await _forget_root(tx, source)
    await tx.execute("UPDATE source SET let_out = NULL WHERE id = ?", (source,))
    await tx.execute(f"{FORGET_VALIDATORS} source = ?", (source,))


async def _forget_root(tx: Transaction, source: int) -> None:
    """Forget that the root was read: until it is read again, the projects that this index owns are
    unknown.
    """
    await tx.execute(
        "UPDATE source SET etag = NULL, last_modified = NULL, serial = NULL, digest = NULL, root_read = NULL WHERE id = ?",
        (source,),
    )


class _SourceColumns(Columns, frozen=True):
    id: int
    name: str
    url: str
    position: int
    configured: bool
    etag: str | None
    last_modified: str | None
    serial: int | None
    digest: str | None
    selection: str | None
    root_read: int | None
    listed: int
    succeeded_at: float | None
    let_out: tuple[str, ...] | None
    had_credential: bool | None
    page_origin: str | None
    unread: tuple[int, tuple[str, ...]] | None
    is_flat: bool


async def load_sources(store: Store) -> list[SourceRow]:
    """Return every index that the state knows, in the order of the configuration; those that left it last."""
    rows = await store.rows_as(
        _SourceColumns,
        "SELECT id, name, url, position, configured, etag, last_modified, serial, digest, selection, root_read, listed,"
        " succeeded_at, let_out, had_credential, page_origin, unread, is_flat FROM source"
        " ORDER BY configured DESC, position, id",
    )
    return [_source_row(row) for row in rows]


def _source_row(row: _SourceColumns) -> SourceRow:
    unread, unread_names = row.unread or (0, ())
    return SourceRow(
        id=row.id,
        name=row.name,
        url=row.url,
        position=row.position,
        configured=row.configured,
        validators=_validators(row),
        selection=row.selection,
        root_read=row.root_read,
        listed=row.listed,
        succeeded_at=row.succeeded_at,
        let_out=row.let_out or (),
        had_credential=row.had_credential,
        page_origin=row.page_origin,
        unread=unread,
        unread_names=unread_names,
        is_flat=row.is_flat,
    )


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
        gone=await _pairs(store, "listed = 1 AND absent_since < ?", source.id, cycle) if is_whole else (),
        unwanted=await _pairs(store, "listed = 1 AND wanted = 0 AND ? > 0", source.id, cycle),
    )


async def _pairs(store: Store, condition: str, source: int, cycle: int) -> tuple[tuple[int, ProjectName], ...]:
    rows = await store.rows(f"SELECT id, name FROM project WHERE source = ? AND {condition}", (source, cycle))
    return tuple((project, ProjectName(name)) for project, name in rows)


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
        name = row[1]
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


class _Merge:
    """The rows to write after one reading of a root."""

    def __init__(self, source: int, cycle: int, page: RootPage, links: KeptLinks, *, is_whole: bool) -> None:
        self.source, self._cycle, self._is_whole = source, cycle, is_whole
        self._serials = page.projects
        self._addresses = {name: links.kept_address(address) for name, address in page.addresses.items()}
        self._added: list[tuple[int, str, int | None, str | None]] = []
        self._kept: list[tuple[int | None, int]] = []
        self._moved: list[tuple[str | None, int]] = []
        self._missed: list[tuple[int, int]] = []
        self._unwanted: list[tuple[int]] = []

    def add(self, name: ProjectName) -> None:
        self._added.append((self.source, name, self._serials[name], self._addresses.get(name)))

    def keep(self, row: Row) -> None:
        identifier, name, listed, wanted, listed_serial, absent_since, address = row
        serial = self._serials[name]
        if not listed or not wanted or absent_since is not None or listed_serial != serial:
            self._kept.append((serial, identifier))
        if address != self._addresses.get(name):
            self._moved.append((self._addresses.get(name), identifier))

    def miss(self, row: Row, *, wanted: bool) -> None:
        identifier, _name, listed, was_wanted, _serial, absent_since, _address = row
        if not listed:
            return
        if not wanted:
            if was_wanted:
                self._unwanted.append((identifier,))
        elif absent_since is None and self._is_whole:
            self._missed.append((self._cycle, identifier))

    async def write(self, store: Store) -> None:
        if not (self._added or self._kept or self._moved or self._missed or self._unwanted):
            return
        async with store.transaction() as tx:
            await tx.executemany(
                "INSERT INTO project (source, name, listed_serial, address) VALUES (?, ?, ?, ?)", self._added
            )
            await tx.executemany(f"{FORGET_VALIDATORS} id = ?", [(moved,) for _, moved in self._moved])
            await tx.executemany("UPDATE project SET address = ? WHERE id = ?", self._moved)
            await tx.executemany(
                "UPDATE project SET listed = 1, wanted = 1, absent_since = NULL, listed_serial = ? WHERE id = ?",
                self._kept,
            )
            await tx.executemany("UPDATE project SET absent_since = ?, wanted = 1 WHERE id = ?", self._missed)
            await tx.executemany("UPDATE project SET wanted = 0, absent_since = NULL WHERE id = ?", self._unwanted)


async def _rows_by_name(store: Store, source: int) -> AsyncIterator[Row]:
    """Yield (id, name, listed, wanted, listed_serial, absent_since, address) by name, in chunks."""
    after = ""
    while True:
        rows = await store.rows(
            "SELECT id, name, listed, wanted, listed_serial, absent_since, address FROM project"
            f" WHERE source = ? AND name > ? ORDER BY name LIMIT {_CHUNK}",
            (source, after),
        )
        for row in rows:
            yield row
        if len(rows) < _CHUNK:
            return
        after = rows[-1][1]


async def record_root_read(
    store: Store,
    source: SourceRow,
    validators: Validators,
    *,
    cycle: int,
    selection: str,
    listed: int,
    page_origin: str | None = None,
    is_flat: bool = False,
    unread: tuple[int, tuple[str, ...]] | None = None,
) -> None:
    """Store the validators of a root whose rows are written, and its origin.

    ``unread``: the files of a flat page that belong to no project; None: as before.
    """
    if unread is not None and unread != (source.unread, source.unread_names):
        kept = msgspec.json.encode(unread).decode() if unread[0] else None
        async with store.transaction() as tx:
            await tx.execute("UPDATE source SET unread = ? WHERE id = ?", (kept, source.id))
    known = (source.validators, source.selection, source.listed, source.page_origin, source.is_flat)
    if known == (validators, selection, listed, page_origin, is_flat) and source.root_read:
        return
    async with store.transaction() as tx:
        await tx.execute(
            "UPDATE source SET etag = ?, last_modified = ?, serial = ?, digest = ?, selection = ?, root_read = ?,"
            " listed = ?, page_origin = ?, is_flat = ? WHERE id = ?",
            (*validator_values(validators), selection, cycle, listed, page_origin, is_flat, source.id),
        )


async def forget_root_validators(store: Store, source: SourceRow) -> None:
    """Have an index's root read again: it may have been cut. Its rows stay the listing of the last good root."""
    if source.validators is not None:
        async with store.transaction() as tx:
            await tx.execute(
                "UPDATE source SET etag = NULL, last_modified = NULL, serial = NULL, digest = NULL WHERE id = ?",
                (source.id,),
            )


async def forget_serials(store: Store, source: SourceRow) -> None:
    """Ask for every page of an index conditionally, once: its root's serial went back, so equal serials prove nothing."""
    async with store.transaction() as tx:
        await tx.execute("UPDATE project SET serial = NULL WHERE source = ?", (source.id,))


async def record_success(store: Store, sources: Collection[int], now: float) -> None:
    """Record that a cycle went through these indexes without ending early."""
    async with store.transaction() as tx:
        await tx.executemany("UPDATE source SET succeeded_at = ? WHERE id = ?", [(now, s) for s in sources])


async def load_let_out(store: Store, source: SourceRow) -> list[tuple[str, str | None]]:
    """Return projects whose pages an index has served, with their addresses, the last one first.

    Pages that it refuses by now are returned only if there are no others.
    """
    names = await _let_out_names(store, source)
    marks = ", ".join("?" * len(names))
    query = f"SELECT name, address FROM project WHERE source = ? AND name IN ({marks})"
    addresses: dict[str, str | None] = dict(await store.rows(query, (source.id, *names)))
    return [(name, addresses.get(name)) for name in names]


async def _let_out_names(store: Store, source: SourceRow) -> list[str]:
    refused = await store.rows(f"SELECT project FROM failure WHERE {_REFUSED_PAGE}", (source.id,))
    kept = [name for name in source.let_out if (name,) not in refused]
    if len(kept) >= _LET_OUT_ASKED:
        return kept
    # Any others: a policy may refuse all that are asked for first.
    rows = await store.rows(
        "SELECT name FROM project WHERE source = ? AND listed = 1 AND digest IS NOT NULL"
        f" AND name NOT IN (SELECT project FROM failure WHERE {_REFUSED_PAGE}) ORDER BY random() LIMIT {_LET_OUT}",
        (source.id, source.id),
    )
    return list(dict.fromkeys([*kept, *(name for (name,) in rows)])) or list(source.let_out)


async def record_identity(store: Store, source: SourceRow, *, had_credential: bool | None) -> None:
    """Keep whether an index was read with a credential; None: nothing of it was read."""
    if had_credential is not None and had_credential is not source.had_credential:
        async with store.transaction() as tx:
            await tx.execute("UPDATE source SET had_credential = ? WHERE id = ?", (had_credential, source.id))


async def record_let_out(store: Store, source: SourceRow, names: Sequence[str]) -> None:
    """Store the projects whose pages an index served last, the last one first."""
    if tuple(names) != source.let_out:
        async with store.transaction() as tx:
            await tx.execute(
                "UPDATE source SET let_out = ? WHERE id = ?", (msgspec.json.encode(list(names)).decode(), source.id)
            )


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """The projects of an index that a cycle has to read."""

    source: SourceRow
    selection: str
    trust_serials: bool
    """Whether a project whose serial in the root equals its page's own is confirmed unchanged without a request."""
    only_held: bool
    """Whether new projects must wait, since the root of an earlier index was never read."""
    is_overlay: bool
    only: tuple[ProjectName, ...] = ()
    unlisted: tuple[ProjectName, ...] = ()
    """Projects of ``only`` that the root no longer lists: they are not requested, and don't count
    as absent either.
    """
    now: float = 0.0
    """Ledger items whose next try is later are not due."""


async def load_due(store: Store, due: Due) -> AsyncIterator[list[ProjectRow]]:
    """Yield the listed and owned projects that are due, in chunks, ordered by name."""
    where, parameters = _due_condition(due)
    after = ""
    while True:
        rows = await store.rows_as(
            _ProjectColumns,
            "SELECT p.id, p.name, p.listed_serial, p.etag, p.last_modified, p.serial, p.digest, p.selection,"
            " p.status, p.status_reason, p.versions, p.extra, p.extra_meta, p.withdrawn,"
            f" {_HAS_ENTRIES} AS has_entries, {_HAS_ABSENT} AS has_absent, {_HAS_FAILURES} AS has_failures,"
            f" {_NEEDS_PAGE} AS needs_page,"
            " p.address, p.page_origin"
            f" FROM project p WHERE {where} AND p.name > :after ORDER BY p.name LIMIT {_CHUNK // 4}",
            parameters | {"after": after},
        )
        if rows:
            yield [_project_row(row) for row in rows]
        if len(rows) < _CHUNK // 4:
            return
        after = rows[-1].name


async def count_due(store: Store, due: Due) -> tuple[int, int]:
    """Return how many projects ``load_due`` yields, and how many more equal serials have confirmed unchanged already."""
    owned, parameters = _owned_condition(due)
    opened, more = _open_condition(due)
    query = f"SELECT count(*), coalesce(sum({opened}), 0) FROM project p WHERE {owned}"
    [(count, due_count)] = await store.rows(query, parameters | more)
    return due_count, count - due_count


async def has_wanted(store: Store, source: int) -> bool:
    """Return whether the patterns want any project of those that the index lists."""
    query = "SELECT EXISTS (SELECT 1 FROM project WHERE source = ? AND listed = 1 AND wanted = 1)"
    return bool(await store.value(query, (source,)))


async def load_listed(store: Store, source: int, names: Collection[ProjectName]) -> set[ProjectName]:
    """Return the names that an index lists and that its patterns want."""
    query = (
        "SELECT EXISTS (SELECT 1 FROM project"
        " WHERE source = ? AND name = ? AND listed = 1 AND wanted = 1 AND absent_since IS NULL)"
    )
    return {name for name in names if await store.value(query, (source, name))}


_HAS_ENTRIES = "EXISTS (SELECT 1 FROM entry e WHERE e.project = p.id AND e.valid_to IS NULL)"
_HAS_ABSENT = (
    "EXISTS (SELECT 1 FROM entry e WHERE e.project = p.id AND e.absent_since IS NOT NULL AND e.valid_to IS NULL)"
)
_HAS_FAILURES = "EXISTS (SELECT 1 FROM failure f WHERE f.source = :source AND f.project = p.name)"
_NEEDS_PAGE = (
    "EXISTS (SELECT 1 FROM failure f WHERE f.source = :source AND f.project = p.name AND f.needs_page = 1"
    " AND (f.next_at <= :now OR f.last_at > :now))"
)
_IS_ABSENT = "p.id IN (SELECT project FROM entry WHERE absent_since IS NOT NULL AND valid_to IS NULL)"
_IS_DUE_FAILURE = (
    "p.name IN (SELECT project FROM failure WHERE source = :source AND (next_at <= :now OR last_at > :now))"
)
_IS_NOT_RESTING = (
    "p.name NOT IN (SELECT project FROM failure WHERE source = :source AND filename = '' AND reason = 'denied'"
    " AND next_at > :now AND last_at <= :now)"
)
"""A page that was refused is left alone until its next try."""
# The first four are asked for some rows, the last two of all: a list is made once for each statement.


def _owned_condition(due: Due) -> tuple[str, dict[str, object]]:
    parts = ["p.source = :source AND p.listed = 1 AND p.wanted = 1 AND p.absent_since IS NULL"]
    parameters: dict[str, object] = {"source": due.source.id, "now": due.now, "position": due.source.position}
    if due.source.position and not due.is_overlay:
        parts.append(
            "NOT EXISTS (SELECT 1 FROM source s JOIN project o ON o.source = s.id AND o.name = p.name"
            " WHERE s.configured = 1 AND s.position < :position AND o.listed = 1 AND o.wanted = 1)"
        )
    if due.only_held:
        parts.append(_HAS_ENTRIES)
    if due.now != math.inf:
        parts.append(_IS_NOT_RESTING)
    for word, only in (("IN", due.only), ("NOT IN", due.unlisted)):
        if only:
            names = {f"n{len(parameters)}_{i}": name for i, name in enumerate(only)}
            parts.append(f"p.name {word} ({', '.join(f':{key}' for key in names)})")
            parameters |= names
    return " AND ".join(parts), parameters


def _due_condition(due: Due) -> tuple[str, dict[str, object]]:
    owned, parameters = _owned_condition(due)
    opened, more = _open_condition(due)
    return f"{owned} AND {opened}", parameters | more


def _open_condition(due: Due) -> tuple[str, dict[str, object]]:
    """Return the condition under which the root alone does not confirm a page as unchanged; never null."""
    if not due.trust_serials:
        return "1", {}
    condition = (
        "(p.digest IS NULL OR p.serial IS NULL OR p.serial IS NOT p.listed_serial"
        f" OR p.selection IS NOT :selection OR {_IS_ABSENT} OR {_IS_DUE_FAILURE})"
    )
    return condition, {"selection": due.selection}


class _ProjectColumns(Columns, frozen=True):
    id: int
    name: ProjectName
    listed_serial: int | None
    etag: str | None
    last_modified: str | None
    serial: int | None
    digest: str | None
    selection: str | None
    status: str
    status_reason: str | None
    versions: str | None
    extra: str
    extra_meta: str
    withdrawn: str | None
    has_entries: int
    has_absent: int
    has_failures: int
    needs_page: int
    address: str | None
    page_origin: str | None


def _project_row(row: _ProjectColumns) -> ProjectRow:
    return ProjectRow(
        id=row.id,
        name=row.name,
        listed_serial=row.listed_serial,
        validators=_validators(row),
        selection=row.selection,
        meta=meta_of(row),
        withdrawn=row.withdrawn,
        has_entries=bool(row.has_entries),
        has_absent=bool(row.has_absent),
        has_failures=bool(row.has_failures),
        needs_page=bool(row.needs_page),
        address=row.address,
        page_origin=row.page_origin,
    )


class MetaColumns(Protocol):
    """The columns that hold what a page says of its project."""

    @property
    def status(self) -> str: ...  # noqa: D102
    @property
    def status_reason(self) -> str | None: ...  # noqa: D102
    @property
    def versions(self) -> str | None: ...  # noqa: D102
    @property
    def extra(self) -> str: ...  # noqa: D102
    @property
    def extra_meta(self) -> str: ...  # noqa: D102


def meta_of(row: MetaColumns) -> ProjectMeta:
    """Build the page's keys from the columns that hold them."""
    versions = row.versions
    return ProjectMeta(
        status=row.status,
        status_reason=row.status_reason,
        versions=tuple(msgspec.json.decode(versions, type=list[str])) if versions is not None else None,
        extra=row.extra,
        extra_meta=row.extra_meta,
    )


def meta_values(meta: ProjectMeta) -> Row:
    """Return the values of the columns of ``meta_of``, in their order."""
    versions = None if meta.versions is None else msgspec.json.encode(meta.versions).decode()
    return meta.status, meta.status_reason, versions, meta.extra, meta.extra_meta


def _validators(row: _SourceColumns | _ProjectColumns) -> Validators | None:
    if row.digest is None:
        return None
    return Validators(etag=row.etag, last_modified=row.last_modified, serial=row.serial, digest=row.digest)


def validator_values(validators: Validators) -> Row:
    """Return (etag, last_modified, serial, digest)."""
    return validators.etag, validators.last_modified, validators.serial, validators.digest


class IndexCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one index after a cycle, as the report counts it."""

    absent: int
    unhashed: int
    skipped: int


async def load_counts(store: Store, source: int) -> IndexCounts:
    """Count one index's files by their state; each query walks a small index of its own.

    Files that a page missed are absent, and all files of a project that the root missed.
    """
    absent = await store.value(
        # "+": else SQLite walks all files of the index by ``entry_counts`` instead of the few that are absent.
        "SELECT (SELECT count(*) FROM entry WHERE absent_since IS NOT NULL AND valid_to IS NULL AND +source = :source)"
        " + (SELECT count(*) FROM project p JOIN entry e ON e.project = p.id AND e.valid_to IS NULL"
        " WHERE p.source = :source AND p.absent_since IS NOT NULL AND e.absent_since IS NULL)",
        {"source": source},
    )
    unhashed = await store.value(
        "SELECT count(*) FROM entry WHERE unhashed = 1 AND valid_to IS NULL AND source = ?", (source,)
    )
    skipped = await store.value(
        "SELECT coalesce(sum(skipped), 0) FROM project WHERE source = ? AND skipped > 0", (source,)
    )
    return IndexCounts(absent=absent, unhashed=unhashed, skipped=skipped)
