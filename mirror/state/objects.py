"""The state's record of its tree in an object store: the address, who writes there, and the ETags
of the pages.

The address and the root's id are committed before the first put, so that a prefix is its own also
after a kill in the first fill. An ETag is opaque.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice

import msgspec

from mirror.state.meta import load_meta, record_meta
from mirror.state.rows import Columns
from mirror.state.store import Store

_CHUNK = 400
_CHANNELS = "channels"
"""Key of the channels in the state's small values."""


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A prefix that this root has claimed."""

    address: str
    root: str
    """The root's id."""
    conditions: str = ""
    """How the engine takes conditions: ``etag``, ``bare``, ``none``; empty: not judged yet."""
    nonces: tuple[str, ...] = ()
    """Of the lock objects that this root wrote last, or is about to write."""


class _TagColumns(Columns, frozen=True):
    key: str
    etag: str


async def load_claim(store: Store) -> Claim | None:
    """Return the claim, or None where the tree lies on the disk."""
    found = await store.mapping(
        "SELECT key, value FROM meta WHERE key IN"
        " ('tree_address', 'root_id', 'tree_conditions', 'lock_nonces')"
    )
    if "tree_address" not in found:
        return None
    return Claim(
        address=found["tree_address"],
        root=found["root_id"],
        conditions=found.get("tree_conditions", ""),
        nonces=tuple(found.get("lock_nonces", "").split()),
    )


async def record_claim(store: Store, claim: Claim) -> None:
    """Keep a claim; with another address the ETags of the earlier one are forgotten."""
    async with store.transaction() as tx:
        before = await tx.values("SELECT value FROM meta WHERE key = 'tree_address'")
        if before != [claim.address]:
            await tx.execute("DELETE FROM object_tag")
        await tx.executemany(
            "INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)",
            [
                ("tree_address", claim.address),
                ("root_id", claim.root),
                ("tree_conditions", claim.conditions),
                ("lock_nonces", " ".join(claim.nonces)),
            ],
        )


async def forget_claim(store: Store) -> None:
    """Forget a claim under which nothing was put."""
    async with store.transaction() as tx:
        await tx.execute(
            "DELETE FROM meta WHERE key IN"
            " ('tree_address', 'root_id', 'tree_conditions', 'lock_nonces')"
        )


async def load_tags(store: Store, keys: Collection[str]) -> dict[str, str]:
    """Return key -> ETag of the objects that this root wrote."""
    found: dict[str, str] = {}
    for some in _chunks(keys):
        rows = await store.rows_as(
            _TagColumns,
            f"SELECT key, etag FROM object_tag WHERE key IN ({', '.join('?' * len(some))})",
            some,
        )
        found |= {row.key: row.etag for row in rows}
    return found


async def record_tags(store: Store, tags: Mapping[str, str | None]) -> None:
    """Keep the ETags of objects that were written; None: it was removed."""
    if not tags:
        return
    async with store.transaction() as tx:
        await tx.executemany(
            "INSERT OR REPLACE INTO object_tag (key, etag) VALUES (?, ?)",
            [(key, etag) for key, etag in tags.items() if etag is not None],
        )
        await tx.executemany(
            "DELETE FROM object_tag WHERE key = ?",
            [(key,) for key, etag in tags.items() if etag is None],
        )


async def load_channels(store: Store) -> dict[str, str]:
    """Return the snapshot that each channel of the store showed when it was last switched.

    A cycle asks the state, since it never lists the objects of a store.
    """
    found = await load_meta(store, _CHANNELS)
    return {} if found is None else msgspec.json.decode(found, type=dict[str, str])


async def record_channels(store: Store, channels: Mapping[str, str]) -> None:
    """Record the snapshot that each channel of the store shows."""
    await record_meta(store, _CHANNELS, msgspec.json.encode(channels).decode())


def _chunks(keys: Collection[str]) -> Iterator[Sequence[str]]:
    left = iter(keys)
    while some := list(islice(left, _CHUNK)):
        yield some
