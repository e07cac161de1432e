"""The traffic to one index, counted in the session and in worker processes."""

from __future__ import annotations

import msgspec


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """Traffic to one index, in total or since the last report; the same counters as
    ``TrafficCounters``.
    """

    requests: int = 0
    file_bytes: int = 0
    body_bytes: int = 0
    retries: int = 0
    pushback: int = 0
    statuses: dict[int, int] = {}


class TrafficCounters:
    """The traffic to one index so far, and the part of it that is reported."""

    def __init__(self) -> None:
        self.requests = 0
        """Requests sent, each redirect included."""
        self.file_bytes = 0
        """Received bytes of files' bodies."""
        self.body_bytes = 0
        """Received bytes of all bodies, decoded or not: a sign of progress."""
        self.retries = 0
        """Number of repeated requests after a failure; counted by the code that repeats them."""
        self.statuses: dict[int, int] = {}
        """HTTP status -> answers, each redirect included."""
        self._reported = Traffic()

    def take(self, pushback: int) -> Traffic | None:
        """Return the traffic since the last call, or None. ``pushback``: how often in total the
        upstream has asked for less.
        """
        before = self._reported
        if (self.requests, self.body_bytes, pushback) == (
            before.requests,
            before.body_bytes,
            before.pushback,
        ):
            return None
        self._reported = Traffic(
            requests=self.requests,
            file_bytes=self.file_bytes,
            body_bytes=self.body_bytes,
            retries=self.retries,
            pushback=pushback,
            statuses=dict(self.statuses),
        )
        return Traffic(
            requests=self.requests - before.requests,
            file_bytes=self.file_bytes - before.file_bytes,
            body_bytes=self.body_bytes - before.body_bytes,
            retries=self.retries - before.retries,
            pushback=pushback - before.pushback,
            statuses={k: n - before.statuses.get(k, 0) for k, n in self.statuses.items()},
        )

    def add(self, traffic: Traffic) -> None:
        """Add the traffic of a worker process."""
        self.requests += traffic.requests
        self.file_bytes += traffic.file_bytes
        self.body_bytes += traffic.body_bytes
        self.retries += traffic.retries
        for status, count in traffic.statuses.items():
            self.statuses[status] = self.statuses.get(status, 0) + count
