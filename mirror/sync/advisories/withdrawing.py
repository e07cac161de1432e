"""Compares files with the advisories: malware leaves the pages, other held files are reported.

No page is asked for. A withdrawal counts for the removal brake, which never holds it back. Order:
the listing is kept → the rows close, the pages are marked → the judgement is recorded, last: a
cycle that was killed in between judges the same files again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from mirror.core.advisories.judging import Advice
from mirror.core.advisories.severity import Severity
from mirror.core.names import ProjectName
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
    record_advisory_note,
)
from mirror.state.entries.held import load_held
from mirror.state.entries.pages import load_last_revision
from mirror.state.entries.removals import RemovalRecord, record_removals
from mirror.state.listing.sources import load_sources
from mirror.sync.plan import plan_of_cycle
from mirror.sync.report import PlanItem
from mirror.sync.work import Cycle

_log = get_logger(__name__)

_AT_ONCE = 200


async def judge_by_advisories(cycle: Cycle, publisher: Publisher, note: AdvisoryNote) -> None:
    """Judge the files of projects whose advisories changed, or of all after a change of the
    rules.
    """
    text = cycle.judges.text if cycle.advisories.path is not None else NO_RULES_TEXT
    if note.judged != text:
        await mark_all_unjudged(cycle.store)
        note = msgspec.structs.replace(note, judged=text)
        await record_advisory_note(cycle.store, note)
    left: set[ProjectName] = set()
    while names := await load_unjudged_projects(cycle.store):
        left.update(await _judge(cycle, names, has_news=True))
    if left and not cycle.options.dry_run:
        names = sorted(left)
        for start in range(0, len(names), 500):
            await publisher.publish(names[start : start + 500], ())
        await publisher.flush()


async def judge_new_files(cycle: Cycle) -> None:
    """Judge the files that came in since the last time: a local build may need a person's look."""
    note = await load_advisory_note(cycle.store)
    if note is None or cycle.advisories.path is None or not cycle.judges.is_ready:
        return
    revision = await load_last_revision(cycle.store)
    if revision == note.judged_revision:
        return
    names = await load_projects_changed_since(cycle.store, note.judged_revision)
    for start in range(0, len(names), _AT_ONCE):
        await _judge(cycle, names[start : start + _AT_ONCE], has_news=False)
    done = msgspec.structs.replace(note, judged_revision=revision)
    await record_advisory_note(cycle.store, done)


async def _judge(cycle: Cycle, names: Sequence[ProjectName], *, has_news: bool) -> set[ProjectName]:
    """Judge all files of some projects; return the projects whose pages lose files."""
    index_of = {source.id: source.name for source in await load_sources(cycle.store)}
    files = await load_published_names(cycle.store, names)
    advised: list[AdvisedFile] = []
    leaving: list[PublishedName] = []
    for file in files:
        found = _judge_file(cycle, index_of[file.source], file)
        if found is not None:
            advised.append(found)
            if found.kind is AdvisedKind.WITHDRAWN and file.is_open:
                leaving.append(file)
    if leaving:
        await _withdraw(cycle, leaving, index_of)
    await record_advised(cycle.store, names, advised, has_news=has_news)
    return {file.name for file in leaving}


def _judge_file(cycle: Cycle, index: str, file: PublishedName) -> AdvisedFile | None:
    rule = cycle.judges.of(index)
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


async def _withdraw(cycle: Cycle, files: Sequence[PublishedName], index_of: dict[int, str]) -> None:
    """Close the rows of published malware."""
    by_project: dict[int, list[PublishedName]] = {}
    for file in files:
        by_project.setdefault(file.project, []).append(file)
    if cycle.options.dry_run:
        await _plan(cycle, by_project, index_of)
    await record_listings(cycle.store, files)
    records = [
        RemovalRecord(
            project=project,
            source=of[0].source,
            name=of[0].name,
            filenames=tuple(file.filename for file in of),
        )
        for project, of in by_project.items()
    ]
    await record_removals(cycle.store, records, cycle=cycle.id, now=cycle.clock())
    counts = Counter(index_of[file.source] for file in files)
    for run in cycle.runs:
        run.counters.files_removed += counts[run.name]
    for file in files:
        _log.warning(
            "file.withdrawn",
            index=index_of[file.source],
            project=file.name,
            filename=file.filename,
            advisories=cycle.judges.of(index_of[file.source]).advised(file.name, [file.filename]),
        )


async def _plan(
    cycle: Cycle, by_project: dict[int, list[PublishedName]], index_of: dict[int, str]
) -> None:
    held = await load_held(cycle.store, list(by_project))
    plan_of_cycle(cycle).extend(
        PlanItem(
            index=index_of[file.source],
            project=file.name,
            filename=file.filename,
            action="remove",
            size=held[project][file.filename].size,
            sha256=held[project][file.filename].sha256,
        )
        for project, files in by_project.items()
        for file in files
    )
