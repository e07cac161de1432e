"""Which projects of an index are due: listed, wanted, owned by it, and not confirmed unchanged."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Collection

import msgspec

from mirror.core.model import ProjectMeta, Validators
from mirror.core.names import ProjectName
from mirror.state.listing.columns import META_COLUMNS, ValidatorColumns, validators_of
from mirror.state.listing.sources import SourceRow
from mirror.state.rows import Columns
from mirror.state.store import Store

_CHUNK = 500


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
    has_deferred: bool = False
    """Whether a file that a rule kept out is judged again now."""
    needs_page: bool = False
    """Whether a ledger item is due whose link had a query: only the page has the file's current
    link.
    """


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """The projects of an index that a cycle has to read."""

    source: SourceRow
    selection: str
    trust_serials: bool
    """Whether a project whose serial in the root equals its page's own is confirmed unchanged
    without a request.
    """
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
    judged_at: float = 0.0
    """Deferred files whose next judgement is later are not due."""
    judges_wanted: bool = False
    """Whether a rule judges files otherwise where a want needs them."""
    is_needed: bool = False
    """Only projects that a resolution asked for, or of which something is published or failed."""


async def load_due(store: Store, due: Due) -> AsyncIterator[list[ProjectRow]]:
    """Yield the listed and owned projects that are due, in chunks, ordered by name."""
    where, parameters = _due_condition(due)
    after = ""
    while True:
        rows = await store.rows_as(
            _ProjectColumns,
            "SELECT p.id, p.name, p.listed_serial, p.etag, p.last_modified, p.serial, p.digest,"
            f" p.selection, p.withdrawn, p.address, p.page_origin, {META_COLUMNS}, {_HAS_ENTRIES}"
            f" AS has_entries, {_HAS_ABSENT} AS has_absent, {_HAS_FAILURES} AS has_failures,"
            f" {_HAS_DEFERRED} AS has_deferred, {_NEEDS_PAGE} AS needs_page FROM {_rows_of(due)}"
            f" WHERE {where} AND p.name > :after ORDER BY p.name LIMIT {_CHUNK}",
            parameters | {"after": after},
        )
        if rows:
            yield [_project_row(row) for row in rows]
        if len(rows) < _CHUNK:
            return
        after = rows[-1].name


class _DueCount(Columns, frozen=True):
    owned: int
    due: int


async def count_due(store: Store, due: Due) -> tuple[int, int]:
    """Return how many projects ``load_due`` yields, and how many more equal serials have confirmed
    unchanged already.
    """
    owned, parameters = _owned_condition(due)
    opened, more = _open_condition(due)
    query = (
        f"SELECT count(*) AS owned, coalesce(sum({opened}), 0) AS due"
        f" FROM {_rows_of(due)} WHERE {owned}"
    )
    counts = await store.only(_DueCount, query, parameters | more)
    return counts.due, counts.owned - counts.due


async def has_wanted(store: Store, source: int) -> bool:
    """Return whether the patterns want any project of those that the index lists."""
    query = "SELECT EXISTS (SELECT 1 FROM project WHERE source = ? AND listed = 1 AND wanted = 1)"
    return bool(await store.value(query, (source,)))


async def load_listed(
    store: Store, source: int, names: Collection[ProjectName]
) -> set[ProjectName]:
    """Return the names that an index lists and that its patterns want."""
    query = (
        "SELECT EXISTS (SELECT 1 FROM project"
        " WHERE source = ? AND name = ? AND listed = 1 AND wanted = 1 AND absent_since IS NULL)"
    )
    return {name for name in names if await store.value(query, (source, name))}


_HAS_ENTRIES = "EXISTS (SELECT 1 FROM entry e WHERE e.project = p.id AND e.valid_to IS NULL)"
_HAS_ABSENT = (
    "EXISTS (SELECT 1 FROM entry e WHERE e.project = p.id AND e.absent_since IS NOT NULL AND"
    " e.valid_to IS NULL)"
)
_HAS_FAILURES = "EXISTS (SELECT 1 FROM failure f WHERE f.source = :source AND f.project = p.name)"
_HAS_DEFERRED = (
    "EXISTS (SELECT 1 FROM deferred d WHERE d.project = p.id AND d.next_at <= :judged_at)"
)
_NEEDS_PAGE = (
    "(EXISTS (SELECT 1 FROM failure f WHERE f.source = :source AND f.project = p.name"
    " AND f.needs_page = 1"
    " AND (f.next_at <= :now OR f.last_at > :now))"
    " OR EXISTS (SELECT 1 FROM deferred d WHERE d.project = p.id AND d.needs_page = 1"
    " AND d.next_at <= :judged_at))"
)
_IS_ABSENT = (
    "p.id IN (SELECT project FROM entry WHERE absent_since IS NOT NULL AND valid_to IS NULL)"
)
_IS_DUE_FAILURE = (
    "p.name IN (SELECT project FROM failure WHERE source = :source AND (next_at <= :now OR"
    " last_at > :now))"
)
_IS_DUE_DEFERRED = (
    "p.id IN (SELECT project FROM deferred WHERE source = :source AND next_at <= :judged_at)"
)
_IS_WANTED = "p.name IN (SELECT project FROM wanted WHERE index_name = :index_name)"
_IS_NOT_RESTING = (
    "p.name NOT IN (SELECT project FROM failure WHERE source = :source AND filename = ''"
    " AND reason = 'denied'"
    " AND next_at > :now AND last_at <= :now)"
)
"""A page that was refused is left alone until its next try."""
# The first four are asked for some rows, the last two of all: a list is made once for each
# statement.


_NEEDED = (
    "(SELECT q.id FROM asked a CROSS JOIN project q ON q.source = :source AND q.name = a.project"
    " UNION SELECT e.project FROM entry e WHERE e.source = :source AND e.valid_to IS NULL"
    " UNION SELECT q.id FROM failure f CROSS JOIN project q"
    " ON q.source = f.source AND q.name = f.project"
    " WHERE f.source = :source) n CROSS JOIN project p ON p.id = n.id"
)
"""The projects that a resolution asked for, or of which something is published or failed.

They are few compared with the names of a large root: the join begins with them.
"""


def _rows_of(due: Due) -> str:
    return _NEEDED if due.is_needed else "project p"


def _owned_condition(due: Due) -> tuple[str, dict[str, object]]:
    parts = ["p.source = :source AND p.listed = 1 AND p.wanted = 1 AND p.absent_since IS NULL"]
    parameters: dict[str, object] = {
        "source": due.source.id,
        "now": due.now,
        "judged_at": due.judged_at,
        "position": due.source.position,
    }
    if due.source.position and not due.is_overlay:
        parts.append(
            "NOT EXISTS (SELECT 1 FROM source s JOIN project o ON o.source = s.id"
            " AND o.name = p.name"
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
    """Return the condition under which the root alone does not confirm a page as unchanged; never
    null.
    """
    if not due.trust_serials or due.is_needed:
        return "1", {}  # with needs, each project has a selection of its own
    condition = (
        "(p.digest IS NULL OR p.serial IS NULL OR p.serial IS NOT p.listed_serial"
        f" OR p.selection IS NOT :selection OR {_IS_ABSENT} OR {_IS_DUE_FAILURE}"
        f" OR {_IS_DUE_DEFERRED}{f' OR {_IS_WANTED}' if due.judges_wanted else ''})"
    )
    return condition, {"selection": due.selection, "index_name": due.source.name}


class _ProjectColumns(ValidatorColumns, frozen=True):
    id: int
    name: ProjectName
    listed_serial: int | None
    selection: str | None
    withdrawn: str | None
    has_entries: int
    has_absent: int
    has_failures: int
    has_deferred: int
    needs_page: int
    address: str | None
    page_origin: str | None
    meta: ProjectMeta


def _project_row(row: _ProjectColumns) -> ProjectRow:
    return ProjectRow(
        id=row.id,
        name=row.name,
        listed_serial=row.listed_serial,
        validators=validators_of(row),
        selection=row.selection,
        meta=row.meta,
        withdrawn=row.withdrawn,
        has_entries=bool(row.has_entries),
        has_absent=bool(row.has_absent),
        has_failures=bool(row.has_failures),
        has_deferred=bool(row.has_deferred),
        needs_page=bool(row.needs_page),
        address=row.address,
        page_origin=row.page_origin,
    )
