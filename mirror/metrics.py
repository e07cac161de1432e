"""The mirror in numbers for Prometheus, and whether it is healthy.

Two sorts: facts from the state (``Facts``, gauges, also in the textfile after ``sync --once``), and
events that this process counted since it started (counters). Names follow Prometheus' conventions:
a unit at the end, ``_total`` for counters, times as seconds since the epoch, so that an alert
computes ``time() - …``. Rendering may happen in another thread than counting.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from mirror.core.schedule import is_stale

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_DURATION_BUCKETS_S = (1, 5, 15, 60, 300, 900, 1800, 3600, 4 * 3600, 12 * 3600)
LAST_COUNTERS = (
    "projects_checked",
    "projects_changed",
    "projects_removed",
    "files_new",
    "files_replaced",
    "files_removed",
    "files_failed",
    "bytes_downloaded",
    "requests",
)
"""The counters of a cycle's report that the metrics show."""


class IndexFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One configured index, as of the last cycle."""

    name: str
    interval_s: float | None = None
    """None without a configuration, or without a schedule of cycles."""
    last_success: float | None = None
    listed_projects: int = 0
    held_projects: int = 0
    held_files: int = 0
    held_bytes: int = 0
    failures: Mapping[str, int] = {}
    """Reason -> rows of the ledger."""
    not_offered: int = 0
    """Names that the configuration asks for and no index lists."""
    not_served: int = 0
    """Projects that it owns and whose files nobody serves."""
    credential_expires: float | None = None
    credential_usable: bool = True


class CycleFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The cycle that ended last."""

    finished_at: float
    duration_s: float
    outcome: str
    exit_code: int
    counters: Mapping[str, Mapping[str, int]] = {}
    """Index -> counter of the report -> value."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """The facts in the state."""

    since: float
    """When the mirror's first cycle began, or now."""
    indexes: tuple[IndexFacts, ...] = ()
    last_cycle: CycleFacts | None = None
    advisories: tuple[float | None, Mapping[str, int]] | None = None
    """When the advisories in force were changed last, and the number of files by verdict."""
    wants: tuple[tuple[str, str, str, bool], ...] = ()
    """Want, file, target, and whether it installs."""
    damaged: int = 0
    upkeep_at: float | None = None

    def for_indexes(self, intervals: Mapping[str, float]) -> Facts:
        """Return the facts about these indexes, which are read in these intervals."""
        indexes = tuple(
            msgspec.structs.replace(index, interval_s=intervals[index.name])
            for index in self.indexes
            if index.name in intervals
        )
        return msgspec.structs.replace(self, indexes=indexes)

    def stale(self, *, now: float) -> tuple[str, ...]:
        """Return the indexes that were not read for too long."""
        return tuple(index.name for index in self.indexes if self.is_stale(index, now=now))

    def is_stale(self, index: IndexFacts, *, now: float) -> bool:
        """Return whether an index was not read for too long; without an interval none is stale."""
        if index.interval_s is None:
            return False
        return is_stale(index.last_success, since=self.since, interval_s=index.interval_s, now=now)


class LiveIndex(Protocol):
    """An index in a cycle that is under way; its numbers only grow."""

    @property
    def name(self) -> str:
        """As configured."""

    @property
    def statuses(self) -> Mapping[int, int]:
        """HTTP status -> answers."""

    @property
    def retries(self) -> int:
        """Requests that were tried again."""

    @property
    def file_bytes(self) -> int:
        """Bytes of files' bodies."""

    @property
    def queued(self) -> tuple[int, int]:
        """Projects to read and files to fetch."""


class Metrics:
    """Everything that is measured, as one registry."""

    def __init__(
        self,
        *,
        version: str,
        clock: Callable[[], float],
        disk: Callable[[], tuple[int, int] | None],
        is_service: bool = True,
    ) -> None:
        """``disk``: size and free bytes, read at each rendering.

        ``is_service``: whether to include this process's counters.
        """
        self.facts: Facts | None = None
        self.is_configuration_current = True
        self._version, self._clock, self._disk, self._is_service = version, clock, disk, is_service
        self._live: Sequence[LiveIndex] = ()
        self._answers: Counter[tuple[str, str]] = Counter()
        self._retries: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        self._cycles: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.registry = CollectorRegistry()
        self.registry.register(_Reading(self._collect))
        self._durations = Histogram(
            "mirror_cycle_duration_seconds",
            "How long cycles took.",
            buckets=_DURATION_BUCKETS_S,
            registry=self.registry if is_service else None,
        )
        self._of_process = CollectorRegistry()
        if is_service:
            ProcessCollector(registry=self._of_process)

    def watch(self, live: Sequence[LiveIndex]) -> None:
        """Count a cycle that begins, while it runs."""
        with self._lock:
            self._live = live

    def cycle_ended(self, outcome: str, duration_s: float) -> None:
        """Keep the counts of the cycle under way."""
        with self._lock:
            self._add_live(self._answers, self._retries, self._bytes)
            self._live = ()
            self._cycles[outcome] += 1
        self._durations.observe(max(duration_s, 0.0))

    def render(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return self.render_file() + bytes(generate_latest(self._of_process))

    def render_file(self) -> bytes:
        """Return the metrics for a textfile: without ``process_…``, since node_exporter has its
        own.
        """
        return bytes(generate_latest(self.registry))

    def _add_live(
        self, answers: Counter[tuple[str, str]], retries: Counter[str], sizes: Counter[str]
    ) -> None:
        for live in self._live:
            for status, count in dict(live.statuses).items():
                answers[live.name, str(status)] += count
            retries[live.name] += live.retries
            sizes[live.name] += live.file_bytes

    def _collect(self) -> Iterator[Metric]:
        info = GaugeMetricFamily("mirror_build_info", "The running version.", labels=["version"])
        info.add_metric([self._version], 1)
        yield info
        if self._is_service:
            yield from self._collect_counters()
        if self.facts is not None:
            yield from _index_families(self.facts, self._clock())
            yield from _mirror_families(self.facts)
        space = self._disk()
        if space is not None:
            yield GaugeMetricFamily(
                "mirror_disk_size_bytes", "Of the file system that the tree is on.", space[0]
            )
            yield GaugeMetricFamily(
                "mirror_disk_free_bytes", "What may still be written there.", space[1]
            )

    def _collect_counters(self) -> Iterator[Metric]:
        with self._lock:
            answers, retries, sizes = self._answers.copy(), self._retries.copy(), self._bytes.copy()
            self._add_live(answers, retries, sizes)
            queues = [(live.name, *live.queued) for live in self._live]
            cycles = self._cycles.copy()
        requests = CounterMetricFamily(
            "mirror_requests",
            "Requests to an index, each redirect included, by HTTP status.",
            labels=["index", "status"],
        )
        for labels, count in sorted(answers.items()):
            requests.add_metric(labels, count)
        yield requests
        yield _counter(
            "mirror_request_retries", "Requests that were tried again.", "index", retries
        )
        yield _counter(
            "mirror_downloaded_bytes", "Bytes of files' bodies that came.", "index", sizes
        )
        yield _counter("mirror_cycles", "Cycles that ended, by outcome.", "outcome", cycles)
        projects = GaugeMetricFamily(
            "mirror_queue_projects",
            "Projects that the cycle has still to look at.",
            labels=["index"],
        )
        files = GaugeMetricFamily(
            "mirror_queue_files", "Files that the cycle has still to fetch.", labels=["index"]
        )
        for name, waiting_projects, waiting_files in queues:
            projects.add_metric([name], waiting_projects)
            files.add_metric([name], waiting_files)
        yield projects
        yield files
        yield GaugeMetricFamily(
            "mirror_config_last_reload_successful",
            "1 unless the last configuration that was read was refused.",
            int(self.is_configuration_current),
        )


class _Reading(Collector):
    """A collector that asks a function."""

    def __init__(self, collect: Callable[[], Iterator[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterator[Metric]:
        return self._collect()


def _counter(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in sorted(values.items()):
        family.add_metric([value], count)
    return family


def _index_families(facts: Facts, now: float) -> Iterator[Metric]:
    def each(name: str, text: str, value: Callable[[IndexFacts], Any]) -> Metric:
        family = GaugeMetricFamily(name, text, labels=["index"])
        for index in facts.indexes:
            if (number := value(index)) is not None:
                family.add_metric([index.name], number)
        return family

    yield each(
        "mirror_index_last_success_timestamp_seconds",
        "When it was last read to its end.",
        lambda i: i.last_success,
    )
    yield each(
        "mirror_index_interval_seconds", "How often it is to be read.", lambda i: i.interval_s
    )
    yield each(
        "mirror_index_stale",
        "1 if it was not read for three intervals.",
        lambda i: None if i.interval_s is None else int(facts.is_stale(i, now=now)),
    )
    yield each(
        "mirror_index_listed_projects", "Projects that it lists.", lambda i: i.listed_projects
    )
    yield each(
        "mirror_index_held_projects",
        "Projects of which files are published.",
        lambda i: i.held_projects,
    )
    yield each("mirror_index_held_files", "Files that are published.", lambda i: i.held_files)
    yield each(
        "mirror_index_held_bytes", "Bytes of the files that are published.", lambda i: i.held_bytes
    )
    yield each(
        "mirror_index_not_offered_names",
        "Names that its configuration asks for and no index lists.",
        lambda i: i.not_offered,
    )
    yield each(
        "mirror_index_not_served_projects",
        "Projects that it lists and owns, all files of which are left out.",
        lambda i: i.not_served,
    )
    yield each(
        "mirror_credential_expiry_timestamp_seconds",
        "When its credential ends.",
        lambda i: i.credential_expires,
    )
    yield each(
        "mirror_credential_usable",
        "0 if its credential can't be had.",
        lambda i: int(i.credential_usable),
    )
    failures = GaugeMetricFamily(
        "mirror_index_failures",
        "Rows of the ledger: files and pages that are not held, by reason.",
        labels=["index", "reason"],
    )
    for index in facts.indexes:
        for reason, count in sorted(index.failures.items()):
            failures.add_metric([index.name, reason], count)
    yield failures


def _mirror_families(facts: Facts) -> Iterator[Metric]:
    last = facts.last_cycle
    if last is not None:
        yield GaugeMetricFamily(
            "mirror_last_cycle_timestamp_seconds", "When the last cycle ended.", last.finished_at
        )
        yield GaugeMetricFamily(
            "mirror_last_cycle_duration_seconds", "How long it took.", last.duration_s
        )
        yield GaugeMetricFamily(
            "mirror_last_cycle_exit_code",
            "The exit code that it would have ended with.",
            last.exit_code,
        )
        outcome = GaugeMetricFamily(
            "mirror_last_cycle_outcome", "1 for how it ended.", labels=["outcome"]
        )
        for word in ("complete", "partial", "aborted"):
            outcome.add_metric([word], int(word == last.outcome))
        yield outcome
        for counter in LAST_COUNTERS:
            family = GaugeMetricFamily(
                f"mirror_last_cycle_{_with_unit(counter)}", "In the last cycle.", labels=["index"]
            )
            for name, counters in last.counters.items():
                family.add_metric([name], counters.get(counter, 0))
            yield family
    if facts.wants:
        installable = GaugeMetricFamily(
            "mirror_want_installable", "1: proved to install.", labels=["want", "file", "target"]
        )
        for want, file, target, is_installable in facts.wants:
            installable.add_metric([want, file, target], float(is_installable))
        yield installable
    if facts.advisories is not None:
        date, counts = facts.advisories
        if date is not None:
            yield GaugeMetricFamily(
                "mirror_advisories_timestamp_seconds", "The newest advisory in force.", date
            )
        advised = GaugeMetricFamily(
            "mirror_advised_files", "Files that advisories name.", labels=["kind"]
        )
        for kind, count in counts.items():
            advised.add_metric([kind], count)
        yield advised
    yield GaugeMetricFamily("mirror_damaged_files", "Found damaged, not mended yet.", facts.damaged)
    if facts.upkeep_at is not None:
        yield GaugeMetricFamily(
            "mirror_last_upkeep_timestamp_seconds", "When prune and scrub ended.", facts.upkeep_at
        )


def _with_unit(counter: str) -> str:
    """Return a counter's name with the unit last, like the other names."""
    return "downloaded_bytes" if counter == "bytes_downloaded" else counter
