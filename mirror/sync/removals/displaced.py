"""Versions that newer ones displace (``newest``) stay until the newer ones are held.

A newer version that is withheld or fails for days must not leave the mirror without the older one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from mirror.core.diff import RemovalKind
from mirror.core.rules.judge import public_version
from mirror.publishing.publisher import Publisher
from mirror.state.entries.held import load_held
from mirror.state.store import Store
from mirror.sync.work import IndexRun, PendingRemoval


async def keep_undisplaced(store: Store, runs: Sequence[IndexRun], publisher: Publisher) -> None:
    """Drop the removals of versions whose successors are not held, at the end of all downloads."""
    for run in runs:
        if run.selection.rules.rules.newest and run.reach.ended is None:
            await _keep_of_index(store, run, publisher)


async def _keep_of_index(store: Store, run: IndexRun, publisher: Publisher) -> None:
    kept: list[PendingRemoval] = []
    pages_seen = []
    for removal in run.leaving.pending:
        if not any(one.kind is RemovalKind.DISPLACED for one in removal.files):
            kept.append(removal)
            continue
        held = (await load_held(store, [removal.project]))[removal.project]
        leaving = {one.held.filename for one in removal.files}
        stays = _without_successors(leaving, held.keys(), run.selection.rules.rules.newest)
        files = tuple(
            one
            for one in removal.files
            if one.kind is not RemovalKind.DISPLACED or one.held.filename not in stays
        )
        if files or removal.meta is not None:
            kept.append(msgspec.structs.replace(removal, files=files))
        elif removal.page_seen is not None:
            pages_seen.append(removal.page_seen)
    run.leaving.pending = kept
    await publisher.publish((), pages_seen)


def _without_successors(leaving: Collection[str], held: Collection[str], newest: int) -> set[str]:
    """Return the leaving files of which fewer newer versions than ``newest`` are held and stay."""
    staying = {public_version(name) for name in held if name not in leaving} - {None}
    found = set()
    for name in leaving:
        version = public_version(name)
        newer = [one for one in staying if version is None or (one is not None and one > version)]
        if len(newer) < newest:
            found.add(name)
    return found
