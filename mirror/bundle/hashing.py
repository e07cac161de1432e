"""Files that are hashed from the bytes in hand, while they are written."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import msgspec

from mirror.tree.disk.failures import tree_errors

_CHUNK = 1 << 20


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was written."""

    name: str
    size: int
    sha256: str


class HashingFile:
    """An open new file that is written once from start to end, in large pieces, hashed while they
    are in hand.
    """

    def __init__(
        self, path: Path, file: BinaryIO, on_write: Callable[[int], None] | None = None
    ) -> None:
        self._path, self._file, self._on_write = path, file, on_write
        self._buffer = bytearray()
        self._hash = hashlib.sha256()
        self._hashing: Future[None] | None = None
        self._size = 0
        self._pool = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        """Begin to write."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write the buffered rest and make it durable, unless it failed; close the file."""
        try:
            if kind is None:
                self._flush()
                if self._hashing is not None:
                    self._hashing.result()
                with tree_errors(self._path):
                    os.fsync(self._file.fileno())
        finally:
            self._pool.shutdown()
            with tree_errors(self._path):
                self._file.close()

    def write(self, data: bytes) -> None:
        """Append some bytes. Raises ``TreeError``."""
        self._buffer += data
        if len(self._buffer) >= _CHUNK:
            self._flush()

    def written(self) -> Written:
        """Return the size and digest of the written file; only after the end."""
        return Written(name=self._path.name, size=self._size, sha256=self._hash.hexdigest())

    def _flush(self) -> None:
        data, self._buffer = self._buffer, bytearray()
        if self._hashing is not None:
            self._hashing.result()
        self._hashing = self._pool.submit(self._hash.update, data)
        with tree_errors(self._path), memoryview(data) as view:
            written = 0
            while written < len(view):
                written += self._file.write(view[written:]) or 0
        self._size += len(data)
        if self._on_write is not None:
            self._on_write(len(data))
