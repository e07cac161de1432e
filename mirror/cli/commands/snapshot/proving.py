"""``mirror snapshot create|promote --require-proof``: the same with the resolver, which proves that
all wants install.
"""

from __future__ import annotations

import os

from mirror.cli.arguments.snapshot import SnapshotCreateArguments, SnapshotPromoteArguments
from mirror.cli.commands.snapshot import changes
from mirror.cli.options import GlobalOptions
from mirror.config import Config
from mirror.exit_codes import ExitCode
from mirror.holdings.holdings import Holdings
from mirror.jobs.prove import require_proof


def create(options: GlobalOptions, given: SnapshotCreateArguments) -> ExitCode:
    """Make a snapshot unless a want does not install."""
    return changes.create(options, given, _prove)


def promote(options: GlobalOptions, given: SnapshotPromoteArguments) -> ExitCode:
    """Let a channel show a snapshot unless a want does not install from it."""
    return changes.promote(options, given, _prove)


async def _prove(config: Config, holdings: Holdings, snapshot: str | None) -> None:
    await require_proof(config, holdings, os.environ, snapshot=snapshot)
