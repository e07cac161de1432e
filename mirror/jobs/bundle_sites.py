"""The sites beyond the gap: the bundles of each, made, acknowledged and begun."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from mirror.bundle.making.drafts import clear_begun, draft_path
from mirror.bundle.making.ledger import forget_site
from mirror.bundle.repair import acknowledged_changes, find_shipment, read_receipt
from mirror.config import Config
from mirror.holdings.opening import opened_holdings, opened_holdings_for_reading
from mirror.state.frozen.draft import open_draft
from mirror.state.frozen.shipments import ShipmentRow, load_shipments, record_acknowledged
from mirror.state.frozen.snapshots import FrozenKind, SnapshotRow, load_snapshots
from mirror.tree.lock import hold
from mirror.upkeep.snapshot import remove


async def load_bundles(config: Config, site: str | None) -> list[ShipmentRow]:
    """Return the bundles that were made for a site, or for all."""
    async with opened_holdings_for_reading(config.mirror, config.limits) as holdings:
        return await load_shipments(holdings.store, site)


async def load_unfinished(config: Config, site: str | None) -> list[tuple[str, SnapshotRow]]:
    """Return the bundles that were begun and not completed: site and pin."""
    async with opened_holdings_for_reading(config.mirror, config.limits) as holdings:
        pins = [
            (pin.name.rpartition("-")[0], pin)
            for pin in await load_snapshots(holdings.store, FrozenKind.PIN)
        ]
    return [(name, pin) for name, pin in pins if site in {None, name}]


def abandon(config: Config, site: str, *, wait_s: float) -> list[str]:
    """Drop the unfinished bundle of a site; return the folders that were written to."""
    with hold(config.mirror.root / "bundle.lock", wait_s=wait_s):
        return anyio.run(partial(drop_unfinished, config, site, wait_s=wait_s))


async def drop_unfinished(config: Config, site: str, *, wait_s: float) -> list[str]:
    """Drop the unfinished bundle of a site; return the folders that were written to."""
    places = []
    async with opened_holdings(config.mirror, config.limits, wait_s=wait_s) as holdings:
        for pin in await load_snapshots(holdings.store, FrozenKind.PIN):
            if pin.name.rpartition("-")[0] != site:
                continue
            with open_draft(draft_path(holdings.layout, pin.name)) as draft:
                places.append(str(draft.meta("directory") or ""))
                clear_begun(draft, is_abandoned=True)
            await remove(holdings, pin)
    return places


def forget(config: Config, site: str, *, wait_s: float) -> tuple[list[str], int]:
    """Remove a site and everything that is kept for it; return what ``abandon`` does, and the
    number of bundles.
    """

    async def run() -> int:
        opened = opened_holdings(config.mirror, config.limits, wait_s=wait_s)
        async with opened as holdings:
            return await forget_site(holdings.store, holdings.layout, site)

    with hold(config.mirror.root / "bundle.lock", wait_s=wait_s):
        begun = anyio.run(partial(drop_unfinished, config, site, wait_s=wait_s))
        return begun, anyio.run(run)


async def acknowledge(
    config: Config, receipt: Path, *, wait_s: float
) -> tuple[ShipmentRow, list[str]]:
    """Record a receipt of the far side; return the bundle, and the changes for others."""
    async with opened_holdings(config.mirror, config.limits, wait_s=wait_s) as holdings:
        found = await anyio.to_thread.run_sync(read_receipt, receipt)
        before = await load_shipments(holdings.store, found.site)
        row = find_shipment(found, before, is_receipt=True)
        await record_acknowledged(
            holdings.store,
            row,
            now=time.time(),
            free_bytes=found.free_bytes,
            damage=len(found.damage),
        )
        after = await load_shipments(holdings.store, found.site)
    row = next(r for r in after if r.sequence == row.sequence)
    return row, acknowledged_changes(before, after, row.sequence)
