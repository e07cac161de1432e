"""``--dry-run``: the plan of a cycle, made by the same readings and decisions as the cycle itself.

It works on a throw-away copy of the state (``state.store.open_copy``), in which later indexes see
the claims of earlier ones.
"""

from __future__ import annotations

from collections.abc import Sequence

from mirror.core.diff import Fetch, FetchMetadata, Rehash
from mirror.core.rules.model import NO_RULES
from mirror.errors import Reason
from mirror.holdings.holdings import Holdings
from mirror.state.entries.pages import record_published
from mirror.state.listing.due import Due
from mirror.state.missing.ledger import record_failures
from mirror.state.wants.needs import load_wants_of
from mirror.sync.cycle_parts import Cycle, PageScope
from mirror.sync.fetching.downloads import fits_held
from mirror.sync.pages.crawl import crawl
from mirror.sync.pages.file_jobs import adopt_held
from mirror.sync.report import PlanItem, Report, shown_failure
from mirror.sync.work import IndexRun, ProjectWork


def plan_of_cycle(report: Report) -> list[PlanItem]:
    """Return the plan of a cycle, to be extended."""
    if report.plan is None:
        report.plan = []
    return report.plan


async def plan_stage(cycle: Cycle, stage: Sequence[tuple[IndexRun, Due]]) -> None:
    """Read the pages as a cycle would, and add its changes to the plan."""
    plan = plan_of_cycle(cycle.report)
    scope = cycle.page_scope()

    async def add(work: ProjectWork) -> None:
        plan.extend(await _plan_of(scope, work))
        if len(cycle.runs) > 1 or work.run.selection.policy.rules != NO_RULES:
            await _record_in_copy(cycle.holdings, work)
        work.release()

    for run, due in stage:
        with run.reach.scope:
            await crawl(scope, run, due, None, add)


async def _record_in_copy(holdings: Holdings, work: ProjectWork) -> None:
    """Record an earlier index's listing and claims in the copy of the state, for the later
    indexes.
    """
    removal = next(
        (
            r
            for r in work.run.leaving.pending
            if r.project == work.row.id and r.page_seen is not None
        ),
        None,
    )
    page_seen = work.asked.page_seen or (removal.page_seen if removal else None)
    claims = [
        work.failure(job.file.filename, Reason.NOT_FOUND, "planned", job) for job in work.asked.jobs
    ]
    await record_failures(holdings.store, (*claims, *work.asked.failures), (), now=holdings.clock())
    if page_seen is not None:
        await record_published(holdings.store, (), (), [page_seen])


async def _plan_of(scope: PageScope, work: ProjectWork) -> list[PlanItem]:
    index, project = work.run.name, work.row.name
    adopted = await adopt_held(scope.holdings, work, has_blobs=scope.terms.has_blobs)
    wants = (
        await load_wants_of(scope.holdings.store, project) if scope.wants.needs is not None else {}
    )
    items = []
    for job in work.asked.jobs:
        if isinstance(job, Rehash) and (
            work.run.selection.policy.keep_replaced or await fits_held(scope.holdings.files, job)
        ):
            continue
        sha256 = dict(job.file.digests).get("sha256")
        is_new = isinstance(job, Fetch) and job.replaces is None
        action = "fetch" if is_new else "replace"
        if job.file.filename in adopted or isinstance(job, FetchMetadata):
            # its bytes are held already: it only returns to the pages, or shows more there
            action = "relabel"
        items.append(
            PlanItem(
                index=index,
                project=project,
                filename=job.file.filename,
                action=action,
                size=job.file.size,
                sha256=sha256,
                wants=wants.get(job.file.filename, ()),
            )
        )
    items += [
        PlanItem(
            index=index,
            project=project,
            filename=r.held.filename,
            action="relabel",
            size=r.held.size,
            sha256=r.held.sha256,
            wants=wants.get(r.held.filename, ()),
        )
        for r in work.asked.change.relabel
        if r.held.filename not in {item.filename for item in items}
    ]
    for failure in work.asked.failures:
        scope.report.failures.append(
            shown_failure(
                work.run.name, failure.project, failure.filename, failure.reason, failure.detail
            )
        )
    return items
