"""Let this root write to the tree in an object store that another root, or a copy, has filled."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial

import anyio
import anyio.to_thread

from mirror.config import Config, MirrorSettings
from mirror.core.names import Sha256
from mirror.core.pages.render_pages import iter_root_json
from mirror.errors import StateError, TreeError
from mirror.holdings.holdings import Holdings
from mirror.holdings.opening import check_user, set_aside_state
from mirror.holdings.store_writer import StoreWriter, seize_lock
from mirror.holdings.tree_opening import locked_root
from mirror.jobs.repair import check_and_repair
from mirror.jobs.served_store import find_store
from mirror.state.cycles import load_last_cycle
from mirror.state.entries.pages import load_last_revision, load_published
from mirror.state.entries.rebuilt import is_rebuild_unfinished
from mirror.state.meta import load_meta
from mirror.state.objects import Claim, forget_claim, load_claim, record_channels, record_claim
from mirror.state.store import Store, check_integrity, open_store
from mirror.tree.checking.single_files import has_bytes
from mirror.tree.files import FileStore
from mirror.tree.layout import Layout
from mirror.tree.lock import hold_async
from mirror.tree.objects.client import ObjectClient
from mirror.tree.objects.files import ObjectFiles
from mirror.tree.objects.lease import Lease
from mirror.tree.objects.pages import ObjectPages
from mirror.tree.pages import HTML, JSON_V1
from mirror.upkeep.copying.disk import COPY_MARK
from mirror.upkeep.findings import Scope, Verification
from mirror.upkeep.frozen.places import frozen_places
from mirror.upkeep.stores.adopt import Adoption, adopt, check_adoptable, is_own_tree


async def adopt_tree(
    config: Config, *, env: Mapping[str, str], wait_s: float, into: Adoption
) -> None:
    """Take the store's lock and make the state fit the tree.

    Raises ``ConfigError``, ``LockHeld``, ``TreeError``, ``StateError``.
    """
    settings = config.mirror
    await check_user(settings)
    address = await find_store(settings)
    if address is None:
        await _adopt_disk(config, env=env, wait_s=wait_s, into=into)
        return
    connect = partial(
        ObjectClient,
        address,
        env,
        connect_timeout_s=config.limits.connect_timeout_s,
        stall_timeout_s=config.limits.stall_timeout_s,
    )
    client = await anyio.to_thread.run_sync(connect)
    await anyio.to_thread.run_sync(check_adoptable, client)
    layout = Layout(settings.root)
    async with locked_root(settings, wait_s=wait_s):
        seized: Lease | None = None
        claim: Claim | None = None
        fits, is_claimed = await _fits(settings, client)
        if not (fits and is_claimed):
            # a state changes only for a tree that this root may write to
            claim, seized = await seize_lock(
                client, wait_s=wait_s, is_single_writer=settings.single_writer
            )
        if not fits:
            await anyio.to_thread.run_sync(set_aside_state, settings.state)
        async with open_store(settings.state) as store:
            if claim is not None and seized is not None:
                await record_claim(store, claim)
                seized.give_up()
            local = FileStore(
                layout,
                metadata_limit_bytes=config.limits.metadata_size,
                disk_reserve_bytes=config.limits.disk_reserve,
            )
            writer = StoreWriter(store, client, settings, wait_s=wait_s, may_adopt=True)
            pages = ObjectPages(client, writer, root=lambda: writer.root)
            last = await load_last_cycle(store)
            holdings = Holdings(
                store=store,
                layout=layout,
                files=ObjectFiles(local, client, writer),
                pages=pages,
                writer=writer,
                client=client,
                clock=time.time,
                cycle=last.id if last else 0,
            )
            await writer.begin()
            pages.takes_foreign = True
            try:
                await adopt(holdings, client, into)
                await record_channels(store, await frozen_places(holdings).load_channels())
            finally:
                await writer.end()


async def _adopt_disk(
    config: Config, *, env: Mapping[str, str], wait_s: float, into: Adoption
) -> None:
    """Make the state fit the tree on the disk, whose files are hashed."""
    settings, layout = config.mirror, Layout(config.mirror.root)
    if await anyio.Path(layout.root / COPY_MARK).exists():
        problem = "an interrupted copy lies here: run `mirror tree copy` again until it is whole"
        raise TreeError(path=str(layout.root), problem=problem)
    if not await anyio.Path(layout.simple / HTML).exists():
        problem = "there is no tree here to adopt: check `root` and `tree`"
        raise TreeError(path=str(layout.public), problem=problem)
    async with hold_async(layout.tree_lock, wait_s=wait_s):
        if await anyio.Path(settings.state).exists():
            is_own = False
            async with open_store(settings.state) as store:
                if await load_claim(store) is not None:
                    is_own = await _wrote(store, layout)
                    await forget_claim(store)
                else:
                    is_own = True
            if not is_own:
                await anyio.to_thread.run_sync(set_aside_state, settings.state)
    found = Verification()
    error = await check_and_repair(config, Scope(), env=env, wait_s=wait_s, into=found)
    if error is not None:
        raise error
    into.is_rebuilt, into.projects, into.files = (
        found.rebuilt,
        found.pages_checked,
        found.blobs_checked,
    )
    into.lost += [layout.blob_path(Sha256(one.sha256), one.filename) for one in found.lost]


async def _wrote(store: Store, layout: Layout) -> bool:
    """Return whether the root page on the disk is the one that this state wrote last."""
    written = int(await load_meta(store, "root_revision") or 0)
    expected = list(iter_root_json(await load_published(store), written))
    path = f"{layout.simple}/{JSON_V1}"
    return bool(written) and await anyio.to_thread.run_sync(has_bytes, path, expected)


async def _fits(settings: MirrorSettings, client: ObjectClient) -> tuple[bool, bool]:
    """Return whether the rows of the state may stay, since it is empty or wrote this very tree, and
    whether it has claimed this address.
    """
    if not await anyio.Path(settings.state).exists():
        return True, False
    try:
        async with open_store(settings.state) as store:
            await check_integrity(store)
            claim = await load_claim(store)
            is_claimed = claim is not None and claim.address == str(client.address)
            if await is_rebuild_unfinished(store):
                return False, is_claimed
            is_empty = not await load_last_revision(store)
            return is_empty or await is_own_tree(store, client), is_claimed
    except StateError as exc:
        if exc.is_damage:
            return False, False
        raise
