"""``mirror list``: each project with its owner, its held files and the number of files left out.

Works from the state alone, without a lock; asks no index. ``--json`` prints one object on one
line::

    {"format": 1, "projects": [{"project": "p",
     "indexes": [{"name": "default", "lists": true, "owns": true}], "held": ["p-1.0.tar.gz"],
     "left_out": [{"filename": "p-1.0.zip", "rule": "exclude-files"}], "wants": []}]}
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from mirror.cli.arguments.lookup import ListArguments
from mirror.cli.configuration import load_tree_config
from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import write_out
from mirror.cli.running import run_async
from mirror.cli.text import safe, table
from mirror.core.names import compile_patterns, normalize_pattern
from mirror.errors import Reason
from mirror.exit_codes import ExitCode
from mirror.state.listing.sources import load_sources
from mirror.state.missing.unserved import load_unserved
from mirror.state.readers.lookup import ProjectPart, iter_projects
from mirror.state.store import open_store_for_reading
from mirror.state.wants.needs import load_needed_indexes, load_wants_by_project

_HEAD = ("PROJECT", "OWNER", "HELD", "LEFT OUT", "NOTE")
_NUMBERS = frozenset({2, 3})


def show(options: GlobalOptions, given: ListArguments) -> ExitCode:
    """List the projects with owner and held files."""
    run_async(_print, options, given.pattern, given.json)
    return ExitCode.OK


async def _print(options: GlobalOptions, pattern: str, as_json: bool) -> None:

    config = load_tree_config(options)
    matches = compile_patterns([normalize_pattern(pattern)])
    found = 0
    async with open_store_for_reading(config.mirror.state) as store:
        sources, unserved = await load_sources(store), await load_unserved(store)
        if as_json:
            _write('{"format":1,"projects":[')
        needed = await load_needed_indexes(store)
        async for chunk in iter_projects(store, sources, unserved, matches):
            wants = await load_wants_by_project(store, [project.name for project in chunk])
            if as_json:
                shown = (project_json(project, wants.get(project.name, ())) for project in chunk)
                objects = ",".join(msgspec.json.encode(one).decode() for one in shown)
                _write(f"{',' if found else ''}{objects}")
            else:
                write_out(
                    "\n".join(
                        safe(line) for line in _table(chunk, wants, needed, has_head=not found)
                    )
                )
            found += len(chunk)
    if as_json:
        write_out("]}")
    elif not found:
        write_out(f"No project matches {safe(pattern)}: no index lists one, and none is published.")


def _write(text: str) -> None:
    """Write a part of a line."""
    write_out(text, end="")


def project_json(project: ProjectPart, wants: Sequence[str] = ()) -> dict[str, Any]:
    """Return a project's object. ``wants``: the names of the wants that need it."""
    return {
        "project": project.name,
        "indexes": [
            {"name": part.index, "lists": part.lists, "owns": part.owns} for part in project.indexes
        ],
        "held": [file.filename for file in project.held],
        "left_out": [
            {"filename": filename, "rule": rule} for filename, rule, _ in project.left_out()
        ],
        "wants": list(wants),
    }


def _table(
    projects: list[ProjectPart],
    wants: Mapping[str, object],
    needed: Collection[str],
    *,
    has_head: bool,
) -> list[str]:
    rows = [_row(p, is_unneeded=p.owner in needed and p.name not in wants) for p in projects]
    lines = table([_HEAD, *rows], right=_NUMBERS)
    return lines if has_head else lines[1:]


def _row(project: ProjectPart, *, is_unneeded: bool) -> tuple[str, ...]:
    left_out = len(project.left_out()) + sum(part.unnamed for part in project.indexes)
    return (
        project.name,
        project.owner or "-",
        f"{len(project.held):,}",
        f"{left_out:,}" if left_out else "-",
        ", ".join(_notes(project, is_unneeded=is_unneeded)),
    )


def _notes(project: ProjectPart, *, is_unneeded: bool) -> list[str]:
    words = {Reason.NOT_OFFERED: "not offered", Reason.NOT_SERVED: "not served"}
    notes = [words[one.reason] for one in project.unserved if not one.filename]
    if any(part.withdrawn for part in project.indexes):
        notes.append("withdrawn")
    failed = [row.reason for part in project.indexes for row in part.failures]
    withheld = sum(reason is Reason.WITHHELD for reason in failed)
    if withheld:
        notes.append(f"{withheld:,} withheld")
    if len(failed) > withheld:
        notes.append(f"{len(failed) - withheld:,} failed")
    if is_unneeded:
        notes.append("no want needs it")
    if not project.held and not notes and project.owner and not project.left_out():
        notes.append("nothing held yet")
    return notes
