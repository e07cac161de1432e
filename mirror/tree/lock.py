"""One writer: locks that end with their process.

The kernel releases a ``flock`` when its holder dies, so there is no stale lock. The file itself
stays; it contains the holder's pid, for the message of a process that finds the lock taken. Readers
take no lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from mirror.errors import LockHeld
from mirror.logs import get_logger
from mirror.tree.disk.failures import tree_errors
from mirror.tree.layout import PRIVATE_FILE

_POLL_S: Final = 0.1
_LONGEST_PID: Final = 32

_log = get_logger(__name__)


@contextmanager
def hold(path: Path, *, wait_s: float = 0) -> Iterator[None]:
    """Hold the lock; wait for its holder up to ``wait_s`` seconds.

    Raises ``LockHeld``, ``TreeError``.
    """
    waiting = _Waiting(path, wait_s)
    while (descriptor := _try_lock(path)) is None:
        time.sleep(waiting.pause_s())
    try:
        yield
    finally:
        _unlock(descriptor)


@asynccontextmanager
async def hold_async(path: Path, *, wait_s: float = 0) -> AsyncIterator[None]:
    """Hold the lock as ``hold`` does, leaving the event loop free meanwhile."""
    waiting = _Waiting(path, wait_s)
    # The holder may be another process, so its release can only be polled.
    while (descriptor := await anyio.to_thread.run_sync(_try_lock, path)) is None:  # noqa: ASYNC110
        await anyio.sleep(await anyio.to_thread.run_sync(waiting.pause_s))
    try:
        yield
    finally:
        # Not in a thread: it must happen in a cancelled scope too, and never waits.
        _unlock(descriptor)


def holder_pid(path: Path) -> int | None:
    """Return the pid in the lock's file; None without one.

    It is meaningless while nobody holds the lock.
    """
    try:
        return int(path.read_bytes()[:_LONGEST_PID])
    except (OSError, ValueError):
        return None


def locked_since(path: Path) -> float | None:
    """Return when the lock's file was written last, that is when its holder took it; None without a
    file.
    """
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def _try_lock(path: Path) -> int | None:
    """Return the descriptor that holds the lock, or None while another one does."""
    with tree_errors(path):
        descriptor = os.open(
            path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE_FILE
        )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


class _Waiting:
    """The wait for a lock's holder: its time limit, and one log line about it."""

    def __init__(self, path: Path, wait_s: float) -> None:
        self._path = path
        self._deadline = time.monotonic() + wait_s
        self._is_logged = False

    def pause_s(self) -> float:
        """Return how long to wait before the next try.

        Raises ``LockHeld`` when the time is over.
        """
        left_s = self._deadline - time.monotonic()
        pid = holder_pid(self._path)
        if left_s <= 0:
            raise LockHeld(path=str(self._path), pid=pid)
        if not self._is_logged:
            _log.info("lock.waiting", path=str(self._path), pid=pid, at_most_s=round(left_s, 1))
            self._is_logged = True
        return min(_POLL_S, left_s)


def _unlock(descriptor: int) -> None:
    # Else the next holder could be reported under this pid until it has written its own. A disk
    # that refuses even that keeps nobody from the lock.
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
    with contextlib.suppress(OSError):  # it is closed all the same
        os.close(descriptor)
