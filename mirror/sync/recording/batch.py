"""Enter one batch of events: first the bytes, durably, then the rows."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mirror.core.names import ProjectName
from mirror.holdings.holdings import Holdings
from mirror.logs import EventLogger, gathered_lines
from mirror.state.entries.changes import record_changes, record_missing, record_offered
from mirror.state.entries.offered import Offered
from mirror.state.missing.ledger import record_failures
from mirror.state.missing.sights import record_sights
from mirror.sync.recording.drafts import ProjectDraft
from mirror.sync.recording.events import (
    BlobPlaced,
    Event,
    Failed,
    FileStaged,
    MetadataFetched,
    put_aside,
)
from mirror.sync.recording.metadata import OfferedMetadata, metadata_problem, place_metadata
from mirror.sync.recording.placing import PlacedFiles, UnplacedFiles, place_files
from mirror.sync.work import ProjectWork


class PlacedBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch whose bytes are in their places and durable; its rows are not entered yet."""

    events: Sequence[Event]
    placed: PlacedFiles
    unplaced: UnplacedFiles
    """Files whose own directory can't take them."""
    offered: OfferedMetadata


async def place_batch(holdings: Holdings, events: Sequence[Event]) -> PlacedBatch:
    """Put the files and the metadata of a batch into their places, and make them durable."""
    staged = [event for event in events if isinstance(event, FileStaged)]
    delivered = [event for event in events if isinstance(event, BlobPlaced)]
    try:
        placed, unplaced = await place_files(holdings, staged, delivered)
    except BaseException:
        await put_aside(staged)
        raise
    await put_aside([event for event, _ in unplaced])
    fetched = [event for event in events if isinstance(event, MetadataFetched)]
    offered = await place_metadata(holdings, fetched, placed)
    return PlacedBatch(events=events, placed=placed, unplaced=unplaced, offered=offered)


async def record_batch(
    holdings: Holdings, batch: PlacedBatch, log: EventLogger, *, has_overlays: bool
) -> list[ProjectWork]:
    """Enter the rows of a placed batch; return the projects that it is about."""
    drafts: dict[int, ProjectDraft] = {}
    for event in batch.events:
        draft = drafts.get(event.work.row.id)
        if draft is None:
            draft = drafts[event.work.row.id] = ProjectDraft(event.work, log)
        draft.add(event)
    for came, error in batch.unplaced:
        failure = came.work.failure(came.fetch.file.filename, error.reason, str(error), came.fetch)
        drafts[came.work.row.id].add(Failed(work=came.work, failure=failure))
    with gathered_lines():  # one line for each file
        for came, blob in batch.placed:
            problem = metadata_problem(came.fetch, blob)
            digest = batch.offered.get(
                (came.work.row.id, blob.sha256, blob.filename), blob.metadata_sha256
            )
            drafts[came.work.row.id].add_placed(
                came.fetch, msgspec.structs.replace(blob, metadata_sha256=digest), problem
            )
    await _record_drafts(holdings, list(drafts.values()), has_overlays=has_overlays)
    fetched = [event for event in batch.events if isinstance(event, MetadataFetched)]
    await _record_metadata(holdings, fetched, batch.offered)
    return [draft.work for draft in drafts.values()]


async def _record_drafts(
    holdings: Holdings, drafts: Sequence[ProjectDraft], *, has_overlays: bool
) -> None:
    store, cycle = holdings.store, holdings.cycle
    now = holdings.clock()
    records = [d.record() for d in drafts if d.changes or (has_overlays and d.claims)]
    if records:
        await record_changes(store, records, cycle=cycle, now=now, has_overlays=has_overlays)
    await record_sights(store, [d.sights for d in drafts if d.sights.seen])
    missing = {d.work.row.id: d.missing for d in drafts if d.missing}
    if missing:
        await record_missing(store, missing, cycle=cycle)
    failures = [f for d in drafts for f in d.failures]
    await record_failures(store, failures, [c for d in drafts for c in d.closed()], now=now)


async def _record_metadata(
    holdings: Holdings, completed: Sequence[MetadataFetched], offered: OfferedMetadata
) -> None:
    """Record the metadata of files that were held already, and mark the pages that show it."""
    found: list[tuple[ProjectName, Offered]] = []
    for event in completed:
        row, held = event.work.row, event.wanted.held
        digest = offered.get((row.id, held.sha256, held.filename))
        if digest is not None:
            entered = Offered(
                sha256=held.sha256,
                filename=held.filename,
                project=row.id,
                metadata_sha256=digest,
            )
            found.append((row.name, entered))
            event.work.progress.shows = True
    if found:
        await record_offered(holdings.store, found, cycle=holdings.cycle, now=holdings.clock())
