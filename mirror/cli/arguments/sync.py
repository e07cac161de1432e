"""Arguments of ``mirror sync``."""

from __future__ import annotations

from typing import Annotated

import typer

from mirror.cli.arguments import Arguments


class SyncArguments(Arguments):
    """Keep the mirror up to date, as a service or once."""

    @property
    def work(self) -> str:
        """The daemon, one cycle or its plan: each needs modules that the others don't."""
        if not self.once:
            return "mirror.cli.commands.sync.daemon:run_daemon"
        if self.json:
            return "mirror.cli.commands.sync.report:print_report"
        if self.dry_run:
            return "mirror.cli.commands.sync.plan:print_plan"
        return "mirror.cli.commands.sync.once:sync_once"

    once: Annotated[bool, typer.Option("--once", help="Run one cycle, then exit.")] = False
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and change nothing.")
    ] = False
    full: Annotated[bool, typer.Option("--full", help="Read every page again.")] = False
    index: Annotated[
        list[str] | None,
        typer.Option("--index", metavar="NAME", help="Only this index; repeatable."),
    ] = None
    project: Annotated[
        list[str] | None,
        typer.Option("--project", metavar="NAME", help="Only this project; repeatable."),
    ] = None
    allow_shrink: Annotated[
        bool, typer.Option("--allow-shrink", help="Lift the removal brake for this cycle.")
    ] = False
    json: Annotated[bool, typer.Option("--json", help="Print one report object on stdout.")] = False
    index_url: Annotated[
        str | None,
        typer.Option(
            "--index-url",
            metavar="URL",
            help="Mirror this index into --root, without a configuration file.",
        ),
    ] = None
