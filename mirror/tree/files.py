"""Blobs on the disk: placed whole or not at all, each with its metadata in a sidecar.

Invariants: a blob's path contains its own sha256, and it is written before its sidecar; removal
goes in the reverse order; a sidecar always agrees with its wheel; a link planted in the tree is
never followed; the reserve of the disk is kept before bytes are written. Nothing is durable before
``sync``.

A blob that the state records is durable and is not written again while it is good. Any other file
at a blob's path is left from a failed sync or a killed process: its bytes may exist in memory only,
and a later sync would report no error. It is replaced by a new file, however good its bytes look.
"""

# Paths are plain strings: this runs for each file, and building a Path costs more than the call.

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Protocol

import anyio.to_thread
import msgspec

from mirror.core.files.summary import parse_summary
from mirror.core.names import Sha256
from mirror.errors import DiskFull, TreeError
from mirror.tree.disk.durability import (
    FEW,
    reports_failed_syncs,
    sync_directory,
    sync_file,
    sync_file_system,
)
from mirror.tree.disk.failures import disk_space, free_bytes, tree_errors
from mirror.tree.disk.places import (
    check_directory,
    has_default_acl,
    make_directory,
    open_plain,
    remove_if_there,
)
from mirror.tree.disk.writing import replace_file, temporary_path, write_new
from mirror.tree.layout import (
    METADATA_ENDING,
    PUBLIC_DIRECTORY,
    PUBLIC_FILE,
    CheckedDirectories,
    Layout,
)
from mirror.tree.partial_files import PartialFiles
from mirror.tree.reserve import Reserve
from mirror.tree.staging import BLOCK_BYTES, StagedFile
from mirror.tree.wheel import WheelError, extract_metadata


class PlacedBlob(msgspec.Struct, frozen=True, kw_only=True):
    """A blob in its place."""

    sha256: Sha256
    filename: str
    size: int
    metadata_sha256: Sha256 | None = None
    """Of the sidecar, or None where there is none."""
    metadata_problem: str | None = None
    """Why a wheel has no sidecar."""
    summary: str | None = None
    """Of a wheel's metadata."""
    aside: str | None = None
    """Its path in staging, without its sidecar, where its own path is taken
    (``FileStore.replace``).
    """


class RecordedBlob(Protocol):
    """The state's record of a blob, which is durable."""

    @property
    def metadata_sha256(self) -> Sha256 | None:
        """Of its sidecar, which is durable too."""


class RecordedFile(RecordedBlob, Protocol):
    """All that the state records of a blob's files."""

    @property
    def sha256(self) -> Sha256:
        """Of its bytes, as its path has it."""

    @property
    def filename(self) -> str:
        """The last part of its path."""

    @property
    def size(self) -> int:
        """How many bytes it has."""


class FileStore:
    """The blobs below ``public/files`` and the files on their way there.

    Methods block and raise ``TreeError``, except ``open_staged``, which is async.
    """

    staging_limit_bytes: int | None = None
    """Only the disk limits staging, which lies on the tree's own file system."""
    places_early = False
    """Files are placed in batches, which share the cost of a sync."""

    def __init__(
        self,
        layout: Layout,
        *,
        metadata_limit_bytes: int,
        disk_reserve_bytes: int,
        pending_bytes: memoryview | None = None,
        slot: int = 0,
        in_threads: bool = True,
        has_no_umask: bool = False,
        resumes_in_place: bool = False,
    ) -> None:
        """``pending_bytes`` and ``slot``: of all processes that write here (``Reserve``);
        ``in_threads`` and ``resumes_in_place``: see ``StagedFile``.

        ``has_no_umask``: this process made its umask 0, so that its files have their mode at once:
        two calls of the system less for each file and directory. An ACL of ``files`` for new files,
        which those made below it take over, would change modes too; then they are set.
        """
        self._sets_mode = not has_no_umask or has_default_acl(layout.files)
        self._checked = None if self._sets_mode else CheckedDirectories(layout)
        self.layout = layout
        self._staging = str(layout.staging)
        self.metadata_limit_bytes = metadata_limit_bytes
        self._reserve = Reserve(
            str(layout.files), disk_reserve_bytes, pending_bytes=pending_bytes, slot=slot
        )
        self._partial = PartialFiles(
            self._staging, self._reserve, in_threads=in_threads, resumes_in_place=resumes_in_place
        )

    async def open_staged(
        self, key: str, algorithms: Collection[str] = (), *, resume: bool = True
    ) -> StagedFile:
        """Return a sink for the file of this ``key``, as ``PartialFiles`` does."""
        return await self._partial.open_staged(key, algorithms, resume=resume)

    def leave_alone(self, key: str, *, writer: int | None) -> None:
        """Never continue or remove the staged file of ``key``, to which ``writer`` may write."""
        self._partial.leave_alone(key, writer=writer)

    def place(self, staged: StagedFile, filename: str) -> PlacedBlob:
        """Move a complete, checked file to its place, and write a wheel's metadata next to it; not
        durable before ``sync``.

        Where its path is taken, the file stays in staging until ``replace``: only the state knows
        which of the two is durable.
        """
        sha256 = Sha256(staged.hexdigest("sha256"))
        size = staged.written
        path = self.layout.blob_path(sha256, filename)
        with tree_errors(path):
            own, problem = staged.read_metadata(filename, self.metadata_limit_bytes)
            aside = None
            is_placed = self._checked is not None and self._place_directory(
                staged, sha256, filename, own, self._checked
            )
            if not is_placed:
                self._make_directories(sha256)
                aside = staged.move_to(path, self._staging, sets_mode=self._sets_mode)
        if own is not None and aside is None and not is_placed:
            self._write_sidecar(sha256, filename, own)
        digest = None if own is None else Sha256(hashlib.sha256(own).hexdigest())
        return PlacedBlob(
            sha256=sha256,
            filename=filename,
            size=size,
            metadata_sha256=digest,
            metadata_problem=problem,
            summary=None if own is None else parse_summary(own),
            aside=aside,
        )

    async def place_early(self, staged: StagedFile, filename: str) -> PlacedBlob:
        """Place a file in a thread (``place``)."""
        return await anyio.to_thread.run_sync(self.place, staged, filename)

    def replace(self, placed: PlacedBlob, durable: RecordedBlob | None) -> PlacedBlob:
        """Move a file from staging to its path, unless the blob there is durable and whole.

        ``durable``: the state's record of a blob for which ``is_whole``, else None. Not durable
        before ``sync``.
        """
        assert placed.aside is not None
        path = self.layout.blob_path(placed.sha256, placed.filename)
        try:
            with tree_errors(path):
                if durable is None:
                    os.rename(placed.aside, path)
                else:
                    os.unlink(placed.aside)
        except BaseException:
            self._remove_aside(placed.aside)
            raise
        if placed.metadata_sha256 is not None:
            self._renew_sidecar(placed, None if durable is None else durable.metadata_sha256)
        return msgspec.structs.replace(placed, aside=None)

    def is_whole(self, placed: PlacedBlob, recorded: RecordedBlob) -> bool:
        """Return whether the blob at the path of a placed file has its bytes, and the sidecar that
        the state records of it.

        False where the file has just taken the path itself, which was free.
        """
        path = self.layout.blob_path(placed.sha256, placed.filename)
        if placed.aside is None or not _holds(path, placed.sha256, placed.size):
            return False
        return recorded.metadata_sha256 is None or self.has_sidecar(
            placed.sha256, placed.filename, recorded.metadata_sha256
        )

    def has_sidecar(self, sha256: Sha256, filename: str, digest: Sha256) -> bool:
        """Return whether a blob has the sidecar with this digest."""
        return _holds(self.layout.sidecar_path(sha256, filename), digest)

    def fails_alone(self, error: TreeError) -> bool:
        """Return whether one directory below ``files/`` is at fault, not the disk or ``files/`` as
        a whole.
        """
        files = str(self.layout.files)
        if isinstance(error, DiskFull) or error.path == files or not error.is_below(files):
            return False
        return os.access(files, os.W_OK | os.X_OK)

    def place_sidecar(
        self, sha256: Sha256, filename: str, data: bytes, *, recorded: Sha256 | None = None
    ) -> Sha256:
        """Write a blob's sidecar and return its digest. Unless the blob is a wheel, it must be the
        metadata that the state knows as its first.

        ``recorded``: the digest of the sidecar that the state records, which is not written again.
        """
        with tree_errors(self.layout.blob_path(sha256, filename)):
            self._make_directories(sha256)
        digest = Sha256(hashlib.sha256(data).hexdigest())
        if recorded != digest or not self.has_sidecar(sha256, filename, digest):
            self._write_sidecar(sha256, filename, data)
        return digest

    def hash_blob(self, sha256: Sha256, filename: str, algorithm: str) -> str | None:
        """Return another digest of a held blob, or None where it can't be read."""
        path = self.layout.blob_path(sha256, filename)
        with tree_errors(path):
            try:
                with os.fdopen(open_plain(path), "rb") as file:
                    return hashlib.file_digest(
                        file, partial(hashlib.new, algorithm, usedforsecurity=False)
                    ).hexdigest()
            except FileNotFoundError:
                return None

    def sync(self, placed: Sequence[PlacedBlob]) -> None:
        """Make a batch durable, up to the names of its directories: a few by fsync, more by one
        syncfs.
        """
        if len(placed) > FEW and reports_failed_syncs():
            sync_file_system(self.layout.files)
            return
        directories: dict[str, None] = {}
        for blob in placed:
            path = self.layout.blob_path(blob.sha256, blob.filename)
            with tree_errors(path):
                sync_file(path)
                if blob.metadata_sha256:
                    sync_file(path + METADATA_ENDING)
            directories.update(dict.fromkeys(reversed(self.layout.blob_directories(blob.sha256))))
        # The deepest first: a name is durable only with all the names above it.
        for directory in (
            *sorted(directories, key=len, reverse=True),
            *([str(self.layout.files)] if placed else []),
        ):
            sync_directory(directory)

    def rewrite_blob(self, sha256: Sha256, filename: str) -> None:
        """Replace a blob that the state does not record, and its sidecar, by durable copies."""
        path = self.layout.blob_path(sha256, filename)
        for place in (path, path + METADATA_ENDING):
            with tree_errors(place):
                try:
                    descriptor = open_plain(place)
                except FileNotFoundError:
                    continue
                temporary = temporary_path(self._staging)
                with os.fdopen(descriptor, "rb", buffering=0) as file:
                    write_new(temporary, iter(partial(file.read, BLOCK_BYTES), b""), PUBLIC_FILE)
                try:
                    sync_file(temporary)
                    os.rename(temporary, place)
                except BaseException:
                    remove_if_there(temporary)
                    raise
        self.sync([PlacedBlob(sha256=sha256, filename=filename, size=0)])

    def renew_if_whole(self, blob: RecordedFile) -> bool:
        """Replace an unsure blob and its sidecar by durable copies, if they are whole; return
        whether they are.
        """
        sha256, filename, sidecar = blob.sha256, blob.filename, blob.metadata_sha256
        has_bytes = _holds(self.layout.blob_path(sha256, filename), sha256, blob.size)
        if not has_bytes or (
            sidecar is not None and not self.has_sidecar(sha256, filename, sidecar)
        ):
            return False
        self.rewrite_blob(sha256, filename)
        return True

    def remove_blob(self, sha256: Sha256, filename: str) -> None:
        """Remove sidecar, blob and the directories that become empty; a missing one is not an
        error.
        """
        path = self.layout.blob_path(sha256, filename)
        directories = self.layout.blob_directories(sha256)
        with tree_errors(path):
            try:
                for directory in directories:
                    check_directory(directory)
            except FileNotFoundError:
                return
            remove_if_there(path + METADATA_ENDING)
            remove_if_there(path)
            for directory in reversed(directories):
                if not _remove_empty(directory):
                    break

    def remove_sidecar(self, sha256: Sha256, filename: str) -> bool:
        """Remove a blob's sidecar, durably; return whether there was one."""
        path = self.layout.sidecar_path(sha256, filename)
        directories = self.layout.blob_directories(sha256)
        with tree_errors(path):
            try:
                for directory in directories:
                    check_directory(directory)
            except FileNotFoundError:
                return False
            is_gone = remove_if_there(path)
            if is_gone:
                sync_directory(directories[-1])
            return is_gone

    def sweep_staging(self, keep_keys: Collection[str] = ()) -> int:
        """Remove files that are neither open nor resumable under one of these keys; return how many
        were removed. To be called while nothing is being placed.
        """
        return self._partial.sweep(keep_keys)

    def find_kept(self) -> Callable[[str], bool]:
        """Return a function that finds out whether a partial file lies in staging under a key."""
        return self._partial.find_kept()

    def sweep_abandoned(self, *, older_than_s: float) -> int:
        """Remove unfinished files of killed processes, and partial files untouched for
        ``older_than_s``. Under the tree's lock, before anything is placed.
        """
        return self._partial.sweep_abandoned(older_than_s=older_than_s)

    def free_bytes(self) -> int | None:
        """Return the bytes that may still be written to the disk, the reserve included, or None if
        unknown.
        """
        return free_bytes(self.layout.files)

    def disk_bytes(self) -> int | None:
        """Return the size of the whole file system, or None where it is unknown."""
        found = disk_space(self._staging)
        return None if found is None else found[0]

    def _place_directory(
        self,
        staged: StagedFile,
        sha256: Sha256,
        filename: str,
        sidecar: bytes | None,
        checked: CheckedDirectories,
    ) -> bool:
        """Put a small file and its sidecar in their place by one rename of a new directory; return
        False, with nothing changed, where that can't be.

        Neither can be seen without the other, so that this is the order of writes too. A directory
        with anything in it is never replaced (rename(2)), nor is a link: if anything is there, the
        place is taken. A kill leaves at most a directory in staging, which the next sweep removes.
        Raises ``OSError``, ``TreeError``.
        """
        if staged.in_memory != staged.written:
            return False
        if not checked.require(sha256):
            return False
        directory = temporary_path(self._staging)
        path = f"{directory}/{filename}"
        os.mkdir(directory, PUBLIC_DIRECTORY)
        try:
            with self._reserve.writing(staged.in_memory + len(sidecar or b"")):
                staged.write_copy(path)
                if sidecar is not None:
                    write_new(path + METADATA_ENDING, (sidecar,), PUBLIC_FILE, sets_mode=False)
            try:
                os.rename(directory, self.layout.blob_directories(sha256)[2])
            except OSError:  # taken, or gone: the usual way names the problem
                checked.forget(sha256)
                shutil.rmtree(directory)
                return False
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        staged.close_placed()
        return True

    def _make_directories(self, sha256: Sha256) -> None:
        outer, middle, inner = self.layout.blob_directories(sha256)
        for directory in (outer, middle):
            try:
                check_directory(directory)
            except FileNotFoundError:
                make_directory(directory, sets_mode=self._sets_mode)
        make_directory(inner, sets_mode=self._sets_mode)

    def _write_sidecar(self, sha256: Sha256, filename: str, data: bytes) -> None:
        path = self.layout.sidecar_path(sha256, filename)
        with self._reserve.writing(len(data)):
            replace_file(
                path,
                data,
                mode=PUBLIC_FILE,
                tmp_dir=self._staging,
                sets_mode=self._sets_mode,
            )

    def _renew_sidecar(self, placed: PlacedBlob, recorded: Sha256 | None) -> None:
        """Take a wheel's metadata out of it again."""
        path = self.layout.blob_path(placed.sha256, placed.filename)
        with tree_errors(path), os.fdopen(open_plain(path), "rb") as file:
            try:
                data = extract_metadata(file, placed.filename, self.metadata_limit_bytes)
            except WheelError as exc:  # it was read a moment ago
                raise TreeError(
                    path=path, problem=f"it has changed while it was placed: {exc}"
                ) from exc
        self.place_sidecar(placed.sha256, placed.filename, data, recorded=recorded)

    def _remove_aside(self, aside: str) -> None:
        with contextlib.suppress(OSError):  # the next sweep does
            os.unlink(aside)


def _hash_file(path: str) -> str:
    """Return the sha256 of a file that is not a link."""
    hasher = hashlib.sha256()
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        while block := os.read(descriptor, BLOCK_BYTES):
            hasher.update(block)
    finally:
        os.close(descriptor)
    return hasher.hexdigest()


def _holds(path: str, sha256: Sha256, size: int | None = None) -> bool:
    """Return whether a regular file with these bytes is there; ``size``: None where it is
    unknown.
    """
    with tree_errors(path):
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            return False
        same_size = stat.S_ISREG(found.st_mode) and size in {None, found.st_size}
        return same_size and _hash_file(path) == sha256


def _remove_empty(directory: str) -> bool:
    try:
        os.rmdir(directory)
    except OSError as exc:
        if exc.errno in {errno.ENOTEMPTY, errno.EEXIST}:
            return False
        raise
    return True
