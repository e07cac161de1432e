"""``mirror snapshot create|list|diff|promote|delete``: named states of the tree, and channels that
show one of them.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mirror.cli.options import GlobalOptions, RequireProof
from mirror.cli.outcome import run_async, write_json, write_out
from mirror.cli.text import counted, safe, size, table
from mirror.exit_codes import ExitCode

if TYPE_CHECKING:
    from mirror.core.changes import ProjectDifference
    from mirror.holdings.holdings import Holdings
    from mirror.state.frozen.snapshots import SnapshotRow
    from mirror.upkeep.compare import Difference

_JSON = Annotated[bool, typer.Option("--json", help="Print one report object on stdout.")]
_NAME = Annotated[
    str, typer.Argument(metavar="NAME", help="Lower-case letters, digits and hyphens.")
]
_ACCEPT_WITHDRAWN = Annotated[
    bool,
    typer.Option(
        "--accept-withdrawn",
        help="Promote it although files of it are withdrawn (else exit code 7).",
    ),
]
_SHOWN = 200
_FILES_SHOWN = 10


def create(
    options: GlobalOptions,
    name: _NAME,
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="Why it was made.")] = "",
    require_proof: RequireProof = False,
    json: _JSON = False,
) -> ExitCode:
    """Freeze the published state under a name.

    The snapshot is an index of its own: public/snapshots/NAME/simple/.
    """
    from mirror.upkeep import snapshot as work  # 302 ms

    async def run() -> SnapshotRow:
        async with _opened(options) as holdings:
            if require_proof:
                await _require_proof(options, holdings)
            return await work.create_snapshot(holdings, name, note=note)

    row = run_async(run)
    if json:
        write_json({"format": 1, "snapshot": _row_json(row, [])})
    else:
        write_out(
            f"snapshot {name}: {counted(row.projects, 'project')}, {counted(row.files, 'file')}"
            f" ({size(row.bytes)}); served at snapshots/{name}/simple/"
        )
    return ExitCode.OK


def show(options: GlobalOptions, json: _JSON = False) -> ExitCode:
    """List the snapshots, and the channels that show them."""
    # 260 ms
    from mirror.holdings.opening import opened_holdings_for_reading
    from mirror.state.frozen.snapshots import FrozenKind, load_snapshots
    from mirror.upkeep.frozen.places import frozen_places

    async def run() -> tuple[list[SnapshotRow], dict[str, str]]:
        config = options.load_tree_config()
        async with opened_holdings_for_reading(config.mirror, config.limits) as holdings:
            rows = [
                row
                for row in await load_snapshots(holdings.store, FrozenKind.SNAPSHOT)
                if row.ready
            ]
            return rows, await frozen_places(holdings).load_channels()

    rows, channels = run_async(run)
    shown_by = {row.name: sorted(c for c, s in channels.items() if s == row.name) for row in rows}
    if json:
        write_json({"format": 1, "snapshots": [_row_json(row, shown_by[row.name]) for row in rows]})
    elif not rows:
        write_out("no snapshots; make one with `mirror snapshot create NAME`")
    else:
        head = ("name", "made", "projects", "files", "size", "channels", "note")
        lines = [
            (
                row.name,
                _time(row.made_at),
                f"{row.projects:,}",
                f"{row.files:,}",
                size(row.bytes),
                ", ".join(shown_by[row.name]),
                safe(row.note),
            )
            for row in rows
        ]
        write_out("\n".join(table([head, *lines], right=frozenset({2, 3, 4}))))
    return ExitCode.OK


def diff(
    options: GlobalOptions,
    first: Annotated[
        str,
        typer.Argument(
            metavar="FROM", help='A snapshot, "cycle:7", or a date such as 2026-01-31 (UTC).'
        ),
    ],
    second: Annotated[
        str, typer.Argument(metavar="TO", help='Likewise; by default "now".')
    ] = "now",
    json: _JSON = False,
) -> ExitCode:
    """Show the changes between two states.

    Lists projects, versions, files, yanks and replaced bytes.
    """
    # 278 ms
    from mirror.holdings.opening import opened_holdings_for_reading
    from mirror.upkeep.compare import compare

    async def run() -> Difference:
        config = options.load_tree_config()
        async with opened_holdings_for_reading(config.mirror, config.limits) as holdings:
            return await compare(holdings.store, first, second)

    found = run_async(run)
    if json:
        write_json(found.as_json())
    else:
        write_out("\n".join(_difference_lines(found)))
    return ExitCode.OK


def promote(
    options: GlobalOptions,
    name: _NAME,
    channel: Annotated[str, typer.Option("--channel", metavar="CHANNEL", help="Such as stable.")],
    require_proof: RequireProof = False,
    accept_withdrawn: _ACCEPT_WITHDRAWN = False,
    json: _JSON = False,
) -> ExitCode:
    """Let a channel show a snapshot.

    All readers see it at once. To go back, promote the older snapshot again.
    """
    from mirror.upkeep import snapshot as work  # 239 ms

    async def run() -> str | None:
        async with _opened(options) as holdings:
            if require_proof:
                await _require_proof(options, holdings, snapshot=name)
            return await work.promote(holdings, name, channel, accepts_withdrawn=accept_withdrawn)

    before = run_async(run)
    if json:
        write_json({"format": 1, "channel": channel, "snapshot": name, "before": before})
    else:
        was = f" instead of {before}" if before and before != name else ""
        write_out(f"channel {channel} shows {name}{was}; served at channels/{channel}/simple/")
    return ExitCode.OK


def delete(options: GlobalOptions, name: _NAME, json: _JSON = False) -> ExitCode:
    """Delete a snapshot; `mirror prune` deletes its files."""
    from mirror.upkeep import snapshot as work  # 250 ms

    async def run() -> SnapshotRow:
        async with _opened(options) as holdings:
            return await work.delete_snapshot(holdings, name)

    row = run_async(run)
    if json:
        write_json({"format": 1, "deleted": _row_json(row, [])})
    else:
        write_out(f"snapshot {name} is deleted")
    return ExitCode.OK


def _opened(options: GlobalOptions) -> Any:
    from mirror.holdings.opening import opened_holdings  # 243 ms

    config = options.load_tree_config()
    return opened_holdings(config.mirror, config.limits, wait_s=options.wait_s)


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


def _row_json(row: SnapshotRow, channels: list[str]) -> dict[str, Any]:
    return {
        "name": row.name,
        "made_at": _time(row.made_at),
        "note": row.note,
        "revision": None if row.rebuilt else row.revision,
        "projects": row.projects,
        "files": row.files,
        "bytes": row.bytes,
        "channels": channels,
    }


async def _require_proof(
    options: GlobalOptions, holdings: Holdings, *, snapshot: str | None = None
) -> None:
    from mirror.jobs.prove import require_proof  # 884 ms

    await require_proof(options.load_tree_config(), holdings, os.environ, snapshot=snapshot)


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
