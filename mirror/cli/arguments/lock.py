"""Arguments of ``mirror lock check|rewrite``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mirror.cli.arguments import Arguments

_FILE = Annotated[Path, typer.Argument(metavar="FILE", help="Of uv, pip, Poetry, PDM or pipenv.")]
_TARGET = Annotated[
    list[str] | None,
    typer.Option("--target", metavar="NAME", help="Only this target (repeatable)."),
]
_ALL = Annotated[bool, typer.Option("--all-platforms", help="Each file of the lock.")]


class LockCheckArguments(Arguments):
    """Show which files of a lock the mirror holds.

    Exit code 5 where one is missing.
    """

    work = "mirror.cli.commands.lock:check"

    file: _FILE
    target: _TARGET = None
    all_platforms: _ALL = False
    json: Annotated[bool, typer.Option("--json", help="Print one object on stdout.")] = False


class LockRewriteArguments(Arguments):
    """Write a lock with the mirror's addresses.

    Writes nothing where a file is missing.
    """

    work = "mirror.cli.commands.lock:rewrite"

    file: _FILE
    to: Annotated[
        str, typer.Option("--to", metavar="URL", help="The mirror's index, up to /simple/.")
    ]
    target: _TARGET = None
    all_platforms: _ALL = False
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", show_default=False, help="Default: stdout."),
    ] = None
    accept_rebuilt: Annotated[
        bool,
        typer.Option("--accept-rebuilt", help="Accept the digests of rebuilt files."),
    ] = False
