"""A file while it is received: counted and hashed as it arrives, resumed after an interruption.

A body of up to 1 MiB stays in memory until it is placed: most wheels never touch ``staging/``. A
larger one is hashed and written in worker threads, a block of 1 MiB at a time, so that the event
loop is free and memory stays bounded. In a worker process, which does nothing else, it is written
immediately, in smaller pieces that are still in the processor's cache.

Invariants: only bytes that were hashed count as written; a partial file is hashed again and copied
to a new file before it is continued; a kept file has its strong validator in its record, so that
the server notices a changed file, else the digest does.
"""

# Paths are plain strings: this runs for each file, and building a Path costs more than the call.

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Collection
from typing import BinaryIO, Final, Protocol

import anyio
import anyio.to_thread
import msgspec

from mirror.errors import DiskFull, TreeError
from mirror.tree.disk.failures import tree_errors
from mirror.tree.disk.places import remove_if_there
from mirror.tree.disk.writing import (
    Buffer,
    rename_new,
    replace_file,
    temporary_path,
    write_at,
    write_new,
)
from mirror.tree.layout import PRIVATE_FILE, PUBLIC_FILE
from mirror.tree.reserve import Reserve
from mirror.tree.wheel import WheelError, extract_metadata

BLOCK_BYTES: Final = 1024 * 1024
"""Maximum size of the bytes in memory, and of the piece that a thread takes."""

_PIECE_BYTES: Final = 256 * 1024
"""The piece that is hashed and written where no thread takes it."""

_SMALL_BYTES: Final = 32 * 1024
"""Smaller chunks are joined immediately: a list of many costs more memory than their bytes."""

PART_ENDING: Final = ".part"
RECORD_ENDING: Final = ".json"

_OPEN: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
_LONGEST_RECORD: Final = 64 * 1024


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    """The record stored with a partial file."""

    key: str
    etag: str | None = None


class Closed(Protocol):
    """Called once when a staged file ends, with whether a partial file was kept."""

    def __call__(self, *, kept: bool) -> None:
        """Handle the end."""


class StagedFile:
    """A sink for one body.

    It ends by ``FileStore.place``, ``keep`` or ``discard``; each may raise ``TreeError``.
    """

    def __init__(
        self,
        path: str,
        key: str,
        algorithms: Collection[str],
        reserve: Reserve,
        closed: Closed,
        *,
        in_threads: bool = True,
        in_place: bool = False,
    ) -> None:
        """``path``: in staging, without ending. ``in_threads``: ``write`` never blocks.

        ``in_place``: a kept file is continued, not copied, since nothing relies on its sync.
        """
        self.etag: str | None = None
        """A strong validator of the body, for ``If-Range``; set it before the first ``write``."""
        self._recorded_etag: str | None = None
        self._path = path
        self._part = path + PART_ENDING
        self._key = key
        self._algorithms = frozenset(algorithms) | {"sha256"}
        self._reserve = reserve
        self._is_unlisted = False
        self._announced: int | None = None
        self._closed: Closed | None = closed
        self._in_threads, self._in_place = in_threads, in_place
        self._hashers = self._new_hashers()
        # not joined: copying a large file costs more than hashing it
        self._pending: list[bytes | bytearray] = []
        self._pending_bytes = 0
        self._hashed = 0  # of the pending bytes
        self._flushed = 0
        self._descriptor: int | None = None

    @property
    def written(self) -> int:
        """How many bytes are here, from the first one on."""
        return self._flushed + self._pending_bytes

    @property
    def in_memory(self) -> int:
        """How many of them are in memory, not in staging."""
        return self._pending_bytes

    async def expect_unlisted(self, announced_bytes: int | None) -> None:
        """Record that only the disk bounds this body, and its announced length.

        Raises ``NoRoom``.
        """
        self._is_unlisted, self._announced = True, announced_bytes
        if announced_bytes is not None and announced_bytes > BLOCK_BYTES:
            await anyio.to_thread.run_sync(
                self._reserve.check_unlisted, self.written, announced_bytes
            )

    async def write(self, chunk: bytes) -> None:
        """Write the next bytes; waits for a thread once for each block, or does its work."""
        if self._pending and len(chunk) < _SMALL_BYTES:
            self._join(chunk)
        else:
            self._pending.append(chunk)
        self._pending_bytes += len(chunk)
        if self._in_threads:
            if self._pending_bytes > BLOCK_BYTES:
                await anyio.to_thread.run_sync(self.flush)
        elif self._pending_bytes > (BLOCK_BYTES if self._descriptor is None else _PIECE_BYTES):
            self.flush()

    async def restart(self) -> None:
        """Forget all bytes and the validator: the body is received again from its beginning."""
        self._drop_pending()
        self._flushed = 0
        self._hashers = self._new_hashers()
        self.etag = None
        if self._descriptor is not None:
            await anyio.to_thread.run_sync(self._truncate)

    def hexdigest(self, algorithm: str) -> str:
        """Return the digest of the written bytes, in hexadecimal digits; at most one block is
        hashed here.
        """
        self._hash_pending()
        return self._hashers[algorithm].hexdigest()

    async def keep(self) -> None:
        """Leave the bytes for a later resume; where the disk refuses even that, discard them."""
        if not self.written:
            await self.discard()
        elif self._closed:
            # Also after a cancelled download, the usual reason to keep a file.
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._keep)

    async def discard(self) -> None:
        """Remove the bytes. Does nothing after ``place``, ``keep`` or ``discard``."""
        if self._descriptor is None:
            self._close(kept=False)
            return
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._remove)

    # The methods below block: for FileStore, in threads.

    def load(self) -> None:
        """Continue the partial file of this key, if there is one: hash it again, and copy it.

        On the way to a disk the kept file itself is never continued: after a failed sync its bytes
        may exist in memory only, and the next sync would report no error. Where the disk has no
        room for both, the download starts over.
        """
        with tree_errors(self._part):
            try:
                kept = os.open(self._part, _OPEN)
            except FileNotFoundError:
                return
            if self._in_place:
                self._descriptor = kept
                self._hash_kept(kept)
                self.etag = self._recorded_etag = self._read_etag()
                return
            try:
                self._copy(kept)
            except DiskFull:
                self._start_over()
                self.clear()
                return
            finally:
                os.close(kept)
            self.etag = self._recorded_etag = self._read_etag()

    def _hash_kept(self, kept: int) -> None:
        while block := os.pread(kept, BLOCK_BYTES, self._flushed):
            self._update(block)
            self._flushed += len(block)

    def _copy(self, kept: int) -> None:
        """Copy the kept bytes to a new file, and replace the old file by it."""
        temporary = temporary_path(os.path.dirname(self._path))
        self._descriptor = os.open(temporary, _OPEN | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
        try:
            with tree_errors(self._part):
                while block := os.pread(kept, BLOCK_BYTES, self._flushed):
                    self._update(block)
                    with self._reserve.writing(len(block)):
                        write_at(self._descriptor, block, self._flushed)
                    self._flushed += len(block)
                os.rename(temporary, self._part)
        except BaseException:
            remove_if_there(temporary)
            raise

    def _start_over(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        self._flushed, self._hashers = 0, self._new_hashers()
        if descriptor is not None:
            os.close(descriptor)

    def clear(self) -> None:
        """Remove the partial file of this key."""
        with tree_errors(self._part):
            remove_if_there(self._part)
            remove_if_there(self._path + RECORD_ENDING)

    def flush(self) -> None:
        """Write the bytes in memory to staging."""
        if not self._pending:
            return
        if self._is_unlisted:
            self._reserve.check_unlisted(self.written, self._announced)
        with self._reserve.writing(self._pending_bytes), tree_errors(self._part):
            if self._descriptor is None:
                self._descriptor = self._create()
            # Already here, not only in keep: a killed process runs no keep.
            if self.etag != self._recorded_etag:
                self._write_record()
            # At its offset, so that a block that the disk took only in part can be written again.
            offset = self._flushed
            for piece in self._pending:
                write_at(self._descriptor, piece, offset)
                offset += len(piece)
        self._hash_pending()
        self._flushed = offset
        self._drop_pending()

    def open_source(self) -> contextlib.AbstractContextManager[Buffer | BinaryIO]:
        """Return all bytes, or a file to read them from, for reading."""
        if self._descriptor is None:
            return contextlib.nullcontext(self._joined())
        self.flush()
        return open(self._descriptor, "rb", closefd=False)

    def read_metadata(self, filename: str, limit_bytes: int) -> tuple[bytes | None, str | None]:
        """Return a wheel's own METADATA, or the reason why it has none; of another file neither."""
        if not filename.endswith(".whl"):
            return None, None
        try:
            with self.open_source() as source:
                return extract_metadata(source, filename, limit_bytes), None
        except WheelError as exc:
            return None, str(exc)

    def move_to(self, path: str, staging: str, *, sets_mode: bool = True) -> str | None:
        """Put the file in its place and close it. Raises ``OSError``, ``TreeError``.

        Where its path is taken, the file stays in staging: return its path there.
        """
        aside = temporary_path(staging)
        if self._descriptor is None:
            with self._reserve.writing(self._pending_bytes):
                write_new(aside, self._pending, PUBLIC_FILE, sets_mode=sets_mode)
            try:
                is_placed = rename_new(aside, path)
            except OSError:
                remove_if_there(aside)
                raise
        else:
            self.flush()
            os.ftruncate(self._descriptor, self._flushed)
            os.fchmod(self._descriptor, PUBLIC_FILE)
            is_placed = rename_new(self._part, path)
            if not is_placed:
                os.rename(self._part, aside)
            remove_if_there(self._path + RECORD_ENDING)
        self._close(kept=False)
        return None if is_placed else aside

    def write_copy(self, path: str) -> None:
        """Write the bytes in memory, which are all, to a new file. Raises ``OSError``."""
        write_new(path, self._pending, PUBLIC_FILE, sets_mode=False)

    def close_placed(self) -> None:
        """Close the file: a copy of its bytes is in its place."""
        self._close(kept=False)

    def set_aside(self, staging: str) -> str:
        """Leave the file in staging under a name of its own, close it, and return its path there.

        Raises ``OSError``, ``TreeError``.
        """
        aside = temporary_path(staging)
        if self._descriptor is None:
            with self._reserve.writing(self._pending_bytes):
                write_new(aside, self._pending, PRIVATE_FILE)
        else:
            self.flush()
            os.ftruncate(self._descriptor, self._flushed)
            os.rename(self._part, aside)
            remove_if_there(self._path + RECORD_ENDING)
        self._close(kept=False)
        return aside

    def forget(self) -> None:
        """Remove the bytes and close: they are held already, or so few that they are fetched
        again.
        """
        if self._descriptor is None:
            self._close(kept=False)
        else:
            self._remove()

    def _new_hashers(self) -> dict[str, hashlib._Hash]:
        return {name: hashlib.new(name, usedforsecurity=False) for name in self._algorithms}

    def _update(self, data: Buffer) -> None:
        for hasher in self._hashers.values():
            hasher.update(data)

    def _hash_pending(self) -> None:
        start = 0
        for piece in self._pending:
            if self._hashed < start + len(piece):
                with memoryview(piece) as view, view[max(0, self._hashed - start) :] as rest:
                    self._update(rest)
            start += len(piece)
        self._hashed = start

    def _join(self, chunk: bytes) -> None:
        last = self._pending[-1]
        if not isinstance(last, bytearray) and len(last) < _SMALL_BYTES:
            last = self._pending[-1] = bytearray(last)
        if isinstance(last, bytearray):
            last += chunk
        else:
            self._pending.append(bytearray(chunk))

    def _joined(self) -> bytes | bytearray:
        if len(self._pending) != 1:
            self._pending = [b"".join(self._pending)]
        return self._pending[0]

    def _drop_pending(self) -> None:
        self._pending.clear()
        self._pending_bytes = self._hashed = 0

    def _create(self) -> int:
        flags = _OPEN | os.O_CREAT | os.O_EXCL
        try:
            descriptor = os.open(self._part, flags, PRIVATE_FILE)
        except FileExistsError:
            os.unlink(self._part)
            descriptor = os.open(self._part, flags, PRIVATE_FILE)
        return descriptor

    def _write_record(self) -> None:
        record = msgspec.json.encode(_Record(key=self._key, etag=self.etag))
        replace_file(
            self._path + RECORD_ENDING,
            record,
            mode=PRIVATE_FILE,
            tmp_dir=os.path.dirname(self._path),
        )
        self._recorded_etag = self.etag

    def _read_etag(self) -> str | None:
        try:
            with open(self._path + RECORD_ENDING, "rb") as file:
                record = msgspec.json.decode(file.read(_LONGEST_RECORD), type=_Record)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        return record.etag if record.key == self._key else None

    def _truncate(self) -> None:
        with tree_errors(self._part):
            assert self._descriptor is not None
            os.ftruncate(self._descriptor, 0)
            remove_if_there(self._path + RECORD_ENDING)
            self._recorded_etag = None

    def _keep(self) -> None:
        try:
            with tree_errors(self._part):
                self.flush()
                assert self._descriptor is not None
                os.ftruncate(self._descriptor, self._flushed)
                self._write_record()
        except TreeError:
            # The failure that made the caller keep the file is reported already.
            with contextlib.suppress(TreeError):
                self._remove()
        else:
            self._close(kept=True)

    def _remove(self) -> None:
        try:
            self.clear()
        finally:
            self._close(kept=False)

    def _close(self, *, kept: bool) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
        self._drop_pending()
        closed, self._closed = self._closed, None
        if closed:
            closed(kept=kept)
