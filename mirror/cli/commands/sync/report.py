"""``mirror sync --once --json``: run one cycle, or plan it, and print its report as one object."""

from __future__ import annotations

from contextlib import nullcontext

from mirror.cli.arguments.sync import SyncArguments
from mirror.cli.commands.sync.cycle import load_request, run_cycle
from mirror.cli.json_output import write_json
from mirror.cli.options import GlobalOptions
from mirror.cli.running import run_async
from mirror.exit_codes import ExitCode
from mirror.sync.report import Report
from mirror.workers.fork_server import started_fork_server
from mirror.workers.process import serve


def print_report(options: GlobalOptions, given: SyncArguments) -> ExitCode:
    """Run a cycle; the fork server starts before it, while there is one thread and all modules
    that the workers need are imported. A plan needs none.
    """
    config, wanted = load_request(options, given)

    def write(report: Report) -> None:
        write_json(report.as_json())

    with nullcontext() if given.dry_run else started_fork_server(serve) as fork_server:
        return run_async(run_cycle, options, config, wanted, fork_server, write)
