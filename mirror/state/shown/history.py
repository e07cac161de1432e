"""The changes of the published files, oldest first or by cycle, and how the mirror has grown.

A file that opens and closes in one revision was replaced, or relabelled where its bytes are the
same. History is known from the revision ``history_from`` on: ``prune`` forgets earlier rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

import msgspec

from mirror.state.rows import Columns
from mirror.state.store import Store

_DAY_S = 86_400
_RECENT = 20_000
"""Number of revisions among which changed cycles are looked for."""


class Action(Enum):
    """How a published file changed."""

    ADD = "add"
    REPLACE = "replace"
    RELABEL = "relabel"
    REMOVE = "remove"


class FileChange(msgspec.Struct, frozen=True, kw_only=True):
    """A change of one file. ``at``: seconds since the epoch."""

    revision: int
    at: float
    project: str
    filename: str
    action: Action
    yanked: str | None = None
    """Why it was yanked by this change, maybe ""; None where it was not."""
    is_unyanked: bool = False


class ChangeList(msgspec.Struct, frozen=True, kw_only=True):
    """Changes after a revision; whole revisions."""

    revision: int
    """The last one that is included, or the newest where no more follow."""
    changes: tuple[FileChange, ...]
    more: bool


class ChangedCycle(msgspec.Struct, frozen=True, kw_only=True):
    """A cycle that changed the pages, by its revisions."""

    cycle: int
    first: int
    last: int
    at: float
    outcome: str | None = None
    """None for a cycle that was killed, or whose row was pruned."""


class ChangedRows(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows some revisions opened and closed."""

    opened: int
    closed: int


class _ChangedRow(Columns, frozen=True):
    revision: int
    at: float
    project: str
    filename: str
    sha256: str
    yanked: str | None

    @property
    def key(self) -> tuple[int, str, str]:
        return self.revision, self.project, self.filename


class GrowthPoint(msgspec.Struct, frozen=True, kw_only=True):
    """The published files at the end of a day. ``day``: number of days since the epoch, UTC."""

    day: int
    files: int
    size: int


async def load_history_start(store: Store) -> int:
    """Return the revision from which on all changes are known."""
    return int(
        await store.value(
            "SELECT coalesce(max(CAST(value AS INTEGER)), 0) FROM meta WHERE key = 'history_from'"
        )
    )


async def load_changes(store: Store, since: int, limit: int) -> ChangeList:
    """Return the changes after a revision: whole revisions until ``limit`` of them are reached."""
    revisions = await store.values(
        "SELECT rev FROM (SELECT valid_from AS rev FROM entry WHERE valid_from > ?1"
        " UNION ALL SELECT valid_to FROM entry WHERE valid_to > ?1) ORDER BY rev LIMIT ?2",
        (since, 2 * limit),  # a change has two rows at most
    )
    newest = int(await store.value("SELECT coalesce(max(id), 0) FROM revision"))
    if not revisions:
        return ChangeList(revision=max(newest, since), changes=(), more=False)
    changes = await load_changes_between(store, since + 1, revisions[-1])
    if len(changes) > limit:
        last = changes[limit - 1].revision
        changes = [change for change in changes if change.revision <= last]
    last = changes[-1].revision if changes else revisions[-1]
    more = bool(
        await store.value(
            "SELECT EXISTS (SELECT 1 FROM entry WHERE valid_from > ?1)"
            " OR EXISTS (SELECT 1 FROM entry WHERE valid_to > ?1)",
            (last,),
        )
    )
    return ChangeList(revision=last if more else newest, changes=tuple(changes), more=more)


async def load_changes_between(store: Store, first: int, last: int) -> list[FileChange]:
    """Return the changes of some revisions, by revision, project and filename."""
    columns = (
        "r.at, p.name AS project, e.filename, e.sha256, e.yanked FROM entry e"
        " JOIN project p ON p.id = e.project JOIN revision r ON r.id = e.{0}"
        " WHERE e.valid_from IS NOT e.valid_to AND e.{0} BETWEEN ? AND ?"
    )
    found = [
        await store.rows_as(
            _ChangedRow,
            f"SELECT e.{column} AS revision, {columns.format(column)}",
            (first, last),
        )
        for column in ("valid_from", "valid_to")
    ]
    return _changes(*found)


async def count_changed_rows(store: Store, first: int, last: int) -> ChangedRows:
    """Return how many rows some revisions opened and closed."""
    return await store.only(
        ChangedRows,
        "SELECT (SELECT count(*) FROM entry WHERE valid_from BETWEEN ?1 AND ?2) AS opened,"
        " (SELECT count(*) FROM entry WHERE valid_to BETWEEN ?1 AND ?2) AS closed",
        (first, last),
    )


async def load_changed_cycles(
    store: Store, *, before: int | None, limit: int
) -> list[ChangedCycle]:
    """Return the cycles that changed the pages, the newest first; ``before``: older ones alone."""
    return await store.rows_as(
        ChangedCycle,
        "SELECT cycle, min(id) AS first, max(id) AS last, max(at) AS at, (SELECT outcome FROM"
        " cycle c WHERE c.id = r.cycle) AS outcome FROM (SELECT * FROM revision WHERE ?1 IS NULL"
        f" OR cycle < ?1 ORDER BY id DESC LIMIT {_RECENT}) r WHERE (EXISTS (SELECT 1 FROM entry"
        " WHERE valid_from = r.id) OR EXISTS (SELECT 1 FROM entry WHERE valid_to = r.id)) GROUP"
        " BY cycle ORDER BY cycle DESC LIMIT ?2",
        (before, limit),
    )


async def load_growth(store: Store) -> list[GrowthPoint]:
    """Return the published files and their bytes at the end of each day with a change."""
    days = await store.rows_as(
        GrowthPoint,
        f"SELECT CAST(r.at / {_DAY_S} AS INTEGER) AS day, sum(d.files) AS files,"
        " sum(d.size) AS size FROM"
        " (SELECT valid_from AS rev, count(*) AS files, sum(size) AS size FROM entry"
        " GROUP BY valid_from UNION ALL SELECT valid_to, -count(*), -sum(size) FROM entry"
        " WHERE valid_to IS NOT NULL GROUP BY valid_to) d JOIN revision r ON r.id = d.rev"
        " GROUP BY CAST(r.at / 86400 AS INTEGER) ORDER BY 1",
    )
    files = size = 0
    points = []
    for more in days:
        files, size = files + more.files, size + more.size
        points.append(GrowthPoint(day=more.day, files=files, size=size))
    return points


def _changes(opened: Iterable[_ChangedRow], closed: Iterable[_ChangedRow]) -> list[FileChange]:
    before = {row.key: row for row in closed}
    changes = []
    for row in opened:
        old = before.pop(row.key, None)
        was_yanked = old is not None and old.yanked is not None
        changes.append(
            FileChange(
                revision=row.revision,
                at=row.at,
                project=row.project,
                filename=row.filename,
                action=_action(old, row.sha256),
                yanked=None if old is None or was_yanked else row.yanked,
                is_unyanked=was_yanked and row.yanked is None,
            )
        )
    changes += [
        FileChange(
            revision=row.revision,
            at=row.at,
            project=row.project,
            filename=row.filename,
            action=Action.REMOVE,
        )
        for row in before.values()
    ]
    return sorted(changes, key=lambda change: (change.revision, change.project, change.filename))


def _action(old: _ChangedRow | None, sha256: str) -> Action:
    if old is None:
        return Action.ADD
    return Action.RELABEL if old.sha256 == sha256 else Action.REPLACE
