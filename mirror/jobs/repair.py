"""Mend a tree, and fetch lost files again, as ``mirror verify --repair`` does it."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

from mirror.config import Config
from mirror.errors import MirrorError, StateError
from mirror.holdings.opening import opened_holdings_for_repair
from mirror.jobs.check import check
from mirror.jobs.once import OnceResult, run_and_record
from mirror.state.blobs.lost import LostFile, record_gone
from mirror.state.entries.held import load_listed_filenames
from mirror.state.missing.ledger import load_project_failures
from mirror.state.store import Store
from mirror.sync.cycle_parts import Options
from mirror.upkeep.damage import record_verification
from mirror.upkeep.findings import Scope, Verification, is_of_snapshot
from mirror.upkeep.rebuild import rebuild
from mirror.upkeep.repair import repair
from mirror.upkeep.verify import check_again
from mirror.wiring.cycle import opened_cycle
from mirror.wiring.known_indexes import with_known_indexes
from mirror.workers.fork_server import ForkServer

_MOST_NAMED = 500
"""Maximum number of projects that are named to a narrowed cycle."""


async def check_and_repair(
    config: Config,
    scope: Scope,
    *,
    env: Mapping[str, str],
    wait_s: float,
    into: Verification,
    fork_server: ForkServer | None = None,
) -> MirrorError | None:
    """Mend the tree under its lock, then fetch the lost files by a cycle narrowed to their
    projects; return the error of that cycle.

    The whole tree is hashed before the lock is taken: a daemon may go on meanwhile.
    """
    found = into
    try:
        await check(config, scope, found, fork_server)
    except StateError as exc:
        if not exc.is_damage:
            raise
    async with opened_holdings_for_repair(config.mirror, config.limits, wait_s=wait_s) as (
        holdings,
        is_own,
    ):
        if not is_own:
            found.blobs_checked = found.bytes_checked = found.pages_checked = 0
            found.findings.clear()
            await rebuild(holdings, into=found)
            return None
        await check_again(holdings, scope, into=found)
        await record_verification(holdings.store, found, now=time.time(), is_whole=scope.is_all)
        await repair(holdings, found)  # where all is whole, it writes the pages that are due
    if found.lost:
        found.doing = "fetching lost files"
        try:
            found.lost = await _fetch_lost(config, found.lost, env=env, wait_s=wait_s)
        except MirrorError as exc:
            # The tree is mended; the next cycle fetches the lost files.
            return exc
    return None


async def _is_offered_no_more(store: Store, file: LostFile, read: Collection[int]) -> bool:
    """Return whether the page of a file was read, and lists no such file."""
    if file.source not in read or not file.is_configured:
        return False
    failed = await load_project_failures(store, file.source, file.project)
    return file.filename not in failed and "" not in failed


async def _fetch_lost(
    config: Config, lost: list[LostFile], *, env: Mapping[str, str], wait_s: float
) -> list[LostFile]:
    """Run a cycle over the projects that lost files; return the files still missing, recorded in
    the ledger.
    """
    if not config.indexes:
        config = await with_known_indexes(config)
    if not config.indexes:
        return lost
    names = tuple(sorted({file.project for file in lost if not is_of_snapshot(file)}))
    if not names:
        return lost
    # Very many are left to a whole cycle: it reads all pages without validators, and these have
    # none.
    narrowed = Options(projects=names if len(names) <= _MOST_NAMED else ())
    async with opened_cycle(config, narrowed, env=env, wait_s=wait_s) as cycle:
        await run_and_record(cycle, OnceResult())
        held = await load_listed_filenames(cycle.store, names)
        left = [file for file in lost if (file.project, file.filename) not in held]
        read = {run.source.id for run in cycle.runs if run.reach.ended is None}
        left = [
            file
            for file in left
            if file.was_right or not await _is_offered_no_more(cycle.store, file, read)
        ]
        await record_gone(cycle.store, left, now=time.time())
    return left
