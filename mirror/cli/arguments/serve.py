"""Arguments of ``mirror serve``."""

from __future__ import annotations

from typing import Annotated

import typer

from mirror.cli.arguments import Arguments

_MOST_WORKERS = 32


class ServeArguments(Arguments):
    """Serve the tree to installers until a signal ends it."""

    work = "mirror.cli.commands.serve:serve"

    listen: Annotated[
        str | None,
        typer.Option(
            "--listen",
            metavar="HOST:PORT",
            show_default=False,
            help="Where to listen. Default: serve.listen, else 127.0.0.1:8080.",
        ),
    ] = None
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            metavar="N",
            show_default=False,
            min=1,
            max=_MOST_WORKERS,
            help="Processes that answer requests. Default: serve.workers.",
        ),
    ] = None
    tree: Annotated[
        str | None,
        typer.Option(
            "--tree",
            metavar="URL",
            show_default=False,
            help="Serve the tree at this address, s3://BUCKET/PREFIX: stateless, without a root.",
        ),
    ] = None
