"""The facts about the mirror as a whole: its status, growth, changes, snapshots and failures."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Final

import msgspec

from mirror.config import Config
from mirror.core.changes import ProjectDifference, compare_project
from mirror.core.files.versions import version_of
from mirror.core.words.advice import advice_for
from mirror.errors import Reason
from mirror.logs import redact
from mirror.serve.facts.reading import Reading
from mirror.state.frozen.snapshots import (
    FrozenKind,
    SnapshotRow,
    is_known,
    load_files_at,
    load_snapshots,
    load_touched,
)
from mirror.state.missing.ledger import FailureRow
from mirror.state.shown.history import (
    Action,
    ChangedCycle,
    FileChange,
    GrowthPoint,
    count_changed_rows,
    load_changed_cycles,
    load_changes_between,
    load_growth,
)
from mirror.state.store import Store
from mirror.status.loading import load_status
from mirror.status.value import Status

MAX_SHOWN_CHANGES: Final = 20_000
"""A cycle with more rows is shown by its counts alone."""
MAX_SHOWN_FAILURES: Final = 500
_SHOWN_PROJECTS: Final = 200
_HOST_PATH: Final = re.compile(r"(?<![\w/:.…-])/(?:[\w@%+.~-]+/)+([\w@%+.~-]*)")


class NewsKind(Enum):
    """How a project changed in a cycle, as a reader counts it."""

    NEW = "new"
    REPLACED = "replaced"
    REMOVED = "removed"
    YANKED = "yanked"
    RELABELLED = "relabelled"


class ProjectNews(msgspec.Struct, frozen=True, kw_only=True):
    """The changes of one project in one cycle."""

    project: str
    kind: NewsKind
    versions: tuple[str, ...]
    files: int
    reason: str = ""
    """Why it was yanked."""


class CycleNews(msgspec.Struct, frozen=True, kw_only=True):
    """The changes of one cycle. ``at``: seconds since the epoch."""

    cycle: int
    at: float
    outcome: str | None
    counts: Mapping[NewsKind, int]
    """Files of each kind."""
    projects: tuple[ProjectNews, ...]
    more: int
    """Number of entries of ``projects`` that are not shown."""


class FailureFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the ledger. Times are seconds since the epoch."""

    index: str
    project: str
    filename: str
    detail: str
    first_at: float
    last_at: float
    next_at: float
    attempts: int


class FailureGroup(msgspec.Struct, frozen=True, kw_only=True):
    """The failures of one reason."""

    reason: Reason
    advice: str
    rows: tuple[FailureFacts, ...]


class StateDifference(msgspec.Struct, frozen=True, kw_only=True):
    """The changes between two states, or why they can't be compared."""

    first: str
    second: str
    projects: tuple[ProjectDifference, ...] = ()
    more: int = 0
    problem: str = ""


def hide_paths(text: str, root: Path) -> str:
    """Return a text without paths of this host: those below the root relative to it."""
    text = redact(text).replace(f"{root}/", "").replace(str(root), "the root")
    return _HOST_PATH.sub(lambda found: f"…/{found[1]}" if found[1] else "…/", text)


def hide_paths_in(value: Any, root: Path) -> Any:
    """Return a JSON value with ``hide_paths`` of the texts of people that it holds."""
    if isinstance(value, list):
        return [hide_paths_in(item, root) for item in value]
    if not isinstance(value, dict):
        return value
    hidden = {}
    for key, item in value.items():
        is_text = key in _TEXTS and isinstance(item, str)
        hidden[key] = hide_paths(item, root) if is_text else hide_paths_in(item, root)
    return hidden


_TEXTS: Final = frozenset({"detail", "doing", "path", "problem", "source"})


def load_status_facts(
    reading: Reading, config: Config, *, max_failures: int | None
) -> Status | None:
    """Return the status of the mirror; None without a state."""
    return reading.load(lambda store: load_status(store, config, max_failures=max_failures))


def load_growth_facts(reading: Reading) -> list[GrowthPoint]:
    """Return the growth of the mirror by days."""
    return reading.load(load_growth) or []


def load_news(reading: Reading, *, before: int | None, limit: int) -> list[CycleNews]:
    """Return the changes of the last cycles, the newest first."""
    return reading.load(lambda store: _load_news(store, before, limit)) or []


async def _load_news(store: Store, before: int | None, limit: int) -> list[CycleNews]:
    changed = await load_changed_cycles(store, before=before, limit=limit)
    return [await _news(store, cycle) for cycle in changed]


async def _news(store: Store, cycle: ChangedCycle) -> CycleNews:
    rows = await count_changed_rows(store, cycle.first, cycle.last)
    if rows.opened + rows.closed > MAX_SHOWN_CHANGES:
        counts = {NewsKind.NEW: rows.opened, NewsKind.REMOVED: rows.closed}
        found: list[ProjectNews] = []
    else:
        changes = await load_changes_between(store, cycle.first, cycle.last)
        counts = _count(changes)
        found = _by_project(changes)
    return CycleNews(
        cycle=cycle.cycle,
        at=cycle.at,
        outcome=cycle.outcome,
        counts={kind: count for kind, count in counts.items() if count},
        projects=tuple(found[:_SHOWN_PROJECTS]),
        more=max(0, len(found) - _SHOWN_PROJECTS),
    )


def _kind(change: FileChange) -> NewsKind:
    match change.action:
        case Action.ADD:
            return NewsKind.NEW
        case Action.REPLACE:
            return NewsKind.REPLACED
        case Action.REMOVE:
            return NewsKind.REMOVED
        case Action.RELABEL:
            return NewsKind.YANKED if change.yanked is not None else NewsKind.RELABELLED


def _count(changes: Sequence[FileChange]) -> dict[NewsKind, int]:
    counts = dict.fromkeys(NewsKind, 0)
    for change in changes:
        counts[_kind(change)] += 1
    return counts


def _by_project(changes: Sequence[FileChange]) -> list[ProjectNews]:
    groups: dict[tuple[str, NewsKind], list[FileChange]] = {}
    for change in changes:
        groups.setdefault((change.project, _kind(change)), []).append(change)
    order = list(NewsKind)
    ranked = sorted(groups.items(), key=lambda item: (order.index(item[0][1]), item[0][0]))
    return [
        ProjectNews(
            project=project,
            kind=kind,
            versions=_versions(group),
            files=len(group),
            reason=next((change.yanked for change in group if change.yanked), ""),
        )
        for (project, kind), group in ranked
    ]


def _versions(changes: Sequence[FileChange]) -> tuple[str, ...]:
    found = {version for change in changes if (version := version_of(change.filename)) is not None}
    return tuple(str(version) for version in sorted(found, reverse=True))


def failure_groups(status: Status) -> list[FailureGroup]:
    """Return the ledger by reason, each with what to do; the most frequent first."""
    groups: dict[Reason, list[FailureRow]] = {}
    for row in status.overview.failures[:MAX_SHOWN_FAILURES]:
        groups.setdefault(row.reason, []).append(row)
    ranked = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0].value))
    return [
        FailureGroup(
            reason=reason,
            advice=advice_for(reason, is_index=all(not row.project for row in rows)),
            rows=tuple(_failure(row, status.root) for row in rows),
        )
        for reason, rows in ranked
    ]


def _failure(row: FailureRow, root: Path) -> FailureFacts:
    return FailureFacts(
        index=row.index,
        project=row.project,
        filename=row.filename,
        detail=hide_paths(row.detail, root),
        first_at=row.first_at,
        last_at=row.last_at,
        next_at=row.next_at,
        attempts=row.attempts,
    )


def load_snapshot_rows(reading: Reading) -> list[SnapshotRow]:
    """Return the snapshots whose pages are in place, the newest first."""
    found = reading.load(lambda store: load_snapshots(store, FrozenKind.SNAPSHOT)) or []
    return [row for row in reversed(found) if row.ready]


def load_difference(reading: Reading, first: str, second: str) -> StateDifference | None:
    """Return the changes between two snapshots, or one and ``now``; None without a state."""
    return reading.load(lambda store: _load_difference(store, first, second))


async def _load_difference(store: Store, first: str, second: str) -> StateDifference:
    rows = {row.name: row for row in await load_snapshots(store, FrozenKind.SNAPSHOT) if row.ready}
    revisions = []
    for name in (first, second):
        revision = await _revision_of(store, rows, name)
        if isinstance(revision, str):
            return StateDifference(first=first, second=second, problem=revision)
        revisions.append(revision)
    found: list[ProjectDifference] = []
    async for names in load_touched(store, revisions[0], revisions[1]):
        before = await load_files_at(store, names, revisions[0])
        after = await load_files_at(store, names, revisions[1])
        changes = (compare_project(n, before.get(n, {}), after.get(n, {})) for n in names)
        found += [change for change in changes if change is not None]
    shown = tuple(found[:_SHOWN_PROJECTS])
    return StateDifference(first=first, second=second, projects=shown, more=len(found) - len(shown))


async def _revision_of(store: Store, rows: Mapping[str, SnapshotRow], name: str) -> int | str:
    """Return a revision, or why there is none."""
    if name == "now":
        return int(await store.value("SELECT coalesce(max(id), 0) FROM revision"))
    row = rows.get(name)
    if row is None:
        return f"There is no snapshot {name}."
    if row.rebuilt:
        return f"The state was rebuilt since the snapshot {name} was made: its history is lost."
    if not await is_known(store, row.revision):
        return f"The history of the snapshot {name} was pruned."
    return row.revision
