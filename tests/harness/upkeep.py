"""What the tests of ``verify``, ``prune`` and a rebuilt state share: the commands' work, in this process."""

from __future__ import annotations

import os
import time
from pathlib import Path

from harness.in_process import DAY_S, Mirror
from mirror.holdings.opening import opened_holdings, opened_holdings_for_reading
from mirror.jobs.repair import check_and_repair
from mirror.state.cycles import load_last_cycle, record_cycle_end, record_cycle_start
from mirror.state.store import open_store
from mirror.upkeep.findings import Scope, Verification
from mirror.upkeep.prune import Pruning, Retention, preview_prune
from mirror.upkeep.prune import prune as run_prune
from mirror.upkeep.verify import verify as run_verify
from simulator import Simulator, build_sdist, build_wheel


def fill(simulator: Simulator, count: int = 3, *, start: int = 0) -> None:
    """Publish projects p0, p1, …, each with a wheel."""
    for number in range(start, start + count):
        simulator.state.publish(f"p{number}", *build_wheel(f"p{number}", "1.0"))


def with_sdist(simulator: Simulator, name: str) -> str:
    """Publish a source distribution whose metadata the index offers; return its name."""
    filename, data = build_sdist(name, "1.0")
    simulator.state.publish(name, filename, data, metadata=b"Metadata-Version: 2.1\nName: x\n")
    return filename


def in_real_time(mirror: Mirror) -> Mirror:
    """Let the mirror's clock stand a day before now: the commands use the real one."""
    mirror.clock.now = time.time() - DAY_S
    return mirror


def blob(mirror: Mirror, project: str) -> Path:
    """Return the path of a project's only file."""
    ((filename, sha256),) = mirror.files()[project].items()
    return blob_of(mirror, filename, sha256)


def blob_of(mirror: Mirror, filename: str, sha256: str) -> Path:
    return mirror.root / "public/files" / sha256[:2] / sha256[2:4] / sha256 / filename


def sidecar_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.metadata")


def flip(path: Path, at: int = 50) -> None:
    """Flip the bits of one byte."""
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


async def pass_time(mirror: Mirror, *, days: float, cycles: int) -> None:
    """Let the state know so many cycles that changed nothing, each so many days after the one before.

    A retention counts time by the starts of cycles. A real cycle takes a hundred times as long to come to the same rows.
    """
    async with open_store(mirror.root / "state.db") as store:
        last = await load_last_cycle(store, finished=True)
        assert last is not None
        for _ in range(cycles):
            mirror.clock.advance(days * DAY_S)
            cycle = await record_cycle_start(store, mirror.clock(), allow_shrink=False)
            await record_cycle_end(
                store, cycle, mirror.clock(), outcome=last.outcome, exit_code=last.exit_code, report=last.report
            )


async def verify(mirror: Mirror, scope: Scope | None = None, *, now: float | None = None) -> Verification:
    """Verify as the command does."""
    found = Verification()
    settings, limits = mirror.config.mirror, mirror.config.limits
    clock = time.time if now is None else lambda: now
    async with opened_holdings_for_reading(settings, limits, may_note=True, clock=clock) as holdings:
        await run_verify(holdings, scope or Scope(), into=found)
    return found


async def repair(mirror: Mirror) -> Verification:
    """Verify and repair as the command does, with the fetching of what was lost."""
    found = Verification()
    await check_and_repair(mirror.config, Scope(), env=dict(os.environ), wait_s=0.0, into=found)
    return found


async def prune(mirror: Mirror, *, days: float = 30, history_days: float = 365, dry_run: bool = False) -> Pruning:
    """Prune at the mirror's own time."""
    retention = Retention(removed_s=days * DAY_S, history_s=history_days * DAY_S)
    settings, limits = mirror.config.mirror, mirror.config.limits
    if dry_run:
        async with opened_holdings_for_reading(settings, limits, clock=mirror.clock) as holdings:
            return await preview_prune(holdings, retention)
    async with opened_holdings(settings, limits, clock=mirror.clock) as tree:
        return await run_prune(tree, retention, into=Pruning())


def damage(mirror: Mirror, found: Verification) -> list[tuple[str, str]]:
    """Return the findings as (kind, path below public), sorted."""
    public = f"{mirror.root}/public/"
    return sorted((f.damage.value, f.path.removeprefix(public)) for f in found.findings)


def quarantined(mirror: Mirror) -> list[str]:
    """Return what lies in quarantine, sorted."""
    place = mirror.root / "quarantine"
    return sorted(item.name for item in place.iterdir()) if place.exists() else []


def lose_state(mirror: Mirror) -> None:
    """Delete the state with its side files."""
    for ending in ("", "-wal", "-shm"):
        (mirror.root / f"state.db{ending}").unlink(missing_ok=True)
