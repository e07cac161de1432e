"""The removals that ``--dry-run`` lists."""

from __future__ import annotations

from collections.abc import Sequence

from mirror.core.diff import HeldFile
from mirror.core.names import ProjectName
from mirror.holdings.holdings import Holdings
from mirror.state.entries.held import load_held
from mirror.state.entries.removals import (
    load_orphaned,
    record_removals,
)
from mirror.state.store import Store
from mirror.sync.cycle_parts import Options
from mirror.sync.removals.brake import RemovalScope, count_files, holds_brake, split
from mirror.sync.removals.removal import record_of
from mirror.sync.report import PlanItem
from mirror.sync.work import PendingRemoval


async def plan_items(
    holdings: Holdings, options: Options, run: RemovalScope
) -> tuple[list[PlanItem], bool]:
    """Return the removals for ``--dry-run``, and whether the brake would allow them.

    They are removed from the copy of the state, so that a later index's claim to the names can be
    planned too.
    """
    exempt, removals = split(run)
    files = await count_files(holdings.store, removals)
    is_held = (
        not options.allow_shrink and files and await holds_brake(holdings, run, removals, files)
    )
    return await _plan_removals(
        holdings, run, exempt if is_held else run.leaving.pending
    ), not is_held


async def _plan_removals(
    holdings: Holdings, run: RemovalScope, removals: Sequence[PendingRemoval]
) -> list[PlanItem]:
    items = []
    for removal in removals:
        held = (await load_held(holdings.store, [removal.project]))[removal.project]
        leaving = held if removal.leaves else removal.filenames
        items += [
            planned_removal(run.name, removal.name, held[name]) for name in leaving if name in held
        ]
    if removals:
        records = [record_of(run, removal) for removal in removals]
        await record_removals(holdings.store, records, cycle=holdings.cycle, now=holdings.clock())
    return items


async def plan_orphaned(store: Store, options: Options) -> list[PlanItem]:
    """Return the removals of indexes that left the configuration, for ``--dry-run``."""
    items: list[PlanItem] = []
    if options.allow_shrink and not options.is_narrowed:
        for project, _, name, index in await load_orphaned(store):
            held = (await load_held(store, [project]))[project]
            items += [planned_removal(index, name, file) for file in held.values()]
    return items


def planned_removal(index: str, project: ProjectName, held: HeldFile) -> PlanItem:
    """Return the removal of a file as a plan lists it."""
    return PlanItem(
        index=index,
        project=project,
        filename=held.filename,
        action="remove",
        size=held.size,
        sha256=held.sha256,
    )
