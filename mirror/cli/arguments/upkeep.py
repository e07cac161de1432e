"""Arguments of ``mirror verify`` and ``mirror prune``."""

from __future__ import annotations

from typing import Annotated

import typer

from mirror.cli.arguments import Arguments


class VerifyArguments(Arguments):
    """Hash the tree again and compare it with the state."""

    @property
    def work(self) -> str:
        """A check, or a repair with all that asks an index."""
        if self.repair:
            return "mirror.cli.commands.upkeep.repair:repair"
        return "mirror.cli.commands.upkeep.verify:verify"

    repair: Annotated[
        bool,
        typer.Option("--repair", help="Move damage aside, and rebuild or fetch the files again."),
    ] = False
    sample: Annotated[
        str,
        typer.Option(
            "--sample",
            metavar="SHARE",
            help='Only a part, such as "5%", the longest unverified first.',
        ),
    ] = "100%"
    not_since: Annotated[
        str | None,
        typer.Option(
            "--older-than",
            metavar="DURATION",
            help="Only files not verified within DURATION: resumes an interrupted run.",
        ),
    ] = None
    json: Annotated[bool, typer.Option("--json", help="Print one report object on stdout.")] = False


class PruneArguments(Arguments):
    """Delete unlisted files whose retention has ended."""

    work = "mirror.cli.commands.upkeep.prune:prune"

    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be deleted, and change nothing.")
    ] = False
    json: Annotated[bool, typer.Option("--json", help="Print one report object on stdout.")] = False
