"""The daemon: a cycle whenever an index is due, upkeep in between, until a signal stops it.

Invariants: one daemon for a tree (``daemon.lock`` for its life); never two cycles at once, a missed
one made up for once; the tree's lock only while it is written. No failure of an index, a
credential, a command, a disk or a clock ends it: it logs the failure, waits and tries again. A
configuration that is broken at a reload is refused, the old one stays.

SIGTERM and SIGINT end it: finished work is kept. SIGHUP reads the configuration again, SIGUSR1
starts a cycle now.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import anyio
import anyio.to_thread
import msgspec
from anyio.abc import TaskGroup, TaskStatus

from mirror import __version__
from mirror.config import Config, missing_sources
from mirror.daemon.credentials import CredentialWatch, sources_of
from mirror.daemon.cycles import CycleRunner
from mirror.daemon.listening import HealthListener
from mirror.daemon.pulse import Pulse
from mirror.daemon.timetable import Timetable
from mirror.daemon.upkeep import Upkeep
from mirror.daemon.web import InnerServer, LogChoice
from mirror.errors import (
    ConfigError,
    LockHeld,
    MirrorError,
    Unavailable,
)
from mirror.exit_codes import ExitCode
from mirror.holdings.matching import check_tree_is_there, check_tree_matches
from mirror.holdings.opening import check_user, make_state, opened_holdings
from mirror.jobs.after_cycle import write_metrics
from mirror.jobs.notify_command import notify_cycle, run_notify_command
from mirror.logs import get_logger
from mirror.metrics import Facts, Metrics
from mirror.notify import ServiceManager
from mirror.state.notes import Activity, record_note
from mirror.state.store import Store, open_store_for_reading
from mirror.status.facts import load_facts
from mirror.sync.advisories.taking import check_database
from mirror.sync.cycle_parts import Options
from mirror.sync.report import Report
from mirror.tree.disk.failures import disk_space
from mirror.tree.layout import Layout, create_root
from mirror.tree.lock import hold_async
from mirror.workers.fork_server import ForkServer

LOCK_CHECK_S = 5.0
"""How often a cycle that is due tries again to get the lock of the tree."""

OVERDUE_TURN_S = 600.0
"""Maximum time for an overdue upkeep although a cycle is due."""

_log = get_logger(__name__)


class Daemon:
    """One daemon.

    ``load`` reads the configuration again.
    """

    def __init__(
        self,
        config: Config,
        *,
        load: Callable[[], Config],
        env: Mapping[str, str],
        wait_s: float = 0.0,
        fork_server: ForkServer | None = None,
        log: LogChoice | None = None,
    ) -> None:
        """``log``: the choice of the command line, for the server's process."""
        self._config, self._load, self._env, self._wait_s = config, load, env, wait_s
        self._layout = Layout(config.mirror.root)
        self._manager = ServiceManager(env)
        self._pulse = Pulse(self._manager)
        root = str(config.mirror.root)
        self._metrics = Metrics(version=__version__, clock=time.time, disk=lambda: disk_space(root))
        self._upkeep = Upkeep(self._pulse)
        self._web = InnerServer(env, log or LogChoice())
        self._listener = HealthListener(self._current, self._metrics, self._pulse)
        self._credentials = CredentialWatch(sources_of(config, env, {}))
        self._timetable = Timetable()
        self._cycles = CycleRunner(
            self._current,
            self._credentials,
            env=env,
            fork_server=fork_server,
            pulse=self._pulse,
            metrics=self._metrics,
        )
        self._must_reload = anyio.Event()
        self._changed: set[str] = set()
        """Indexes that a reload changed while a cycle was under way."""

    def _current(self) -> Config:
        """Return the configuration in force."""
        return self._config

    async def run(self) -> None:
        """Run until a signal ends it.

        Raises ``LockHeld``, ``TreeError`` or ``StateError`` where it can't begin.
        """
        async with anyio.create_task_group() as tasks:
            await tasks.start(self._watch_signals, tasks.cancel_scope)
            await check_user(self._config.mirror)
            await anyio.to_thread.run_sync(create_root, self._layout)
            async with hold_async(self._layout.daemon_lock, wait_s=self._wait_s):
                try:
                    await self._web.start(self._config, tasks)
                    await self._work(tasks)
                finally:
                    with anyio.CancelScope(shield=True):
                        await self._web.close()

    async def _work(self, tasks: TaskGroup) -> None:
        await self._check_state()
        try:
            await self._serve(tasks)
        finally:
            self._pulse.send(self._manager.stopping)
            with anyio.CancelScope(shield=True):
                await self._listener.close()
            _log.info("daemon.stopped")

    async def _serve(self, tasks: TaskGroup) -> None:
        await self._listener.open()
        self._timetable.begin(_intervals(self._config))
        tasks.start_soon(self._pulse.run)
        for sentence in missing_sources(self._config, self._env):
            _log.warning("config.incomplete", problem=sentence)
        _log.info(
            "daemon.started",
            root=str(self._layout.root),
            indexes=[i.name for i in self._config.indexes],
        )
        self._pulse.send(lambda: self._manager.ready("starting the first cycle"))
        tasks.start_soon(self._reload_on_signals)
        while True:
            names = await self._next_indexes()
            await self._cycle(names)
            await self._keep_up()

    async def _watch_signals(
        self, scope: anyio.CancelScope, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
        with anyio.open_signal_receiver(*numbers) as signals:
            task_status.started()
            async for number in signals:
                _log.info("daemon.signalled", signal=number.name)
                match number:
                    case signal.SIGHUP:
                        self._must_reload.set()
                    case signal.SIGUSR1:
                        self._timetable.hurry()
                    case _:
                        scope.cancel()
                        return

    async def _check_state(self) -> None:
        """Check that state and tree can be used, before the daemon reports that it is ready."""
        settings, limits = self._config.mirror, self._config.limits
        advisories = self._config.rules.advisories
        try:
            if not await anyio.Path(settings.state).exists():
                await check_database(advisories, None)
                await make_state(settings, wait_s=self._wait_s)
            async with opened_holdings(settings, limits, wait_s=self._wait_s) as holdings:
                await check_tree_is_there(holdings.store, holdings.layout)
                await check_database(advisories, holdings.store)
                self._metrics.facts = await self._load_facts(holdings.store)
        except LockHeld as exc:
            # Another command is at work, maybe for hours: a readable state is enough to start.
            _log.warning("lock.held", problem=str(exc))
            if await anyio.Path(settings.state).exists():
                async with open_store_for_reading(settings.state) as store:
                    await check_tree_matches(store, self._layout)
                    self._metrics.facts = await self._load_facts(store)

    # -- waiting -----------------------------------------------------------------------------------

    async def _next_indexes(self) -> tuple[str, ...]:
        """Wait until a cycle is due and return its indexes."""
        timetable, is_logged = self._timetable, False
        while True:
            timetable.heed_signals()
            names = timetable.due()
            if names:
                return names
            is_new = not timetable.is_shown
            doing = timetable.describe()
            if is_new or not is_logged:
                _log.info("daemon.waits", doing=doing)
                is_logged = True
            self._pulse.wait(doing)
            await timetable.rest()
            await self._check_credentials()

    async def _check_credentials(self) -> None:
        """Make an index due immediately where the credential that it refused has been replaced."""
        self._credentials.warn_of_ends()
        async for name in self._credentials.iter_replaced(self._config):
            self._timetable.make_due([name])

    # -- configuration -----------------------------------------------------------------------------

    async def _reload_on_signals(self) -> None:
        """Reload also during a cycle, which keeps its own configuration to its end: a first one may
        take days.
        """
        while True:
            await self._must_reload.wait()
            self._must_reload = anyio.Event()
            await self._reload()
            self._timetable.wake()

    async def _reload(self) -> None:
        """Read the configuration again; a broken one is refused, and the old one stays."""
        self._pulse.send(self._manager.reloading)
        try:
            await self._adopt(await anyio.to_thread.run_sync(self._load, abandon_on_cancel=True))
            self._metrics.is_configuration_current = True
        except MirrorError as exc:
            self._metrics.is_configuration_current = False
            _log.error(
                "config.refused", problem=str(exc), advice="the old configuration stays in force"
            )
        self._pulse.send(lambda: self._manager.ready(self._pulse.doing))

    async def _adopt(self, config: Config) -> None:
        old = self._config
        if (config.mirror.root, config.mirror.state) != (old.mirror.root, old.mirror.state):
            raise ConfigError(
                where="mirror.root",
                problem="root and state can't change while running: restart the daemon",
            )
        credentials = sources_of(config, self._env, self._credentials.sources, old)
        await self._web.adopt(config)
        before = {index.name: index for index in old.indexes}
        changed = {index.name for index in config.indexes if before.get(index.name) != index}
        self._config = config
        self._credentials.adopt(credentials, changed)
        self._changed |= changed
        self._timetable.reload(_intervals(config), changed)
        if self._metrics.facts is not None:
            self._metrics.facts = self._metrics.facts.for_indexes(_intervals(config))
        if config.service.listen_address != old.service.listen_address:
            await self._listener.close()
        await self._listener.open()
        for sentence in missing_sources(config, self._env):
            _log.warning("config.incomplete", problem=sentence)
        _log.info(
            "config.loaded",
            source=config.source,
            indexes=sorted(index.name for index in config.indexes),
            changed=sorted(changed),
        )

    # -- one cycle ---------------------------------------------------------------------------------

    async def _cycle(self, names: tuple[str, ...]) -> None:
        """Run one cycle over the due indexes, and the work after it."""
        self._changed = set()
        started_s = time.monotonic()
        failed: dict[str, float | None] = dict.fromkeys(names)
        report, code = None, 0
        try:
            report, code = await self._wait_for_cycle(names)
            if report.aborted is None:
                failed = {name: _asked_to_wait(error) for name, error in report.ended.items()}
        except MirrorError as exc:
            _log.error("cycle.failed", problem=str(exc))
        except Exception as exc:  # noqa: BLE001 - the border of a cycle: a bug in one must not end the mirror's upkeep
            _log.error("cycle.crashed", exc_info=exc)
        self._timetable.cycle_ended(names, failed, started_s=started_s)
        waited_for = report.waits_for if report is not None else frozenset()
        self._timetable.make_due(self._changed | waited_for)
        self._credentials.warn_of_ends()
        doing = self._timetable.describe()
        self._pulse.wait(doing)
        await self._leave_note(doing)
        await self._listener.open()  # where it could not be opened yet
        await write_metrics(self._config, self._metrics)
        if report is not None:
            await notify_cycle(self._config, report, code, self._env)

    async def _wait_for_cycle(self, names: tuple[str, ...]) -> tuple[Report, int]:
        """Run a cycle as soon as no other command holds the tree."""
        all_failures, is_logged = self._timetable.take_all_failures(), False
        while True:
            try:
                return await self._cycles.run(self._options(names, all_failures=all_failures))
            except LockHeld as exc:
                if not is_logged:
                    _log.warning("cycle.waits", problem=str(exc))
                    is_logged = True
                self._pulse.wait(f"waiting for process {exc.pid}, which works on the tree")
            await anyio.sleep(LOCK_CHECK_S)

    def _options(self, names: tuple[str, ...], *, all_failures: bool) -> Options:
        """Return the options of a cycle over these indexes, without those that a reload removed
        meanwhile.
        """
        configured = [index.name for index in self._config.indexes]
        there = tuple(name for name in names if name in configured)
        is_whole = not there or len(there) == len(configured)
        return Options(
            indexes=() if is_whole else there, is_scheduled=True, all_failures=all_failures
        )

    async def _load_facts(self, store: Store) -> Facts:
        return await load_facts(store, self._config, now=time.time(), is_scheduled=True)

    async def _leave_note(self, doing: str) -> None:
        """Record the daemon's activity between two cycles."""
        note = Activity(
            pid=os.getpid(), doing=doing, since=time.time(), next_cycle_at=self._timetable.next_at()
        )
        settings = self._config.mirror
        # Reported elsewhere: a state that can't be written has failed the cycle already.
        with suppress(MirrorError):
            async with open_store_for_reading(settings.state, may_note=True) as store:
                await record_note(store, "activity", note)

    # -- upkeep ------------------------------------------------------------------------------------

    async def _keep_up(self) -> None:
        """Do the daily upkeep if it is time, until a cycle is due."""
        facts = self._metrics.facts
        if facts is None or facts.last_cycle is None or not self._upkeep.is_due(facts.upkeep_at):
            return
        # Where each cycle takes longer than the interval one is always due: the upkeep must have
        # its turn all the same.
        least_s = OVERDUE_TURN_S if self._upkeep.is_overdue(facts.upkeep_at or facts.since) else 0.0
        if self._timetable.must_hurry or (not least_s and self._timetable.due()):
            return
        try:
            is_done = await self._upkeep.run(
                self._config, lambda: self._timetable.until_due(least_s)
            )
        except Exception as exc:  # noqa: BLE001 - as for a cycle: a bug here must not end the mirror
            _log.error("upkeep.crashed", exc_info=exc)
            is_done = False
        self._pulse.wait(self._timetable.describe())
        found, self._upkeep.found = self._upkeep.found, []
        if is_done or found:
            at = time.time() if is_done else facts.upkeep_at
            self._metrics.facts = msgspec.structs.replace(
                facts, upkeep_at=at, damaged=facts.damaged + len(found)
            )
            await write_metrics(self._config, self._metrics)
        if found and self._config.service.notify_command:
            report = {"format": 1, "damage": [finding.as_json() for finding in found]}
            await run_notify_command(
                self._config, "damage", msgspec.json.encode(report), ExitCode.DAMAGED, self._env
            )


def _intervals(config: Config) -> dict[str, float]:
    return {index.name: index.interval_s or config.mirror.interval_s for index in config.indexes}


def _asked_to_wait(error: MirrorError) -> float | None:
    return error.retry_after_s if isinstance(error, Unavailable) else None
