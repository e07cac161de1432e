"""What leaves the pages at the end of a cycle, and the brake that holds it back when it is too much to be believed.

Nothing is removed because of an error: removals are only those that a look confirmed, a withdrawal, or the configuration.
The brake must know all of a cycle's removals, so additions stream and removals come at the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mirror.core.diff import HeldFile, Removal, RemovalKind
from mirror.core.policy import brake_holds
from mirror.errors import Reason
from mirror.logs import get_logger
from mirror.state.entries import load_held, record_missing
from mirror.state.ledger import Failure, record_failures
from mirror.state.listing import RootChange, SourceRow
from mirror.state.rebuilt import load_judgeable, load_unclaimed
from mirror.state.removals import (
    RemovalRecord,
    load_brake_window,
    load_displaced,
    load_files_of,
    load_orphaned,
    record_removals,
)
from mirror.sync.publish import Publisher
from mirror.sync.report import IndexCounters, PlanItem
from mirror.sync.work import Cycle, IndexRun, PendingRemoval

_log = get_logger(__name__)

_SHOWN_PROJECTS = 5


def plan_root_change(run: IndexRun, change: RootChange) -> None:
    """Add the projects that the root no longer lists, or that nobody wants, to what is to leave."""
    for project, name in (*change.gone, *change.unwanted):
        run.removals.append(PendingRemoval(project=project, name=name, leaves=True))


async def plan_displaced(cycle: Cycle) -> None:
    """Add the files of projects that now belong to an earlier index."""
    if cycle.options.is_narrowed:
        return
    by_source = {run.source.id: run for run in cycle.runs}
    for project, source, name, index, owner in await load_displaced(cycle.store):
        run = by_source.get(source)
        if run is None or run.selection.policy.overlay:
            continue
        held = (await load_held(cycle.store, [project]))[project]
        run.removals.append(PendingRemoval(project=project, name=name, displaced=tuple(held)))
        tell_owner_changed(cycle, name, before=index, after=owner)


def tell_owner_changed(cycle: Cycle, name: str, *, before: str, after: str) -> None:
    """Report that a project comes from another index than before: a person should know."""
    cycle.report.events.append({"event": "owner-changed", "project": name, "from": before, "to": after})
    _log.warning("project.owner_changed", project=name, before=before, after=after)


class Part(Protocol):
    """A part of a cycle from whose pages something may leave: an index, or what is unclaimed."""

    source: SourceRow
    counters: IndexCounters
    removals: list[PendingRemoval]

    @property
    def name(self) -> str:
        """As in the report."""


async def apply_removals(cycle: Cycle, run: Part, publisher: Publisher) -> bool:
    """Take away what is to leave, unless the brake holds it; tell whether it was done."""
    removals = run.removals
    if not removals:
        await _close_brake(cycle, run)
        return True
    files = await _count_files(cycle, removals)
    if not cycle.options.allow_shrink and files and await _brake(cycle, run, files):
        return False
    await _close_brake(cycle, run)
    now = cycle.clock()
    await record_removals(cycle.store, [_record(run, removal) for removal in removals], cycle=cycle.id, now=now)
    run.counters.files_removed += files
    run.counters.projects_removed += sum(r.leaves for r in removals)
    for removal in removals:
        _log.info("project.shrunk", index=run.name, project=removal.name, files=_names(removal), leaves=removal.leaves)
    closings = [r.closing for r in removals if r.closing is not None]
    names = sorted({r.name for r in removals})
    for start in range(0, len(names), 500):
        await publisher.publish(names[start : start + 500], ())
    await publisher.publish((), closings)
    return True


async def remove_orphaned(cycle: Cycle, publisher: Publisher) -> None:
    """Report the files of indexes that left the configuration; take them away if the brake is lifted."""
    if cycle.options.is_narrowed:
        return
    orphaned = await load_orphaned(cycle.store)
    counts = Counter(index for _, _, _, index in orphaned)
    for index, projects in counts.items():
        cycle.report.events.append({"event": "index-left", "index": index, "projects": str(projects)})
        _log.warning(
            "index.left", index=index, projects=projects, advice="its files stay until a cycle with --allow-shrink"
        )
    if not orphaned or not cycle.options.allow_shrink:
        return
    records = [
        RemovalRecord(project=project, source=source, name=name, all_files=True, leaves=True)
        for project, source, name, _ in orphaned
    ]
    await record_removals(cycle.store, records, cycle=cycle.id, now=cycle.clock())
    names = sorted({name for _, _, name, _ in orphaned})
    for start in range(0, len(names), 500):
        await publisher.publish(names[start : start + 500], ())


async def settle_unclaimed(cycle: Cycle, publisher: Publisher) -> None:
    """Judge what a rebuilt state holds and no index has claimed: two looks of whole cycles, then the brake."""
    source = await load_unclaimed(cycle.store)
    if source is None or cycle.options.is_narrowed or any(run.ended is not None for run in cycle.runs):
        return
    part = _UnclaimedPart(source=source, counters=IndexCounters(name=source.name))
    missing: dict[int, list[HeldFile]] = {}
    for project, name in await load_judgeable(cycle.store, source.id):
        held = (await load_held(cycle.store, [project]))[project]
        first = [h for h in held.values() if h.absent_since is None]
        second = tuple(
            Removal(held=h, kind=RemovalKind.ABSENT)
            for h in held.values()
            if h.absent_since is not None and h.absent_since < cycle.id
        )
        if first:
            missing[project] = first
        if second:
            part.removals.append(PendingRemoval(project=project, name=name, files=second))
    if missing:
        await record_missing(cycle.store, missing, cycle=cycle.id)
    await apply_removals(cycle, part, publisher)
    cycle.report.events.append({"event": "unclaimed", "files": str(sum(len(m) for m in missing.values()))})


@dataclass(slots=True, kw_only=True)
class _UnclaimedPart:
    """What is rebuilt and unclaimed, as a part of the cycle that has removals."""

    source: SourceRow
    counters: IndexCounters
    removals: list[PendingRemoval] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.source.name


async def plan_items(cycle: Cycle, run: Part) -> list[PlanItem]:
    """Return what would leave, for ``--dry-run``; what the brake would hold is not among it."""
    files = await _count_files(cycle, run.removals)
    if not cycle.options.allow_shrink and files and await _brake(cycle, run, files):
        return []
    items = []
    for removal in run.removals:
        held = (await load_held(cycle.store, [removal.project]))[removal.project]
        leaving = held if removal.leaves else _names(removal)
        items += [
            PlanItem(
                index=run.name,
                project=removal.name,
                filename=name,
                action="remove",
                size=held[name].size,
                sha256=held[name].sha256,
            )
            for name in leaving
            if name in held
        ]
    return items


async def _brake(cycle: Cycle, run: Part, files: int) -> bool:
    window = await load_brake_window(cycle.store, run.source.id, cycle.clock())
    leaving = window.left + files
    if not brake_holds(leaving=leaving, published=window.published, max_shrink=cycle.max_shrink):
        return False
    detail = (
        f"{leaving} of {window.published} files would leave the pages within 24 hours, more than max-shrink ="
        f" {cycle.max_shrink:g} allows: {_described(run.removals)}. Nothing was removed. If that is right, run"
        " `mirror sync --once --allow-shrink`; else look at the index and at its selection"
    )
    failure = Failure(source=run.source.id, project="", filename="", reason=Reason.SHRINK, detail=detail)
    await record_failures(cycle.store, [failure], (), now=cycle.clock())
    _log.error("brake.held", index=run.name, files=leaving, published=window.published, detail=detail)
    return True


async def _close_brake(cycle: Cycle, run: Part) -> None:
    await record_failures(cycle.store, (), [(run.source.id, "", "")], now=cycle.clock())


async def _count_files(cycle: Cycle, removals: Sequence[PendingRemoval]) -> int:
    whole = [r.project for r in removals if r.leaves]
    return sum(len(_names(r)) for r in removals if not r.leaves) + await load_files_of(cycle.store, whole)


def _names(removal: PendingRemoval) -> tuple[str, ...]:
    return (*(r.held.filename for r in removal.files), *removal.displaced)


def _record(run: Part, removal: PendingRemoval) -> RemovalRecord:
    return RemovalRecord(
        project=removal.project,
        source=run.source.id,
        name=removal.name,
        filenames=_names(removal),
        all_files=removal.leaves,
        leaves=removal.leaves,
        meta=removal.meta,
        withdrawn=removal.withdrawn,
    )


def _described(removals: Sequence[PendingRemoval]) -> str:
    """Say in words what would leave."""
    kinds = Counter(r.kind for removal in removals for r in removal.files)
    words = {
        RemovalKind.ABSENT: "absent in two looks",
        RemovalKind.CONFIGURATION: "left out by the configuration",
        RemovalKind.WITHDRAWN: "withdrawn by the index",
    }
    parts = [f"{count} {words[kind]}" for kind, count in kinds.items()]
    whole = sum(r.leaves for r in removals)
    if whole:
        parts.append(f"{whole} whole projects no longer listed or wanted")
    names = sorted({r.name for r in removals})
    more = f" and {len(names) - _SHOWN_PROJECTS} more" if len(names) > _SHOWN_PROJECTS else ""
    return f"{', '.join(parts) or 'files of another owner'} ({', '.join(names[:_SHOWN_PROJECTS])}{more})"
