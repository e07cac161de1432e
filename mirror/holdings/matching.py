"""Whether a state and a tree belong together."""

from __future__ import annotations

import anyio.to_thread
import msgspec

from mirror.config import MirrorSettings
from mirror.errors import StateError
from mirror.state.entries.pages import Revisions, load_revisions
from mirror.state.entries.rebuilt import is_rebuild_unfinished
from mirror.state.objects import load_claim
from mirror.state.store import Store
from mirror.tree.checking.page_places import iter_projects
from mirror.tree.layout import Layout
from mirror.tree.pages import PageStore


def no_state(settings: MirrorSettings, layout: Layout) -> StateError:
    """Return the error of a mirror whose state is missing."""
    if layout.simple.is_dir():
        return StateError(
            path=str(settings.state),
            problem="it is missing beside a tree with pages;"
            " run `mirror verify --repair` to rebuild it from them",
            is_damage=True,
        )
    if settings.tree:
        problem = (
            f"it is missing; run `mirror sync --once`, or, where {settings.tree} holds a tree that"
            " this root is to continue, `mirror tree adopt`"
        )
        return StateError(path=str(settings.state), problem=problem)
    return StateError(
        path=str(settings.state),
        problem="there is no mirror here: check --root, or run `mirror sync --once`",
    )


async def check_tree_matches(store: Store, layout: Layout) -> None:
    """Raise ``StateError`` where the tree has pages that this state has never written."""
    await _raise_if_unfinished(store)
    standing = await _load_standing(store, layout)
    if standing is not None:
        await _raise_if_newer(store, layout, standing)


async def check_tree(store: Store, layout: Layout) -> None:
    """Check both: that the tree has no other pages, and that none of its own are gone."""
    await _raise_if_unfinished(store)
    standing = await _load_standing(store, layout)
    if standing is not None:
        await _raise_if_newer(store, layout, standing)
        _raise_if_gone(store, layout, standing)


class _Standing(msgspec.Struct, frozen=True, kw_only=True):
    revisions: Revisions
    on_disk: int | None
    """The serial of the root page; None where there is none."""


async def _load_standing(store: Store, layout: Layout) -> _Standing | None:
    """Return what is compared; None for a tree in a store, whose root page is compared when the
    lock is taken (``store_writer``).
    """
    if await load_claim(store) is not None:
        return None
    on_disk = await anyio.to_thread.run_sync(PageStore(layout).root_serial)
    return _Standing(revisions=await load_revisions(store), on_disk=on_disk)


async def _raise_if_unfinished(store: Store) -> None:
    if await is_rebuild_unfinished(store):
        problem = "its rebuilding was interrupted; run `mirror verify --repair` again"
        raise StateError(path=str(store.path), problem=problem, is_damage=True)


async def _raise_if_newer(store: Store, layout: Layout, standing: _Standing) -> None:
    on_disk = standing.on_disk
    known = max(standing.revisions.newest, standing.revisions.written)
    if not known and await anyio.to_thread.run_sync(_has_pages, layout):
        on_disk = on_disk or 1
    if on_disk is not None and on_disk > known:
        raise StateError(
            path=str(store.path),
            problem=f"{layout.simple} holds pages that this state does not know (revision"
            f" {on_disk}, known {known}): the state is missing or older than the tree; run"
            " `mirror verify --repair` to rebuild it from the tree, or restore the newer state",
            is_damage=True,
        )


async def check_tree_is_there(store: Store, layout: Layout) -> None:
    """Raise ``StateError`` where the pages that this state has written are gone, or older ones are
    in their place.

    A cycle asks only for changes since the state, so it would never write those pages again.
    """
    standing = await _load_standing(store, layout)
    if standing is not None:
        _raise_if_gone(store, layout, standing)


def _raise_if_gone(store: Store, layout: Layout, standing: _Standing) -> None:
    on_disk, written = standing.on_disk, standing.revisions.written
    if (on_disk or 0) < written:
        found = (
            "no root page of ours"
            if on_disk is None
            else f"an older root page (revision {on_disk})"
        )
        raise StateError(
            path=str(store.path),
            problem=f"{layout.simple} holds {found}, this state wrote revision {written}: the"
            " tree was lost, damaged or replaced by an older one;"
            " run `mirror verify --repair` to mend it from the state, or check `root`",
        )


def _has_pages(layout: Layout) -> bool:
    return any((layout.simple / name).is_dir() for name in iter_projects(layout))
