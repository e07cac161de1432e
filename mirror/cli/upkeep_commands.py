"""``mirror verify`` and ``mirror prune``: keep held files whole, and delete unlisted ones."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import write_error, write_out
from mirror.cli.text import counted, size
from mirror.errors import ConfigError
from mirror.exit_codes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from mirror.config import Config
    from mirror.state.blobs.lost import LostFile
    from mirror.state.store import Store
    from mirror.upkeep.findings import Scope, Verification
    from mirror.upkeep.prune import Pruning

_SHOWN = 20
_MOST_NAMED = 500
_SNAPSHOT = "snapshot "
"""Marks a file that only a snapshot lists, in the place of its index (``state.blobs``): no cycle
fetches it again.
"""


def verify(
    options: GlobalOptions,
    repair: Annotated[
        bool, typer.Option("--repair", help="Move damage aside, rebuild what can be, fetch the rest again.")
    ] = False,
    sample: Annotated[
        str, typer.Option("--sample", metavar="SHARE", help='Only a part, such as "5%", the longest unverified first.')
    ] = "100%",
    not_since: Annotated[
        str | None,
        typer.Option("--older-than", metavar="DURATION", help="Only what was not verified for so long: resumes a run."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one report object on stdout.")] = False,
) -> ExitCode:
    """Hash the tree again and compare it with the state."""
    import anyio

    from mirror.config import parse_duration, parse_ratio
    from mirror.upkeep.findings import Scope

    try:
        share = parse_ratio(sample)
        age_s = parse_duration(not_since) if not_since is not None else None
    except ValueError as exc:
        raise ConfigError(where="mirror verify", problem=f"--sample or --older-than: {exc}") from exc
    if not share:
        raise ConfigError(where="--sample", problem='expected a share such as "5%", more than 0')
    scope = Scope(share=share, not_since=None if age_s is None else time.time() - age_s)
    found = anyio.run(_verify, options, scope, repair)
    left = found.lost if repair else found.findings
    if json:
        _write_json(_verification_json(found, repair=repair))
    else:
        _show_verification(found, repair=repair)
    return ExitCode.DAMAGED if left else ExitCode.OK


def prune(
    options: GlobalOptions,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go and change nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one report object on stdout.")] = False,
) -> ExitCode:
    """Delete what nothing lists and whose retention has ended."""
    import anyio

    gone = anyio.run(_prune, options, dry_run)
    if json:
        _write_json(gone.as_json() | {"dry_run": dry_run})
    else:
        verb = "would go" if dry_run else "deleted"
        parts = [f"{counted(gone.blobs, 'file')} ({size(gone.bytes)}) whose retention has ended"]
        if gone.leftovers:
            parts.append(f"{counted(gone.leftovers, 'leftover')} ({size(gone.leftover_bytes)}) that no row knows")
        if gone.entries:
            parts.append(f"{counted(gone.entries, 'row')} of old history")
        write_out(f"{verb}: {', '.join(parts)}")
    return ExitCode.OK


async def _verify(options: GlobalOptions, scope: Scope, repair: bool) -> Verification:
    from contextlib import nullcontext

    from mirror.cli.upkeep_progress import shown_verification
    from mirror.upkeep.findings import Verification

    config = options.load_tree_config()
    found = Verification()
    with shown_verification(found) if options.is_interactive else nullcontext():
        if repair:
            await _repair(options, config, scope, found)
        else:
            await _look(config, scope, found)
    return found


async def _look(config: Config, scope: Scope, found: Verification) -> None:
    """Check the tree without a lock."""
    from mirror.holdings.opening import opened_holdings_for_reading
    from mirror.upkeep.damage import note_verification
    from mirror.upkeep.verify import verify as run_verify

    async with opened_holdings_for_reading(config.mirror, config.limits, may_note=True) as holdings:
        await run_verify(holdings, scope, into=found)
        await note_verification(holdings.store, found, now=time.time(), is_whole=scope.is_all)


async def _repair(options: GlobalOptions, config: Config, scope: Scope, found: Verification) -> None:
    """Mend the tree under its lock, then fetch the lost files by a cycle narrowed to their
    projects.

    The whole tree is hashed before the lock is taken: a daemon may go on meanwhile.
    """
    from mirror.errors import MirrorError, StateError
    from mirror.holdings.opening import opened_holdings_for_repair
    from mirror.upkeep.damage import note_verification
    from mirror.upkeep.rebuild import rebuild
    from mirror.upkeep.repair import repair
    from mirror.upkeep.verify import check_again

    try:
        await _look(config, scope, found)
    except StateError as exc:
        if not exc.is_damage:
            raise
    async with opened_holdings_for_repair(config.mirror, config.limits, wait_s=options.wait_s) as (holdings, is_own):
        if not is_own:
            found.blobs_checked = found.bytes_checked = found.pages_checked = 0
            found.findings.clear()
            await rebuild(holdings, into=found)
            return
        await check_again(holdings, scope, into=found)
        await note_verification(holdings.store, found, now=time.time(), is_whole=scope.is_all)
        await repair(holdings, found)  # where all is whole, it writes the pages that are due
    if found.lost:
        found.doing = "fetching what was lost"
        try:
            found.lost = await _fetch_lost(options, config, found.lost)
        except MirrorError as exc:
            # The tree is mended; the next cycle fetches the lost files.
            write_error(f"error: what was lost could not be fetched now: {exc}")


async def _is_offered_no_more(store: Store, file: LostFile, read: Collection[int]) -> bool:
    """Return whether the page of a file was read, and lists no such file."""
    from mirror.state.missing.ledger import load_project_failures

    if file.source not in read or not file.is_configured:
        return False
    failed = await load_project_failures(store, file.source, file.project)
    return file.filename not in failed and "" not in failed


async def _fetch_lost(options: GlobalOptions, config: Config, lost: list[LostFile]) -> list[LostFile]:
    """Run a cycle over the projects that lost files; return the files still missing, recorded in
    the ledger.
    """
    import os

    import anyio

    from mirror.state.blobs.lost import record_gone
    from mirror.state.entries.held import load_listed_filenames
    from mirror.sync.cycle import record_outcome, run_cycle
    from mirror.sync.work import Options
    from mirror.wiring import opened_cycle, with_known_indexes

    if not config.indexes:
        config = await with_known_indexes(config)
    if not config.indexes:
        return lost
    names = tuple(sorted({file.project for file in lost if not file.index.startswith(_SNAPSHOT)}))
    if not names:
        return lost
    # Very many are left to a whole cycle: it reads all pages without validators, and these have
    # none.
    narrowed = Options(projects=names if len(names) <= _MOST_NAMED else ())
    async with opened_cycle(config, narrowed, env=dict(os.environ), wait_s=options.wait_s) as cycle:
        try:
            await run_cycle(cycle)
        finally:
            with anyio.CancelScope(shield=True):
                await record_outcome(cycle, cycle.report.exit_code())
        held = await load_listed_filenames(cycle.store, names)
        left = [file for file in lost if (file.project, file.filename) not in held]
        read = {run.source.id for run in cycle.runs if run.ended is None}
        left = [file for file in left if file.was_right or not await _is_offered_no_more(cycle.store, file, read)]
        await record_gone(cycle.store, left, now=time.time())
    return left


async def _prune(options: GlobalOptions, dry_run: bool) -> Pruning:
    from mirror.holdings.opening import opened_holdings, opened_holdings_for_reading
    from mirror.upkeep.prune import Pruning, Retention, plan_prune
    from mirror.upkeep.prune import prune as run_prune
    from mirror.upkeep.summaries import fill_summaries

    config = options.load_tree_config(needs_settings=True)
    settings = config.mirror
    retention = Retention(removed_s=settings.keep_removed_s, history_s=settings.keep_history_s)
    if dry_run:
        async with opened_holdings_for_reading(settings, config.limits) as holdings:
            return await plan_prune(holdings, retention)
    async with opened_holdings(settings, config.limits, wait_s=options.wait_s) as holdings:
        pruned = await run_prune(holdings, retention, into=Pruning())
        await fill_summaries(holdings.store, holdings.layout)
        return pruned


def _verification_json(found: Verification, *, repair: bool) -> dict[str, Any]:
    remaining = [
        {"index": file.index, "project": file.project, "filename": file.filename, "sha256": file.sha256}
        for file in found.lost
    ]
    return found.as_json() | {
        "repaired": found.repaired if repair else 0,
        "remaining": len(found.findings) - found.repaired if repair else len(found.findings),
        "lost": remaining,
        "without_metadata": found.without_metadata,
    }


def _show_verification(found: Verification, *, repair: bool) -> None:
    from mirror.errors import shown_text
    from mirror.upkeep.findings import shown_path

    for finding in found.findings[:_SHOWN]:
        write_out(f"{finding.damage.value}: {shown_path(finding.path)}: {shown_text(finding.detail)}")
    _say_more(found.findings)
    for path in found.without_metadata[:_SHOWN]:
        write_out(f"without metadata until a cycle fetches it again, if its index still offers it: {path}")
    _say_more(found.without_metadata)
    for file in found.lost[:_SHOWN]:
        where = file.index if file.index.startswith(_SNAPSHOT) else f"{file.project}, index {file.index}"
        write_out(f"still missing: {file.filename} ({where}); {_advice(file)}")
    _say_more(found.lost)
    checked = (
        f"{counted(found.blobs_checked, 'file')} ({size(found.bytes_checked)}) and"
        f" {counted(found.pages_checked, 'page')} checked"
    )
    if found.leftovers:
        checked += f"; {counted(found.leftovers, 'leftover')} that `mirror prune` takes away"
    if found.rebuilt:
        write_out(
            "the state was rebuilt from the tree; the next `mirror sync --once` claims its files for their indexes"
        )
    if not found.findings:
        write_out(f"{checked}: all whole")
    elif repair:
        write_out(f"{checked}: {len(found.findings)} damaged, {found.repaired} mended, {len(found.lost)} still missing")
    else:
        write_out(f"{checked}: {len(found.findings)} damaged; `mirror verify --repair` mends what can be mended")


def _advice(file: LostFile) -> str:
    if file.index.startswith(_SNAPSHOT):
        return "only the snapshot lists it: restore it from a backup, or delete the snapshot"
    if file.is_configured:
        return "see `mirror status`, or restore it from a backup and run `mirror verify --repair`"
    return "`mirror sync --once` fetches it if an index offers it; else restore it from a backup"


def _say_more(things: Sequence[object]) -> None:
    if len(things) > _SHOWN:
        write_out(f"… and {len(things) - _SHOWN} more; --json lists all")


def _write_json(value: dict[str, Any]) -> None:
    import msgspec

    write_out(msgspec.json.encode(value).decode())
