"""The questions of a cycle to the selection, and its offers to it.

``Needs`` decides which files are wanted; it asks ``WantedPages`` for listings and metadata, each
page at most once in a cycle. Validators, ownership and the ledger stay here.
"""

from __future__ import annotations

from typing import Protocol

from mirror.core.names import ProjectName
from mirror.core.offered_pages import WantedPages
from mirror.core.offers import WantPlan
from mirror.core.wants_progress import WantsProgress


class Needs(Protocol):
    """The wanted files of a cycle."""

    resolved: int
    """Number of resolutions that the cycle computed again."""
    progress: WantsProgress
    """How far the cycle is with resolutions, and at its end with proofs."""
    has_changed: bool
    """Whether a resolution was computed again, or belongs to no want any more."""
    failures: list[str]
    """One sentence for each want that can't be resolved, after ``finish``."""

    async def settle(self, pages: WantedPages, *, cycle: int) -> frozenset[ProjectName]:
        """Decide which files are wanted; return the projects whose wanted files changed."""

    async def settle_again(self, pages: WantedPages) -> frozenset[ProjectName]:
        """Decide again after files could not be had; return the projects whose wanted files
        changed.
        """

    def files_of(self, index: str, project: ProjectName) -> frozenset[str] | None:
        """Return the wanted files of a project; None where the patterns alone decide."""

    def wanted_of(self, index: str, project: ProjectName) -> frozenset[str]:
        """Return the files of a project that a want needs, also where the patterns decide."""

    def narrows(self, index: str) -> bool:
        """Return whether only needed files of an index are mirrored."""

    async def waits_for(self) -> frozenset[str]:
        """Return the indexes of which the sets of this cycle's resolutions need files."""

    async def planned(self) -> list[WantPlan]:
        """Return the files that a cycle would fetch for each want and target."""

    async def finish(self) -> None:
        """Let earlier sets go whose new sets are held; complete the report."""
