"""``mirror snapshot list|diff``: the snapshots, and the changes between two states."""

from __future__ import annotations

from mirror.cli.arguments.snapshot import SnapshotDiffArguments, SnapshotListArguments
from mirror.cli.commands.snapshot.rows import row_json, utc_time
from mirror.cli.configuration import load_tree_config
from mirror.cli.json_output import write_json
from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import write_out
from mirror.cli.running import run_async
from mirror.cli.text import counted, fitted_table, safe, size, stdout_width
from mirror.core.changes import ProjectDifference
from mirror.exit_codes import ExitCode
from mirror.holdings.opening import opened_holdings_for_reading
from mirror.state.frozen.snapshots import FrozenKind, SnapshotRow, load_snapshots
from mirror.upkeep.compare import Difference, compare
from mirror.upkeep.frozen.places import frozen_places

_SHOWN = 200
_FILES_SHOWN = 10


def show(options: GlobalOptions, given: SnapshotListArguments) -> ExitCode:
    """List the snapshots, and the channels that show them."""

    async def run() -> tuple[list[SnapshotRow], dict[str, str]]:
        config = load_tree_config(options)
        async with opened_holdings_for_reading(config.mirror, config.limits) as holdings:
            rows = [
                row
                for row in await load_snapshots(holdings.store, FrozenKind.SNAPSHOT)
                if row.ready
            ]
            return rows, await frozen_places(holdings).load_channels()

    rows, channels = run_async(run)
    shown_by = {row.name: sorted(c for c, s in channels.items() if s == row.name) for row in rows}
    if given.json:
        write_json({"format": 1, "snapshots": [row_json(row, shown_by[row.name]) for row in rows]})
    elif not rows:
        write_out("no snapshots; make one with `mirror snapshot create NAME`")
    else:
        head = ("name", "made", "projects", "files", "size", "channels", "note")
        lines = [
            (
                row.name,
                utc_time(row.made_at),
                f"{row.projects:,}",
                f"{row.files:,}",
                size(row.bytes),
                ", ".join(shown_by[row.name]),
                safe(row.note),
            )
            for row in rows
        ]
        write_out(
            "\n".join(fitted_table([head, *lines], stdout_width(), right=frozenset({2, 3, 4})))
        )
    return ExitCode.OK


def diff(options: GlobalOptions, given: SnapshotDiffArguments) -> ExitCode:
    """Show the changes between two states.

    Lists projects, versions, files, yanks and replaced bytes.
    """

    async def run() -> Difference:
        config = load_tree_config(options)
        async with opened_holdings_for_reading(config.mirror, config.limits) as holdings:
            return await compare(holdings.store, given.first, given.second)

    found = run_async(run)
    if given.json:
        write_json(found.as_json())
    else:
        write_out("\n".join(_difference_lines(found)))
    return ExitCode.OK


def _difference_lines(found: Difference) -> list[str]:
    totals = found.totals()
    if not found.projects:
        return [f"nothing changed from {found.first} to {found.second}"]
    counts = ", ".join(
        _total(key, count) for key, count in totals.items() if count and key != "bytes_added"
    )
    lines = [f"from {found.first} to {found.second}: {counts} ({size(totals['bytes_added'])} new)"]
    for project in found.projects[:_SHOWN]:
        lines += _project_lines(project)
    if len(found.projects) > _SHOWN:
        lines.append(f"… and {len(found.projects) - _SHOWN:,} more projects; --json lists all")
    return lines


def _total(key: str, count: int) -> str:
    """Return a count of the totals in words: ``1 project added``."""
    things, _, change = key.partition("_")
    return f"{counted(count, things.removesuffix('s'))} {change}"


def _project_lines(project: ProjectDifference) -> list[str]:
    what = "changed"
    if project.is_new:
        what = "new project"
    elif project.is_gone:
        what = "project left"
    versions = [f"+{v}" for v in project.versions_added] + [
        f"-{v}" for v in project.versions_removed
    ]
    lines = [
        f"{project.name}: {what}"
        + (f" (versions {' '.join(versions[:_FILES_SHOWN])})" if versions else "")
    ]
    parts: tuple[tuple[str, list[str]], ...] = (
        ("new", list(project.added)),
        ("removed", list(project.removed)),
        ("other bytes under the same name", list(project.replaced)),
        ("yanked", [_yanked(name, reason) for name, reason in project.yanked]),
        ("no longer yanked", list(project.unyanked)),
        ("other labels", list(project.relabelled)),
    )
    for word, names in parts:
        lines += [f"    {word}: {safe(name)}" for name in names[:_FILES_SHOWN]]
        if len(names) > _FILES_SHOWN:
            lines.append(f"    {word}: {len(names) - _FILES_SHOWN:,} more")
    return lines


def _yanked(name: str, reason: str) -> str:
    return f"{name} ({reason})" if reason else name
