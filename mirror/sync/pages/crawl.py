"""Read an index's pages and turn each one that asks for something into a ``ProjectWork``.

A failure of one page affects no other: it goes to the ledger, and the crawl continues. Only a
refusal of the whole index, or too many consecutive failures to reach it, end its part of the cycle.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

import anyio
import anyio.to_thread
import msgspec
from anyio.lowlevel import checkpoint

from mirror.core.diff import (
    OUTSIDE_BRAKE,
    Fetch,
    HeldFile,
    ProjectChange,
    Removal,
    RemovalKind,
    diff_page,
    diff_unchanged,
)
from mirror.core.files.kept_links import is_incomplete
from mirror.core.files.origins import origin_of_url
from mirror.core.model import ListedFile, ProjectMeta, ProjectPage, RootPage, Validators
from mirror.core.names import ProjectName, Sha256, digests_to_compare, normalize_project
from mirror.core.pages.root_links import resolve_address
from mirror.core.policy import FOREIGN_NAME, FileRefusal, Selected, digest_of_needed, narrow
from mirror.errors import (
    AccessDenied,
    BadPage,
    MirrorError,
    NotFound,
    Reason,
    RefusedElsewhere,
    StateError,
    TreeError,
    Unavailable,
    Withheld,
    lacks_threads,
    shown_text,
)
from mirror.holdings.holdings import Holdings
from mirror.logs import get_logger
from mirror.state.entries.claims import OwnerClaims, load_owner_claims
from mirror.state.entries.held import HeldBlob, load_blobs, load_held
from mirror.state.entries.pages import PageSeen
from mirror.state.listing.due import Due, ProjectRow, load_due
from mirror.state.listing.roots import RootChange, record_root
from mirror.state.listing.sources import (
    forget_root_validators,
    forget_serials,
    record_identity,
    record_root_read,
)
from mirror.state.missing.ledger import Failure, FailureRow, load_project_failures
from mirror.state.missing.left_out import left_out_rows, load_left_out
from mirror.state.store import Store
from mirror.sync.pages.echoes import without_own_secrets
from mirror.sync.pages.page_batches import PageBatches, PageResult
from mirror.sync.pages.ruling import (
    deferred_rows,
    facts_of,
    has_digests,
    judge_again,
    sights_of,
)
from mirror.sync.report import Report
from mirror.sync.work import (
    FileWorkers,
    IndexRun,
    Job,
    Options,
    PageScope,
    PageWork,
    PendingRemoval,
    ProjectWork,
    asked_wait_s,
)
from mirror.upstream.index import PageLook, Read, Unchanged
from mirror.upstream.limits.memory import PageLease
from mirror.workers.concurrency import work_through
from mirror.workers.pool import are_worthwhile

_log = get_logger(__name__)

_OUT_OF_MEMORY = (
    "memory ran out while the page was judged; give the program more of it,"
    " or leave the project out"
)
_LARGE_BYTES = 1 << 30
"""A listed size from which on it is asked whether the disk could ever hold it: a smaller disk is
the one at fault.
"""

_SHOWN_NAMES = 5
"""Maximum number of file names in one line of the log."""

_NAMED = 5

_MAX_REFUSED_OF_PAGE = 10_000
"""Maximum number of files of one page that are named one by one where they can't be taken."""
_MAX_REFUSED_OF_INDEX = 100_000
"""Maximum number for all pages of one index: each takes memory in the report."""
_MORE = "(more files)"
"""The name under which the ledger has all the others; it is no file's, since it has no ending."""

MAX_FRUITLESS = 2
"""How often in a row a page is read again in one cycle without bringing a file."""

Deliver = Callable[[ProjectWork], Awaitable[None]]


async def look_at_root(
    holdings: Holdings, options: Options, report: Report, run: IndexRun
) -> RootChange:
    """Read the root page and bring the listing up to date.

    Raises ``UpstreamError`` where it can't be read.
    """
    policy = run.selection.policy
    if policy.listed_by_config:
        page = RootPage(projects={normalize_project(name): None for name in policy.projects})
        look: Unchanged | Read[RootPage] = Read(
            page=page, validators=Validators(digest=run.selection.root_digest)
        )
    else:
        is_known = run.source.selection == run.selection.root_digest and not options.full
        look = await run.access.client.fetch_root(run.source.validators if is_known else None)
        # Before its listing is used: a reading without the credential must never confirm an
        # absence.
        await record_identity(
            holdings.store, run.source, had_credential=run.access.session.had_credential
        )
    if isinstance(look, Read):
        listed, listing = (
            len(look.page.projects),
            _with_kept_addresses(holdings.store, run, look.page),
        )
        is_whole, run.pages.is_root_cut = look.page.is_whole, look.page.is_cut
        if not run.pages.is_root_cut:
            run.pages.unlisted = frozenset(
                name for name in options.projects if name not in listing.projects
            )
        if not listed:
            raise BadPage(
                url=run.source.url, cause="it lists no project at all, which is never believed"
            )
        _log_oddities(run, look.page)
    else:
        listed, listing, is_whole = run.source.listed, None, True
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
    if _went_back(run.source.validators, look.validators):
        _log.warning("root.serial_went_back", index=run.name)
        await forget_serials(holdings.store, run.source)
    if run.pages.is_root_cut:
        await forget_root_validators(holdings.store, run.source)
    elif not options.projects:
        validators = look.validators if is_whole else Validators()
        await record_root_read(
            holdings.store,
            run.source,
            validators,
            cycle=holdings.cycle,
            selection=run.selection.root_digest,
            listed=listed,
            page_origin=look.origin,
            is_flat=run.selection.policy.is_flat,
            unread=(look.page.unread, look.page.unread_names) if isinstance(look, Read) else None,
        )
        if run.source.root_read is not None:
            _report_origin(report, run, None, before=run.source.page_origin, after=look.origin)
    return change


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


def _report_origin(
    report: Report,
    run: IndexRun,
    project: ProjectName | None,
    *,
    before: str | None,
    after: str | None,
) -> None:
    """Report a page, the root's where ``project`` is None, whose origin has changed."""
    if before == after:
        return
    own = origin_of_url(run.source.url)
    event = {
        "event": "page-origin-changed",
        "index": run.name,
        "from": before or own,
        "to": after or own,
    }
    report.events.append(event if project is None else {**event, "project": project})
    _log.warning(
        "page.origin_changed",
        index=run.name,
        project=project,
        before=before or own,
        after=after or own,
    )


def _went_back(previous: Validators | None, current: Validators) -> bool:
    before = previous.serial if previous else None
    return before is not None and current.serial is not None and current.serial < before


async def crawl(
    scope: PageScope, run: IndexRun, due: Due, workers: FileWorkers | None, deliver: Deliver
) -> None:
    """Read every page that is due, and deliver the work that it asks for.

    Many pages are read by the workers, if there are any.
    """
    rows = load_due(scope.holdings.store, due)
    crawler = _Crawler(scope, run, due, deliver)
    pages = len(due.only) or run.counters.projects_due
    if workers is not None and are_worthwhile(pages=pages) and await _can_read(workers, run):
        await PageBatches(run, workers, crawler).look_at_all(rows)
    else:
        await work_through(_Rows(rows).next, crawler.look, run.access.page_width)
    if (
        crawler.refusal is not None
        and run.pages.refused == run.pages.asked
        and run.access.session.is_unproved
    ):
        # A root that is open to all proves nothing: where no page was ever served, the credential
        # is wrong.
        run.reach.end(run.access.session.deny_all(crawler.refusal))
        await checkpoint()


async def _can_read(workers: FileWorkers, run: IndexRun) -> bool:
    """Start the workers; return whether they can read pages of this index."""
    try:
        return await workers.start() and not run.access.client.reads_alone
    except MirrorError:  # of the credential: the first page that is read here reports it
        return False


async def reread(scope: PageScope, run: IndexRun, due: Due, deliver: Deliver) -> None:
    """Read some pages again without validators: a retry from the ledger, or an expired link, found
    them outdated.

    A page whose links expire is read as often as a reading brings a file, else ``MAX_FRUITLESS``
    times. Everything that the earlier reading delivered must be recorded; its removals are judged
    again, and its counts are undone first.
    """
    outdated, run.pages.rereads = run.pages.rereads, {}
    for name, work in outdated.items():
        if work.is_reread:
            run.pages.fruitless[name] = (
                0 if work.progress.brought else run.pages.fruitless[name] + 1
            )
    names = sorted(name for name in outdated if run.pages.fruitless[name] < MAX_FRUITLESS)
    for work in map(outdated.__getitem__, names):
        run.counters.projects_checked -= 1
        run.counters.projects_unchanged -= work.was_empty
        run.counters.projects_changed -= not work.was_empty
        run.counters.files_failed -= work.progress.failed
    placed = frozenset(name for name, work in outdated.items() if work.progress.has_placed)
    run.leaving.pending = [r for r in run.leaving.pending if r.name not in names]

    async def deliver_again(work: ProjectWork) -> None:
        work.progress.has_placed = work.row.name in placed
        await deliver(work)

    crawler = _Crawler(scope, run, due, deliver_again, is_reread=True)
    for start in range(0, len(names), 500):
        narrowed = msgspec.structs.replace(
            due, only=tuple(names[start : start + 500]), trust_serials=False
        )
        await work_through(
            _Rows(load_due(scope.holdings.store, narrowed)).next,
            crawler.look,
            run.access.page_width,
        )


class _Rows:
    """Rows one by one for several workers, from an iterator of chunks."""

    def __init__(self, chunks: AsyncIterator[list[ProjectRow]]) -> None:
        self._chunks = chunks
        self._rows: list[ProjectRow] = []
        self._lock = anyio.Lock()

    async def next(self) -> ProjectRow:
        """Return the next row. Raises ``EndOfStream`` after the last."""
        while not self._rows:
            async with self._lock:
                if not self._rows:
                    try:
                        self._rows = list(reversed(await anext(self._chunks)))
                    except StopAsyncIteration:
                        raise anyio.EndOfStream from None
        return self._rows.pop()


class _Crawler:
    """Reads single pages of one index."""

    def __init__(
        self,
        scope: PageScope,
        run: IndexRun,
        due: Due,
        deliver: Deliver,
        *,
        is_reread: bool = False,
    ) -> None:
        self._scope, self._run, self._due, self._deliver = scope, run, due, deliver
        self._holdings = scope.holdings
        self._is_reread = is_reread
        self.refusal: AccessDenied | None = None
        """The last page that the index itself refused."""

    def known(self, row: ProjectRow) -> Validators | None:
        """Return the validators with which a project's page is asked for."""
        is_of_use = (
            row.selection == self._selection_of(row)
            and not self._scope.options.full
            and not self._is_reread
        )
        return row.validators if is_of_use and not row.needs_page else None

    def is_current(self, row: ProjectRow, known: Validators | None) -> bool:
        """Return whether the root's serial proves that the page is unchanged, so that no request is
        needed.
        """
        if row.name in self._run.pages.looked:
            return True
        return known is not None and self._due.trust_serials and _same_serial(known, row)

    def _selection_of(self, row: ProjectRow) -> str:
        """Return the digest of all that decides which files of a page are wanted."""
        needed = self._needed(row)
        if needed is None and self._due.judges_wanted and self._scope.wants.needs is not None:
            needed = self._scope.wants.needs.wanted_of(self._run.name, row.name) or None
        return (
            self._due.selection if needed is None else digest_of_needed(self._due.selection, needed)
        )

    def _needed(self, row: ProjectRow) -> frozenset[str] | None:
        needs = self._scope.wants.needs
        return None if needs is None else needs.files_of(self._run.name, row.name)

    def count_unchanged(self, row: ProjectRow, known: Validators) -> bool:
        """Count an unchanged page, unless something of it is open; return whether nothing is."""
        is_open = row.has_absent or row.has_failures or row.has_deferred
        if is_open or _with_serial(known, row) != known:
            return False
        self._run.counters.projects_checked += 1
        self._run.counters.projects_unchanged += 1
        return True

    async def look(self, row: ProjectRow, found: PageResult | None = None) -> None:
        """Read one project's page. A failure of one page never stops the others.

        ``found``: a worker's result; the index's reachability was recorded on its arrival.
        """
        run = self._run
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

    async def _record_identity(self) -> None:
        """Record how the index was read: there is no root whose reading would record it."""
        run, had_credential = self._run, self._run.access.session.had_credential
        await record_identity(self._holdings.store, run.source, had_credential=had_credential)
        run.source = msgspec.structs.replace(run.source, had_credential=had_credential)

    async def _judge(
        self, row: ProjectRow, found: PageResult | None, lease: PageLease
    ) -> ProjectWork | None:
        """Return the work that the page asks for, or None where it is unchanged and nothing is
        open.
        """
        run = self._run
        known = self.known(row)
        early = await self._early_look(row, known)
        if early is not None:
            look: PageLook = early
        elif known is not None and self.is_current(row, known):
            look = Unchanged(validators=known, origin=row.page_origin)
        else:
            run.pages.asked += 1
            if found is not None:
                await lease.hold_values(found.cost_bytes)
            fetched = await fetch_page(run, row, known, lease, found)
            if fetched is None:
                return None
            look = fetched
        if row.selection is not None:  # it was read before
            _report_origin(
                self._scope.report, run, row.name, before=row.page_origin, after=look.origin
            )
        if isinstance(look, Read):
            return await self._judge_page(row, look)
        return await self._judge_unchanged(row, look, known)

    async def _early_look(self, row: ProjectRow, known: Validators | None) -> PageLook | None:
        """Return the look that a want has caused in this cycle, if any. Raises its error."""
        run, early = self._run, self._run.pages.looked.get(row.name)
        if early is None or self._is_reread:
            return None
        if early.error is not None:
            raise early.error
        assert early.validators is not None
        if known is not None and early.validators.digest == known.digest:
            return Unchanged(validators=early.validators, origin=early.origin)
        page, listings = early.page, self._scope.wants.listings
        if page is None and listings is not None and early.validators.digest is not None:
            links = self._holdings.store.links_of(run.source.id)
            page = await listings.load(run.name, row.name, early.validators.digest, links)
        if page is None:
            del run.pages.looked[row.name]  # lost from the cache: it is asked for again
            return None
        return Read(page=page, validators=early.validators, origin=early.origin)

    async def _judge_unchanged(
        self, row: ProjectRow, look: Unchanged, known: Validators | None
    ) -> ProjectWork | None:
        validators = _with_serial(look.validators, row)
        page_seen = PageSeen(
            project=row.id,
            validators=validators,
            selection=self._selection_of(row),
            page_origin=look.origin,
        )
        if not (row.has_absent or row.has_failures or row.has_deferred):
            if validators == known and look.origin == row.page_origin:
                return None
            return self._work(row, ProjectChange(), page_seen)
        held = (await load_held(self._holdings.store, [row.id]))[row.id]
        change = diff_unchanged(held, cycle=self._holdings.cycle)
        work = self._work(row, change, page_seen)
        ledger = (
            await load_project_failures(self._holdings.store, self._run.source.id, row.name)
            if row.has_failures
            else {}
        )
        removals = list(change.remove)
        if row.has_deferred or ledger:
            removals += await self._release(work, held, ledger)
        work.asked.jobs += [
            Fetch(file=failed.file, replaces=held.get(failed.filename))
            for failed in ledger.values()
            if failed.file is not None
            and not is_incomplete(failed.file.url)
            and self._is_due(failed)
            and failed.filename not in work.asked.closed
            and not await self._too_large(failed.file)
        ]
        work.is_retry = True
        if "" in ledger:
            work.asked.closed = (*work.asked.closed, "")
        self._add_removal(work, removals)
        return work

    async def _release(
        self, work: ProjectWork, held: Mapping[str, HeldFile], ledger: Mapping[str, FailureRow]
    ) -> list[Removal]:
        """Judge deferred files again, from the state; return the removals that follow."""
        released = await judge_again(self._scope, self._run, work.row, held, ledger)
        if released is None:
            return []
        needed = self._needed(work.row)
        fetch = [
            Fetch(file=file, replaces=held.get(file.filename))
            for file in released.fetch
            if needed is None or file.filename in needed
        ]
        work.asked.change = msgspec.structs.replace(work.asked.change, fetch=tuple(fetch))
        await self._add_jobs(work, work.asked.change, ledger)
        work.asked.closed = tuple(sorted(released.barred))
        work.asked.sights = released.sights
        if released.changes:
            assert work.asked.page_seen is not None
            work.asked.page_seen = msgspec.structs.replace(
                work.asked.page_seen,
                source=self._run.source.id,
                left_out=released.left_out,
                deferred=released.deferred,
            )
        gone = {removal.held.filename for removal in work.asked.change.remove}
        return [one for one in released.remove if one.held.filename not in gone]

    def _is_due(self, failed: FailureRow) -> bool:
        return failed.reason is not Reason.REFUSED_UNHASHED and failed.is_due(self._due.now)

    async def _too_large(self, file: ListedFile) -> str:
        """Return why a file is not fetched because of its listed size; empty where it is
        fetched.
        """
        if self._run.selection.too_large(file):
            return f"{file.size} bytes are listed, more than limits.file-size allows"
        room = self._scope.room.limit_bytes
        if room is not None and file.size is not None and file.size > room:
            return f"{file.size} bytes are listed, more than mirror.staging-size allows ({room})"
        if file.size is None or file.size < _LARGE_BYTES:
            return ""
        disk = await anyio.to_thread.run_sync(self._holdings.files.disk_bytes)
        if disk is None or disk >= file.size:
            return ""
        return (
            f"{file.size} bytes are listed, more than the whole disk has ({disk});"
            " use a larger one, or limits.file-size"
        )

    async def _judge_page(self, row: ProjectRow, look: Read[ProjectPage]) -> ProjectWork:
        holdings, run, page = self._holdings, self._run, without_own_secrets(look.page)
        held = (await load_held(holdings.store, [row.id]))[row.id] if row.has_entries else {}
        claims = OwnerClaims()
        if self._due.is_overlay:
            claims = await load_owner_claims(holdings.store, row.name, run.source.position)
        facts = await facts_of(self._scope, run, row, page, held)
        selected = run.selection.select(
            page, {f: h.sha256 for f, h in held.items()}, claims.names, claims.owners, facts
        )
        needed = self._needed(row)
        if needed is not None:
            selected = narrow(selected, needed | held.keys())
        for warning in selected.warnings:
            _log.warning("page.odd", index=run.name, project=row.name, problem=shown_text(warning))
        await self._log_foreign_names(row, selected)
        unwanted = frozenset(
            f
            for f in held
            if f in claims.names or not run.selection.wants_filename(f, claims.owners)
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
            validators=_with_serial(look.validators, row),
            selection=self._selection_of(row),
            page_origin=look.origin,
            left_out=left_out_rows(selected.left_out),
            claims=selected.claims,
            source=run.source.id,
            deferred=deferred_rows(selected.deferred),
        )
        # A page that may have been cut is read again in the next cycle: its validators are not
        # stored.
        work = self._work(row, change, page_seen if claims.is_complete and page.is_whole else None)
        if selected.sights:
            work.asked.sights, work.asked.sighted = selected.sights, sights_of(page)
        ledger = (
            await load_project_failures(holdings.store, run.source.id, row.name)
            if row.has_failures
            else {}
        )
        resting = await self._add_jobs(work, change, ledger)
        if ledger:
            asked = {job.file.filename for job in work.asked.jobs}
            still = resting.union(asked, (one.filename for one in work.asked.failures))
            work.asked.closed = tuple(
                name for name in ledger if name not in still and (page.is_whole or not name)
            )
        self._add_removal(work, change.remove)
        return work

    async def _log_foreign_names(self, row: ProjectRow, selected: Selected) -> None:
        """Log once which files are left out since they are named after another project."""
        foreign = [name for name, rule in selected.left_out.items() if rule == FOREIGN_NAME]
        if not foreign:
            return
        known = {x.rule: x for x in await load_left_out(self._holdings.store, row.id)}.get(
            FOREIGN_NAME
        )
        if (
            known is not None
            and known.files >= len(foreign)
            and known.names
            and set(known.names) <= set(foreign)
        ):
            return
        _log.warning(
            "files.left_out",
            index=self._run.name,
            project=row.name,
            rule=FOREIGN_NAME,
            count=len(foreign),
            files=[shown_text(name) for name in foreign[:_SHOWN_NAMES]],
            problem="their names are those of another project,"
            " so that no client takes them from this one's page",
        )

    async def _add_jobs(
        self, work: ProjectWork, change: ProjectChange, ledger: Mapping[str, FailureRow]
    ) -> set[str]:
        """Add the jobs and failures to the work; return the refused files that are skipped until
        their next try is due.
        """
        resting: set[str] = set()
        jobs: list[Job] = [*change.rehash, *change.metadata]
        failures = self._refused_files(work, change.refusals, known=len(ledger))
        for fetch in change.fetch:
            failed = ledger.get(fetch.file.filename)
            if (
                failed is not None
                and not failed.is_due(self._due.now)
                and _is_same_refused(failed, fetch.file)
            ):
                resting.add(fetch.file.filename)
            elif detail := await self._too_large(fetch.file):
                failures.append(work.failure(fetch.file.filename, Reason.TOO_LARGE, detail, fetch))
            else:
                jobs.append(fetch)
        work.asked.jobs, work.asked.failures = jobs, tuple(failures)
        return resting

    def _refused_files(
        self, work: ProjectWork, refusals: Sequence[FileRefusal], *, known: int
    ) -> list[Failure]:
        """Return the failures of files that can't be taken, one by one while there is room for them
        in the ledger.

        ``known``: rows of this page that are in the ledger already.
        """
        unhashed = [
            r for r in refusals if r.reason is Reason.REFUSED_UNHASHED
        ]  # each can be accepted by its name
        refusals = [r for r in refusals if r.reason is not Reason.REFUSED_UNHASHED]
        room = min(
            _MAX_REFUSED_OF_PAGE, max(known, _MAX_REFUSED_OF_INDEX - self._run.refused.files)
        )
        named = len(refusals) if len(refusals) <= room else max(room - 1, 0)
        self._run.refused.files += max(0, named - known)
        failures = [_refused(work, refusal) for refusal in (*unhashed, *refusals[:named])]
        if rest := refusals[named:]:
            first = f"{shown_text(rest[0].filename) or '(no name)'}: {rest[0].detail}"
            detail = f"{len(rest)} more files of this page can't be taken; the first is {first}"
            failures.append(work.failure(_MORE, Reason.BAD_FILE, detail))
        return failures

    async def _failed(
        self, row: ProjectRow, error: MirrorError, found: PageResult | None
    ) -> ProjectWork | None:
        run = self._run
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
        held = (await load_held(self._holdings.store, [row.id]))[row.id]
        meta = ProjectMeta(
            status="quarantined", status_reason=f"withdrawn by the index: {error.code}"
        )
        removals = tuple(Removal(held=h, kind=RemovalKind.WITHDRAWN) for h in held.values())
        change = ProjectChange(remove=removals, meta=meta if row.withdrawn != error.code else None)
        work = self._work(row, change, None)
        if row.has_failures:
            work.asked.closed = tuple(
                await load_project_failures(self._holdings.store, self._run.source.id, row.name)
            )
        self._add_removal(work, removals, withdrawn=error.code)
        return work

    def _page_failure(
        self, row: ProjectRow, reason: Reason, detail: str, *, wait_s: float = 0.0
    ) -> ProjectWork:
        work = self._work(row, ProjectChange(), None)
        work.asked.failures = (work.failure("", reason, detail, wait_s=wait_s),)
        return work

    def _work(
        self, row: ProjectRow, change: ProjectChange, page_seen: PageSeen | None
    ) -> ProjectWork:
        return ProjectWork(
            run=self._run,
            row=row,
            asked=PageWork(change=change, page_seen=page_seen),
            is_reread=self._is_reread,
        )

    def _add_removal(
        self, work: ProjectWork, removals: Sequence[Removal], *, withdrawn: str | None = None
    ) -> None:
        """Keep removals for the end of the cycle, when the brake knows all of them.

        Where one needs no second reading, the page's validators are stored only with it: if the
        brake holds it, the next cycle must read the page again.
        """
        # Also of a project that holds nothing here: later indexes may hold files of it, which are
        # withdrawn with it.
        is_withdrawal = (
            withdrawn is not None
            or (work.asked.change.meta or work.row.meta).status == "quarantined"
        )
        meta = work.asked.change.meta if is_withdrawal else None
        exempt = tuple(r for r in removals if r.kind in OUTSIDE_BRAKE)
        judged = tuple(r for r in removals if r.kind not in OUTSIDE_BRAKE)
        if judged or meta is not None:
            at_once = is_withdrawal or any(r.kind is not RemovalKind.ABSENT for r in judged)
            self._run.leaving.pending.append(
                PendingRemoval(
                    project=work.row.id,
                    name=work.row.name,
                    files=judged,
                    meta=meta,
                    withdrawn=withdrawn,
                    page_seen=work.asked.page_seen if at_once else None,
                )
            )
            if at_once:
                work.asked.page_seen = None
        if exempt:
            self._run.leaving.pending.append(
                PendingRemoval(
                    project=work.row.id,
                    name=work.row.name,
                    files=exempt,
                    is_exempt=True,
                    page_seen=work.asked.page_seen,
                )
            )
            work.asked.page_seen = None
        if meta is not None:
            work.asked.change = msgspec.structs.replace(work.asked.change, meta=None)


async def fetch_page(
    run: IndexRun,
    row: ProjectRow,
    known: Validators | None,
    lease: PageLease,
    found: PageResult | None = None,
) -> PageLook | None:
    """Read a page, or take a worker's result; None for one that is older than the published one."""
    look = (
        await run.access.client.fetch_project(row.name, known, row.address, lease)
        if found is None
        else found.look()
    )
    if isinstance(look, Read) and _is_stale(look.page, row):
        lease.release()
        look = await run.access.client.fetch_project(row.name, None, row.address, lease)
        if isinstance(look, Read) and _is_older(look.page, row):
            _log.warning("page.stale", index=run.name, project=row.name, serial=look.page.serial)
            return None
    return look


async def adopt_held(
    holdings: Holdings, work: ProjectWork, *, has_blobs: bool
) -> dict[str, HeldBlob]:
    """Return which of the jobs need no download, by filename, since their blob is held."""
    if not has_blobs:
        return {}
    listed = {
        job.file.filename: dict(job.file.digests)
        for job in work.asked.jobs
        if "sha256" in dict(job.file.digests)
    }
    wanted = {(digests["sha256"], filename) for filename, digests in listed.items()}
    found = (
        {name: held for (_sha, name), held in (await load_blobs(holdings.store, wanted)).items()}
        if wanted
        else {}
    )
    adopted: dict[str, HeldBlob] = {}
    for filename, held in found.items():
        digests = listed[filename]
        others = tuple(pair for pair in digests_to_compare(digests.items()) if pair[0] != "sha256")
        if not others or await has_digests(
            holdings.files, Sha256(digests["sha256"]), filename, others
        ):
            adopted[filename] = held
    return adopted


def _refused(work: ProjectWork, refusal: FileRefusal) -> Failure:
    return Failure(
        source=work.run.source.id,
        project=work.row.name,
        # an empty one would mean the page itself
        filename=shown_text(refusal.filename) or "(no name)",
        reason=refusal.reason,
        detail=refusal.detail,
        file=refusal.file,
    )


def _is_same_refused(failed: FailureRow, file: ListedFile) -> bool:
    """Return whether a file was refused as it is listed now; a link that ends has another query
    each time.
    """
    before = failed.file
    if failed.reason is not Reason.DENIED or before is None:
        return False
    return (before.url.partition("?")[0], before.digests) == (
        file.url.partition("?")[0],
        file.digests,
    )


def _same_serial(known: Validators, row: ProjectRow) -> bool:
    return row.listed_serial is not None and known.serial == row.listed_serial


def _is_stale(page: ProjectPage, row: ProjectRow) -> bool:
    return (
        page.serial is not None
        and row.listed_serial is not None
        and page.serial < row.listed_serial
    )


def _is_older(page: ProjectPage, row: ProjectRow) -> bool:
    """Return whether a page is older than the published one."""
    held = row.validators.serial if row.validators else None
    return page.serial is not None and held is not None and page.serial < held


def _with_serial(validators: Validators, row: ProjectRow) -> Validators:
    """A page that does not state its own serial is as new as the root that listed it, which was
    read before.
    """
    if validators.serial is not None or row.listed_serial is None:
        return validators
    return Validators(
        etag=validators.etag,
        last_modified=validators.last_modified,
        serial=row.listed_serial,
        digest=validators.digest,
    )
