"""Open the tree of a state: on the disk, or in the object store that the state remembers."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

import anyio.to_thread
import msgspec

from mirror.config import Limits, MirrorSettings
from mirror.config.settings import REMEMBERED_TREE
from mirror.core.store_address import StoreAddress, parse_store_address
from mirror.errors import TreeError
from mirror.holdings.tree import DiskWriter, TreeFiles, TreePages, TreeWriter
from mirror.state.entries.held import has_blobs
from mirror.state.meta import load_meta
from mirror.state.objects import Claim, load_claim
from mirror.state.store import Store
from mirror.tree.files import FileStore
from mirror.tree.layout import Layout, create_root, create_tree
from mirror.tree.lock import hold_async
from mirror.tree.pages import PageStore

if TYPE_CHECKING:
    from mirror.tree.objects.client import ObjectClient


class OpenTree(msgspec.Struct, frozen=True, kw_only=True):
    """A tree, ready to be read and written."""

    files: TreeFiles
    pages: TreePages
    writer: TreeWriter
    client: ObjectClient | None = None
    """Of an object store; None: the tree lies on the disk."""
    conditions: str = ""
    """How its engine takes conditions, as far as it is known (``Claim.conditions``)."""


def check_settings(settings: MirrorSettings, env: Mapping[str, str]) -> None:
    """Raise ``ConfigError`` where the configured store can't be used, before anything is made.

    Blocking.
    """
    address = settings.store_address
    if address is not None:
        from mirror.tree.objects.client import check_engine  # 4 ms

        check_engine(address, env)


@contextlib.asynccontextmanager
async def locked_root(settings: MirrorSettings, *, wait_s: float) -> AsyncIterator[None]:
    """Hold the root's lock, with all of its directories there.

    Before the lock is held nothing but the root itself is made. Raises ``LockHeld``,
    ``TreeError``.
    """
    layout = Layout(settings.root)
    await anyio.to_thread.run_sync(create_root, layout)
    async with hold_async(layout.tree_lock, wait_s=wait_s):
        await anyio.to_thread.run_sync(create_local, settings)
        yield


def create_local(settings: MirrorSettings) -> None:
    """Make the directories of a root: those of a tree only where it lies there. Blocking.

    The root's lock must be held.
    """
    layout = Layout(settings.root)
    has_public = settings.tree is None
    if settings.tree == REMEMBERED_TREE:
        has_public = layout.public.is_dir() or not settings.state.exists()
    create_tree(layout, has_public=has_public)


async def _find_store_address(
    settings: MirrorSettings, store: Store, claim: Claim | None
) -> StoreAddress | None:
    """Return where the tree of this state lies; None: on the disk.

    Raises ``TreeError`` where the configuration names another place than the state remembers.
    """
    known = None if claim is None else claim.address
    if settings.tree == REMEMBERED_TREE:
        return None if known is None else parse_store_address(known)
    if known is None and settings.tree is not None and await _has_pages_on_disk(store):
        known = str(settings.root)
    if known is None or known == settings.tree:
        return settings.store_address
    configured = settings.tree or str(settings.root)
    problem = (
        f"the tree of this state is {known}, and `tree` names {configured}, whose pages would list"
        f" files that are not there; put `tree` back, or move the tree by `mirror tree copy {known}"
        f" {configured}` and then run `mirror tree adopt`"
    )
    raise TreeError(path=configured, problem=problem)


async def _has_pages_on_disk(store: Store) -> bool:
    """Return whether a state without a claim has published or held anything."""
    return await load_meta(store, "root_revision") is not None or await has_blobs(store)


async def open_tree(
    store: Store,
    settings: MirrorSettings,
    limits: Limits,
    *,
    wait_s: float = 0.0,
    pending_bytes: memoryview | None = None,
    env: Mapping[str, str] | None = None,
    is_repair: bool = False,
) -> OpenTree:
    """Open the tree of a state; no request is made. Raises ``ConfigError``, ``TreeError``."""
    layout = Layout(settings.root)
    claim = await load_claim(store)
    address = await _find_store_address(settings, store, claim)
    local = FileStore(
        layout,
        metadata_limit_bytes=limits.metadata_size,
        disk_reserve_bytes=limits.disk_reserve,
        pending_bytes=pending_bytes,
        resumes_in_place=address is not None,
    )
    if address is None:
        return OpenTree(files=local, pages=PageStore(layout), writer=DiskWriter())
    # 8 ms, only for a tree in an object store
    from mirror.holdings.store_writer import StoreWriter
    from mirror.tree.objects.client import ObjectClient
    from mirror.tree.objects.files import ObjectFiles
    from mirror.tree.objects.pages import ObjectPages

    connect = partial(
        ObjectClient,
        address,
        os.environ if env is None else env,
        connect_timeout_s=limits.connect_timeout_s,
        stall_timeout_s=limits.stall_timeout_s,
    )
    client = await anyio.to_thread.run_sync(connect)
    writer = StoreWriter(store, client, settings, wait_s=wait_s, is_repair=is_repair)
    return OpenTree(
        files=ObjectFiles(local, client, writer, staging_limit_bytes=settings.staging_size),
        pages=ObjectPages(client, writer, root=lambda: writer.root),
        writer=writer,
        client=client,
        conditions=(claim and claim.conditions) or ("none" if settings.single_writer else "etag"),
    )
