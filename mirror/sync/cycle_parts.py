"""The parts of a cycle: its options and terms, the wants, the means of transfer, and the whole.

Functions that order steps take the ``Cycle``; a step takes the parts that it may use.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING

import msgspec

from mirror.core.model import IndexPolicy
from mirror.core.names import ProjectName
from mirror.errors import TreeError
from mirror.holdings.holdings import Clock, Holdings
from mirror.state.listing.sources import SourceRow
from mirror.state.store import Store
from mirror.sync.advisories.settings import AdvisorySettings, Judges
from mirror.sync.report import Report
from mirror.sync.staging_room import StagingRoom
from mirror.sync.work import IndexRun
from mirror.tree.files import FileStore
from mirror.workers.fork_server import ForkServer

if TYPE_CHECKING:
    from mirror.sync.needs.listings import ListingCache
    from mirror.sync.needs.protocol import Needs


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
