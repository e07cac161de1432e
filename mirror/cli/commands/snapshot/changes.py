"""``mirror snapshot create|promote|delete``: make a snapshot, show it, delete it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from mirror.cli.arguments.snapshot import (
    SnapshotCreateArguments,
    SnapshotDeleteArguments,
    SnapshotPromoteArguments,
)
from mirror.cli.commands.snapshot.rows import row_json
from mirror.cli.configuration import load_tree_config
from mirror.cli.json_output import write_json
from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import write_out
from mirror.cli.running import run_async
from mirror.cli.text import counted, size
from mirror.config import Config
from mirror.exit_codes import ExitCode
from mirror.holdings.holdings import Holdings
from mirror.holdings.opening import opened_holdings
from mirror.state.frozen.snapshots import SnapshotRow
from mirror.upkeep import snapshot as work

Prove = Callable[[Config, Holdings, str | None], Awaitable[None]]
"""Raises an error while a want does not install from the published tree, or from the named
snapshot.
"""


def create(
    options: GlobalOptions, given: SnapshotCreateArguments, prove: Prove | None = None
) -> ExitCode:
    """Freeze the published state under a name.

    The snapshot is an index of its own: public/snapshots/NAME/simple/.
    """

    async def run() -> SnapshotRow:
        async with _opened(options) as holdings:
            if prove is not None:
                await prove(load_tree_config(options), holdings, None)
            return await work.create_snapshot(holdings, given.name, note=given.note)

    row = run_async(run)
    if given.json:
        write_json({"format": 1, "snapshot": row_json(row, [])})
    else:
        write_out(
            f"snapshot {given.name}: {counted(row.projects, 'project')},"
            f" {counted(row.files, 'file')} ({size(row.bytes)});"
            f" served at snapshots/{given.name}/simple/"
        )
    return ExitCode.OK


def promote(
    options: GlobalOptions, given: SnapshotPromoteArguments, prove: Prove | None = None
) -> ExitCode:
    """Let a channel show a snapshot.

    All readers see it at once. To go back, promote the older snapshot again.
    """

    async def run() -> str | None:
        async with _opened(options) as holdings:
            if prove is not None:
                await prove(load_tree_config(options), holdings, given.name)
            return await work.promote(
                holdings, given.name, given.channel, accepts_withdrawn=given.accept_withdrawn
            )

    before = run_async(run)
    if given.json:
        write_json(
            {"format": 1, "channel": given.channel, "snapshot": given.name, "before": before}
        )
    else:
        was = f" instead of {before}" if before and before != given.name else ""
        write_out(
            f"channel {given.channel} shows {given.name}{was};"
            f" served at channels/{given.channel}/simple/"
        )
    return ExitCode.OK


def delete(options: GlobalOptions, given: SnapshotDeleteArguments) -> ExitCode:
    """Delete a snapshot; `mirror prune` deletes its files."""

    async def run() -> SnapshotRow:
        async with _opened(options) as holdings:
            return await work.delete_snapshot(holdings, given.name)

    row = run_async(run)
    if given.json:
        write_json({"format": 1, "deleted": row_json(row, [])})
    else:
        write_out(f"snapshot {given.name} is deleted")
    return ExitCode.OK


def _opened(options: GlobalOptions) -> AbstractAsyncContextManager[Holdings]:
    config = load_tree_config(options)
    return opened_holdings(config.mirror, config.limits, wait_s=options.wait_s)
