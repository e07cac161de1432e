"""Numbers that all processes of one server share: the answers, and the connections of each client.

Invariants: each process writes only to its own slot, so no lock is needed; the parent makes the
memory before it forks, and clears the connections of a process that has ended. Its answers stay
counted.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

SLOTS: Final = 64
"""Maximum number of concurrent processes, old ones with their last transfers included."""

STATUSES: Final = (200, 206, 301, 304, 400, 401, 404, 405, 406, 412, 416, 429, 500, 503)
_OTHER: Final = len(STATUSES)
_BYTES: Final = _OTHER + 1
_CONNECTIONS: Final = _BYTES + 1
_NUMBERS: Final = _CONNECTIONS + 1
_BUCKETS: Final = 1 << 16
"""Clients whose keys fall into one bucket are counted together: with this many, that is rare."""


class SharedCounters:
    """The memory itself; made once, before the first fork."""

    def __init__(self) -> None:
        self._numbers = memoryview(mmap.mmap(-1, SLOTS * _NUMBERS * 8)).cast("Q")
        self._clients = memoryview(mmap.mmap(-1, SLOTS * _BUCKETS * 2)).cast("H")
        self._live: set[int] = set()

    @property
    def has_room(self) -> bool:
        """Whether another process may start."""
        return len(self._live) < SLOTS - 1

    def take_slot(self) -> int:
        """Return a slot for a new process. Called by the parent alone."""
        slot = next(number for number in range(SLOTS) if number not in self._live)
        self._live.add(slot)
        return slot

    def free_slot(self, slot: int) -> None:
        """Forget the connections of a process that has ended. Called by the parent alone."""
        self._live.discard(slot)
        self._numbers[slot * _NUMBERS + _CONNECTIONS] = 0
        first = slot * _BUCKETS
        self._clients[first : first + _BUCKETS] = memoryview(bytes(_BUCKETS * 2)).cast("H")

    def of(self, slot: int) -> Counters:
        """Return the numbers as one process writes them."""
        return Counters(self, slot)

    def totals(self) -> Mapping[str, int]:
        """Return answers by status."""
        return {
            str(status): self._total(place) for place, status in enumerate((*STATUSES, "other"))
        }

    @property
    def sent_bytes(self) -> int:
        """Bytes of all bodies that were sent."""
        return self._total(_BYTES)

    @property
    def connections(self) -> int:
        """Connections that are open."""
        return self._total(_CONNECTIONS)

    def _total(self, place: int) -> int:
        return sum(self._numbers[slot * _NUMBERS + place] for slot in range(SLOTS))

    def _each(self, bucket: int) -> Iterator[int]:
        return (self._clients[slot * _BUCKETS + bucket] for slot in range(SLOTS))


class Counters:
    """One process's slot."""

    def __init__(self, shared: SharedCounters, slot: int) -> None:
        self.shared = shared
        self._first = slot * _NUMBERS
        self._clients = slot * _BUCKETS

    def answered(self, status: int, sent: int) -> None:
        """Count one answer."""
        place = STATUSES.index(status) if status in STATUSES else _OTHER
        self.shared._numbers[self._first + place] += 1  # noqa: SLF001 - one object in two parts
        self.shared._numbers[self._first + _BYTES] += sent  # noqa: SLF001

    def connected(self, change: int) -> None:
        """Count a new connection (1) or a closed one (-1)."""
        self.shared._numbers[self._first + _CONNECTIONS] += change  # noqa: SLF001

    def enter(self, client: str) -> int:
        """Count one more for a client; return how many it has now, in all processes."""
        bucket = hash(client) % _BUCKETS
        place = self._clients + bucket
        clients = self.shared._clients  # noqa: SLF001
        clients[place] = min(clients[place] + 1, 0xFFFF)
        return sum(self.shared._each(bucket))  # noqa: SLF001

    def leave(self, client: str) -> None:
        """Count one less for a client."""
        place = self._clients + hash(client) % _BUCKETS
        clients = self.shared._clients  # noqa: SLF001
        clients[place] = max(clients[place] - 1, 0)


def render_numbers(shared: SharedCounters) -> bytes:
    """Return the numbers of the server in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Numbers(shared))
    return bytes(generate_latest(registry))


class _Numbers(Collector):
    def __init__(self, shared: SharedCounters) -> None:
        self._shared = shared

    def collect(self) -> Iterator[Metric]:
        answers = CounterMetricFamily(
            "mirror_serve_answers",
            "Requests that `mirror serve` answered, by HTTP status.",
            labels=["status"],
        )
        for status, count in self._shared.totals().items():
            if count:
                answers.add_metric([status], count)
        yield answers
        yield CounterMetricFamily(
            "mirror_serve_sent_bytes", "Bytes of bodies that it sent.", self._shared.sent_bytes
        )
        yield GaugeMetricFamily(
            "mirror_serve_connections", "Connections that are open.", self._shared.connections
        )
