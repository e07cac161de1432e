"""Read the root page of an index, and bring its listing in the state up to date."""

from __future__ import annotations

import msgspec

from mirror.core.model import RootPage, Validators
from mirror.core.names import normalize_project
from mirror.core.pages.root_links import resolve_address
from mirror.errors import BadPage, shown_text
from mirror.holdings.holdings import Holdings
from mirror.logs import get_logger
from mirror.state.listing.roots import RootChange, record_root
from mirror.state.listing.sources import (
    forget_root_validators,
    forget_serials,
    record_identity,
    record_root_read,
)
from mirror.state.store import Store
from mirror.sync.cycle_parts import Options
from mirror.sync.pages.page_origins import report_origin
from mirror.sync.report import Report
from mirror.sync.work import IndexRun
from mirror.upstream.index import Read, Unchanged

_log = get_logger(__name__)

_NAMED = 5
"""Maximum number of names in one line of the log."""


async def read_root(
    holdings: Holdings, options: Options, report: Report, run: IndexRun
) -> RootChange:
    """Read the root page and bring the listing up to date.

    Raises ``UpstreamError`` where it can't be read.
    """
    answer = await _ask_for_root(holdings.store, options, run)
    listed, listing, is_whole = run.source.listed, None, True
    if isinstance(answer, Read):
        listed, is_whole = len(answer.page.projects), answer.page.is_whole
        listing = _with_kept_addresses(holdings.store, run, answer.page)
        run.pages.is_root_cut = answer.page.is_cut
        if not run.pages.is_root_cut:
            run.pages.unlisted = frozenset(
                name for name in options.projects if name not in listing.projects
            )
        if not listed:
            raise BadPage(
                url=run.source.url, cause="it lists no project at all, which is never believed"
            )
        _log_oddities(run, answer.page)
    run.counters.projects_listed = listed
    change = await record_root(
        holdings.store,
        run.source,
        cycle=holdings.cycle,
        listing=listing,
        wants=run.selection.wants_project,
        only=options.projects,
        is_whole=is_whole,
    )
    if _went_back(run.source.validators, answer.validators):
        _log.warning("root.serial_went_back", index=run.name)
        await forget_serials(holdings.store, run.source)
    if run.pages.is_root_cut:
        await forget_root_validators(holdings.store, run.source)
    elif not options.projects:
        await _record_reading(holdings, run, answer, listed=listed, is_whole=is_whole)
        if run.source.root_read is not None:
            report_origin(
                report.events, run, None, before=run.source.page_origin, after=answer.origin
            )
    return change


async def _ask_for_root(
    store: Store, options: Options, run: IndexRun
) -> Unchanged | Read[RootPage]:
    """Fetch the root page; make it of the configuration where that names the projects."""
    policy = run.selection.policy
    if policy.listed_by_config:
        page = RootPage(projects={normalize_project(name): None for name in policy.projects})
        return Read(page=page, validators=Validators(digest=run.selection.root_digest))
    is_known = run.source.selection == run.selection.root_digest and not options.full
    answer = await run.access.client.fetch_root(run.source.validators if is_known else None)
    # Before its listing is used: a reading without the credential must never confirm an absence.
    await record_identity(store, run.source, had_credential=run.access.session.had_credential)
    return answer


async def _record_reading(
    holdings: Holdings,
    run: IndexRun,
    answer: Unchanged | Read[RootPage],
    *,
    listed: int,
    is_whole: bool,
) -> None:
    """Record the validators of a root that was read as a whole, and how it was read."""
    await record_root_read(
        holdings.store,
        run.source,
        answer.validators if is_whole else Validators(),
        cycle=holdings.cycle,
        selection=run.selection.root_digest,
        listed=listed,
        page_origin=answer.origin,
        is_flat=run.selection.policy.is_flat,
        unread=(answer.page.unread, answer.page.unread_names) if isinstance(answer, Read) else None,
    )


def _with_kept_addresses(store: Store, run: IndexRun, page: RootPage) -> RootPage:
    """Return a root whose addresses the state may keep: relative to an index's URL that is a
    secret.
    """
    links = store.links.get(run.source.id)
    if links is None or links.secret_root is None or not page.addresses:
        return page
    root = links.secret_root
    kept = {
        n: links.kept(resolve_address(root, n, address)) for n, address in page.addresses.items()
    }
    return msgspec.structs.replace(
        page, addresses={n: address for n, address in kept.items() if address}
    )


def _log_oddities(run: IndexRun, page: RootPage) -> None:
    if page.unread:
        names = ", ".join(map(shown_text, page.unread_names[:_NAMED]))
        _log.warning("root.unread", index=run.name, files=page.unread, names=names)
    for warning in page.warnings:
        _log.warning("root.odd", index=run.name, problem=warning)
    if page.refused:
        problem = f"{page.refused} of the listed names are no names of projects, and left out"
        _log.warning("root.odd", index=run.name, problem=problem)


def _went_back(previous: Validators | None, current: Validators) -> bool:
    before = previous.serial if previous else None
    return before is not None and current.serial is not None and current.serial < before
