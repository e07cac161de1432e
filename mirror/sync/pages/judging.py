"""Turn a page into a ``ProjectWork``: rules, wants and held files decide which files it asks for.

A page that is unchanged asks for the files that are open in the ledger, or whose waiting time by a
rule has ended.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from mirror.core.diff import (
    Fetch,
    HeldFile,
    ProjectChange,
    Removal,
    RemovalKind,
    diff_page,
    diff_unchanged,
)
from mirror.core.files.kept_links import is_incomplete
from mirror.core.model import ProjectPage, Validators
from mirror.core.policy import FOREIGN_NAME, Selected, narrow
from mirror.errors import Reason, shown_text
from mirror.logs import get_logger
from mirror.state.entries.claims import OwnerClaims, load_owner_claims
from mirror.state.entries.held import load_held
from mirror.state.entries.pages import PageSeen
from mirror.state.listing.due import ProjectRow
from mirror.state.missing.ledger import FailureRow, load_project_failures
from mirror.state.missing.left_out import left_out_rows, load_left_out
from mirror.sync.pages.echoes import without_own_secrets
from mirror.sync.pages.file_jobs import add_jobs, refusal_by_size
from mirror.sync.pages.page_pass import PagePass
from mirror.sync.pages.ruling import deferred_rows, facts_of, judge_again, sights_of
from mirror.sync.pages.serials import with_serial
from mirror.sync.removals.pending import keep_removals
from mirror.sync.work import ProjectWork
from mirror.upstream.index import Read, Unchanged

_log = get_logger(__name__)

_SHOWN_NAMES = 5
"""Maximum number of file names in one line of the log."""


async def judge_page(pages: PagePass, row: ProjectRow, answer: Read[ProjectPage]) -> ProjectWork:
    """Return the work that a page which was just read asks for."""
    holdings, run, page = pages.holdings, pages.run, without_own_secrets(answer.page)
    held = (await load_held(holdings.store, [row.id]))[row.id] if row.has_entries else {}
    claims = OwnerClaims()
    if pages.due.is_overlay:
        claims = await load_owner_claims(holdings.store, row.name, run.source.position)
    facts = await facts_of(pages.scope, run, row, page, held)
    selected = run.selection.select(
        page, {f: h.sha256 for f, h in held.items()}, claims.names, claims.owners, facts
    )
    needed = pages.needed_files(row)
    if needed is not None:
        selected = narrow(selected, needed | held.keys())
    for warning in selected.warnings:
        _log.warning("page.odd", index=run.name, project=row.name, problem=shown_text(warning))
    await _log_foreign_names(pages, row, selected)
    unwanted = frozenset(
        f for f in held if f in claims.names or not run.selection.wants_filename(f, claims.owners)
    )
    if claims.is_withdrawn:
        removals = tuple(Removal(held=h, kind=RemovalKind.WITHDRAWN) for h in held.values())
        change = ProjectChange(remove=removals)
    else:
        change = diff_page(
            page,
            selected,
            held,
            cycle=holdings.cycle,
            old_meta=row.meta,
            keep_replaced=run.selection.policy.keep_replaced,
            unwanted=unwanted,
        )
    if not claims.is_complete:
        # The owner may claim any filename until its page is read: nothing new until then.
        change = msgspec.structs.replace(
            change, fetch=tuple(f for f in change.fetch if f.replaces is not None)
        )
    page_seen = PageSeen(
        project=row.id,
        validators=with_serial(answer.validators, row),
        selection=pages.selection_digest(row),
        page_origin=answer.origin,
        left_out=left_out_rows(selected.left_out),
        claims=selected.claims,
        source=run.source.id,
        deferred=deferred_rows(selected.deferred),
    )
    # A page that may have been cut is read again in the next cycle: its validators are not
    # stored.
    work = pages.work_of(row, change, page_seen if claims.is_complete and page.is_whole else None)
    if selected.sights:
        work.asked.sights, work.asked.sighted = selected.sights, sights_of(page)
    ledger = (
        await load_project_failures(holdings.store, run.source.id, row.name)
        if row.has_failures
        else {}
    )
    resting = await add_jobs(pages, work, change, ledger)
    if ledger:
        asked = {job.file.filename for job in work.asked.jobs}
        still = resting.union(asked, (one.filename for one in work.asked.failures))
        work.asked.closed = tuple(
            name for name in ledger if name not in still and (page.is_whole or not name)
        )
    keep_removals(work, change.remove)
    return work


async def _log_foreign_names(pages: PagePass, row: ProjectRow, selected: Selected) -> None:
    """Log once which files are left out since they are named after another project."""
    foreign = [name for name, rule in selected.left_out.items() if rule == FOREIGN_NAME]
    if not foreign:
        return
    known = {x.rule: x for x in await load_left_out(pages.holdings.store, row.id)}.get(FOREIGN_NAME)
    if (
        known is not None
        and known.files >= len(foreign)
        and known.names
        and set(known.names) <= set(foreign)
    ):
        return
    _log.warning(
        "files.left_out",
        index=pages.run.name,
        project=row.name,
        rule=FOREIGN_NAME,
        count=len(foreign),
        files=[shown_text(name) for name in foreign[:_SHOWN_NAMES]],
        problem="their names are those of another project,"
        " so that no client takes them from this one's page",
    )


async def judge_unchanged(
    pages: PagePass, row: ProjectRow, answer: Unchanged, known: Validators | None
) -> ProjectWork | None:
    """Return the work that an unchanged page asks for; None where nothing of it is open."""
    validators = with_serial(answer.validators, row)
    page_seen = PageSeen(
        project=row.id,
        validators=validators,
        selection=pages.selection_digest(row),
        page_origin=answer.origin,
    )
    if not (row.has_absent or row.has_failures or row.has_deferred):
        if validators == known and answer.origin == row.page_origin:
            return None
        return pages.work_of(row, ProjectChange(), page_seen)
    held = (await load_held(pages.holdings.store, [row.id]))[row.id]
    change = diff_unchanged(held, cycle=pages.holdings.cycle)
    work = pages.work_of(row, change, page_seen)
    ledger = (
        await load_project_failures(pages.holdings.store, pages.run.source.id, row.name)
        if row.has_failures
        else {}
    )
    removals = list(change.remove)
    if row.has_deferred or ledger:
        removals += await _release(pages, work, held, ledger)
    work.asked.jobs += [
        Fetch(file=failed.file, replaces=held.get(failed.filename))
        for failed in ledger.values()
        if failed.file is not None
        and not is_incomplete(failed.file.url)
        and _is_due(pages, failed)
        and failed.filename not in work.asked.closed
        and not await refusal_by_size(pages.scope, pages.run, failed.file)
    ]
    work.is_retry = True
    if "" in ledger:
        work.asked.closed = (*work.asked.closed, "")
    keep_removals(work, removals)
    return work


async def _release(
    pages: PagePass,
    work: ProjectWork,
    held: Mapping[str, HeldFile],
    ledger: Mapping[str, FailureRow],
) -> list[Removal]:
    """Judge deferred files again, from the state; return the removals that follow."""
    released = await judge_again(pages.scope, pages.run, work.row, held, ledger)
    if released is None:
        return []
    needed = pages.needed_files(work.row)
    fetch = [
        Fetch(file=file, replaces=held.get(file.filename))
        for file in released.fetch
        if needed is None or file.filename in needed
    ]
    work.asked.change = msgspec.structs.replace(work.asked.change, fetch=tuple(fetch))
    await add_jobs(pages, work, work.asked.change, ledger)
    work.asked.closed = tuple(sorted(released.barred))
    work.asked.sights = released.sights
    if released.changes:
        assert work.asked.page_seen is not None
        work.asked.page_seen = msgspec.structs.replace(
            work.asked.page_seen,
            source=pages.run.source.id,
            left_out=released.left_out,
            deferred=released.deferred,
        )
    gone = {removal.held.filename for removal in work.asked.change.remove}
    return [one for one in released.remove if one.held.filename not in gone]


def _is_due(pages: PagePass, failed: FailureRow) -> bool:
    return failed.reason is not Reason.REFUSED_UNHASHED and failed.is_due(pages.due.now)
