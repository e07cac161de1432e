"""One cycle of the command line: its request from the arguments, and its run."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence

import anyio

from mirror.cli.arguments.sync import SyncArguments
from mirror.cli.configuration import load_config
from mirror.cli.displays import cycle_display
from mirror.cli.options import GlobalOptions
from mirror.cli.running import leave_soon
from mirror.config import Config
from mirror.core.names import ProjectName, normalize_project
from mirror.core.policy import compile_selections
from mirror.errors import ConfigError, UnsafeName
from mirror.exit_codes import ExitCode, first_of
from mirror.jobs.once import OnceResult, run_once
from mirror.sync.cycle_parts import Options
from mirror.sync.report import Report
from mirror.workers.fork_server import ForkServer


def load_request(options: GlobalOptions, given: SyncArguments) -> tuple[Config, Options]:
    """Return the configuration, and the options of the cycle.

    Raises ``ConfigError``.
    """
    try:
        names = tuple(normalize_project(name) for name in given.project or ())
    except UnsafeName as exc:
        raise ConfigError(where="--project", problem=str(exc)) from exc
    config = load_config(options, index_url=given.index_url)
    _refuse_unwanted(config, names, given.index or ())
    return config, Options(
        refuses_unlisted=True,
        full=given.full,
        dry_run=given.dry_run,
        allow_shrink=given.allow_shrink,
        indexes=tuple(given.index or ()),
        projects=names,
    )


async def run_cycle(
    options: GlobalOptions,
    config: Config,
    wanted: Options,
    fork_server: ForkServer | None,
    write: Callable[[Report], None],
) -> ExitCode:
    """Run a cycle until it ends or a signal ends it, and write its report, while the process still
    waits for each of its threads.
    """
    into = OnceResult()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_watch_signals, tasks.cancel_scope, into.caught)
        await run_once(
            config,
            wanted,
            env=dict(os.environ),
            wait_s=options.wait_s,
            fork_server=fork_server,
            into=into,
            progress=cycle_display(is_shown=options.is_interactive),
        )
        tasks.cancel_scope.cancel()
    code = first_of(into.caught) if into.exit_code is None else into.exit_code
    try:
        if into.report is not None:
            write(into.report)
    finally:
        if into.caught:
            leave_soon(code)
    return code


def _refuse_unwanted(config: Config, names: Sequence[ProjectName], indexes: Sequence[str]) -> None:
    """Raise ``ConfigError`` for a project that the patterns of each index leave out: no request is
    made for it.
    """
    selections = compile_selections([index.policy(config.limits) for index in config.indexes])
    asked = [
        selection for selection in selections if not indexes or selection.policy.name in indexes
    ]
    for name in names:
        rules = [
            f"{s.rule_against_project(name)} of {s.policy.name}"
            for s in asked
            if not s.wants_project(name)
        ]
        if asked and len(rules) == len(asked):
            raise ConfigError(
                where="--project", problem=f"{name} is left out by {' and by '.join(rules)}"
            )


async def _watch_signals(scope: anyio.CancelScope, caught: list[ExitCode]) -> None:
    """Cancel everything at the first SIGTERM or SIGINT; finished work stays."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            caught.append(ExitCode.SIGINT if number is signal.SIGINT else ExitCode.SIGTERM)
            scope.cancel()
