"""Arguments of ``mirror tree copy|adopt``."""

from __future__ import annotations

from typing import Annotated

import typer

from mirror.cli.arguments import Arguments


class TreeCopyArguments(Arguments):
    """Copy a tree to another disk or object store.

    Every file is verified; an interrupted copy continues.
    """

    work = "mirror.cli.commands.tree:copy"

    source: Annotated[str, typer.Argument(metavar="FROM", help="A root, or s3://BUCKET/PREFIX.")]
    target: Annotated[
        str,
        typer.Argument(
            metavar="TO", help="A root, or s3://BUCKET/PREFIX: empty, or an interrupted copy."
        ),
    ]
    json: Annotated[bool, typer.Option("--json", help="Print one object on stdout.")] = False


class TreeAdoptArguments(Arguments):
    """Let this root write to a tree that another one filled.

    Also to one that `mirror tree copy` filled.
    """

    work = "mirror.cli.commands.tree:adopt"

    json: Annotated[bool, typer.Option("--json", help="Print one object on stdout.")] = False
