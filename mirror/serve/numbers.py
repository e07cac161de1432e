"""The server in numbers for Prometheus: the answers of all its processes since it started."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mirror import __version__
from mirror.serve.shared import SharedCounters


def render_numbers(shared: SharedCounters) -> bytes:
    """Return everything in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Numbers(shared))
    return bytes(generate_latest(registry))


class _Numbers(Collector):
    def __init__(self, shared: SharedCounters) -> None:
        self._shared = shared

    def collect(self) -> Iterator[Metric]:
        info = GaugeMetricFamily("mirror_build_info", "The running version.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        answers = CounterMetricFamily(
            "mirror_serve_answers", "Requests that `mirror serve` answered, by HTTP status.", labels=["status"]
        )
        for status, count in self._shared.totals().items():
            if count:
                answers.add_metric([status], count)
        yield answers
        yield CounterMetricFamily("mirror_serve_sent_bytes", "Bytes of bodies that it sent.", self._shared.sent_bytes)
        yield GaugeMetricFamily("mirror_serve_connections", "Connections that are open.", self._shared.connections)
