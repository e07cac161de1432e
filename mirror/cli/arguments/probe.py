"""Arguments of ``mirror probe``."""

from __future__ import annotations

from typing import Annotated

import typer

from mirror.cli.arguments import Arguments


class ProbeArguments(Arguments):
    """Show the features of an index or object store."""

    @property
    def work(self) -> str:
        """A probe of indexes, or of an object store."""
        if self.index is not None and self.index.startswith("s3:"):
            return "mirror.cli.commands.probe.store:probe_store"
        return "mirror.cli.commands.probe.index:probe"

    index: Annotated[
        str | None,
        typer.Argument(
            metavar="[INDEX or URL]",
            show_default=False,
            help="Default: every index. s3://BUCKET/PREFIX: an object store for the tree.",
        ),
    ] = None
    json: Annotated[bool, typer.Option("--json", help="Print one object on stdout.")] = False
