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
from unittest.mock import patch

from mirror.state import store


@contextlib.contextmanager
def states_prepared() -> Iterator[None]:
    """Let states that are made while this is open be copies."""
    _empty_state()
    with patch.object(store, "_make_private", _copy_empty_state):
        yield


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
