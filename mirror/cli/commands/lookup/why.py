"""``mirror why``: which want needs a project, by which chain of requirements, in which target.

Works from the state of the last cycle, without a lock. ``--json`` prints one object on one line,
``{"format": 1, "paths": [{"want": "apps", "target": "…", "path": ["fastapi[all]",
"httpx>=0.23"]}]}``.
"""

from __future__ import annotations

from typing import Any

from mirror.cli.arguments.lookup import WhyArguments
from mirror.cli.configuration import load_tree_config
from mirror.cli.json_output import write_json
from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import write_out
from mirror.cli.running import run_async
from mirror.cli.text import folded, safe, stdout_width
from mirror.core.names import normalize_project
from mirror.errors import ConfigError, UnsafeName
from mirror.exit_codes import ExitCode
from mirror.selection.reasons import paths_of
from mirror.state.store import open_store_for_reading


def why(options: GlobalOptions, given: WhyArguments) -> ExitCode:
    """Show the wants and requirements that need a project."""
    paths = run_async(_find, options, given.name)
    if given.json:
        write_json({"format": 1, "paths": paths})
    else:
        write_out("\n".join(folded(_lines(given.name, paths), stdout_width())))
    return ExitCode.OK


async def _find(options: GlobalOptions, name: str) -> list[dict[str, Any]]:

    project, _, version = name.partition("==")
    try:
        normalized = normalize_project(project.strip())
    except UnsafeName as exc:
        raise ConfigError(where="PROJECT[==VERSION]", problem=str(exc)) from exc
    config = load_tree_config(options)
    async with open_store_for_reading(config.mirror.state) as store:
        found = await paths_of(store, normalized, version.strip() or None)
    return [{"want": one.want, "target": one.target, "path": list(one.path)} for one in found]


def _lines(name: str, paths: list[dict[str, Any]]) -> list[str]:
    if not paths:
        return [safe(f"No want needs {name}.")]
    targets: dict[tuple[str, str], list[str]] = {}
    for one in paths:
        targets.setdefault((one["want"], " → ".join(one["path"])), []).append(one["target"])
    lines = []
    for (want, path), names in targets.items():
        lines += [safe(f"{want}: {path}"), safe(f"  in {', '.join(names)}")]
    return lines
