"""Values that belong to the mirror as a whole, by key."""

from __future__ import annotations

from collections.abc import Collection

from mirror.state.parameters import marks
from mirror.state.store import Store


async def load_meta(store: Store, key: str) -> str | None:
    """Return a value that belongs to the mirror as a whole."""
    return next(iter(await store.values("SELECT value FROM meta WHERE key = ?", (key,))), None)


async def load_metas(store: Store, keys: Collection[str]) -> dict[str, str]:
    """Return those of some values that are there, by key."""
    query = f"SELECT key, value FROM meta WHERE key IN ({marks(keys)})"
    return await store.mapping(query, tuple(keys))


async def record_meta(store: Store, key: str, value: str) -> None:
    """Keep a value that belongs to the mirror as a whole."""
    async with store.transaction() as tx:
        await tx.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))
