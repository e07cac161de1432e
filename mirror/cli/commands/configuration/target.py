"""``mirror target list|show|here``: the environments in which packages must install.

``--json`` prints one object::

    {"format": 1, "targets": [{"name": "linux", "python": ["3.11"],
     "platforms": ["linux-x86_64"], "glibc": "2.28", "musl": null, "macos": null}]}

``target show``: ``"target"`` with ``"environments": [{"name", "releases", "markers", "tags"}]``,
the markers those of the newest release; ``target here``: ``"target"`` alone.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

import msgspec

from mirror.bundle.serve import machine_target
from mirror.cli.arguments.target import (
    TargetHereArguments,
    TargetListArguments,
    TargetShowArguments,
)
from mirror.cli.configuration import load_config
from mirror.cli.json_output import write_json
from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import write_out
from mirror.cli.text import fitted_table, stdout_width
from mirror.config import TargetConfig
from mirror.config.wants import DEFAULT_GLIBC, DEFAULT_MACOS
from mirror.errors import ConfigError, shown_text
from mirror.exit_codes import ExitCode
from mirror.selection.machine import parse_machine_target
from mirror.selection.targets import Environment, environments

_HEAD = ("TARGET", "PYTHON", "PLATFORMS", "SYSTEM")


def show_all(options: GlobalOptions, given: TargetListArguments) -> ExitCode:
    """List the targets of the configuration."""
    targets = load_config(options).targets
    if given.json:
        write_json({"format": 1, "targets": [_target_json(target) for target in targets]})
    elif targets:
        rows = [(t.name, ", ".join(t.python), ", ".join(t.platforms), _systems(t)) for t in targets]
        write_out("\n".join(fitted_table([_HEAD, *rows], stdout_width())))
    else:
        write_out("There is no [[target]] table: `mirror target here` prints that of a machine.")
    return ExitCode.OK


def show(options: GlobalOptions, given: TargetShowArguments) -> ExitCode:
    """Print tags and markers of a target's environments.

    The best tag stands first.
    """
    targets = load_config(options).targets
    target = next((target for target in targets if target.name == given.name), None)
    if target is None:
        known = ", ".join(target.name for target in targets) or "there is none"
        problem = f'no target is named "{shown_text(given.name, limit=60)}"; known: {known}'
        raise ConfigError(where="NAME", problem=problem)
    found = environments(target)
    groups = [list(group) for _name, group in groupby(found, key=lambda e: e.name)]
    if given.json:
        of_target = [_environment_json(group) for group in groups]
        write_json({"format": 1, "target": {**_target_json(target), "environments": of_target}})
    else:
        write_out("\n\n".join(_environment_text(group) for group in groups))
    return ExitCode.OK


def here(_options: GlobalOptions, given: TargetHereArguments) -> ExitCode:
    """Print a [[target]] table for this machine.

    Its Python is the one that runs this program.
    """
    try:
        text = machine_target()
    except ValueError as exc:
        raise ConfigError(where="this machine", problem=str(exc)) from exc
    if given.json:
        write_json({"format": 1, "target": _target_json(parse_machine_target(text))})
    else:
        write_out(text.rstrip("\n"))
    return ExitCode.OK


def _environment_text(group: list[Environment]) -> str:
    newest = group[-1]
    releases = newest.release if len(group) == 1 else f"{group[0].release} to {newest.release}"
    markers = [f'  {name} = "{value}"' for name, value in newest.markers.items()]
    tags = [f"  {tag}" for tag in newest.tags]
    return "\n".join([newest.name, f"  releases: {releases}", " markers", *markers, " tags", *tags])


def _environment_json(group: list[Environment]) -> dict[str, Any]:
    newest = group[-1]
    return {
        "name": newest.name,
        "releases": [environment.release for environment in group],
        "markers": newest.markers,
        "tags": [str(tag) for tag in newest.tags],
    }


def _target_json(target: TargetConfig) -> dict[str, Any]:
    return dict(msgspec.structs.asdict(target))


def _systems(target: TargetConfig) -> str:
    """Return the oldest systems of a target's platforms."""
    systems = {platform.partition("-")[0] for platform in target.platforms}
    found = []
    if "linux" in systems:
        glibc = f"glibc {target.glibc or DEFAULT_GLIBC}"
        found.append(f"musl {target.musl}" if target.musl else glibc)
    if "macos" in systems:
        found.append(f"macOS {target.macos or DEFAULT_MACOS}")
    return ", ".join(found) or "-"
