"""``mirror list --fallback``: the versions that the first index lacks and a later one gave, as the
list of requirements in which a vendor takes requests.
"""

from __future__ import annotations

from typing import Any

from mirror.cli.arguments.lookup import ListArguments
from mirror.cli.configuration import load_tree_config
from mirror.cli.json_output import write_json
from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import write_out
from mirror.cli.running import run_async
from mirror.core.names import compile_patterns, normalize_pattern
from mirror.exit_codes import ExitCode
from mirror.selection.view.tables import read_distribution
from mirror.state.store import open_store_for_reading
from mirror.state.wants.needs import load_fallback, load_wants_by_project


def show_fallback(options: GlobalOptions, given: ListArguments) -> ExitCode:
    """Print one line ``project==version`` for each version, or one object."""
    run_async(_print, options, given.pattern, given.json)
    return ExitCode.OK


async def _print(options: GlobalOptions, pattern: str, as_json: bool) -> None:
    config = load_tree_config(options)
    matches = compile_patterns([normalize_pattern(pattern)])
    async with open_store_for_reading(config.mirror.state) as store:
        files = [file for file in await load_fallback(store) if matches(file.project)]
        wants = await load_wants_by_project(store, sorted({file.project for file in files}))
    found: dict[tuple[str, str, str], list[str]] = {}
    for file in files:
        read = read_distribution(file.filename)
        version = "" if read is None else str(read.version)
        found.setdefault((file.project, version, file.index), []).append(file.filename)
    if as_json:
        items: list[dict[str, Any]] = [
            {
                "project": project,
                "version": version or None,
                "index": index,
                "files": names,
                "wants": list(wants.get(project, ())),
            }
            for (project, version, index), names in found.items()
        ]
        write_json({"format": 1, "fallback": items})
        return
    lines = dict.fromkeys(f"{project}=={version}" for project, version, _ in found if version)
    write_out("\n".join(lines) if lines else "Nothing: the first index gave all that is published.")
