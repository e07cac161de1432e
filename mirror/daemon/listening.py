"""The daemon's own address for metrics and health, opened and closed as the configuration asks."""

from __future__ import annotations

import time
from collections.abc import Callable

import anyio.to_thread

from mirror.config import Config
from mirror.daemon.endpoint import Answers, Endpoint
from mirror.daemon.pulse import Pulse
from mirror.logs import get_logger
from mirror.metrics import Metrics

_log = get_logger(__name__)


class HealthListener:
    """Holds the endpoint while there is an address for it."""

    def __init__(self, current: Callable[[], Config], metrics: Metrics, pulse: Pulse) -> None:
        """``current`` returns the configuration in force."""
        self._current, self._metrics, self._pulse = current, metrics, pulse
        self._endpoint: Endpoint | None = None

    async def open(self) -> None:
        """Listen, unless there is no address, or this is done; a failure is logged."""
        service = self._current().service
        address = service.listen_address
        if address is None or self._endpoint is not None:
            return
        answers = Answers(
            metrics=self._metrics.render, is_live=self._pulse.is_alive, problems=self._problems
        )
        try:
            self._endpoint = await anyio.to_thread.run_sync(lambda: Endpoint(*address, answers))
        except OSError as exc:
            problem = exc.strerror or str(exc)
            _log.error("metrics.unavailable", address=service.metrics_listen, problem=problem)
        else:
            _log.info("metrics.listening", address=self._endpoint.address)

    async def close(self) -> None:
        """Listen no longer."""
        if self._endpoint is not None:
            await anyio.to_thread.run_sync(self._endpoint.close)
            self._endpoint = None

    def _problems(self) -> list[str]:
        """Return why the mirror is not ready to be used; asked from another thread."""
        facts = self._metrics.facts
        if facts is None or facts.last_cycle is None:
            return ["no cycle has come to its end yet"]
        read = {i.name for i in facts.indexes if i.last_success is not None}
        never = [i.name for i in self._current().indexes if i.name not in read]
        stale = [name for name in facts.stale(now=time.time()) if name not in never]
        return [f"{name}: never read to its end" for name in never] + [
            f"{name}: stale" for name in stale
        ]
