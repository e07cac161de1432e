"""Reads the state and the tree for one kind of question, in one thread of its own.

Blocking; every method but ``run`` and ``close`` is called within ``run``. Where the state is
missing or can't be read, ``load`` returns None: the caller shows the tree's facts.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from pathlib import Path
from typing import Any, Final, TypeVar

from mirror.errors import StateError
from mirror.serve.state_warning import StateWarning
from mirror.state.shown.live_reader import LiveReader
from mirror.state.store import Store
from mirror.tree.served import ServedTree

T = TypeVar("T")

_MAX_FILE_BYTES: Final = 256 << 20


class StateAccess(Enum):
    """Whether the state can be read."""

    READ = "read"
    MISSING = "missing"
    UNREADABLE = "unreadable"
    OLDER = "older"
    """An earlier version of the program wrote it."""


class Reading:
    """The state and the tree, as one thread reads them."""

    def __init__(self, state: Path, tree: ServedTree, warning: StateWarning) -> None:
        self._reader, self._tree, self._warning = LiveReader(state), tree, warning
        self._thread = ThreadPoolExecutor(1, "people")
        self.access = StateAccess.MISSING
        """As the last call of ``load`` found it."""

    async def run(self, work: Callable[[], T]) -> T:
        """Run blocking work in the thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        """End the thread and close the state."""
        self._thread.shutdown(wait=True)
        self._reader.close()

    @property
    def has_state(self) -> bool:
        """Whether the tree has a state, readable or not."""
        return self._reader.exists()

    def load(self, ask: Callable[[Store], Coroutine[Any, Any, T]]) -> T | None:
        """Return the result of a loading function of ``state``, or None."""
        if not self._reader.exists():
            self.access = StateAccess.MISSING
            self._reader.close()
            return None
        try:
            found = self._reader.load(ask)
        except StateError as exc:
            self.access = StateAccess.OLDER if exc.is_older else StateAccess.UNREADABLE
            self._warning.warn(exc)
            return None
        self.access = StateAccess.READ
        return found

    def signature(self) -> tuple[object, ...]:
        """Return a value that differs once something may be shown differently."""
        found: tuple[object, ...] = ()
        for place in (("simple", "index.v1_json"), ("simple", "index.html")):
            try:
                status = self.file_status(place)
            except OSError:
                continue
            found = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            break
        if not self._reader.exists():
            return found
        try:
            return (*found, *self._reader.signature())
        except StateError as exc:
            return (*found, str(exc))

    def read_file(self, place: Sequence[str]) -> tuple[bytes, os.stat_result]:
        """Return the bytes of a file below ``public``, and its status. Raises ``OSError``."""
        descriptor, found = self._tree.open(place, follows_owner=self.has_state)
        with os.fdopen(descriptor, "rb") as file:
            return file.read(_MAX_FILE_BYTES), found

    def file_status(self, place: Sequence[str]) -> os.stat_result:
        """Return the status of a file below ``public``. Raises ``OSError``."""
        descriptor, found = self._tree.open(place, follows_owner=self.has_state)
        os.close(descriptor)
        return found
