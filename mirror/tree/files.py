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
import secrets
import shutil
import stat
import time
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
from mirror.tree.disk.writing import is_temporary, replace_file, temporary_path, write_new
from mirror.tree.layout import (
    METADATA_ENDING,
    PRIVATE_FILE,
    PUBLIC_DIRECTORY,
    PUBLIC_FILE,
    CheckedDirectories,
    Layout,
)
from mirror.tree.reserve import Reserve
from mirror.tree.staging import BLOCK_BYTES, PART_ENDING, RECORD_ENDING, StagedFile
from mirror.tree.wheel import WheelError, extract_metadata

STUCK_ENDING = ".stuck"
"""Ending of the file that names the process that may still write to a partial file."""
_LONGEST_NOTE = 100


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
        self._in_threads, self._resumes_in_place = in_threads, resumes_in_place
        self._sets_mode = not has_no_umask or has_default_acl(layout.files)
        self._checked = None if self._sets_mode else CheckedDirectories(layout)
        self.layout = layout
        self._staging = str(layout.staging)
        self.metadata_limit_bytes = metadata_limit_bytes
        self._reserve = Reserve(
            str(layout.files), disk_reserve_bytes, pending_bytes=pending_bytes, slot=slot
        )
        self._kept: set[str] | None = None
        self._open: set[str] = set()

    async def open_staged(
        self, key: str, algorithms: Collection[str] = (), *, resume: bool = True
    ) -> StagedFile:
        """Return a sink for the file of this ``key``, with the bytes that an earlier try left, if
        ``resume``.

        ``algorithms``: digests to compute in addition to sha256. A key that is already open gets a
        sink of its own.
        """
        kept = await self._load_kept()
        stem = stem_of(key)
        if stem in self._open:
            stem = f"{stem}-{secrets.token_hex(4)}"
        self._open.add(stem)

        def closed(*, kept: bool) -> None:
            self._open.discard(stem)
            if kept and self._kept is not None:
                self._kept.add(stem)

        staged = StagedFile(
            f"{self._staging}/{stem}",
            key,
            algorithms,
            self._reserve,
            closed,
            in_threads=self._in_threads,
            in_place=self._resumes_in_place,
        )
        if stem in kept:
            kept.discard(stem)
            try:
                await anyio.to_thread.run_sync(staged.load if resume else staged.clear)
            except BaseException:
                await staged.discard()
                raise
        return staged

    def leave_alone(self, key: str, *, writer: int | None) -> None:
        """Never continue or remove the staged file of ``key``: the next file of that key is a new
        one.

        ``writer``: a process that may still write there, and can't be ended; other processes keep
        its file while it runs.
        """
        stem = stem_of(key)
        self._open.add(stem)
        if writer is not None:
            note = f"{writer} {_start_of(writer)}".encode()
            replace_file(
                f"{self._staging}/{stem}{STUCK_ENDING}",
                note,
                mode=PRIVATE_FILE,
                tmp_dir=self._staging,
            )

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
        were removed.

        To be called while nothing is being placed: an unfinished file would be taken for a
        leftover.
        """
        wanted = {stem_of(key) for key in keep_keys} | self._open
        removed = 0
        wanted |= self._stems_in_use()
        with tree_errors(self._staging), os.scandir(self._staging) as found:
            for item in found:
                stem, ending = os.path.splitext(item.name)
                if ending == STUCK_ENDING and stem in wanted:
                    continue
                if item.is_dir(follow_symlinks=False) or (
                    ending in {PART_ENDING, RECORD_ENDING} and stem in wanted
                ):
                    continue
                removed += remove_if_there(item.path)
        self._kept = None if self._kept is None else self._kept & wanted
        return removed

    def find_kept(self) -> Callable[[str], bool]:
        """Return a function that finds out whether a partial file lies in staging under a key."""
        kept = self._find_kept()
        return lambda key: stem_of(key) in kept

    def sweep_abandoned(self, *, older_than_s: float) -> int:
        """Remove unfinished files of killed processes, and partial files untouched for
        ``older_than_s``.

        Under the tree's lock, before anything is placed. A time as far in the future counts as
        well: the clock jumped.
        """
        now_s = time.time()
        removed = 0
        in_use = self._stems_in_use()
        with tree_errors(self._staging), os.scandir(self._staging) as found:
            for item in found:
                if item.is_dir(follow_symlinks=False):
                    removed += _remove_interrupted(item.path)
                    continue
                if os.path.splitext(item.name)[0] in in_use:
                    continue
                is_partial = os.path.splitext(item.name)[1] in {PART_ENDING, RECORD_ENDING}
                if (
                    is_partial
                    and abs(now_s - item.stat(follow_symlinks=False).st_mtime) < older_than_s
                ):
                    continue
                removed += remove_if_there(item.path)
        self._kept = None
        return removed

    def free_bytes(self) -> int | None:
        """Return the bytes that may still be written to the disk, the reserve included, or None if
        unknown.
        """
        return free_bytes(self.layout.files)

    def disk_bytes(self) -> int | None:
        """Return the size of the whole file system, or None where it is unknown."""
        found = disk_space(self._staging)
        return None if found is None else found[0]

    async def _load_kept(self) -> set[str]:
        """Return the stems of resumable files; the directory is read once, not for each file."""
        if self._kept is not None:
            return self._kept
        return self._adopt(await anyio.to_thread.run_sync(self._find_kept))

    def _adopt(self, found: set[str]) -> set[str]:
        # Another task may have been faster, and used it already.
        if self._kept is None:
            self._kept = found
        return self._kept

    def _find_kept(self) -> set[str]:
        with tree_errors(self._staging), os.scandir(self._staging) as found:
            names = [item.name for item in found if item.is_file(follow_symlinks=False)]
        found_stems = {
            name.removesuffix(PART_ENDING) for name in names if name.endswith(PART_ENDING)
        }
        in_use = {name for name in names if name.endswith(STUCK_ENDING)} and self._stems_in_use()
        self._open |= in_use  # so that a file of the same key gets another stem
        return found_stems - in_use

    def _stems_in_use(self) -> set[str]:
        """Return the stems of files to which a process that can't be ended may still write."""
        stems: set[str] = set()
        with tree_errors(self._staging), os.scandir(self._staging) as found:
            for item in found:
                stem, ending = os.path.splitext(item.name)
                if (
                    ending == STUCK_ENDING
                    and item.is_file(follow_symlinks=False)
                    and _is_in_use(item.path)
                ):
                    stems.add(stem)
        return stems

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


def _start_of(pid: int) -> str:
    """Return when a process began, which distinguishes it from a later one with the same pid; empty
    where it has ended.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        return ""


def _is_in_use(note: str) -> bool:
    with open(note, "rb") as file:
        pid, _, start = file.read(_LONGEST_NOTE).decode("ascii", "replace").partition(" ")
    return pid.isdigit() and start != "" and _start_of(int(pid)) == start


def stem_of(key: str) -> str:
    """Return the name in staging for a key that may hold anything: a URL, a path, any length."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:40]


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


def _remove_interrupted(directory: str) -> bool:
    """Remove a directory that a killed process was putting in its place; leave any other."""
    if not is_temporary(directory):
        return False
    shutil.rmtree(directory)
    return True


def _remove_empty(directory: str) -> bool:
    try:
        os.rmdir(directory)
    except OSError as exc:
        if exc.errno in {errno.ENOTEMPTY, errno.EEXIST}:
            return False
        raise
    return True
