"""Write the pages of snapshots again where an older version of the renderer wrote them, and remove
dropped metadata.

A snapshot keeps its files and labels; only the rendering changes, and the metadata that may be
offered. Pages are replaced one by one, so that a reader sees the old or the new one; a killed run
starts over, and written pages stay. Metadata that no page may offer leaves the disk last. The
tree's lock must be held.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import anyio.to_thread
import msgspec

from mirror.core.model import ProjectPage
from mirror.core.names import ProjectName, Sha256
from mirror.core.pages.render_pages import RenderedPage
from mirror.holdings.tree import TreeFiles
from mirror.logs import get_logger
from mirror.publishing.own_pages import read_page, render_again
from mirror.state.blobs.durability import load_ended_by_storage
from mirror.state.renewal import (
    load_dropped,
    load_offerable,
    load_outdated_snapshots,
    may_offer_in,
    record_dropped_gone,
    record_snapshots_renewed,
)
from mirror.state.store import Store
from mirror.tree.files import FileStore
from mirror.tree.layout import Layout
from mirror.tree.pages import JSON_V1
from mirror.tree.snapshots import replace_pages, snapshot_path, sync_snapshots

_log = get_logger(__name__)

_PAGES_AT_ONCE = 200

_Replace = Callable[[Layout, Sequence[str], RenderedPage], None]


class _Shared(msgspec.Struct, frozen=True, kw_only=True):
    """A project's page, and the directories of the snapshots that have this same page."""

    directories: tuple[str, ...]
    page: ProjectPage | None


async def renew_snapshots(store: Store, files: TreeFiles, *, cycle: int) -> None:
    """Do the due work; two small queries where nothing is due.

    After a cycle whose writes failed, pages that look right are written again too.
    """
    layout = files.layout
    names = await load_outdated_snapshots(store)
    if names and not isinstance(files, FileStore):
        advice = "make a new snapshot and delete this one"
        problem = "its pages in the object store were written under older rules"
        _log.warning("snapshots.outdated", snapshots=names, problem=problem, advice=advice)
        return  # their pages may offer the dropped metadata, which stays as long as they do
    if names:
        replace = partial(replace_pages, always=await load_ended_by_storage(store, cycle))
        projects = await anyio.to_thread.run_sync(_list_projects, layout, names)
        for start in range(0, len(projects), _PAGES_AT_ONCE):
            some = projects[start : start + _PAGES_AT_ONCE]
            await _renew_pages(store, layout, names, some, replace)
        await anyio.to_thread.run_sync(sync_snapshots, layout)
        await record_snapshots_renewed(store, names)
        _log.info("snapshots.renewed", snapshots=names, projects=len(projects))
    dropped = await load_dropped(store)
    if dropped:
        removed = await anyio.to_thread.run_sync(_remove_sidecars, files, dropped)
        await record_dropped_gone(store, dropped)
        if removed:
            cause = "nobody knows that the project's own index listed it"
            _log.warning("metadata.dropped", files=removed, cause=cause)


def _list_projects(layout: Layout, snapshots: Sequence[str]) -> list[str]:
    found: set[str] = set()
    for name in snapshots:
        simple = snapshot_path(layout, name) / "simple"
        if simple.is_dir():
            with os.scandir(simple) as items:
                found.update(item.name for item in items if item.is_dir(follow_symlinks=False))
    return sorted(found)


async def _renew_pages(
    store: Store,
    layout: Layout,
    snapshots: Sequence[str],
    projects: Sequence[str],
    replace: _Replace,
) -> None:
    shared = await anyio.to_thread.run_sync(_read_pages, layout, snapshots, projects)
    pages = [s.page for s in shared if s.page is not None]
    listed = {
        (dict(f.digests).get("sha256", ""), f.filename)
        for p in pages
        for f in p.files
        if f.metadata
    }
    offerable = await load_offerable(store, listed)
    await anyio.to_thread.run_sync(_write_pages, layout, shared, offerable, replace)


def _read_pages(layout: Layout, snapshots: Sequence[str], projects: Sequence[str]) -> list[_Shared]:
    """Read each page once: where several snapshots have the same one, they are links of one
    file.
    """
    shared = []
    for project in projects:
        places: dict[tuple[int, int], list[str]] = {}
        for name in snapshots:
            directory = snapshot_path(layout, name) / "simple" / project
            try:
                found = os.lstat(directory / JSON_V1)
            except OSError:
                continue
            places.setdefault((found.st_dev, found.st_ino), []).append(str(directory))
        for directories in places.values():
            simple = os.path.dirname(directories[0])
            page = read_page(Path(simple), project)
            shared.append(_Shared(directories=tuple(directories), page=page))
    return shared


def _write_pages(
    layout: Layout,
    shared: Sequence[_Shared],
    offerable: Mapping[tuple[str, str], Sha256 | None],
    replace: _Replace,
) -> None:
    may_offer = partial(_may_offer, offerable)
    for pages in shared:
        rendered: RenderedPage | None = (
            None if pages.page is None else render_again(pages.page, may_offer)
        )
        if rendered is None:
            _log.warning(
                "snapshot.page_kept",
                path=pages.directories[0],
                problem="this page can't be read, so it stays as it is:"
                " make a new snapshot and delete this one",
            )
        else:
            replace(layout, pages.directories, rendered)


def _may_offer(
    offerable: Mapping[tuple[str, str], Sha256 | None],
    project: ProjectName,
    filename: str,
    sha256: Sha256,
    metadata: Sha256,
) -> bool:
    return may_offer_in(project, filename) and offerable.get((sha256, filename)) == metadata


def _remove_sidecars(files: TreeFiles, dropped: Sequence[tuple[Sha256, str]]) -> int:
    return sum(files.remove_sidecar(sha256, filename) for sha256, filename in dropped)
