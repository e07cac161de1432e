"""Arguments of the commands that show the state: ``status``, ``list``, ``explain``, ``why``."""

from __future__ import annotations

from typing import Annotated

import typer

from mirror.cli.arguments import Arguments


class StatusArguments(Arguments):
    """Show held files, freshness and failures."""

    work = "mirror.cli.commands.lookup.status:status"

    json: Annotated[bool, typer.Option("--json", help="Print one object on stdout.")] = False


class ListArguments(Arguments):
    """List the projects with owner and held files."""

    @property
    def work(self) -> str:
        """The list of projects, or that of versions with the names of their files parsed."""
        if self.fallback:
            return "mirror.cli.commands.lookup.fallback_list:show_fallback"
        return "mirror.cli.commands.lookup.list_:show"

    pattern: Annotated[
        str,
        typer.Argument(
            metavar="[PATTERN]",
            show_default=False,
            help='Only these projects; as in projects: "zope.*".',
        ),
    ] = "*"
    fallback: Annotated[
        bool,
        typer.Option(
            "--fallback", help="Only versions that the first index lacks, as requirements."
        ),
    ] = False
    json: Annotated[bool, typer.Option("--json", help="Print one object on stdout.")] = False


class ExplainArguments(Arguments):
    """Show why a project or file is held, or why not.

    Also which indexes list the project, and which one owns it.
    """

    work = "mirror.cli.commands.lookup.explain:explain"

    name: Annotated[
        str,
        typer.Argument(
            metavar="PROJECT|FILE", show_default=False, help="A project or a file name."
        ),
    ]
    json: Annotated[bool, typer.Option("--json", help="Print one object on stdout.")] = False


class WhyArguments(Arguments):
    """Show the wants and requirements that need a project."""

    work = "mirror.cli.commands.lookup.why:why"

    name: Annotated[
        str,
        typer.Argument(
            metavar="PROJECT[==VERSION]",
            show_default=False,
            help="A project, or one version of it.",
        ),
    ]
    json: Annotated[bool, typer.Option("--json", help="Print one object on stdout.")] = False
