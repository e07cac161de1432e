"""Named states of the tree: make, promote, compare and delete them; and freeze a hidden pin for a
bundle.

Every function that writes needs the tree's lock and a revision with nothing unpublished. Order of
making: row -> linked pages, synced -> rename into place -> row is ready. Of deleting: rename away
from readers -> row. So a blob that a snapshot's page lists always has a row that keeps it, and the
next of these commands removes the leftovers of a kill.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from mirror.core.names import ProjectName
from mirror.errors import ConfigError, StillWithdrawn
from mirror.holdings.holdings import Holdings
from mirror.logs import get_logger
from mirror.publishing.publisher import Publisher
from mirror.state.advisories.withdrawn import load_withdrawn_of
from mirror.state.entries.pages import load_last_revision, load_published
from mirror.state.frozen.snapshots import (
    FrozenKind,
    SnapshotRow,
    count_published,
    load_snapshot,
    load_snapshots,
    record_snapshot,
    record_snapshot_gone,
    record_snapshot_ready,
)
from mirror.state.store import Store
from mirror.tree.snapshots import NAME
from mirror.upkeep.frozen.places import frozen_places

_log = get_logger(__name__)

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}(?:T\d{2}:\d{2}(?::\d{2})?Z?)?")

NOW = "now"
_NAMED = 5

Wants = Callable[[ProjectName], bool]


async def create_snapshot(holdings: Holdings, name: str, *, note: str = "") -> SnapshotRow:
    """Freeze the published files under a name. Raises ``ConfigError`` where the name is taken."""
    check_name(name, "snapshot")
    if name == NOW:
        raise ConfigError(
            where=name,
            problem=f"`mirror snapshot diff` calls the newest state {NOW}: choose another name",
        )
    await clear_interrupted(holdings)
    is_taken = await frozen_places(holdings).is_taken(name)
    if is_taken or await load_snapshot(holdings.store, FrozenKind.SNAPSHOT, name):
        raise ConfigError(
            where=name,
            problem="there is a snapshot of this name; choose another, or delete it first",
        )
    return await _freeze(holdings, FrozenKind.SNAPSHOT, name, note=note)


async def freeze_pin(
    holdings: Holdings, name: str, *, wants: Wants | None, snapshot: str | None
) -> SnapshotRow:
    """Freeze the published files, or a snapshot, for a bundle that is made from it without the
    tree's lock.

    ``wants``: the projects of the site, whose root page is rendered for it; None takes all.
    """
    await clear_interrupted(holdings)
    source = None
    if snapshot is not None:
        source = await find_snapshot(holdings.store, snapshot)
        if source.rebuilt:
            raise ConfigError(
                where=snapshot,
                problem="the state was rebuilt since this snapshot was made,"
                " and its history is lost: make a new one",
            )
    return await _freeze(holdings, FrozenKind.PIN, name, wants=wants, source=source)


async def load_revision_to_freeze(store: Store, snapshot: str | None) -> int:
    """Return the revision that a pin made now would have."""
    return (
        await load_last_revision(store)
        if snapshot is None
        else (await find_snapshot(store, snapshot)).revision
    )


async def _freeze(
    holdings: Holdings,
    kind: FrozenKind,
    name: str,
    *,
    note: str = "",
    wants: Wants | None = None,
    source: SnapshotRow | None = None,
) -> SnapshotRow:
    store, places = holdings.store, frozen_places(holdings)
    await Publisher(holdings).publish_marked()
    revision = await load_last_revision(store) if source is None else source.revision
    if not revision:
        raise ConfigError(
            where=str(holdings.layout.root),
            problem="nothing is published yet: run `mirror sync --once` first",
        )
    if source is None:
        listed = await load_published(store)
    else:
        listed = await places.load_root(source)
    chosen = listed if wants is None else [(n, serial) for n, serial in listed if wants(n)]
    has_all = len(chosen) == len(listed)
    row = await record_snapshot(
        store, kind, name, revision=revision, now=holdings.clock(), note=note
    )
    await places.freeze(row, source, chosen, has_all=has_all)
    files, size = await count_published(
        store, revision, None if has_all else [n for n, _ in chosen]
    )
    await record_snapshot_ready(store, row, projects=len(chosen), files=files, size=size)
    _log.info("snapshot.made", kind=kind.value, name=name, revision=revision, projects=len(chosen))
    return msgspec.structs.replace(row, projects=len(chosen), files=files, bytes=size, ready=True)


async def delete_snapshot(holdings: Holdings, name: str) -> SnapshotRow:
    """Delete a snapshot. Raises ``ConfigError`` where there is none, or a channel shows it."""
    await clear_interrupted(holdings)
    row = await find_snapshot(holdings.store, name)
    channels = await frozen_places(holdings).load_channels()
    shown_by = [channel for channel, snapshot in channels.items() if snapshot == name]
    if shown_by:
        raise ConfigError(
            where=name,
            problem=f"the channel {shown_by[0]} shows it;"
            " promote another snapshot to that channel first",
        )
    await remove(holdings, row)
    return row


async def remove(holdings: Holdings, row: SnapshotRow) -> None:
    """Remove a frozen state, and forget it."""
    await frozen_places(holdings).remove(row)
    await record_snapshot_gone(holdings.store, row)
    _log.info("snapshot.removed", kind=row.kind.value, name=row.name)


async def promote(
    holdings: Holdings, name: str, channel: str, *, accepts_withdrawn: bool = False
) -> str | None:
    """Let a channel show a snapshot; return the one that it showed before.

    Raises ``StillWithdrawn`` for one with withdrawn files, unless they are accepted.
    """
    check_name(channel, "channel")
    row = await find_snapshot(holdings.store, name)
    if not accepts_withdrawn:
        await check_withdrawn(holdings.store, row)
    places = frozen_places(holdings)
    before = (await places.load_channels()).get(channel)
    await places.promote(row.name, channel)
    _log.info("channel.promoted", channel=channel, snapshot=name, before=before)
    return before


async def check_withdrawn(store: Store, row: SnapshotRow) -> None:
    """Raise ``StillWithdrawn`` for a snapshot that has withdrawn files."""
    files = await load_withdrawn_of(store, row)
    if files:
        shown = tuple(files[:_NAMED])
        raise StillWithdrawn(snapshot=row.name, files=shown, more=len(files) - len(shown))


async def find_snapshot(store: Store, name: str) -> SnapshotRow:
    """Return a snapshot. Raises ``ConfigError`` where there is none of the name."""
    row = await load_snapshot(store, FrozenKind.SNAPSHOT, name)
    if row is None or not row.ready:
        raise ConfigError(
            where=name, problem="there is no snapshot of this name; see `mirror snapshot list`"
        )
    return row


async def clear_interrupted(holdings: Holdings) -> None:
    """Remove the leftovers of a killed run. The tree's lock must be held."""
    places = frozen_places(holdings)
    for kind in FrozenKind:
        for row in await load_snapshots(holdings.store, kind):
            is_gone = row.kind is FrozenKind.PIN and not await places.has(row)
            if is_gone or not row.ready:
                await remove(holdings, row)
    pins = [row.name for row in await load_snapshots(holdings.store, FrozenKind.PIN)]
    await places.sweep(pins)


def check_name(name: str, what: str) -> None:
    """Raise ``ConfigError`` unless the name may be a directory of the tree."""
    if not NAME.fullmatch(name):
        problem = "expected up to 63 lower-case letters, digits and hyphens, the first no hyphen"
        raise ConfigError(where=f"the name of a {what}", problem=problem)
