"""Adds projects and files to the pending removals of an index, before the brake judges them."""

from __future__ import annotations

from collections.abc import Sequence

from mirror.core.diff import Removal, RemovalKind
from mirror.logs import get_logger
from mirror.state.entries.held import load_held
from mirror.state.entries.removals import (
    load_displaced,
    load_overlaid,
)
from mirror.state.listing.roots import RootChange
from mirror.state.store import Store
from mirror.sync.cycle_parts import Options
from mirror.sync.report import Events, Report
from mirror.sync.work import IndexRun, PendingRemoval

_log = get_logger(__name__)


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
        report_owner_changed(report.events, name, before=index, after=owner)


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


def report_owner_changed(events: Events, name: str, *, before: str, after: str) -> None:
    """Report that a project's owner has changed: a person should know."""
    events.append({"event": "owner-changed", "project": name, "from": before, "to": after})
    _log.warning("project.owner_changed", project=name, before=before, after=after)
