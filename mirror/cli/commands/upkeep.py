"""``mirror verify`` and ``mirror prune``: keep held files whole, and delete unlisted ones."""

from __future__ import annotations

import os
import time
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import run_async, write_error, write_json, write_out
from mirror.cli.text import counted, size
from mirror.errors import ConfigError, shown_text
from mirror.exit_codes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirror.state.blobs.lost import LostFile
    from mirror.upkeep.findings import Scope, Verification
    from mirror.workers.fork_server import ForkServer

_SHOWN = 20


def verify(
    options: GlobalOptions,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Move damage aside, and rebuild or fetch the files again."),
    ] = False,
    sample: Annotated[
        str,
        typer.Option(
            "--sample",
            metavar="SHARE",
            help='Only a part, such as "5%", the longest unverified first.',
        ),
    ] = "100%",
    not_since: Annotated[
        str | None,
        typer.Option(
            "--older-than",
            metavar="DURATION",
            help="Only files not verified within DURATION: resumes an interrupted run.",
        ),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print one report object on stdout.")
    ] = False,
) -> ExitCode:
    """Hash the tree again and compare it with the state."""
    # 168 ms
    from mirror.config import parse_duration, parse_ratio
    from mirror.upkeep.findings import Scope
    from mirror.workers.checking import serve
    from mirror.workers.fork_server import started_fork_server

    try:
        share = parse_ratio(sample)
        age_s = parse_duration(not_since) if not_since is not None else None
    except ValueError as exc:
        raise ConfigError(
            where="mirror verify", problem=f"--sample or --older-than: {exc}"
        ) from exc
    if not share:
        raise ConfigError(where="--sample", problem='expected a share such as "5%", more than 0')
    scope = Scope(share=share, not_since=None if age_s is None else time.time() - age_s)
    with started_fork_server(serve) as fork_server:
        found = run_async(_verify, options, scope, repair, fork_server)
    left = found.lost if repair else found.findings
    if json:
        write_json(_verification_json(found, repair=repair))
    else:
        _show_verification(found, repair=repair)
    return ExitCode.DAMAGED if left else ExitCode.OK


def prune(
    options: GlobalOptions,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be deleted, and change nothing.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print one report object on stdout.")
    ] = False,
) -> ExitCode:
    """Delete unlisted files whose retention has ended."""
    from mirror.jobs.prune import prune_tree  # 305 ms

    config = options.load_tree_config(needs_settings=True)
    gone = run_async(partial(prune_tree, config, dry_run=dry_run, wait_s=options.wait_s))
    if json:
        write_json(gone.as_json() | {"dry_run": dry_run})
    else:
        verb = "would go" if dry_run else "deleted"
        parts = [f"{counted(gone.blobs, 'file')} ({size(gone.bytes)}) whose retention has ended"]
        if gone.leftovers:
            parts.append(
                f"{counted(gone.leftovers, 'leftover')} ({size(gone.leftover_bytes)})"
                " that no row knows"
            )
        if gone.entries:
            parts.append(f"{counted(gone.entries, 'row')} of old history")
        write_out(f"{verb}: {', '.join(parts)}")
    return ExitCode.OK


async def _verify(
    options: GlobalOptions, scope: Scope, repair: bool, fork_server: ForkServer | None
) -> Verification:
    # 270 ms
    from mirror.cli.upkeep_progress import shown_verification
    from mirror.jobs.check import check
    from mirror.upkeep.findings import Verification

    config = options.load_tree_config()
    found = Verification()
    with shown_verification(found) if options.is_interactive else nullcontext():
        if not repair:
            await check(config, scope, found, fork_server)
            return found
        from mirror.jobs.repair import check_and_repair  # with all that asks an index: 0.15 s

        error = await check_and_repair(
            config,
            scope,
            env=dict(os.environ),
            wait_s=options.wait_s,
            into=found,
            fork_server=fork_server,
        )
        if error is not None:
            write_error(f"error: the lost files could not be fetched now: {error}")
    return found


def _verification_json(found: Verification, *, repair: bool) -> dict[str, Any]:
    remaining = [
        {
            "index": file.index,
            "project": file.project,
            "filename": file.filename,
            "sha256": file.sha256,
        }
        for file in found.lost
    ]
    return found.as_json() | {
        "repaired": found.repaired if repair else 0,
        "remaining": len(found.findings) - found.repaired if repair else len(found.findings),
        "lost": remaining,
        "without_metadata": found.without_metadata,
    }


def _show_verification(found: Verification, *, repair: bool) -> None:
    from mirror.upkeep.findings import is_of_snapshot, shown_path  # 174 ms

    for finding in found.findings[:_SHOWN]:
        write_out(
            f"{finding.damage.value}: {shown_path(finding.path)}: {shown_text(finding.detail)}"
        )
    _print_more(found.findings)
    for path in found.without_metadata[:_SHOWN]:
        write_out(
            f"without metadata until a cycle fetches it again, if its index still offers it: {path}"
        )
    _print_more(found.without_metadata)
    for file in found.lost[:_SHOWN]:
        where = file.index if is_of_snapshot(file) else f"{file.project}, index {file.index}"
        write_out(f"still missing: {file.filename} ({where}); {_advice(file)}")
    _print_more(found.lost)
    checked = (
        f"{counted(found.blobs_checked, 'file')} ({size(found.bytes_checked)}) and"
        f" {counted(found.pages_checked, 'page')} checked"
    )
    if found.leftovers:
        checked += f"; {counted(found.leftovers, 'leftover')} that `mirror prune` takes away"
    if found.rebuilt:
        write_out(
            "the state was rebuilt from the tree; the next `mirror sync --once` claims its files"
            " for their indexes"
        )
    if not found.findings:
        write_out(f"{checked}: all whole")
    elif repair:
        write_out(
            f"{checked}: {len(found.findings)} damaged, {found.repaired} mended,"
            f" {len(found.lost)} still missing"
        )
    else:
        write_out(
            f"{checked}: {len(found.findings)} damaged;"
            " `mirror verify --repair` mends what can be mended"
        )


def _advice(file: LostFile) -> str:
    from mirror.upkeep.findings import is_of_snapshot  # 160 ms

    if is_of_snapshot(file):
        return "only the snapshot lists it: restore it from a backup, or delete the snapshot"
    if file.is_configured:
        return "see `mirror status`, or restore it from a backup and run `mirror verify --repair`"
    return "`mirror sync --once` fetches it if an index offers it; else restore it from a backup"


def _print_more(things: Sequence[object]) -> None:
    if len(things) > _SHOWN:
        write_out(f"… and {len(things) - _SHOWN} more; --json lists all")
