"""The events that the recorder takes: what became of a project and of each of its files."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mirror.core.diff import Fetch, FetchMetadata, Rehash
from mirror.core.names import Sha256
from mirror.state.missing.ledger import Failure
from mirror.sync.work import ProjectWork
from mirror.tree.files import PlacedBlob
from mirror.tree.staging import StagedFile


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """A project's work begins: changes without a download are recorded immediately, a yank first of
    all.
    """

    work: ProjectWork


class FileStaged(msgspec.Struct, frozen=True, kw_only=True):
    """A file is whole and checked. ``metadata``: of a file that is no wheel."""

    work: ProjectWork
    fetch: Fetch
    staged: StagedFile
    metadata: bytes | None = None

    @property
    def in_memory(self) -> int:
        """How many bytes it takes in memory."""
        return self.staged.in_memory + len(self.metadata or b"")


class BlobPlaced(msgspec.Struct, frozen=True, kw_only=True):
    """A worker process has placed a file; it is not durable yet.

    ``metadata``: of a file that is no wheel.
    """

    work: ProjectWork
    fetch: Fetch
    blob: PlacedBlob
    metadata: bytes | None = None


class BlobReused(msgspec.Struct, frozen=True, kw_only=True):
    """A wanted file is held already as a blob."""

    work: ProjectWork
    fetch: Fetch
    size: int
    metadata_sha256: Sha256 | None
    """A wheel's own; for another file the stored one, if this page lists it."""


class DigestCompared(msgspec.Struct, frozen=True, kw_only=True):
    """A digest that appeared later was compared with the held bytes."""

    work: ProjectWork
    rehash: Rehash
    is_same: bool = True
    """False: the digest is of other bytes, which ``on-replace = "keep"`` refuses."""


class MetadataFetched(msgspec.Struct, frozen=True, kw_only=True):
    """The metadata of a held file was requested; None where it can't be fetched."""

    work: ProjectWork
    wanted: FetchMetadata
    metadata: bytes | None


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """A file could not be fetched."""

    work: ProjectWork
    failure: Failure


Event = Begun | FileStaged | BlobPlaced | BlobReused | DigestCompared | MetadataFetched | Failed


def bytes_of(event: Event) -> int:
    """Return how many bytes an event takes in memory."""
    match event:
        case FileStaged():
            return event.in_memory
        case BlobPlaced() | MetadataFetched():
            return len(event.metadata or b"")
    return 0


async def put_aside(events: Sequence[Event]) -> None:
    """Keep finished but unplaced files in staging, for the next cycle; no file stays open."""
    for event in events:
        if isinstance(event, FileStaged):
            await event.staged.keep()
