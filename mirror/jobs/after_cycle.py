"""The work after a cycle of the daemon or of ``--once``: notes for ``status``, and metrics.

Nothing here may undo or stop anything: a failure is one line in the log.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import anyio.to_thread

from mirror.config import Config
from mirror.core.schedule import DiskSample, expiry_step, with_sample
from mirror.errors import AccessDenied, StateError, TreeError
from mirror.jobs.notify_command import is_worth_notifying
from mirror.logs import get_logger
from mirror.state.notes import CredentialNote, Notes, load_notes, record_note
from mirror.sync.cycle_parts import Cycle
from mirror.sync.work import IndexRun
from mirror.tree.disk.failures import disk_space
from mirror.tree.disk.writing import replace_file

if TYPE_CHECKING:
    from mirror.metrics import Metrics

_log = get_logger(__name__)


async def record_cycle_notes(cycle: Cycle, config: Config, env: Mapping[str, str]) -> Notes:
    """Record values that a cycle knows beyond its report: the credentials' ends, the disk's free
    space. Return the notes of the cycle before.
    """
    notes = await load_notes(cycle.store)
    known = {index.name for index in config.indexes}
    credentials = {name: note for name, note in notes.credentials.items() if name in known}
    credentials |= {run.name: _credential_note(run, now=cycle.clock()) for run in cycle.runs}
    if credentials != notes.credentials:
        await record_note(cycle.store, "credentials", credentials)
    space = await anyio.to_thread.run_sync(disk_space, config.mirror.root)
    if space is not None:
        sample = DiskSample(at=cycle.clock(), used=space[0] - space[1], free=space[1])
        samples = with_sample(notes.disk, sample)
        if samples != notes.disk:
            await record_note(cycle.store, "disk", samples)
    if is_proof_due(cycle, config, is_noted=bool(notes.wants)):
        from mirror.jobs.prove import prove_after_cycle  # resolving takes 0.05 s to import

        await prove_after_cycle(cycle, config, env)
    return notes


def is_proof_due(cycle: Cycle, config: Config, *, is_noted: bool) -> bool:
    """Return whether the wants may install otherwise than the last proof says.

    ``is_noted``: whether there is a last proof, which is forgotten with the last want.
    """
    if not config.wants or not is_noted:
        return bool(config.wants) or is_noted
    needs = cycle.wants.needs
    return is_worth_notifying(cycle.report, 0) or (needs is not None and needs.has_changed)


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


async def after_once(
    cycle: Cycle, config: Config, env: Mapping[str, str], *, version: str
) -> Metrics | None:
    """Do the work after a cycle of ``--once`` while its state is open; return the metrics to
    write.
    """
    try:
        before = (await record_cycle_notes(cycle, config, env)).credentials
        for run in cycle.runs:
            note, logged = _credential_note(run, now=cycle.clock()), before.get(run.name)
            if logged is None or (note.expires_at, note.days) != (logged.expires_at, logged.days):
                warn_of_end(run.name, note.source, note.expires_at, now=cycle.clock())
        if config.service.metrics_file is None:
            return None
        from mirror.metrics import Metrics  # its library takes 10 ms to import
        from mirror.status.facts import load_facts

        root = str(config.mirror.root)
        metrics = Metrics(
            version=version, clock=cycle.clock, disk=lambda: disk_space(root), is_service=False
        )
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
            "credential.expires",
            within_days=days,
            advice="renew it",
            index=index,
            source=source,
            expires_at=at,
        )
    else:
        _log.error(
            "credential.expired", advice="renew it", index=index, source=source, expires_at=at
        )


def _credential_note(run: IndexRun, *, now: float) -> CredentialNote:
    credentials, problem = run.access.session.credentials, None
    if isinstance(run.reach.ended, AccessDenied):
        problem = run.reach.ended.detail or f"the index answered {run.reach.ended.status}"
    expires_at = credentials.kept.expires_at if credentials.kept is not None else None
    days = expiry_step(expires_at, now=now)
    return CredentialNote(
        source=credentials.describe(), expires_at=expires_at, problem=problem, days=days
    )
