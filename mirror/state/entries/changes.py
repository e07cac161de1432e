"""Opens, relabels and closes the rows of published files.

A row opens in the transaction that makes a held blob publishable and closes when the file leaves
the pages. Among all indexes one filename of a project is open once at most: opening it for one
index closes it for the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from mirror.core.diff import HeldFile, Relabel
from mirror.core.files.distributions import is_wheel
from mirror.core.files.kept_links import KeptLinks
from mirror.core.model import Digests, ListedFile, ProjectMeta
from mirror.core.names import ProjectName, Sha256, strongest_digest
from mirror.state.entries.claims import forget_later_indexes
from mirror.state.entries.labels import LABEL_MARKS, LABELS, encode_digests, label_values
from mirror.state.entries.offered import BlobKey, Offered, enter_offered
from mirror.state.entries.pages import mark_pages
from mirror.state.listing.columns import FORGET_VALIDATORS, META_SETS, meta_values
from mirror.state.parameters import chunks
from mirror.state.rows import Columns
from mirror.state.shown.search import Summary, enter_summaries
from mirror.state.store import Row, Store, Transaction


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """A verified file whose bytes are in the tree, to be recorded."""

    file: ListedFile
    sha256: Sha256
    size: int
    metadata_sha256: Sha256 | None = None
    """A wheel's own; of another file that which its page offers."""
    summary: str | None = None
    """Of a wheel's metadata; None where it was not read now."""


class ProjectRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The changes that one transaction records for one project of one index."""

    project: int
    source: int
    name: ProjectName
    placed: tuple[Placed, ...] = ()
    relabel: tuple[Relabel, ...] = ()
    meta: ProjectMeta | None = None
    touch: tuple[tuple[HeldFile, ListedFile], ...] = ()
    refuse: tuple[tuple[HeldFile, Digests], ...] = ()
    missing: tuple[HeldFile, ...] = ()
    returned: tuple[HeldFile, ...] = ()
    withdrawn: str | None = None
    """The index's own word for a withdrawal, entered with ``meta``."""

    @property
    def shows(self) -> bool:
        """Whether a page changes by it."""
        return bool(self.placed or self.relabel or self.meta)


_INSERT_ENTRY = (
    "INSERT INTO entry (project, source, filename, sha256, size, digests, unhashed, url,"
    f" valid_from, {LABELS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, {LABEL_MARKS})"
)
_UNLIST_BLOB = (
    "UPDATE blob SET unlisted_since = ? WHERE sha256 = ? AND filename = ? AND NOT EXISTS (SELECT 1"
    " FROM entry"
    " WHERE entry.sha256 = blob.sha256 AND entry.filename = blob.filename"
    " AND entry.valid_to IS NULL)"
)


async def record_changes(
    store: Store, records: Sequence[ProjectRecord], *, cycle: int, now: float, has_overlays: bool
) -> None:
    """Record placed and relabelled files: rows open, old validators are forgotten, the pages are
    marked.

    The bytes of every ``Placed`` must be durable before this is called.
    """
    async with store.transaction() as tx:
        if any(r.shows for r in records):
            revision = await tx.revision(cycle, now)
            await _enter_placed(tx, records, revision, now)
            await _enter_labels(tx, records, revision)
            await enter_meta(tx, [(r.project, r.meta, r.withdrawn) for r in records])
            await mark_pages(tx, (r.name for r in records if r.shows), revision)
        await tx.executemany(f"{FORGET_VALIDATORS} id = ?", [(r.project,) for r in records])
        if has_overlays:
            await forget_later_indexes(tx, [(r.name, r.source) for r in records])
        await _touch(tx, records)


async def _enter_placed(
    tx: Transaction, records: Sequence[ProjectRecord], revision: int, now: float
) -> None:
    placed = [(r, p) for r in records for p in r.placed]
    await tx.executemany(
        "INSERT INTO blob (sha256, filename, size, metadata_sha256, stored, verified,"
        " metadata_revision) VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (sha256, filename) DO UPDATE SET unlisted_since = NULL,"
        " verified = CASE WHEN verified < 0 THEN excluded.verified ELSE verified END,"
        " metadata_sha256 = coalesce(excluded.metadata_sha256, metadata_sha256)",
        [
            (
                p.sha256,
                p.file.filename,
                p.size,
                p.metadata_sha256 if is_wheel(p.file.filename) else None,
                now,
                now,
                revision,
            )
            for _, p in placed
        ],
    )
    await enter_offered(
        tx,
        [
            Offered(
                sha256=p.sha256,
                filename=p.file.filename,
                project=r.project,
                metadata_sha256=p.metadata_sha256,
            )
            for r, p in placed
            if p.metadata_sha256 is not None and not is_wheel(p.file.filename)
        ],
    )
    await enter_summaries(tx, _summaries(placed))
    same_name = "filename = ? AND project IN (SELECT id FROM project WHERE name = ?)"
    open_names = await _load_open(tx, [(r.name, p.file.filename) for r, p in placed])
    for r, p in placed:
        if (r.name, p.file.filename) in open_names:
            await close_entries(tx, same_name, (p.file.filename, r.name), revision, now)
    await tx.executemany(
        _INSERT_ENTRY, [_entry_values(r, p, revision, tx.links_of(r.source)) for r, p in placed]
    )
    if open_names:
        # The first INSERT has ended each blob's retention; a row that was closed since may have
        # begun it again, for a blob that another project of this transaction has under the same
        # name.
        await tx.executemany(
            "UPDATE blob SET unlisted_since = NULL WHERE sha256 = ? AND filename = ?"
            " AND unlisted_since IS NOT NULL",
            [(p.sha256, p.file.filename) for _, p in placed],
        )


def _summaries(placed: Sequence[tuple[ProjectRecord, Placed]]) -> list[Summary]:
    """Return the facts that were read from the wheels; the version is the second part of a wheel's
    name.
    """
    return [
        Summary(name=record.name, version=one.file.filename.split("-", 2)[1], text=one.summary)
        for record, one in placed
        if one.summary is not None and is_wheel(one.file.filename)
    ]


class _OpenName(Columns, frozen=True):
    name: str
    filename: str


async def _load_open(tx: Transaction, names: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return which (project, filename) have an open row, of any index; few queries, since each
    costs a thread's turn.
    """
    found: set[tuple[str, str]] = set()
    for chunk in chunks(names, 250):
        rows = await tx.rows_as(
            _OpenName,
            f"WITH given (name, filename) AS (VALUES {','.join(['(?, ?)'] * len(chunk))})"
            " SELECT p.name, e.filename FROM given CROSS JOIN project p ON p.name = given.name"
            " CROSS JOIN entry e ON e.project = p.id AND e.filename = given.filename"
            " AND e.valid_to IS NULL",
            [value for pair in chunk for value in pair],
        )
        found.update((row.name, row.filename) for row in rows)
    return found


async def close_entries(
    tx: Transaction, where: str, values: Row, revision: int, now: float, *, exempt: int = 0
) -> None:
    """Close the open rows that a condition selects; a blob that no open row needs begins its
    retention.

    ``exempt``: not 0 where the removal brake does not count them; 2 where no want needs them.
    """
    closed = await tx.rows_as(
        BlobKey,
        f"SELECT sha256, filename FROM entry WHERE valid_to IS NULL AND {where}",
        values,
    )
    await tx.execute(
        f"UPDATE entry SET valid_to = ?, exempt = ? WHERE valid_to IS NULL AND {where}",
        (revision, exempt, *values),
    )
    await tx.executemany(_UNLIST_BLOB, [(now, blob.sha256, blob.filename) for blob in closed])


def _entry_values(record: ProjectRecord, placed: Placed, revision: int, links: KeptLinks) -> Row:
    file = placed.file
    return (
        record.project,
        record.source,
        file.filename,
        placed.sha256,
        placed.size,
        encode_digests(file.digests),
        strongest_digest(file.digests) is None,
        links.kept(file.url),
        revision,
        *label_values(file.labels),
    )


async def _enter_labels(tx: Transaction, records: Sequence[ProjectRecord], revision: int) -> None:
    for change in (c for r in records for c in r.relabel):
        closed = await tx.execute(
            "UPDATE entry SET valid_to = ? WHERE id = ? AND valid_to IS NULL",
            (revision, change.held.id),
        )
        if not closed:
            continue  # replaced by new bytes in this transaction: those carry their own labels
        kept = "project, source, filename, sha256, size, digests, unhashed, url, refused"
        await tx.execute(
            f"INSERT INTO entry ({kept}, valid_from, {LABELS})"
            f" SELECT {kept}, ?, {LABEL_MARKS} FROM entry WHERE id = ?",
            (revision, *label_values(change.labels), change.held.id),
        )


async def enter_meta(
    tx: Transaction, metas: Iterable[tuple[int, ProjectMeta | None, str | None]]
) -> None:
    """Record the projects' own attributes from pages: (project id, keys or None for no change,
    withdrawal).
    """
    await tx.executemany(
        f"UPDATE project SET {META_SETS}, withdrawn = ? WHERE id = ?",
        [
            (*meta_values(meta), withdrawn, project)
            for project, meta, withdrawn in metas
            if meta is not None
        ],
    )


async def _touch(tx: Transaction, records: Sequence[ProjectRecord]) -> None:
    """Update columns in place that no page shows."""
    where = "filename = ? AND project = ? AND valid_to IS NULL"
    await tx.executemany(
        f"UPDATE entry SET digests = ?, unhashed = ?, url = ? WHERE {where}",
        [
            (
                encode_digests(f.digests),
                strongest_digest(f.digests) is None,
                tx.links_of(r.source).kept(f.url),
                h.filename,
                r.project,
            )
            for r in records
            for h, f in r.touch
        ],
    )
    await tx.executemany(
        f"UPDATE entry SET refused = ? WHERE {where}",
        [
            (encode_digests(digests), h.filename, r.project)
            for r in records
            for h, digests in r.refuse
        ],
    )
    await tx.executemany(
        f"UPDATE entry SET absent_since = NULL WHERE {where}",
        [(h.filename, r.project) for r in records for h in r.returned],
    )


async def record_offered(
    store: Store, offered: Sequence[tuple[ProjectName, Offered]], *, cycle: int, now: float
) -> None:
    """Record metadata of files that were published without it, and mark the pages that offer it
    now.
    """
    async with store.transaction() as tx:
        await enter_offered(tx, [o for _, o in offered])
        await mark_pages(tx, (name for name, _ in offered), await tx.revision(cycle, now))


async def record_missing(
    store: Store, missing: Mapping[int, Sequence[HeldFile]], *, cycle: int
) -> None:
    """Record the first reading that missed some entries; no new version of them."""
    async with store.transaction() as tx:
        await tx.executemany(
            "UPDATE entry SET absent_since = ? WHERE filename = ? AND project = ?"
            " AND valid_to IS NULL",
            [(cycle, h.filename, project) for project, held in missing.items() for h in held],
        )
