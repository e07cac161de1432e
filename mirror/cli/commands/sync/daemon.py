"""``mirror sync``: the daemon, until a signal ends it."""

from __future__ import annotations

import os
from collections.abc import Mapping

from mirror.cli.arguments.sync import SyncArguments
from mirror.cli.configuration import load_config
from mirror.cli.options import GlobalOptions
from mirror.cli.running import leave_soon, run_async
from mirror.config import Config
from mirror.daemon.service import Daemon
from mirror.daemon.web import LogChoice
from mirror.errors import ConfigError
from mirror.exit_codes import ExitCode
from mirror.workers.fork_server import started_fork_server
from mirror.workers.process import serve


def run_daemon(options: GlobalOptions, given: SyncArguments) -> ExitCode:
    """Run the daemon; the fork server starts before it, while there is one thread and all modules
    that the workers need are imported.
    """
    narrowed = {
        "--dry-run": given.dry_run,
        "--full": given.full,
        "--index": given.index,
        "--project": given.project,
        "--allow-shrink": given.allow_shrink,
        "--json": given.json,
    }
    _refuse_without_once(narrowed)

    def load() -> Config:
        return load_config(options, index_url=given.index_url)

    config = load()
    with started_fork_server(serve) as fork_server:
        level, log_format = options.log_choice
        daemon = Daemon(
            config,
            load=load,
            env=dict(os.environ),
            wait_s=options.wait_s,
            fork_server=fork_server,
            log=LogChoice(level=level, format=log_format),
        )

        async def run() -> None:
            await daemon.run()
            leave_soon(ExitCode.OK)

        run_async(run)
    return ExitCode.OK


def _refuse_without_once(given: Mapping[str, object]) -> None:
    for option, value in given.items():
        if value:
            raise ConfigError(
                where=option, problem="only together with --once; without it this is the daemon"
            )
