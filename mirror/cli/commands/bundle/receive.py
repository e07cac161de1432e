"""``mirror bundle receive``: apply a bundle on the far side, as receive.py does."""

from __future__ import annotations

from typing import Annotated

import typer

from mirror.cli.options import GlobalOptions
from mirror.exit_codes import ExitCode


def receive(
    options: GlobalOptions,
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="DIR… [OPTIONS]",
            help="As of receive.py: see `mirror bundle receive -- --help`.",
        ),
    ],
) -> ExitCode:
    """Apply a bundle on the far side, as receive.py does.

    For hosts where this program is installed.
    """
    from mirror.bundle.receive import main  # 88 ms

    root = ["--root", str(options.root)] if options.root is not None else []
    try:
        return ExitCode(main([*arguments, *root]))
    except SystemExit as exc:  # its own parser has printed the error
        return ExitCode(int(exc.code or 0))
