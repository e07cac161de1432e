"""The one interface of a tree, for all that writes to it: on a disk, or in an object store.

``TreeFiles`` are ``tree.files.FileStore`` and ``tree.objects.files.ObjectFiles``, ``TreePages`` are
``tree.pages.PageStore`` and ``tree.objects.pages.ObjectPages``. Their methods are described there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol

from mirror.core.names import ProjectName, Sha256
from mirror.core.pages.render_pages import RenderedPage
from mirror.errors import TreeError
from mirror.tree.disk.writing import Buffer
from mirror.tree.files import PlacedBlob, RecordedBlob, RecordedFile
from mirror.tree.layout import Layout
from mirror.tree.staging import StagedFile


class TreeFiles(Protocol):
    """Blobs and the files on their way there. Methods block, except those that are async."""

    layout: Layout
    metadata_limit_bytes: int
    staging_limit_bytes: int | None
    """The most that staging may take; None: only the disk limits it."""

    @property
    def places_early(self) -> bool:
        """Whether a file is placed as soon as it was fetched, not in a batch."""

    async def open_staged(
        self, key: str, algorithms: Collection[str] = (), *, resume: bool = True
    ) -> StagedFile:
        """Return a sink for a file."""

    def leave_alone(self, key: str, *, writer: int | None) -> None:
        """Never continue or remove a staged file."""

    def sweep_staging(self, keep_keys: Collection[str] = ()) -> int:
        """Remove files that are neither open nor resumable."""

    def find_kept(self) -> Callable[[str], bool]:
        """Return a function that finds partial files by their keys."""

    def sweep_abandoned(self, *, older_than_s: float) -> int:
        """Remove unfinished files of killed processes."""

    def free_bytes(self) -> int | None:
        """Return how much may still be written; None where it is unknown."""

    def disk_bytes(self) -> int | None:
        """Return the size of the whole place; None where it is unknown."""

    def place(self, staged: StagedFile, filename: str) -> PlacedBlob:
        """Place a file, unless its place is taken."""

    async def place_early(self, staged: StagedFile, filename: str) -> PlacedBlob:
        """Place a file while others are fetched; the right to write was got before."""

    def replace(self, placed: PlacedBlob, durable: RecordedBlob | None) -> PlacedBlob:
        """Place a file over a taken place, unless the blob there is durable."""

    def is_whole(self, placed: PlacedBlob, recorded: RecordedBlob) -> bool:
        """Return whether a recorded blob is as the state records it."""

    def has_sidecar(self, sha256: Sha256, filename: str, digest: Sha256) -> bool:
        """Return whether a blob has the sidecar with this digest."""

    def fails_alone(self, error: TreeError) -> bool:
        """Return whether one blob is at fault, not the tree."""

    def place_sidecar(
        self, sha256: Sha256, filename: str, data: bytes, *, recorded: Sha256 | None = None
    ) -> Sha256:
        """Place a blob's sidecar."""

    def hash_blob(self, sha256: Sha256, filename: str, algorithm: str) -> str | None:
        """Return another digest of a held blob."""

    def sync(self, placed: Sequence[PlacedBlob]) -> None:
        """Make a batch durable."""

    def renew_if_whole(self, blob: RecordedFile) -> bool:
        """Make an unsure blob durable, if it is whole."""

    def rewrite_blob(self, sha256: Sha256, filename: str) -> None:
        """Make a blob durable that the state does not record."""

    def remove_blob(self, sha256: Sha256, filename: str) -> None:
        """Remove sidecar and blob."""

    def remove_sidecar(self, sha256: Sha256, filename: str) -> bool:
        """Remove a sidecar; return whether there was one."""


class TreePages(Protocol):
    """The pages. Methods block."""

    def write_project(
        self, name: ProjectName, page: RenderedPage, *, is_durable: bool = True
    ) -> None:
        """Replace a project's pages."""

    def remove_project(self, name: ProjectName) -> None:
        """Remove a project's pages."""

    def has_project(self, name: ProjectName) -> bool:
        """Return whether all pages of a project are there."""

    def write_root(self, html: Iterable[Buffer], json: Iterable[Buffer]) -> None:
        """Replace the root pages."""

    def root_serial(self) -> int | None:
        """Return the serial of the root page."""

    def sync(self, names: Collection[ProjectName], *, root: bool = True) -> None:
        """Make pages durable."""

    def fails_alone(self, name: ProjectName, error: TreeError) -> bool:
        """Return whether one project's pages are at fault, not the tree."""

    def run_each(
        self, steps: Mapping[ProjectName, Callable[[], None]]
    ) -> dict[ProjectName, TreeError]:
        """Do something for each project; return the errors of single projects."""


class TreeWriter(Protocol):
    """The right to write to a tree."""

    async def begin(self) -> None:
        """Get it, unless it was got already. Raises ``LockHeld``, ``TreeError``, ``StateError``."""

    async def end(self) -> None:
        """Give it back."""

    def enter_for_page(self) -> None:
        """See, in a thread, that a page may be written now."""

    def enter_for_delete(self) -> None:
        """See, in a thread, that an object may be deleted now."""


class DiskWriter:
    """On a disk the lock of the root is enough, which is held already."""

    async def begin(self) -> None:
        """Nothing to do."""

    async def end(self) -> None:
        """Nothing to do."""

    def enter_for_page(self) -> None:
        """Nothing to do."""

    def enter_for_delete(self) -> None:
        """Nothing to do."""
