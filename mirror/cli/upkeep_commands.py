"""``mirror verify`` and ``mirror prune``: keep what is held whole, and let go of what nobody lists."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import ExitCode, write_out
from mirror.errors import ConfigError

if TYPE_CHECKING:
    from mirror.config import Config
    from mirror.sync.prune import Pruning
    from mirror.sync.verify import Scope, Verification

_SHOWN = 20


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
    from mirror.sync.verify import Scope

    try:
        share = parse_ratio(sample)
        age_s = parse_duration(not_since) if not_since is not None else None
    except ValueError as exc:
        raise ConfigError(where="mirror verify", problem=f"--sample or --older-than: {exc}") from exc
    if not share:
        raise ConfigError(where="--sample", problem='expected a share such as "5%", more than 0')
    scope = Scope(share=share, not_since=None if age_s is None else time.time() - age_s)
    found, lost = anyio.run(_repair if repair else _verify, options, scope)
    if json:
        _write_json(found.as_json() | {"remaining": len(lost) if repair else len(found.findings)})
    else:
        _show_verification(found, lost, repaired=repair)
    return ExitCode.DAMAGED if (lost if repair else found.findings) else ExitCode.OK


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
        parts = [f"{gone.blobs} files ({_bytes(gone.bytes)}) whose retention has ended"]
        if gone.leftovers:
            parts.append(f"{gone.leftovers} leftovers ({_bytes(gone.leftover_bytes)}) that no row knows")
        if gone.entries:
            parts.append(f"{gone.entries} rows of old history")
        write_out(f"{verb}: {', '.join(parts)}")
    return ExitCode.OK


async def _verify(options: GlobalOptions, scope: Scope) -> tuple[Verification, list[tuple[str, str, str]]]:
    from mirror.sync import verify as verifying
    from mirror.wiring import opened_tree_for_reading

    config = options.load_tree_config()
    found = verifying.Verification()
    async with opened_tree_for_reading(config.mirror, config.limits, may_note=True) as tree:
        await verifying.verify(
            tree.store,
            tree.layout,
            scope,
            now=time.time,
            metadata_limit_bytes=config.limits.metadata_size,
            into=found,
        )
    return found, []


async def _repair(options: GlobalOptions, scope: Scope) -> tuple[Verification, list[tuple[str, str, str]]]:
    """Mend the tree under its lock, then fetch what was lost by a cycle narrowed to it."""
    from mirror.sync import verify as verifying
    from mirror.sync.rebuild import rebuild
    from mirror.wiring import opened_tree_for_repair

    config = options.load_tree_config()
    found = verifying.Verification()
    limit_bytes = config.limits.metadata_size
    async with opened_tree_for_repair(config.mirror, config.limits, wait_s=options.wait_s) as tree:
        if tree.was_rebuilt:
            await rebuild(tree.store, tree.layout, metadata_limit_bytes=limit_bytes, now=time.time(), into=found)
            await verifying.republish(tree.maintenance)
        else:
            await verifying.verify(
                tree.store, tree.layout, scope, now=time.time, metadata_limit_bytes=limit_bytes, into=found
            )
            await verifying.repair(tree.maintenance, tree.layout, found)
    if not found.lost:
        return found, []
    lost = await _fetch_lost(options, config, found.lost)
    found.repaired += len(found.lost) - len(lost)
    return found, lost


async def _fetch_lost(
    options: GlobalOptions, config: Config, lost: list[tuple[str, str, str]]
) -> list[tuple[str, str, str]]:
    """Run a cycle over the projects that lost files; return what is still not held."""
    import os

    from mirror.core.names import ProjectName
    from mirror.state.entries import load_listed_filenames
    from mirror.sync.cycle import record_outcome, run_cycle
    from mirror.sync.work import Options
    from mirror.wiring import opened_cycle, with_known_indexes

    names = tuple(sorted({ProjectName(project) for _, project, _ in lost}))
    if not config.indexes:
        config = await with_known_indexes(config)
    if not config.indexes:
        return lost
    async with opened_cycle(config, Options(projects=names), env=dict(os.environ), wait_s=options.wait_s) as cycle:
        report = await run_cycle(cycle)
        await record_outcome(cycle, ExitCode.OK if not report.failures else ExitCode.PARTIAL)
        held = await load_listed_filenames(cycle.store, names)
    return [item for item in lost if (item[1], item[2]) not in held]


async def _prune(options: GlobalOptions, dry_run: bool) -> Pruning:
    from mirror.sync.prune import Pruning, Retention, plan_prune
    from mirror.sync.prune import prune as run_prune
    from mirror.wiring import opened_tree, opened_tree_for_reading

    config = options.load_tree_config()
    settings = config.mirror
    retention = Retention(removed_s=settings.keep_removed_s, history_s=settings.keep_history_s)
    if dry_run:
        async with opened_tree_for_reading(settings, config.limits) as tree:
            return await plan_prune(tree.store, tree.layout, retention, now=time.time())
    async with opened_tree(settings, config.limits, wait_s=options.wait_s) as tree:
        return await run_prune(tree.maintenance, tree.layout, retention, into=Pruning())


def _show_verification(found: Verification, lost: list[tuple[str, str, str]], *, repaired: bool) -> None:
    checked = f"{found.blobs_checked} files ({_bytes(found.bytes_checked)}) and {found.pages_checked} pages checked"
    if found.leftovers:
        checked += f"; {found.leftovers} leftovers that `mirror prune` takes away"
    for finding in found.findings[:_SHOWN]:
        write_out(f"{finding.damage.value}: {finding.path}: {finding.detail}")
    if len(found.findings) > _SHOWN:
        write_out(f"… and {len(found.findings) - _SHOWN} more; --json lists all")
    for index, project, filename in lost[:_SHOWN]:
        write_out(f"still missing: {filename} of {project} (index {index}): see `mirror status`")
    if not found.findings:
        write_out(f"{checked}: all whole")
    elif repaired:
        write_out(f"{checked}: {found.repaired} damaged things mended, {len(lost)} still missing")
    else:
        write_out(f"{checked}: {len(found.findings)} damaged; `mirror verify --repair` mends them")


def _write_json(value: dict[str, Any]) -> None:
    import msgspec

    write_out(msgspec.json.encode(value).decode())


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
