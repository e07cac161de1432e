"""The state's facts as metrics, with the names of the daemon's endpoint. Blocking."""

from __future__ import annotations

import time
from typing import Final

from mirror import __version__
from mirror.config import Config
from mirror.metrics import Metrics
from mirror.serve.facts.reading import Reading
from mirror.status.facts import load_facts
from mirror.tree.disk.failures import disk_space

_COST_FACTOR: Final = 20


class MirrorMetrics:
    """The facts, loaded again once the state has changed and their cost allows it."""

    def __init__(self, reading: Reading, config: Config) -> None:
        self._reading, self._config = reading, config
        self._metrics = Metrics(
            version=__version__,
            clock=time.time,
            disk=lambda: disk_space(config.mirror.root),
            is_service=False,
        )
        self._signature: tuple[object, ...] | None = None
        self._due_s = 0.0

    def render(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        now_s, signature = time.monotonic(), self._reading.signature()
        if signature != self._signature and now_s >= self._due_s:
            self._metrics.facts = self._reading.load(
                lambda store: load_facts(
                    store,
                    self._config,
                    now=time.time(),
                    is_scheduled=bool(self._config.indexes),
                )
            )
            self._signature = signature
            self._due_s = now_s + _COST_FACTOR * (time.monotonic() - now_s)
        return self._metrics.render_file()
