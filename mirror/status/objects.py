"""The object of ``mirror status --json`` and of the address ``/-/api/v1/status``. Pure.

Times are ISO 8601 in UTC, sizes bytes, unknown or unjudged values null. The columns on the right
are notes, no part of it::

    {"format": 1, "root": "/srv/mirror", "configuration": "/etc/mirror/mirror.toml",
     "exit_code": 5, "stale": false,
     "cycle": {"number": 7, "started_at": "…Z", "finished_at": "…Z", "outcome": "partial",
       "exit_code": 5},
     "working": {"pid": 123, "cycle": 8,        a process that works on it; cycle null for
       "started_at": "…Z"},                     other commands
     "interrupted": null,                       the number of a last cycle that was killed
     "indexes": [{"name": "default", "url": "https://…/", "configured": true,
       "projects_listed": 1, "projects_held": 1, "files": 1, "bytes": 1, "files_absent": 0,
       "files_unhashed": 0, "files_skipped": 0, "files_unwanted": 0, "unwanted_bytes": 0,
       "unwanted_since": null, "withheld": 0, "failed": 0, "last_success": "…Z", "stale": false,
       "credential": {"source": "$A", "expires_at": "…Z", "problem": null},
       "names_unread":                          only where a flat page has such files
         {"files": 1, "names": ["odd.zip"]}}],
     "daemon": {"pid": 123,                     null while none runs
       "doing": "waiting; …", "since": "…Z", "next_cycle_at": "…Z"},
     "upkeep": {"finished_at": "…Z", "pruned": 1, "pruned_bytes": 1, "checked": 1,
       "checked_bytes": 1},
     "damage": [{"path": "files/…", "damage": "bytes", "detail": "…", "found_at": "…Z"}],
     "disk": {"free_bytes": 1, "size_bytes": 1, "growth_bytes_per_day": 1,
       "days_until_full": 1.0},
     "want_bytes": [{"want": "apps", "files": 1,
       "bytes": 1, "own_bytes": 1}],            own: of files that no other want needs
     "largest_projects": [{"index": "default",  the ten largest
       "project": "p", "files": 1, "bytes": 1}],
     "wants": [{"want": "apps", "file": null,   as check --json
       "target": "linux/3.12/linux-x86_64", "installable": true, …}],
     "advisories": {"date": "…Z",               only where there are any
       "taken": true, "problem": null, "taken_at": "…Z", "records": 1, "vulnerable": 1,
       "not_judged": 0, "withdrawn": 0, "withdrawn_somewhere": 0},
     "not_served": [{"index": "default", "project": "p", "detail": "…"}],
     "failures_total": 1,
     "failures": [{"index": "default", "project": "p", "filename": "p-1.tar.gz",
       "reason": "not-found", "detail": "…",
       "url": "https://…", "hashes": {"sha256": "…"}, "size": 1,    null for pages; no query
       "first_at": "…Z", "last_at": "…Z", "attempts": 1, "next_at": "…Z"}]}
"""

from __future__ import annotations

from typing import Any

import msgspec

from mirror.core.times import utc_text
from mirror.errors import Reason, shown_url
from mirror.state.advisories.summary import AdvisorySummary
from mirror.state.missing.ledger import FailureRow
from mirror.state.readers.overview import IndexOverview
from mirror.state.readers.sizes import Sizes
from mirror.status.value import Status


def status_object(status: Status) -> dict[str, Any]:
    """Return the object of ``--json`` (the module's docstring shows it)."""
    overview, finished, last = (
        status.overview,
        status.overview.last_finished,
        status.overview.last_cycle,
    )
    working = None
    if status.pid is not None:
        cycle = last if status.is_running else None
        started_at = cycle.started_at if cycle else None
        working = {
            "pid": status.pid,
            "cycle": cycle.id if cycle else None,
            "started_at": _utc(started_at),
        }
    return {
        "format": 1,
        "root": str(status.root),
        **({} if status.tree is None else {"tree": status.tree}),
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
        **_sizes_json(status.sizes),
        "wants": [msgspec.to_builtins(note) for note in status.notes.wants] if status.notes else [],
        **_advisories_json(overview.advisories),
        "not_served": [
            {"index": one.index, "project": one.project, "detail": one.detail}
            for one in overview.unserved
            if one.reason is Reason.NOT_SERVED and not one.filename
        ],
        "failures_total": overview.failed,
        "failures": [_failure_json(row) for row in overview.failures],
    }


def _failure_json(row: FailureRow) -> dict[str, Any]:
    file = row.file
    return {
        "index": row.index,
        "project": row.project or None,
        "filename": row.filename or None,
        "reason": row.reason.value,
        "detail": row.detail,
        "url": shown_url(file.url) if file else None,
        "hashes": dict(file.digests) if file else None,
        "size": file.size if file else None,
        "first_at": _utc(row.first_at),
        "last_at": _utc(row.last_at),
        "attempts": row.attempts,
        "next_at": _utc(row.next_at),
    }


def _sizes_json(sizes: Sizes) -> dict[str, Any]:
    return {
        "want_bytes": [
            {"want": one.want, "files": one.files, "bytes": one.size, "own_bytes": one.own_size}
            for one in sizes.wants
        ],
        "largest_projects": [
            {"index": one.index, "project": one.project, "files": one.files, "bytes": one.size}
            for one in sizes.projects
        ],
    }


def _index_json(status: Status, index: IndexOverview) -> dict[str, Any]:
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
        "files_unwanted": index.unwanted.files,
        "unwanted_bytes": index.unwanted.size,
        "unwanted_since": _utc(index.unwanted.since),
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


def _advisories_json(found: AdvisorySummary | None) -> dict[str, Any]:
    if found is None:
        return {}
    shown = {
        "date": _utc(found.date),
        "taken": found.problem is None,
        "problem": found.problem,
        "taken_at": _utc(found.taken_at),
        "records": found.records,
        "vulnerable": found.vulnerable,
        "not_judged": found.not_judged,
        "withdrawn": found.withdrawn,
        "withdrawn_somewhere": found.withdrawn_somewhere,
    }
    return {"advisories": shown}


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
            {
                "path": note.path,
                "damage": note.damage,
                "detail": note.detail,
                "found_at": _utc(note.found_at),
            }
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
    return None if seconds is None else utc_text(seconds)
