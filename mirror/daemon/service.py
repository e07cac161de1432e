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
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import anyio
import anyio.to_thread
import msgspec
from anyio.abc import TaskGroup, TaskStatus

from mirror import __version__
from mirror.config import Config, missing_sources
from mirror.core.schedule import (
    ClockWatch,
    Schedule,
    after_cycle,
    due_indexes,
    expiry_step,
    first_schedule,
    hurried,
    next_start_s,
    reloaded,
    shifted,
)
from mirror.daemon.endpoint import Answers, Endpoint
from mirror.daemon.pulse import Pulse
from mirror.daemon.upkeep import Upkeep
from mirror.daemon.web import InnerServer, LogChoice
from mirror.errors import (
    AccessDenied,
    ConfigError,
    LockHeld,
    MirrorError,
    StateError,
    Unavailable,
    ungrouped,
)
from mirror.exit_codes import ExitCode
from mirror.holdings.matching import check_tree_is_there, check_tree_matches
from mirror.holdings.opening import check_user, make_state, opened_holdings
from mirror.jobs.after_cycle import record_cycle_notes, warn_of_end, write_metrics
from mirror.jobs.notify_command import notify_cycle, run_notify_command
from mirror.logs import get_logger
from mirror.metrics import Facts, Metrics
from mirror.notify import ServiceManager
from mirror.state.notes import Activity, record_note
from mirror.state.store import Store, open_store_for_reading
from mirror.status.facts import load_facts
from mirror.sync.advisories.taking import check_database
from mirror.sync.cycle import run_cycle
from mirror.sync.ending import record_outcome
from mirror.sync.report import Report
from mirror.sync.work import Cycle, IndexRun, Options, Phase
from mirror.tree.atomic import disk_space
from mirror.tree.layout import Layout, create_tree
from mirror.tree.lock import hold_async
from mirror.upstream.credentials import CredentialSource, credential_source
from mirror.wiring import opened_cycle
from mirror.workers.fork_server import ForkServer

LOOK_EVERY_S = 15.0
"""How often the daemon checks the clock and refused credentials, while it waits."""

LOCK_LOOK_S = 5.0
NOTE_EVERY_S = 30.0
"""How often a cycle's progress is left in the state for ``status``."""

FACTS_EVERY_NOTES = 20
"""Number of notes of a cycle's progress between two updates of the held counts in the metrics, each
a pass over an index.
"""

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
        self._fork_server = fork_server
        self._layout = Layout(config.mirror.root)
        self._manager = ServiceManager(env)
        self._pulse = Pulse(self._manager)
        root = str(config.mirror.root)
        self._metrics = Metrics(version=__version__, clock=time.time, disk=lambda: disk_space(root))
        self._upkeep = Upkeep(self._pulse)
        self._endpoint: Endpoint | None = None
        self._web = InnerServer(env, log or LogChoice())
        self._credentials = _sources(config, env, {})
        self._schedule: Schedule = ()
        self._clock = ClockWatch(wall=time.time(), steady_s=time.monotonic())
        self._wake = anyio.Event()
        self._must_reload = anyio.Event()
        self._must_hurry = False
        self._changed: set[str] = set()
        """Indexes that a reload changed while a cycle was under way."""
        self._all_failures = False
        """Whether the next cycle tries everything in the ledger, due or not."""
        self._denied: dict[str, str | None] = {}
        """Indexes that denied access: the fingerprint of the refused credential."""
        self._warned: dict[str, tuple[float, int]] = {}
        self._words: tuple[Schedule, str] = ((), "")

    async def run(self) -> None:
        """Run until a signal ends it.

        Raises ``LockHeld``, ``TreeError`` or ``StateError`` where it can't begin.
        """
        async with anyio.create_task_group() as tasks:
            await tasks.start(self._watch_signals, tasks.cancel_scope)
            await check_user(self._config.mirror)
            await anyio.to_thread.run_sync(create_tree, self._layout)
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
                await self._close_endpoint()
            _log.info("daemon.stopped")

    async def _serve(self, tasks: TaskGroup) -> None:
        await self._open_endpoint()
        self._schedule = first_schedule(_intervals(self._config), now_s=time.monotonic())
        tasks.start_soon(self._pulse.run)
        for sentence in missing_sources(self._config, self._env):
            _log.warning("config.incomplete", problem=sentence)
        _log.info(
            "daemon.started",
            root=str(self._layout.root),
            indexes=[i.name for i in self._config.indexes],
        )
        self._pulse.send(lambda: self._manager.ready("starting the first cycle"))
        tasks.start_soon(self._reload_when_told)
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
                        self._must_hurry = True
                        self._wake.set()
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
        is_told = False
        while True:
            self._heed_signals()
            names = due_indexes(self._schedule, now_s=time.monotonic())
            if names:
                return names
            is_new = self._words[0] is not self._schedule
            words = self._waiting_words()
            if is_new or not is_told:
                _log.info("daemon.waits", doing=words)
                is_told = True
            self._pulse.wait(words)
            await self._rest(next_start_s(self._schedule) - time.monotonic())
            self._look_at_clock()
            await self._look_at_credentials()

    async def _until_due(self, least_s: float) -> None:
        """Return when a cycle is due and this time has passed, or after a signal."""
        earliest_s = time.monotonic() + least_s
        while not self._wake.is_set():
            left_s = max(next_start_s(self._schedule), earliest_s) - time.monotonic()
            if left_s <= 0:
                return
            await self._rest(left_s)
            self._look_at_clock()

    async def _rest(self, left_s: float) -> None:
        with anyio.move_on_after(max(min(left_s, LOOK_EVERY_S), 0.0)):
            await self._wake.wait()

    def _heed_signals(self) -> None:
        self._wake = anyio.Event()
        if self._must_hurry:
            self._must_hurry, self._all_failures = False, True
            self._schedule = hurried(self._schedule, now_s=time.monotonic())

    def _look_at_clock(self) -> None:
        now_s = time.monotonic()
        jump_s = self._clock.jump_s(wall=time.time(), steady_s=now_s)
        if not jump_s:
            return
        _log.warning("clock.jumped", seconds=round(jump_s, 1))
        self._schedule = shifted(self._schedule, jump_s, now_s=now_s)
        # The ledger's times of the next tries were written by the clock before the jump.
        self._all_failures = self._all_failures or jump_s < 0

    async def _look_at_credentials(self) -> None:
        """Make an index due immediately where the credential that it refused has been replaced."""
        self._warn_of_ends()
        for name, refused in list(self._denied.items()):
            index = next((i for i in self._config.indexes if i.name == name), None)
            if index is None or (index.auth is not None and index.auth.runs_program):
                continue
            try:
                found = await self._credentials[name].load()
            except MirrorError:
                continue  # logged when it was refused
            if found is not None and found.fingerprint() != refused:
                del self._denied[name]
                _log.info("credential.changed", index=name, source=found.source)
                self._schedule = hurried(self._schedule, now_s=time.monotonic(), names=[name])

    def _warn_of_ends(self) -> None:
        for name, source in self._credentials.items():
            expires_at = source.kept.expires_at if source.kept is not None else None
            days = expiry_step(expires_at, now=time.time())
            if expires_at is None or days is None or self._warned.get(name) == (expires_at, days):
                continue
            self._warned[name] = (expires_at, days)
            warn_of_end(name, source.describe(), expires_at, now=time.time())

    def _waiting_words(self) -> str:
        """Return the reason that the daemon waits; the same words while the schedule is the
        same.
        """
        if self._words[0] is not self._schedule:
            self._words = (self._schedule, self._new_words())
        return self._words[1]

    def _new_words(self) -> str:
        resting = [turn.name for turn in self._schedule if turn.failures]
        failing = f"; could not be read: {', '.join(resting)}" if resting else ""
        return f"waiting; next cycle at {_utc(self._next_at())}{failing}"

    def _next_at(self) -> float:
        """Return when the next cycle starts by the wall's clock, to the second."""
        return float(round(time.time() + max(next_start_s(self._schedule) - time.monotonic(), 0.0)))

    # -- configuration -----------------------------------------------------------------------------

    async def _reload_when_told(self) -> None:
        """Reload also during a cycle, which keeps its own configuration to its end: a first one may
        take days.
        """
        while True:
            await self._must_reload.wait()
            self._must_reload = anyio.Event()
            await self._reload()
            self._wake.set()

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
        credentials = _sources(config, self._env, self._credentials, old)
        await self._web.adopt(config)
        before = {index.name: index for index in old.indexes}
        changed = {index.name for index in config.indexes if before.get(index.name) != index}
        self._config, self._credentials = config, credentials
        names = {index.name for index in config.indexes}
        self._denied = {
            name: print_ for name, print_ in self._denied.items() if name in names - changed
        }
        self._changed |= changed
        self._schedule = reloaded(
            self._schedule, _intervals(config), changed, now_s=time.monotonic()
        )
        if self._metrics.facts is not None:
            self._metrics.facts = self._metrics.facts.for_indexes(_intervals(config))
        if config.service.listen_address != old.service.listen_address:
            await self._close_endpoint()
        await self._open_endpoint()
        for sentence in missing_sources(config, self._env):
            _log.warning("config.incomplete", problem=sentence)
        _log.info(
            "config.loaded", source=config.source, indexes=sorted(names), changed=sorted(changed)
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
        self._schedule = after_cycle(
            self._schedule,
            names,
            failed,
            started_s=started_s,
            now_s=time.monotonic(),
            random=random.random,
        )
        hurry = self._changed | (report.waits_for if report is not None else frozenset())
        self._schedule = hurried(self._schedule, now_s=time.monotonic(), names=hurry)
        self._warn_of_ends()
        words = self._waiting_words()
        self._pulse.wait(words)
        await self._leave_note(words)
        await self._open_endpoint()  # where it could not be opened yet
        await write_metrics(self._config, self._metrics)
        if report is not None:
            await notify_cycle(self._config, report, code, self._env)

    async def _wait_for_cycle(self, names: tuple[str, ...]) -> tuple[Report, int]:
        """Run a cycle as soon as no other command holds the tree."""
        all_failures, self._all_failures = self._all_failures, False
        is_told = False
        while True:
            try:
                return await self._run_cycle(self._options(names, all_failures=all_failures))
            except LockHeld as exc:
                if not is_told:
                    _log.warning("cycle.waits", problem=str(exc))
                    is_told = True
                self._pulse.wait(f"waiting for process {exc.pid}, which works on the tree")
            await anyio.sleep(LOCK_LOOK_S)

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

    async def _run_cycle(self, options: Options) -> tuple[Report, int]:
        async with AsyncExitStack() as stack:
            # Not a wait that is right for ever: a credential's file may hang.
            with self._pulse.work(lambda: "reading the credentials", lambda: None):
                opened = opened_cycle(
                    self._config,
                    options,
                    env=self._env,
                    credentials=self._credentials,
                    fork_server=self._fork_server,
                )
                cycle = await stack.enter_async_context(opened)
            self._metrics.watch([_LiveRun(run) for run in cycle.runs])
            started_s = time.monotonic()
            try:
                async with self._watched(cycle):
                    await run_cycle(cycle)
            finally:
                code = cycle.report.exit_code(
                    [ExitCode.SIGTERM] if cycle.report.interrupted else []
                )
                self._metrics.cycle_ended(cycle.report.outcome.value, time.monotonic() - started_s)
                self._remember_denials(cycle)
                with anyio.CancelScope(shield=True):
                    await record_outcome(cycle.holdings, cycle.report, code)
            try:
                async with self._watched(cycle):
                    await record_cycle_notes(cycle, self._config, self._env)
                self._metrics.facts = await self._load_facts(cycle.store)
            except StateError as exc:
                _log.error("notes.unwritten", problem=str(exc))
        return cycle.report, code

    @asynccontextmanager
    async def _watched(self, cycle: Cycle) -> AsyncIterator[None]:
        """Show a cycle's activity until the end of the block; feed the watchdog while it moves."""
        with (
            self._pulse.work(lambda: describe_cycle(cycle), lambda: _marker(cycle)),
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
                await self._record_activity(cycle, describe_cycle(cycle), since)
                if noted and noted % FACTS_EVERY_NOTES == 0:  # a first cycle may take days
                    self._metrics.facts = await self._load_facts(cycle.store)
            noted += 1
            await anyio.sleep(NOTE_EVERY_S)

    async def _load_facts(self, store: Store) -> Facts:
        return await load_facts(store, self._config, now=time.time(), is_scheduled=True)

    async def _record_activity(self, cycle: Cycle, doing: str, since: float) -> None:
        await record_note(
            cycle.store, "activity", Activity(pid=os.getpid(), doing=doing, since=since)
        )

    async def _leave_note(self, doing: str) -> None:
        """Record the daemon's activity between two cycles."""
        note = Activity(
            pid=os.getpid(), doing=doing, since=time.time(), next_cycle_at=self._next_at()
        )
        settings = self._config.mirror
        # Reported elsewhere: a state that can't be written has failed the cycle already.
        with suppress(MirrorError):
            async with open_store_for_reading(settings.state, may_note=True) as store:
                await record_note(store, "activity", note)

    def _remember_denials(self, cycle: Cycle) -> None:
        for run in cycle.runs:
            self._denied.pop(run.name, None)
            if isinstance(run.reach.ended, AccessDenied):
                kept = run.access.session.credentials.kept
                self._denied[run.name] = kept.fingerprint() if kept is not None else None

    # -- upkeep ------------------------------------------------------------------------------------

    async def _keep_up(self) -> None:
        """Do the daily upkeep if it is time, until a cycle is due."""
        facts = self._metrics.facts
        if facts is None or facts.last_cycle is None or not self._upkeep.is_due(facts.upkeep_at):
            return
        # Where each cycle takes longer than the interval one is always due: the upkeep must have
        # its turn all the same.
        least_s = OVERDUE_TURN_S if self._upkeep.is_overdue(facts.upkeep_at or facts.since) else 0.0
        if self._must_hurry or (
            not least_s and due_indexes(self._schedule, now_s=time.monotonic())
        ):
            return
        try:
            is_done = await self._upkeep.run(self._config, lambda: self._until_due(least_s))
        except Exception as exc:  # noqa: BLE001 - as for a cycle: a bug here must not end the mirror
            _log.error("upkeep.crashed", exc_info=exc)
            is_done = False
        self._pulse.wait(self._waiting_words())
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

    # -- status, metrics and notifications
    # -----------------------------------------------------------

    async def _open_endpoint(self) -> None:
        address = self._config.service.listen_address
        if address is None or self._endpoint is not None:
            return
        answers = Answers(
            metrics=self._metrics.render, is_live=self._pulse.is_alive, problems=self._problems
        )
        try:
            self._endpoint = await anyio.to_thread.run_sync(lambda: Endpoint(*address, answers))
        except OSError as exc:
            problem = exc.strerror or str(exc)
            _log.error(
                "metrics.unavailable", address=self._config.service.metrics_listen, problem=problem
            )
        else:
            _log.info("metrics.listening", address=self._endpoint.address)

    async def _close_endpoint(self) -> None:
        if self._endpoint is not None:
            await anyio.to_thread.run_sync(self._endpoint.close)
            self._endpoint = None

    def _problems(self) -> list[str]:
        """Return why the mirror is not ready to be used; asked from another thread."""
        facts = self._metrics.facts
        if facts is None or facts.last_cycle is None:
            return ["no cycle has come to its end yet"]
        read = {i.name for i in facts.indexes if i.last_success is not None}
        never = [i.name for i in self._config.indexes if i.name not in read]
        stale = [name for name in facts.stale(now=time.time()) if name not in never]
        return [f"{name}: never read to its end" for name in never] + [
            f"{name}: stale" for name in stale
        ]


class _LiveRun:
    """One index's part of a running cycle, as the metrics see it."""

    def __init__(self, run: IndexRun) -> None:
        self._run = run
        self.name = run.name

    @property
    def statuses(self) -> Mapping[int, int]:
        return self._run.access.session.statuses

    @property
    def retries(self) -> int:
        return self._run.access.session.retries

    @property
    def file_bytes(self) -> int:
        return self._run.access.session.file_bytes

    @property
    def queued(self) -> tuple[int, int]:
        counters = self._run.counters
        projects = max(counters.projects_due - counters.projects_looked, 0)
        return projects, max(counters.files_wanted - counters.files_done, 0)


def describe_cycle(cycle: Cycle) -> str:
    """Return the current activity of a cycle in one line."""
    phase, needs = cycle.course.phase, cycle.wants.needs
    # its number is set with its first row
    words = f"cycle {cycle.id or 'begins'}: {phase.value}"
    if phase.counts_wants and needs is not None:
        return f"{words}: {needs.progress.describe()}".removesuffix(": ")
    if phase is not Phase.PROJECTS:
        return words
    total = cycle.report.total
    looked, due = (
        sum(i.projects_looked for i in cycle.report.indexes.values()),
        total("projects_due"),
    )
    return (
        f"{words}, {looked:,} of {due:,}; files {total('files_done'):,} of"
        f" {total('files_wanted'):,}"
    )


def _marker(cycle: Cycle) -> object:
    """Return a value that changes whenever a cycle makes progress."""
    sessions = [(run.access.session.requests, run.access.session.body_bytes) for run in cycle.runs]
    counted = [
        tuple(getattr(i, key) for key in i.__struct_fields__) for i in cycle.report.indexes.values()
    ]
    needs = cycle.wants.needs
    resolved = () if needs is None else (needs.progress.done, needs.progress.beats)
    return cycle.course.phase, cycle.store.changes, sessions, counted, resolved


def _intervals(config: Config) -> dict[str, float]:
    return {index.name: index.interval_s or config.mirror.interval_s for index in config.indexes}


def _sources(
    config: Config,
    env: Mapping[str, str],
    kept: Mapping[str, CredentialSource],
    old: Config | None = None,
) -> dict[str, CredentialSource]:
    """Return the credential sources of all indexes; those of unchanged indexes are kept, with their
    credentials.
    """
    before = {index.name: index for index in old.indexes} if old is not None else {}
    found = {}
    for index in config.indexes:
        # The secrets hidden from a command depend on the other indexes too.
        is_command = index.auth is not None and index.auth.kind == "command"
        is_same = before.get(index.name) == index and (not is_command or old == config)
        found[index.name] = (
            kept[index.name] if is_same else credential_source(index, env, config.indexes)
        )
    return found


def _asked_to_wait(error: MirrorError) -> float | None:
    return error.retry_after_s if isinstance(error, Unavailable) else None


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
