"""The interface of frozen pages, and its choice for a tree."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from mirror.core.names import ProjectName
from mirror.holdings.holdings import Holdings
from mirror.state.frozen.snapshots import SnapshotRow
from mirror.upkeep.frozen.disk import DiskFrozen
from mirror.upkeep.frozen.store import StoreFrozen


class FrozenPlaces(Protocol):
    """Snapshots, pins and channels of one tree. Raises ``TreeError``."""

    async def is_taken(self, name: str) -> bool:
        """Return whether something lies at the place of a snapshot."""

    async def load_root(self, source: SnapshotRow) -> list[tuple[ProjectName, int]]:
        """Return the projects of a snapshot with the revisions of their pages, by name."""

    async def freeze(
        self,
        row: SnapshotRow,
        source: SnapshotRow | None,
        projects: Sequence[tuple[ProjectName, int]],
        *,
        has_all: bool,
    ) -> None:
        """Freeze the pages of some projects, the live ones or those of ``source``, durably.

        ``has_all``: they are all projects of the source, so that its root page fits.
        """

    async def has(self, row: SnapshotRow) -> bool:
        """Return whether a frozen state is there."""

    async def remove(self, row: SnapshotRow) -> None:
        """Remove a frozen state; a missing one is not an error."""

    async def sweep(self, pins: Collection[str]) -> None:
        """Remove the leftovers of killed runs; ``pins`` stay."""

    async def load_channels(self) -> dict[str, str]:
        """Return the snapshot that each channel shows."""

    async def promote(self, snapshot: str, channel: str) -> None:
        """Let a channel show a snapshot."""


def frozen_places(holdings: Holdings) -> FrozenPlaces:
    """Return where the frozen pages of a tree lie."""
    if holdings.client is None:
        return DiskFrozen(holdings.layout)
    return StoreFrozen(holdings, holdings.client)
