"""The ledger: failed and withheld files, pages and indexes, with the data for the next try.

A row is (index, project, filename); the filename is empty for the project's page, the project is
empty for the index. It closes when the try succeeds or the file is no longer listed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence

import msgspec

from mirror.core.files.kept_links import KeptLinks, is_incomplete
from mirror.core.model import ListedFile
from mirror.core.names import ProjectName
from mirror.errors import Reason
from mirror.logs import redact
from mirror.state.listing.sources import UNCLAIMED
from mirror.state.rows import Columns
from mirror.state.store import Store, Transaction

_FIRST_DELAY_S = 60.0
_MAX_DELAY_S = 6 * 3600.0
_CHUNK = 200

_CURRENT = "(s.configured = 1 OR s.name = ?)"
"""Rows of an index that left the configuration are not tried again, until the index returns."""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A page or file that could not be fetched.

    ``file`` is null for a page, and for a file that must not be touched.
    """

    source: int
    project: str
    filename: str
    reason: Reason
    detail: str
    file: ListedFile | None = None
    wait_s: float = 0.0
    """Time to wait that the index asked for (``Retry-After``)."""


class FailureRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the ledger. Times are seconds since the epoch."""

    index: str
    project: str
    filename: str
    reason: Reason
    detail: str
    file: ListedFile | None
    first_at: float
    last_at: float
    attempts: int
    next_at: float

    def is_due(self, now: float) -> bool:
        """Return whether it is to be tried; a last try in the future was recorded by a wrong
        clock.
        """
        return self.next_at <= now or self.last_at > now


async def record_failures(
    store: Store, failed: Sequence[Failure], closed: Collection[tuple[int, str, str]], *, now: float
) -> None:
    """Record failures, and close the rows (source, project, filename) that succeeded or are
    gone.
    """
    if not failed and not closed:
        return
    async with store.transaction() as tx:
        await tx.executemany(
            "DELETE FROM failure WHERE source = ? AND project = ? AND filename = ?", closed
        )
        for failure in failed:
            await _enter(tx, failure, now)


async def _enter(tx: Transaction, failure: Failure, now: float) -> None:
    key = (failure.source, failure.project, failure.filename)
    where = "source = ? AND project = ? AND filename = ?"
    known = await tx.values(f"SELECT attempts FROM failure WHERE {where}", key)
    attempts = sum(known) + 1
    file = _kept_file(failure.file, tx.links_of(failure.source))
    listed = msgspec.json.encode(file).decode() if file is not None else None
    needs_page = file is not None and is_incomplete(file.url)
    # An index may repeat a credential that it was sent: its text is stored without secrets.
    next_at = now + max(_delay_s(attempts), failure.wait_s)
    values = (
        failure.reason.value,
        redact(failure.detail),
        listed,
        needs_page,
        now,
        attempts,
        next_at,
        *key,
    )
    if known:
        await tx.execute(
            "UPDATE failure SET reason = ?, detail = ?, listed = ?, needs_page = ?, last_at = ?,"
            " attempts = ?, next_at = ?"
            f" WHERE {where}",
            values,
        )
    else:
        await tx.execute(
            "INSERT INTO failure (reason, detail, listed, needs_page, last_at, attempts, next_at,"
            " source, project,"
            " filename, first_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*values, now),
        )


async def reword_missing_pages(store: Store, source: int, before: str, after: str) -> None:
    """Replace a part of the ledger's texts about pages that an index does not have."""
    async with store.transaction() as tx:
        await tx.execute(
            "UPDATE failure SET detail = replace(detail, ?, ?) WHERE source = ? AND filename = ''"
            " AND reason = ?",
            (before, after, source, Reason.NOT_FOUND.value),
        )


async def load_project_failures(
    store: Store, source: int, project: ProjectName
) -> dict[str, FailureRow]:
    """Return the ledger of one project of one index by filename; '' is its page."""
    rows = await _load(store, "f.source = ? AND f.project = ?", (source, project))
    return {row.filename: row for row in rows}


async def load_failures(store: Store, *, limit: int | None = None) -> list[FailureRow]:
    """Return the whole ledger by index, project and filename; or its first rows, those that are
    only withheld last.
    """
    return await _load(store, _CURRENT, (UNCLAIMED,), limit=limit)


async def load_reported(store: Store, *, limit: int) -> list[FailureRow]:
    """Return the ledger without its files, with at most ``limit`` rows: the same share of each
    index, pages first.
    """
    total = await count_all_failures(store)
    if total <= limit:
        return await _load(store, _CURRENT, (UNCLAIMED,), with_files=False)
    sources = await store.values(
        f"SELECT s.id FROM source s WHERE {_CURRENT} ORDER BY s.position", (UNCLAIMED,)
    )
    rows: list[FailureRow] = []
    for source in sources:
        share = limit // len(sources)
        for where in ("f.filename = ''", "f.filename != ''"):
            found = await _load(
                store, f"f.source = ? AND {where}", (source,), limit=share, with_files=False
            )
            rows += found
            share -= len(found)
    return rows


async def count_all_failures(store: Store) -> int:
    """Return how many rows ``load_failures`` returns."""
    count = await store.value(
        f"SELECT count(*) FROM failure f JOIN source s ON s.id = f.source WHERE {_CURRENT}",
        (UNCLAIMED,),
    )
    return int(count)


async def has_page_failure(store: Store) -> bool:
    """Return whether the page of any project could not be read."""
    query = (
        "SELECT EXISTS (SELECT 1 FROM failure f JOIN source s ON s.id = f.source"
        f" WHERE f.filename = '' AND f.project != '' AND {_CURRENT})"
    )
    return bool(await store.value(query, (UNCLAIMED,)))


class _FailedFile(Columns, frozen=True):
    id: int
    index_name: str
    project: ProjectName
    file: ListedFile
    source: int


async def iter_failed_files(store: Store) -> AsyncIterator[tuple[str, ProjectName, ListedFile]]:
    """Yield index, project and file of the files to try again, a few rows in memory at a time."""
    after = -1
    while True:
        rows = await store.rows_as(
            _FailedFile,
            "SELECT f.id, s.name AS index_name, f.project, f.listed AS file, f.source"
            " FROM failure f JOIN source s ON s.id = f.source"
            f" WHERE f.listed IS NOT NULL AND f.id > ? AND {_CURRENT}"
            f" ORDER BY f.id LIMIT {_CHUNK}",
            (after, UNCLAIMED),
        )
        for row in rows:
            yield row.index_name, row.project, _whole_file(row.file, store.links_of(row.source))
        if len(rows) < _CHUNK:
            return
        after = rows[-1].id


async def load_index_failures(store: Store) -> list[FailureRow]:
    """Return the rows that are about a whole index, the brake's first of all."""
    return await _load(store, f"f.project = '' AND {_CURRENT}", (UNCLAIMED,))


async def has_index_failure(store: Store, source: int) -> bool:
    """Return whether the ledger has a row about one index as a whole."""
    query = (
        "SELECT EXISTS (SELECT 1 FROM failure WHERE source = ? AND project = '' AND filename = '')"
    )
    return bool(await store.value(query, (source,)))


async def count_failures(store: Store, source: int) -> dict[Reason, int]:
    """Return how many rows of one index have which reason."""
    query = "SELECT reason, count(*) FROM failure WHERE source = ? GROUP BY reason"
    counts = await store.mapping(query, (source,))
    return {Reason(reason): count for reason, count in counts.items()}


class _FailureColumns(Columns, frozen=True):
    source: int
    failure: FailureRow


async def _load(
    store: Store,
    where: str,
    parameters: Sequence[object],
    *,
    limit: int | None = None,
    with_files: bool = True,
) -> list[FailureRow]:
    order = "s.position, f.project, f.filename"
    if limit is not None:
        order = f"f.reason = '{Reason.WITHHELD.value}', {order}"
    rows = await store.rows_as(
        _FailureColumns,
        'SELECT s.name AS "index", f.project, f.filename, f.reason, f.detail,'
        f" {'f.listed' if with_files else 'NULL'} AS file, f.first_at, f.last_at, f.attempts,"
        " f.next_at, f.source"
        f" FROM failure f JOIN source s ON s.id = f.source WHERE {where} ORDER BY {order} LIMIT ?",
        (*parameters, -1 if limit is None else limit),
    )
    return [_with_whole_link(row.failure, store.links_of(row.source)) for row in rows]


def _with_whole_link(row: FailureRow, links: KeptLinks) -> FailureRow:
    if row.file is None:
        return row
    return msgspec.structs.replace(row, file=_whole_file(row.file, links))


def _kept_file(file: ListedFile | None, links: KeptLinks) -> ListedFile | None:
    return None if file is None else msgspec.structs.replace(file, url=links.kept(file.url))


def _whole_file(file: ListedFile, links: KeptLinks) -> ListedFile:
    return msgspec.structs.replace(file, url=links.whole(file.url))


def _delay_s(attempts: int) -> float:
    """Return how long the daemon waits before the next try; a cycle by hand tries everything."""
    return float(min(_MAX_DELAY_S, _FIRST_DELAY_S * 2 ** min(attempts - 1, 20)))
