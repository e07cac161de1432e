"""Arguments of ``mirror target list|show|here``."""

from __future__ import annotations

from typing import Annotated

import typer

from mirror.cli.arguments import Arguments

_JSON = Annotated[bool, typer.Option("--json", help="Print one object on stdout.")]


class TargetListArguments(Arguments):
    """List the targets of the configuration."""

    work = "mirror.cli.commands.configuration.target:show_all"

    json: _JSON = False


class TargetShowArguments(Arguments):
    """Print tags and markers of a target's environments.

    The best tag stands first.
    """

    work = "mirror.cli.commands.configuration.target:show"

    name: Annotated[str, typer.Argument(metavar="NAME", help="A target of the configuration.")]
    json: _JSON = False


class TargetHereArguments(Arguments):
    """Print a [[target]] table for this machine.

    Its Python is the one that runs this program.
    """

    work = "mirror.cli.commands.configuration.target:here"

    json: _JSON = False
