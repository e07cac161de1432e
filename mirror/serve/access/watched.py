"""A value that is read from files, and read again when the files change.

Invariants: files that can't be read never replace a value; each version of the files is logged
once, whichever of the server's processes sees it first.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Generic, TypeVar

from mirror.logs import get_logger

_CHECK_EVERY_S: Final = 1.0
_Signature = tuple[tuple[int, ...], ...]
_MARK: Final = (1 << 63) - 1

T = TypeVar("T")
_log = get_logger(__name__)


class Watched(Generic[T]):
    """The value of one or more files. Made before a fork, it reports once for all processes."""

    def __init__(
        self,
        paths: Sequence[Path],
        load: Callable[[], T],
        *,
        noun: str,
        words: Callable[[Exception], str],
    ) -> None:
        """Read the files; raises what ``load`` raises.

        ``noun`` begins the events; ``words`` describes an ``OSError`` or ``ValueError`` of
        ``load``.
        """
        self._paths, self._load, self._noun, self._words = tuple(paths), load, noun, words
        self._reported = mmap.mmap(-1, 8)
        self._seen = self._signature()
        self._value = load()
        self._checked_s = time.monotonic()

    def current(self) -> T:
        """Return the value; looks at the files once a second."""
        now_s = time.monotonic()
        if now_s - self._checked_s >= _CHECK_EVERY_S:
            self._checked_s = now_s
            self.refresh()
        return self._value

    def refresh(self, *, always: bool = False) -> None:
        """Read the files again where they changed, or ``always``; on failure the value stays."""
        signature = self._signature()
        if signature == self._seen and not always:
            return
        is_change = signature != self._seen
        self._seen = signature
        try:
            self._value = self._load()
        except (OSError, ValueError) as exc:
            if self._is_first(signature):
                advice = f"the old {self._noun} stays in use"
                _log.error(f"{self._noun}.refused", problem=self._words(exc), advice=advice)
        else:
            if self._is_first(signature) and is_change:
                _log.info(f"{self._noun}.loaded")

    def _is_first(self, signature: _Signature) -> bool:
        """Return whether no process has reported this version of the files yet."""
        mark = ((hash(signature) & _MARK) or 1).to_bytes(8, "big")
        if self._reported[:8] == mark:
            return False
        self._reported[:8] = mark
        return True

    def _signature(self) -> _Signature:
        found: list[tuple[int, ...]] = []
        for path in self._paths:
            try:
                status = path.stat()
            except OSError:
                found.append(())
            else:
                known = (status.st_dev, status.st_ino, status.st_size)
                found.append((*known, status.st_mtime_ns, status.st_ctime_ns))
        return tuple(found)
