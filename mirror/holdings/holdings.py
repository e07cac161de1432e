"""The held files: the state that lists them and the tree that has them, opened together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mirror.state.store import Store
from mirror.tree.files import FileStore
from mirror.tree.layout import Layout
from mirror.tree.pages import PageStore


class Clock(Protocol):
    """Seconds since the epoch."""

    def __call__(self) -> float:
        """Return the time now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """State and tree of one mirror, open for one command or cycle."""

    store: Store
    layout: Layout
    files: FileStore
    pages: PageStore
    clock: Clock
    cycle: int
    """The number of the cycle under way, or of the last one; rows are recorded with it."""
