"""What the tests of snapshots and bundles share: the commands' work on a mirror of the harness, in this process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from harness.in_process import Mirror, published
from mirror.holdings.holdings import Holdings
from mirror.holdings.opening import opened_holdings
from mirror.state.frozen.snapshots import SnapshotRow
from mirror.upkeep import snapshot as work
from mirror.upkeep.compare import compare as run_compare


@contextlib.asynccontextmanager
async def opened(mirror: Mirror) -> AsyncIterator[Holdings]:
    """Open the mirror's tree under its lock, at the mirror's own time."""
    async with opened_holdings(mirror.config.mirror, mirror.config.limits, clock=mirror.clock) as tree:
        yield tree


async def snapshot(mirror: Mirror, name: str, **options: Any) -> SnapshotRow:
    """Make a snapshot a second later."""
    mirror.clock.advance(1.0)
    async with opened(mirror) as tree:
        return await work.create_snapshot(tree, name, **options)


async def delete(mirror: Mirror, name: str) -> None:
    async with opened(mirror) as tree:
        await work.delete_snapshot(tree, name)


async def promote(mirror: Mirror, name: str, channel: str) -> str | None:
    async with opened(mirror) as tree:
        return await work.promote(tree, name, channel)


async def compare(mirror: Mirror, first: str, second: str = "now") -> dict[str, Any]:
    """Return the report of ``snapshot diff``."""
    async with opened(mirror) as tree:
        return (await run_compare(tree.store, first, second)).as_json()


def shown(place: Path) -> dict[str, dict[str, str]]:
    """Return what an index below ``place`` lists, project -> filename -> sha256; every byte is checked."""
    from harness.in_process import _check_files, read_json

    simple = place / "simple"
    names = [p["name"] for p in read_json(simple / "index.v1_json")["projects"]]
    assert sorted(names) == sorted(p.name for p in simple.iterdir() if p.is_dir())
    found = {}
    for name in names:
        page = read_json(simple / name / "index.v1_json")
        _check_files(simple / name, page)
        found[name] = {f["filename"]: f["hashes"]["sha256"] for f in page["files"]}
    return found


__all__ = ["compare", "delete", "opened", "promote", "published", "shown", "snapshot"]
