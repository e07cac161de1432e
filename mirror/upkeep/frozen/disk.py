"""Frozen pages on the disk: links to the pages that they were made from."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

import anyio.to_thread

from mirror.core.names import ProjectName
from mirror.core.pages.render_pages import iter_root_html, iter_root_json
from mirror.errors import TreeError
from mirror.state.frozen.snapshots import FrozenKind, SnapshotRow
from mirror.tree import snapshots as disk
from mirror.tree.checking.single_files import exists
from mirror.tree.layout import Layout
from mirror.upkeep.frozen.roots import names_of, parse_frozen_root


class DiskFrozen:
    """Frozen states of a tree on the disk."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    async def is_taken(self, name: str) -> bool:
        """Return whether something lies at the place of a snapshot."""
        path = str(disk.snapshot_path(self._layout, name))
        return await anyio.to_thread.run_sync(exists, path)

    async def load_root(self, source: SnapshotRow) -> list[tuple[ProjectName, int]]:
        """Return the projects of a snapshot with the revisions of their pages, by name."""
        return await anyio.to_thread.run_sync(_read_root, self._simple(source))

    async def freeze(
        self,
        row: SnapshotRow,
        source: SnapshotRow | None,
        projects: Sequence[tuple[ProjectName, int]],
        *,
        has_all: bool,
    ) -> None:
        """Link the pages of some projects into the place of ``row``, durably."""
        root = None
        if not has_all:
            serial = row.revision
            root = (iter_root_html(projects, serial), iter_root_json(projects, serial))
        names, simple = names_of(projects), self._simple(source)
        place = await anyio.to_thread.run_sync(
            partial(disk.freeze_pages, self._layout, simple, names, root)
        )
        await anyio.to_thread.run_sync(disk.settle, self._layout, place, self._path(row))

    async def has(self, row: SnapshotRow) -> bool:
        """Return whether a frozen state is there."""
        return await anyio.to_thread.run_sync(disk.has_frozen, self._path(row))

    async def remove(self, row: SnapshotRow) -> None:
        """Remove a frozen state; a missing one is not an error."""
        await anyio.to_thread.run_sync(disk.remove_frozen, self._layout, self._path(row))

    async def sweep(self, pins: Collection[str]) -> None:
        """Remove the leftovers of killed runs; ``pins`` stay."""
        await anyio.to_thread.run_sync(disk.sweep_frozen, self._layout, pins)

    async def load_channels(self) -> dict[str, str]:
        """Return the snapshot that each channel shows."""
        return await anyio.to_thread.run_sync(disk.load_channels, self._layout)

    async def promote(self, snapshot: str, channel: str) -> None:
        """Let a channel show a snapshot."""
        await anyio.to_thread.run_sync(disk.promote, self._layout, snapshot, channel)

    def _simple(self, source: SnapshotRow | None) -> Path:
        if source is None:
            return self._layout.simple
        return disk.snapshot_path(self._layout, source.name) / "simple"

    def _path(self, row: SnapshotRow) -> Path:
        if row.kind is FrozenKind.SNAPSHOT:
            return disk.snapshot_path(self._layout, row.name)
        return disk.pin_path(self._layout, row.name)


def _read_root(simple: Path) -> list[tuple[ProjectName, int]]:
    path = simple / "index.v1_json"
    try:
        data = path.read_bytes()
    except OSError as exc:
        problem = f"the snapshot can't be read ({exc}); delete it"
        raise TreeError(path=str(path), problem=problem) from exc
    return parse_frozen_root(data, str(path))
