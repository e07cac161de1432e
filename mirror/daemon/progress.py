"""The progress of a running cycle: in words, for the watchdog, and as the metrics see it."""

from __future__ import annotations

from collections.abc import Mapping

from mirror.sync.cycle_parts import Cycle, Phase
from mirror.sync.work import IndexRun


def describe_cycle(cycle: Cycle) -> str:
    """Return the current activity of a cycle in one line."""
    phase, needs = cycle.course.phase, cycle.wants.needs
    # its number is set with its first row
    words = f"cycle {cycle.id or 'begins'}: {phase.value}"
    if phase.counts_wants and needs is not None:
        return f"{words}: {needs.progress.describe()}".removesuffix(": ")
    if phase is not Phase.PROJECTS:
        return words
    total = cycle.report.total
    looked, due = (
        sum(i.projects_looked for i in cycle.report.indexes.values()),
        total("projects_due"),
    )
    return (
        f"{words}, {looked:,} of {due:,}; files {total('files_done'):,} of"
        f" {total('files_wanted'):,}"
    )


def cycle_marker(cycle: Cycle) -> object:
    """Return a value that changes whenever a cycle makes progress."""
    sessions = [
        (run.access.session.traffic.requests, run.access.session.traffic.body_bytes)
        for run in cycle.runs
    ]
    counted = [
        tuple(getattr(i, key) for key in i.__struct_fields__) for i in cycle.report.indexes.values()
    ]
    needs = cycle.wants.needs
    resolved = () if needs is None else (needs.progress.done, needs.progress.beats)
    return cycle.course.phase, cycle.store.changes, sessions, counted, resolved


class LiveRun:
    """One index's part of a running cycle, as the metrics see it."""

    def __init__(self, run: IndexRun) -> None:
        self._run = run
        self.name = run.name

    @property
    def statuses(self) -> Mapping[int, int]:
        """The numbers of answers by their HTTP status."""
        return self._run.access.session.traffic.statuses

    @property
    def retries(self) -> int:
        """The number of requests that were repeated."""
        return self._run.access.session.traffic.retries

    @property
    def file_bytes(self) -> int:
        """The bytes of files that were received."""
        return self._run.access.session.traffic.file_bytes

    @property
    def queued(self) -> tuple[int, int]:
        """The numbers of projects and files that are still to be worked on."""
        counters = self._run.counters
        projects = max(counters.projects_due - counters.projects_looked, 0)
        return projects, max(counters.files_wanted - counters.files_done, 0)
