"""The request of ``mirror verify`` and its result, with a repair and without one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from mirror.cli.arguments.upkeep import VerifyArguments
from mirror.cli.json_output import write_json
from mirror.cli.outcome import write_out
from mirror.cli.text import counted, size
from mirror.config import parse_duration, parse_ratio
from mirror.errors import ConfigError, shown_text
from mirror.exit_codes import ExitCode
from mirror.state.blobs.lost import LostFile
from mirror.upkeep.findings import Scope, Verification, is_of_snapshot, shown_path

_SHOWN = 20


def scope_of(given: VerifyArguments) -> Scope:
    """Return which files are verified. Raises ``ConfigError``."""
    try:
        share = parse_ratio(given.sample)
        age_s = parse_duration(given.not_since) if given.not_since is not None else None
    except ValueError as exc:
        raise ConfigError(
            where="mirror verify", problem=f"--sample or --older-than: {exc}"
        ) from exc
    if not share:
        raise ConfigError(where="--sample", problem='expected a share such as "5%", more than 0')
    return Scope(share=share, not_since=None if age_s is None else time.time() - age_s)


def print_verification(found: Verification, *, repair: bool, as_json: bool) -> ExitCode:
    """Print the result, and return the exit code: whether damage is left."""
    if as_json:
        write_json(_verification_json(found, repair=repair))
    else:
        _show_verification(found, repair=repair)
    left = found.lost if repair else found.findings
    return ExitCode.DAMAGED if left else ExitCode.OK


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
    if is_of_snapshot(file):
        return "only the snapshot lists it: restore it from a backup, or delete the snapshot"
    if file.is_configured:
        return "see `mirror status`, or restore it from a backup and run `mirror verify --repair`"
    return "`mirror sync --once` fetches it if an index offers it; else restore it from a backup"


def _print_more(things: Sequence[object]) -> None:
    if len(things) > _SHOWN:
        write_out(f"… and {len(things) - _SHOWN} more; --json lists all")
