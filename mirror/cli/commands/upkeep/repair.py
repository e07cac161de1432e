"""``mirror verify --repair``: verify the tree, and mend the damage from the tree or an index."""

from __future__ import annotations

import os

from mirror.cli.arguments.upkeep import VerifyArguments
from mirror.cli.commands.upkeep.verification import print_verification, scope_of
from mirror.cli.configuration import load_tree_config
from mirror.cli.displays import verification_display
from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import write_error
from mirror.cli.running import run_async
from mirror.exit_codes import ExitCode
from mirror.jobs.repair import check_and_repair
from mirror.upkeep.findings import Scope, Verification
from mirror.workers.checking import serve
from mirror.workers.fork_server import ForkServer, started_fork_server


def repair(options: GlobalOptions, given: VerifyArguments) -> ExitCode:
    """Hash the tree, mend it, and print the missing files."""
    scope = scope_of(given)
    with started_fork_server(serve) as fork_server:
        found = run_async(_repair, options, scope, fork_server)
    return print_verification(found, repair=True, as_json=given.json)


async def _repair(
    options: GlobalOptions, scope: Scope, fork_server: ForkServer | None
) -> Verification:
    config = load_tree_config(options)
    found = Verification()
    with verification_display(found, is_shown=options.is_interactive):
        error = await check_and_repair(
            config,
            scope,
            env=dict(os.environ),
            wait_s=options.wait_s,
            into=found,
            fork_server=fork_server,
        )
        if error is not None:
            write_error(f"error: the lost files could not be fetched now: {error}")
    return found
