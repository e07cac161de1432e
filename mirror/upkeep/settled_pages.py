"""Which pages differ from the state, also while a cycle changes both; the same for every kind of
tree.

A caller brings the comparison of rendered pages with those of its tree. It blocks, and runs in a
thread.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final

import anyio.to_thread

from mirror.core.names import ProjectName
from mirror.core.pages.render_pages import RENDERER
from mirror.state.entries.pages import PageState, load_marked, load_pages, load_published
from mirror.state.meta import load_meta
from mirror.state.store import Store

PAGES_AT_ONCE: Final = 200
_ATTEMPTS: Final = 5
"""Maximum number of times that a differing page is read, while the state changes under it."""

ComparePages = Callable[[Sequence[PageState]], list[ProjectName]]
"""Returns the names of the pages that differ."""
RootDiffers = Callable[[Sequence[tuple[ProjectName, int]], int], bool]
"""Of the root page's projects and its serial."""


async def wrong_pages(
    store: Store, compare: ComparePages, names: Collection[ProjectName]
) -> list[ProjectName]:
    """Return the names whose settled pages differ."""
    return await anyio.to_thread.run_sync(compare, await _settled_pages(store, names))


async def is_page_wrong(store: Store, compare: ComparePages, name: ProjectName) -> bool:
    """Check again, until the state was the same before and after the check."""
    for _ in range(_ATTEMPTS):
        before = await _settled_pages(store, [name])
        is_wrong = bool(await anyio.to_thread.run_sync(compare, before))
        if not is_wrong or await _settled_pages(store, [name]) == before:
            return is_wrong
    return False


async def is_root_wrong(store: Store, differs: RootDiffers) -> bool:
    """Check the root page, until the state was the same before and after the check."""
    for _ in range(_ATTEMPTS):
        before = await _settled_root(store)
        if before is None or not await anyio.to_thread.run_sync(differs, *before):
            return False
        if await _settled_root(store) == before:
            return True
    return False


async def _settled_pages(store: Store, names: Collection[ProjectName]) -> list[PageState]:
    """Return the published pages that no cycle is to write; none where all will be rendered
    again.
    """
    if await load_meta(store, "renderer") != str(RENDERER):
        return []
    return [p for p in await load_pages(store, names) if p.is_published and not p.is_marked]


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
