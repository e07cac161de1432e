"""``mirror status``: held files, their age, failures, and advice for each.

Reads the state without a lock, also during a cycle, and asks no upstream. The exit code is 0 for a
mirror that is fresh and whole, 4 for a stale one, 6 where there is none, 7 where the daemon found
damage, else that of the last finished cycle (5 where that was stopped by a signal, or where the
last one was killed) and of each index that could not be read at its last turn: a cycle over the
others does not hide it. ``status_words`` prints the same in words.

``--json`` prints one object; times are ISO 8601 in UTC, sizes bytes, unknown or unjudged values
null::

    {"format": 1, "root": "/srv/mirror", "configuration": "/etc/mirror/mirror.toml", "exit_code": 5, "stale": false,
     "cycle": {"number": 7, "started_at": "…Z", "finished_at": "…Z", "outcome": "partial", "exit_code": 5},
     "working": {"pid": 123, "cycle": 8, "started_at": "…Z"},   a process that works on it; cycle null for other commands
     "interrupted": null,                                       the number of a last cycle that was killed
     "indexes": [{"name": "default", "url": "https://…/", "configured": true, "projects_listed": 1, "projects_held": 1,
       "files": 1, "bytes": 1, "files_absent": 0, "files_unhashed": 0, "files_skipped": 0, "withheld": 0, "failed": 0,
       "last_success": "…Z", "stale": false, "credential": {"source": "$A", "expires_at": "…Z", "problem": null},
       "names_unread": {"files": 1, "names": ["odd.zip"]}}],       only where a flat page has such files
     "daemon": {"pid": 123, "doing": "waiting; …", "since": "…Z", "next_cycle_at": "…Z"},   null while none runs
     "upkeep": {"finished_at": "…Z", "pruned": 1, "pruned_bytes": 1, "checked": 1, "checked_bytes": 1},
     "damage": [{"path": "files/…", "damage": "bytes", "detail": "…", "found_at": "…Z"}],
     "disk": {"free_bytes": 1, "size_bytes": 1, "growth_bytes_per_day": 1, "days_until_full": 1.0},
     "not_served": [{"index": "default", "project": "p", "detail": "…"}],
     "failures_total": 1, "failures": [{"index": "default", "project": "p", "filename": "p-1.tar.gz", "reason":
       "not-found", "detail": "…", "url": "https://…", "hashes": {"sha256": "…"}, "size": 1, "first_at": "…Z",
       "last_at": "…Z", "attempts": 1, "next_at": "…Z"}]}           url, hashes and size null for pages; url without its query
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import write_out
from mirror.errors import Reason, shown_url
from mirror.exit_codes import SIGNALS, ExitCode, exit_code_of_index, first_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mirror.config import Config, IndexConfig
    from mirror.core.schedule import DiskSample
    from mirror.state.listing import SourceRow
    from mirror.state.notes import Activity, CredentialNote, DamageNote, Notes
    from mirror.state.overview import IndexOverview, Overview

_SHOWN_FAILURES = 20
_NOT_ASKED = frozenset({"command", "keyring"})
"""Kinds of credentials that ``status`` does not read: it runs nothing and never waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialState:
    """The state of an index's credential, found without using it."""

    source: str
    expires_at: float | None = None
    problem: str | None = None
    """Why it can't be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Everything that ``status`` prints."""

    root: Path
    config: Config | None
    """None where only the root is known."""
    overview: Overview
    now: float
    pid: int | None
    """The process that works on the mirror."""
    credentials: Mapping[str, CredentialState]
    notes: Notes | None = None
    daemon_pid: int | None = None
    locked_at: float | None = None
    """When the process that works on the mirror took the lock."""
    disk: DiskSample | None = None
    """Now."""

    @property
    def activity(self) -> Activity | None:
        """The current activity of the running daemon."""
        found = self.notes.activity if self.notes is not None else None
        return found if found is not None and found.pid == self.daemon_pid else None

    @property
    def damage(self) -> Sequence[DamageNote]:
        """Damage that the daemon found."""
        return self.notes.damage if self.notes is not None else ()

    @property
    def disk_forecast(self) -> tuple[float | None, float | None]:
        """The disk's growth in bytes a day, and in how many days it is full; None where that is not known."""
        from mirror.core.schedule import days_until_full, growth_per_day

        if self.disk is None:
            return None, None
        per_day = growth_per_day(self.notes.disk if self.notes is not None else (), self.disk)
        reserve = self.config.limits.disk_reserve if self.config is not None else 0
        return per_day, days_until_full(self.disk, per_day, reserve=reserve)

    @property
    def is_running(self) -> bool:
        """Whether a cycle is under way."""
        last = self.overview.last_cycle
        if self.pid is None or last is None or last.finished_at is not None:
            return False
        # A command that took the lock after a cycle began is not that cycle, which must have been killed.
        return self.locked_at is None or self.locked_at <= last.started_at

    @property
    def interrupted(self) -> int | None:
        """The number of the last cycle, if it is unfinished; of the one before where the last one
        is under way.
        """
        last = self.overview.last_cycle
        if last is not None and last.finished_at is None and not self.is_running:
            return last.id
        return self.overview.killed_before

    def configured(self, name: str) -> IndexConfig | None:
        """Return an index of the configuration."""
        return next((i for i in self.config.indexes if i.name == name), None) if self.config else None

    def is_configured(self, source: SourceRow) -> bool:
        """Whether the index is in the configuration, or was in the last cycle where that is not known."""
        return self.configured(source.name) is not None if self.config else source.configured

    @property
    def configured_names(self) -> frozenset[str]:
        """The indexes of which something is known and that are still in the configuration."""
        return frozenset(i.source.name for i in self.overview.indexes if self.is_configured(i.source))

    def stale(self, index: IndexOverview) -> bool | None:
        """Judge one index; None where its interval is not known."""
        from mirror.core.schedule import is_stale

        configured = self.configured(index.source.name)
        if self.config is None or configured is None:
            return None
        interval_s = configured.interval_s or self.config.mirror.interval_s
        since = self.overview.first_cycle_at or self.now
        return is_stale(index.source.succeeded_at, since=since, interval_s=interval_s, now=self.now)

    @property
    def is_stale(self) -> bool | None:
        """Whether any index is stale."""
        judged = [stale for index in self.overview.indexes if (stale := self.stale(index)) is not None]
        return any(judged) if judged else None

    @property
    def exit_code(self) -> ExitCode:
        """The exit code for the state of the mirror."""
        finished = self.overview.last_finished
        codes = [ExitCode.UPSTREAM] if self.is_stale else []
        if self.damage:
            codes.append(ExitCode.DAMAGED)
        if finished is None or self.interrupted is not None:
            codes.append(ExitCode.PARTIAL)
        if finished is not None:
            code = ExitCode(finished.exit_code or 0)
            codes.append(ExitCode.PARTIAL if code in SIGNALS else code)
        codes += [exit_code_of_index(row.reason) for row in self.overview.ended if row.index in self.configured_names]
        return first_of(codes)


def status(
    options: GlobalOptions, *, json: Annotated[bool, typer.Option("--json", help="Print one object on stdout.")] = False
) -> ExitCode:
    """Show what is held, how fresh it is and what failed."""
    import anyio

    found = anyio.run(_load, options, None if json else _SHOWN_FAILURES)
    if json:
        import msgspec

        write_out(msgspec.json.encode(as_json(found)).decode())
        return found.exit_code
    from mirror.cli.status_words import describe_status
    from mirror.cli.text import folded, stdout_width

    write_out("\n".join(folded(describe_status(found), stdout_width())))
    return found.exit_code


async def _load(options: GlobalOptions, max_failures: int | None) -> Status:
    import os
    import time

    from mirror.state.notes import load_notes
    from mirror.state.overview import load_overview
    from mirror.state.store import check_quickly, open_store_for_reading
    from mirror.tree.layout import Layout
    from mirror.tree.lock import locked_since

    config = options.load_tree_config()
    async with open_store_for_reading(config.mirror.state) as store:
        await check_quickly(store)
        overview = await load_overview(store, max_failures=max_failures)
        notes = await load_notes(store)
    layout, now = Layout(config.mirror.root), time.time()
    return Status(
        root=config.mirror.root,
        config=config if config.indexes else None,
        overview=overview,
        now=now,
        pid=_working_pid(layout.tree_lock),
        credentials=await _load_credentials(config, dict(os.environ), notes.credentials),
        notes=notes,
        daemon_pid=_working_pid(layout.daemon_lock),
        locked_at=locked_since(layout.tree_lock),
        disk=_disk_now(config.mirror.root, now),
    )


def _working_pid(lock: Path) -> int | None:
    """Return the process that holds the tree's lock.

    A killed one left its number in it, but is not running.
    """
    import os

    from mirror.tree.lock import holder_pid

    pid = holder_pid(lock)
    if pid is None or pid <= 0:
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass  # it lives, and is another user's
    return pid


def _disk_now(root: Path, now: float) -> DiskSample | None:
    from mirror.core.schedule import DiskSample
    from mirror.tree.atomic import disk_space

    space = disk_space(root)
    return None if space is None else DiskSample(at=now, used=space[0] - space[1], free=space[1])


async def _load_credentials(
    config: Config, env: Mapping[str, str], noted: Mapping[str, CredentialNote]
) -> dict[str, CredentialState]:
    """Return the state of each credential; for a source that is not read here, as the last cycle
    recorded it.
    """
    from mirror.errors import AccessDenied, ConfigError
    from mirror.upstream.credentials import credential_source

    found = {}
    for index in config.indexes:
        source = credential_source(index, env, config.indexes)
        if _is_not_asked(index, env):
            note = noted.get(index.name)
            found[index.name] = CredentialState(
                source=source.describe(),
                expires_at=note.expires_at if note else None,
                problem=note.problem if note else None,
            )
            continue
        try:
            credential = await source.load()
        except AccessDenied as exc:
            found[index.name] = CredentialState(source=source.describe(), problem=exc.detail)
        except ConfigError as exc:
            found[index.name] = CredentialState(source=source.describe(), problem=exc.problem)
        else:
            if credential is not None:
                found[index.name] = CredentialState(source=credential.source, expires_at=credential.expires_at)
    return found


def _is_not_asked(index: IndexConfig, env: Mapping[str, str]) -> bool:
    """Return whether the last cycle knows more of a credential: it would take a command, or systemd has it for itself."""
    from mirror.config import credential_names

    if index.auth is None:
        return False
    of_systemd = bool(credential_names(index.auth)) and not env.get("CREDENTIALS_DIRECTORY")
    return of_systemd or index.auth.kind in _NOT_ASKED


def as_json(status: Status) -> dict[str, Any]:
    """Return the object of ``--json`` (the module's docstring shows it)."""
    overview, finished, last = status.overview, status.overview.last_finished, status.overview.last_cycle
    working = None
    if status.pid is not None:
        cycle = last if status.is_running else None
        started_at = cycle.started_at if cycle else None
        working = {"pid": status.pid, "cycle": cycle.id if cycle else None, "started_at": _utc(started_at)}
    return {
        "format": 1,
        "root": str(status.root),
        "configuration": status.config.source if status.config else None,
        "exit_code": int(status.exit_code),
        "stale": status.is_stale,
        "cycle": finished
        and {
            "number": finished.id,
            "started_at": _utc(finished.started_at),
            "finished_at": _utc(finished.finished_at),
            "outcome": finished.outcome,
            "exit_code": finished.exit_code,
        },
        "working": working,
        "interrupted": status.interrupted,
        "indexes": [_index_json(status, index) for index in overview.indexes],
        **_notes_json(status),
        "not_served": [
            {"index": one.index, "project": one.project, "detail": one.detail}
            for one in overview.unserved
            if one.reason is Reason.NOT_SERVED and not one.filename
        ],
        "failures_total": overview.failed,
        "failures": [
            {
                "index": row.index,
                "project": row.project or None,
                "filename": row.filename or None,
                "reason": row.reason.value,
                "detail": row.detail,
                "url": shown_url(row.file.url) if row.file else None,
                "hashes": dict(row.file.digests) if row.file else None,
                "size": row.file.size if row.file else None,
                "first_at": _utc(row.first_at),
                "last_at": _utc(row.last_at),
                "attempts": row.attempts,
                "next_at": _utc(row.next_at),
            }
            for row in overview.failures
        ],
    }


def _index_json(status: Status, index: IndexOverview) -> dict[str, Any]:
    from mirror.errors import shown_url

    source, credential = index.source, status.credentials.get(index.source.name)
    shown: dict[str, Any] = {
        "name": source.name,
        "url": shown_url(source.url),
        "configured": status.is_configured(source),
        "projects_listed": source.listed,
        "projects_held": index.held.projects,
        "files": index.held.files,
        "bytes": index.held.size,
        "files_absent": index.counts.absent,
        "files_unhashed": index.counts.unhashed,
        "files_skipped": index.counts.skipped,
        "withheld": index.withheld,
        "failed": index.failed,
        "last_success": _utc(source.succeeded_at),
        "stale": status.stale(index),
        "credential": credential
        and {
            "source": credential.source,
            "expires_at": _utc(credential.expires_at),
            "problem": credential.problem,
        },
    }
    if source.unread:
        shown["names_unread"] = {"files": source.unread, "names": list(source.unread_names)}
    return shown


def _notes_json(status: Status) -> dict[str, Any]:
    activity, upkeep = status.activity, status.notes.upkeep if status.notes is not None else None
    per_day, days = status.disk_forecast
    return {
        "daemon": activity
        and {
            "pid": activity.pid,
            "doing": activity.doing,
            "since": _utc(activity.since),
            "next_cycle_at": _utc(activity.next_cycle_at),
        },
        "upkeep": upkeep
        and {
            "finished_at": _utc(upkeep.at),
            "pruned": upkeep.pruned,
            "pruned_bytes": upkeep.pruned_bytes,
            "checked": upkeep.checked,
            "checked_bytes": upkeep.checked_bytes,
        },
        "damage": [
            {"path": note.path, "damage": note.damage, "detail": note.detail, "found_at": _utc(note.found_at)}
            for note in status.damage
        ],
        "disk": status.disk
        and {
            "free_bytes": status.disk.free,
            "size_bytes": status.disk.free + status.disk.used,
            "growth_bytes_per_day": None if per_day is None else round(per_day),
            "days_until_full": None if days is None else round(days, 1),
        },
    }


def _utc(seconds: float | None) -> str | None:
    from mirror.sync.report import utc_text

    return None if seconds is None else utc_text(seconds)
