"""The listings that a cycle has just read: hundreds of resolutions depend on the same ones.

What is remembered counts while nothing is written to the state: ledger, held files and waiting
files are parts of a listing.
"""

from __future__ import annotations

from mirror.core.names import ProjectName
from mirror.core.offers import ProjectOffers
from mirror.state.store import Store

_MAX_FILES = 20_000
"""Maximum number of offered files that stay in memory."""


class RecentListings:
    """The listings of projects, and their digests, as they are since the last write."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changes = store.changes
        self._digests: dict[ProjectName, str] = {}
        self._offers: dict[ProjectName, ProjectOffers] = {}
        self._files = 0

    @property
    def changes(self) -> int:
        """The writes so far: what is read is kept under the number before its reading."""
        return self._store.changes

    def digest(self, project: ProjectName) -> str | None:
        """Return the digest of a listing, if it is remembered."""
        self._forget_if_written()
        return self._digests.get(project)

    def offers(self, project: ProjectName) -> ProjectOffers | None:
        """Return a listing, if it is remembered."""
        self._forget_if_written()
        return self._offers.get(project)

    def keep_digest(self, project: ProjectName, digest: str, changes: int) -> str:
        """Remember a digest that was read when the state had ``changes``, and return it."""
        self._forget_if_written()
        if changes == self._changes:
            self._digests[project] = digest
        return digest

    def keep_offers(self, offers: ProjectOffers, changes: int) -> ProjectOffers:
        """Remember a listing while there is room, and return it."""
        self._forget_if_written()
        count = len(offers.offers) + len(offers.left_out)
        is_new = changes == self._changes and offers.project not in self._offers
        if is_new and self._files + count <= _MAX_FILES:
            self._files += count
            self._offers[offers.project] = offers
        return offers

    def forget(self, project: ProjectName) -> None:
        """Forget a project: its files were judged again."""
        self._digests.pop(project, None)
        offers = self._offers.pop(project, None)
        if offers is not None:
            self._files -= len(offers.offers) + len(offers.left_out)

    def _forget_if_written(self) -> None:
        if self._changes != self._store.changes:
            self._changes = self._store.changes
            self._digests.clear()
            self._offers.clear()
            self._files = 0
