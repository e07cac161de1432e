"""The indexes that a state remembers, for a repair without a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mirror.config import Config, IndexConfig
from mirror.core.files.kept_links import is_masked
from mirror.errors import ConfigError
from mirror.selection.proof.checking import with_remembered_wants
from mirror.state.listing.sources import (
    load_sources,
)
from mirror.state.store import open_store_for_reading
from mirror.state.wants.needs import load_needed_indexes

if TYPE_CHECKING:
    pass


async def with_known_indexes(config: Config) -> Config:
    """Return ``config`` with the indexes that the state remembers, their credentials looked up as
    by default.
    """
    async with open_store_for_reading(config.mirror.state) as store:
        known = [s for s in await load_sources(store) if s.configured]
        needed = await load_needed_indexes(store)
        config = await with_remembered_wants(config, store)
    for source in known:
        if is_masked(source.url):
            problem = (
                "the state does not keep its address, which is a secret: pass --config FILE,"
                " which names its source"
            )
            raise ConfigError(where=f"index {source.name!r}", problem=problem)
    indexes = tuple(
        IndexConfig(
            name=s.name,
            url=s.url,
            format="flat" if s.is_flat else "simple",
            select="needed" if s.name in needed and config.wants else "listed",
        )
        for s in known
    )
    return msgspec.structs.replace(config, indexes=indexes)
