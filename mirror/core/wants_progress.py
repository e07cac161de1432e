"""How far a cycle is with its wants: first with their resolutions, at its end with their proofs."""

from __future__ import annotations

import msgspec


class WantsProgress(msgspec.Struct, kw_only=True):
    """Counters for a display and for the daemon's watchdog."""

    done: int = 0
    """Number of resolutions, or proofs, that are known so far: computed, or found unchanged."""
    total: int = 0
    beats: int = 0
    """Grows while resolvers run, however long one of them takes."""

    def begin(self, total: int) -> None:
        """Begin to count to another number."""
        self.done, self.total = 0, total

    def describe(self) -> str:
        """Return the counters in words; empty where there is nothing to count."""
        return f"{self.done:,} of {self.total:,}" if self.total else ""
