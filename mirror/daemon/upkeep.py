"""Upkeep between two cycles, at most daily: delete unlisted files, read missing summaries, and hash
a slice of the tree again.

The slice is ``mirror.scrub`` of the files, the longest unverified first. Upkeep yields to a cycle
that is due and continues after it; whole files are recorded as it goes. Damage is logged, recorded
for ``status`` and metrics, and left for a person: ``mirror verify --repair`` mends it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio

from mirror.config import Config
from mirror.daemon.pulse import Pulse
from mirror.errors import LockHeld, StateError, TreeError, ungrouped
from mirror.holdings.holdings import Clock, Holdings
from mirror.holdings.opening import opened_holdings
from mirror.logs import get_logger
from mirror.state.notes import UpkeepNote, record_note
from mirror.state.store import Store
from mirror.upkeep.damage import record_damage
from mirror.upkeep.findings import Finding, Scope, Verification
from mirror.upkeep.prune import Pruning, Retention, prune
from mirror.upkeep.summaries import fill_summaries
from mirror.upkeep.verify import verify

EVERY_S = 86_400.0

GRACE_S = 30.0
"""Maximum time for the file being hashed when a cycle is due; a larger one is hashed again the next
time.
"""

_log = get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class _Progress:
    """One upkeep, which may be done in several parts."""

    pruning: Pruning = field(default_factory=Pruning)
    is_pruned: bool = False
    summaries: int = 0
    wanted: int | None = None
    """Files of the slice; None before the first part."""
    checked: int = 0
    checked_bytes: int = 0


class Upkeep:
    """The upkeep of one tree by one daemon."""

    def __init__(self, pulse: Pulse, *, clock: Clock = time.time) -> None:
        self._pulse = pulse
        self._clock = clock
        self._progress: _Progress | None = None
        self.found: list[Finding] = []
        """Damage that the last run found, until it is taken."""

    def is_due(self, last_at: float | None) -> bool:
        """Return whether it is time; a last run in the future is not believed."""
        now = self._clock()
        return self._progress is not None or last_at is None or not now - EVERY_S < last_at <= now

    def is_overdue(self, last_at: float) -> bool:
        """Return whether it was due a day ago already."""
        return self._clock() - last_at > 2 * EVERY_S

    async def run(self, config: Config, until: Callable[[], Awaitable[None]]) -> bool:
        """Do the due work until it is done or ``until`` returns, and return whether it is done.

        Raises nothing expected.
        """
        self._progress = self._progress or _Progress()
        try:
            async with opened_holdings(config.mirror, config.limits, clock=self._clock) as holdings:
                is_done = await self._run(config, holdings, self._progress, until)
        except LockHeld as exc:
            _log.info("upkeep.waits", pid=exc.pid)
            return False
        except (StateError, TreeError) as exc:
            _log.error("upkeep.failed", problem=str(exc))
            self._progress = None
            return False
        if is_done:
            self._progress = None
        return is_done

    async def _run(
        self,
        config: Config,
        holdings: Holdings,
        progress: _Progress,
        until: Callable[[], Awaitable[None]],
    ) -> bool:
        found = Verification()

        async def yield_when_due() -> None:
            await until()
            found.stopped = True
            await anyio.sleep(GRACE_S)
            tasks.cancel_scope.cancel()

        try:
            with (
                self._pulse.work(
                    lambda: _describe(progress, found),
                    lambda: _marker(progress, found, holdings.store),
                ),
                ungrouped(),
            ):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(yield_when_due)
                    await self._prune(config, holdings, progress)
                    await self._scrub(config, holdings, progress, found)
                    tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                progress.checked += found.blobs_checked
                progress.checked_bytes += found.bytes_checked
                await self._record_damage(holdings.store, found.findings)
        if (
            not progress.is_pruned
            or progress.wanted is None
            or (found.stopped and progress.checked < progress.wanted)
        ):
            _log.info("upkeep.yielded", checked=progress.checked, wanted=progress.wanted)
            return False
        await self._record_end(holdings.store, progress)
        return True

    async def _prune(self, config: Config, holdings: Holdings, progress: _Progress) -> None:
        if progress.is_pruned:
            return
        retention = Retention(
            removed_s=config.mirror.keep_removed_s, history_s=config.mirror.keep_history_s
        )
        await prune(holdings, retention, into=progress.pruning)
        progress.summaries += await fill_summaries(holdings.store, holdings.layout, holdings.client)
        progress.is_pruned = True

    async def _scrub(
        self, config: Config, holdings: Holdings, progress: _Progress, found: Verification
    ) -> None:
        share = config.mirror.scrub_share
        if progress.wanted is not None:
            share *= max(progress.wanted - progress.checked, 0) / max(progress.wanted, 1)
        if found.stopped:
            return
        if not share:
            progress.wanted = progress.wanted or 0
            return
        await verify(holdings, Scope(share=share), into=found)
        if progress.wanted is None:
            progress.wanted = found.blobs_total

    async def _record_damage(self, store: Store, findings: list[Finding]) -> None:
        if not findings:
            return
        self.found += findings
        await record_damage(store, findings, now=self._clock())

    async def _record_end(self, store: Store, progress: _Progress) -> None:
        gone = progress.pruning
        note = UpkeepNote(
            at=self._clock(),
            pruned=gone.blobs + gone.leftovers,
            pruned_bytes=gone.bytes + gone.leftover_bytes,
            checked=progress.checked,
            checked_bytes=progress.checked_bytes,
        )
        await record_note(store, "upkeep", note)
        _log.info(
            "upkeep.finished",
            pruned=note.pruned,
            pruned_bytes=note.pruned_bytes,
            checked=note.checked,
            checked_bytes=note.checked_bytes,
            summaries=progress.summaries,
            damaged=len(self.found),
        )


def _describe(progress: _Progress, found: Verification) -> str:
    if not progress.is_pruned:
        return "upkeep: deleting what nothing lists"
    done, wanted = progress.checked + found.blobs_checked, progress.wanted or found.blobs_total
    return f"upkeep: hashing files again, {done:,} of {wanted:,}"


def _marker(progress: _Progress, found: Verification, store: Store) -> object:
    gone = progress.pruning
    return (
        gone.blobs,
        gone.scanned,
        gone.leftovers,
        found.doing,
        found.blobs_checked,
        found.bytes_checked,
        found.pages_checked,
        store.changes,
    )
