"""The result of a cycle: the counters, the outcome and the report.

The one place where a failure's reason becomes an outcome. The counters are filled while the cycle
runs, so that a progress display can read them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

import msgspec

from mirror.core.offers import WantPlan
from mirror.core.times import utc_text
from mirror.errors import MirrorError, Reason
from mirror.exit_codes import ExitCode, exit_code_for, exit_code_of_failure, first_of
from mirror.logs import redact
from mirror.state.advisories.vulnerable import VulnerableFile
from mirror.state.wants.unwanted import NewlyUnwanted


class Outcome(Enum):
    """How a cycle ended."""

    COMPLETE = "complete"
    PARTIAL = "partial"
    ABORTED = "aborted"


Events = list[dict[str, str]]
"""Events of a cycle that a person should know, in the order in which they happened."""


class IndexCounters(msgspec.Struct, kw_only=True):
    """The counts of one index.

    Names as in the report; ``*_due``, ``*_wanted`` and ``*_done`` serve the progress display.
    """

    name: str
    projects_listed: int = 0
    projects_checked: int = 0
    projects_unchanged: int = 0
    projects_changed: int = 0
    projects_removed: int = 0
    files_new: int = 0
    files_replaced: int = 0
    files_removed: int = 0
    files_absent: int = 0
    files_unhashed: int = 0
    files_skipped: int = 0
    files_withheld: int = 0
    files_failed: int = 0
    files_unwanted: int = 0
    bytes_downloaded: int = 0
    requests: int = 0
    projects_due: int = 0
    projects_confirmed: int = 0
    files_wanted: int = 0
    files_done: int = 0
    bytes_wanted: int = 0
    projects_fetched: int = 0
    """In how many projects a new or replaced file was placed."""
    left_out: Mapping[str, int] | None = None
    """Number of listed files that each rule of ``[rules]`` keeps out; None without rules."""
    cooldown_until: float | None = None
    """When the next cooldown ends."""
    waits: bool = False
    """Whether no new project of it may be added, since the root of an earlier index was never
    read.
    """

    @property
    def projects_looked(self) -> int:
        """Of those that are due, how many are done."""
        return self.projects_checked - self.projects_confirmed

    def as_json(self) -> dict[str, Any]:
        """Return the object of the report."""
        hidden = {
            "projects_due",
            "projects_confirmed",
            "files_wanted",
            "files_done",
            "bytes_wanted",
        }
        hidden |= {"projects_fetched", "waits", "left_out", "cooldown_until"}
        shown = {key: getattr(self, key) for key in self.__struct_fields__ if key not in hidden}
        if self.left_out is not None:
            until = None if self.cooldown_until is None else utc_text(self.cooldown_until)
            shown |= {"left_out": dict(self.left_out), "cooldown_until": until}
        return shown


COUNTERS = tuple(key for key in IndexCounters(name="").as_json() if key != "name")
"""The names of the report's counters."""


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A failure as the report shows it; null where it is about a page or a whole index."""

    index: str | None
    project: str | None
    filename: str | None
    reason: Reason
    detail: str

    def as_json(self) -> dict[str, Any]:
        """Return the object of the report."""
        return {
            "index": self.index,
            "project": self.project,
            "filename": self.filename,
            "reason": self.reason.value,
            "detail": self.detail,
        }


class PlanItem(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a plan (``--dry-run``)."""

    index: str
    project: str
    filename: str
    action: str
    size: int | None
    sha256: str | None
    wants: tuple[str, ...] = ()
    """The names of the wants that need it."""

    def as_json(self) -> dict[str, Any]:
        """Return the object of the report."""
        return {key: getattr(self, key) for key in self.__struct_fields__}


class WithdrawnShown(msgspec.Struct, frozen=True, kw_only=True):
    """A withdrawn file as the report shows it, with the places that still have it."""

    project: str
    filename: str
    snapshots: tuple[str, ...]
    channels: tuple[str, ...]
    sites: tuple[str, ...]


class AdvisoryReport(msgspec.Struct, frozen=True, kw_only=True):
    """Which advisories are in force."""

    taken: bool
    """Whether the database that is there now could be taken."""
    date: str | None
    """The newest change of a record in force; None where nothing was ever taken."""


class Report(msgspec.Struct, kw_only=True):
    """A cycle's report, live while it runs."""

    cycle: int
    started_at: float
    indexes: dict[str, IndexCounters] = msgspec.field(default_factory=dict)
    finished_at: float | None = None
    failures: list[Shown] = msgspec.field(default_factory=list)
    unlisted: list[Shown] = msgspec.field(default_factory=list)
    """Projects that were asked for by name and that no index lists; never in the ledger."""
    not_served: list[Shown] = msgspec.field(default_factory=list)
    """Projects that their owner lists and nobody serves, also those that are in ``failures``."""
    plan: list[PlanItem] | None = None
    wants: list[dict[str, Any]] = msgspec.field(default_factory=list)
    """The proofs after a cycle that changed something, as ``mirror check`` prints them."""
    waits_for: frozenset[str] = frozenset()
    """Indexes that the cycle did not read, and whose files its wants need now."""
    want_plans: list[WantPlan] = msgspec.field(default_factory=list)
    """For a plan: the files that come for each want and target."""
    newly_unwanted: list[NewlyUnwanted] = msgspec.field(default_factory=list)
    """For a plan: the files that no want would need any more, by index."""
    free_bytes: int | None = None
    """Free bytes on the disk, for a plan."""
    advisories: AdvisoryReport | None = None
    """None where the configuration has no advisories."""
    advisory_problem: str | None = None
    """Why the database of advisories was not taken."""
    vulnerable: list[VulnerableFile] = msgspec.field(default_factory=list)
    not_judged: list[str] = msgspec.field(default_factory=list)
    """Local builds of versions that advisories name."""
    withdrawn: list[WithdrawnShown] = msgspec.field(default_factory=list)
    events: Events = msgspec.field(default_factory=list)
    """Events that a person should know in addition to counters and failures, such as
    ``owner-changed``.
    """
    ended: dict[str, MirrorError] = msgspec.field(default_factory=dict)
    """The indexes whose part ended early, with why."""
    aborted: MirrorError | None = None
    """The error that stopped the whole cycle."""
    interrupted: bool = False

    def total(self, counter: str) -> int:
        """Return one counter summed over the indexes."""
        return sum(getattr(i, counter) for i in self.indexes.values())

    @property
    def outcome(self) -> Outcome:
        """Judge the cycle."""
        if (
            self.aborted
            or self.interrupted
            or (self.ended and len(self.ended) == len(self.indexes))
        ):
            return Outcome.ABORTED
        if (
            self.ended
            or self.advisory_problem
            or any(f.reason is not Reason.WITHHELD for f in self.failures)
        ):
            return Outcome.PARTIAL
        return Outcome.COMPLETE

    def exit_code(self, caught: Iterable[ExitCode] = ()) -> ExitCode:
        """Return the exit code of the cycle. ``caught``: the codes of signals that stopped it."""
        errors = [*self.ended.values(), *([] if self.aborted is None else [self.aborted])]
        codes = [*caught, *map(exit_code_for, errors)]
        if self.advisory_problem:
            codes.append(ExitCode.PARTIAL)
        for failure in self.failures:
            code = exit_code_of_failure(failure.reason)
            # counted by its error, above; a want has no index
            is_of_index = failure.index and not failure.project and not failure.filename
            if not (is_of_index and code is ExitCode.PARTIAL):
                codes.append(code)
        return first_of(codes)

    def as_json(self) -> dict[str, Any]:
        """Return the report object."""
        shown: dict[str, Any] = {
            "format": 1,
            "cycle": self.cycle,
            "outcome": self.outcome.value,
            "started_at": utc_text(self.started_at),
            "finished_at": utc_text(self.finished_at) if self.finished_at is not None else None,
            "indexes": [i.as_json() for i in self.indexes.values()],
            "failures": [f.as_json() for f in self.failures],
            "not_served": [
                {"index": one.index, "project": one.project, "detail": one.detail}
                for one in self.not_served
            ],
            "events": self.events,
        }
        if self.advisories is not None:
            shown["advisories"] = msgspec.to_builtins(self.advisories)
            shown["vulnerable"] = [one.as_json() for one in self.vulnerable]
            shown["not_judged"] = self.not_judged
        if self.advisories is not None or self.withdrawn:
            shown["withdrawn"] = [msgspec.to_builtins(one) for one in self.withdrawn]
        if self.wants:
            shown["wants"] = self.wants
        if self.plan is not None:
            shown["plan"] = [item.as_json() for item in self.plan]
            shown["want_plans"] = [_want_plan_json(one) for one in self.want_plans]
            shown["unwanted"] = [
                {"index": one.index, "files": one.files, "bytes": one.size}
                for one in self.newly_unwanted
            ]
        return shown


def _want_plan_json(plan: WantPlan) -> dict[str, Any]:
    return {
        "want": plan.want,
        "file": plan.file,
        "target": plan.target,
        "files": plan.files,
        "bytes": plan.size,
        "gaps": list(plan.gaps),
    }


def nothing_wanted(listed: str) -> str:
    """Return the message about an index whose projects the patterns leave out, all of them."""
    return (
        f"nothing of {listed} listed projects is wanted:"
        " check projects = […] and exclude-projects of this index"
    )


def nothing_admitted(event: Mapping[str, str]) -> str:
    """Return the message about an index of which the rules leave no file (``all-left-out``)."""
    until = f"; the next cooldown ends {event['until']}" if "until" in event else ""
    return f"the rules leave out every file of {event['index']}: {event['rules']}{until}"


def shown_failure(index: str, project: str, filename: str, reason: Reason, detail: str) -> Shown:
    """Return a failure in the report's form; an empty index, project or filename is null.

    Secrets are removed, since an index may repeat them.
    """
    return Shown(
        index=index or None,
        project=project or None,
        filename=filename or None,
        reason=reason,
        detail=redact(detail),
    )
