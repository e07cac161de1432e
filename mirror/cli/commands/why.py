"""``mirror why``: which want needs a project, by which chain of requirements, in which target.

Works from the state of the last cycle, without a lock. ``--json`` prints one object on one line,
``{"format": 1, "paths": [{"want": "apps", "target": "…", "path": ["fastapi[all]",
"httpx>=0.23"]}]}``.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import run_async, write_json, write_out
from mirror.cli.text import safe
from mirror.errors import ConfigError, UnsafeName
from mirror.exit_codes import ExitCode


def why(
    options: GlobalOptions,
    name: Annotated[
        str,
        typer.Argument(
            metavar="PROJECT[==VERSION]",
            show_default=False,
            help="A project, or one version of it.",
        ),
    ],
    *,
    json: Annotated[bool, typer.Option("--json", help="Print one object on stdout.")] = False,
) -> ExitCode:
    """Show the wants and requirements that need a project."""
    paths = run_async(_find, options, name)
    if json:
        write_json({"format": 1, "paths": paths})
    else:
        write_out("\n".join(_lines(name, paths)))
    return ExitCode.OK


async def _find(options: GlobalOptions, name: str) -> list[dict[str, Any]]:
    # 147 ms
    from mirror.core.names import normalize_project
    from mirror.selection.reasons import paths_of
    from mirror.state.store import open_store_for_reading

    project, _, version = name.partition("==")
    try:
        normalized = normalize_project(project.strip())
    except UnsafeName as exc:
        raise ConfigError(where="PROJECT[==VERSION]", problem=str(exc)) from exc
    config = options.load_tree_config()
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
