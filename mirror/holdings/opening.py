"""Open the state and the tree of an existing mirror, for the commands that need no upstream.

Invariants: another user than the owner of the state writes nothing, a state that does not belong to
the tree is refused, and the lock is held during every write.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.to_thread

from mirror.config import Limits, MirrorSettings
from mirror.errors import LockHeld, StateError, TreeError
from mirror.holdings.holdings import Clock, Holdings
from mirror.holdings.matching import check_tree_matches, no_state
from mirror.holdings.tree_opening import create_local, locked_root, open_tree
from mirror.logs import get_logger
from mirror.state.cycles import load_last_cycle
from mirror.state.store import (
    Store,
    check_integrity,
    is_of_an_older_version,
    open_store,
    open_store_for_reading,
)
from mirror.tree.disk.durability import sync_directory
from mirror.tree.layout import Layout
from mirror.tree.lock import hold_async
from mirror.tree.owner import check_owner, check_places

_log = get_logger(__name__)

_STATE_ENDINGS = ("", "-wal", "-shm")


@contextlib.asynccontextmanager
async def opened_holdings(
    settings: MirrorSettings, limits: Limits, *, wait_s: float = 0.0, clock: Clock = time.time
) -> AsyncIterator[Holdings]:
    """Yield state and tree with the lock held, for a command that writes.

    Raises ``TreeError``, ``StateError``, ``LockHeld``.
    """
    layout = Layout(settings.root)
    await check_user(settings)
    if not await anyio.Path(settings.state).exists():
        raise await anyio.to_thread.run_sync(no_state, settings, layout)
    async with hold_async(layout.tree_lock, wait_s=wait_s), open_store(settings.state) as store:
        await check_tree_matches(store, layout)
        await anyio.to_thread.run_sync(create_local, settings)
        async with _built(settings, limits, store, clock, wait_s=wait_s) as holdings:
            yield holdings


async def make_state(settings: MirrorSettings, *, wait_s: float = 0.0) -> None:
    """Make an empty tree with its state.

    Raises ``LockHeld``, ``TreeError``, or ``StateError`` where pages are there.
    """
    layout = Layout(settings.root)
    await check_user(settings)
    async with locked_root(settings, wait_s=wait_s), open_store(settings.state) as store:
        await check_tree_matches(store, layout)


@contextlib.asynccontextmanager
async def opened_holdings_for_reading(
    settings: MirrorSettings, limits: Limits, *, clock: Clock = time.time, may_note: bool = False
) -> AsyncIterator[Holdings]:
    """Yield state and tree without a lock, also while another process works on it.

    Raises ``TreeError``, ``StateError``.

    ``may_note``: the state takes small notes where it can be written, such as the time of a
    verification; the command then counts as one that writes.
    """
    layout = Layout(settings.root)
    if may_note:
        await check_user(settings)
    if not await anyio.Path(settings.state).exists():
        raise await anyio.to_thread.run_sync(no_state, settings, layout)
    if may_note and await is_of_an_older_version(settings.state):
        await _upgrade(settings, layout)
    async with open_store_for_reading(settings.state, may_note=may_note) as store:
        await check_tree_matches(store, layout)
        async with _built(settings, limits, store, clock) as holdings:
            yield holdings


async def _upgrade(settings: MirrorSettings, layout: Layout) -> None:
    """Bring a state up to this version, unless a process of an older one may still work on it."""
    with contextlib.suppress(LockHeld, TreeError):
        async with (
            hold_async(layout.daemon_lock),
            hold_async(layout.tree_lock),
            open_store(settings.state),
        ):
            pass


@contextlib.asynccontextmanager
async def opened_holdings_for_repair(
    settings: MirrorSettings, limits: Limits, *, wait_s: float = 0.0, clock: Clock = time.time
) -> AsyncIterator[tuple[Holdings, bool]]:
    """Yield state and tree with the lock held, and whether the state is the tree's own.

    A state that is missing, damaged or not the tree's is set aside for a new, empty one.
    """
    layout = Layout(settings.root)
    await check_user(settings)
    if (
        not await anyio.Path(layout.simple).is_dir()
        and not await anyio.Path(settings.state).exists()
    ):
        raise await anyio.to_thread.run_sync(no_state, settings, layout)
    async with locked_root(settings, wait_s=wait_s):
        is_usable = await _is_usable(settings, layout)
        if not is_usable:
            await anyio.to_thread.run_sync(set_aside_state, settings.state)
        async with (
            open_store(settings.state) as store,
            _built(settings, limits, store, clock, wait_s=wait_s, is_repair=True) as holdings,
        ):
            yield holdings, is_usable


async def check_user(settings: MirrorSettings) -> None:
    """Raise ``WrongUser`` where another user owns the state, before a command writes anything.

    Raises ``TreeError`` where another user could redirect the writes.
    """
    await anyio.to_thread.run_sync(check_owner, settings.root, settings.state)
    await anyio.to_thread.run_sync(check_places, Layout(settings.root))


async def _is_usable(settings: MirrorSettings, layout: Layout) -> bool:
    if not await anyio.Path(settings.state).exists():
        return False
    try:
        async with open_store(settings.state) as store:
            await check_tree_matches(store, layout)
            await check_integrity(store)
    except StateError as exc:
        if exc.is_damage:
            return False
        raise
    return True


def set_aside_state(path: Path) -> list[Path]:
    """Move a damaged database and its side files out of the way; return where they are.

    Raises ``StateError``.
    """
    moved = []
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    try:
        while any(
            path.with_name(f"{path.name}.damaged-{stamp}{e}").exists() for e in _STATE_ENDINGS
        ):
            stamp += "x"
        for ending in _STATE_ENDINGS:
            source = path.with_name(path.name + ending)
            if source.exists():
                target = path.with_name(f"{path.name}.damaged-{stamp}{ending}")
                source.rename(target)
                moved.append(target)
        sync_directory(path.parent)
    except OSError as exc:
        raise StateError(path=str(path), problem=f"can't be moved aside: {exc.strerror}") from exc
    for target in moved:
        _log.warning("state.moved_aside", path=str(path), to=str(target))
    return moved


@contextlib.asynccontextmanager
async def _built(
    settings: MirrorSettings,
    limits: Limits,
    store: Store,
    clock: Clock,
    *,
    wait_s: float = 0.0,
    is_repair: bool = False,
) -> AsyncIterator[Holdings]:
    last = await load_last_cycle(store)
    tree = await open_tree(store, settings, limits, wait_s=wait_s, is_repair=is_repair)
    try:
        yield Holdings(
            store=store,
            layout=Layout(settings.root),
            files=tree.files,
            pages=tree.pages,
            writer=tree.writer,
            client=tree.client,
            clock=clock,
            cycle=last.id if last else 0,
        )
    finally:
        await tree.writer.end()
