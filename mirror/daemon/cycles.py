"""Run one cycle for the daemon: watch it while it runs, and record its outcome and notes."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import anyio

from mirror.config import Config
from mirror.daemon.credentials import CredentialWatch
from mirror.daemon.progress import LiveRun, cycle_marker, describe_cycle
from mirror.daemon.pulse import Pulse
from mirror.errors import StateError, ungrouped
from mirror.exit_codes import ExitCode
from mirror.jobs.after_cycle import record_cycle_notes
from mirror.logs import get_logger
from mirror.metrics import Metrics
from mirror.state.notes import Activity, record_note
from mirror.status.facts import load_facts
from mirror.sync.cycle import run_cycle
from mirror.sync.cycle_parts import Cycle, Options
from mirror.sync.ending import record_outcome
from mirror.sync.report import Report
from mirror.wiring.cycle import opened_cycle
from mirror.workers.fork_server import ForkServer

NOTE_EVERY_S = 30.0
"""How often a cycle's progress is left in the state for ``status``."""

FACTS_EVERY_NOTES = 20
"""Number of notes of a cycle's progress between two updates of the held counts in the metrics, each
a pass over an index.
"""

_log = get_logger(__name__)


class CycleRunner:
    """Runs the cycles of one daemon, one after another."""

    def __init__(
        self,
        current: Callable[[], Config],
        credentials: CredentialWatch,
        *,
        env: Mapping[str, str],
        fork_server: ForkServer | None,
        pulse: Pulse,
        metrics: Metrics,
    ) -> None:
        """``current`` returns the configuration in force: it may change during a cycle, which
        keeps its own to its end.
        """
        self._current, self._credentials, self._env = current, credentials, env
        self._fork_server, self._pulse, self._metrics = fork_server, pulse, metrics

    async def run(self, options: Options) -> tuple[Report, int]:
        """Run one cycle; return its report and exit code.

        Raises ``LockHeld`` where another command holds the tree, and other ``MirrorError``.
        """
        async with AsyncExitStack() as stack:
            # Not a wait that is right for ever: a credential's file may hang.
            with self._pulse.work(lambda: "reading the credentials", lambda: None):
                opened = opened_cycle(
                    self._current(),
                    options,
                    env=self._env,
                    credentials=self._credentials.sources,
                    fork_server=self._fork_server,
                )
                cycle = await stack.enter_async_context(opened)
            self._metrics.watch([LiveRun(run) for run in cycle.runs])
            started_s = time.monotonic()
            try:
                async with self._watched(cycle):
                    await run_cycle(cycle)
            finally:
                code = cycle.report.exit_code(
                    [ExitCode.SIGTERM] if cycle.report.interrupted else []
                )
                self._metrics.cycle_ended(cycle.report.outcome.value, time.monotonic() - started_s)
                self._credentials.record_answers(cycle.runs)
                with anyio.CancelScope(shield=True):
                    await record_outcome(cycle.holdings, cycle.report, code)
            try:
                async with self._watched(cycle):
                    await record_cycle_notes(cycle, self._current(), self._env)
                await self._update_facts(cycle)
            except StateError as exc:
                _log.error("notes.unwritten", problem=str(exc))
        return cycle.report, code

    @asynccontextmanager
    async def _watched(self, cycle: Cycle) -> AsyncIterator[None]:
        """Show a cycle's activity until the end of the block; feed the watchdog while it moves."""
        with (
            self._pulse.work(lambda: describe_cycle(cycle), lambda: cycle_marker(cycle)),
            ungrouped(),
        ):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._record_progress, cycle)
                yield
                tasks.cancel_scope.cancel()

    async def _record_progress(self, cycle: Cycle) -> None:
        since, noted = cycle.report.started_at, 0
        while True:
            with suppress(StateError):  # the cycle itself will report it
                await _record_activity(cycle, since)
                if noted and noted % FACTS_EVERY_NOTES == 0:  # a first cycle may take days
                    await self._update_facts(cycle)
            noted += 1
            await anyio.sleep(NOTE_EVERY_S)

    async def _update_facts(self, cycle: Cycle) -> None:
        facts = await load_facts(cycle.store, self._current(), now=time.time(), is_scheduled=True)
        self._metrics.facts = facts


async def _record_activity(cycle: Cycle, since: float) -> None:
    note = Activity(pid=os.getpid(), doing=describe_cycle(cycle), since=since)
    await record_note(cycle.store, "activity", note)
