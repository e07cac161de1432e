"""The result of a cycle, in sentences, and the next steps. Pure: a report in, lines out.

Guarantees that every failure is named, that each kind of failure comes with advice, and that the
lines fit a screen however many failures there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mirror.cli.text import counted, safe, size
from mirror.cli.words.advisories import advisory_lines
from mirror.cli.words.missing import missing_lines
from mirror.core.words.advice import advice_for
from mirror.errors import MirrorError, Reason

if TYPE_CHECKING:
    from mirror.sync.report import IndexCounters, Report, Shown

_FAILURE_LINES = 10
_NAMED = 3
_NAMES_WIDTH = 300


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where the mirror is, for the commands that are proposed."""

    simple: str
    """The root page's directory."""
    store: str | None = None
    """The address of the object store that has the tree; None: it lies on the disk."""
    options: str
    """Options that other commands need for this mirror: empty, ``--root DIR`` or ``--config
    FILE``.
    """

    def command(self, name: str) -> str:
        """Return a command to type."""
        return f"`mirror {name}{' ' if self.options else ''}{self.options}`"


def describe_cycle(report: Report, place: Place) -> list[str]:
    """Return the result of a cycle: a line for each index, the failures by reason, the outcome and
    the next step.
    """
    lines = [_index_line(index, report.ended.get(index.name)) for index in report.indexes.values()]
    lines += [line for index in report.indexes.values() if (line := _state_line(index))]
    lines += _warning_lines(report)
    lines += _outcome_lines(report, place)
    return [safe(line) for line in lines]


def describe_warnings(report: Report, place: Place) -> list[str]:
    """Return the obstacles of a plan: failures, events, and the cause of an early end."""
    lines = [f"{name}: stopped: {error}" for name, error in report.ended.items()]
    lines += _warning_lines(report)
    if report.aborted is not None or report.interrupted:
        lines += _outcome_lines(report, place)
    return lines


def _index_line(index: IndexCounters, ended: MirrorError | None) -> str:
    parts = _changes(index)
    done = ", ".join(parts)
    if ended is not None:
        return f"{index.name}: {done + '; ' if done else ''}stopped: {ended}"
    failed = f"; {counted(index.files_failed, 'file')} failed" if index.files_failed else ""
    if index.waits:
        waits = (
            "waits, since the root of an earlier index was never read:"
            " no new project comes from it until then"
        )
        return f"{index.name}: {done + '; ' if done else ''}{waits}{failed}"
    nothing = (
        f"nothing new in {counted(index.projects_listed, 'project')}"
        if index.projects_listed
        else "not read"
    )
    return f"{index.name}: {done or nothing}{failed}"


def _changes(index: IndexCounters) -> list[str]:
    """Return the changes, one text for each kind."""
    parts = []
    if index.files_new:
        parts.append(f"{counted(index.files_new, 'new file')}")
    if index.files_replaced:
        parts.append(f"{index.files_replaced:,} replaced")
    if parts:
        parts[-1] += f" ({size(index.bytes_downloaded)} fetched)"
        if projects := index.projects_fetched or index.projects_changed:
            parts[-1] += f" in {counted(projects, 'project')}"
    elif index.projects_changed and not index.files_failed and not index.files_removed:
        parts.append(f"{counted(index.projects_changed, 'project')} changed without new files")
    if index.files_removed:
        parts.append(f"{index.files_removed:,} removed")
    if index.projects_removed:
        parts.append(f"{counted(index.projects_removed, 'project')} gone")
    return parts


def _state_line(index: IndexCounters) -> str:
    """Return the missing and the unusual files of the pages, in words; empty where there are
    none.
    """
    counts = (
        (index.files_skipped, "left out by the configuration"),
        (index.files_absent, "missing upstream, served until the next look confirms it"),
        (index.files_unhashed, "listed without a strong digest"),
    )
    parts = [f"{counted(count, 'file')} {words}" for count, words in counts if count]
    return f"{index.name}: {'; '.join(parts)}" if parts else ""


def _warning_lines(report: Report) -> list[str]:
    return [
        *_event_lines(report.events),
        *advisory_lines(report),
        *(f"Warning: {missing.detail}" for missing in report.unlisted),
        *missing_lines((*report.failures, *report.not_served)),
        *failure_lines(f for f in report.failures if not _has_own_line(f, report)),
    ]


def _stuck_worker(event: Mapping[str, str]) -> str:
    """Return a sentence about a worker process that did nothing any more."""
    files = f" (files: {event['files']})" if event["files"] else ""
    if event["outcome"] == "killed":
        return (
            f"worker process {event['pid']} was stuck and killed;"
            f" its work was done elsewhere{files}"
        )
    return (
        f"worker process {event['pid']} is stuck and can't be killed; its work was done"
        f" elsewhere{files}, and nothing touches the staging files that it may still write to:"
        " look at the disk or network share it waits for"
    )


def _empty_index(event: dict[str, str]) -> str:
    from mirror.sync.report import nothing_admitted, nothing_wanted  # 188 ms

    if event["event"] == "all-left-out":
        return nothing_admitted(event)
    return f"{event['index']}: {nothing_wanted(event['listed'])}"


def _event_lines(events: Iterable[dict[str, str]]) -> list[str]:
    """Return lines on the events that a person should know besides counters and failures.

    Many events of one kind are summed up.
    """
    lines = []
    for kind, group in groupby(sorted(events, key=lambda e: e["event"]), key=lambda e: e["event"]):
        known = list(group)
        for event in known[:_NAMED]:
            match kind:
                case "nothing-wanted" | "all-left-out":
                    lines.append(f"Warning: {_empty_index(event)}")
                case "all-pages-missing":
                    lines.append(
                        f"Warning: {event['index']}: every page answered that it is not there:"
                        " is the index's url right? devpi's ends in +simple/"
                    )
                case "owner-changed":
                    lines.append(
                        f"Warning: {event['project']} now comes from {event['to']} instead of"
                        f" {event['from']}: make sure that you expect that"
                    )
                case "page-origin-changed":
                    page = (
                        f"the page of {event['project']}" if "project" in event else "the root page"
                    )
                    lines.append(
                        f"Warning: {event['index']}: {page} now comes from {event['to']} instead of"
                        f" {event['from']}: make sure that you expect that"
                    )
                case "worker-stuck":
                    lines.append(f"Warning: {event['index']}: {_stuck_worker(event)}")
                case "failures-cut":
                    lines.append(
                        f"Warning: the report has {event['reported']} of {event['failures']}"
                        " failures; `mirror explain PROJECT` knows all of a project"
                    )
                case "names-unread":
                    lines.append(
                        f"Warning: {event['index']}: {unread_names(event['files'], event['names'])}"
                    )
                case "index-left":
                    lines.append(
                        f"Warning: index {event['index']} left the configuration; its"
                        f" {event['projects']} projects stay until a cycle with --allow-shrink"
                    )
                case _:
                    lines.append(
                        f"Note: {', '.join(f'{key}: {value}' for key, value in event.items())}"
                    )
        if len(known) > _NAMED:
            lines.append(f"Warning: {kind} for {len(known) - _NAMED:,} more")
    return lines


def unread_names(files: str, names: str) -> str:
    """Return the message about a flat page's files whose names hold no project."""
    first = names if len(names) <= _NAMES_WIDTH else f"{names[:_NAMES_WIDTH]}…"
    return f"left out, since no project can be read from the name ({files}): {first}"


def _has_own_line(failure: Shown, report: Report) -> bool:
    """Whether another line has the same sentence already."""
    if failure.reason in {Reason.NOT_OFFERED, Reason.NOT_SERVED}:
        return True
    return (failure.project is None and failure.index in report.ended) or failure in report.unlisted


def failure_lines(failures: Iterable[Shown]) -> list[str]:
    """Return a line for each reason: the number, the names, and the advice; withheld ones last."""
    order = [
        Reason.STORAGE,
        *(r for r in Reason if r not in {Reason.STORAGE, Reason.WITHHELD}),
        Reason.WITHHELD,
    ]
    by_reason: dict[Reason, list[Shown]] = {}
    for failure in failures:
        by_reason.setdefault(failure.reason, []).append(failure)
    lines = [_reason_line(reason, by_reason[reason]) for reason in order if reason in by_reason]
    if len(lines) > _FAILURE_LINES:
        lines[_FAILURE_LINES - 1 :] = [
            f"and {counted(len(lines) - _FAILURE_LINES + 1, 'more kind')} of failure"
        ]
    return lines


def _reason_line(reason: Reason, failures: Sequence[Shown]) -> str:
    if reason is Reason.SHRINK:
        return "Removals held back: " + "; ".join(f"{f.index}: {f.detail}" for f in failures)
    advice = advice_for(reason, is_index=all(f.project is None for f in failures))
    if reason is Reason.UNRESOLVED:  # of wants, not of an index
        details = "; ".join(f.detail for f in failures[:_NAMED])
        more = f"; and {len(failures) - _NAMED:,} more" if len(failures) > _NAMED else ""
        return f"{reason.value}: {details}{more}; {advice}"
    if len(failures) == 1:
        (failure,) = failures
        detail = failure.detail.removeprefix(f"{failure.filename}: ")
        return f"{reason.value}: {named(failure)}: {detail}; {advice}"
    names = ", ".join(named(f) for f in failures[:_NAMED])
    more = f" and {len(failures) - _NAMED:,} more" if len(failures) > _NAMED else ""
    return f"{reason.value} ({len(failures):,}): {names}{more}; {advice}"


def named(failure: Shown) -> str:
    """Return the name of a failure: index, project and file, as far as they are known."""
    return "/".join(part for part in (failure.index, failure.project, failure.filename) if part)


def _outcome_lines(report: Report, place: Place) -> list[str]:
    from mirror.sync.report import Outcome  # 186 ms

    if report.aborted is not None:
        return [
            f"Stopped: {report.aborted}",
            "What was finished is kept; run the same again once that is put right.",
        ]
    if report.interrupted:
        return ["Interrupted. What was finished is kept; the next run goes on from there."]
    match report.outcome:
        case Outcome.ABORTED:
            return [_nothing_read(report)]
        case Outcome.PARTIAL:
            return [
                (
                    "Mirror partial: what is named above is tried again in the next cycle."
                    f" {place.command('status')} shows it."
                )
            ]
        case Outcome.COMPLETE:
            return [_complete(report, place)]


def _nothing_read(report: Report) -> str:
    if report.total("files_new") or report.total("files_replaced"):
        return "No index could be read to its end; what came before that is kept and published."
    return "Nothing could be mirrored; what is held already stays as it is."


def _complete(report: Report, place: Place) -> str:
    if any(event["event"] in {"nothing-wanted", "all-left-out"} for event in report.events):
        return "Mirror complete for what is wanted, which is less than it seems: see the warning."
    if report.cycle == 1 and report.total("files_new"):
        if place.store is not None:
            return f"Mirror complete. Serve it: mirror serve --tree {place.store}"
        url = f"{Path(place.simple).absolute().as_uri()}/"
        return f"Mirror complete. Try it: pip install --index-url {url} PROJECT"
    return "Mirror complete: everything wanted and offered is held."
