"""Published files that no want needs: which they are, since when, and which of them may leave."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from mirror.core.names import ProjectName
from mirror.state.rows import Columns
from mirror.state.store import Store

_DAY_S = 86_400.0

_UNWANTED = (
    " FROM entry e JOIN project p ON p.id = e.project JOIN source s ON s.id = e.source"
    " LEFT JOIN dropped_want d ON d.project = p.name AND d.filename = e.filename"
    " AND d.index_name = s.name"
    " WHERE e.source = :source AND e.valid_to IS NULL AND s.needed_since IS NOT NULL"
    " AND NOT EXISTS (SELECT 1 FROM wanted w"
    " WHERE w.project = p.name AND w.filename = e.filename AND w.index_name = s.name)"
)
_SINCE = "max(coalesce(d.cycle, s.needed_since), coalesce(s.needed_since, 0))"


class UnwantedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A published file that no want needs; ``since`` is a cycle."""

    project: int
    name: ProjectName
    filename: str
    size: int
    sha256: str
    since: int


class UnwantedCount(msgspec.Struct, frozen=True, kw_only=True):
    """All of them of one index."""

    files: int
    size: int
    since: float | None
    """When the first of them was dropped, in seconds since the epoch."""


class _NeededColumns(Columns, frozen=True):
    id: int
    name: str
    needed_since: int | None


async def record_needed(store: Store, names: Collection[str], *, cycle: int) -> None:
    """Record of which indexes only needed files are mirrored."""
    rows = await store.rows_as(
        _NeededColumns, "SELECT id, name, needed_since FROM source WHERE configured = 1"
    )
    changed = [
        (cycle if row.name in names else None, row.id)
        for row in rows
        if (row.name in names) is (row.needed_since is None)
    ]
    if changed:
        async with store.transaction() as tx:
            await tx.executemany("UPDATE source SET needed_since = ? WHERE id = ?", changed)


class _CountColumns(Columns, frozen=True):
    files: int
    size: int
    since: int | None


async def count_unwanted(store: Store, source: int) -> UnwantedCount:
    """Count the published files of an index that no want needs."""
    count = await store.only(
        _CountColumns,
        "SELECT count(*) AS files, coalesce(sum(e.size), 0) AS size,"
        f" min({_SINCE}) AS since{_UNWANTED}",
        {"source": source},
    )
    query = "SELECT started_at FROM cycle WHERE id = ?"
    started = await store.values(query, (count.since,))  # it may be pruned
    return UnwantedCount(files=count.files, size=count.size, since=next(iter(started), None))


class NewlyUnwanted(msgspec.Struct, frozen=True, kw_only=True):
    """The files of an index that were needed before a plan, and that no want needs after it."""

    index: str
    files: int
    size: int


_OPEN_UNWANTED = (
    " FROM entry e JOIN project p ON p.id = e.project JOIN source s ON s.id = e.source"
    " WHERE e.valid_to IS NULL AND s.needed_since IS NOT NULL AND NOT EXISTS (SELECT 1"
    " FROM wanted w WHERE w.project = p.name AND w.filename = e.filename"
    " AND w.index_name = s.name"
)


async def mark_unwanted(store: Store) -> None:
    """Remember in this connection which files no want needs now; for ``load_newly_unwanted``."""
    async with store.transaction() as tx:
        await tx.execute("CREATE TEMP TABLE unwanted_before (id INTEGER PRIMARY KEY)")
        await tx.execute(f"INSERT INTO unwanted_before SELECT e.id{_OPEN_UNWANTED})")


async def load_newly_unwanted(store: Store) -> list[NewlyUnwanted]:
    """Return the published files that no want needs any more since ``mark_unwanted``.

    Those count that are kept only until a new set is held.
    """
    return await store.rows_as(
        NewlyUnwanted,
        'SELECT s.name AS "index", count(*) AS files, sum(e.size) AS size'
        f"{_OPEN_UNWANTED} AND w.part != 'earlier')"
        " AND e.id NOT IN (SELECT id FROM unwanted_before) GROUP BY s.id ORDER BY s.position",
    )


async def load_ended(
    store: Store, source: int, *, last_cycle: int, limit: int
) -> list[UnwantedFile]:
    """Return the files that were dropped in ``last_cycle`` or before it, the longest unwanted
    first.
    """
    return await store.rows_as(
        UnwantedFile,
        f"SELECT p.id AS project, p.name, e.filename, e.size, e.sha256, {_SINCE} AS"
        f" since{_UNWANTED} AND {_SINCE} <= :last ORDER BY since, p.name,"
        " e.filename LIMIT :limit",
        {"source": source, "last": last_cycle, "limit": limit},
    )


async def count_left(store: Store, source: int, now: float) -> tuple[int, int]:
    """Return how many files left as unwanted within 24 hours, and how many are published."""
    left = await store.value(
        "SELECT count(*) FROM entry e JOIN revision r ON r.id = e.valid_to"
        " WHERE e.source = ? AND e.exempt = 2 AND r.at > ?",
        (source, now - _DAY_S),
    )
    published = await store.value(
        "SELECT count(*) FROM entry WHERE source = ? AND valid_to IS NULL", (source,)
    )
    return left, published


async def forget_dropped(store: Store) -> None:
    """Forget the files that are not published any more."""
    where = (
        "NOT EXISTS (SELECT 1 FROM project p JOIN entry e ON e.project = p.id AND e.valid_to IS"
        " NULL WHERE p.name = dropped_want.project AND e.filename = dropped_want.filename)"
    )
    if await store.value(f"SELECT EXISTS (SELECT 1 FROM dropped_want WHERE {where})"):
        async with store.transaction() as tx:
            await tx.execute(f"DELETE FROM dropped_want WHERE {where}")
