"""The changes between two states of the tree: snapshots, cycles, dates, or now."""

from __future__ import annotations

import calendar
import re
import time
from dataclasses import dataclass, field
from typing import Any

from mirror.core.changes import ProjectDifference, compare_project
from mirror.errors import ConfigError
from mirror.state.entries.pages import load_last_revision
from mirror.state.frozen.snapshots import (
    FrozenKind,
    is_known,
    load_files_at,
    load_revision_at,
    load_revision_of_cycle,
    load_snapshot,
    load_touched,
)
from mirror.state.store import Store
from mirror.upkeep.snapshot import NOW

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}(?:T\d{2}:\d{2}(?::\d{2})?Z?)?")


@dataclass(slots=True, kw_only=True)
class Difference:
    """The changes between two states."""

    first: str
    second: str
    first_revision: int
    second_revision: int
    projects: list[ProjectDifference] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the report object."""
        return {
            "format": 1,
            "from": {"state": self.first, "revision": self.first_revision},
            "to": {"state": self.second, "revision": self.second_revision},
            "totals": self.totals(),
            "projects": [_project_json(p) for p in self.projects],
        }

    def totals(self) -> dict[str, int]:
        """Return the counts of all projects together."""
        projects = self.projects
        return {
            "projects_added": sum(p.is_new for p in projects),
            "projects_removed": sum(p.is_gone for p in projects),
            "projects_changed": sum(not (p.is_new or p.is_gone) for p in projects),
            "versions_added": sum(len(p.versions_added) for p in projects),
            "versions_removed": sum(len(p.versions_removed) for p in projects),
            "files_added": sum(len(p.added) for p in projects),
            "files_removed": sum(len(p.removed) for p in projects),
            "files_replaced": sum(len(p.replaced) for p in projects),
            "files_yanked": sum(len(p.yanked) for p in projects),
            "files_unyanked": sum(len(p.unyanked) for p in projects),
            "files_relabelled": sum(len(p.relabelled) for p in projects),
            "bytes_added": sum(p.bytes_added for p in projects),
        }


def _project_json(p: ProjectDifference) -> dict[str, Any]:
    change = "changed"
    if p.is_new:
        change = "added"
    elif p.is_gone:
        change = "removed"
    return {
        "project": p.name,
        "change": change,
        "versions_added": list(p.versions_added),
        "versions_removed": list(p.versions_removed),
        "added": list(p.added),
        "removed": list(p.removed),
        "replaced": list(p.replaced),
        "yanked": [{"filename": filename, "reason": reason} for filename, reason in p.yanked],
        "unyanked": list(p.unyanked),
        "relabelled": list(p.relabelled),
        "bytes_added": p.bytes_added,
    }


async def compare(store: Store, first: str, second: str) -> Difference:
    """Return the changes between two states: snapshots, ``cycle:N``, dates, or ``now``.

    Raises ``ConfigError``.
    """
    found = Difference(
        first=first,
        second=second,
        first_revision=await find_revision(store, first),
        second_revision=await find_revision(store, second),
    )
    async for names in load_touched(store, found.first_revision, found.second_revision):
        before = await load_files_at(store, names, found.first_revision)
        after = await load_files_at(store, names, found.second_revision)
        changes = (
            compare_project(name, before.get(name, {}), after.get(name, {})) for name in names
        )
        found.projects += [change for change in changes if change is not None]
    return found


async def find_revision(store: Store, text: str) -> int:
    """Return the revision that a text means.

    Raises ``ConfigError`` where it means none, or none that is still known.
    """
    snapshot = await load_snapshot(store, FrozenKind.SNAPSHOT, text)
    if snapshot is not None and snapshot.rebuilt:
        raise ConfigError(
            where=text, problem="the state was rebuilt since it was made: its history is lost"
        )
    revision = snapshot.revision if snapshot is not None else await _named_revision(store, text)
    if revision is None:
        raise ConfigError(
            where=text,
            problem='expected a snapshot\'s name, "now",'
            ' a cycle ("cycle:7") or a date ("2026-01-31")',
        )
    if not await is_known(store, revision):
        raise ConfigError(
            where=text,
            problem="its history was pruned (keep-history); take a later state, or a snapshot",
        )
    return revision


async def _named_revision(store: Store, text: str) -> int | None:
    if text == NOW:
        return await load_last_revision(store)
    number = text.removeprefix("cycle:")
    if number != text and number.isascii() and number.isdigit() and len(number) < 16:
        revision = await load_revision_of_cycle(store, int(number))
        if revision is None:
            raise ConfigError(
                where=text, problem="there was no such cycle; `mirror status` shows the last one"
            )
        return revision
    at = _parse_date(text)
    return None if at is None else await load_revision_at(store, at)


def _parse_date(text: str) -> float | None:
    """Return the seconds since the epoch of a date or time in UTC."""
    if not _DATE.fullmatch(text):
        return None
    plain = text.removesuffix("Z")
    shape = {10: "%Y-%m-%d", 16: "%Y-%m-%dT%H:%M", 19: "%Y-%m-%dT%H:%M:%S"}[len(plain)]
    try:
        return float(calendar.timegm(time.strptime(plain, shape)))
    except ValueError:
        return None
