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

import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import anyio
import msgspec

from mirror.core.names import ProjectName
from mirror.errors import (
    ConfigError,
    DiskFull,
    LockHeld,
    MirrorError,
    Reason,
    StateError,
    TreeError,
    leaves_of,
    shown_text,
)
from mirror.logs import get_logger, redact
from mirror.publishing.publisher import Publisher
from mirror.state.cycles import (
    forget_cycle,
    has_clock_gone_back,
    record_cycle_end,
    record_cycle_start,
)
from mirror.state.listing.due import Due, count_due, has_wanted, load_due, load_listed
from mirror.state.listing.sources import (
    SourceRow,
    load_sources,
    record_identity,
    record_let_out,
    record_success,
)
from mirror.state.missing.deferred import judge_all_again
from mirror.state.missing.ledger import (
    Failure,
    count_all_failures,
    count_failures,
    load_reported,
    record_failures,
)
from mirror.state.readers.overview import load_counts
from mirror.state.wants.unwanted import load_newly_unwanted, mark_unwanted
from mirror.sync.advisories.reporting import report_advisories
from mirror.sync.advisories.taking import take_advisories
from mirror.sync.advisories.withdrawing import judge_by_advisories, judge_new_files
from mirror.sync.fetch import Fetcher, workers_of
from mirror.sync.needs.leaving import count_unwanted_of, drain_unwanted, plan_unwanted
from mirror.sync.needs.pages import CyclePages
from mirror.sync.needs.protocol import Needs
from mirror.sync.pages.crawl import Deliver, crawl, look_at_root, reread
from mirror.sync.pages.hints import add_hint, ask_for_address
from mirror.sync.pages.ruling import report_rules
from mirror.sync.plan import plan_of_cycle, plan_stage
from mirror.sync.record import Recorder
from mirror.sync.removals.displaced import keep_undisplaced
from mirror.sync.removals.foreign import plan_foreign, remove_foreign
from mirror.sync.removals.removal import (
    apply_removals,
    plan_displaced,
    plan_items,
    plan_orphaned,
    plan_root_change,
    plan_withdrawn,
    remove_orphaned,
    settle_unclaimed,
    tell_owner_changed,
)
from mirror.sync.removals.sweep import renew_unsure, sweep_after, sweep_before
from mirror.sync.removals.unserved import add_unserved, judge_unserved, note_unwritten
from mirror.sync.report import COUNTERS, Report, nothing_wanted, shown_failure
from mirror.sync.work import Cycle, IndexRun, Phase, asked_wait_s

_log = get_logger(__name__)

_MAX_SETTLED_AGAIN = 5
"""Maximum number of times that one cycle decides again which files are wanted, since files were
refused.
"""
_MAX_REPORTED = 200_000
"""Maximum number of failures in a cycle's report; the ledger has all of them."""
_OF_TABLES: Final[dict[str, list[Any]]] = {
    key: [] for key in ("not_served", "vulnerable", "not_judged", "withdrawn")
}
"""The parts of a report that tables of the state have: they are not recorded with it."""


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
        await _publish_what_is_held(cycle)
    finally:
        if not is_refused:
            with anyio.CancelScope(shield=True):
                await _finish(cycle)
    return report


async def _run_steps(cycle: Cycle) -> None:
    publisher = Publisher(cycle.holdings, cycle.unwritten)
    await _repair(cycle, publisher)
    note = await take_advisories(cycle)
    if note is not None:  # before any request: malware leaves, whether an index can be read or not
        await judge_by_advisories(cycle, publisher, note)
    cycle.phase = Phase.ROOTS
    dues = await _look_at_roots(cycle)
    pages = CyclePages(cycle, dues, _rest(cycle))
    if cycle.needs is not None:
        cycle.phase = Phase.WANTS
        if cycle.options.dry_run:
            await mark_unwanted(cycle.store)
        await cycle.needs.settle(pages, cycle=cycle.id)
    await _count_due(cycle, dues)
    await _tell_what_is_not_there(cycle, [run for run, _ in dues])
    cycle.phase = Phase.PROJECTS
    for stage in _stages(dues):
        if not cycle.options.dry_run:
            await publisher.flush()  # an overlay is judged by the recorded pages of its owners
        await _work_through(cycle, publisher, stage)
    if cycle.needs is not None and not cycle.options.dry_run:
        await _settle_again(cycle, cycle.needs, publisher, pages, dues)
    await plan_displaced(cycle)
    await plan_withdrawn(cycle)
    cycle.phase = Phase.REMOVALS
    if not cycle.options.dry_run:
        await keep_undisplaced(cycle, publisher)
        # else a closing that waits for the root would undo the forgetting of a removal
        await publisher.flush()
    for run, due in dues:
        if run.ended is None:
            gone = [r.name for r in run.removals if r.leaves]
            if await _take_away(cycle, publisher, run) and gone:
                await _hand_over(
                    cycle,
                    publisher,
                    run,
                    gone,
                    [d for d in dues if d[1].source.position > due.source.position],
                )
    if cycle.options.dry_run:
        await _plan_rest(cycle)
        return
    await remove_orphaned(cycle, publisher)
    await settle_unclaimed(cycle, publisher)
    if cycle.needs is not None:
        await cycle.needs.finish()
        cycle.report.waits_for = await cycle.needs.waits_for() & {run.name for run in cycle.resting}
        await drain_unwanted(cycle, publisher, keep_s=cycle.keep_unwanted_s)
    await publisher.publish_marked()
    await sweep_after(cycle)


async def _plan_rest(cycle: Cycle) -> None:
    """Add to the plan what a cycle does after its pages are read."""
    plan_of_cycle(cycle).extend(await plan_orphaned(cycle))
    cycle.report.free_bytes = await anyio.to_thread.run_sync(cycle.files.free_bytes)
    plan_of_cycle(cycle).extend(await plan_foreign(cycle))
    if cycle.needs is not None:
        await cycle.needs.finish()
        cycle.report.want_plans = await cycle.needs.planned()
        cycle.report.newly_unwanted = await load_newly_unwanted(cycle.store)
    plan_of_cycle(cycle).extend(await plan_unwanted(cycle, keep_s=cycle.keep_unwanted_s))


async def _repair(cycle: Cycle, publisher: Publisher) -> None:
    """Publish what an earlier cycle left marked, and mend what a wrong clock or version has
    left.
    """
    if await has_clock_gone_back(cycle.store):
        await judge_all_again(cycle.store, now=cycle.judged_at)
    if not cycle.options.dry_run:
        await sweep_before(cycle)
        await renew_unsure(cycle)
        await publisher.publish_marked()
        await remove_foreign(cycle, publisher)


async def _publish_what_is_held(cycle: Cycle) -> None:
    """Publish the recorded files although the disk or the state stopped the cycle; nothing more is
    removed.

    Pages need little room. Where even that is missing, partial downloads are deleted: they are
    fetched again.
    """
    if cycle.options.dry_run:
        return
    with anyio.CancelScope(shield=True):
        try:
            try:
                await Publisher(cycle.holdings, cycle.unwritten).publish_marked()
            except (DiskFull, StateError) as exc:
                if isinstance(exc, StateError) and not exc.is_full:
                    raise
                removed = await anyio.to_thread.run_sync(cycle.files.sweep_staging)
                if not removed:
                    raise
                _log.warning(
                    "staging.swept",
                    files=removed,
                    reason="the disk is full, and pages need some room",
                )
                await Publisher(cycle.holdings, cycle.unwritten).publish_marked()
        except (StateError, TreeError, LockHeld) as exc:
            _log.warning("cycle.unpublished", cycle=cycle.id, problem=str(exc))


async def _take_away(cycle: Cycle, publisher: Publisher, run: IndexRun) -> bool:
    """Apply the pending removals, or plan them; return whether their projects may pass to another
    index.
    """
    if not cycle.options.dry_run:
        return await apply_removals(cycle, run, publisher)
    items, may_leave = await plan_items(cycle, run)
    plan_of_cycle(cycle).extend(items)
    return may_leave


async def _look_at_roots(cycle: Cycle) -> list[tuple[IndexRun, Due]]:
    """Read the roots of all indexes concurrently; return those that can be crawled, in their
    order.
    """

    async def look(run: IndexRun) -> None:
        if run.ended is not None:
            return
        try:
            change = await look_at_root(cycle, run)
        except (StateError, TreeError, LockHeld):
            raise
        except MirrorError as exc:
            run.ended = add_hint(exc, run.source.url)
            return
        if not cycle.options.is_narrowed:
            plan_root_change(run, change)

    async with anyio.create_task_group() as tasks:
        for run in cycle.runs:
            tasks.start_soon(look, run)
    cycle.sources = tuple(s for s in await load_sources(cycle.store) if s.configured)
    sources = {s.name: s for s in cycle.sources}
    never_read = _never_read(cycle)
    dues = []
    for run in cycle.runs:
        run.source = sources[run.name]
        if run.source.unread:
            names = ", ".join(map(shown_text, run.source.unread_names))
            unread = {"event": "names-unread", "index": run.name, "files": str(run.source.unread)}
            cycle.report.events.append({**unread, "names": names})
        if run.ended is not None:
            continue
        due = _due(cycle, run, only_held=run.source.position > never_read)
        known = await count_failures(cycle.store, run.source.id)
        run.refused_files = known.get(Reason.UNSAFE_NAME, 0) + known.get(Reason.BAD_FILE, 0)
        dues.append((run, due))
    return dues


def _never_read(cycle: Cycle) -> float:
    """Return the position of the first index whose root was never read."""
    unknown = [source.position for source in cycle.sources if _is_unknown(cycle, source)]
    return min(unknown, default=math.inf)


def _rest(cycle: Cycle) -> list[tuple[IndexRun, Due]]:
    """Return the indexes that this cycle does not read, with the projects that they list."""
    sources = {source.name: source for source in cycle.sources}
    never_read = _never_read(cycle)
    for run in cycle.resting:
        run.source = sources[run.name]
    return [
        (run, _due_of(cycle, run, only_held=run.source.position > never_read))
        for run in cycle.resting
    ]


async def _count_due(cycle: Cycle, dues: Sequence[tuple[IndexRun, Due]]) -> None:
    for run, due in dues:
        run.counters.projects_due, confirmed = await count_due(cycle.store, due)
        run.counters.projects_confirmed = confirmed
        run.counters.projects_checked += confirmed
        run.counters.projects_unchanged += confirmed


async def _settle_again(
    cycle: Cycle,
    needs: Needs,
    publisher: Publisher,
    pages: CyclePages,
    dues: Sequence[tuple[IndexRun, Due]],
) -> None:
    """Decide again which files are wanted while wanted files turn out to be refused, and fetch what
    changed.
    """
    for _ in range(_MAX_SETTLED_AGAIN):
        await publisher.flush()  # what failed is in the ledger now
        changed = sorted(await needs.settle_again(pages))
        if not changed:
            return
        for stage in _stages(dues):
            for start in range(0, len(changed), 500):
                only = tuple(changed[start : start + 500])
                narrowed = [
                    # what was refused in this cycle is not asked for again
                    (run, msgspec.structs.replace(due, only=only, now=cycle.clock()))
                    for run, due in stage
                    if run.ended is None
                ]
                checked = [run.counters.projects_checked for run, _ in narrowed]
                await _work_through(cycle, publisher, narrowed)
                for (run, _), before in zip(
                    narrowed, checked, strict=True
                ):  # each project counts once
                    run.counters.projects_checked = before
                    run.counters.projects_unchanged = max(0, before - run.counters.projects_changed)


async def _tell_what_is_not_there(cycle: Cycle, runs: Sequence[IndexRun]) -> None:
    """Warn of projects asked for by name that no index has, and of patterns that want nothing at
    all.
    """
    only = cycle.options.projects
    for run in runs:
        if not only and not await has_wanted(cycle.store, run.source.id):
            listed = str(run.counters.projects_listed)
            cycle.report.events.append(
                {"event": "nothing-wanted", "index": run.name, "listed": listed}
            )
            _log.warning("selection.empty", index=run.name, problem=nothing_wanted(listed))
    if not only or len(runs) < len(cycle.runs):
        return  # a root could not be read, so its projects are unknown
    indexes = " or ".join(run.name for run in runs)
    unlisted = set(only)
    for run in runs:
        unlisted -= await load_listed(cycle.store, run.source.id, unlisted - run.unlisted)
    if unlisted and cycle.options.refuses_unlisted:
        names = ", ".join(sorted(unlisted))
        raise ConfigError(
            where="--project", problem=f"{indexes} does not list {names}: check the name"
        )
    for name in sorted(unlisted):
        detail = (
            f"--project {name}: {indexes} does not list it, or its patterns leave it out:"
            " check the name"
        )
        cycle.report.unlisted.append(
            shown_failure(runs[0].name, name, "", Reason.NOT_FOUND, detail)
        )
        _log.warning(
            "project.unlisted", project=name, indexes=[run.name for run in runs], problem=detail
        )


def _is_unknown(cycle: Cycle, source: SourceRow) -> bool:
    """Return whether the projects that an index owns are unknown: its root was never read, or never
    with these patterns.
    """
    if any(
        run.name == source.name and run.ended is None and not run.is_root_cut for run in cycle.runs
    ):
        return False  # it was read just now
    return source.root_read is None or source.selection != cycle.root_digests.get(source.name)


def _due(cycle: Cycle, run: IndexRun, *, only_held: bool) -> Due:
    run.counters.waits = only_held
    if only_held:
        _log.warning(
            "index.waits",
            index=run.name,
            reason="the root of an earlier index was never read: no new projects",
        )
    return _due_of(cycle, run, only_held=only_held)


def _due_of(cycle: Cycle, run: IndexRun, *, only_held: bool) -> Due:
    is_needed = cycle.needs is not None and cycle.needs.narrows(run.name)
    return Due(
        source=run.source,
        selection=run.selection.page_digest,
        trust_serials=not cycle.options.full,
        only_held=only_held,
        is_overlay=run.selection.policy.overlay and run.source.position > 0,
        is_needed=is_needed,
        judged_at=cycle.judged_at,
        judges_wanted=cycle.needs is not None
        and not is_needed
        and run.selection.rules.depends_on_needs,
        only=cycle.options.projects,
        unlisted=tuple(run.unlisted),
        now=math.inf if cycle.options.all_failures else cycle.clock(),
    )


def _stages(dues: Sequence[tuple[IndexRun, Due]]) -> list[list[tuple[IndexRun, Due]]]:
    """Group the indexes: the owners side by side, then each overlay after those before it."""
    owners = [d for d in dues if not d[1].is_overlay]
    return [owners, *([d] for d in dues if d[1].is_overlay)]


async def _work_through(
    cycle: Cycle, publisher: Publisher, stage: Sequence[tuple[IndexRun, Due]]
) -> None:
    """Crawl some indexes side by side until all that they ask for is held and published, or in the
    ledger.
    """
    if cycle.options.dry_run:
        await plan_stage(cycle, stage)
        return
    async with _recorder(cycle, publisher) as recorder, anyio.create_task_group() as tasks:
        for run, due in stage:
            workers = workers_of(cycle, run)
            read = partial(crawl, cycle, run, due, workers)
            tasks.start_soon(_work_on_index, Fetcher(cycle, run, recorder, workers), read)
    # Only now: a second reading of a project compares with the records of the first.
    while outdated := [(run, due) for run, due in stage if run.rereads and run.ended is None]:
        async with _recorder(cycle, publisher) as recorder, anyio.create_task_group() as tasks:
            for run, due in outdated:
                read = partial(reread, cycle, run, due)
                fetcher = Fetcher(cycle, run, recorder, workers_of(cycle, run))
                tasks.start_soon(_work_on_index, fetcher, read)


@asynccontextmanager
async def _recorder(cycle: Cycle, publisher: Publisher) -> AsyncIterator[Recorder]:
    recorder = Recorder(cycle, publisher)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(recorder.run)
            try:
                yield recorder
            finally:
                recorder.close()
    finally:
        recorder.end()


async def _work_on_index(fetcher: Fetcher, read: Callable[[Deliver], Awaitable[None]]) -> None:
    """Read the pages of one index and fetch its files.

    After an early end, delivered files are still recorded.
    """
    try:
        with fetcher.scope:
            async with anyio.create_task_group() as tasks:
                await tasks.start(fetcher.run)
                try:
                    await read(fetcher.deliver)
                finally:
                    fetcher.close()
    finally:
        fetcher.end()


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
        if run.ended is not None:
            continue
        for start in range(0, len(names), 500):
            narrowed = msgspec.structs.replace(
                due, only=tuple(names[start : start + 500]), trust_serials=False
            )
            rows = [row async for chunk in load_due(cycle.store, narrowed) for row in chunk]
            if rows:
                for row in rows:
                    tell_owner_changed(cycle, row.name, before=before.name, after=run.name)
                await _work_through(cycle, publisher, [(run, narrowed)])


async def _finish(cycle: Cycle) -> None:
    """Record the end of the cycle and complete its report."""
    report = cycle.report
    cycle.phase = Phase.DONE
    now = cycle.clock()
    report.finished_at = now
    for run in cycle.runs:
        run.counters.requests = run.session.requests
        run.counters.bytes_downloaded = run.session.file_bytes
        if run.ended is not None:
            report.ended[run.name] = run.ended
            _log.error("index.ended", index=run.name, problem=str(run.ended))
    try:
        await _record_end(cycle, now)
    except StateError as exc:
        report.aborted = report.aborted or exc
    report.failures = [*report.unlisted, *report.failures]
    _log.info(
        "cycle.finished",
        cycle=cycle.id,
        outcome=report.outcome.value,
        seconds=round(now - report.started_at, 3),
        failures=len(report.failures),
        **{key: report.total(key) for key in COUNTERS},
        **(
            {"by_index": [i.as_json() for i in report.indexes.values()]}
            if len(report.indexes) > 1
            else {}
        ),
    )


async def _record_end(cycle: Cycle, now: float) -> None:
    report, store = cycle.report, cycle.store
    root_failures = [
        Failure(
            source=run.source.id,
            project="",
            filename="",
            reason=run.ended.reason,
            detail=str(run.ended),
            wait_s=asked_wait_s(run.ended),
        )
        for run in cycle.runs
        if run.ended is not None
    ]
    await record_failures(store, root_failures, (), now=now)
    for run in cycle.runs:
        await record_identity(store, run.source, had_credential=run.session.had_credential)
        await record_let_out(store, run.source, run.session.let_out.names)
    await ask_for_address(cycle)
    ledger = await load_reported(store, limit=_MAX_REPORTED)
    await _report_rest(cycle, len(ledger))
    if cycle.options.dry_run:
        # The pages' failures are in the plan; those of whole indexes, such as the brake's, are in
        # the copy only.
        ledger = [f for f in ledger if not f.project and f.last_at >= report.started_at]
    else:
        report.failures = []
    report.failures += [
        shown_failure(f.index, f.project, f.filename, f.reason, f.detail) for f in ledger
    ]
    if not report.interrupted and report.aborted is None and not cycle.options.is_narrowed:
        await judge_unserved(cycle)
    elif not cycle.options.dry_run:
        await note_unwritten(cycle)
    await add_unserved(cycle)
    if cycle.needs is not None:
        await count_unwanted_of(cycle)
        report.failures += [
            shown_failure("", "", "", Reason.UNRESOLVED, detail) for detail in cycle.needs.failures
        ]
    await judge_new_files(cycle)
    await report_advisories(cycle)
    for run in cycle.runs:
        counts = await load_counts(store, run.source.id)
        run.counters.files_absent = counts.absent
        run.counters.files_unhashed = counts.unhashed
        run.counters.files_skipped = counts.skipped
        run.counters.files_withheld = (await count_failures(store, run.source.id)).get(
            Reason.WITHHELD, 0
        )
    await report_rules(cycle)
    if not report.interrupted and report.aborted is None and not cycle.options.is_narrowed:
        await record_success(store, [run.source.id for run in cycle.runs if run.ended is None], now)


async def record_outcome(cycle: Cycle, exit_code: int) -> None:
    """Record the cycle's report with its exit code; where the state can't be written, it is in the
    log.
    """
    report = cycle.report
    with contextlib.suppress(StateError):
        await record_cycle_end(
            cycle.store,
            cycle.id,
            report.finished_at or cycle.clock(),
            outcome=report.outcome.value,
            exit_code=exit_code,
            problem=None if report.aborted is None else redact(str(report.aborted)),
            report=msgspec.json.encode(report.as_json() | _OF_TABLES).decode(),
        )


async def _report_rest(cycle: Cycle, reported: int) -> None:
    """Report that the ledger has more rows than the report, if it has."""
    if reported < _MAX_REPORTED:
        return
    total = await count_all_failures(cycle.store)
    if total > reported:
        cycle.report.events.append(
            {"event": "failures-cut", "failures": str(total), "reported": str(reported)}
        )
        problem = (
            "the report has the first ones of each index;"
            " `mirror explain` and `mirror list` know all"
        )
        _log.warning("report.cut", failures=total, reported=reported, problem=problem)


def _storage_error(error: MirrorError | ExceptionGroup[Exception]) -> MirrorError:
    """Return the error of the tree or the state that stopped a cycle; anything else is a bug and
    raised again.
    """
    errors = leaves_of(error)
    storage = [one for one in errors if isinstance(one, StateError | TreeError | LockHeld)]
    if len(storage) < len(errors):
        raise error
    return next((one for one in storage if isinstance(one, LockHeld)), storage[0])
