"""The report's part about advisories: vulnerable files, local builds, and withdrawn files."""

from __future__ import annotations

import anyio.to_thread

from mirror.core.times import utc_text
from mirror.holdings.holdings import Holdings
from mirror.state import objects
from mirror.state.advisories.advised import (
    AdvisedKind,
    ReportedFile,
    load_needed_unpublished,
    load_published_advised,
)
from mirror.state.advisories.records import load_advisory_note, read_advisories
from mirror.state.advisories.vulnerable import VulnerableFile, with_fixed_held
from mirror.state.advisories.withdrawn import load_withdrawn
from mirror.state.store import Store
from mirror.sync.advisories.settings import AdvisorySettings, Judges
from mirror.sync.report import AdvisoryReport, Report, WithdrawnShown
from mirror.tree.snapshots import load_channels

_MAX_REPORTED = 100_000


async def report_advisories(
    holdings: Holdings, settings: AdvisorySettings, judges: Judges, report: Report
) -> None:
    """Complete the report by what advisories say of the files that are held or needed."""
    store = holdings.store
    withdrawn = await load_withdrawn(store, settings.sites)
    channels = await _load_channels(holdings)
    report.withdrawn = [
        WithdrawnShown(
            project=one.project,
            filename=one.filename,
            snapshots=one.snapshots,
            channels=tuple(sorted(c for c, shown in channels.items() if shown in one.snapshots)),
            sites=one.sites,
        )
        for one in withdrawn
    ]
    if settings.path is None:
        return
    note = await load_advisory_note(store)
    report.advisories = AdvisoryReport(
        taken=report.advisory_problem is None, date=None if note is None else utc_text(note.date)
    )
    unjudged = await load_published_advised(store, AdvisedKind.UNJUDGED, limit=_MAX_REPORTED)
    report.not_judged = sorted({one.filename for one in unjudged})
    report.vulnerable = await _vulnerable(store, judges)


async def _load_channels(holdings: Holdings) -> dict[str, str]:
    if holdings.client is not None:
        return await objects.load_channels(holdings.store)
    return await anyio.to_thread.run_sync(load_channels, holdings.layout)


async def _vulnerable(store: Store, judges: Judges) -> list[VulnerableFile]:
    """Return the files that are held, or needed by a want, and that an advisory names."""
    found = await load_published_advised(store, AdvisedKind.VULNERABLE, limit=_MAX_REPORTED)
    unpublished = await load_needed_unpublished(store)
    await read_advisories(store, judges.others.book, {one.project for one in unpublished})
    for needed in unpublished:
        advice = judges.of(needed.index_name).find(needed.project, needed.filename)
        if advice is not None:
            found.append(
                ReportedFile(
                    project=needed.project,
                    filename=needed.filename,
                    ids=advice.ids,
                    level=advice.level,
                    fixed=advice.fixed,
                )
            )
    return await with_fixed_held(store, found)
