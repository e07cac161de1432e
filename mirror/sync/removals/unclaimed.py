"""The files of a rebuilt state that no index claims: judged after two whole cycles."""

from __future__ import annotations

import msgspec

from mirror.core.diff import HeldFile, Removal, RemovalKind
from mirror.publishing.publisher import Publisher
from mirror.state.entries.changes import record_missing
from mirror.state.entries.held import load_held
from mirror.state.entries.rebuilt import (
    load_failed_filenames,
    load_judgeable,
    load_unclaimed,
    settle_empty,
)
from mirror.state.listing.sources import SourceRow
from mirror.sync.cycle_parts import Cycle
from mirror.sync.removals.removal import apply_removals
from mirror.sync.report import IndexCounters
from mirror.sync.work import Leaving, PendingRemoval


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
