"""One cycle with the work after it, as ``mirror sync --once`` does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext

import anyio
import msgspec

from mirror import __version__
from mirror.config import Config
from mirror.exit_codes import ExitCode
from mirror.jobs.after_cycle import after_once, write_metrics
from mirror.jobs.notify_command import notify_cycle
from mirror.sync.cycle import run_cycle
from mirror.sync.cycle_parts import Cycle, Options
from mirror.sync.ending import record_outcome
from mirror.sync.report import Report
from mirror.wiring.cycle import opened_cycle
from mirror.workers.fork_server import ForkServer

Progress = Callable[[Cycle], AbstractAsyncContextManager[None]]
"""Shows a cycle while it runs."""


class OnceResult(msgspec.Struct, kw_only=True):
    """The result of one cycle, also where it was cancelled."""

    report: Report | None = None
    """None where the cycle could not be opened."""
    exit_code: ExitCode | None = None
    caught: list[ExitCode] = msgspec.field(default_factory=list)
    """The exit codes of the signals that stopped it."""


async def run_once(
    config: Config,
    options: Options,
    *,
    env: Mapping[str, str],
    wait_s: float,
    fork_server: ForkServer | None,
    into: OnceResult,
    progress: Progress | None = None,
) -> None:
    """Run one cycle, and do the work after it.

    Raises ``ConfigError``, ``TreeError``, ``StateError`` or ``LockHeld`` where it can't begin.
    """
    metrics = None
    opened = opened_cycle(config, options, env=env, wait_s=wait_s, fork_server=fork_server)
    async with opened as cycle, nullcontext() if progress is None else progress(cycle):
        await run_and_record(cycle, into)
        if not options.dry_run:
            metrics = await after_once(cycle, config, env, version=__version__)
    if metrics is not None:
        await write_metrics(config, metrics)
    if not options.dry_run:
        assert into.report is not None
        assert into.exit_code is not None
        await notify_cycle(config, into.report, into.exit_code, env)


async def run_and_record(cycle: Cycle, into: OnceResult) -> None:
    """Run a cycle; its report and exit code are recorded also where it is cancelled."""
    try:
        await run_cycle(cycle)
    finally:
        into.report, into.exit_code = cycle.report, cycle.report.exit_code(into.caught)
        if not cycle.options.dry_run:
            with anyio.CancelScope(shield=True):
                await record_outcome(cycle.holdings, cycle.report, into.exit_code)
