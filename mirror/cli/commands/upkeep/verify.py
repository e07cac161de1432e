"""``mirror verify``: hash the tree again and compare it with the state."""

from __future__ import annotations

from mirror.cli.arguments.upkeep import VerifyArguments
from mirror.cli.commands.upkeep.verification import print_verification, scope_of
from mirror.cli.configuration import load_tree_config
from mirror.cli.displays import verification_display
from mirror.cli.options import GlobalOptions
from mirror.cli.running import run_async
from mirror.exit_codes import ExitCode
from mirror.jobs.check import check
from mirror.upkeep.findings import Scope, Verification
from mirror.workers.checking import serve
from mirror.workers.fork_server import ForkServer, started_fork_server


def verify(options: GlobalOptions, given: VerifyArguments) -> ExitCode:
    """Hash the tree, and print the damage."""
    scope = scope_of(given)
    with started_fork_server(serve) as fork_server:
        found = run_async(_verify, options, scope, fork_server)
    return print_verification(found, repair=False, as_json=given.json)


async def _verify(
    options: GlobalOptions, scope: Scope, fork_server: ForkServer | None
) -> Verification:
    config = load_tree_config(options)
    found = Verification()
    with verification_display(found, is_shown=options.is_interactive):
        await check(config, scope, found, fork_server)
    return found
