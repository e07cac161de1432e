"""The removals at the end of a cycle, and the brake that stops them when there are implausibly
many.

Nothing is removed because of an error: the only causes are a confirmed absence, a withdrawal, and
the configuration. The brake must know all of a cycle's removals, so additions stream and removals
come at the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

import msgspec

from mirror.core.diff import HeldFile, Removal, RemovalKind
from mirror.core.names import ProjectName
from mirror.core.policy import brake_holds, enough_published
from mirror.errors import Reason
from mirror.holdings.holdings import Holdings
from mirror.logs import get_logger
from mirror.publishing.publisher import Publisher
from mirror.state.entries.changes import record_missing
from mirror.state.entries.held import load_held
from mirror.state.entries.rebuilt import (
    load_failed_filenames,
    load_judgeable,
    load_unclaimed,
    settle_empty,
)
from mirror.state.entries.removals import (
    RemovalRecord,
    count_pages_of,
    load_brake_window,
    load_displaced,
    load_files_of,
    load_orphaned,
    load_overlaid,
    record_brake_lifted,
    record_removals,
)
from mirror.state.listing.roots import RootChange
from mirror.state.listing.sources import SourceRow
from mirror.state.missing.ledger import Failure, has_index_failure, record_failures
from mirror.state.store import Store
from mirror.sync.cycle_parts import Cycle, Options
from mirror.sync.report import IndexCounters, PlanItem, Report
from mirror.sync.work import IndexRun, Leaving, PendingRemoval

_log = get_logger(__name__)

_SHOWN_PROJECTS = 5


def plan_root_change(run: IndexRun, change: RootChange) -> None:
    """Add the projects that the root no longer lists, or that the patterns exclude, to the pending
    removals.
    """
    for project, name in (*change.gone, *change.unwanted):
        run.leaving.pending.append(PendingRemoval(project=project, name=name, leaves=True))


async def plan_displaced(
    store: Store, options: Options, report: Report, runs: Sequence[IndexRun]
) -> None:
    """Add the files of projects that now belong to an earlier index."""
    if options.is_narrowed:
        return
    by_source = {run.source.id: run for run in runs}
    for project, source, name, index, owner in await load_displaced(store):
        run = by_source.get(source)
        if run is None or run.selection.policy.overlay:
            continue
        held = (await load_held(store, [project]))[project]
        if not any(r.project == project for r in run.leaving.pending):  # else it leaves as a whole
            run.leaving.pending.append(
                PendingRemoval(project=project, name=name, displaced=tuple(held), is_displaced=True)
            )
        report_owner_changed(report, name, before=index, after=owner)


async def plan_withdrawn(store: Store, runs: Sequence[IndexRun]) -> None:
    """Add the files that later indexes publish for projects that an index withdraws: its withdrawal
    withdraws all.
    """
    for run in runs:
        names = [r.name for r in run.leaving.pending if r.meta is not None]
        for project, name in await load_overlaid(store, run.source.position, names):
            held = (await load_held(store, [project]))[project]
            files = tuple(Removal(held=h, kind=RemovalKind.WITHDRAWN) for h in held.values())
            run.leaving.pending.append(PendingRemoval(project=project, name=name, files=files))


def report_owner_changed(report: Report, name: str, *, before: str, after: str) -> None:
    """Report that a project's owner has changed: a person should know."""
    report.events.append({"event": "owner-changed", "project": name, "from": before, "to": after})
    _log.warning("project.owner_changed", project=name, before=before, after=after)


class RemovalScope(Protocol):
    """A part of a cycle whose pages may lose files: an index, or the unclaimed files."""

    source: SourceRow
    counters: IndexCounters
    leaving: Leaving

    @property
    def name(self) -> str:
        """As in the report."""


async def apply_removals(
    holdings: Holdings, options: Options, run: RemovalScope, publisher: Publisher
) -> bool:
    """Apply the pending removals, unless the brake holds them; return whether that was done."""
    exempt, removals = _split(run)
    if options.allow_shrink:
        await record_brake_lifted(holdings.store, run.source.id, cycle=holdings.cycle)
    await _remove(
        holdings, run, exempt, publisher, files=await _count_files(holdings.store, exempt)
    )
    if not removals:
        if not options.is_narrowed:  # the brake may hold files that such a cycle did not read
            await _close_brake(holdings, run)
        return True
    files = await _count_files(holdings.store, removals)
    if not options.allow_shrink and files and await _brake(holdings, run, removals, files):
        return False
    if not options.is_narrowed:
        await _close_brake(holdings, run)
    await _remove(holdings, run, removals, publisher, files=files)
    return True


def _split(run: RemovalScope) -> tuple[list[PendingRemoval], list[PendingRemoval]]:
    """Return the removals that bypass the brake, and those that it judges."""
    return [r for r in run.leaving.pending if r.is_exempt], [
        r for r in run.leaving.pending if not r.is_exempt
    ]


async def _remove(
    holdings: Holdings,
    run: RemovalScope,
    removals: Sequence[PendingRemoval],
    publisher: Publisher,
    *,
    files: int,
) -> None:
    """Close the rows of the removed files, write the pages, and record the validators that waited
    for it.
    """
    if not removals:
        return
    now = holdings.clock()
    projects = await count_pages_of(holdings.store, [r.name for r in removals if r.leaves])
    await record_removals(
        holdings.store,
        [_record(run, removal) for removal in removals],
        cycle=holdings.cycle,
        now=now,
    )
    run.counters.files_removed += files
    run.counters.projects_removed += projects
    for removal in removals:
        _log.info(
            "project.shrunk",
            index=run.name,
            project=removal.name,
            files=_names(removal),
            leaves=removal.leaves,
        )
    pages_seen = [r.page_seen for r in removals if r.page_seen is not None]
    names = sorted({r.name for r in removals})
    for start in range(0, len(names), 500):
        await publisher.publish(names[start : start + 500], ())
    await publisher.publish((), pages_seen)


async def remove_orphaned(
    holdings: Holdings, options: Options, report: Report, publisher: Publisher
) -> None:
    """Report the files of indexes that left the configuration; take them away if the brake is
    lifted.
    """
    if options.is_narrowed:
        return
    orphaned = await load_orphaned(holdings.store)
    counts = Counter(index for _, _, _, index in orphaned)
    for index, projects in counts.items():
        report.events.append({"event": "index-left", "index": index, "projects": str(projects)})
        _log.warning(
            "index.left",
            index=index,
            projects=projects,
            advice="its files stay until a cycle with --allow-shrink",
        )
    if not orphaned or not options.allow_shrink:
        return
    records = [
        RemovalRecord(project=project, source=source, name=name, all_files=True, leaves=True)
        for project, source, name, _ in orphaned
    ]
    await record_removals(holdings.store, records, cycle=holdings.cycle, now=holdings.clock())
    names = sorted({name for _, _, name, _ in orphaned})
    for start in range(0, len(names), 500):
        await publisher.publish(names[start : start + 500], ())


async def settle_unclaimed(cycle: Cycle, publisher: Publisher) -> None:
    """Judge the unclaimed files of a rebuilt state: after two whole cycles, then by the brake."""
    holdings, options = cycle.holdings, cycle.options
    if not options.sees_all or any(run.reach.ended is not None for run in cycle.runs):
        return
    await settle_empty(holdings.store, cycle=holdings.cycle, now=holdings.clock())
    source = await load_unclaimed(holdings.store)
    if source is None:
        return
    part = _UnclaimedPart(
        source=source,
        counters=IndexCounters(name=source.name),
        leaving=Leaving(max_shrink=cycle.terms.max_shrink),
    )
    missing: dict[int, list[HeldFile]] = {}
    for project, name in await load_judgeable(holdings.store, source.id):
        still_listed = await load_failed_filenames(holdings.store, name)
        held = [
            h
            for h in (await load_held(holdings.store, [project]))[project].values()
            if h.filename not in still_listed
        ]
        first = [h for h in held if h.absent_since is None]
        second = tuple(
            Removal(held=h, kind=RemovalKind.ABSENT)
            for h in held
            if h.absent_since is not None and h.absent_since < holdings.cycle
        )
        if first:
            missing[project] = first
        if second:
            part.leaving.pending.append(PendingRemoval(project=project, name=name, files=second))
    if missing:
        await record_missing(holdings.store, missing, cycle=holdings.cycle)
    await apply_removals(holdings, options, part, publisher)
    cycle.report.events.append(
        {"event": "unclaimed", "files": str(sum(len(m) for m in missing.values()))}
    )


class _UnclaimedPart(msgspec.Struct, kw_only=True):
    """The rebuilt, unclaimed files, as a part of the cycle that has removals."""

    source: SourceRow
    counters: IndexCounters
    leaving: Leaving

    @property
    def name(self) -> str:
        return self.source.name


async def plan_items(
    holdings: Holdings, options: Options, run: RemovalScope
) -> tuple[list[PlanItem], bool]:
    """Return the removals for ``--dry-run``, and whether the brake would allow them.

    They are removed from the copy of the state, so that a later index's claim to the names can be
    planned too.
    """
    exempt, removals = _split(run)
    files = await _count_files(holdings.store, removals)
    is_held = not options.allow_shrink and files and await _brake(holdings, run, removals, files)
    return await _plan_removals(
        holdings, run, exempt if is_held else run.leaving.pending
    ), not is_held


async def _plan_removals(
    holdings: Holdings, run: RemovalScope, removals: Sequence[PendingRemoval]
) -> list[PlanItem]:
    items = []
    for removal in removals:
        held = (await load_held(holdings.store, [removal.project]))[removal.project]
        leaving = held if removal.leaves else _names(removal)
        items += [_leaving(run.name, removal.name, held[name]) for name in leaving if name in held]
    if removals:
        records = [_record(run, removal) for removal in removals]
        await record_removals(holdings.store, records, cycle=holdings.cycle, now=holdings.clock())
    return items


async def plan_orphaned(store: Store, options: Options) -> list[PlanItem]:
    """Return the removals of indexes that left the configuration, for ``--dry-run``."""
    items: list[PlanItem] = []
    if options.allow_shrink and not options.is_narrowed:
        for project, _, name, index in await load_orphaned(store):
            held = (await load_held(store, [project]))[project]
            items += [_leaving(index, name, file) for file in held.values()]
    return items


def _leaving(index: str, project: ProjectName, held: HeldFile) -> PlanItem:
    return PlanItem(
        index=index,
        project=project,
        filename=held.filename,
        action="remove",
        size=held.size,
        sha256=held.sha256,
    )


async def _brake(
    holdings: Holdings, run: RemovalScope, removals: Sequence[PendingRemoval], files: int
) -> bool:
    window = await load_brake_window(
        holdings.store,
        run.source.id,
        holdings.clock(),
        enough=lambda left: enough_published(
            leaving=left + files, max_shrink=run.leaving.max_shrink
        ),
    )
    leaving = window.left + files
    if not brake_holds(
        leaving=leaving, published=window.published, max_shrink=run.leaving.max_shrink
    ):
        return False
    detail = (
        f"{leaving} of {window.published} files would leave the pages within 24 hours, more than"
        f" max-shrink = {run.leaving.max_shrink:g} allows: {_described(removals)}."
        " Nothing was removed. If that is right, run `mirror sync --once --allow-shrink`;"
        " else look at the index and at its selection"
    )
    failure = Failure(
        source=run.source.id, project="", filename="", reason=Reason.SHRINK, detail=detail
    )
    await record_failures(holdings.store, [failure], (), now=holdings.clock())
    _log.error(
        "brake.held", index=run.name, files=leaving, published=window.published, detail=detail
    )
    return True


async def _close_brake(holdings: Holdings, run: RemovalScope) -> None:
    if not await has_index_failure(holdings.store, run.source.id):
        return  # an idle cycle writes nothing for it
    await record_failures(holdings.store, (), [(run.source.id, "", "")], now=holdings.clock())


async def _count_files(store: Store, removals: Sequence[PendingRemoval]) -> int:
    whole = [r.project for r in removals if r.leaves]
    return sum(len(_names(r)) for r in removals if not r.leaves) + await load_files_of(store, whole)


def _names(removal: PendingRemoval) -> tuple[str, ...]:
    return (*(r.held.filename for r in removal.files), *removal.displaced)


def _record(run: RemovalScope, removal: PendingRemoval) -> RemovalRecord:
    return RemovalRecord(
        project=removal.project,
        source=run.source.id,
        name=removal.name,
        filenames=_names(removal),
        all_files=removal.leaves,
        leaves=removal.leaves,
        meta=removal.meta,
        withdrawn=removal.withdrawn,
        is_exempt=removal.is_exempt,
        # A file absent in two cycles is no longer on the page; any other may still be listed there.
        is_displaced=removal.is_displaced,
        forgets=removal.is_displaced
        or removal.meta is not None
        or any(r.kind is not RemovalKind.ABSENT for r in removal.files),
    )


def _described(removals: Sequence[PendingRemoval]) -> str:
    """Return a description of the removals."""
    kinds = Counter(r.kind for removal in removals for r in removal.files)
    words = {
        RemovalKind.ABSENT: "absent in two looks",
        RemovalKind.CONFIGURATION: "left out by the configuration",
        RemovalKind.WITHDRAWN: "withdrawn by the index",
        RemovalKind.DISPLACED: "displaced by newer versions",
        RemovalKind.SUPERSEDED: "pre-releases that the rules leave out",
    }
    parts = [f"{count} {words[kind]}" for kind, count in kinds.items()]
    whole = sum(r.leaves for r in removals)
    if whole:
        parts.append(f"{whole} whole projects no longer listed or wanted")
    names = sorted({r.name for r in removals})
    more = f" and {len(names) - _SHOWN_PROJECTS} more" if len(names) > _SHOWN_PROJECTS else ""
    return (
        f"{', '.join(parts) or 'files of another owner'}"
        f" ({', '.join(names[:_SHOWN_PROJECTS])}{more})"
    )
