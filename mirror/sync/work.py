"""The values that the stages of a cycle share: one index's part of it, and one project on its way
through it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING

import anyio
import msgspec

from mirror.core.advisories.judging import AdvisoryBook, AdvisoryRule
from mirror.core.diff import Fetch, FetchMetadata, ProjectChange, Rehash, Removal
from mirror.core.model import IndexPolicy, ProjectMeta, ProjectPage, Validators
from mirror.core.names import ProjectName
from mirror.core.policy import Selection
from mirror.core.rules.judge import Sight
from mirror.core.rules.model import Level
from mirror.errors import MirrorError, Reason, TreeError, Unavailable
from mirror.holdings.holdings import Clock, Holdings
from mirror.state.entries.pages import PageSeen
from mirror.state.listing.due import ProjectRow
from mirror.state.listing.sources import SourceRow
from mirror.state.missing.ledger import Failure
from mirror.state.store import Store
from mirror.sync.advisories.settings import AdvisorySettings, Judges
from mirror.sync.report import IndexCounters, Report
from mirror.sync.staging_room import StagingRoom
from mirror.tree.files import FileStore
from mirror.upstream.index import IndexClient
from mirror.upstream.limits.memory import PageLease
from mirror.upstream.session import IndexSession
from mirror.workers.concurrency import AdaptiveLimit
from mirror.workers.fork_server import ForkServer
from mirror.workers.pool import Workers

if TYPE_CHECKING:
    from mirror.sync.needs.listings import ListingCache
    from mirror.sync.needs.protocol import Needs
    from mirror.upstream.flat import FlatClient

_UNREACHABLE_IN_A_ROW = 4
"""After this many consecutive failures to reach a page or file, the root page is fetched to find
out whether the index is down.
"""
_UNREACHABLE_AT_MOST = 64
"""After this many the index is given up even if its root page answers: a few broken pages must not
stop the others.

In between, the root is checked again at doubling intervals: an index can die after a first bad
moment.
"""


Job = Fetch | Rehash | FetchMetadata
"""The work for one file in addition to recording rows."""


class Phase(Enum):
    """The current activity of a cycle, for a progress display."""

    REPAIR = "publishing what was left"
    ROOTS = "reading the root"
    WANTS = "resolving wants"
    PROJECTS = "looking at projects"
    REMOVALS = "removing and publishing"
    DONE = "done"
    PROOFS = "proving wants"

    @property
    def counts_wants(self) -> bool:
        """Whether the cycle counts its wants, not its projects."""
        return self in {Phase.WANTS, Phase.PROOFS}


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a cycle, set by its caller."""

    full: bool = False
    dry_run: bool = False
    allow_shrink: bool = False
    indexes: tuple[str, ...] = ()
    projects: tuple[ProjectName, ...] = ()
    all_failures: bool = True
    """Whether every ledger item is tried now, or only those whose next try is due (the daemon)."""

    refuses_unlisted: bool = False
    """Whether a project that no index lists is wrong usage: a person has typed it."""

    is_scheduled: bool = False
    """``indexes`` are the due ones (the daemon): each is judged as in a whole cycle, only
    judgements over all wait.
    """

    @property
    def is_narrowed(self) -> bool:
        """Whether a person asked for a part only: names that such a cycle did not see are not
        absent.
        """
        return bool(self.projects or (self.indexes and not self.is_scheduled))

    @property
    def sees_all(self) -> bool:
        """Whether the cycle reads every index as a whole."""
        return not (self.indexes or self.projects)


class IndexAccess(msgspec.Struct, frozen=True, kw_only=True):
    """The means by which one index is asked, and how much of it at the same time."""

    session: IndexSession
    client: IndexClient | FlatClient
    page_width: AdaptiveLimit
    file_width: AdaptiveLimit


class Reachability(msgspec.Struct, kw_only=True):
    """Whether one index can be reached, and why its part of the cycle ended."""

    client: IndexClient | FlatClient
    ended: MirrorError | None = None
    scope: anyio.CancelScope = msgspec.field(default_factory=anyio.CancelScope)
    _unreachable: int = 0
    _ask_at: int = _UNREACHABLE_IN_A_ROW

    def end(self, error: MirrorError) -> None:
        """End this index's part of the cycle; finished work stays."""
        if self.ended is None:
            self.ended = error
        self.scope.cancel()

    def record_answer(self) -> None:
        """The index answered something useful."""
        self._unreachable = 0

    def count_unreachable(self) -> int:
        """Count a failure to reach the index; return how many there were in a row."""
        self._unreachable += 1
        return self._unreachable

    async def record_unreachable(self, error: Unavailable, in_a_row: int | None = None) -> None:
        """Count a failure to reach the index, unless it was counted already; too many in a row open
        the circuit.
        """
        in_a_row = self.count_unreachable() if in_a_row is None else in_a_row
        if in_a_row < _UNREACHABLE_IN_A_ROW:
            return
        # Retry-After: the index itself asks for a pause.
        is_down = in_a_row >= _UNREACHABLE_AT_MOST or error.retry_after_s is not None
        if is_down or (in_a_row >= self._ask_at and not await self._answers()):
            self.end(error)

    async def _answers(self) -> bool:
        """Return whether the index gives any answer, by its root page; a few times in a cycle at
        most.
        """
        self._ask_at *= 2
        return await self.client.answers()


class PageProgress(msgspec.Struct, kw_only=True):
    """The facts that one cycle has learnt of the root and the pages of one index."""

    unlisted: frozenset[ProjectName] = frozenset()
    """Projects that a narrowed cycle names and the root, which was just read, does not list."""
    is_root_cut: bool = False
    """Its root was read this time, and may have been cut on the way: the index may own more
    projects.
    """
    asked: int = 0
    """Pages of projects that were asked for in this part."""
    refused: int = 0
    """Those that the index itself refused."""
    missing: int = 0
    """Those that it does not have."""
    early: dict[ProjectName, EarlyPage] = msgspec.field(default_factory=dict)
    """Pages that were asked for early in this cycle, since a want may need them."""
    rereads: dict[ProjectName, ProjectWork] = msgspec.field(default_factory=dict)
    """Projects whose page must be read again: a retry from the ledger, or a link that ended, found
    it outdated.
    """
    fruitless: Counter[ProjectName] = msgspec.field(default_factory=Counter)
    """How often in a row a page was read again without bringing a file."""


class RefusedFiles(msgspec.Struct, kw_only=True):
    """The files of one index that may not, or can't, be taken."""

    advisories: AdvisoryRule = msgspec.field(
        default_factory=lambda: AdvisoryRule(AdvisoryBook({}), Level.NONE)
    )
    """Which files the advisories in force keep out."""
    links: dict[tuple[ProjectName, str], tuple[str, MirrorError]] = msgspec.field(
        default_factory=dict
    )
    """Links with a query that were refused in this cycle, by project and filename: the same one is
    not asked for again.
    """
    link_bytes: int = 0
    """Length of the links in ``links``."""
    files: int = 0
    """Number of files in the ledger that can't be taken, before and in this cycle."""


class Leaving(msgspec.Struct, kw_only=True):
    """The files that are to leave the pages at the end of the cycle, and how many may."""

    max_shrink: float
    """The part of its files that may leave the pages within 24 hours."""
    pending: list[PendingRemoval] = msgspec.field(default_factory=list)


class IndexRun(msgspec.Struct, kw_only=True):
    """One index's part of one cycle."""

    source: SourceRow
    selection: Selection
    access: IndexAccess
    counters: IndexCounters
    reach: Reachability
    leaving: Leaving
    pages: PageProgress = msgspec.field(default_factory=PageProgress)
    refused: RefusedFiles = msgspec.field(default_factory=RefusedFiles)

    @property
    def name(self) -> str:
        """The index's name."""
        return self.source.name


class EarlyPage(msgspec.Struct, kw_only=True):
    """The early reading of a page that a want may need; it is not asked for again in this cycle."""

    validators: Validators | None = None
    origin: str | None = None
    page: ProjectPage | None = None
    """None where it is in the cache."""
    error: MirrorError | None = None


class PendingRemoval(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is to leave the pages at the end of the cycle, if the brake allows it."""

    project: int
    name: ProjectName
    files: tuple[Removal, ...] = ()
    is_exempt: bool = False
    """It leaves by one of the mirror's own rules, which no index can trigger: the brake does not
    judge it.
    """
    displaced: tuple[str, ...] = ()
    """Filenames of a project that now belongs to an earlier index."""
    is_displaced: bool = False
    """The project now belongs to an earlier index, whether files of it are published or not."""
    leaves: bool = False
    """The whole project: its index no longer lists it, or the patterns exclude it."""
    meta: ProjectMeta | None = None
    """The page's attributes of the project once it is withdrawn."""
    withdrawn: str | None = None
    page_seen: PageSeen | None = None
    """Recorded with the removal."""


class PageWork(msgspec.Struct, kw_only=True):
    """The changes that a page asks for, and all that is recorded with them."""

    change: ProjectChange
    page_seen: PageSeen | None
    """Recorded when all work is done; None where the page must be read again in the next cycle."""
    closed: tuple[str, ...] = ()
    """Filenames whose ledger rows are to be closed."""
    failures: tuple[Failure, ...] = ()
    jobs: list[Job] = msgspec.field(default_factory=list)
    sights: Mapping[Sight, float] = msgspec.field(default_factory=dict)
    """First sights to record with the beginning of the work."""
    sighted: Sequence[Sight] = ()
    """All files of the page that was read, as first sights know them."""


class WorkProgress(msgspec.Struct, kw_only=True):
    """How far the files of one project are in this cycle."""

    pending: int = 0
    failed: int = 0
    """How many files were counted as failed."""
    brought: int = 0
    """How many files are in their places by now."""
    shows: bool = False
    """Whether this cycle marked the project's page."""
    has_placed: bool = False
    """Whether a file was placed in this cycle, also after an earlier reading."""


class ProjectWork(msgspec.Struct, kw_only=True):
    """One project of one index whose page asks for something, until all of it is held or in the
    ledger.
    """

    run: IndexRun
    row: ProjectRow
    asked: PageWork
    progress: WorkProgress = msgspec.field(default_factory=WorkProgress)
    is_reread: bool = False
    """The page was read again in the same cycle, since links of it had ended."""
    is_retry: bool = False
    """The jobs are from the ledger, not from a page that was just read."""
    lease: PageLease | None = None
    """The memory that its page takes until all of its files are done."""
    was_empty: bool = False
    """Whether its page asked for nothing; known once it is released."""

    def release(self) -> None:
        """Release the memory of this page for others: nothing of it is open."""
        asked = self.asked
        self.was_empty = asked.change.is_empty
        asked.change, asked.page_seen, asked.jobs, asked.failures = ProjectChange(), None, [], ()
        if self.lease is not None:
            self.lease.release()

    def failure(
        self,
        filename: str,
        reason: Reason,
        detail: str,
        job: Job | None = None,
        *,
        wait_s: float = 0.0,
    ) -> Failure:
        """Return a ledger row for one file of this project, or its page."""
        return Failure(
            source=self.run.source.id,
            project=self.row.name,
            filename=filename,
            reason=reason,
            detail=detail,
            file=job.file if job is not None else None,
            wait_s=wait_s,
        )


def asked_wait_s(error: MirrorError) -> float:
    """Return for how long an upstream asked to be left alone, in seconds."""
    return (error.retry_after_s or 0.0) if isinstance(error, Unavailable) else 0.0


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """Facts and settings that stay the same for the whole cycle and hold for all of its indexes."""

    judged_at: float
    """The time at which rules judge files: the start, so that the whole cycle judges alike."""
    has_blobs: bool = True
    has_sights: bool = True
    """Whether any file was ever published, or seen and kept out: else no page has first sights."""
    has_overlays: bool = False
    """Whether an index of the configuration adds files to the projects of another."""
    policies: tuple[IndexPolicy, ...] = ()
    """Of each configured index, in their order, also where the cycle is narrowed."""
    root_digests: Mapping[str, str] = {}
    """Of each configured index, also where the cycle is narrowed: which projects of its root are
    wanted.
    """
    max_shrink: float
    """For files that no index owns; an index may have its own."""
    advisories: AdvisorySettings = AdvisorySettings()


class CycleWants(msgspec.Struct, frozen=True, kw_only=True):
    """The wants of the configuration, as a cycle serves them."""

    needs: Needs | None = None
    """The needs of the wants; None where the configuration has none."""
    listings: ListingCache | None = None
    """The listings of the pages that wants may need."""
    scratch: FileStore | None = None
    """Takes the files that a dry run reads metadata from; it is deleted at the end."""
    resting: tuple[IndexRun, ...] = ()
    """Indexes that this cycle does not read, as they were read last: wants may need their files."""
    keep_unwanted_s: float = 0.0
    """How long files stay published that no want needs any more."""


class Transfers(msgspec.Struct, frozen=True, kw_only=True):
    """The means by which files are fetched."""

    room: StagingRoom
    """The room for files in staging."""
    conditions: str = ""
    """How the engine of an object store takes conditions, for worker processes."""
    fork_server: ForkServer | None = None
    """The fork server of the worker processes; None: everything is done in this process."""


class Course(msgspec.Struct, kw_only=True):
    """The changing facts of a cycle that its report does not have."""

    phase: Phase = Phase.REPAIR
    sources: tuple[SourceRow, ...] = ()
    """Each configured index after the roots were read, in their order."""
    judges: Judges = Judges()
    """The judgement by advisories, once they were taken."""
    unwritten: dict[ProjectName, TreeError] = msgspec.field(default_factory=dict)
    """The projects whose pages could not be written or removed: their pages stay marked."""


class PageScope(msgspec.Struct, frozen=True, kw_only=True):
    """All that the reading of pages may use and change, in addition to the part of its index."""

    holdings: Holdings
    options: Options
    terms: Terms
    wants: CycleWants
    room: StagingRoom
    report: Report


class Cycle(msgspec.Struct, kw_only=True):
    """A whole cycle, for the functions that order its steps; a step takes its parts."""

    holdings: Holdings
    options: Options
    terms: Terms
    wants: CycleWants = CycleWants()
    transfers: Transfers
    course: Course = msgspec.field(default_factory=Course)
    report: Report
    runs: tuple[IndexRun, ...]

    @property
    def id(self) -> int:
        """Its number; 0 until it has begun."""
        return self.holdings.cycle

    @property
    def store(self) -> Store:
        """The state."""
        return self.holdings.store

    @property
    def clock(self) -> Clock:
        """The clock of everything that the cycle records."""
        return self.holdings.clock

    def page_scope(self) -> PageScope:
        """Return the parts that the reading of pages may use."""
        return PageScope(
            holdings=self.holdings,
            options=self.options,
            terms=self.terms,
            wants=self.wants,
            room=self.transfers.room,
            report=self.report,
        )


FileWorkers = Workers[tuple[ProjectWork, Fetch]]
"""The workers of one index; each of their jobs is a file of a project's work."""
