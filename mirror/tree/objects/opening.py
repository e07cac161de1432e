"""Opens held files for reading, wherever the tree lies: on the disk, or in an object store.

A file of a store is read into memory or a temporary file first, since its readers seek.
"""

from __future__ import annotations

import io
import os
import tempfile
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

from mirror.core.names import Sha256
from mirror.tree.disk.places import open_plain
from mirror.tree.layout import Layout
from mirror.tree.objects.keys import blob_key, sidecar_key

if TYPE_CHECKING:
    from mirror.tree.objects.client import ObjectClient

_MEMORY_BYTES: Final = 8 << 20


class TreeOpener(Protocol):
    """Opens files by their digests. Blocking; raises ``OSError``, ``TreeError``."""

    def open_blob(self, sha256: Sha256, filename: str) -> BinaryIO:
        """Open a blob. Raises ``FileNotFoundError`` where it is missing."""

    def open_sidecar(self, sha256: Sha256, filename: str) -> BinaryIO:
        """Open a blob's core metadata. Raises ``FileNotFoundError`` where there is none."""


class DiskOpener:
    """Opens the files of a tree on the disk; a link is refused."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def open_blob(self, sha256: Sha256, filename: str) -> BinaryIO:
        """Open a blob."""
        return os.fdopen(open_plain(self._layout.blob_path(sha256, filename)), "rb")

    def open_sidecar(self, sha256: Sha256, filename: str) -> BinaryIO:
        """Open a blob's core metadata."""
        return os.fdopen(open_plain(self._layout.sidecar_path(sha256, filename)), "rb")


class StoreOpener:
    """Opens the objects of a tree in an object store."""

    def __init__(self, client: ObjectClient) -> None:
        self._client = client

    def open_blob(self, sha256: Sha256, filename: str) -> BinaryIO:
        """Open a blob."""
        return self._open(blob_key(sha256, filename))

    def open_sidecar(self, sha256: Sha256, filename: str) -> BinaryIO:
        """Open a blob's core metadata."""
        return self._open(sidecar_key(sha256, filename))

    def _open(self, key: str) -> BinaryIO:
        with self._client.reading(key) as found:
            if found is None:
                raise FileNotFoundError(key)
            status, blocks = found
            if status.size <= _MEMORY_BYTES:
                return io.BytesIO(b"".join(blocks))
            file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
            try:
                for block in blocks:
                    file.write(block)
                file.seek(0)
            except BaseException:
                file.close()
                raise
            return file


def tree_opener(layout: Layout, client: ObjectClient | None) -> TreeOpener:
    """Return the reader of a tree; ``client``: None where it lies on the disk."""
    return DiskOpener(layout) if client is None else StoreOpener(client)
