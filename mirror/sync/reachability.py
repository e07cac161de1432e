"""Whether an index can be reached: too many failures in a row end its part of the cycle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import msgspec

from mirror.errors import MirrorError, Unavailable
from mirror.upstream.index import IndexClient

if TYPE_CHECKING:
    from mirror.upstream.flat import FlatClient

_UNREACHABLE_IN_A_ROW = 4
"""After this many consecutive failures to reach a page or file, the root page is fetched to find
out whether the index is down.
"""
_UNREACHABLE_AT_MOST = 64
"""After this many the index is given up even if its root page answers: a few broken pages must not
stop the others.

In between, the root is checked again at doubling intervals: an index can die after a first bad
moment.
"""


class Reachability(msgspec.Struct, kw_only=True):
    """Whether one index can be reached, and why its part of the cycle ended."""

    client: IndexClient | FlatClient
    ended: MirrorError | None = None
    scope: anyio.CancelScope = msgspec.field(default_factory=anyio.CancelScope)
    _unreachable: int = 0
    _ask_at: int = _UNREACHABLE_IN_A_ROW

    def end(self, error: MirrorError) -> None:
        """End this index's part of the cycle; finished work stays."""
        if self.ended is None:
            self.ended = error
        self.scope.cancel()

    def record_answer(self) -> None:
        """The index answered something useful."""
        self._unreachable = 0

    def count_unreachable(self) -> int:
        """Count a failure to reach the index; return how many there were in a row."""
        self._unreachable += 1
        return self._unreachable

    async def record_unreachable(self, error: Unavailable, in_a_row: int | None = None) -> None:
        """Count a failure to reach the index, unless it was counted already; too many in a row open
        the circuit.
        """
        in_a_row = self.count_unreachable() if in_a_row is None else in_a_row
        if in_a_row < _UNREACHABLE_IN_A_ROW:
            return
        # Retry-After: the index itself asks for a pause.
        is_down = in_a_row >= _UNREACHABLE_AT_MOST or error.retry_after_s is not None
        if is_down or (in_a_row >= self._ask_at and not await self._answers()):
            self.end(error)

    async def _answers(self) -> bool:
        """Return whether the index gives any answer, by its root page; a few times in a cycle at
        most.
        """
        self._ask_at *= 2
        return await self.client.answers()
