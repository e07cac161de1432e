"""The places of pages below ``simple``: what stands there, and room for the pages."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from mirror.core.names import ProjectName
from mirror.tree.checking.aside import move_aside
from mirror.tree.checking.single_files import entries_of, exists, is_directory, mode_of
from mirror.tree.layout import Layout
from mirror.tree.pages import PAGE_NAMES


def iter_projects(layout: Layout) -> Iterator[str]:
    """Yield the names directly below ``simple``, except the root pages."""
    yield from (item.name for item in entries_of(str(layout.simple)) if item.name not in PAGE_NAMES)


def foreign_in_project(layout: Layout, name: ProjectName) -> list[str]:
    """Return the paths of foreign files in a project's directory, next to its pages."""
    directory = layout.project_dir(name)
    if not is_directory(directory):
        return []
    return [item.path for item in entries_of(directory) if item.name not in PAGE_NAMES]


def is_blocked(layout: Layout, name: ProjectName) -> bool:
    """Return whether anything but a directory, or but plain files in it, stands where a project's
    pages must be.
    """
    directory = layout.project_dir(name)
    if not is_directory(directory):
        return exists(directory)
    pages = (f"{directory}/{page}" for page in PAGE_NAMES)
    modes = map(mode_of, pages)  # 0 where there is none
    return any(mode and not stat.S_ISREG(mode) for mode in modes)


def clear_page_place(layout: Layout, name: ProjectName | None) -> list[Path]:
    """Move aside anything but a plain file at the places where a project's pages, or the root's,
    must be written.
    """
    moved = []
    directory = layout.project_dir(name) if name is not None else str(layout.simple)
    if exists(directory) and not is_directory(directory):
        moved.append(move_aside(layout, directory))
    for page in PAGE_NAMES:
        path = f"{directory}/{page}"
        if exists(path) and not stat.S_ISREG(mode_of(path)):
            moved.append(move_aside(layout, path))
    return moved
