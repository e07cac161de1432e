"""Pages on the disk: a project's three files, and the root's.

Invariants: each page is replaced by rename, so that a reader sees the old or the new one;
unfinished pages are in ``staging/``; a link planted in place of a project's directory is refused,
not followed. ``index.v1_html`` is a hard link of ``index.html`` where the file system has them.
Nothing is durable before ``sync``.
"""

# Paths are plain strings: this runs for each file, and building a Path costs more than the call.

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

from mirror.core.names import ProjectName
from mirror.core.pages.render_pages import RenderedPage
from mirror.errors import DiskFull, TreeError
from mirror.tree.disk.durability import (
    FEW,
    make_durable_directory,
    reports_failed_syncs,
    sync_directory,
    sync_file,
    sync_file_system,
)
from mirror.tree.disk.failures import tree_errors
from mirror.tree.disk.places import check_directory, make_directory, open_plain, remove_if_there
from mirror.tree.disk.writing import Buffer, rename_into, temporary_path, write_new
from mirror.tree.layout import PUBLIC_FILE, Layout, put_directory

HTML: Final = "index.html"
HTML_V1: Final = "index.v1_html"
JSON_V1: Final = "index.v1_json"
PAGE_NAMES: Final = (HTML, HTML_V1, JSON_V1)

_NO_PAGE: Final = frozenset({errno.ENOENT, errno.ELOOP, errno.EINVAL, errno.ENXIO})
"""Errors of opening a path where there is no file, or a link, a directory, a pipe or a socket."""

# File systems without hard links, or with too many of them; some refuse them to all but the owner.
_NO_LINKS: Final = frozenset(
    {errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}
)
_HEAD_BYTES: Final = 512
_ROOT_SERIAL = re.compile(rb'"_last-serial":\s*([0-9]{1,18})[,}]')
_COPY_BYTES: Final = 1024 * 1024


class PageStore:
    """The pages below ``public/simple``. All methods block and raise ``TreeError``."""

    def __init__(self, layout: Layout) -> None:
        self.layout = self._layout = layout
        self._staging = str(layout.staging)
        self._simple = str(layout.simple)

    def write_project(
        self, name: ProjectName, page: RenderedPage, *, is_durable: bool = True
    ) -> None:
        """Replace a project's three pages.

        ``is_durable``: a directory that exists is durable. Else a failed sync may have left it, and
        it is replaced too.
        """
        directory = self._layout.project_dir(name)
        with tree_errors(directory):
            try:
                check_directory(directory)
            except FileNotFoundError:
                make = make_durable_directory if is_durable else make_directory
                make(directory)
                is_durable = True
            if is_durable:
                self._replace(directory, (page.html,), (page.json,))
            else:
                self._put_project(directory, page)

    def _put_project(self, directory: str, page: RenderedPage) -> None:
        """Put a new directory with these pages in the place of another one."""
        new = temporary_path(self._staging)
        make_directory(new)
        try:
            self._replace(new, (page.html,), (page.json,))
        except BaseException:
            os.rmdir(new)
            raise
        put_directory(new, directory)

    def remove_project(self, name: ProjectName) -> None:
        """Remove a project's pages; missing ones are no error, and foreign files stay."""
        directory = self._layout.project_dir(name)
        with tree_errors(directory):
            try:
                check_directory(directory)
            except FileNotFoundError:
                return
            for page in PAGE_NAMES:
                remove_if_there(f"{directory}/{page}")
            if not os.listdir(directory):
                os.rmdir(directory)

    def has_project(self, name: ProjectName) -> bool:
        """Return whether all three pages of a project are there."""
        directory = self._layout.project_dir(name)
        with tree_errors(directory):
            return all(_is_file(f"{directory}/{page}") for page in PAGE_NAMES)

    def write_root(self, html: Iterable[Buffer], json: Iterable[Buffer]) -> None:
        """Replace the root pages, written piece by piece: a root of 730,000 projects is not held in
        memory.
        """
        with tree_errors(self._simple):
            # a link of this user's or root's is followed (tree.owner)
            check_directory(os.path.realpath(self._simple))
            self._replace(self._simple, html, json)

    def root_serial(self) -> int | None:
        """Return the serial of the root page on disk, from its first bytes; None where there is no
        page of the mirror.

        A link or a pipe in its place is none: ``verify`` moves it aside.
        """
        path = f"{self._simple}/index.v1_json"
        with tree_errors(path):
            try:
                with os.fdopen(open_plain(path), "rb") as file:
                    head = file.read(_HEAD_BYTES)
            except OSError as exc:
                if exc.errno not in _NO_PAGE:
                    raise
                return None
        return serial_in(head)

    def sync(self, names: Collection[ProjectName], *, root: bool = True) -> None:
        """Make the pages of these projects durable, written or removed, and the root's if
        ``root``.
        """
        if len(names) > FEW and reports_failed_syncs():
            sync_file_system(self._simple)
            return
        for directory in map(self._layout.project_dir, names):
            # A project that was removed has only its name above to be synced.
            if _sync_pages(directory):
                sync_directory(directory)
        if root:
            _sync_pages(self._simple)
        sync_directory(self._simple)

    def fails_alone(self, name: ProjectName, error: TreeError) -> bool:
        """Return whether one project's directory is at fault, not the disk or the directory of all
        projects.
        """
        if isinstance(error, DiskFull) or not error.is_below(self._layout.project_dir(name)):
            return False
        return os.access(self._simple, os.W_OK | os.X_OK)

    def run_each(
        self, steps: Mapping[ProjectName, Callable[[], None]]
    ) -> dict[ProjectName, TreeError]:
        """Do something for each project; return the errors of those whose own directory is at
        fault.
        """
        failed = {}
        for name, step in steps.items():
            try:
                step()
            except TreeError as exc:
                if not self.fails_alone(name, exc):
                    raise
                failed[name] = exc
        return failed

    def _replace(self, directory: str, html: Iterable[Buffer], json: Iterable[Buffer]) -> None:
        """Write all three first, then rename: a full disk leaves all three old ones."""
        staged = [temporary_path(self._staging) for _ in PAGE_NAMES]
        staged_html, staged_link, staged_json = staged
        try:
            write_new(staged_html, html, PUBLIC_FILE)
            link_or_copy(staged_html, staged_link)
            write_new(staged_json, json, PUBLIC_FILE)
            for temporary, page in zip(staged, PAGE_NAMES, strict=True):
                rename_into(temporary, f"{directory}/{page}")
        except BaseException:
            for temporary in staged:
                remove_if_there(temporary)
            raise


def serial_in(head: bytes) -> int | None:
    """Return the serial in the first bytes of a root page; None where it is not a page of the
    mirror.
    """
    found = _ROOT_SERIAL.search(head)
    return int(found[1]) if found else None


def _sync_pages(directory: str) -> bool:
    """Make the pages in a directory durable; return whether it exists."""
    with tree_errors(directory):
        for page in PAGE_NAMES:
            if _is_file(f"{directory}/{page}"):
                sync_file(f"{directory}/{page}")
        return _is_directory(directory)


def link_or_copy(source: str, target: str) -> None:
    """Make ``target`` a hard link of ``source``, or a copy where the file system has no links.

    Raises ``OSError``.
    """
    try:
        os.link(source, target)
    except OSError as exc:
        if exc.errno not in _NO_LINKS:
            raise
        with open(source, "rb", buffering=0) as file:
            write_new(target, iter(lambda: file.read(_COPY_BYTES), b""), PUBLIC_FILE)


def _is_directory(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
