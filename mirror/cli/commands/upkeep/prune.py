"""``mirror prune``: delete unlisted files whose retention has ended."""

from __future__ import annotations

from functools import partial

from mirror.cli.arguments.upkeep import PruneArguments
from mirror.cli.configuration import load_tree_config
from mirror.cli.json_output import write_json
from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import write_out
from mirror.cli.running import run_async
from mirror.cli.text import counted, size
from mirror.exit_codes import ExitCode
from mirror.jobs.prune import prune_tree


def prune(options: GlobalOptions, given: PruneArguments) -> ExitCode:
    """Delete unlisted files whose retention has ended."""
    config = load_tree_config(options, needs_settings=True)
    gone = run_async(partial(prune_tree, config, dry_run=given.dry_run, wait_s=options.wait_s))
    if given.json:
        write_json(gone.as_json() | {"dry_run": given.dry_run})
    else:
        verb = "would go" if given.dry_run else "deleted"
        parts = [f"{counted(gone.blobs, 'file')} ({size(gone.bytes)}) whose retention has ended"]
        if gone.leftovers:
            parts.append(
                f"{counted(gone.leftovers, 'leftover')} ({size(gone.leftover_bytes)})"
                " that no row knows"
            )
        if gone.entries:
            parts.append(f"{counted(gone.entries, 'row')} of old history")
        write_out(f"{verb}: {', '.join(parts)}")
    return ExitCode.OK
