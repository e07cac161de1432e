"""``mirror sync --once --dry-run``: print the plan of a cycle in words, and change nothing."""

from __future__ import annotations

from mirror.cli.arguments.sync import SyncArguments
from mirror.cli.commands.sync.cycle import load_request, run_cycle
from mirror.cli.commands.sync.place import place_of
from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import write_out
from mirror.cli.running import run_async
from mirror.cli.text import folded, stdout_width
from mirror.cli.words.plan import describe_plan
from mirror.exit_codes import ExitCode
from mirror.sync.report import Report


def print_plan(options: GlobalOptions, given: SyncArguments) -> ExitCode:
    """Run a cycle that only plans, without worker processes."""
    config, wanted = load_request(options, given)

    def write(report: Report) -> None:
        lines = describe_plan(report, place_of(options, config))
        write_out("\n".join(folded(lines, stdout_width())))

    return run_async(run_cycle, options, config, wanted, None, write)
