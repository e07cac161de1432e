"""Decides whether a blob may be served: by the state where it can be read, else by its place in the
tree.

Invariant: a positive answer is reused for a second, a negative one never.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from mirror.core.names import Sha256
from mirror.errors import StateError
from mirror.serve.state_warning import StateWarning
from mirror.state.shown.served import BlobState, Verdict

_BELIEVED_S: Final = 1.0
_MOST: Final = 20_000


class BlobJudge:
    """Asks the state, in a thread of its own."""

    def __init__(self, state: BlobState, warning: StateWarning) -> None:
        self._state, self._warning = state, warning
        self._thread = ThreadPoolExecutor(1, "state")
        self._believed: OrderedDict[tuple[Sha256, str], float] = OrderedDict()

    @property
    def has_state(self) -> bool:
        """Whether the tree has a state, readable or not."""
        return self._state.exists()

    async def judge(self, sha256: Sha256, filename: str) -> Verdict:
        """Return the verdict on a blob; ``SERVED`` does not mean that its bytes exist."""
        key, now_s = (sha256, filename), time.monotonic()
        believed_s = self._believed.get(key)
        if believed_s is not None and now_s - believed_s < _BELIEVED_S:
            return Verdict.SERVED
        verdict = await asyncio.get_running_loop().run_in_executor(
            self._thread, self._judge, sha256, filename
        )
        if verdict is Verdict.SERVED:
            self._believed[key] = now_s
            self._believed.move_to_end(key)
            if len(self._believed) > _MOST:
                self._believed.popitem(last=False)
        return verdict

    def close(self) -> None:
        """Close the state."""
        self._thread.shutdown(wait=True)
        self._state.close()

    def _judge(self, sha256: Sha256, filename: str) -> Verdict:
        if not self._state.exists():
            self._state.close()
            return Verdict.SERVED
        try:
            verdict = self._state.judge(sha256, filename)
        except StateError as exc:
            self._warning.warn(exc)
            return Verdict.SERVED
        self._warning.clear()
        return verdict
