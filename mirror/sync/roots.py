"""The start of a cycle: read the roots, and find the pages that each index owns and that are due.

Where the root of an earlier index was never read, later ones get no new projects: the earlier one
may own them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import anyio

from mirror.errors import (
    ConfigError,
    LockHeld,
    MirrorError,
    Reason,
    StateError,
    TreeError,
    shown_text,
)
from mirror.logs import get_logger
from mirror.state.listing.due import Due, count_due, has_wanted, load_listed
from mirror.state.listing.sources import (
    SourceRow,
    load_sources,
)
from mirror.state.missing.ledger import (
    count_failures,
)
from mirror.state.store import Store
from mirror.sync.cycle_parts import Cycle, PageScope
from mirror.sync.pages.hints import add_hint
from mirror.sync.pages.root import read_root
from mirror.sync.removals.planning import plan_root_change
from mirror.sync.report import nothing_wanted, shown_failure
from mirror.sync.work import IndexRun

_log = get_logger(__name__)


async def read_roots(cycle: Cycle) -> list[tuple[IndexRun, Due]]:
    """Read the roots of all indexes concurrently; return those that can be crawled, in their
    order.
    """

    async def read(run: IndexRun) -> None:
        if run.reach.ended is not None:
            return
        try:
            change = await read_root(cycle.holdings, cycle.options, cycle.report, run)
        except (StateError, TreeError, LockHeld):
            raise
        except MirrorError as exc:
            run.reach.ended = add_hint(exc, run.source.url)
            return
        if not cycle.options.is_narrowed:
            plan_root_change(run, change)

    async with anyio.create_task_group() as tasks:
        for run in cycle.runs:
            tasks.start_soon(read, run)
    cycle.course.sources = tuple(s for s in await load_sources(cycle.store) if s.configured)
    sources = {s.name: s for s in cycle.course.sources}
    never_read = _never_read(cycle)
    scope, dues = cycle.page_scope(), []
    for run in cycle.runs:
        run.source = sources[run.name]
        if run.source.unread:
            names = ", ".join(map(shown_text, run.source.unread_names))
            unread = {"event": "names-unread", "index": run.name, "files": str(run.source.unread)}
            cycle.report.events.append({**unread, "names": names})
        if run.reach.ended is not None:
            continue
        due = _due(scope, run, only_held=run.source.position > never_read)
        known = await count_failures(cycle.store, run.source.id)
        run.refused.files = known.get(Reason.UNSAFE_NAME, 0) + known.get(Reason.BAD_FILE, 0)
        dues.append((run, due))
    return dues


def dues_of_resting(cycle: Cycle) -> list[tuple[IndexRun, Due]]:
    """Return the indexes that this cycle does not read, with the projects that they list."""
    scope, resting = cycle.page_scope(), cycle.wants.resting
    sources = {source.name: source for source in cycle.course.sources}
    never_read = _never_read(cycle)
    for run in resting:
        run.source = sources[run.name]
    return [
        (run, _due_of(scope, run, only_held=run.source.position > never_read)) for run in resting
    ]


def _never_read(cycle: Cycle) -> float:
    """Return the position of the first index whose root was never read."""
    just_read = {
        run.name for run in cycle.runs if run.reach.ended is None and not run.pages.is_root_cut
    }
    unknown = [
        source.position
        for source in cycle.course.sources
        if source.name not in just_read and _is_unknown(source, cycle.terms.root_digests)
    ]
    return min(unknown, default=math.inf)


def _is_unknown(source: SourceRow, root_digests: Mapping[str, str]) -> bool:
    """Return whether the projects that an index owns are unknown: its root was never read, or never
    with these patterns.
    """
    return source.root_read is None or source.selection != root_digests.get(source.name)


def _due(scope: PageScope, run: IndexRun, *, only_held: bool) -> Due:
    run.counters.waits = only_held
    if only_held:
        _log.warning(
            "index.waits",
            index=run.name,
            reason="the root of an earlier index was never read: no new projects",
        )
    return _due_of(scope, run, only_held=only_held)


def _due_of(scope: PageScope, run: IndexRun, *, only_held: bool) -> Due:
    options, needs = scope.options, scope.wants.needs
    is_needed = needs is not None and needs.narrows(run.name)
    return Due(
        source=run.source,
        selection=run.selection.page_digest,
        trust_serials=not options.full,
        only_held=only_held,
        is_overlay=run.selection.policy.overlay and run.source.position > 0,
        is_needed=is_needed,
        judged_at=scope.terms.judged_at,
        judges_wanted=needs is not None and not is_needed and run.selection.rules.depends_on_needs,
        only=options.projects,
        unlisted=tuple(run.pages.unlisted),
        now=math.inf if options.all_failures else scope.holdings.clock(),
    )


async def count_dues(store: Store, dues: Sequence[tuple[IndexRun, Due]]) -> None:
    """Count the pages of each index that are due, and those that need no look."""
    for run, due in dues:
        run.counters.projects_due, confirmed = await count_due(store, due)
        run.counters.projects_confirmed = confirmed
        run.counters.projects_checked += confirmed
        run.counters.projects_unchanged += confirmed


async def report_nothing_wanted(cycle: Cycle, runs: Sequence[IndexRun]) -> None:
    """Warn of projects asked for by name that no index has, and of patterns that want nothing at
    all.
    """
    store, report, options = cycle.store, cycle.report, cycle.options
    only = options.projects
    for run in runs:
        if not only and not await has_wanted(store, run.source.id):
            listed = str(run.counters.projects_listed)
            report.events.append({"event": "nothing-wanted", "index": run.name, "listed": listed})
            _log.warning("selection.empty", index=run.name, problem=nothing_wanted(listed))
    if not only or len(runs) < len(cycle.runs):
        return  # a root could not be read, so its projects are unknown
    indexes = " or ".join(run.name for run in runs)
    unlisted = set(only)
    for run in runs:
        unlisted -= await load_listed(store, run.source.id, unlisted - run.pages.unlisted)
    if unlisted and options.refuses_unlisted:
        names = ", ".join(sorted(unlisted))
        raise ConfigError(
            where="--project", problem=f"{indexes} does not list {names}: check the name"
        )
    for name in sorted(unlisted):
        detail = (
            f"--project {name}: {indexes} does not list it, or its patterns leave it out:"
            " check the name"
        )
        report.unlisted.append(shown_failure(runs[0].name, name, "", Reason.NOT_FOUND, detail))
        _log.warning(
            "project.unlisted", project=name, indexes=[run.name for run in runs], problem=detail
        )
