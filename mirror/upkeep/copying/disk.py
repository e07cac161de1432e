"""A tree on a disk, as the one or the other end of a copy."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from mirror.core.names import ProjectName
from mirror.errors import TreeError
from mirror.tree.checking.single_files import read_page_file
from mirror.tree.disk.durability import (
    make_durable_directory,
    sync_below,
    sync_directory,
    sync_file,
)
from mirror.tree.disk.failures import tree_errors
from mirror.tree.disk.places import open_plain, remove_if_there
from mirror.tree.disk.writing import rename_into, replace_file, temporary_path, write_new
from mirror.tree.layout import PRIVATE_FILE, PUBLIC_FILE, Layout, create_tree
from mirror.tree.pages import HTML, HTML_V1, JSON_V1, link_or_copy
from mirror.tree.reserve import Reserve
from mirror.tree.snapshots import list_snapshots, load_channels, promote, snapshot_path
from mirror.upkeep.copying.places import LIVE, FileKey, PageForms

_OWN: Final = frozenset(
    {
        "lost+found",
        "state.db",
        "state.db-wal",
        "state.db-shm",
        "staging",
        "cache",
        "pins",
        "shipments",
        "tree.lock",
        "daemon.lock",
        "bundle.lock",
    }
)
"""Files of a root besides its tree, where its tree lies in an object store."""
_BLOCK: Final = 1 << 20
COPY_MARK: Final = "copy.json"


class DiskSource:
    """A tree below a root, read."""

    def __init__(self, root: Path) -> None:
        self._layout = Layout(root)

    @property
    def address(self) -> str:
        """The root."""
        return str(self._layout.root)

    def check(self) -> None:
        """Raise ``TreeError`` where there is no tree."""
        if not self._layout.simple.is_dir():
            problem = "there is no tree here: check FROM, or run `mirror sync --once`"
            raise TreeError(path=str(self._layout.public), problem=problem)
        if (self._layout.root / COPY_MARK).exists():
            problem = "an interrupted copy lies here: finish it first"
            raise TreeError(path=self.address, problem=problem)

    def snapshots(self) -> list[str]:
        """Return the names of the snapshots, sorted."""
        return sorted(list_snapshots(self._layout))

    def channels(self) -> dict[str, str]:
        """Return the snapshot of each channel."""
        return load_channels(self._layout)

    def page(self, scope: str, project: ProjectName | None) -> PageForms | None:
        """Return a project's page, or the root page; None where it is missing or has one form
        only.
        """
        directory = _page_directory(self._layout, scope, project)
        with tree_errors(directory):
            try:
                html, json = (read_page_file(f"{directory}/{n}") for n in (HTML, JSON_V1))
            except (FileNotFoundError, NotADirectoryError):
                return None
        return PageForms(html=html, json=json)

    @contextlib.contextmanager
    def open_file(self, key: FileKey) -> Iterator[tuple[int, Iterator[bytes]] | None]:
        """Yield the size of a file and its bytes; None where it is missing."""
        path = f"{self._layout.public}/{key.place}"
        with tree_errors(path):
            try:
                file = os.fdopen(open_plain(path), "rb", buffering=0)
            except FileNotFoundError:
                yield None
                return
            with file:
                size = os.fstat(file.fileno()).st_size
                yield size, iter(lambda: file.read(_BLOCK), b"")


class DiskTarget:
    """A tree below a root, written."""

    def __init__(self, root: Path, *, disk_reserve_bytes: int) -> None:
        self._layout = Layout(root)
        self._reserve = Reserve(str(self._layout.files), disk_reserve_bytes)
        self._begun: set[str] = set()
        self._beginning = threading.Lock()

    @property
    def address(self) -> str:
        """The root."""
        return str(self._layout.root)

    def begin(self, source: str) -> bool:
        """Record that a copy of ``source`` goes on here; return whether an earlier one did.

        Raises ``TreeError`` where something else lies here.
        """
        resumes = self.check_free(source)
        root, mark = self._layout.root, self._layout.root / COPY_MARK
        with tree_errors(root):
            create_tree(self._layout)
            if not resumes:
                text = msgspec.json.encode({"format": 1, "from": source})
                replace_file(mark, text, mode=PRIVATE_FILE, tmp_dir=self._layout.staging)
                sync_file(mark)
                sync_directory(root)
            for name in os.listdir(self._layout.staging):
                remove_if_there(f"{self._layout.staging}/{name}")
        return resumes

    def check_free(self, source: str) -> bool:
        """Return whether an interrupted copy of ``source`` lies here; nothing is written.

        Raises ``TreeError`` where something else does.
        """
        root = self._layout.root
        with tree_errors(root):
            found = sorted(set(os.listdir(root)) - _OWN) if root.exists() else []
            if COPY_MARK in found:
                _check_mark(root / COPY_MARK, source)
                return True
            if found == ["public"] and not os.listdir(self._layout.public):
                found = []
            if found:
                problem = f"is not empty ({found[0]}), and no interrupted copy: choose another TO"
                raise TreeError(path=str(root), problem=problem)
        return False

    def present(self, outer: str) -> dict[str, int]:
        """Return place -> size of the files below ``files/<outer>`` that an earlier run has
        copied.
        """
        found: dict[str, int] = {}
        top = f"{self._layout.files}/{outer}"
        with tree_errors(top):
            for directory, _, names in os.walk(top):
                below = os.path.relpath(directory, self._layout.public)
                for name in names:
                    found[f"{below}/{name}"] = os.lstat(f"{directory}/{name}").st_size
        return found

    def put_file(
        self, key: FileKey, size: int, blocks: Iterable[bytes], digest: str | None
    ) -> bool:
        """Write a file durably; return False, with nothing written, where its bytes are not of this
        size and ``digest`` (None: unknown).
        """
        path = f"{self._layout.public}/{key.place}"
        temporary = temporary_path(self._layout.staging)
        hashed = _Hashed(blocks)
        with tree_errors(path):
            for directory in self._layout.blob_directories(key.sha256):
                make_durable_directory(directory)
            try:
                with self._reserve.writing(size):
                    write_new(temporary, hashed, PUBLIC_FILE)
                if hashed.size != size or digest not in {None, hashed.hexdigest()}:
                    return False
                sync_file(temporary)
                rename_into(temporary, path)
            finally:
                remove_if_there(temporary)
            sync_directory(os.path.dirname(path))
        return True

    def put_page(self, scope: str, project: ProjectName | None, page: PageForms) -> None:
        """Write a page; each file that it lists is here."""
        directory = _page_directory(self._layout, scope, project)
        with tree_errors(directory):
            if scope != LIVE:
                self._begin_snapshot(scope)
            make_durable_directory(directory)
            staging = self._layout.staging
            for name, data in ((HTML, page.html), (JSON_V1, page.json)):
                replace_file(f"{directory}/{name}", data, mode=PUBLIC_FILE, tmp_dir=staging)
            temporary = temporary_path(staging)
            link_or_copy(f"{directory}/{HTML}", temporary)
            rename_into(temporary, f"{directory}/{HTML_V1}")

    def _begin_snapshot(self, name: str) -> None:
        """Make the directory of a snapshot once, though threads write its pages at the same
        time.
        """
        with self._beginning:
            if name in self._begun:
                return
            place = snapshot_path(self._layout, name)
            for directory in (place.parent, place, place / "simple"):
                make_durable_directory(directory)
            if not os.path.lexists(place / "files"):
                os.symlink("../../files", place / "files")
            self._begun.add(name)

    def put_channel(self, name: str, snapshot: str) -> None:
        """Let a channel show a snapshot."""
        promote(self._layout, snapshot, name)

    def end(self) -> None:
        """Make everything durable and record that the copy is complete."""
        with tree_errors(self._layout.root):
            for place in (self._layout.simple, self._layout.public / "snapshots"):
                if place.is_dir():
                    sync_below(place)
            sync_directory(self._layout.public)
            remove_if_there(self._layout.root / COPY_MARK)
            sync_directory(self._layout.root)


class _Hashed:
    """Blocks, hashed and counted on their way."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks, self._digest = blocks, hashlib.sha256()
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        for block in self._blocks:
            self._digest.update(block)
            self.size += len(block)
            yield block

    def hexdigest(self) -> str:
        """Return the sha256 of the blocks that went by."""
        return self._digest.hexdigest()


def _page_directory(layout: Layout, scope: str, project: ProjectName | None) -> str:
    simple = layout.simple if scope == LIVE else snapshot_path(layout, scope) / "simple"
    return f"{simple}/{project}" if project is not None else str(simple)


def _check_mark(mark: Path, source: str) -> None:
    """Raise ``TreeError`` for the mark of another copy."""
    try:
        other = msgspec.json.decode(mark.read_bytes(), type=dict[str, str | int]).get("from")
    except msgspec.MsgspecError:
        other = None
    if other != source:
        problem = f"an interrupted copy of {other} lies here: finish it, or choose another TO"
        raise TreeError(path=str(mark), problem=problem)
