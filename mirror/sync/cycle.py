"""One pass over the indexes: read this first.

A cycle publishes pages that an earlier one left marked, reads the roots, decides the owner of each
project, reads the pages that are due, fetches, records and publishes new files as they arrive, and
removes files at the end. Stages are joined by bounded streams: ``crawl`` → ``fetch`` → ``record`` →
``publish``. Each index works on its own; an overlay waits for the indexes before it, since their
listings limit the files that it may add.

Invariants (``docs/explanation/order-of-writes.md``): each file that a page lists exists, whole and
verified; a cycle killed anywhere is repaired by the next one; nothing is removed because of an
error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import anyio
import msgspec

from mirror.core.names import ProjectName
from mirror.errors import (
    ConfigError,
    LockHeld,
    MirrorError,
    StateError,
    TreeError,
    leaves_of,
)
from mirror.holdings.holdings import Holdings
from mirror.holdings.room import with_room
from mirror.logs import get_logger
from mirror.publishing.publisher import Publisher
from mirror.state.cycles import (
    forget_cycle,
    has_clock_gone_back,
    record_cycle_start,
)
from mirror.state.listing.due import Due, load_due
from mirror.state.missing.deferred import judge_all_deferred
from mirror.state.missing.sights import count_from_now
from mirror.state.wants.unwanted import load_newly_unwanted, mark_unwanted
from mirror.sync.advisories.taking import take_advisories
from mirror.sync.advisories.withdrawing import JudgedFiles, judge_by_advisories
from mirror.sync.cycle_parts import Cycle, Phase, Terms
from mirror.sync.ending import finish_cycle
from mirror.sync.needs.leaving import drain_unwanted, plan_unwanted
from mirror.sync.plan import plan_of_cycle
from mirror.sync.removals.displaced import keep_undisplaced
from mirror.sync.removals.dry_run import plan_items, plan_orphaned
from mirror.sync.removals.foreign import plan_foreign, remove_foreign
from mirror.sync.removals.orphaned import remove_orphaned
from mirror.sync.removals.planning import plan_displaced, plan_withdrawn, report_owner_changed
from mirror.sync.removals.removal import apply_removals
from mirror.sync.removals.sweep import renew_unsure, sweep_after, sweep_before
from mirror.sync.removals.unclaimed import settle_unclaimed
from mirror.sync.report import Report
from mirror.sync.roots import count_dues, dues_of_resting, read_roots, report_nothing_wanted
from mirror.sync.stages import settle_again, stages_of, work_through
from mirror.sync.work import IndexRun

if TYPE_CHECKING:
    from mirror.sync.needs.pages import CyclePages

_log = get_logger(__name__)


async def run_cycle(cycle: Cycle) -> Report:
    """Run one cycle to its end and return its report, which includes the error that stopped it.

    Only cancellation and bugs are raised. ``--dry-run`` works on a copy of the state and changes
    nothing.
    """
    report = cycle.report
    report.cycle = await record_cycle_start(
        cycle.store, cycle.clock(), allow_shrink=cycle.options.allow_shrink
    )
    cycle.holdings = msgspec.structs.replace(cycle.holdings, cycle=report.cycle)
    _log.info("cycle.started", cycle=cycle.id, indexes=[run.name for run in cycle.runs])
    is_refused = False
    try:
        await _run_steps(cycle)
    except ConfigError:
        is_refused = True
        await forget_cycle(cycle.store, cycle.id)
        raise
    except BaseException as exc:
        report.interrupted = True  # for any exception: nothing counts as seen
        if not isinstance(exc, MirrorError | ExceptionGroup):
            raise
        report.aborted = _storage_error(exc)
        report.interrupted = False
        _log.error("cycle.aborted", cycle=cycle.id, problem=str(report.aborted))
        if not cycle.options.dry_run:
            await _publish_what_is_held(cycle.holdings, cycle.course.unwritten)
    finally:
        if not is_refused:
            with anyio.CancelScope(shield=True):
                await finish_cycle(cycle)
    return report


async def _run_steps(cycle: Cycle) -> None:
    course, needs, is_dry = cycle.course, cycle.wants.needs, cycle.options.dry_run
    publisher = Publisher(cycle.holdings, course.unwritten)
    await _repair(cycle.holdings, cycle.terms, cycle.runs, publisher, is_dry=is_dry)
    note = await take_advisories(cycle)
    if note is not None:  # before any request: malware leaves, whether an index can be read or not
        await judge_by_advisories(JudgedFiles.of(cycle), publisher, note)
    course.phase = Phase.ROOTS
    dues = await read_roots(cycle)
    pages: CyclePages | None = None
    if needs is not None:
        from mirror.sync.needs.pages import CyclePages  # 6 ms

        pages = CyclePages(cycle.page_scope(), course.sources, dues, dues_of_resting(cycle))
        course.phase = Phase.WANTS
        if is_dry:
            await mark_unwanted(cycle.store)
        await needs.settle(pages, cycle=cycle.id)
    await count_dues(cycle.store, dues)
    await report_nothing_wanted(cycle, [run for run, _ in dues])
    course.phase = Phase.PROJECTS
    for stage in stages_of(dues):
        if not is_dry:
            await publisher.flush()  # an overlay is judged by the recorded pages of its owners
        await work_through(cycle, publisher, stage)
    if needs is not None and pages is not None and not is_dry:
        await settle_again(cycle, needs, publisher, pages, dues)
    await plan_displaced(cycle.store, cycle.options, cycle.report, cycle.runs)
    await plan_withdrawn(cycle.store, cycle.runs)
    course.phase = Phase.REMOVALS
    await _remove_listed(cycle, publisher, dues)
    if is_dry:
        await _plan_rest(cycle)
    else:
        await _remove_rest(cycle, publisher)


async def _repair(
    holdings: Holdings,
    terms: Terms,
    runs: Sequence[IndexRun],
    publisher: Publisher,
    *,
    is_dry: bool,
) -> None:
    """Publish the projects that an earlier cycle left marked, and repair traces of a wrong clock or
    version.
    """
    if await has_clock_gone_back(holdings.store):
        await count_from_now(holdings.store, now=terms.judged_at)
        await judge_all_deferred(holdings.store, now=terms.judged_at)
    if not is_dry:
        await sweep_before(holdings.files)
        await renew_unsure(holdings)
        await publisher.publish_marked()
        await remove_foreign(holdings, runs, publisher)


async def _remove_listed(
    cycle: Cycle, publisher: Publisher, dues: Sequence[tuple[IndexRun, Due]]
) -> None:
    """Remove the files that the pages of an index no longer have; its lost projects pass to the
    next one.
    """
    planned = plan_of_cycle(cycle.report) if cycle.options.dry_run else ()
    pages_seen = await keep_undisplaced(cycle.store, cycle.runs, planned)
    if not cycle.options.dry_run:
        await publisher.publish((), pages_seen)
        # else validators that wait for the root would undo the forgetting of a removal
        await publisher.flush()
    for run, due in dues:
        if run.reach.ended is not None:
            continue
        gone = [removal.name for removal in run.leaving.pending if removal.leaves]
        if await _take_away(cycle, publisher, run) and gone:
            later = [d for d in dues if d[1].source.position > due.source.position]
            await _hand_over(cycle, publisher, run, gone, later)


async def _take_away(cycle: Cycle, publisher: Publisher, run: IndexRun) -> bool:
    """Apply the pending removals, or plan them; return whether their projects may pass to another
    index.
    """
    if not cycle.options.dry_run:
        return await apply_removals(cycle.holdings, cycle.options, run, publisher)
    items, may_leave = await plan_items(cycle.holdings, cycle.options, run)
    plan_of_cycle(cycle.report).extend(items)
    return may_leave


async def _hand_over(
    cycle: Cycle,
    publisher: Publisher,
    before: IndexRun,
    names: Sequence[ProjectName],
    later: Sequence[tuple[IndexRun, Due]],
) -> None:
    """Let the next index that lists them own the projects that an owner has lost, in this same
    cycle.
    """
    for run, due in later:
        if run.reach.ended is not None:
            continue
        for start in range(0, len(names), 500):
            narrowed = msgspec.structs.replace(
                due, only=tuple(names[start : start + 500]), trust_serials=False
            )
            rows = [row async for chunk in load_due(cycle.store, narrowed) for row in chunk]
            if rows:
                for row in rows:
                    report_owner_changed(
                        cycle.report.events, row.name, before=before.name, after=run.name
                    )
                await work_through(cycle, publisher, [(run, narrowed)])


async def _remove_rest(cycle: Cycle, publisher: Publisher) -> None:
    """Remove the files of no configured index, and those that no want needs any more."""
    wants = cycle.wants
    await remove_orphaned(cycle.holdings, cycle.options, cycle.report, publisher)
    await settle_unclaimed(cycle, publisher)
    if wants.needs is not None:
        await wants.needs.finish()
        resting = {run.name for run in wants.resting}
        cycle.report.waits_for = await wants.needs.waits_for() & resting
        await drain_unwanted(cycle.holdings, cycle.options, wants, cycle.runs, publisher)
    await publisher.publish_marked()
    await sweep_after(cycle.holdings, cycle.options, cycle.report, cycle.runs)


async def _plan_rest(cycle: Cycle) -> None:
    """Add to the plan the steps of a cycle after its pages are read."""
    report, wants = cycle.report, cycle.wants
    plan = plan_of_cycle(report)
    plan.extend(await plan_orphaned(cycle.store, cycle.options))
    report.free_bytes = await anyio.to_thread.run_sync(cycle.holdings.files.free_bytes)
    plan.extend(await plan_foreign(cycle.store))
    if wants.needs is not None:
        await wants.needs.finish()
        report.want_plans = await wants.needs.planned()
        report.newly_unwanted = await load_newly_unwanted(cycle.store)
    plan.extend(await plan_unwanted(cycle.holdings, cycle.options, wants, cycle.runs))


async def _publish_what_is_held(
    holdings: Holdings, unwritten: dict[ProjectName, TreeError]
) -> None:
    """Publish the recorded files although the disk or the state stopped the cycle; nothing more is
    removed.

    Pages need little room. Where even that is missing, partial downloads are deleted: they are
    fetched again.
    """
    with anyio.CancelScope(shield=True):
        try:
            await with_room(
                holdings,
                lambda: Publisher(holdings, unwritten).publish_marked(),
                what="pages need",
            )
        except (StateError, TreeError, LockHeld) as exc:
            _log.warning("cycle.unpublished", cycle=holdings.cycle, problem=str(exc))


def _storage_error(error: MirrorError | ExceptionGroup[Exception]) -> MirrorError:
    """Return the error of the tree or the state that stopped a cycle; anything else is a bug and
    raised again.
    """
    errors = leaves_of(error)
    storage = [one for one in errors if isinstance(one, StateError | TreeError | LockHeld)]
    if len(storage) < len(errors):
        raise error
    return next((one for one in storage if isinstance(one, LockHeld)), storage[0])
