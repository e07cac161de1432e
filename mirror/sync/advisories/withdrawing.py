"""Compares files with the advisories: malware leaves the pages, other held files are reported.

No page is asked for. A withdrawal counts for the removal brake, which never holds it back. Order:
the listing is kept → the rows close, the pages are marked → the judgement is recorded, last: a
cycle that was killed in between judges the same files again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from mirror.core.advisories.judging import Advice, AdvisoryRule
from mirror.core.advisories.severity import Severity
from mirror.core.names import ProjectName
from mirror.holdings.holdings import Holdings
from mirror.logs import get_logger
from mirror.publishing.publisher import Publisher
from mirror.state.advisories.advised import (
    AdvisedFile,
    AdvisedKind,
    PublishedName,
    load_projects_changed_since,
    load_published_names,
    load_unjudged_projects,
    record_advised,
    record_listings,
)
from mirror.state.advisories.records import (
    NO_RULES_TEXT,
    AdvisoryNote,
    load_advisory_note,
    mark_all_unjudged,
    read_advisories,
    record_advisory_note,
)
from mirror.state.entries.held import load_held
from mirror.state.entries.pages import load_last_revision
from mirror.state.entries.removals import RemovalRecord, record_removals
from mirror.state.listing.sources import load_sources
from mirror.sync.advisories.settings import AdvisorySettings, Judges
from mirror.sync.cycle_parts import Cycle, Options
from mirror.sync.plan import plan_of_cycle
from mirror.sync.report import PlanItem, Report
from mirror.sync.work import IndexRun

_log = get_logger(__name__)

_AT_ONCE = 200


class JudgedFiles(msgspec.Struct, frozen=True, kw_only=True):
    """The held files, with the judgement by advisories and all that it changes."""

    holdings: Holdings
    settings: AdvisorySettings
    judges: Judges
    options: Options
    report: Report
    runs: Sequence[IndexRun]

    @classmethod
    def of(cls, cycle: Cycle) -> JudgedFiles:
        """Return those of a cycle that took its advisories."""
        return cls(
            holdings=cycle.holdings,
            settings=cycle.terms.advisories,
            judges=cycle.course.judges,
            options=cycle.options,
            report=cycle.report,
            runs=cycle.runs,
        )


async def judge_by_advisories(held: JudgedFiles, publisher: Publisher, note: AdvisoryNote) -> None:
    """Judge the files of projects whose advisories changed, or of all after a change of the
    rules.
    """
    text = held.judges.text if held.settings.path is not None else NO_RULES_TEXT
    if note.judged != text:
        await mark_all_unjudged(held.holdings.store)
        note = msgspec.structs.replace(note, judged=text)
        await record_advisory_note(held.holdings.store, note)
    left: set[ProjectName] = set()
    while names := await load_unjudged_projects(held.holdings.store):
        left.update(await _judge(held, names, has_news=True))
    if left and not held.options.dry_run:
        names = sorted(left)
        for start in range(0, len(names), 500):
            await publisher.publish(names[start : start + 500], ())
        await publisher.flush()


async def judge_new_files(held: JudgedFiles) -> None:
    """Judge the files that came in since the last time: a local build may need a person's look."""
    note = await load_advisory_note(held.holdings.store)
    if note is None or held.settings.path is None or not held.judges.is_ready:
        return
    revision = await load_last_revision(held.holdings.store)
    if revision == note.judged_revision:
        return
    names = await load_projects_changed_since(held.holdings.store, note.judged_revision)
    for start in range(0, len(names), _AT_ONCE):
        await _judge(held, names[start : start + _AT_ONCE], has_news=False)
    done = msgspec.structs.replace(note, judged_revision=revision)
    await record_advisory_note(held.holdings.store, done)


async def _judge(
    held: JudgedFiles, names: Sequence[ProjectName], *, has_news: bool
) -> set[ProjectName]:
    """Judge all files of some projects; return the projects whose pages lose files."""
    index_of = {source.id: source.name for source in await load_sources(held.holdings.store)}
    files = await load_published_names(held.holdings.store, names)
    await read_advisories(held.holdings.store, held.judges.others.book, names)
    advised: list[AdvisedFile] = []
    leaving: list[PublishedName] = []
    for file in files:
        found = _judge_file(held.judges.of(index_of[file.source]), file)
        if found is not None:
            advised.append(found)
            if found.kind is AdvisedKind.WITHDRAWN and file.is_open:
                leaving.append(file)
    if leaving:
        await _withdraw(held, leaving, index_of)
    await record_advised(held.holdings.store, names, advised, has_news=has_news)
    return {file.name for file in leaving}


def _judge_file(rule: AdvisoryRule, file: PublishedName) -> AdvisedFile | None:
    found = rule.find(file.name, file.filename)
    if found is not None and rule.withdraws(file.name, file.filename):
        kind = AdvisedKind.WITHDRAWN
    elif not file.is_open:
        return None
    elif found is not None:
        kind = AdvisedKind.VULNERABLE
    elif rule.is_unjudged(file.name, file.filename):
        kind, found = AdvisedKind.UNJUDGED, Advice(ids=(), level=Severity.UNKNOWN)
    else:
        return None
    return AdvisedFile(
        project=file.project,
        name=file.name,
        filename=file.filename,
        kind=kind,
        ids=found.ids,
        level=found.level,
        fixed=found.fixed,
    )


async def _withdraw(
    held: JudgedFiles, files: Sequence[PublishedName], index_of: dict[int, str]
) -> None:
    """Close the rows of published malware."""
    holdings = held.holdings
    by_project: dict[int, list[PublishedName]] = {}
    for file in files:
        by_project.setdefault(file.project, []).append(file)
    if held.options.dry_run:
        await _plan(held, by_project, index_of)
    await record_listings(holdings.store, files)
    records = [
        RemovalRecord(
            project=project,
            source=of[0].source,
            name=of[0].name,
            filenames=tuple(file.filename for file in of),
        )
        for project, of in by_project.items()
    ]
    await record_removals(holdings.store, records, cycle=holdings.cycle, now=holdings.clock())
    counts = Counter(index_of[file.source] for file in files)
    for run in held.runs:
        run.counters.files_removed += counts[run.name]
    for file in files:
        _log.warning(
            "file.withdrawn",
            index=index_of[file.source],
            project=file.name,
            filename=file.filename,
            advisories=held.judges.of(index_of[file.source]).advised(file.name, [file.filename]),
        )


async def _plan(
    held: JudgedFiles, by_project: dict[int, list[PublishedName]], index_of: dict[int, str]
) -> None:
    files_of = await load_held(held.holdings.store, list(by_project))
    plan_of_cycle(held.report).extend(
        PlanItem(
            index=index_of[file.source],
            project=file.name,
            filename=file.filename,
            action="remove",
            size=files_of[project][file.filename].size,
            sha256=files_of[project][file.filename].sha256,
        )
        for project, files in by_project.items()
        for file in files
    )
