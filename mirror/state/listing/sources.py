"""The indexes of the configuration and former ones, each with the validators of its root page."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from mirror.core.model import Validators
from mirror.state.listing.columns import (
    FORGET_VALIDATORS,
    ValidatorColumns,
    validator_values,
    validators_of,
)
from mirror.state.parameters import marks
from mirror.state.store import Store, Transaction

UNCLAIMED = "(unclaimed)"
"""The source of entries that belong to no index yet (``entries.rebuilt``)."""

_LET_OUT, _LET_OUT_ASKED = 4, 2
"""How many projects are chosen by whose pages a refusal is judged, and how many of them are asked
for.
"""

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
                    "INSERT INTO source (name, url, position) VALUES (?, ?, ?) ON CONFLICT (name)"
                    " DO UPDATE SET"
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
        "UPDATE source SET etag = NULL, last_modified = NULL, serial = NULL, digest = NULL,"
        " root_read = NULL WHERE id = ?",
        (source,),
    )


class _SourceColumns(ValidatorColumns, frozen=True):
    id: int
    name: str
    url: str
    position: int
    configured: bool
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
    """Return every index that the state knows, in the order of the configuration; those that left
    it last.
    """
    rows = await store.rows_as(
        _SourceColumns,
        "SELECT id, name, url, position, configured, etag, last_modified, serial, digest,"
        " selection, root_read, listed,"
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
        validators=validators_of(row),
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
            "UPDATE source SET etag = ?, last_modified = ?, serial = ?, digest = ?, selection = ?,"
            " root_read = ?,"
            " listed = ?, page_origin = ?, is_flat = ? WHERE id = ?",
            (
                *validator_values(validators),
                selection,
                cycle,
                listed,
                page_origin,
                is_flat,
                source.id,
            ),
        )


async def forget_root_validators(store: Store, source: SourceRow) -> None:
    """Have an index's root read again: it may have been cut.

    Its rows stay the listing of the last good root.
    """
    if source.validators is not None:
        async with store.transaction() as tx:
            await tx.execute(
                "UPDATE source SET etag = NULL, last_modified = NULL, serial = NULL, digest = NULL"
                " WHERE id = ?",
                (source.id,),
            )


async def forget_serials(store: Store, source: SourceRow) -> None:
    """Ask for every page of an index conditionally, once: its root's serial went back, so equal
    serials prove nothing.
    """
    async with store.transaction() as tx:
        await tx.execute("UPDATE project SET serial = NULL WHERE source = ?", (source.id,))


async def record_success(store: Store, sources: Collection[int], now: float) -> None:
    """Record that a cycle went through these indexes without ending early."""
    async with store.transaction() as tx:
        await tx.executemany(
            "UPDATE source SET succeeded_at = ? WHERE id = ?", [(now, s) for s in sources]
        )


async def load_served_projects(store: Store, source: SourceRow) -> list[tuple[str, str | None]]:
    """Return projects whose pages an index has served, with their addresses, the last one first.

    Pages that it refuses by now are returned only if there are no others.
    """
    names = await _served_names(store, source)
    query = f"SELECT name, address FROM project WHERE source = ? AND name IN ({marks(names)})"
    addresses = await store.mapping(query, (source.id, *names))
    return [(name, addresses.get(name)) for name in names]


async def _served_names(store: Store, source: SourceRow) -> list[str]:
    query = f"SELECT project FROM failure WHERE {_REFUSED_PAGE}"
    refused = await store.values(query, (source.id,))
    kept = [name for name in source.let_out if name not in refused]
    if len(kept) >= _LET_OUT_ASKED:
        return kept
    # Any others: a policy may refuse all that are asked for first.
    others = await store.values(
        "SELECT name FROM project WHERE source = ? AND listed = 1 AND digest IS NOT NULL"
        f" AND name NOT IN (SELECT project FROM failure WHERE {_REFUSED_PAGE})"
        f" ORDER BY random() LIMIT {_LET_OUT}",
        (source.id, source.id),
    )
    return list(dict.fromkeys([*kept, *others])) or list(source.let_out)


async def record_identity(store: Store, source: SourceRow, *, had_credential: bool | None) -> None:
    """Keep whether an index was read with a credential; None: nothing of it was read."""
    if had_credential is not None and had_credential is not source.had_credential:
        async with store.transaction() as tx:
            await tx.execute(
                "UPDATE source SET had_credential = ? WHERE id = ?", (had_credential, source.id)
            )


async def record_served_names(store: Store, source: SourceRow, names: Sequence[str]) -> None:
    """Store the projects whose pages an index served last, the last one first."""
    if tuple(names) != source.let_out:
        async with store.transaction() as tx:
            await tx.execute(
                "UPDATE source SET let_out = ? WHERE id = ?",
                (msgspec.json.encode(list(names)).decode(), source.id),
            )
