"""The published pages of the tree, or of a snapshot, as offers: the view of a client beyond the
gap.

A published file is whole and verified when it is placed; whether it still is, the proof looks at
itself.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Protocol

import anyio.to_thread

from mirror.core.files.build_requires import read_build_requires
from mirror.core.model import ListedFile
from mirror.core.names import ProjectName, Sha256
from mirror.core.offers import Hidden, MetadataRefused, Offer, ProjectOffers
from mirror.core.pages.parse_json import parse_project_page
from mirror.errors import Reason, TreeError, UpstreamError
from mirror.tree.needed.metadata import (
    MetadataUnreadable,
    read_held_metadata,
    read_held_pyproject,
)
from mirror.tree.objects.client import ObjectClient
from mirror.tree.objects.keys import page_keys, snapshot_keys
from mirror.tree.objects.opening import TreeOpener
from mirror.tree.pages import JSON_V1

_MAX_FILES = 10_000_000
_BASE = "http://localhost/simple"
"""The address that stands for the tree's own: only names and digests count."""

TREE = "tree"
"""The name of the index that the tree is, in offers."""


class PublishedPages(Protocol):
    """The JSON pages of a tree or of a snapshot. Blocking; raises ``TreeError``."""

    def read(self, project: ProjectName) -> bytes | None:
        """Return the bytes of a page, or None where there is none."""

    def shown(self, project: ProjectName) -> str:
        """Return the place of a page, for messages."""


class DiskPages:
    """Pages below a folder."""

    def __init__(self, simple: Path) -> None:
        self._simple = simple

    def read(self, project: ProjectName) -> bytes | None:
        """Return the bytes of a page, or None where there is none."""
        path = self._simple / project / JSON_V1
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise TreeError(path=str(path), problem=f"can't be read: {exc.strerror}") from exc

    def shown(self, project: ProjectName) -> str:
        """Return the place of a page, for messages."""
        return str(self._simple / project / JSON_V1)


class StorePages:
    """Pages in an object store; ``snapshot``: None for the live ones."""

    def __init__(self, client: ObjectClient, snapshot: str | None) -> None:
        self._client, self._snapshot = client, snapshot

    def read(self, project: ProjectName) -> bytes | None:
        """Return the bytes of a page, or None where there is none."""
        got = self._client.get(self._key(project))
        return None if got is None else got[0]

    def shown(self, project: ProjectName) -> str:
        """Return the place of a page, for messages."""
        return self._client.address.shown(self._key(project))

    def _key(self, project: ProjectName) -> str:
        if self._snapshot is None:
            return page_keys(project)[1]
        return snapshot_keys(self._snapshot, project)[1]


class Published:
    """Implements ``selection.answers.Offers`` for the published tree."""

    def __init__(
        self, held: TreeOpener, pages: PublishedPages, *, metadata_limit_bytes: int
    ) -> None:
        """``pages``: the tree's or a snapshot's."""
        self.held, self._pages = held, pages
        self._metadata_limit_bytes = metadata_limit_bytes
        self._known: dict[ProjectName, ProjectOffers] = {}
        self._digests: dict[ProjectName, str] = {}

    async def list_offers(self, project: ProjectName) -> ProjectOffers:
        """Return the published files of a project. Raises ``TreeError``."""
        if project not in self._known:
            self._known[project] = await anyio.to_thread.run_sync(self.read, project)
        return self._known[project]

    async def digest(self, project: ProjectName) -> str:
        """Return the digest of a project's published page. Raises ``TreeError``."""
        if project in self._known:
            return self._known[project].digest
        if project in self._digests:
            return self._digests[project]

        def read() -> str:
            data = self._pages.read(project)
            return "" if data is None else hashlib.sha256(data).hexdigest()

        self._digests[project] = digest = await anyio.to_thread.run_sync(read)
        return digest

    def read(self, project: ProjectName) -> ProjectOffers:
        """Return the published files of a project; blocks. Raises ``TreeError``."""
        data = self._pages.read(project)
        if data is None:
            return ProjectOffers(project=project)
        try:
            page = parse_project_page(
                data, project=project, url=f"{_BASE}/{project}/", max_files=_MAX_FILES
            )
        except UpstreamError as exc:
            path = self._pages.shown(project)
            raise TreeError(path=path, problem=f"is damaged: {exc}") from exc
        offers = [Offer(index=TREE, file=file, held=sha256_of(file)) for file in page.files]
        digest = hashlib.sha256(data).hexdigest()
        return ProjectOffers(project=project, offers=tuple(offers), digest=digest, owner=TREE)

    async def metadata(self, project: ProjectName, offer: Offer) -> bytes:  # noqa: ARG002 - as Offers has it
        """Return the metadata in a published file's own bytes. Raises ``MetadataRefused``."""
        sha256, filename = sha256_of(offer.file), offer.file.filename
        try:
            if sha256 is None:
                raise MetadataUnreadable(f"{filename} is published without a sha256")
            return await anyio.to_thread.run_sync(
                read_held_metadata, self.held, sha256, filename, self._metadata_limit_bytes
            )
        except MetadataUnreadable as exc:
            raise MetadataRefused(Hidden(reason=Reason.BAD_FILE, detail=str(exc))) from exc

    async def build_requires(self, project: ProjectName, offer: Offer) -> tuple[str, ...]:  # noqa: ARG002 - as Offers has it
        """Return the build requirements of a published source distribution."""
        sha256, filename = sha256_of(offer.file), offer.file.filename
        try:
            if sha256 is None:
                raise MetadataUnreadable(f"{filename} is published without a sha256")
            data = await anyio.to_thread.run_sync(
                read_held_pyproject, self.held, sha256, filename, self._metadata_limit_bytes
            )
        except MetadataUnreadable as exc:
            raise MetadataRefused(Hidden(reason=Reason.BAD_FILE, detail=str(exc))) from exc
        return read_build_requires(data)


def sha256_of(file: ListedFile) -> Sha256 | None:
    """Return the digest by which a published file is known."""
    digits = dict(file.digests).get("sha256")
    return None if digits is None else Sha256(digits)
