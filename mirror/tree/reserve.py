"""Guards the disk's free-space reserve: every write is checked against it first, across threads and
processes.

Invariant: bytes that were allowed and are still unwritten count as used, so that many writers can't
use up the reserve together.
"""

from __future__ import annotations

import threading
import time
from array import array
from types import TracebackType
from typing import Final

from mirror.errors import NoRoom
from mirror.tree.disk.failures import disk_space, free_bytes, full_disk_error

_AGE_S: Final = 0.2
"""How long an answer of the system is reused: asking it for each small file would cost more than
writing it.
"""

_FAR_BYTES: Final = 4 << 30
"""More than all processes together can have allowed and not written: each writes from memory, some
MiB for each file. With this much room beyond the reserve the others' numbers need no sum, which
would take longer than a small file.
"""

_LITTLE_BYTES: Final = 8 << 20
"""A disk with less room than this is full, however much of it one file takes."""


class Reserve:
    """The reserve of the disk at ``place``.

    ``pending_bytes``: unwritten bytes as 64-bit numbers, one for each process that writes there;
    ``slot`` is this process's index.
    """

    def __init__(
        self,
        place: str,
        reserve_bytes: int,
        *,
        pending_bytes: memoryview | None = None,
        slot: int = 0,
    ) -> None:
        self._place = place
        self._reserve_bytes = reserve_bytes
        self._pending_bytes = (
            memoryview(array("q", [0])) if pending_bytes is None else pending_bytes
        )
        self._slot = slot
        self._lock = threading.Lock()
        self._free_bytes: int | None = None
        self._asked_again_at_s = 0.0
        self._room_at_first: int | None = None

    def writing(self, needed_bytes: int) -> _Writing:
        """Return a context in which ``needed_bytes`` may be written.

        Raises ``TreeError`` if they would use up the reserve.
        """
        with self._lock:
            if time.monotonic() >= self._asked_again_at_s or not self._is_enough(needed_bytes):
                self._ask()
            if not self._is_enough(needed_bytes):
                what = (
                    f"{needed_bytes} bytes more would use up the reserve of"
                    f" {self._reserve_bytes} bytes"
                )
                raise full_disk_error(self._place, what, "free some space, or lower `disk-reserve`")
            self._pending_bytes[self._slot] += needed_bytes
        return _Writing(self, needed_bytes)

    def check_unlisted(self, written_bytes: int, announced_bytes: int | None) -> None:
        """Raise ``NoRoom`` where a body of unlisted size has to end, so that it does not stop
        everything else.

        A body of unknown length may take as much as it leaves free, so that several of them do not
        fill the disk either; one with an announced length must fit into the space that was free at
        first.
        """
        with self._lock:
            if time.monotonic() >= self._asked_again_at_s:
                self._ask()
            room, at_first = self._room(), self._room_at_first
        if room is None or at_first is None or written_bytes + room < _LITTLE_BYTES:
            return
        if announced_bytes is not None and announced_bytes > at_first:
            raise NoRoom(
                size_bytes=announced_bytes,
                is_announced=True,
                room_bytes=room,
                is_disk_full=self._fits_an_empty_disk(announced_bytes),
            )
        if announced_bytes is None and written_bytes > room:
            had_little = self._fits_an_empty_disk(2 * at_first)
            raise NoRoom(
                size_bytes=written_bytes,
                is_announced=False,
                room_bytes=room,
                is_disk_full=had_little,
            )

    def _fits_an_empty_disk(self, needed_bytes: int) -> bool:
        """Return whether the bytes and the reserve together fit on the whole disk."""
        space = disk_space(self._place)
        return space is not None and needed_bytes + self._reserve_bytes <= space[0]

    def settle(self, reserved_bytes: int) -> None:
        """Subtract bytes that are written, or never will be; the system counts them at the next
        query.
        """
        with self._lock:
            self._pending_bytes[self._slot] -= reserved_bytes
            if self._free_bytes is not None:
                self._free_bytes -= reserved_bytes

    def _ask(self) -> None:
        self._free_bytes = free_bytes(self._place)
        self._asked_again_at_s = time.monotonic() + _AGE_S
        if self._room_at_first is None:
            self._room_at_first = self._room()

    def _room(self) -> int | None:
        """Return the bytes that may still be written, or None where the file system gave no answer
        yet.
        """
        return (
            None
            if self._free_bytes is None
            else self._free_bytes - sum(self._pending_bytes) - self._reserve_bytes
        )

    def _is_enough(self, needed_bytes: int) -> bool:
        free_bytes = self._free_bytes
        if free_bytes is not None and free_bytes - self._reserve_bytes > needed_bytes + _FAR_BYTES:
            return True
        room = self._room()
        return room is None or room >= needed_bytes


class _Writing:
    """Some bytes that may be written until the end of the ``with``."""

    __slots__ = ("_bytes", "_reserve")

    def __init__(self, reserve: Reserve, reserved_bytes: int) -> None:
        self._reserve, self._bytes = reserve, reserved_bytes

    def __enter__(self) -> None:
        """Nothing to do: the bytes are reserved already."""

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        """Settle it."""
        self._reserve.settle(self._bytes)
