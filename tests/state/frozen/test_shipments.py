"""The queries of ``mirror.state.frozen.shipments``."""

from __future__ import annotations

import msgspec

from harness.state_rows import add, rows_of
from mirror.state.frozen.shipments import (
    ShipmentRow,
    load_chain,
    load_shipments,
    record_acknowledged,
    record_shipment,
    record_shipments_aged,
    record_site_forgotten,
)
from mirror.state.store import Store

ROW = ShipmentRow(
    id=1,
    site="north",
    chain="c1",
    sequence=2,
    digest="d",
    revision=3,
    base=1,
    state={"pages": 4, "digest": "e"},
    volumes=5,
    bytes=6,
    made_at=7.0,
)


async def test_load_chain(store: Store) -> None:
    """The chain is that of the site."""
    await add(store, "site", name="north", chain="c1")
    await add(store, "site", name="south", chain="c2")
    assert [await load_chain(store, site) for site in ("north", "south", "east")] == ["c1", "c2", None]


async def test_load_shipments(store: Store) -> None:
    """Shipments are sorted by site and sequence; those of one site are found."""
    await add(store, "shipment", site="south", chain="c2", sequence=1, revision=1, needed=0)
    await add(store, "shipment", site="north", sequence=2, revision=2)
    await add(
        store, "shipment", site="north", chain="c1", sequence=1, digest="d", revision=3, base=1,
        state='{"pages": 4, "digest": "e"}', volumes=5, bytes=6, made_at=7.0, acknowledged_at=8.0, free_bytes=9,
        damage=10,
    )  # fmt: skip
    north = msgspec.structs.replace(ROW, id=3, sequence=1, acknowledged_at=8.0, free_bytes=9, damage=10)
    found = await load_shipments(store)
    assert [(row.site, row.sequence, row.needed) for row in found] == [
        ("north", 1, True),
        ("north", 2, True),
        ("south", 1, False),
    ]
    assert found[0] == north
    assert await load_shipments(store, "north") == found[:2]
    assert await load_shipments(store, "south") == found[2:]
    assert await load_shipments(store, "east") == []


async def test_record_shipment(store: Store) -> None:
    """A shipment and its site are entered; the chain of a known site stays."""
    await record_shipment(store, ROW)
    await record_shipment(store, msgspec.structs.replace(ROW, sequence=3, chain="c2"))
    assert await rows_of(store, "site", "*") == [("north", "c1")]
    values = ("d", 3, 1, '{"digest":"e","pages":4}', 5, 6, 7.0, None, None, None, 1)
    assert await rows_of(store, "shipment", "*") == [
        (1, "north", "c1", 2, *values),
        (2, "north", "c2", 3, *values),
    ]


async def test_record_acknowledged(store: Store) -> None:
    """The time of the first receipt stays, its figures are those of the last."""
    await add(store, "shipment", sequence=1, revision=1)
    await add(store, "shipment", sequence=2, revision=1)
    for now, free_bytes, damage in ((5.0, 100, 1), (6.0, 90, 0)):
        await record_acknowledged(store, ROW, now=now, free_bytes=free_bytes, damage=damage)
    assert await rows_of(store, "shipment", "id, acknowledged_at, free_bytes, damage") == [
        (1, 5.0, 90, 0),
        (2, None, None, None),
    ]


async def test_record_site_forgotten(store: Store) -> None:
    """Another site stays."""
    for site in ("north", "south"):
        await add(store, "site", name=site, chain=site)
        await add(store, "shipment", site=site, chain=site, revision=1)
    await record_site_forgotten(store, "north")
    assert await rows_of(store, "site", "*") == [("south", "south")]
    assert await rows_of(store, "shipment", "site") == [("south",)]


async def test_record_shipments_aged(store: Store) -> None:
    """An old shipment ages once a later one of its site was acknowledged that long ago too."""
    for site, sequence, made_at, acknowledged_at, needed in (
        ("north", 1, 1.0, None, 0),
        ("north", 2, 1.0, None, 1),
        ("north", 3, 5.0, None, 1),
        ("north", 4, 6.0, None, 1),
        ("north", 5, 5.0, 5.0, 1),
        ("north", 6, 5.0, 5.1, 1),
        ("south", 1, 1.0, None, 1),
        ("south", 2, 1.0, None, 1),
    ):
        await add(store, "shipment", site=site, chain=site, sequence=sequence, made_at=made_at, revision=1,
                  acknowledged_at=acknowledged_at, needed=needed)  # fmt: skip
    assert await record_shipments_aged(store, 5.0) == 2
    assert await rows_of(store, "shipment", "site, sequence, needed") == [
        ("north", 1, 0),
        ("north", 2, 0),
        ("north", 3, 0),
        ("north", 4, 1),
        ("north", 5, 1),
        ("north", 6, 1),
        ("south", 1, 1),
        ("south", 2, 1),
    ]
