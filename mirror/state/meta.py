"""Values that belong to the mirror as a whole, by key."""

from __future__ import annotations

from mirror.state.store import Store


async def load_meta(store: Store, key: str) -> str | None:
    """Return a value that belongs to the mirror as a whole."""
    return next(iter(await store.values("SELECT value FROM meta WHERE key = ?", (key,))), None)


async def record_meta(store: Store, key: str, value: str) -> None:
    """Keep a value that belongs to the mirror as a whole."""
    async with store.transaction() as tx:
        await tx.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))
