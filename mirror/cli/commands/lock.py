"""``mirror lock check|rewrite``: lock files that were made outside, for installs inside.

``check --json`` prints one object::

    {"format": 1, "files": [{"project": "p", "version": "1.0", "filename": "p-1.0.tar.gz",
     "state": "held"}]}

``rebuilt`` files have ``"index"`` and ``"sha256": [...]`` of the held files.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import Any

from mirror.cli.arguments.lock import LockCheckArguments, LockRewriteArguments
from mirror.cli.commands.configuration.client_config import client_address
from mirror.cli.configuration import load_tree_config
from mirror.cli.json_output import write_json
from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import close_output, write_error, write_out
from mirror.cli.running import run_async
from mirror.cli.text import folded, safe, stdout_width
from mirror.core.words.amounts import counted
from mirror.errors import TreeError, shown_text
from mirror.exit_codes import ExitCode
from mirror.selection.locks.check import CheckedFile, LockState
from mirror.selection.locks.files import (
    CheckedLock,
    RewrittenLock,
    check_lock_file,
    rewrite_lock_file,
)


def check(options: GlobalOptions, given: LockCheckArguments) -> ExitCode:
    """Show which files of a lock the mirror holds.

    Exit code 5 where one is missing.
    """
    config = load_tree_config(options)

    names = given.target or ()

    async def run() -> CheckedLock:
        return await check_lock_file(
            config, given.file, targets=names, all_platforms=given.all_platforms
        )

    found = run_async(run)
    for note in found.notes:
        write_error(safe(note))
    if given.json:
        write_json({"format": 1, "files": [_file_json(item) for item in found.files]})
    else:
        write_out("\n".join(folded(_lines(found.files), stdout_width())))
    is_whole = all(item.state is LockState.HELD for item in found.files)
    return ExitCode.OK if is_whole else ExitCode.PARTIAL


def rewrite(options: GlobalOptions, given: LockRewriteArguments) -> ExitCode:
    """Write a lock with the mirror's addresses.

    Writes nothing where a file is missing.
    """
    address = client_address(given.to, where="--to")
    config = load_tree_config(options)

    async def run() -> RewrittenLock:
        return await rewrite_lock_file(
            config,
            given.file,
            address.url,
            targets=given.target or (),
            all_platforms=given.all_platforms,
            accepts_rebuilt=given.accept_rebuilt,
        )

    new = run_async(run)
    for note in new.notes:
        write_error(safe(note))
    for problem in new.problems:
        write_error(f"error: {safe(problem)}")
    if new.text is None:
        return ExitCode.PARTIAL
    if given.output is None:
        _write_text(new.text)
    else:
        _replace(given.output, new.text)
    return ExitCode.OK


def _lines(files: tuple[CheckedFile, ...]) -> list[str]:
    """Return a line for each file that is not held, and the counts."""
    lines = []
    counts = dict.fromkeys(LockState, 0)
    for item in files:
        counts[item.state] += 1
        if item.state is not LockState.HELD:
            name = item.filename or f"{item.project} {item.version or ''}".rstrip()
            index = f" by {item.index}" if item.index else ""
            lines.append(safe(f"{name}: {item.state.value}{index}"))
    total = ", ".join(f"{count} {state.value}" for state, count in counts.items() if count)
    return [
        *lines,
        f"{counted(len(files), 'file')}: {total}" if files else "no file of this lock is needed",
    ]


def _file_json(item: CheckedFile) -> dict[str, Any]:
    value: dict[str, Any] = {
        "project": item.project,
        "version": item.version,
        "filename": item.filename,
        "state": item.state.value,
    }
    if item.state is LockState.REBUILT:
        value |= {"index": item.index, "sha256": item.sha256}
    return value


def _write_text(text: str) -> None:
    """Write a lock on stdout as it is: with its own line ends, in UTF-8."""
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode())
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        close_output()  # the reader has seen enough
    except OSError as exc:
        close_output()
        problem = f"can't be written: {exc.strerror}"
        raise TreeError(path="standard output", problem=problem) from exc


def _replace(output: Path, text: str) -> None:
    """Write a file whole or not at all; one that is there keeps its permissions."""
    target = output.resolve()
    new = target.with_name(f".{target.name}.{secrets.token_hex(8)}.new")
    try:
        mode = target.stat().st_mode & 0o7777 if target.exists() else 0o644
        try:
            with new.open("xb") as file:
                file.write(text.encode())
                file.flush()
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            new.replace(target)
        finally:
            new.unlink(missing_ok=True)
    except OSError as exc:
        shown = shown_text(str(output))
        raise TreeError(path=shown, problem=f"can't be written: {exc.strerror}") from exc
