"""The values that the stages of a cycle share: one index's part of it, and one project on its way
through it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from mirror.core.advisories.judging import AdvisoryBook, AdvisoryRule
from mirror.core.diff import Fetch, FetchMetadata, ProjectChange, Rehash, Removal
from mirror.core.model import ProjectMeta, ProjectPage, Validators
from mirror.core.names import ProjectName
from mirror.core.policy import Selection
from mirror.core.rules.judge import Sight
from mirror.core.rules.model import Level
from mirror.errors import MirrorError, Reason, Unavailable
from mirror.state.entries.pages import PageSeen
from mirror.state.listing.due import ProjectRow
from mirror.state.listing.sources import SourceRow
from mirror.state.missing.ledger import Failure
from mirror.sync.reachability import Reachability
from mirror.sync.report import IndexCounters
from mirror.upstream.index import IndexClient
from mirror.upstream.limits.memory import PageLease
from mirror.upstream.session import IndexSession
from mirror.workers.concurrency import AdaptiveLimit
from mirror.workers.pool import Workers

if TYPE_CHECKING:
    from mirror.upstream.flat import FlatClient

Job = Fetch | Rehash | FetchMetadata
"""The work for one file in addition to recording rows."""


class IndexAccess(msgspec.Struct, frozen=True, kw_only=True):
    """The means by which one index is asked, and how much of it at the same time."""

    session: IndexSession
    client: IndexClient | FlatClient
    page_width: AdaptiveLimit
    file_width: AdaptiveLimit


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

    @property
    def filenames(self) -> tuple[str, ...]:
        """The named files; a whole project names none."""
        return (*(one.held.filename for one in self.files), *self.displaced)


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


FileWorkers = Workers[tuple[ProjectWork, Fetch]]
"""The workers of one index; each of their jobs is a file of a project's work."""
