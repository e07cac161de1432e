"""``mirror init --from FILE``: the needs of a project become a want, this machine a target."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

from mirror.bundle.serve import machine_target
from mirror.cli.arguments.configuration import InitArguments
from mirror.cli.commands.configuration.init import write_first
from mirror.cli.options import GlobalOptions
from mirror.config import WantConfig
from mirror.errors import ConfigError
from mirror.exit_codes import ExitCode
from mirror.selection.machine import parse_machine_target
from mirror.selection.reading import load_source


def init_from(options: GlobalOptions, given: InitArguments) -> ExitCode:
    """Write a commented configuration with the needs of a project's file."""
    return write_first(options, given, partial(_tables_from, given.from_file or Path()))


def _tables_from(file: Path, target: Path) -> dict[str, Any]:
    """Return the want of a project's file, and this machine as its target.

    Raises ``ConfigError``.
    """
    folder = target.absolute().parent.resolve()
    path = file.absolute().resolve()
    load_source(path, want=None, folder=folder)
    relative = path.relative_to(folder) if path.is_relative_to(folder) else path
    try:
        machine = parse_machine_target(machine_target())
    except ValueError as exc:
        raise ConfigError(where="this machine", problem=str(exc)) from exc
    want = WantConfig(name=_want_name(path), files=(str(relative),))
    return {"target": machine, "want": want}


def _want_name(path: Path) -> str:
    """Return the name for the want of a project: that of its folder, where it can be a name."""
    plain = re.sub(r"[^a-z0-9]+", "-", path.parent.name.lower()).strip("-")
    return plain[:63].strip("-") or "apps"
