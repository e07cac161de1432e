"""``mirror explain``: why one project or file is here, or is not.

Works from the state alone, without a lock; asks no index. ``--json`` prints ``{"format": 1,
"project": {…}}`` with the object of ``mirror list``; of a file, its project with that file alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from mirror.cli.arguments.lookup import ExplainArguments
from mirror.cli.commands.lookup.list_ import project_json
from mirror.cli.configuration import load_tree_config
from mirror.cli.json_output import write_json
from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import write_out
from mirror.cli.running import run_async
from mirror.cli.text import folded, safe, stdout_width
from mirror.cli.words.explain import describe_file, describe_project
from mirror.config import Config
from mirror.core.names import ProjectName, normalize_project, projects_of_filename
from mirror.core.policy import compile_selections
from mirror.errors import ConfigError, UnsafeName
from mirror.exit_codes import ExitCode
from mirror.state.advisories.vulnerable import load_advice_words
from mirror.state.listing.sources import load_sources
from mirror.state.missing.unserved import load_unserved
from mirror.state.readers.lookup import (
    ProjectPart,
    is_known_project,
    load_last_published,
    load_project,
)
from mirror.state.store import Store, open_store_for_reading
from mirror.state.wants.needs import load_needed_indexes, load_wants_of

_LOOKS_LIKE_A_FILE = re.compile(
    r".+\.(whl|egg|zip|tar|tgz|tbz|txz|gz|bz2|xz|Z|zst|exe|msi|rpm|deb|dmg|asc|sig)$"
)


def explain(options: GlobalOptions, given: ExplainArguments) -> ExitCode:
    """Show why a project or file is held, or why not.

    Also which indexes list the project, and which one owns it.
    """
    run_async(_print, options, given.name, given.json)
    return ExitCode.OK


async def _print(options: GlobalOptions, name: str, as_json: bool) -> None:

    config = load_tree_config(options)
    async with open_store_for_reading(config.mirror.state) as store:
        project, filename = await _find(store, name)
        left_at = await load_last_published(store, project.name, filename) if filename else None
        by_file = await load_wants_of(store, project.name)
        needed = await load_needed_indexes(store)
        advice = await load_advice_words(store, ProjectName(project.name), project.advised_names())
    wants = (
        by_file.get(filename, ())
        if filename
        else sorted({w for names in by_file.values() for w in names})
    )
    if as_json:
        shown = project_json(project, wants)
        if filename:
            shown = _of_file(shown, filename)
        write_json({"format": 1, "project": shown})
        return
    selections = _selections(config)
    lines = describe_project(project, selections, advice)
    if filename:
        lines = describe_file(project, filename, selections, left_at=left_at, advice=advice)
    lines += _words_of_wants(wants, is_needed_only=project.owner in needed)
    write_out("\n".join(folded(lines, stdout_width())))


def _words_of_wants(wants: Sequence[str], *, is_needed_only: bool) -> list[str]:
    if wants:
        return [
            safe(f"Needed by the wants: {', '.join(wants)}; `mirror why` names the requirements.")
        ]
    return (
        ["No want needs it, and only needed files of its index are mirrored."]
        if is_needed_only
        else []
    )


async def _find(store: Store, name: str) -> tuple[ProjectPart, str]:
    """Return the project that is meant, and the filename where a file is.

    Raises ``ConfigError``.
    """
    sources, unserved = await load_sources(store), await load_unserved(store)
    try:
        as_project = normalize_project(name)
    except UnsafeName as exc:
        as_project = None
        problem = str(exc)
    if as_project is not None and (
        await is_known_project(store, as_project) or not _LOOKS_LIKE_A_FILE.match(name)
    ):
        return await load_project(store, sources, unserved, as_project), ""
    candidates = [
        await load_project(store, sources, unserved, project)
        for project in projects_of_filename(name)
    ]
    if not candidates:
        if as_project is None:
            raise ConfigError(where="PROJECT|FILE", problem=problem)
        return await load_project(store, sources, unserved, as_project), ""
    for project in candidates:
        if name in _names(project):
            return project, name
    listed = (project for project in candidates if any(part.lists for part in project.indexes))
    return next(listed, candidates[0]), name


def _names(project: ProjectPart) -> set[str]:
    """Return every filename that is known of a project."""
    names = {file.filename for file in project.held}
    names |= {one.filename for one in project.unserved}
    for part in project.indexes:
        names |= {row.filename for row in part.failures}
        names.update(*(one.names for one in part.left_out))
    return names


def _of_file(shown: dict[str, Any], filename: str) -> dict[str, Any]:
    held = [name for name in shown["held"] if name == filename]
    left_out = [one for one in shown["left_out"] if one["filename"] == filename]
    return shown | {"held": held, "left_out": left_out}


def _selections(config: Config) -> dict[str, Any]:
    selections = compile_selections([index.policy(config.limits) for index in config.indexes])
    return {selection.policy.name: selection for selection in selections}
