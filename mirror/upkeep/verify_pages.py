"""Compare the pages on disk with the state, also while a cycle writes them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import anyio.to_thread

from mirror.core.names import ProjectName, normalize_project
from mirror.core.pages.render_pages import RENDERER, iter_root_html, iter_root_json, render_project
from mirror.errors import UnsafeName
from mirror.holdings.holdings import Holdings
from mirror.state.entries.pages import PageState, load_marked, load_pages, load_published
from mirror.state.meta import load_meta
from mirror.state.store import Store
from mirror.tree.check import (
    DamageKind,
    exists,
    foreign_in_project,
    has_bytes,
    is_blocked,
    is_directory,
    is_exactly,
    iter_projects,
)
from mirror.tree.layout import Layout
from mirror.tree.pages import HTML, HTML_V1, JSON_V1, PageStore
from mirror.upkeep.findings import Finding, Verification

_PAGES_AT_ONCE = 200
_LOOKS = 5
"""Maximum number of times that a differing page is read, while the state changes under it."""


async def check_pages(holdings: Holdings, into: Verification) -> None:
    """Compare every page on disk with the state."""
    store, layout = holdings.store, holdings.layout
    published = dict(await load_published(store))
    names = sorted(published)
    for start in range(0, len(names), _PAGES_AT_ONCE):
        chunk = names[start : start + _PAGES_AT_ONCE]
        # What stands in the way counts also where pages are still to be written: they can't be.
        blocked = await anyio.to_thread.run_sync(_blocked_in, layout, chunk)
        for name in sorted({*blocked, *await _wrong_pages(store, layout, chunk)}):
            if name in blocked or await _is_page_wrong(store, layout, name):
                path = layout.project_dir(name)
                detail = "a page of it is missing or is not what the state says"
                into.add(Finding(damage=DamageKind.PAGE, path=path, detail=detail, project=name))
        await add_foreign(
            into,
            await anyio.to_thread.run_sync(_foreign_in, layout, chunk),
            "no page of the project has this name",
        )
        into.pages_checked += len(chunk)
    if await _is_root_wrong(store, layout):
        detail = "the root page is missing or is not what the state says"
        into.add(Finding(damage=DamageKind.PAGE, path=str(layout.simple), detail=detail))
    for found in await anyio.to_thread.run_sync(lambda: list(iter_projects(layout))):
        if found not in published and not (
            _is_name(found) and await load_pages(store, [ProjectName(found)])
        ):
            await add_foreign(
                into, [str(layout.simple / found)], "no project of the state has a page here"
            )


async def add_foreign(into: Verification, paths: Sequence[str], detail: str) -> None:
    """Add the paths that still exist: nothing of the mirror belongs there."""
    for path in paths:
        # A command that starts meanwhile writes and removes an empty file to test for write access.
        if await anyio.to_thread.run_sync(exists, path):
            into.add(Finding(damage=DamageKind.FOREIGN, path=path, detail=detail))


def _is_name(text: str) -> bool:
    try:
        return normalize_project(text) == text
    except UnsafeName:
        return False


def _blocked_in(layout: Layout, names: Sequence[ProjectName]) -> set[ProjectName]:
    return {name for name in names if is_blocked(layout, name)}


def _foreign_in(layout: Layout, names: Sequence[ProjectName]) -> list[str]:
    return [path for name in names for path in foreign_in_project(layout, name)]


async def _wrong_pages(
    store: Store, layout: Layout, names: Collection[ProjectName]
) -> list[ProjectName]:
    pages = await _settled_pages(store, names)
    return await anyio.to_thread.run_sync(_compare_pages, layout, pages)


async def _is_page_wrong(store: Store, layout: Layout, name: ProjectName) -> bool:
    """Check again, until the state was the same before and after the check."""
    for _ in range(_LOOKS):
        before = await _settled_pages(store, [name])
        is_wrong = bool(await anyio.to_thread.run_sync(_compare_pages, layout, before))
        if not is_wrong or await _settled_pages(store, [name]) == before:
            return is_wrong
    return False  # it changes faster than it can be read: a cycle is writing it


async def _settled_pages(store: Store, names: Collection[ProjectName]) -> list[PageState]:
    """Return the pages that the state takes for written; none before the next cycle where another renderer wrote them."""
    if await load_meta(store, "renderer") != str(RENDERER):
        return []
    return [p for p in await load_pages(store, names) if p.is_published and not p.is_marked]


def _compare_pages(layout: Layout, pages: Sequence[PageState]) -> list[ProjectName]:
    wrong = []
    for page in pages:
        rendered = render_project(page.view)
        directory = layout.project_dir(page.view.name)
        expected = ((HTML, rendered.html), (HTML_V1, rendered.html), (JSON_V1, rendered.json))
        if not is_directory(directory) or not all(
            is_exactly(f"{directory}/{name}", data) for name, data in expected
        ):
            wrong.append(page.view.name)
    return wrong


async def _is_root_wrong(store: Store, layout: Layout) -> bool:
    for _ in range(_LOOKS):
        before = await _settled_root(store)
        if before is None or not await anyio.to_thread.run_sync(_is_other_root, layout, *before):
            return False
        if await _settled_root(store) == before:
            return True
    return False


async def _settled_root(store: Store) -> tuple[list[tuple[ProjectName, int]], int] | None:
    """Return the root page's projects and its serial; None while one is to be written."""
    written = int(await load_meta(store, "root_revision") or 0)
    projects = await load_published(store)
    is_due = (
        not written
        or await load_marked(store, "", 1)
        or any(serial > written for _, serial in projects)
    )
    return None if is_due else (projects, written)


def _is_other_root(
    layout: Layout, projects: Sequence[tuple[ProjectName, int]], written: int
) -> bool:
    root = str(layout.simple)
    if (PageStore(layout).root_serial() or 0) > written:
        return False  # just written, and about to be entered
    return not (
        has_bytes(f"{root}/{HTML}", iter_root_html(projects, written))
        and has_bytes(f"{root}/{HTML_V1}", iter_root_html(projects, written))
        and has_bytes(f"{root}/{JSON_V1}", iter_root_json(projects, written))
    )
