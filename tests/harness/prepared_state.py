"""A new state as a copy of one that the program has made: its tables take longer to make than a cycle.

The program makes an empty file where there is no state, and then its tables. In here it finds them made.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from mirror.state import store

_MAKE_PRIVATE = store._make_private


@contextlib.contextmanager
def states_prepared() -> Iterator[None]:
    """Let states that are made while this is open be copies."""
    _empty_state()
    # Two of these may overlap in one event loop: each ends with the program's own function.
    store._make_private = _copy_empty_state
    try:
        yield
    finally:
        store._make_private = _MAKE_PRIVATE


def _copy_empty_state(path: Path) -> None:
    with contextlib.suppress(OSError):
        made = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with os.fdopen(made, "wb", buffering=0) as file:
            try:
                file.write(_empty_state())
            except OSError:
                file.truncate(0)  # the program fails where it makes the tables, with its own message


@cache
def _empty_state() -> bytes:
    """Return a state with all its tables and no rows, as the program makes it."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "state.db"

        async def make() -> None:
            async with store.open_store(path):
                pass

        maker = threading.Thread(target=asyncio.run, args=[make()])
        maker.start()
        maker.join()
        return path.read_bytes()
