"""``mirror bundle receive``: apply a bundle on the far side, as receive.py does."""

from __future__ import annotations

from mirror.bundle.receive import main
from mirror.cli.arguments.bundle import BundleReceiveArguments
from mirror.cli.options import GlobalOptions
from mirror.exit_codes import ExitCode


def receive(options: GlobalOptions, given: BundleReceiveArguments) -> ExitCode:
    """Apply a bundle on the far side, as receive.py does.

    For hosts where this program is installed.
    """
    root = ["--root", str(options.root)] if options.root is not None else []
    try:
        return ExitCode(main([*given.arguments, *root]))
    except SystemExit as exc:  # its own parser has printed the error
        return ExitCode(int(exc.code or 0))
