"""Run the notify-command: the user's program, with a report on its standard input.

Nothing here may stop anything: a failure is one line in the log.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping
from subprocess import DEVNULL, PIPE
from typing import TYPE_CHECKING

import anyio
import msgspec

from mirror.config import Config
from mirror.errors import shown_text
from mirror.logs import get_logger
from mirror.sync.report import Report
from mirror.upstream.credentials.program_env import program_environment

if TYPE_CHECKING:
    from anyio.abc import Process

LIMIT_S = 60.0
"""How long the program may run, in seconds."""

_OUTPUT_BYTES = 4096
_DRAIN_S = 1.0
"""How long to wait for remaining output after the program has exited."""

_log = get_logger(__name__)


def is_worth_notifying(report: Report, exit_code: int) -> bool:
    """Return whether a cycle changed something or failed; one that the daemon stopped did
    neither.
    """
    changed = (
        "projects_changed",
        "projects_removed",
        "files_new",
        "files_replaced",
        "files_removed",
    )
    return not report.interrupted and (
        bool(exit_code) or any(report.total(counter) for counter in changed)
    )


async def notify_cycle(
    config: Config, report: Report, exit_code: int, env: Mapping[str, str]
) -> None:
    """Run the notify-command with a cycle's report, if that is wanted and worth it."""
    if config.service.notify_command and is_worth_notifying(report, exit_code):
        await run_notify_command(
            config, "cycle", msgspec.json.encode(report.as_json()), exit_code, env
        )


async def run_notify_command(
    config: Config, event: str, report: bytes, exit_code: int, env: Mapping[str, str]
) -> None:
    """Run the notify-command with a report on its standard input; it has a minute.

    Its secrets are its own.
    """
    command = config.service.notify_command
    known = program_environment(config.indexes, env)
    environment = {
        **{k: v for k, v in known.items() if k != "CREDENTIALS_DIRECTORY"},
        "MIRROR_EVENT": event,
        "MIRROR_EXIT_CODE": str(exit_code),
        "MIRROR_ROOT": str(config.mirror.root),
    }
    try:
        process = await anyio.open_process(
            command,
            stdin=PIPE,
            stdout=DEVNULL,
            stderr=PIPE,
            env=environment,
            start_new_session=True,
        )
    except (OSError, ValueError) as exc:
        problem = f"can't be started: {getattr(exc, 'strerror', None) or type(exc).__name__}"
        _log.warning("notify.failed", command=command[0], problem=problem)
        return
    output = b""
    try:
        with anyio.move_on_after(LIMIT_S) as limit:
            output = await _converse(process, report)
    finally:
        with anyio.CancelScope(shield=True):
            _end(process)
            await process.aclose()
    if limit.cancelled_caught:
        _log.warning(
            "notify.failed", command=command[0], problem=f"did not end within {LIMIT_S:g} s: killed"
        )
    elif process.returncode:
        last = output.decode(errors="replace").strip().rpartition("\n")[2]
        _log.warning(
            "notify.failed",
            command=command[0],
            exit_status=process.returncode,
            said=shown_text(last),
        )
    else:
        _log.info("notify.done", command=command[0], about=event)


async def _converse(process: Process, report: bytes) -> bytes:
    """Send the program its input until it ends, and return the end of its error output.

    A background process that it left may hold its output open; that is not awaited.
    """
    output, is_read = b"", anyio.Event()

    async def feed() -> None:
        assert process.stdin is not None
        # One that reads nothing is not a failure.
        with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            await process.stdin.send(report)
        with contextlib.suppress(OSError, anyio.BrokenResourceError):
            await process.stdin.aclose()

    async def listen() -> None:
        nonlocal output
        assert process.stderr is not None
        async for chunk in process.stderr:
            output = (output + chunk)[-_OUTPUT_BYTES:]
        is_read.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feed)
        tasks.start_soon(listen)
        await process.wait()
        with anyio.move_on_after(_DRAIN_S):
            await is_read.wait()
        tasks.cancel_scope.cancel()
    return output


def _end(process: Process) -> None:
    """Kill the remaining processes of the program, if any."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
