"""``mirror sync --once``: run one cycle and print its report in words."""

from __future__ import annotations

from mirror.cli.arguments.sync import SyncArguments
from mirror.cli.commands.sync.cycle import load_request, run_cycle
from mirror.cli.commands.sync.place import place_of
from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import write_out
from mirror.cli.running import run_async
from mirror.cli.text import folded, stdout_width
from mirror.cli.words.cycle import describe_cycle
from mirror.exit_codes import ExitCode
from mirror.sync.report import Report
from mirror.workers.fork_server import started_fork_server
from mirror.workers.process import serve


def sync_once(options: GlobalOptions, given: SyncArguments) -> ExitCode:
    """Run a cycle; the fork server starts before it, while there is one thread and all modules
    that the workers need are imported.
    """
    config, wanted = load_request(options, given)

    def write(report: Report) -> None:
        lines = describe_cycle(report, place_of(options, config))
        write_out("\n".join(folded(lines, stdout_width())))

    with started_fork_server(serve) as fork_server:
        return run_async(run_cycle, options, config, wanted, fork_server, write)
