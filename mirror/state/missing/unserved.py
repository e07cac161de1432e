"""Missing without a failure: names that no index offers, and projects that nobody serves.

The table ``unserved`` is the judgement of the last whole cycle. A project is not served where its
owner lists it, a rule leaves out all of its files, and no page publishes a file under its name.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from mirror.core.names import ProjectName
from mirror.core.rules.model import RULE_KEYS
from mirror.errors import Reason
from mirror.state.missing.left_out import load_left_out
from mirror.state.rows import Columns
from mirror.state.store import Store


class Unserved(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One missing project or file; the filename is empty for the whole project."""

    index: str
    project: str
    filename: str = ""
    reason: Reason
    """``NOT_OFFERED`` or ``NOT_SERVED``."""
    detail: str
    is_literal: bool
    """Whether ``projects`` or ``files`` names it literally, so that its absence is a failure."""
    first_at: float = 0.0

    @property
    def key(self) -> tuple[str, str, str]:
        """Identifies it."""
        return self.index, self.project, self.filename


class SkippedProject(msgspec.Struct, frozen=True, kw_only=True):
    """A project of which nothing is published although its owner lists files of it."""

    index: str
    name: ProjectName
    others: tuple[str, ...]
    """Later indexes that list it too."""


_RULES = ", ".join(f"'{key}'" for key in RULE_KEYS)


class _SkippedColumns(Columns, frozen=True):
    index_name: str
    name: ProjectName
    others: str | None


async def load_skipped_projects(store: Store) -> list[SkippedProject]:
    """Return the projects whose owner's files the patterns all leave out, and of which no index has
    a file or a failure.

    The report counts files that a rule of ``[rules]`` leaves out.
    """
    listed_by = (
        "FROM project o JOIN source t ON t.id = o.source"
        " WHERE o.name = p.name AND t.configured = 1 AND o.listed = 1 AND o.wanted = 1"
        " AND t.position"
    )
    rows = await store.rows_as(
        _SkippedColumns,
        f"SELECT s.name AS index_name, p.name, (SELECT group_concat(t.name, ' ') {listed_by} >"
        f" s.position) AS others"
        " FROM source s CROSS JOIN project p ON p.source = s.id"
        " WHERE s.configured = 1 AND p.skipped > 0 AND p.listed = 1 AND p.wanted = 1"
        " AND p.withdrawn IS NULL AND p.status != 'quarantined'"
        " AND NOT EXISTS (SELECT 1 FROM left_out l WHERE l.project = p.id"
        f" AND l.rule IN ({_RULES}))"
        " AND NOT EXISTS (SELECT 1 FROM project q JOIN entry e ON e.project = q.id"
        " AND e.valid_to IS NULL"
        " WHERE q.name = p.name)"
        " AND NOT EXISTS (SELECT 1 FROM source t CROSS JOIN failure f ON f.source = t.id"
        " AND f.project = p.name)"
        f" AND NOT EXISTS (SELECT 1 {listed_by} < s.position)"
        " ORDER BY s.position, p.name",
    )
    return [
        SkippedProject(
            index=row.index_name, name=row.name, others=tuple((row.others or "").split())
        )
        for row in rows
    ]


class _OwnerOfProject(Columns, frozen=True):
    name: str
    is_withdrawn: bool


async def load_owner(store: Store, name: str) -> tuple[str, bool]:
    """Return the first index that knows a project, and whether it has withdrawn it."""
    row = await store.row_as(
        _OwnerOfProject,
        "SELECT s.name, p.withdrawn IS NOT NULL OR p.status = 'quarantined' AS is_withdrawn"
        " FROM project p"
        " JOIN source s ON s.id = p.source WHERE p.name = ?"
        " ORDER BY s.configured DESC, p.listed DESC, s.position LIMIT 1",
        (name,),
    )
    return ("", False) if row is None else (row.name, row.is_withdrawn)


async def load_offered_names(store: Store, names: Collection[str]) -> set[str]:
    """Return the normalised names that a configured index lists and wants."""
    query = (
        "SELECT EXISTS (SELECT 1 FROM project p JOIN source s ON s.id = p.source WHERE p.name = ?"
        " AND s.configured = 1 AND p.listed = 1 AND p.wanted = 1)"
    )
    return {name for name in names if await store.value(query, (name,))}


class FilePlace(msgspec.Struct, frozen=True, kw_only=True):
    """The state's knowledge of one filename among the projects that may have it."""

    is_known: bool
    """Whether the pages that may list it were read and are complete."""
    is_had: bool = False
    """Whether it is published, failed or withheld."""
    index: str = ""
    """The index whose rule leaves it out."""
    project: str = ""
    rule: str = ""


class _PageOfIndex(Columns, frozen=True):
    id: int
    source: int
    index_name: str
    was_read: bool
    is_withdrawn: bool
    skipped: int


async def load_file_place(
    store: Store, filename: str, projects: Sequence[str], *, overlays: Collection[str]
) -> FilePlace:
    """Return the place of a filename in the state.

    ``projects`` are the projects that may have it; ``overlays`` are the indexes that add files to
    the projects of another.
    """
    if not projects:
        query = "SELECT EXISTS (SELECT 1 FROM entry WHERE filename = ? AND valid_to IS NULL)"
        return FilePlace(is_known=True, is_had=bool(await store.value(query, (filename,))))
    is_known, left_out = True, None
    for name in projects:
        rows = await store.rows_as(
            _PageOfIndex,
            "SELECT p.id, p.source, s.name AS index_name, p.selection IS NOT NULL AS was_read,"
            " p.withdrawn IS NOT NULL OR p.status = 'quarantined' AS is_withdrawn, p.skipped"
            " FROM project p JOIN source s ON s.id = p.source"
            " WHERE p.name = ? AND s.configured = 1 AND p.listed = 1 AND p.wanted = 1"
            " ORDER BY s.position",
            (name,),
        )
        for number, page in enumerate(rows):
            if number and page.index_name not in overlays:
                continue  # its page counts for nothing: an earlier index owns the project
            if await store.value(_HAS_FILE, (page.id, filename, page.source, name, filename)):
                return FilePlace(is_known=True, is_had=True)
            of_rules = await load_left_out(store, page.id)
            rule = next((one.rule for one in of_rules if filename in one.names), None)
            if rule is not None and left_out is None:
                left_out = FilePlace(is_known=True, index=page.index_name, project=name, rule=rule)
            are_all_named = sum(len(one.names) for one in of_rules) == page.skipped
            is_complete = page.was_read and not page.is_withdrawn and are_all_named
            is_known = is_known and is_complete
    return left_out or FilePlace(is_known=is_known)


_HAS_FILE = (
    "SELECT EXISTS (SELECT 1 FROM entry WHERE project = ? AND filename = ? AND valid_to IS NULL)"
    " OR EXISTS (SELECT 1 FROM failure WHERE source = ? AND project = ? AND filename IN (?, ''))"
)


async def record_unserved(store: Store, found: Sequence[Unserved], now: float) -> list[Unserved]:
    """Replace the table's rows by ``found``; return the new ones.

    Nothing is written where nothing changed.
    """
    known = {row.key: row for row in await load_unserved(store)}
    first_at = {key: row.first_at for key, row in known.items()}
    dated = [msgspec.structs.replace(one, first_at=first_at.get(one.key, now)) for one in found]
    changed = [one for one in dated if known.get(one.key) != one]
    gone = known.keys() - {one.key for one in found}
    if changed or gone:
        async with store.transaction() as tx:
            await tx.executemany(
                "DELETE FROM unserved WHERE index_name = ? AND project = ? AND filename = ?",
                gone,
            )
            await tx.executemany(
                "INSERT OR REPLACE INTO unserved (index_name, project, filename, reason, detail,"
                " literal, first_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (*one.key, one.reason.value, one.detail, one.is_literal, one.first_at)
                    for one in changed
                ],
            )
    return [one for one in changed if one.key not in known]


async def load_unserved(store: Store) -> list[Unserved]:
    """Return the missing names, by index, project and file."""
    return await store.rows_as(
        Unserved,
        'SELECT index_name AS "index", project, filename, reason, detail,'
        " literal AS is_literal, first_at"
        " FROM unserved ORDER BY 1, 2, 3",
    )
