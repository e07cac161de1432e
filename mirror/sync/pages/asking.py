"""Ask for the page of a project, unless it is known to be unchanged or was asked for already."""

from __future__ import annotations

from mirror.core.model import Validators
from mirror.logs import get_logger
from mirror.state.listing.due import ProjectRow
from mirror.sync.pages.page_batches import PageResult
from mirror.sync.pages.page_pass import PagePass
from mirror.sync.pages.serials import has_same_serial, is_older, is_stale
from mirror.sync.work import IndexRun
from mirror.upstream.index import PageAnswer, Read, Unchanged
from mirror.upstream.limits.memory import PageLease

_log = get_logger(__name__)


async def ask_for_page(
    pages: PagePass,
    row: ProjectRow,
    known: Validators | None,
    lease: PageLease,
    found: PageResult | None,
) -> PageAnswer | None:
    """Return a project's page, or that it is unchanged; None for one that is older than the
    published one.

    ``found``: a worker's result. Raises ``UpstreamError``.
    """
    run = pages.run
    early = await _early_page(pages, row, known)
    if early is not None:
        return early
    if known is not None and needs_no_request(pages, row, known):
        return Unchanged(validators=known, origin=row.page_origin)
    run.pages.asked += 1
    if found is not None:
        await lease.hold_values(found.cost_bytes)
    return await fetch_page(run, row, known, lease, found)


def needs_no_request(pages: PagePass, row: ProjectRow, known: Validators | None) -> bool:
    """Return whether a page was asked for early, or the root's serial proves that it is
    unchanged.
    """
    if row.name in pages.run.pages.early:
        return True
    return known is not None and pages.due.trust_serials and has_same_serial(known, row)


async def _early_page(
    pages: PagePass, row: ProjectRow, known: Validators | None
) -> PageAnswer | None:
    """Return the page that was asked for in this cycle since a want may need it. Raises its
    error.
    """
    run, early = pages.run, pages.run.pages.early.get(row.name)
    if early is None or pages.is_reread:
        return None
    if early.error is not None:
        raise early.error
    assert early.validators is not None
    if known is not None and early.validators.digest == known.digest:
        return Unchanged(validators=early.validators, origin=early.origin)
    page, listings = early.page, pages.scope.wants.listings
    if page is None and listings is not None and early.validators.digest is not None:
        links = pages.holdings.store.links_of(run.source.id)
        page = await listings.load(run.name, row.name, early.validators.digest, links)
    if page is None:
        del run.pages.early[row.name]  # lost from the cache: it is asked for again
        return None
    return Read(page=page, validators=early.validators, origin=early.origin)


async def fetch_page(
    run: IndexRun,
    row: ProjectRow,
    known: Validators | None,
    lease: PageLease,
    found: PageResult | None = None,
) -> PageAnswer | None:
    """Read a page, or take a worker's result; None for one that is older than the published one."""
    answer = (
        await run.access.client.fetch_project(row.name, known, row.address, lease)
        if found is None
        else found.answer()
    )
    if isinstance(answer, Read) and is_stale(answer.page, row):
        lease.release()
        answer = await run.access.client.fetch_project(row.name, None, row.address, lease)
        if isinstance(answer, Read) and is_older(answer.page, row):
            _log.warning("page.stale", index=run.name, project=row.name, serial=answer.page.serial)
            return None
    return answer
