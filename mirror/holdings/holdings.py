"""The held files: the state that lists them and the tree that has them, opened together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from mirror.holdings.tree import DiskWriter, TreeFiles, TreePages, TreeWriter
from mirror.state.store import Store
from mirror.tree.layout import Layout

if TYPE_CHECKING:
    from mirror.tree.objects.client import ObjectClient


class Clock(Protocol):
    """Seconds since the epoch."""

    def __call__(self) -> float:
        """Return the time now."""


class Holdings(msgspec.Struct, frozen=True, kw_only=True):
    """State and tree of one mirror, open for one command or cycle."""

    store: Store
    layout: Layout
    files: TreeFiles
    pages: TreePages
    writer: TreeWriter = DiskWriter()
    client: ObjectClient | None = None
    """Of the object store that has the tree; None: it lies on the disk."""
    clock: Clock
    cycle: int
    """The number of the cycle under way, or of the last one; rows are recorded with it."""
