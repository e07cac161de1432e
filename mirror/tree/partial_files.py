"""The folder of unfinished files: continued by a later try, swept once nothing wants them.

Invariants: a key that is open has no second sink at the same place; a file to which a process that
can't be ended may still write is neither continued nor removed.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Collection

import anyio.to_thread

from mirror.tree.disk.failures import tree_errors
from mirror.tree.disk.places import (
    remove_if_there,
)
from mirror.tree.disk.writing import is_temporary, replace_file
from mirror.tree.layout import (
    PRIVATE_FILE,
)
from mirror.tree.reserve import Reserve
from mirror.tree.staging import PART_ENDING, RECORD_ENDING, StagedFile

STUCK_ENDING = ".stuck"
"""Ending of the file that names the process that may still write to a partial file."""
_LONGEST_NOTE = 100


class PartialFiles:
    """The files in ``staging/``, by key.

    Methods block and raise ``TreeError``, except ``open_staged``, which is async.
    """

    def __init__(
        self, staging: str, reserve: Reserve, *, in_threads: bool, resumes_in_place: bool
    ) -> None:
        """``in_threads`` and ``resumes_in_place``: see ``StagedFile``."""
        self._staging, self._reserve = staging, reserve
        self._in_threads, self._resumes_in_place = in_threads, resumes_in_place
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

    def sweep(self, keep_keys: Collection[str] = ()) -> int:
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


def _remove_interrupted(directory: str) -> bool:
    """Remove a directory that a killed process was putting in its place; leave any other."""
    if not is_temporary(directory):
        return False
    shutil.rmtree(directory)
    return True
