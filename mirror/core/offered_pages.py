"""The pages of a cycle, as the selection of files reads them.

The cycle offers them and the selection asks for them; neither imports the other, so the form stands
below both.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from mirror.core.names import ProjectName
from mirror.core.offers import Offer, ProjectOffers


class WantedPages(Protocol):
    """The pages of all indexes, as the owner and the overlays of each project list them."""

    async def see(self, names: Collection[ProjectName]) -> None:
        """Ask for the pages of some projects, several at the same time."""

    async def digest(self, project: ProjectName) -> str:
        """Return the digest of a project's listing. Raises ``MirrorError``."""

    async def list_offers(self, project: ProjectName) -> ProjectOffers:
        """Return a project's listing. Raises ``MirrorError`` where nobody knows it now."""

    async def metadata(self, project: ProjectName, offer: Offer) -> bytes:
        """Return the core metadata of a file. Raises ``MetadataRefused``, ``MirrorError``."""

    async def build_requires(self, project: ProjectName, offer: Offer) -> tuple[str, ...]:
        """Return the build requirements of a source distribution.

        Raises ``MetadataRefused``, ``MirrorError``.
        """

    async def corrected(self, project: ProjectName, offer: Offer) -> bool:
        """Return whether a held file has other metadata than its index offered before it was
        held.
        """
