"""Damaged blobs: they leave the pages and the state, so that the next cycle fetches them again."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from mirror.core.names import ProjectName, Sha256
from mirror.errors import Reason
from mirror.state.blobs.verified import BlobRow
from mirror.state.entries.changes import close_entries
from mirror.state.entries.pages import mark_pages
from mirror.state.listing.columns import FORGET_VALIDATORS
from mirror.state.missing.ledger import Failure, load_project_failures, record_failures
from mirror.state.rows import Columns
from mirror.state.store import Store, Transaction


class LostFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that the pages listed and whose bytes are gone."""

    source: int
    index: str
    is_configured: bool
    """Its index is in the configuration and lists the project: a cycle may get it back."""
    project: ProjectName
    filename: str
    sha256: Sha256
    was_right: bool = True
    """False where its bytes never matched its name: once no page lists it, nothing is missing."""


class _ListingColumns(Columns, frozen=True):
    source: int
    index_name: str
    is_configured: bool
    name: ProjectName


async def record_lost(
    store: Store, blobs: Collection[BlobRow], *, cycle: int, now: float, keep_blobs: bool = False
) -> list[LostFile]:
    """Remove damaged blobs from the pages and forget them, so that the next cycle fetches them
    again.

    ``keep_blobs``: their bytes are whole, and stay until their retention ends.
    """
    lost: list[LostFile] = []
    async with store.transaction() as tx:
        revision = await tx.revision(cycle, now)
        for blob in blobs:
            same = (blob.sha256, blob.filename)
            rows = await tx.rows_as(
                _ListingColumns,
                "SELECT s.id AS source, s.name AS index_name, s.configured"
                " AND p.listed AS is_configured,"
                " p.name FROM entry e"
                " JOIN project p ON p.id = e.project JOIN source s ON s.id = p.source"
                " WHERE e.sha256 = ? AND e.filename = ? AND e.valid_to IS NULL"
                " ORDER BY s.position, p.name",
                same,
            )
            await close_entries(tx, "sha256 = ? AND filename = ?", same, revision, now)
            if not keep_blobs:
                await tx.execute("DELETE FROM blob WHERE sha256 = ? AND filename = ?", same)
            await tx.executemany(
                f"{FORGET_VALIDATORS} name = ?",
                [(row.name,) for row in rows],
            )
            await mark_pages(tx, (row.name for row in rows), revision)
            lost += [
                LostFile(
                    source=row.source,
                    index=row.index_name,
                    is_configured=row.is_configured,
                    project=row.name,
                    filename=blob.filename,
                    sha256=blob.sha256,
                    was_right=not keep_blobs,
                )
                for row in rows
            ]
            if not rows:
                lost += await _lost_to_snapshots(tx, blob)
    return lost


class _SnapshotColumns(Columns, frozen=True):
    snapshot: str
    project: ProjectName


async def _lost_to_snapshots(tx: Transaction, blob: BlobRow) -> list[LostFile]:
    """Return the files that are lost where only snapshots list a blob: no cycle fetches it again
    for them.
    """
    rows = await tx.rows_as(
        _SnapshotColumns,
        "SELECT s.name AS snapshot, p.name AS project FROM snapshot s JOIN entry e"
        " ON s.revision >= e.valid_from AND s.revision < e.valid_to"
        " JOIN project p ON p.id = e.project WHERE s.kind = 'snapshot' AND e.sha256 = ?"
        " AND e.filename = ?"
        " AND e.valid_to IS NOT NULL UNION SELECT s.name, '' FROM snapshot s JOIN kept_blob k"
        " ON k.snapshot = s.id"
        " WHERE k.sha256 = ? AND k.filename = ? ORDER BY 1 LIMIT 1",
        (blob.sha256, blob.filename) * 2,
    )
    return [
        LostFile(
            source=0,
            index=f"snapshot {row.snapshot}",
            is_configured=False,
            project=row.project,
            filename=blob.filename,
            sha256=blob.sha256,
        )
        for row in rows
    ]


async def record_gone(store: Store, lost: Sequence[LostFile], *, now: float) -> None:
    """Add files that could not be fetched again to the ledger, unless they have a row already.

    Only for indexes of the configuration that list the project: for others nothing would ever close
    the row.
    """
    detail = (
        "its bytes on this disk were damaged and the index no longer offers it: restore it from a"
        " backup;"
        " `mirror sync --once --full` forgets it"
    )
    for file in lost:
        if file.is_configured:
            known = await load_project_failures(store, file.source, file.project)
            if file.filename not in known and "" not in known:
                failure = Failure(
                    source=file.source,
                    project=file.project,
                    filename=file.filename,
                    reason=Reason.NOT_FOUND,
                    detail=detail,
                )
                await record_failures(store, [failure], (), now=now)


async def record_sidecars(
    store: Store, sidecars: Collection[tuple[BlobRow, Sha256 | None]], *, cycle: int, now: float
) -> None:
    """Record the metadata that some blobs have now by their own bytes, and mark the pages that show
    it.

    Where a blob has lost its metadata, the pages of the indexes are read again: they may advertise
    it.
    """
    async with store.transaction() as tx:
        revision = await tx.revision(cycle, now)
        for blob, metadata_sha256 in sidecars:
            same = (blob.sha256, blob.filename)
            await tx.execute(
                "UPDATE blob SET metadata_sha256 = ?, metadata_project = NULL,"
                " verified = CASE WHEN verified < 0 THEN ? ELSE verified END WHERE sha256 = ?"
                " AND filename = ?",
                (metadata_sha256, now, *same),
            )
            names = await tx.values(
                "SELECT p.name FROM entry e JOIN project p ON p.id = e.project"
                " WHERE e.sha256 = ? AND e.filename = ? AND e.valid_to IS NULL",
                same,
            )
            await mark_pages(tx, names, revision)
            if metadata_sha256 is None:
                await tx.executemany(f"{FORGET_VALIDATORS} name = ?", [(name,) for name in names])


async def record_pages_damaged(
    store: Store, names: Collection[ProjectName], *, cycle: int, now: float
) -> None:
    """Mark pages whose bytes on disk differ from the state."""
    async with store.transaction() as tx:
        revision = await tx.revision(cycle, now)
        await mark_pages(tx, names, revision)
