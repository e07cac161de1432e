"""One project or file in the state: the indexes that list it, its owner, its held and missing
files, and the reasons.

Reading only, for ``mirror list`` and ``mirror explain``; no index is asked.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence

import msgspec

from mirror.core.names import ProjectName
from mirror.core.rules.model import EXCLUDE_VULNERABLE, MIN_AGE
from mirror.core.times import utc_text
from mirror.errors import Reason
from mirror.state.listing.sources import SourceRow
from mirror.state.missing.deferred import load_deferred_names
from mirror.state.missing.ledger import FailureRow, load_project_failures
from mirror.state.missing.left_out import LeftOut, load_left_out
from mirror.state.missing.unserved import Unserved
from mirror.state.rows import Columns
from mirror.state.store import Store

_CHUNK = 500


class HeldName(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A published file."""

    filename: str
    index: str
    size: int
    sha256: str
    is_absent: bool
    """Whether the last reading of its page missed it."""


class IndexPart(msgspec.Struct, frozen=True, kw_only=True):
    """The share of one index in a project."""

    index: str
    configured: bool
    root_known: bool
    """Whether its root was ever read."""
    lists: bool
    wanted: bool
    """Whether its project patterns want it, where it lists it."""
    owns: bool
    absent: bool
    """Whether the last reading of its root missed it."""
    page_read: bool
    withdrawn: str | None
    """Why the index withdrew it, or None."""
    skipped: int
    """How many files of its page are left out."""
    left_out: tuple[LeftOut, ...]
    failures: tuple[FailureRow, ...]
    cooldowns: Mapping[str, float] = {}
    """When the cooldown of a file ends, by file name."""

    @property
    def unnamed(self) -> int:
        """How many of the left-out files have no name in the state."""
        return self.skipped - sum(len(one.names) for one in self.left_out)


class ProjectPart(msgspec.Struct, frozen=True, kw_only=True):
    """A project with all that the state knows of it."""

    name: str
    indexes: tuple[IndexPart, ...]
    held: tuple[HeldName, ...]
    unserved: tuple[Unserved, ...]

    @property
    def owner(self) -> str | None:
        """The index that owns it."""
        return next((part.index for part in self.indexes if part.owns), None)

    def advised_names(self) -> dict[str, str]:
        """Return the files that advisories keep out, or would after a cooldown, each with its
        index.
        """
        rules = (EXCLUDE_VULNERABLE, MIN_AGE)
        return {name: index for name, rule, index in self.left_out() if rule in rules}

    def left_out(self) -> list[tuple[str, str, str]]:
        """Return (filename, rule, index) of the left-out files not held from another index, by
        filename; of a held one, where a rule keeps out other bytes for now.
        """
        held = {file.filename for file in self.held}
        found: dict[str, tuple[str, str, str]] = {}
        for part in self.indexes:
            for one in part.left_out:
                for name in one.names:
                    if name not in held or one.rule == MIN_AGE:
                        found.setdefault(name, (name, one.rule, part.index))
        return sorted(found.values())


def words_of_left_out(project: ProjectPart, advice: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the left-out files, each with its rule and why: until when, or by which advisories."""
    found = []
    for filename, rule, index in project.left_out():
        until = words_of_cooldown(project, index, filename)
        named = f": {advice[filename]}" if filename in advice else ""
        found.append((filename, f"{rule}{until}{named}"))
    return found


def words_of_cooldown(project: ProjectPart, index: str, filename: str) -> str:
    """Return until when a file is in cooldown, as words that follow its rule; else nothing."""
    ends = (part.cooldowns.get(filename) for part in project.indexes if part.index == index)
    end = next(ends, None)
    return "" if end is None else f", until {utc_text(end)}"


async def iter_projects(
    store: Store,
    sources: Sequence[SourceRow],
    unserved: Collection[Unserved],
    matches: Callable[[str], bool],
) -> AsyncIterator[list[ProjectPart]]:
    """Yield the projects that are listed, published or asked for, by name, in chunks."""
    asked = sorted(
        {one.project for one in unserved if one.reason is Reason.NOT_OFFERED and not one.filename}
    )
    after = ""
    while True:
        rows = await store.values(
            "SELECT DISTINCT p.name FROM project p WHERE p.name > ? AND (p.listed = 1 OR EXISTS"
            " (SELECT 1 FROM entry e WHERE e.project = p.id AND e.valid_to IS NULL))"
            " ORDER BY p.name LIMIT ?",
            (after, _CHUNK),
        )
        is_last = len(rows) < _CHUNK
        end = max(rows, default="")
        names = set(rows) | {name for name in asked if after < name and (is_last or name <= end)}
        wanted = [name for name in sorted(names) if matches(name)]
        if wanted:
            yield [await load_project(store, sources, unserved, name) for name in wanted]
        if is_last:
            return
        after = end


class _PartColumns(Columns, frozen=True):
    source: int
    id: int
    listed: bool
    wanted: bool
    is_absent: bool
    was_read: bool
    skipped: int
    withdrawn: str | None


class _HeldRow(Columns, frozen=True):
    filename: str
    source: int
    size: int
    sha256: str
    is_absent: bool


async def load_project(
    store: Store, sources: Sequence[SourceRow], unserved: Collection[Unserved], name: str
) -> ProjectPart:
    """Return one project, known or not."""
    rows = {
        row.source: row
        for row in await store.rows_as(
            _PartColumns,
            "SELECT source, id, listed, wanted, absent_since IS NOT NULL AS is_absent,"
            " selection IS NOT NULL AS was_read, skipped,"
            " CASE WHEN withdrawn IS NOT NULL OR status = 'quarantined' THEN"
            " coalesce(status_reason, status) END"
            " AS withdrawn FROM project WHERE name = ?",
            (name,),
        )
    }
    held = await _load_held(store, sources, name)
    published_by = {file.index for file in held}
    parts: list[IndexPart] = []
    is_owned = is_open = False
    for source in sources:
        row = rows.get(source.id)
        if not source.configured and source.name not in published_by:
            continue
        lists = row is not None and row.listed and source.configured
        wanted = lists and row is not None and row.wanted
        owns = wanted and not is_owned and (not is_open or source.name in published_by)
        parts.append(await _part(store, source, row, name, lists=lists, wanted=wanted, owns=owns))
        is_owned = is_owned or wanted
        is_open = is_open or (source.configured and source.root_read is None)
    mine = tuple(one for one in unserved if one.project == name)
    return ProjectPart(name=name, indexes=tuple(parts), held=tuple(held), unserved=mine)


async def load_last_published(store: Store, name: str, filename: str) -> float | None:
    """Return when a formerly published file left the pages, or None where it never was
    published.
    """
    when = await store.value(
        "SELECT max(r.at) FROM project p JOIN entry e ON e.project = p.id"
        " AND e.valid_to IS NOT NULL"
        " JOIN revision r ON r.id = e.valid_to WHERE p.name = ? AND e.filename = ?",
        (name, filename),
    )
    return None if when is None else float(when)


async def load_address(store: Store, index: str, name: str) -> str | None:
    """Return where an index has a project's page, relative to its URL; None for the usual place."""
    found = await store.values(
        "SELECT p.address FROM project p JOIN source s ON s.id = p.source"
        " WHERE s.name = ? AND p.name = ?",
        (index, name),
    )
    return next(iter(found), None)


async def is_known_project(store: Store, name: str) -> bool:
    """Return whether the state has a project of this name."""
    return bool(await store.value("SELECT EXISTS (SELECT 1 FROM project WHERE name = ?)", (name,)))


async def _load_held(store: Store, sources: Sequence[SourceRow], name: str) -> list[HeldName]:
    names = {source.id: source.name for source in sources}
    rows = await store.rows_as(
        _HeldRow,
        "SELECT e.filename, p.source, e.size, e.sha256, e.absent_since IS NOT NULL AS is_absent"
        " FROM project p"
        " JOIN entry e ON e.project = p.id AND e.valid_to IS NULL WHERE p.name = ?"
        " ORDER BY e.filename",
        (name,),
    )
    return [
        HeldName(
            filename=row.filename,
            index=names.get(row.source, ""),
            size=row.size,
            sha256=row.sha256,
            is_absent=row.is_absent,
        )
        for row in rows
    ]


async def _part(
    store: Store,
    source: SourceRow,
    row: _PartColumns | None,
    name: str,
    *,
    lists: bool,
    wanted: bool,
    owns: bool,
) -> IndexPart:
    failures = await load_project_failures(store, source.id, ProjectName(name))
    return IndexPart(
        index=source.name,
        configured=source.configured,
        root_known=source.root_read is not None,
        lists=lists,
        wanted=wanted,
        owns=owns,
        absent=row is not None and row.is_absent,
        page_read=row is not None and row.was_read,
        skipped=row.skipped if row is not None else 0,
        withdrawn=row.withdrawn if row is not None else None,
        left_out=await load_left_out(store, row.id) if row is not None and row.skipped else (),
        failures=tuple(failures.values()),
        cooldowns=await _cooldowns(store, row.id) if row is not None and row.skipped else {},
    )


async def _cooldowns(store: Store, project: int) -> dict[str, float]:
    deferred = await load_deferred_names(store, project)
    return {d.filename: d.next_at for d in deferred if d.rule == MIN_AGE and d.next_at is not None}
