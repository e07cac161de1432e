"""Arguments of ``mirror check``."""

from __future__ import annotations

from typing import Annotated

import typer

from mirror.cli.arguments import Arguments


class CheckArguments(Arguments):
    """Prove offline that wants install, and name each gap.

    The proof reads the published tree only.
    """

    work = "mirror.cli.commands.check:check"

    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[WANT|FILE]...",
            show_default=False,
            help="Wants of the configuration, or requirement and lock files. Default: all wants.",
        ),
    ] = None
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="NAME", show_default=False, help="Only in this target."),
    ] = None
    snapshot: Annotated[
        str | None,
        typer.Option("--snapshot", metavar="NAME", show_default=False, help="Check this snapshot."),
    ] = None
    json: Annotated[bool, typer.Option("--json", help="Print one object on stdout.")] = False
