"""Arguments of ``mirror want add|remove|list|review``."""

from __future__ import annotations

from typing import Annotated

import typer

from mirror.cli.arguments import Arguments

_JSON = Annotated[bool, typer.Option("--json", help="Print one object on stdout.")]
_NAME = Annotated[str, typer.Argument(metavar="NAME", help="The want.")]


class WantAddArguments(Arguments):
    """Add requirements to a want, or a new want.

    Comments of the configuration stay.
    """

    work = "mirror.cli.commands.configuration.want:add"

    name: _NAME
    requirements: Annotated[
        list[str], typer.Argument(metavar="REQUIREMENT...", help='Such as "fastapi[all]>=0.115".')
    ]
    json: _JSON = False


class WantRemoveArguments(Arguments):
    """Remove a want, or some of its requirements.

    Comments of the configuration stay.
    """

    work = "mirror.cli.commands.configuration.want:remove"

    name: _NAME
    requirements: Annotated[
        list[str] | None,
        typer.Argument(metavar="[REQUIREMENT]...", help="As written, or a project; without: all."),
    ] = None
    json: _JSON = False


class WantListArguments(Arguments):
    """List the wants of the configuration."""

    work = "mirror.cli.commands.configuration.want:show"

    json: _JSON = False


class WantReviewArguments(Arguments):
    """Show wished names; want some of them, or drop them.

    A wish is a name that clients asked for and the mirror does not have.
    """

    work = "mirror.cli.commands.configuration.review:review"

    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="The wishes to look at; without: show all."),
    ] = None
    into: Annotated[
        str | None,
        typer.Option("--into", metavar="WANT", help="Add the named wishes to this want."),
    ] = None
    accept_young: Annotated[
        bool,
        typer.Option("--accept-young", help="Also those that exist for less than 30 days."),
    ] = False
    drop: Annotated[bool, typer.Option("--drop", help="Remove the named wishes from the list.")] = (
        False
    )
    json: Annotated[bool, typer.Option("--json", help="Print one object on stdout.")] = False
