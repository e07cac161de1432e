"""The state of the mirror in words and a table of at most 80 columns.

Pure: a ``Status`` in, lines out.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mirror.cli.text import ago, counted, duration, safe, size, table
from mirror.cli.words.cycle import unread_names
from mirror.cli.words.missing import missing_lines
from mirror.cli.words.sizes import size_tables
from mirror.core.times import utc_text
from mirror.core.words.advice import advice_for
from mirror.errors import Reason
from mirror.exit_codes import SIGNALS
from mirror.state.listing.sources import UNCLAIMED

if TYPE_CHECKING:
    from mirror.state.cycles import CycleRow
    from mirror.state.missing.ledger import FailureRow
    from mirror.state.readers.overview import IndexOverview
    from mirror.status.value import CredentialState, Status

_DAY_S = 86_400.0
_EXPIRES_SOON_S = 14 * _DAY_S
_HEAD = ("INDEX", "PROJECTS", "FILES", "SIZE", "WITHHELD", "FAILED", "LAST SUCCESS")
_SHOWN_DAMAGE = 5
_SHOWN_GAPS = 3
_NUMBERS = frozenset({1, 2, 3, 4, 5})

OUTCOMES = {
    "complete": "complete: everything wanted and offered is held",
    "partial": "partial: some things could not be had",
    "aborted": "stopped before its end",
}


def describe_status(status: Status) -> list[str]:
    """Return all lines of ``mirror status``."""
    lines = [*_head(status), "", *_index_table(status), *size_tables(status.sizes)]
    for part in (_notes(status), _credentials(status), _failures(status)):
        found = list(part)
        if found:
            lines += ["", *found]
    return [safe(line) for line in lines]


def _head(status: Status) -> Iterator[str]:
    last, finished = status.overview.last_cycle, status.overview.last_finished
    yield f"Mirror:     {status.root}"
    if status.tree is not None:
        yield f"Tree:       {status.tree}"
    yield f"State:      {'; '.join(_state(status)) or _well(status)}"
    if finished is None:
        yield "Last cycle: none has come to its end yet"
    else:
        yield f"Last cycle: {_cycle(finished, status.now)}"
    if status.is_running and last is not None:
        yield (
            f"Now:        cycle {last.id} is running for {duration(status.now - last.started_at)}"
            f" (process {status.pid})"
        )
    elif status.pid is not None:
        yield f"Now:        process {status.pid} is working on it"
    elif status.interrupted is not None:
        yield (
            f"Now:        cycle {status.interrupted} was interrupted;"
            " the next one goes on from there"
        )
    yield from _wants(status)
    yield from _advisories(status)
    yield from _daemon(status)
    yield from _disk(status)


def _state(status: Status) -> Iterator[str]:
    """Yield, in a few words each, the reasons why the mirror is not fresh and whole."""
    overview = status.overview
    unread = sorted({row.index for row in overview.ended if row.index in status.configured_names})
    stale = [index.source.name for index in overview.indexes if status.stale(index)]
    missing = [
        one for one in overview.unserved if one.is_literal and one.reason is not Reason.STORAGE
    ]
    failed = overview.failed - sum(index.withheld for index in overview.indexes)
    failed -= len(overview.ended) + len(overview.brakes) + len(missing)
    if status.damage:
        yield f"{counted(len(status.damage), 'file')} DAMAGED"
    wants = status.notes.wants if status.notes is not None else ()
    names = {(note.want, note.file) for note in wants}
    gaps = len({(note.want, note.file) for note in wants if not note.installable})
    if gaps:
        verb = "DOES" if gaps == 1 else "DO"
        whole = counted(len(names), "want")
        yield f"{gaps:,} of {whole} {verb} NOT INSTALL: see `mirror check`"
    if overview.advisories is not None and overview.advisories.problem is not None:
        yield "the database of advisories could NOT BE TAKEN"
    if stale:
        yield f"STALE: {', '.join(stale)}"
    if unread:
        yield f"can't be read: {', '.join(unread)}"
    if failed > 0:
        yield f"{counted(failed, 'thing')} could not be had"
    for reason, words in ((Reason.NOT_OFFERED, "not offered"), (Reason.NOT_SERVED, "not served")):
        if count := sum(one.reason is reason for one in missing):
            yield f"{counted(count, 'name')} {words}"
    if overview.brakes:
        yield f"removals are held back: {', '.join(row.index for row in overview.brakes)}"
    if overview.last_finished is None:
        yield "no cycle has come to its end yet"
    elif status.interrupted is not None or overview.last_finished.exit_code in SIGNALS:
        yield "the last cycle was interrupted"
    elif overview.last_finished.problem:
        yield f"the last cycle was stopped: {overview.last_finished.problem}"


def _well(status: Status) -> str:
    if status.exit_code:
        return f"the last cycle ended with exit code {int(status.exit_code)}"
    return "whole" if status.is_stale is None else "fresh and whole"


def _wants(status: Status) -> Iterator[str]:
    """Yield one line where each want was proved to install, else one with the wants that do not."""
    notes = status.notes.wants if status.notes is not None else ()
    gaps: dict[str, list[str]] = {}
    for note in notes:
        if not note.installable:
            gaps.setdefault(note.want or note.file or "", []).append(note.target)
    if gaps:
        shown = [f"{safe(name)} ({_targets(gaps[name])})" for name in sorted(gaps)[:_SHOWN_GAPS]]
        more = f" and {len(gaps) - _SHOWN_GAPS:,} more" if len(gaps) > _SHOWN_GAPS else ""
        yield f"Gaps:       {', '.join(shown)}{more}"
    elif notes:
        names = len({note.want for note in notes})
        environments = counted(len({note.target for note in notes}), "environment")
        yield f"Wants:      {counted(names, 'want')} proved to install in {environments}"


def _targets(names: list[str]) -> str:
    return safe(names[0]) if len(names) == 1 else counted(len(names), "environment")


def _advisories(status: Status) -> Iterator[str]:
    """Yield one line on the advisories in force, and on the files that they name."""
    found = status.overview.advisories
    if found is None:
        return
    parts = ["none was ever read" if found.date is None else f"of {_when(found.date)}"]
    counts = (
        (found.vulnerable, "vulnerable"),
        (found.not_judged, "not judged"),
        (found.withdrawn, "withdrawn"),
        (found.withdrawn_somewhere, "withdrawn and still in a snapshot or site"),
    )
    parts += [f"{counted(count, 'file')} {words}" for count, words in counts if count]
    yield f"Advisories: {'; '.join(parts)}"
    if found.problem is not None:
        yield f"            {found.problem}"


def _daemon(status: Status) -> Iterator[str]:
    activity, upkeep = status.activity, status.notes.upkeep if status.notes is not None else None
    if activity is not None:
        yield f"Daemon:     process {activity.pid}, {activity.doing}"
    if upkeep is not None:
        yield (
            f"Upkeep:     {ago(upkeep.at, status.now)}, deleted {counted(upkeep.pruned, 'file')},"
            f" hashed {counted(upkeep.checked, 'file')} again ({size(upkeep.checked_bytes)})"
        )


def _disk(status: Status) -> Iterator[str]:
    disk = status.disk
    if disk is None:
        return
    per_day, days = status.disk_forecast
    if per_day is None:
        growth = ""
    elif days is None:
        growth = "; not growing"
    else:
        lasts = "full"
        if days >= 1:
            lasts = f"full in about {counted(round(days), 'day')}"
        elif days:
            lasts = "full in less than a day"
        growth = f"; grows {size(round(per_day))} a day: {lasts}"
    yield f"Disk:       {size(disk.free)} of {size(disk.free + disk.used)} free{growth}"


def _cycle(cycle: CycleRow, now: float) -> str:
    ended = cycle.finished_at or cycle.started_at
    took = duration(ended - cycle.started_at)
    outcome = OUTCOMES.get(cycle.outcome or "", cycle.outcome or "unknown")
    if cycle.problem:
        outcome = f"{outcome}: {cycle.problem}"
    if cycle.exit_code in SIGNALS:
        outcome = "interrupted; the next one goes on from there"
    return f"{cycle.id}, {ago(ended, now)} ({_when(ended)}), took {took}; {outcome}"


def _index_table(status: Status) -> list[str]:
    rows = [_index_row(status, index) for index in status.overview.indexes]
    return table([_HEAD, *rows], right=_NUMBERS) if rows else ["No index was read yet."]


def _index_row(status: Status, index: IndexOverview) -> tuple[str, ...]:
    source, held = index.source, index.held
    succeeded = ago(source.succeeded_at, status.now) if source.succeeded_at is not None else "never"
    return (
        source.name,
        f"{held.projects:,} of {source.listed:,}",
        f"{held.files:,}",
        size(held.size),
        f"{index.withheld:,}" if index.withheld else "-",
        f"{index.failed:,}" if index.failed else "-",
        f"{succeeded}{' (stale)' if status.stale(index) else ''}",
    )


def _notes(status: Status) -> Iterator[str]:
    """Yield the facts for which the table has no column."""
    for index in status.overview.indexes:
        yield from _notes_on(status, index)
    yield from missing_lines(status.overview.unserved)
    known = {index.source.name for index in status.overview.indexes}
    for configured in status.config.indexes if status.config else ():
        if configured.name not in known:
            yield f"{configured.name}: new in the configuration, not read yet"
    for note in status.damage[:_SHOWN_DAMAGE]:
        yield f"DAMAGED: {note.path}: {note.detail}"
    if status.damage:
        yield f"{counted(len(status.damage), 'file')} found damaged: run `mirror verify --repair`"
    for row in status.overview.brakes:
        yield f"{row.index}: removals are held back: {row.detail}"


def _notes_on(status: Status, index: IndexOverview) -> Iterator[str]:
    counts, name = index.counts, index.source.name
    if counts.absent:
        yield (
            f"{name}: {counted(counts.absent, 'file')} missing upstream,"
            " served until the next look confirms it"
        )
    if counts.unhashed:
        yield f"{name}: {counted(counts.unhashed, 'file')} listed without a strong digest"
    if counts.skipped:
        yield (
            f"{name}: {counted(counts.skipped, 'file')} left out by the"
            f" configuration{_rules(index)}"
        )
    if index.cooldown_until is not None:
        yield f"{name}: the next cooldown of a file ends {utc_text(index.cooldown_until)}"
    if index.source.unread:
        names = ", ".join(index.source.unread_names)
        yield f"{name}: {unread_names(str(index.source.unread), names)}"
    if name == UNCLAIMED and index.held.files:
        yield (
            f"{counted(index.held.files, 'file')} rebuilt from the tree,"
            " which no index has claimed yet: `mirror sync --once` asks all of them"
        )
    elif not status.is_configured(index.source) and index.held.files:
        yield (
            f"{name}: left the configuration; what it holds ({counted(index.held.files, 'file')})"
            " stays until `mirror sync --once --allow-shrink`"
        )
    if status.stale(index):
        yield f"{name}: stale, no successful cycle for too long: {_stale_advice(status)}"
    if waits_for := _waits_for(status, index):
        yield (
            f"{name}: waits, no new project comes from it until the root of"
            f" {waits_for} was read once"
        )


def _stale_advice(status: Status) -> str:
    """Return the place to check; no index is at fault where the disk or the state stopped the last
    cycle.
    """
    finished = status.overview.last_finished
    if finished is not None and finished.problem:
        return "the last cycle was stopped, see above"
    return "is the daemon running, and the index reachable?"


def _waits_for(status: Status, index: IndexOverview) -> str:
    """Return the earlier index whose root was never read; empty where there is none."""
    if not status.is_configured(index.source):
        return ""
    earlier = (
        other.source
        for other in status.overview.indexes
        if other.source.position < index.source.position
    )
    return next((s.name for s in earlier if s.root_read is None and status.is_configured(s)), "")


def _rules(index: IndexOverview) -> str:
    """Name the rules that leave files out; not where an older version left out files without naming
    them.
    """
    if sum(index.left_out.values()) != index.counts.skipped:
        return ""
    return f" ({', '.join(f'{rule} {count:,}' for rule, count in index.left_out.items())})"


def _credentials(status: Status) -> Iterator[str]:
    for name, credential in status.credentials.items():
        said = _credential(credential, status.now)
        if said:
            yield f"{name}: credential from {credential.source} {said}"


def _credential(credential: CredentialState, now: float) -> str:
    if credential.problem is not None:
        return f"can't be used: {credential.problem}"
    if credential.expires_at is None:
        return ""
    left_s = credential.expires_at - now
    if left_s <= 0:
        return f"EXPIRED {ago(credential.expires_at, now)}: renew it"
    soon = ": renew it soon" if left_s < _EXPIRES_SOON_S else ""
    return f"expires in {duration(left_s)} ({_when(credential.expires_at)}){soon}"


def _failures(status: Status) -> Iterator[str]:
    overview = status.overview
    missing = [
        one for one in overview.unserved if one.is_literal and one.reason is not Reason.STORAGE
    ]
    elsewhere = {Reason.SHRINK, Reason.NOT_OFFERED, Reason.NOT_SERVED}
    shown = [row for row in overview.failures if row.reason not in elsewhere]
    if not shown:
        return
    total = overview.failed - len(overview.brakes) - len(missing)
    more = f", the first {len(shown)}; all: --json" if total > len(shown) else ""
    yield f"Not held ({total:,}{more}):"
    for row in shown:
        yield from _failure(row, status.now)
    yield "What to do (`mirror sync --once` tries all of it again at once):"
    advised = [
        f"  {row.reason.value}: {advice_for(row.reason, is_index=not row.project)}" for row in shown
    ]
    yield from dict.fromkeys(advised)


def _failure(row: FailureRow, now: float) -> Iterator[str]:
    name = "/".join(part for part in (row.index, row.project, row.filename) if part)
    wait_s = row.next_at - now
    again = "due now" if row.is_due(now) else f"due again in {duration(wait_s)}"
    yield f"  {name}"
    yield (
        f"    {row.reason.value}: first {ago(row.first_at, now)},"
        f" tried {counted(row.attempts, 'time')}, {again}"
    )
    yield f"    {row.detail.removeprefix(f'{row.filename}: ')}"


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
