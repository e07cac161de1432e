"""Work on single pages: judge each, count it, and turn its failure into a row of the ledger."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from anyio.lowlevel import checkpoint

from mirror.core.diff import ProjectChange, Removal, RemovalKind
from mirror.core.model import ProjectMeta, Validators
from mirror.errors import (
    AccessDenied,
    MirrorError,
    NotFound,
    Reason,
    RefusedElsewhere,
    StateError,
    TreeError,
    Unavailable,
    Withheld,
    lacks_threads,
)
from mirror.logs import get_logger
from mirror.state.entries.held import load_held
from mirror.state.listing.due import ProjectRow
from mirror.state.listing.sources import record_identity
from mirror.state.missing.ledger import load_project_failures
from mirror.sync.pages.asking import ask_for_page, needs_no_request
from mirror.sync.pages.judging import judge_page, judge_unchanged
from mirror.sync.pages.page_batches import PageResult
from mirror.sync.pages.page_origins import report_origin
from mirror.sync.pages.page_pass import PagePass
from mirror.sync.pages.serials import with_serial
from mirror.sync.removals.pending import keep_removals
from mirror.sync.work import ProjectWork, asked_wait_s
from mirror.upstream.index import Read
from mirror.upstream.limits.memory import PageLease

_log = get_logger(__name__)

_OUT_OF_MEMORY = (
    "memory ran out while the page was judged; give the program more of it,"
    " or leave the project out"
)

Deliver = Callable[[ProjectWork], Awaitable[None]]


class Crawler:
    """Works on the pages of one pass, several at the same time."""

    def __init__(self, pages: PagePass, deliver: Deliver) -> None:
        self._pages, self._deliver = pages, deliver
        self.refusal: AccessDenied | None = None
        """The last page that the index itself refused."""

    def known_validators(self, row: ProjectRow) -> Validators | None:
        """Return the validators with which a project's page is asked for."""
        return self._pages.known_validators(row)

    def needs_no_request(self, row: ProjectRow, known: Validators | None) -> bool:
        """Return whether a page is known without asking for it."""
        return needs_no_request(self._pages, row, known)

    def count_unchanged(self, row: ProjectRow, known: Validators) -> bool:
        """Count an unchanged page, unless something of it is open; return whether nothing is."""
        is_open = row.has_absent or row.has_failures or row.has_deferred
        if is_open or with_serial(known, row) != known:
            return False
        self._pages.run.counters.projects_checked += 1
        self._pages.run.counters.projects_unchanged += 1
        return True

    async def work_on(self, row: ProjectRow, found: PageResult | None = None) -> None:
        """Read one project's page. A failure of one page never stops the others.

        ``found``: a worker's result; the index's reachability was recorded on its arrival.
        """
        run = self._pages.run
        lease = run.access.client.memory.lease()
        try:
            work = await self._judge(row, found, lease)
            if run.selection.policy.listed_by_config and run.source.had_credential is None:
                await self._record_identity()
            if found is None:
                run.reach.record_answer()
        except (StateError, TreeError):
            raise
        except MirrorError as exc:
            lease.release()
            work = await self._failed(row, exc, found)
        except MemoryError:
            lease.release()
            _log.error("page.memory", index=run.name, project=row.name, problem=_OUT_OF_MEMORY)
            work = self._page_failure(row, Reason.TOO_LARGE, _OUT_OF_MEMORY)
        except Exception as exc:
            if lacks_threads(exc):
                raise
            _log.exception("project.failed", index=run.name, project=row.name)
            work = self._page_failure(
                row, Reason.INTERNAL, f"{type(exc).__name__}: a bug of this program, see the log"
            )
            lease.release()
        run.counters.projects_checked += 1
        if work is None:
            lease.release()
            run.counters.projects_unchanged += 1
            return
        work.lease = lease
        if (
            work.asked.change.is_empty and not work.asked.failures
        ):  # its page: files of the ledger may be tried again all the same
            run.counters.projects_unchanged += 1
        elif not work.asked.change.is_empty:
            run.counters.projects_changed += 1
        await self._deliver(work)

    async def _judge(
        self, row: ProjectRow, found: PageResult | None, lease: PageLease
    ) -> ProjectWork | None:
        """Return the work that the page asks for, or None where it is unchanged and nothing is
        open.
        """
        pages = self._pages
        known = pages.known_validators(row)
        answer = await ask_for_page(pages, row, known, lease, found)
        if answer is None:
            return None
        if row.selection is not None:  # it was read before
            report_origin(
                pages.scope.report.events,
                pages.run,
                row.name,
                before=row.page_origin,
                after=answer.origin,
            )
        if isinstance(answer, Read):
            return await judge_page(pages, row, answer)
        return await judge_unchanged(pages, row, answer, known)

    async def _record_identity(self) -> None:
        """Record how the index was read: there is no root whose reading would record it."""
        run = self._pages.run
        had_credential = run.access.session.had_credential
        await record_identity(self._pages.holdings.store, run.source, had_credential=had_credential)
        run.source = msgspec.structs.replace(run.source, had_credential=had_credential)

    async def _failed(
        self, row: ProjectRow, error: MirrorError, found: PageResult | None
    ) -> ProjectWork | None:
        run = self._pages.run
        if isinstance(error, AccessDenied) and error.ends_index:
            run.reach.end(error)
            await checkpoint()
            return None
        if isinstance(error, AccessDenied) and not error.host:
            run.pages.refused += 1
            self.refusal = error
        run.pages.missing += isinstance(error, NotFound)
        if isinstance(error, Unavailable) and not isinstance(error, RefusedElsewhere):
            await run.reach.record_unreachable(
                error, in_a_row=found.unreachable_in_a_row if found is not None else None
            )
        elif found is None:
            run.reach.record_answer()
        if isinstance(error, Withheld) and error.is_withdrawal:
            return await self._withdrawn(row, error)
        return self._page_failure(row, error.reason, str(error), wait_s=asked_wait_s(error))

    async def _withdrawn(self, row: ProjectRow, error: Withheld) -> ProjectWork:
        """The index withdrew the project: its files leave the pages in this cycle, the blobs stay
        aside.
        """
        held = (await load_held(self._pages.holdings.store, [row.id]))[row.id]
        meta = ProjectMeta(
            status="quarantined", status_reason=f"withdrawn by the index: {error.code}"
        )
        removals = tuple(Removal(held=h, kind=RemovalKind.WITHDRAWN) for h in held.values())
        change = ProjectChange(remove=removals, meta=meta if row.withdrawn != error.code else None)
        work = self._pages.work_of(row, change, None)
        if row.has_failures:
            work.asked.closed = tuple(
                await load_project_failures(
                    self._pages.holdings.store, self._pages.run.source.id, row.name
                )
            )
        keep_removals(work, removals, withdrawn=error.code)
        return work

    def _page_failure(
        self, row: ProjectRow, reason: Reason, detail: str, *, wait_s: float = 0.0
    ) -> ProjectWork:
        work = self._pages.work_of(row, ProjectChange(), None)
        work.asked.failures = (work.failure("", reason, detail, wait_s=wait_s),)
        return work
