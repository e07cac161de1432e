"""The ledger of bundles made for each site: a chain of shipments, each with its receipt from the
far side.

A shipment is recorded once its signature is on the medium, never before. While it is ``needed`` a
later bundle may build on it, and ``prune`` keeps the history of the files published at its
revision.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from mirror.state.store import Store


class ShipmentRow(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle that was made. Times are seconds since the epoch."""

    id: int
    site: str
    chain: str
    sequence: int
    digest: str
    """sha256 of its ``bundle.json``."""
    revision: int
    base: int | None
    """The sequence that it builds on; None for a full one."""
    state: Mapping[str, int | str]
    """The far side's state after it, as in ``bundle.json``."""
    volumes: int
    bytes: int
    made_at: float
    acknowledged_at: float | None = None
    free_bytes: int | None = None
    """On the far side, from its receipt."""
    damage: int | None = None
    needed: bool = True


_COLUMNS = (
    "id, site, chain, sequence, digest, revision, base, state, volumes, bytes, made_at,"
    " acknowledged_at, free_bytes,"
    " damage, needed"
)


async def load_chain(store: Store, site: str) -> str | None:
    """Return the id of a site's chain, or None where nothing was ever made for it."""
    query = "SELECT chain FROM site WHERE name = ?"
    return next(iter(await store.values(query, (site,))), None)


async def load_shipments(store: Store, site: str | None = None) -> list[ShipmentRow]:
    """Return the shipments of one site or of all, by site and sequence."""
    where, values = ("WHERE site = ?", (site,)) if site is not None else ("", ())
    query = f"SELECT {_COLUMNS} FROM shipment {where} ORDER BY site, sequence"
    return await store.rows_as(ShipmentRow, query, values)


async def record_shipment(store: Store, row: ShipmentRow) -> None:
    """Record a bundle whose signature is on its medium; its ``id`` is ignored."""
    async with store.transaction() as tx:
        await tx.execute(
            "INSERT OR IGNORE INTO site (name, chain) VALUES (?, ?)", (row.site, row.chain)
        )
        await tx.execute(
            "INSERT INTO shipment (site, chain, sequence, digest, revision, base, state, volumes,"
            " bytes, made_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                row.site,
                row.chain,
                row.sequence,
                row.digest,
                row.revision,
                row.base,
                msgspec.json.encode(row.state, order="sorted").decode(),
                row.volumes,
                row.bytes,
                row.made_at,
            ),
        )


async def record_acknowledged(
    store: Store, row: ShipmentRow, *, now: float, free_bytes: int | None, damage: int
) -> None:
    """Record the contents of a receipt."""
    async with store.transaction() as tx:
        await tx.execute(
            "UPDATE shipment SET acknowledged_at = coalesce(acknowledged_at, ?), free_bytes = ?,"
            " damage = ? WHERE id = ?",
            (now, free_bytes, damage, row.id),
        )


async def record_site_forgotten(store: Store, site: str) -> None:
    """Forget a site, its chain and its bundles."""
    async with store.transaction() as tx:
        await tx.execute("DELETE FROM shipment WHERE site = ?", (site,))
        await tx.execute("DELETE FROM site WHERE name = ?", (site,))


async def record_shipments_aged(store: Store, cutoff: float) -> int:
    """Release old shipments that no bundle will build on: made before a time, and a later one was
    acknowledged before that time too.

    Whoever holds the medium can make a receipt: it releases nothing before ``keep-history`` has
    passed since it was entered.
    """
    async with store.transaction() as tx:
        return await tx.execute(
            "UPDATE shipment SET needed = 0 WHERE needed = 1 AND made_at <= ? AND EXISTS (SELECT 1"
            " FROM shipment later"
            " WHERE later.site = shipment.site AND later.sequence > shipment.sequence"
            " AND later.acknowledged_at <= ?)",
            (cutoff, cutoff),
        )
