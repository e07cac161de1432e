"""The one warning about a state that can't be read, whoever reads it first."""

from __future__ import annotations

import time
from typing import Final

from mirror.errors import StateError
from mirror.logs import get_logger

_WARN_EVERY_S: Final = 3600.0
_ADVICE: Final = (
    "files are served by their place in the tree alone: withdrawn ones are not known, and the pages"
    " for people show the tree without its history"
)
_log = get_logger(__name__)


class StateWarning:
    """Logs at most one warning an hour while the state can't be read. Used from several threads."""

    def __init__(self) -> None:
        self._warned_s: float | None = None

    def warn(self, error: StateError) -> None:
        """Log the error, unless it was logged within the last hour."""
        now_s = time.monotonic()
        if self._warned_s is None or now_s - self._warned_s > _WARN_EVERY_S:
            self._warned_s = now_s
            _log.warning("state.unreadable", problem=str(error), advice=_ADVICE)

    def clear(self) -> None:
        """Forget the warning: the state was read."""
        self._warned_s = None
