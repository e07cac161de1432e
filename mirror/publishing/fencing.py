"""Pages in an object store are put over the ETags that the state remembers, and only over them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Collection

import anyio

from mirror.core.names import ProjectName
from mirror.holdings.tree import TreePages
from mirror.state.entries.pages import load_last_revision
from mirror.state.objects import load_tags, record_tags
from mirror.state.store import Store
from mirror.tree.pages import PageStore


@contextlib.asynccontextmanager
async def fenced(
    store: Store, pages: TreePages, names: Collection[ProjectName]
) -> AsyncIterator[None]:
    """Let the pages of some projects and the root's be written meanwhile, and keep their new ETags.

    They are kept also after an error, for the pages that were written before it.
    """
    if isinstance(pages, PageStore):
        yield
        return
    from mirror.tree.objects.pages import ObjectPages  # 8 ms, only for a tree in an object store

    assert isinstance(pages, ObjectPages)
    pages.revision = await load_last_revision(store)
    pages.expect(await load_tags(store, pages.keys_of(names)))
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await record_tags(store, pages.take_written())
