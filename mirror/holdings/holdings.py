"""The held files: the state that lists them and the tree that has them, opened together."""

from __future__ import annotations

from typing import Protocol

import msgspec

from mirror.state.store import Store
from mirror.tree.files import FileStore
from mirror.tree.layout import Layout
from mirror.tree.pages import PageStore


class Clock(Protocol):
    """Seconds since the epoch."""

    def __call__(self) -> float:
        """Return the time now."""


class Holdings(msgspec.Struct, frozen=True, kw_only=True):
    """State and tree of one mirror, open for one command or cycle."""

    store: Store
    layout: Layout
    files: FileStore
    pages: PageStore
    clock: Clock
    cycle: int
    """The number of the cycle under way, or of the last one; rows are recorded with it."""
