"""The object store that a root's tree lies in, for commands that only read it."""

from __future__ import annotations

import anyio

from mirror.config import MirrorSettings
from mirror.config.settings import REMEMBERED_TREE
from mirror.core.store_address import StoreAddress, parse_store_address
from mirror.errors import StateError
from mirror.state.objects import load_claim
from mirror.state.store import open_store_for_reading


async def find_store(settings: MirrorSettings) -> StoreAddress | None:
    """Return the configured address, else the one that the state remembers; None: on the disk."""
    if settings.store_address is not None or settings.tree != REMEMBERED_TREE:
        return settings.store_address
    if not await anyio.Path(settings.state).exists():
        return None
    try:
        async with open_store_for_reading(settings.state) as store:
            claim = await load_claim(store)
    except StateError:  # the server goes on without a state that can't be read
        return None
    return None if claim is None else parse_store_address(claim.address)
