"""Named states of the tree: make, promote, compare and delete them; and freeze a hidden pin for a
bundle.

Every function that writes needs the tree's lock and a revision with nothing unpublished. Order of
making: row -> linked pages, synced -> rename into place -> row is ready. Of deleting: rename away
from readers -> row. So a blob that a snapshot's page lists always has a row that keeps it, and the
next of these commands removes the leftovers of a kill.
"""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import msgspec

from mirror.core import parse_json
from mirror.core.changes import ProjectDifference, compare_project
from mirror.core.names import ProjectName
from mirror.core.render_pages import iter_root_html, iter_root_json
from mirror.errors import BadPage, ConfigError, TreeError
from mirror.logs import get_logger
from mirror.state.entries.pages import load_last_revision, load_published
from mirror.state.frozen.snapshots import (
    Kind,
    SnapshotRow,
    count_published,
    is_known,
    load_files_at,
    load_revision_at,
    load_revision_of_cycle,
    load_snapshot,
    load_snapshots,
    load_touched,
    record_snapshot,
    record_snapshot_gone,
    record_snapshot_ready,
)
from mirror.state.store import Store
from mirror.sync.publish import Publisher
from mirror.sync.work import Cycle
from mirror.tree import snapshots as disk
from mirror.tree.check import exists
from mirror.tree.layout import Layout

_log = get_logger(__name__)

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}(?:T\d{2}:\d{2}(?::\d{2})?Z?)?")

NOW = "now"

Wants = Callable[[ProjectName], bool]


async def create_snapshot(cycle: Cycle, layout: Layout, name: str, *, note: str = "") -> SnapshotRow:
    """Freeze the published files under a name. Raises ``ConfigError`` where the name is taken."""
    check_name(name, "snapshot")
    if name == NOW:
        raise ConfigError(
            where=name, problem=f"`mirror snapshot diff` calls the newest state {NOW}: choose another name"
        )
    await clear_interrupted(cycle.store, layout)
    is_taken = await anyio.to_thread.run_sync(exists, str(disk.snapshot_path(layout, name)))
    if is_taken or await load_snapshot(cycle.store, Kind.SNAPSHOT, name):
        raise ConfigError(where=name, problem="there is a snapshot of this name; choose another, or delete it first")
    return await _freeze(cycle, layout, Kind.SNAPSHOT, name, note=note)


async def freeze_pin(
    cycle: Cycle, layout: Layout, name: str, *, wants: Wants | None, snapshot: str | None
) -> SnapshotRow:
    """Freeze the published files, or a snapshot, for a bundle that is made from it without the
    tree's lock.

    ``wants``: the projects of the site, whose root page is rendered for it; None takes all.
    """
    await clear_interrupted(cycle.store, layout)
    source = None
    if snapshot is not None:
        source = await find_snapshot(cycle.store, snapshot)
        if source.rebuilt:
            raise ConfigError(
                where=snapshot,
                problem="the state was rebuilt since this snapshot was made, and its history is lost: make a new one",
            )
    return await _freeze(cycle, layout, Kind.PIN, name, wants=wants, source=source)


async def load_revision_to_freeze(store: Store, snapshot: str | None) -> int:
    """Return the revision that a pin made now would have."""
    return await load_last_revision(store) if snapshot is None else (await find_snapshot(store, snapshot)).revision


async def _freeze(
    cycle: Cycle,
    layout: Layout,
    kind: Kind,
    name: str,
    *,
    note: str = "",
    wants: Wants | None = None,
    source: SnapshotRow | None = None,
) -> SnapshotRow:
    store = cycle.store
    await Publisher(cycle).publish_marked()
    simple = layout.simple if source is None else disk.snapshot_path(layout, source.name) / "simple"
    revision = await load_last_revision(store) if source is None else source.revision
    if not revision:
        raise ConfigError(where=str(layout.root), problem="nothing is published yet: run `mirror sync --once` first")
    if source is None:
        listed = await load_published(store)
    else:
        listed = await anyio.to_thread.run_sync(_read_root, simple)
    chosen = listed if wants is None else [(n, serial) for n, serial in listed if wants(n)]
    row = await record_snapshot(store, kind, name, revision=revision, now=cycle.clock(), note=note)
    root = None if len(chosen) == len(listed) else (iter_root_html(chosen, revision), iter_root_json(chosen, revision))
    freeze = partial(disk.freeze_pages, layout, simple, [n for n, _ in chosen], root)
    place = await anyio.to_thread.run_sync(freeze)
    await anyio.to_thread.run_sync(disk.settle, layout, place, _path(layout, row))
    files, size = await count_published(store, revision, None if root is None else [n for n, _ in chosen])
    await record_snapshot_ready(store, row, projects=len(chosen), files=files, size=size)
    _log.info("snapshot.made", kind=kind.value, name=name, revision=revision, projects=len(chosen))
    return msgspec.structs.replace(row, projects=len(chosen), files=files, bytes=size, ready=True)


def _read_root(simple: Any) -> list[tuple[ProjectName, int]]:
    path = simple / "index.v1_json"
    try:
        page = parse_json.parse_root_page(path.read_bytes(), url="file:///")
    except (OSError, BadPage) as exc:
        raise TreeError(path=str(path), problem=f"the snapshot can't be read ({exc}); delete it") from exc
    return sorted((name, serial or 0) for name, serial in page.projects.items())


async def delete_snapshot(store: Store, layout: Layout, name: str) -> SnapshotRow:
    """Delete a snapshot. Raises ``ConfigError`` where there is none, or a channel shows it."""
    await clear_interrupted(store, layout)
    row = await find_snapshot(store, name)
    channels = await anyio.to_thread.run_sync(disk.load_channels, layout)
    shown_by = [channel for channel, snapshot in channels.items() if snapshot == name]
    if shown_by:
        raise ConfigError(
            where=name, problem=f"the channel {shown_by[0]} shows it; promote another snapshot to that channel first"
        )
    await remove(store, layout, row)
    return row


async def remove(store: Store, layout: Layout, row: SnapshotRow) -> None:
    """Remove a frozen state, and forget it."""
    await anyio.to_thread.run_sync(disk.remove_frozen, layout, _path(layout, row))
    await record_snapshot_gone(store, row)
    _log.info("snapshot.removed", kind=row.kind.value, name=row.name)


async def promote(store: Store, layout: Layout, name: str, channel: str) -> str | None:
    """Let a channel show a snapshot; return the one that it showed before."""
    check_name(channel, "channel")
    row = await find_snapshot(store, name)
    before = (await anyio.to_thread.run_sync(disk.load_channels, layout)).get(channel)
    await anyio.to_thread.run_sync(disk.promote, layout, row.name, channel)
    _log.info("channel.promoted", channel=channel, snapshot=name, before=before)
    return before


async def find_snapshot(store: Store, name: str) -> SnapshotRow:
    """Return a snapshot. Raises ``ConfigError`` where there is none of the name."""
    row = await load_snapshot(store, Kind.SNAPSHOT, name)
    if row is None or not row.ready:
        raise ConfigError(where=name, problem="there is no snapshot of this name; see `mirror snapshot list`")
    return row


async def clear_interrupted(store: Store, layout: Layout) -> None:
    """Remove the leftovers of a killed run. The tree's lock must be held."""
    for kind in Kind:
        for row in await load_snapshots(store, kind):
            is_gone = row.kind is Kind.PIN and not await anyio.to_thread.run_sync(exists, str(_path(layout, row)))
            if is_gone or not row.ready:
                await remove(store, layout, row)
    pins = [row.name for row in await load_snapshots(store, Kind.PIN)]
    await anyio.to_thread.run_sync(disk.sweep_frozen, layout, pins)


def check_name(name: str, what: str) -> None:
    """Raise ``ConfigError`` unless the name may be a directory of the tree."""
    if not disk.NAME.fullmatch(name):
        problem = "expected up to 63 lower-case letters, digits and hyphens, the first no hyphen"
        raise ConfigError(where=f"the name of a {what}", problem=problem)


def _path(layout: Layout, row: SnapshotRow) -> Any:
    return disk.snapshot_path(layout, row.name) if row.kind is Kind.SNAPSHOT else disk.pin_path(layout, row.name)


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
    change = "added" if p.is_new else "removed" if p.is_gone else "changed"
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
        changes = (compare_project(name, before.get(name, {}), after.get(name, {})) for name in names)
        found.projects += [change for change in changes if change is not None]
    return found


async def find_revision(store: Store, text: str) -> int:
    """Return the revision that a text means. Raises ``ConfigError`` where it means none, or none that is still known."""
    snapshot = await load_snapshot(store, Kind.SNAPSHOT, text)
    if snapshot is not None and snapshot.rebuilt:
        raise ConfigError(where=text, problem="the state was rebuilt since it was made: its history is lost")
    revision = snapshot.revision if snapshot is not None else await _named_revision(store, text)
    if revision is None:
        raise ConfigError(
            where=text, problem='expected a snapshot\'s name, "now", a cycle ("cycle:7") or a date ("2026-01-31")'
        )
    if not await is_known(store, revision):
        raise ConfigError(
            where=text, problem="its history was pruned (keep-history); take a later state, or a snapshot"
        )
    return revision


async def _named_revision(store: Store, text: str) -> int | None:
    if text == NOW:
        return await load_last_revision(store)
    number = text.removeprefix("cycle:")
    if number != text and number.isascii() and number.isdigit() and len(number) < 16:
        revision = await load_revision_of_cycle(store, int(number))
        if revision is None:
            raise ConfigError(where=text, problem="there was no such cycle; `mirror status` tells the last one")
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
