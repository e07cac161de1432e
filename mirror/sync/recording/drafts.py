"""The rows of one batch for one project, collected from its events before one transaction."""

from __future__ import annotations

from collections.abc import Sequence

from mirror.core.diff import Fetch, HeldFile, Rehash
from mirror.core.model import Digests
from mirror.core.names import Sha256
from mirror.errors import Reason
from mirror.logs import EventLogger, get_logger
from mirror.state.entries.changes import Placed, ProjectRecord
from mirror.state.missing.ledger import Failure
from mirror.state.missing.sights import ProjectSights
from mirror.sync.recording.events import (
    Begun,
    BlobPlaced,
    BlobReused,
    DigestCompared,
    Event,
    Failed,
    FileStaged,
    MetadataFetched,
)
from mirror.sync.work import ProjectWork
from mirror.tree.files import PlacedBlob

_log = get_logger(__name__)


class ProjectDraft:
    """The records of one batch for one project."""

    def __init__(self, work: ProjectWork, log: EventLogger) -> None:
        self.work = work
        self._log = log
        self.failures: list[Failure] = []
        self.missing: tuple[HeldFile, ...] = ()
        self._begun = False
        self._placed: list[Placed] = []
        self._touched: list[Rehash] = []
        self._refused: list[tuple[HeldFile, Digests]] = []
        self._succeeded: list[str] = []

    def add(self, event: Event) -> None:
        """Take one event into account, except the bytes of a finished file."""
        work = self.work
        match event:
            case Begun():
                self._begun = True
                self.missing = work.asked.change.missing
                for failure in work.asked.failures:
                    self._fail(failure)
            case BlobReused(fetch=fetch):
                blob = PlacedBlob(
                    sha256=Sha256(dict(fetch.file.digests)["sha256"]),
                    filename=fetch.file.filename,
                    size=event.size,
                    metadata_sha256=event.metadata_sha256,
                )
                self.add_placed(fetch, blob, None)
            case DigestCompared(rehash=rehash, is_same=is_same):
                if is_same:
                    self._touched.append(rehash)
                else:
                    self._refused.append((rehash.held, rehash.file.digests))
                self._done(rehash.file.filename)
            case MetadataFetched(wanted=wanted):
                self._done(wanted.file.filename)
            case Failed(failure=failure):
                self._fail(failure)
                self._finish_one()
            case FileStaged() | BlobPlaced():
                pass

    def add_placed(self, fetch: Fetch, blob: PlacedBlob, problem: str | None) -> None:
        """Add a file whose bytes are in their place."""
        run = self.work.run
        self.work.progress.brought += 1
        self._placed.append(
            Placed(
                file=fetch.file,
                sha256=blob.sha256,
                size=blob.size,
                metadata_sha256=blob.metadata_sha256,
                summary=blob.summary,
            )
        )
        if fetch.replaces is not None and fetch.replaces.sha256 != blob.sha256:
            run.counters.files_replaced += 1
        else:
            run.counters.files_new += 1
        if not self.work.progress.has_placed:
            self.work.progress.has_placed = True
            run.counters.projects_fetched += 1
        self._log.info(
            "file.placed",
            index=run.name,
            project=self.work.row.name,
            filename=blob.filename,
            size=blob.size,
        )
        if problem:
            _log.warning(
                "file.metadata",
                index=run.name,
                project=self.work.row.name,
                filename=blob.filename,
                problem=problem,
            )
        self._done(blob.filename)

    @property
    def sights(self) -> ProjectSights:
        """The first sights to record."""
        work = self.work
        seen = work.asked.sights if self._begun else {}
        return ProjectSights(project=work.row.id, seen=seen, listed=work.asked.sighted)

    @property
    def changes(self) -> bool:
        """Whether any row of the project changes."""
        change = self.work.asked.change
        return bool(self._placed or self._touched or self._refused) or (
            self._begun
            and bool(
                change.relabel
                or change.meta
                or change.touch
                or change.refuse
                or change.missing
                or change.returned
            )
        )

    @property
    def claims(self) -> bool:
        """Whether a page that was just read lists files that can't be fetched: no overlay may add
        them either.
        """
        return not self.work.is_retry and any(f.filename for f in self.failures)

    def record(self) -> ProjectRecord:
        """Return the record for the transaction, and remember that it marks the page."""
        work, change = self.work, self.work.asked.change
        touch = tuple((r.held, r.file) for r in self._touched)
        refuse = (*self._refused, *(change.refuse if self._begun else ()))
        own = ProjectRecord(
            project=work.row.id,
            source=work.run.source.id,
            name=work.row.name,
            placed=tuple(self._placed),
            relabel=change.relabel if self._begun else (),
            meta=change.meta if self._begun else None,
            touch=(*touch, *(change.touch if self._begun else ())),
            refuse=refuse,
            returned=change.returned if self._begun else (),
        )
        self._log_refused(refuse)
        work.progress.shows = work.progress.shows or own.shows
        return own

    def closed(self) -> list[tuple[int, str, str]]:
        """Return the ledger rows that close."""
        work = self.work
        if not work.row.has_failures:
            return []
        names = [*self._succeeded, *(work.asked.closed if self._begun else ())]
        return [(work.run.source.id, work.row.name, name) for name in names]

    def _log_refused(self, refuse: Sequence[tuple[HeldFile, Digests]]) -> None:
        for held, digests in refuse:
            _log.warning(
                "file.replacement_refused",
                index=self.work.run.name,
                project=self.work.row.name,
                filename=held.filename,
                held=held.sha256,
                listed=dict(digests).get("sha256"),
            )

    def _done(self, filename: str) -> None:
        self._finish_one()
        self._succeeded.append(filename)

    def _finish_one(self) -> None:
        self.work.progress.pending -= 1
        self.work.run.counters.files_done += 1

    def _fail(self, failure: Failure) -> None:
        run = self.work.run
        self.failures.append(failure)
        if failure.reason is not Reason.WITHHELD and failure.filename:
            run.counters.files_failed += 1
            self.work.progress.failed += 1
        _log.warning(
            "file.failed" if failure.filename else "page.failed",
            index=run.name,
            project=failure.project,
            filename=failure.filename or None,
            reason=failure.reason.value,
            detail=failure.detail,
        )
