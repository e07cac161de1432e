"""The two ends of a copy: pages, files, snapshots and channels of a tree on a disk or in a store.

Methods block, are called in threads, and raise ``TreeError``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Protocol

import msgspec

from mirror.core.names import ProjectName, Sha256

LIVE = ""
"""The scope of the live pages; each other one is the name of a snapshot."""


class PageForms(msgspec.Struct, frozen=True, kw_only=True):
    """A page in both forms, with the links that it has on a disk."""

    html: bytes
    json: bytes


class FileKey(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A blob, or its metadata."""

    sha256: Sha256
    filename: str
    is_metadata: bool = False

    @property
    def place(self) -> str:
        """Its path below ``public``, and its key in a store."""
        digits = self.sha256
        ending = ".metadata" if self.is_metadata else ""
        return f"files/{digits[:2]}/{digits[2:4]}/{digits}/{self.filename}{ending}"


class CopySource(Protocol):
    """A tree that is read."""

    @property
    def address(self) -> str:
        """The root or the address of the store."""

    def check(self) -> None:
        """Raise ``TreeError`` where there is no tree."""

    def snapshots(self) -> list[str]:
        """Return the names of the snapshots, sorted."""

    def channels(self) -> dict[str, str]:
        """Return the snapshot of each channel."""

    def page(self, scope: str, project: ProjectName | None) -> PageForms | None:
        """Return a project's page, or the root page; None where it is missing or has one form
        only.
        """

    def open_file(
        self, key: FileKey
    ) -> contextlib.AbstractContextManager[tuple[int, Iterator[bytes]] | None]:
        """Yield the size of a file and its bytes; None where it is missing."""


class CopyTarget(Protocol):
    """A tree that is written."""

    @property
    def address(self) -> str:
        """The root or the address of the store."""

    def begin(self, source: str) -> bool:
        """Record that a copy of ``source`` goes on here; return whether an earlier one did.

        Raises ``TreeError`` where something else lies here.
        """

    def present(self, outer: str) -> dict[str, int]:
        """Return place -> size of the files below ``files/<outer>`` that an earlier run has
        copied.
        """

    def put_file(
        self, key: FileKey, size: int, blocks: Iterable[bytes], digest: str | None
    ) -> bool:
        """Write a file durably; return False, with nothing written, where its bytes are not of this
        size and ``digest`` (None: unknown).
        """

    def put_page(self, scope: str, project: ProjectName | None, page: PageForms) -> None:
        """Write a page; each file that it lists is here."""

    def put_channel(self, name: str, snapshot: str) -> None:
        """Let a channel show a snapshot."""

    def end(self) -> None:
        """Make everything durable and record that the copy is complete."""
