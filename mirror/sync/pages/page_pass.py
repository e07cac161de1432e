"""One pass over the pages of an index: what it may use, and which files of a page are wanted."""

from __future__ import annotations

import msgspec

from mirror.core.diff import ProjectChange
from mirror.core.model import Validators
from mirror.core.policy import digest_of_needed
from mirror.holdings.holdings import Holdings
from mirror.state.entries.pages import PageSeen
from mirror.state.listing.due import Due, ProjectRow
from mirror.sync.cycle_parts import PageScope
from mirror.sync.work import IndexRun, PageWork, ProjectWork


class PagePass(msgspec.Struct, frozen=True, kw_only=True):
    """A pass over those pages of one index that are due."""

    scope: PageScope
    run: IndexRun
    due: Due
    is_reread: bool = False
    """The pages are read again in the same cycle, since links of them had ended."""

    @property
    def holdings(self) -> Holdings:
        """The state and the tree."""
        return self.scope.holdings

    def needed_files(self, row: ProjectRow) -> frozenset[str] | None:
        """Return the files that wants need; None where they don't narrow the index."""
        needs = self.scope.wants.needs
        return None if needs is None else needs.files_of(self.run.name, row.name)

    def selection_digest(self, row: ProjectRow) -> str:
        """Return the digest of all that decides which files of a page are wanted."""
        needed, needs = self.needed_files(row), self.scope.wants.needs
        if needed is None and self.due.judges_wanted and needs is not None:
            needed = needs.wanted_of(self.run.name, row.name) or None
        return (
            self.due.selection if needed is None else digest_of_needed(self.due.selection, needed)
        )

    def known_validators(self, row: ProjectRow) -> Validators | None:
        """Return the validators with which a project's page is asked for."""
        is_of_use = (
            row.selection == self.selection_digest(row)
            and not self.scope.options.full
            and not self.is_reread
        )
        return row.validators if is_of_use and not row.needs_page else None

    def work_of(
        self, row: ProjectRow, change: ProjectChange, page_seen: PageSeen | None
    ) -> ProjectWork:
        """Return the work of a page that asks for these changes."""
        return ProjectWork(
            run=self.run,
            row=row,
            asked=PageWork(change=change, page_seen=page_seen),
            is_reread=self.is_reread,
        )
