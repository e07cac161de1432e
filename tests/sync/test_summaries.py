"""The summary of each project: recorded with a wheel, filled in by upkeep, never by an idle cycle."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from harness.in_process import Mirror
from harness.older_state import downgrade
from mirror.holdings.opening import opened_holdings
from mirror.state.schema import MIGRATIONS
from mirror.upkeep.summaries import fill_summaries
from simulator import Simulator, build_sdist, build_wheel

Start = Callable[..., Awaitable[Simulator]]
MirrorOf = Callable[..., Mirror]

NONE_YET = next(number for number, script in enumerate(MIGRATIONS) if "TABLE about" in script)
"""The last version of the state without summaries."""


def about(mirror: Mirror) -> list[tuple[Any, ...]]:
    return mirror.query("SELECT name, shown, summary, version FROM about ORDER BY name")


async def fill(mirror: Mirror) -> int:
    async with opened_holdings(mirror.config.mirror, mirror.config.limits, clock=mirror.clock) as tree:
        return await fill_summaries(tree.store, tree.layout, tree.client)


def wheel(name: str, version: str, summary: str) -> tuple[str, bytes]:
    return build_wheel(name, version, metadata=f"Metadata-Version: 2.1\nName: {name}\nSummary: {summary}\n\n")


async def test_a_cycle_records_the_summary_of_the_newest_wheel(simulator: Start, mirror_of: MirrorOf) -> None:
    """In whatever order versions come, the newest final one gives the summary; a newer one replaces it later."""
    index = await simulator()
    for version in ("1.0", "1.10", "1.9", "2.0b1"):
        index.state.publish("Demo.App", *wheel("demo-app", version, f"of {version}"))
    index.state.publish("source-only", *build_sdist("source-only", "1.0"))
    mirror = mirror_of(index)
    await mirror.cycle()
    assert about(mirror) == [("demo-app", 1, "of 1.10", "1.10"), ("source-only", 1, None, None)]
    index.state.publish("Demo.App", *wheel("demo-app", "2.0", "of 2.0"))
    index.state.publish("source-only", *wheel("source-only", "1.1", ""))
    await mirror.cycle()
    assert about(mirror) == [("demo-app", 1, "of 2.0", "2.0"), ("source-only", 1, "", "1.1")]


async def test_upkeep_fills_in_an_old_root(simulator: Start, mirror_of: MirrorOf) -> None:
    """A root of an older version has no summaries: an idle cycle leaves it so, upkeep reads them once."""
    index = await simulator()
    for version in ("1.9", "1.10"):
        index.state.publish("demo-app", *wheel("demo-app", version, f"of {version}"))
    index.state.publish("source-only", *build_sdist("source-only", "1.0"))
    mirror = mirror_of(index)
    await mirror.cycle()
    downgrade(mirror.root / "state.db", NONE_YET)
    await mirror.cycle()
    assert about(mirror) == [("demo-app", 1, None, None), ("source-only", 1, None, None)]
    assert await fill(mirror) == 1
    assert about(mirror) == [("demo-app", 1, "of 1.10", "1.10"), ("source-only", 1, "", None)]
    assert await fill(mirror) == 0
    await mirror.cycle()
    assert about(mirror) == [("demo-app", 1, "of 1.10", "1.10"), ("source-only", 1, "", None)]


async def test_a_project_that_leaves_is_not_found(simulator: Start, mirror_of: MirrorOf) -> None:
    """The search follows what the root publishes."""
    index = await simulator()
    index.state.publish("p", *wheel("p", "1.0", "text"))
    index.state.publish("q", *wheel("q", "1.0", "text"))
    index.state.publish("r", *wheel("r", "1.0", "text"))
    mirror = mirror_of(index)
    await mirror.cycle()
    index.state.delete_project("p")
    await mirror.cycle()
    await mirror.cycle()
    assert [(name, shown) for name, shown, *_ in about(mirror)] == [("p", 0), ("q", 1), ("r", 1)]
