"""The work after a cycle of the daemon or of ``--once``: notes for ``status``, metrics, and the
notify-command.

Nothing here may undo or stop anything: a failure is one line in the log.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Mapping
from subprocess import DEVNULL, PIPE
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import msgspec

from mirror.config import Config
from mirror.core.schedule import DiskSample, expiry_step, with_sample
from mirror.errors import AccessDenied, StateError, TreeError, shown_text
from mirror.logs import get_logger
from mirror.state.notes import CredentialNote, load_notes, record_note
from mirror.sync.report import Report
from mirror.sync.work import Cycle, IndexRun
from mirror.tree.atomic import disk_space, replace_file
from mirror.upstream.credentials.program_env import program_environment

if TYPE_CHECKING:
    from anyio.abc import Process

    from mirror.metrics import Metrics

NOTIFY_LIMIT_S = 60.0

_SAID_BYTES = 4096
_DRAIN_S = 1.0
"""How long to wait for remaining output after the program has exited."""

_log = get_logger(__name__)


async def note_cycle(cycle: Cycle, config: Config) -> None:
    """Record values that a cycle knows beyond its report: the credentials' ends, the disk's free
    space.
    """
    notes = await load_notes(cycle.store)
    known = {index.name for index in config.indexes}
    credentials = {name: note for name, note in notes.credentials.items() if name in known}
    credentials |= {run.name: _credential_note(run, now=cycle.clock()) for run in cycle.runs}
    await record_note(cycle.store, "credentials", credentials)
    space = await anyio.to_thread.run_sync(disk_space, config.mirror.root)
    if space is not None:
        sample = DiskSample(at=cycle.clock(), used=space[0] - space[1], free=space[1])
        await record_note(cycle.store, "disk", with_sample(notes.disk, sample))


async def write_metrics(config: Config, metrics: Metrics) -> None:
    """Write the textfile, if one is wanted: whole, for the user of node_exporter to read."""
    path = config.service.metrics_file
    if path is None:
        return
    try:
        await anyio.to_thread.run_sync(
            lambda: replace_file(path, metrics.render_file(), mode=0o644, tmp_dir=path.parent)
        )
    except TreeError as exc:
        _log.error("metrics.unwritten", path=str(path), problem=exc.problem)


def is_worth_telling(report: Report, exit_code: int) -> bool:
    """Return whether a cycle changed something or failed; one that the daemon stopped did neither."""
    changed = ("projects_changed", "projects_removed", "files_new", "files_replaced", "files_removed")
    return not report.interrupted and (bool(exit_code) or any(report.total(counter) for counter in changed))


async def tell_cycle(config: Config, report: Report, exit_code: int, env: Mapping[str, str]) -> None:
    """Run the notify-command with a cycle's report, if that is wanted and worth it."""
    if config.service.notify_command and is_worth_telling(report, exit_code):
        await tell(config, "cycle", msgspec.json.encode(report.as_json()), exit_code, env)


async def tell(config: Config, event: str, report: bytes, exit_code: int, env: Mapping[str, str]) -> None:
    """Run the notify-command with a report on its standard input; it has a minute. Its secrets are its own."""
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
            command, stdin=PIPE, stdout=DEVNULL, stderr=PIPE, env=environment, start_new_session=True
        )
    except (OSError, ValueError) as exc:
        problem = f"can't be started: {getattr(exc, 'strerror', None) or type(exc).__name__}"
        _log.warning("notify.failed", command=command[0], problem=problem)
        return
    said = b""
    try:
        with anyio.move_on_after(NOTIFY_LIMIT_S) as limit:
            said = await _converse(process, report)
    finally:
        with anyio.CancelScope(shield=True):
            _end(process)
            await process.aclose()
    if limit.cancelled_caught:
        _log.warning("notify.failed", command=command[0], problem=f"did not end within {NOTIFY_LIMIT_S:g} s: killed")
    elif process.returncode:
        last = said.decode(errors="replace").strip().rpartition("\n")[2]
        _log.warning("notify.failed", command=command[0], exit_status=process.returncode, said=shown_text(last))
    else:
        _log.info("notify.done", command=command[0], about=event)


async def after_once(cycle: Cycle, config: Config, *, version: str) -> Metrics | None:
    """Do the work after a cycle of ``--once`` while its state is open; return the metrics to write."""
    try:
        before = (await load_notes(cycle.store)).credentials
        await note_cycle(cycle, config)
        for run in cycle.runs:
            note, told = _credential_note(run, now=cycle.clock()), before.get(run.name)
            if told is None or (note.expires_at, note.days) != (told.expires_at, told.days):
                warn_of_end(run.name, note.source, note.expires_at, now=cycle.clock())
        if config.service.metrics_file is None:
            return None
        from mirror.metrics import Metrics  # its library takes 10 ms to import
        from mirror.status.facts import load_facts

        root = str(config.mirror.root)
        metrics = Metrics(version=version, clock=cycle.clock, disk=lambda: disk_space(root), is_service=False)
        metrics.facts = await load_facts(cycle.store, config, now=cycle.clock(), is_scheduled=False)
    except StateError as exc:
        _log.error("notes.unwritten", problem=str(exc))
        return None
    return metrics


def warn_of_end(index: str, source: str, expires_at: float | None, *, now: float) -> None:
    """Log that a credential ends within 14 days or less, or has ended."""
    days = expiry_step(expires_at, now=now)
    if expires_at is None or days is None:
        return
    at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(expires_at))
    if days:
        _log.warning(
            "credential.expires", within_days=days, advice="renew it", index=index, source=source, expires_at=at
        )
    else:
        _log.error("credential.expired", advice="renew it", index=index, source=source, expires_at=at)


def _credential_note(run: IndexRun, *, now: float) -> CredentialNote:
    credentials, problem = run.session.credentials, None
    if isinstance(run.ended, AccessDenied):
        problem = run.ended.detail or f"the index answered {run.ended.status}"
    expires_at = credentials.kept.expires_at if credentials.kept is not None else None
    days = expiry_step(expires_at, now=now)
    return CredentialNote(source=credentials.describe(), expires_at=expires_at, problem=problem, days=days)


async def _converse(process: Process, report: bytes) -> bytes:
    """Send the program its input until it ends, and return the end of its error output.

    A background process that it left may hold its output open; that is not awaited.
    """
    said, is_heard = b"", anyio.Event()

    async def feed() -> None:
        assert process.stdin is not None
        # One that reads nothing is no failure.
        with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            await process.stdin.send(report)
        with contextlib.suppress(OSError, anyio.BrokenResourceError):
            await process.stdin.aclose()

    async def listen() -> None:
        nonlocal said
        assert process.stderr is not None
        async for chunk in process.stderr:
            said = (said + chunk)[-_SAID_BYTES:]
        is_heard.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feed)
        tasks.start_soon(listen)
        await process.wait()
        with anyio.move_on_after(_DRAIN_S):
            await is_heard.wait()
        tasks.cancel_scope.cancel()
    return said


def _end(process: Process) -> None:
    """Kill the remaining processes of the program, if any."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
