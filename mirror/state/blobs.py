"""The blobs on disk as the state records them: those to hash again, those to prune, and the damaged
ones.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Collection, Sequence

import msgspec

from mirror.core.names import ProjectName, Sha256
from mirror.errors import Reason
from mirror.state.entries import close_entries, mark_pages
from mirror.state.ledger import Failure, load_project_failures, record_failures
from mirror.state.listing import FORGET_VALIDATORS
from mirror.state.store import Store, Transaction

_CHUNK = 1000


class BlobRow(msgspec.Struct, frozen=True, kw_only=True):
    """A blob. Times are seconds since the epoch."""

    sha256: Sha256
    filename: str
    size: int
    metadata_sha256: Sha256 | None
    verified: float
    unlisted_since: float | None
    is_vouched: bool
    """False: pages list it, and no index lists a digest of it."""


_UNNEEDED = (
    "NOT EXISTS (SELECT 1 FROM entry WHERE entry.sha256 = blob.sha256 AND entry.filename = blob.filename"
    " AND entry.valid_to IS NULL)"
    " AND NOT EXISTS (SELECT 1 FROM entry WHERE entry.sha256 = blob.sha256 AND entry.filename = blob.filename"
    " AND entry.valid_to IS NOT NULL AND EXISTS (SELECT 1 FROM snapshot"
    " WHERE snapshot.revision >= entry.valid_from AND snapshot.revision < entry.valid_to))"
    " AND NOT EXISTS (SELECT 1 FROM kept_blob WHERE kept_blob.sha256 = blob.sha256 AND kept_blob.filename = blob.filename)"
)
"""The blobs that neither a page nor a snapshot lists."""

_UNNEEDED_HISTORY = (
    "NOT EXISTS (SELECT 1 FROM snapshot WHERE snapshot.revision >= valid_from AND snapshot.revision < valid_to)"
    " AND NOT EXISTS (SELECT 1 FROM shipment WHERE shipment.needed = 1"
    " AND shipment.revision >= valid_from AND shipment.revision < valid_to)"
)
"""The closed entries that neither a snapshot nor a future bundle needs."""

_NOT_RECENT = (
    "(sha256, filename) NOT IN (SELECT entry.sha256, entry.filename FROM entry WHERE entry.valid_to >"
    " (SELECT coalesce(max(id), 0) FROM revision WHERE cycle < coalesce(?, 9223372036854775807)))"
)
"""The blobs that no cycle from a given one on took off the pages."""

_LAST_REVISION = "coalesce(max(id), 0) FROM revision WHERE at <= ? AND cycle < coalesce(?, 9223372036854775807)"
"""The last revision until a time, before a given cycle."""

_OPEN_ENTRY = "SELECT 1 FROM entry e WHERE e.sha256 = blob.sha256 AND e.filename = blob.filename AND e.valid_to IS NULL"
_COLUMNS = (
    "sha256, filename, size, metadata_sha256, verified, unlisted_since,"
    f" NOT EXISTS ({_OPEN_ENTRY} AND e.digests = '') OR EXISTS ({_OPEN_ENTRY} AND e.digests != '')"
)


def _blob(r: Sequence[object]) -> BlobRow:
    return msgspec.convert(dict(zip(BlobRow.__struct_fields__, r, strict=True)), BlobRow, strict=False)


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """The blobs of one run, selected by the times of their last verification."""

    stamp: float
    """Verification time written by this run; unique, so that the run recognises its own rows."""
    before: float
    newest: float

    @property
    def condition(self) -> str:
        """SQL condition for the unverified rows: the old ones, and those with an implausible time
        in the future.
        """
        return (
            f"(verified < {self.before!r} OR verified > {self.stamp!r})"
            f" AND verified <= {self.newest!r} AND verified != {self.stamp!r}"
        )


async def open_window(store: Store, *, now: float, before: float | None = None) -> Window:
    """Return the blobs last verified before a time, or all of them; blobs stored later are not
    included.
    """
    stamp = now
    while await store.value("SELECT EXISTS (SELECT 1 FROM blob WHERE verified = ?)", (stamp,)):
        stamp = math.nextafter(stamp, math.inf)
    newest = await store.value("SELECT coalesce(max(verified), 0.0) FROM blob")
    return Window(stamp=stamp, before=9e99 if before is None else before, newest=newest)


async def load_oldest_verified(store: Store, window: Window, *, limit: int | None = None) -> AsyncIterator[BlobRow]:
    """Yield the blobs of a window, the longest unverified first; ``limit``: maximum number of
    blobs.
    """
    after: tuple[float, str, str] = (-1.0, "", "")
    left = limit
    while left is None or left > 0:
        size = _CHUNK if left is None else min(_CHUNK, left)
        rows = await store.rows(
            f"SELECT {_COLUMNS} FROM blob WHERE {window.condition} AND (verified, sha256, filename) > (?, ?, ?)"
            f" ORDER BY verified, sha256, filename LIMIT {size}",
            after,
        )
        if not rows:
            return
        for row in rows:
            yield _blob(row)
        after = (rows[-1][4], rows[-1][0], rows[-1][1])
        left = None if left is None else left - len(rows)


async def count_blobs(store: Store, window: Window) -> tuple[int, int]:
    """Return how many blobs a window has, and their bytes."""
    row = await store.row(f"SELECT count(*), coalesce(sum(size), 0) FROM blob WHERE {window.condition}")
    assert row is not None
    return row[0], row[1]


async def record_verified(store: Store, blobs: Collection[BlobRow], stamp: float) -> None:
    """Record that the bytes of these blobs are whole; unsure ones stay so (``state.durability``)."""
    async with store.transaction() as tx:
        await tx.executemany(
            "UPDATE blob SET verified = ? WHERE sha256 = ? AND filename = ? AND verified >= 0",
            [(stamp, b.sha256, b.filename) for b in blobs],
        )


async def load_blob(store: Store, sha256: Sha256, filename: str) -> BlobRow | None:
    """Return a blob as it is now, or None: a cycle may have changed or pruned it meanwhile."""
    row = await store.row(f"SELECT {_COLUMNS} FROM blob WHERE sha256 = ? AND filename = ?", (sha256, filename))
    return None if row is None else _blob(row)


async def load_known_files(store: Store, prefix: str) -> dict[tuple[str, str], str | None]:
    """Return the blobs whose sha256 begins with ``prefix``: (sha256, filename) -> sha256 of the sidecar."""
    rows = await store.rows(
        "SELECT sha256, filename, metadata_sha256 FROM blob WHERE sha256 >= ? AND sha256 < ?", (prefix, prefix + "g")
    )
    return {(r[0], r[1]): r[2] for r in rows}


async def load_prunable(
    store: Store, cutoff: float, limit: int = _CHUNK, *, kept_from: int | None = None
) -> list[BlobRow]:
    """Return some blobs that no page and no snapshot has listed since before a time.

    ``kept_from``: files that this cycle or a later one removed from the pages are kept, whatever
    their recorded time.
    """
    rows = await store.rows(
        f"SELECT {_COLUMNS} FROM blob WHERE unlisted_since <= ? AND {_UNNEEDED} AND {_NOT_RECENT}"
        " ORDER BY unlisted_since LIMIT ?",
        (cutoff, kept_from, limit),
    )
    return [_blob(r) for r in rows]


async def record_pruned(store: Store, blobs: Collection[BlobRow]) -> list[BlobRow]:
    """Forget blobs that no open entry needs, before their bytes go; return those that were forgotten."""
    forgotten = []
    async with store.transaction() as tx:
        for blob in blobs:
            gone = await tx.execute(
                f"DELETE FROM blob WHERE sha256 = ? AND filename = ? AND unlisted_since IS NOT NULL AND {_UNNEEDED}",
                (blob.sha256, blob.filename),
            )
            if gone:
                forgotten.append(blob)
        # With no shipment, no far side can have the metadata of a deleted blob.
        await tx.executemany(
            "DELETE FROM first_metadata WHERE sha256 = ? AND filename = ? AND NOT EXISTS (SELECT 1 FROM shipment)",
            [(blob.sha256, blob.filename) for blob in forgotten],
        )
    return forgotten


async def load_prunable_total(store: Store, cutoff: float, *, kept_from: int | None = None) -> tuple[int, int]:
    """Return how many blobs ``load_prunable`` would give in all, and their bytes."""
    row = await store.row(
        f"SELECT count(*), coalesce(sum(size), 0) FROM blob WHERE unlisted_since <= ? AND {_UNNEEDED} AND {_NOT_RECENT}",
        (cutoff, kept_from),
    )
    assert row is not None
    return row[0], row[1]


async def record_history_pruned(store: Store, cutoff: float, *, kept_from: int | None = None) -> int:
    """Delete the closed entries and the cycles that ended before a time; return the number of
    deleted entries.

    ``kept_from``: records of this cycle and later ones are kept, whatever their recorded time.
    """
    async with store.transaction() as tx:
        row = await tx.rows(f"SELECT {_LAST_REVISION}", (cutoff, kept_from))
        entries = await tx.execute(f"DELETE FROM entry WHERE valid_to <= ? AND {_UNNEEDED_HISTORY}", (row[0][0],))
        if entries:
            # Earlier history is known only at the revisions of snapshots and shipments.
            await tx.execute(
                "INSERT OR REPLACE INTO meta (key, value) VALUES ('history_from', max(?, coalesce((SELECT"
                " CAST(value AS INTEGER) FROM meta WHERE key = 'history_from'), 0)))",
                (row[0][0],),
            )
        await tx.execute(
            "DELETE FROM cycle WHERE started_at <= ? AND id < coalesce(?, (SELECT max(id) FROM cycle)) AND NOT EXISTS"
            " (SELECT 1 FROM revision WHERE revision.cycle = cycle.id)",
            (cutoff, kept_from),
        )
    return entries


async def count_history(store: Store, cutoff: float, *, kept_from: int | None = None) -> int:
    """Return how many closed entries ``record_history_pruned`` would drop."""
    return int(
        await store.value(
            f"SELECT count(*) FROM entry WHERE valid_to <= (SELECT {_LAST_REVISION}) AND {_UNNEEDED_HISTORY}",
            (cutoff, kept_from),
        )
    )


async def load_cycle_starts(store: Store) -> list[tuple[int, float]]:
    """Return number and start of all cycles, the newest first."""
    return [(r[0], r[1]) for r in await store.rows("SELECT id, started_at FROM cycle ORDER BY id DESC")]


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
    """False where its bytes never were what its name says: once no page lists it, nothing is missing."""


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
            rows = await tx.rows(
                "SELECT s.id, s.name, s.configured AND p.listed, p.name, p.id FROM entry e"
                " JOIN project p ON p.id = e.project JOIN source s ON s.id = p.source"
                " WHERE e.sha256 = ? AND e.filename = ? AND e.valid_to IS NULL ORDER BY s.position, p.name",
                same,
            )
            await close_entries(tx, "sha256 = ? AND filename = ?", same, revision, now)
            if not keep_blobs:
                await tx.execute("DELETE FROM blob WHERE sha256 = ? AND filename = ?", same)
            await tx.executemany(
                f"{FORGET_VALIDATORS} name = ?",
                [(r[3],) for r in rows],
            )
            await mark_pages(tx, (ProjectName(r[3]) for r in rows), revision)
            lost += [
                LostFile(
                    source=r[0],
                    index=r[1],
                    is_configured=bool(r[2]),
                    project=r[3],
                    filename=blob.filename,
                    sha256=blob.sha256,
                    was_right=not keep_blobs,
                )
                for r in rows
            ]
            if not rows:
                lost += await _lost_to_snapshots(tx, blob)
    return lost


async def _lost_to_snapshots(tx: Transaction, blob: BlobRow) -> list[LostFile]:
    """Return the files that are lost where only snapshots list a blob: no cycle fetches it again
    for them.
    """
    rows = await tx.rows(
        "SELECT s.name, p.name FROM snapshot s JOIN entry e ON s.revision >= e.valid_from AND s.revision < e.valid_to"
        " JOIN project p ON p.id = e.project WHERE s.kind = 'snapshot' AND e.sha256 = ? AND e.filename = ?"
        " AND e.valid_to IS NOT NULL UNION SELECT s.name, '' FROM snapshot s JOIN kept_blob k ON k.snapshot = s.id"
        " WHERE k.sha256 = ? AND k.filename = ? ORDER BY 1 LIMIT 1",
        (blob.sha256, blob.filename) * 2,
    )
    return [
        LostFile(
            source=0,
            index=f"snapshot {r[0]}",
            is_configured=False,
            project=ProjectName(r[1]),
            filename=blob.filename,
            sha256=blob.sha256,
        )
        for r in rows
    ]


async def record_gone(store: Store, lost: Sequence[LostFile], *, now: float) -> None:
    """Add files that could not be fetched again to the ledger, unless they have a row already.

    Only for indexes of the configuration that list the project: for others nothing would ever close
    the row.
    """
    detail = (
        "its bytes on this disk were damaged and the index no longer offers it: restore it from a backup;"
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
                " verified = CASE WHEN verified < 0 THEN ? ELSE verified END WHERE sha256 = ? AND filename = ?",
                (metadata_sha256, now, *same),
            )
            rows = await tx.rows(
                "SELECT p.name FROM entry e JOIN project p ON p.id = e.project"
                " WHERE e.sha256 = ? AND e.filename = ? AND e.valid_to IS NULL",
                same,
            )
            await mark_pages(tx, (ProjectName(r[0]) for r in rows), revision)
            if metadata_sha256 is None:
                await tx.executemany(f"{FORGET_VALIDATORS} name = ?", rows)


async def record_pages_damaged(store: Store, names: Collection[ProjectName], *, cycle: int, now: float) -> None:
    """Mark pages whose bytes on disk differ from the state."""
    async with store.transaction() as tx:
        revision = await tx.revision(cycle, now)
        await mark_pages(tx, names, revision)
