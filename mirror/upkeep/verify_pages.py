"""Compare the pages on disk with the state, also while a cycle writes them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import anyio.to_thread

from mirror.core.names import ProjectName, normalize_project
from mirror.core.pages.render_pages import iter_root_html, iter_root_json, render_project
from mirror.errors import UnsafeName
from mirror.holdings.holdings import Holdings
from mirror.state.entries.pages import PageState, load_pages, load_published
from mirror.tree.checking.blobs import DamageKind
from mirror.tree.checking.page_places import foreign_in_project, is_blocked, iter_projects
from mirror.tree.checking.single_files import exists, has_bytes, is_directory, is_exactly
from mirror.tree.layout import Layout
from mirror.tree.pages import HTML, HTML_V1, JSON_V1, PageStore
from mirror.upkeep.findings import Finding, Verification
from mirror.upkeep.settled_pages import (
    PAGES_AT_ONCE,
    is_page_wrong,
    is_root_wrong,
    wrong_pages,
)


async def check_pages(holdings: Holdings, into: Verification) -> None:
    """Compare every page on disk with the state."""
    store, layout = holdings.store, holdings.layout
    compare = partial(_compare_pages, layout)
    published = dict(await load_published(store))
    names = sorted(published)
    for start in range(0, len(names), PAGES_AT_ONCE):
        chunk = names[start : start + PAGES_AT_ONCE]
        # A foreign file in the way counts also where pages are still to be written: they can't be.
        blocked = await anyio.to_thread.run_sync(_blocked_in, layout, chunk)
        for name in sorted({*blocked, *await wrong_pages(store, compare, chunk)}):
            if name in blocked or await is_page_wrong(store, compare, name):
                path = layout.project_dir(name)
                detail = "a page of it is missing or is not what the state says"
                into.add(Finding(damage=DamageKind.PAGE, path=path, detail=detail, project=name))
        await add_foreign(
            into,
            await anyio.to_thread.run_sync(_foreign_in, layout, chunk),
            "no page of the project has this name",
        )
        into.pages_checked += len(chunk)
    if await is_root_wrong(store, partial(_is_other_root, layout)):
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
