"""Blobs in an object store, each with its metadata in a sidecar.

Invariants: a blob's key contains its own sha256; a put is whole or not there, and its answer means
that it is durable; a blob is put before its sidecar, and removed after it. The bytes come from
staging on the local disk, where they were hashed. A blob needs no fence, since its key is its
content; a delete does.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
from collections.abc import Callable, Collection, Sequence
from contextvars import copy_context
from functools import partial
from typing import BinaryIO, Final, Protocol, cast

import anyio
import msgspec

from mirror.core.files.summary import parse_summary
from mirror.core.names import Sha256
from mirror.errors import KeyRefused, TreeError
from mirror.tree.disk.failures import tree_errors
from mirror.tree.disk.places import remove_if_there
from mirror.tree.files import FileStore, PlacedBlob, RecordedBlob, RecordedFile
from mirror.tree.layout import METADATA_ENDING
from mirror.tree.objects.client import PART_BYTES, Conflict, ObjectClient, Put
from mirror.tree.objects.keys import FILE_HEADERS, blob_key, sidecar_key
from mirror.tree.staging import StagedFile
from mirror.tree.wheel import WheelError, extract_metadata

_LARGE_AT_ONCE: Final = 3
"""Maximum number of uploads in parts at a time, some parts of each in memory."""
_PLACED_AT_ONCE: Final = 40
"""Maximum number of files that are placed early at a time, each by a thread."""
_WHOLE_AT_ONCE: Final = 8
"""Maximum number of files from staging that are put whole at a time, each of them in memory."""


class WriteGate(Protocol):
    """Passes only those who may write to the store. Blocks; raises ``MirrorError``."""

    def enter(self) -> None:
        """Return once this process may write."""

    def enter_for_page(self) -> None:
        """Return once a page may be written."""

    def enter_for_delete(self) -> None:
        """Return once an object may be deleted."""

    def condition(self, etag: str) -> str | dict[str, str]:
        """Return the mode of a put over this ETag; an empty one: where nothing is."""


class ObjectFiles:
    """The blobs of a tree in an object store, and the files on their way there."""

    places_early = True
    """A file is placed as soon as it was fetched, many at a time: each put waits for its answer."""

    def __init__(
        self,
        local: FileStore,
        client: ObjectClient,
        gate: WriteGate,
        *,
        staging_limit_bytes: int | None = None,
    ) -> None:
        """``local``: has the files in staging; ``staging_limit_bytes``: the most that they may
        take.
        """
        self.staging_limit_bytes = staging_limit_bytes
        self.layout = local.layout
        self.metadata_limit_bytes = local.metadata_limit_bytes
        self._local, self._client, self._gate = local, client, gate
        self._staging = str(local.layout.staging)
        self._large = threading.BoundedSemaphore(_LARGE_AT_ONCE)
        self._whole = threading.BoundedSemaphore(_WHOLE_AT_ONCE)
        self._placing = anyio.Semaphore(_PLACED_AT_ONCE)

    # -- in staging, on the local disk -----------------------------------------------------

    async def open_staged(
        self, key: str, algorithms: Collection[str] = (), *, resume: bool = True
    ) -> StagedFile:
        """Return a sink for the file of this ``key`` (``FileStore.open_staged``)."""
        return await self._local.open_staged(key, algorithms, resume=resume)

    def leave_alone(self, key: str, *, writer: int | None) -> None:
        """Never continue or remove the staged file of ``key`` (``FileStore.leave_alone``)."""
        self._local.leave_alone(key, writer=writer)

    def sweep_staging(self, keep_keys: Collection[str] = ()) -> int:
        """Remove files that are neither open nor resumable (``FileStore.sweep_staging``)."""
        return self._local.sweep_staging(keep_keys)

    def find_kept(self) -> Callable[[str], bool]:
        """Return a function that finds partial files by their keys (``FileStore.find_kept``)."""
        return self._local.find_kept()

    def sweep_abandoned(self, *, older_than_s: float) -> int:
        """Remove unfinished files of killed processes (``FileStore.sweep_abandoned``)."""
        return self._local.sweep_abandoned(older_than_s=older_than_s)

    def free_bytes(self) -> int | None:
        """Return None: a store does not say how much room it has."""
        return None

    def disk_bytes(self) -> int | None:
        """Return None, likewise."""
        return None

    # -- in the store ------------------------------------------------------------------------

    def place(self, staged: StagedFile, filename: str) -> PlacedBlob:
        """Put a complete, checked file and a wheel's metadata; durable at once.

        Where its key is taken, a small file stays in staging until ``replace``: only the state
        knows whether the object is whole.
        """
        self._gate.enter()
        sha256, size = Sha256(staged.hexdigest("sha256")), staged.written
        own, problem = staged.read_metadata(filename, self.metadata_limit_bytes)
        aside = None
        try:
            has_sidecar = self._put_staged(staged, blob_key(sha256, filename), own)
        except Conflict:
            with tree_errors(self._staging):
                aside = staged.set_aside(self._staging)
        else:
            staged.forget()
            if own is not None and not has_sidecar:
                self._put_small(sidecar_key(sha256, filename), own)
        return PlacedBlob(
            sha256=sha256,
            filename=filename,
            size=size,
            metadata_sha256=None if own is None else _sha256(own),
            metadata_problem=problem,
            summary=None if own is None else parse_summary(own),
            aside=aside,
        )

    async def place_early(self, staged: StagedFile, filename: str) -> PlacedBlob:
        """Place a file (``place``), some at a time; the right to write was got before.

        A cancelled caller goes on once the put under way has ended.
        """
        work = partial(copy_context().run, self.place, staged, filename)
        async with self._placing:
            placing = asyncio.wrap_future(self._client.start(work))
            with anyio.CancelScope(shield=True):
                await placing
        return placing.result()

    def replace(self, placed: PlacedBlob, durable: RecordedBlob | None) -> PlacedBlob:
        """Put a file from staging over its key, unless the object there is known and whole."""
        assert placed.aside is not None
        self._gate.enter()
        try:
            with tree_errors(placed.aside), open(placed.aside, "rb") as file:
                own = self._metadata_of(file, placed) if placed.metadata_sha256 else None
                if durable is None:
                    file.seek(0)
                    self._put_file(blob_key(placed.sha256, placed.filename), file, placed.size)
        finally:
            with contextlib.suppress(OSError):  # the next sweep does
                remove_if_there(placed.aside)
        if own is not None:
            known = None if durable is None else durable.metadata_sha256
            self.place_sidecar(placed.sha256, placed.filename, own, recorded=known)
        return msgspec.structs.replace(placed, aside=None)

    def is_whole(self, placed: PlacedBlob, recorded: RecordedBlob) -> bool:
        """Return whether the object at the key of a placed file has its size, and its sidecar.

        The state knows it, so its bytes were verified when they were put.
        """
        if placed.aside is None:
            return True  # it was put just now
        found = self._client.head(blob_key(placed.sha256, placed.filename))
        if found is None or found.size != placed.size:
            return False
        return recorded.metadata_sha256 is None or self.has_sidecar(
            placed.sha256, placed.filename, recorded.metadata_sha256
        )

    def has_sidecar(self, sha256: Sha256, filename: str, digest: Sha256) -> bool:
        """Return whether a blob has the sidecar with this digest."""
        found = self._client.get(sidecar_key(sha256, filename))
        return found is not None and _sha256(found[0]) == digest

    def fails_alone(self, error: TreeError) -> bool:
        """Return whether one key is at fault, not the store."""
        return isinstance(error, KeyRefused)

    def place_sidecar(
        self, sha256: Sha256, filename: str, data: bytes, *, recorded: Sha256 | None = None
    ) -> Sha256:
        """Put a blob's sidecar and return its digest (``FileStore.place_sidecar``)."""
        self._gate.enter()
        digest = _sha256(data)
        if recorded != digest or not self.has_sidecar(sha256, filename, digest):
            self._put_small(sidecar_key(sha256, filename), data)
        return digest

    def hash_blob(self, sha256: Sha256, filename: str, algorithm: str) -> str | None:
        """Return another digest of a held blob, or None where it is missing."""
        hasher = hashlib.new(algorithm, usedforsecurity=False)
        with self._client.reading(blob_key(sha256, filename)) as found:
            if found is None:
                return None
            for block in found[1]:
                hasher.update(block)
        return hasher.hexdigest()

    def sync(self, placed: Sequence[PlacedBlob]) -> None:
        """Nothing to do: the answer of each put meant that it is durable."""

    def renew_if_whole(self, blob: RecordedFile) -> bool:
        """Return whether an unsure blob and its sidecar are whole."""
        sidecar = blob.metadata_sha256
        if self.hash_blob(blob.sha256, blob.filename, "sha256") != blob.sha256:
            return False
        return sidecar is None or self.has_sidecar(blob.sha256, blob.filename, sidecar)

    def rewrite_blob(self, sha256: Sha256, filename: str) -> None:
        """Nothing to do: each object of a store is durable."""

    def remove_blob(self, sha256: Sha256, filename: str) -> None:
        """Remove sidecar and blob; a missing one is no error."""
        self._gate.enter_for_delete()
        self._client.delete([sidecar_key(sha256, filename)])
        self._client.delete([blob_key(sha256, filename)])

    def remove_sidecar(self, sha256: Sha256, filename: str) -> bool:
        """Remove a blob's sidecar; return whether there was one."""
        key = sidecar_key(sha256, filename)
        if self._client.head(key) is None:
            return False
        self._gate.enter_for_delete()
        self._client.delete([key])
        return True

    def _put_staged(self, staged: StagedFile, key: str, own: bytes | None) -> bool:
        """Put a file unless its key is taken; a large one without this condition. A small one's
        metadata is put in the same call: return whether it was.

        A file that has room in staging, which ends with its download, is put over a taken key at
        once, with the verified bytes.
        """
        mode = self._gate.condition("")
        if staged.in_memory == staged.written:
            with staged.open_source() as source:
                data = cast("bytes | bytearray", source)
                puts = [Put(key=key, data=data, attributes=FILE_HEADERS, mode=mode)]
                if own is not None:
                    name = key + METADATA_ENDING
                    puts.append(Put(key=name, data=own, attributes=FILE_HEADERS))
                deadline_s = self._client.stall_timeout_s
                return len(self._client.put_in_turn(puts, deadline_s=deadline_s)) > 1
        with staged.open_source() as source:
            file = cast("BinaryIO", source)
            try:
                self._put_file(key, file, staged.written, mode)
            except Conflict:
                self._put_file(key, file, staged.written)
        return False

    def _put_file(
        self, key: str, file: BinaryIO, size: int, mode: str | dict[str, str] = "overwrite"
    ) -> None:
        file.seek(0)
        if size <= PART_BYTES:
            with self._whole:
                self._put_small(key, file.read(size + 1), mode)
            return
        with self._large:
            self._client.put_file(key, file, size, attributes=FILE_HEADERS)

    def _put_small(
        self, key: str, data: bytes | bytearray, mode: str | dict[str, str] = "overwrite"
    ) -> None:
        deadline_s = self._client.stall_timeout_s
        self._client.put(key, data, attributes=FILE_HEADERS, mode=mode, deadline_s=deadline_s)

    def _metadata_of(self, file: BinaryIO, placed: PlacedBlob) -> bytes:
        try:
            return extract_metadata(file, placed.filename, self.metadata_limit_bytes)
        except WheelError as exc:  # it was read a moment ago
            problem = f"it has changed while it was placed: {exc}"
            raise TreeError(path=placed.aside or "", problem=problem) from exc


def _sha256(data: bytes) -> Sha256:
    return Sha256(hashlib.sha256(data).hexdigest())
