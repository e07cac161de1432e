"""Check a tree, as ``mirror verify`` does it; asks no index, so that no client of one is
imported.
"""

from __future__ import annotations

import time

from mirror.config import Config
from mirror.holdings.opening import opened_holdings_for_reading
from mirror.upkeep.damage import record_verification
from mirror.upkeep.findings import Scope, Verification
from mirror.upkeep.verify import verify
from mirror.workers.fork_server import ForkServer


async def check(
    config: Config, scope: Scope, found: Verification, fork_server: ForkServer | None = None
) -> None:
    """Check the tree without a lock."""
    async with opened_holdings_for_reading(config.mirror, config.limits, may_note=True) as holdings:
        await verify(holdings, scope, into=found, fork_server=fork_server)
        await record_verification(holdings.store, found, now=time.time(), is_whole=scope.is_all)
