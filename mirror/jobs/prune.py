"""Delete files that nothing lists, as ``mirror prune`` does it."""

from __future__ import annotations

from mirror.config import Config
from mirror.holdings.opening import opened_holdings, opened_holdings_for_reading
from mirror.upkeep.prune import Pruning, Retention, preview_prune, prune
from mirror.upkeep.summaries import fill_summaries


async def prune_tree(config: Config, *, dry_run: bool, wait_s: float) -> Pruning:
    """Delete the files whose retention has ended; ``dry_run`` only finds them."""
    settings = config.mirror
    retention = Retention(removed_s=settings.keep_removed_s, history_s=settings.keep_history_s)
    if dry_run:
        async with opened_holdings_for_reading(settings, config.limits) as holdings:
            return await preview_prune(holdings, retention)
    async with opened_holdings(settings, config.limits, wait_s=wait_s) as holdings:
        pruned = await prune(holdings, retention, into=Pruning())
        await fill_summaries(holdings.store, holdings.layout, holdings.client)
        return pruned
