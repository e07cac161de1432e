"""The published files: temporal entry rows, the blobs behind them, and the marks of pages that are
still to be written.

A row opens in the transaction that makes a held blob publishable and closes when the file leaves
the pages. Among all indexes one filename of a project is open once at most: opening it for one
index closes it for the others. A page shows the open rows of its project's name, so it can be
rendered again from the state alone, also after a kill.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence

import msgspec

from mirror.core.diff import HeldFile, Relabel
from mirror.core.distributions import is_wheel
from mirror.core.kept_links import KeptLinks
from mirror.core.model import Digests, Entry, Labels, ListedFile, ProjectMeta, ProjectView, Validators
from mirror.core.names import ProjectName, Sha256, strongest_digest
from mirror.state.left_out import LeftOutRows, enter_left_out
from mirror.state.listing import FORGET_VALIDATORS, meta_of, meta_values, validator_values
from mirror.state.offered import Offered, enter_offered, first_metadata, offers_metadata
from mirror.state.rows import Columns
from mirror.state.search import Summary, enter_summaries
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


class Closing(msgspec.Struct, frozen=True, kw_only=True):
    """The values recorded for a project of an index once every change that its page asked for is
    done.
    """

    project: int
    validators: Validators
    selection: str
    page_origin: str | None = None
    """The origin of the page; None for the index's own origin."""
    left_out: LeftOutRows | None = None
    """The listed files that are not wanted; None: as before, since the page was confirmed unchanged."""
    claims: tuple[str, ...] = ()


_INSERT_ENTRY = (
    "INSERT INTO entry (project, source, filename, sha256, size, digests, unhashed, url, upload_time, requires_python,"
    " yanked, provenance, extra, valid_from) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_FORGET_OVERLAYS_OF_CLAIMS = (
    f"{FORGET_VALIDATORS}"
    " name = (SELECT name FROM project WHERE id = ? AND claims IS NOT ?) AND source IN (SELECT later.id FROM project p"
    " JOIN source mine ON mine.id = p.source JOIN source later ON later.position > mine.position WHERE p.id = ?)"
)
_UNLIST_BLOB = (
    "UPDATE blob SET unlisted_since = ? WHERE sha256 = ? AND filename = ? AND NOT EXISTS (SELECT 1 FROM entry"
    " WHERE entry.sha256 = blob.sha256 AND entry.filename = blob.filename AND entry.valid_to IS NULL)"
)


class _HeldColumns(Columns, frozen=True):
    project: int
    id: int
    filename: str
    sha256: Sha256
    size: int
    digests: str
    url: str
    requires_python: str | None
    yanked: str | None
    upload_time: str | None
    provenance: str | None
    extra: str
    absent_since: int | None
    refused: str | None
    source: int
    has_metadata: int
    first_metadata: str | None


async def load_held(store: Store, projects: Collection[int]) -> dict[int, dict[str, HeldFile]]:
    """Return the open entries of some projects: project id -> filename -> entry."""
    found: dict[int, dict[str, HeldFile]] = {p: {} for p in projects}
    for row in await store.rows_as(
        _HeldColumns,
        "SELECT project, id, filename, sha256, size, digests, url, requires_python, yanked, upload_time, provenance,"
        " extra, absent_since, refused, source, EXISTS (SELECT 1 FROM blob b WHERE b.sha256 = entry.sha256"
        f" AND b.filename = entry.filename AND b.metadata_sha256 IS NOT NULL AND {offers_metadata('entry')})"
        f" AS has_metadata, {first_metadata('entry')} AS first_metadata"
        f" FROM entry WHERE valid_to IS NULL AND project IN ({_marks(projects)})",
        tuple(projects),
    ):
        found[row.project][row.filename] = HeldFile(
            id=row.id,
            filename=row.filename,
            sha256=row.sha256,
            size=row.size,
            digests=_decode_digests(row.digests),
            url=store.links_of(row.source).whole(row.url),
            labels=_labels(row),
            absent_since=row.absent_since,
            refused=_decode_digests(row.refused) if row.refused else (),
            has_metadata=bool(row.has_metadata),
            first_metadata=row.first_metadata,
        )
    return found


class OpenFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that a page lists, and for which index."""

    project: int
    source: int
    index: str
    name: ProjectName
    filename: str
    sha256: Sha256
    size: int


async def iter_open_files(store: Store) -> AsyncIterator[OpenFile]:
    """Yield every file that the pages list; for one-time work, since it reads the whole state."""
    after = 0
    while True:
        rows = await store.rows(
            "SELECT e.id, p.id, e.source, s.name, p.name, e.filename, e.sha256, e.size FROM entry e"
            " JOIN project p ON p.id = e.project JOIN source s ON s.id = e.source"
            " WHERE e.valid_to IS NULL AND e.id > ? ORDER BY e.id LIMIT 5000",
            (after,),
        )
        if not rows:
            return
        for after, project, source, index, name, filename, sha256, size in rows:  # noqa: B007
            yield OpenFile(
                project=project,
                source=source,
                index=index,
                name=ProjectName(name),
                filename=filename,
                sha256=Sha256(sha256),
                size=size,
            )


class OwnerClaims(msgspec.Struct, frozen=True, kw_only=True):
    """The claims of the indexes before an overlay on the files of a project."""

    names: frozenset[str] = frozenset()
    """The filenames that the owners claim: held, failed and withheld files, and those that their
    patterns leave out.
    """
    owners: frozenset[str] = frozenset()
    """The names of those that list the project."""
    is_withdrawn: bool = False
    is_complete: bool = True
    """The page of each owner that lists the project has been read, so the owners claim no other
    filename.
    """


class _OwnerColumns(Columns, frozen=True):
    id: int
    source: int
    claims: tuple[str, ...] | None
    is_withdrawn: bool
    was_read: bool
    index_name: str


async def load_owner_claims(store: Store, name: ProjectName, position: int) -> OwnerClaims:
    """Return which filenames of a project belong to earlier indexes, and whether one of them withdrew the project."""
    names: set[str] = set()
    owners: set[str] = set()
    withdrawn, complete = False, True
    for row in await store.rows_as(
        _OwnerColumns,
        "SELECT p.id, p.source, p.claims, p.withdrawn IS NOT NULL OR p.status = 'quarantined' AS is_withdrawn,"
        " p.selection IS NOT NULL AS was_read, s.name AS index_name"
        " FROM project p"
        " JOIN source s ON s.id = p.source"
        " WHERE p.name = ? AND s.configured = 1 AND s.position < ? AND p.listed = 1 AND p.wanted = 1",
        (name, position),
    ):
        names.update(row.claims or ())
        owners.add(row.index_name)
        withdrawn = withdrawn or row.is_withdrawn
        complete = complete and (row.is_withdrawn or row.was_read)
        held = await store.rows("SELECT filename FROM entry WHERE project = ? AND valid_to IS NULL", (row.id,))
        failed = await store.rows("SELECT filename FROM failure WHERE source = ? AND project = ?", (row.source, name))
        names.update(filename for (filename,) in held)
        names.update(filename for (filename,) in failed if filename)
    return OwnerClaims(names=frozenset(names), owners=frozenset(owners), is_withdrawn=withdrawn, is_complete=complete)


class HeldBlob(msgspec.Struct, frozen=True, kw_only=True):
    """A blob in the tree, for any index."""

    sha256: Sha256
    filename: str
    size: int
    metadata_sha256: Sha256 | None
    """Digest of its sidecar."""
    first_metadata: str | None
    """The only metadata that may be offered for it, where it is no wheel; None: none was published yet."""


async def load_blobs(store: Store, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], HeldBlob]:
    """Return the held ones of some (sha256, filename) pairs; unsure ones are not held
    (``state.durability``).
    """
    pairs = set(wanted)
    digests = sorted({p[0] for p in pairs})
    found = {}
    for start in range(0, len(digests), 500):
        chunk = digests[start : start + 500]
        for blob in await store.rows_as(
            HeldBlob,
            f"SELECT sha256, filename, size, metadata_sha256, {first_metadata('blob')} AS first_metadata FROM blob"
            f" WHERE sha256 IN ({_marks(chunk)}) AND verified >= 0",
            chunk,
        ):
            if (blob.sha256, blob.filename) in pairs:
                found[(str(blob.sha256), blob.filename)] = blob
    return found


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


async def _enter_placed(tx: Transaction, records: Sequence[ProjectRecord], revision: int, now: float) -> None:
    placed = [(r, p) for r in records for p in r.placed]
    await tx.executemany(
        "INSERT INTO blob (sha256, filename, size, metadata_sha256, stored, verified) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (sha256, filename) DO UPDATE SET unlisted_since = NULL,"
        " verified = CASE WHEN verified < 0 THEN excluded.verified ELSE verified END,"
        " metadata_sha256 = coalesce(excluded.metadata_sha256, metadata_sha256)",
        [
            (p.sha256, p.file.filename, p.size, p.metadata_sha256 if is_wheel(p.file.filename) else None, now, now)
            for _, p in placed
        ],
    )
    await enter_offered(
        tx,
        [
            Offered(sha256=p.sha256, filename=p.file.filename, project=r.project, metadata_sha256=p.metadata_sha256)
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
    await tx.executemany(_INSERT_ENTRY, [_entry_values(r, p, revision, tx.links_of(r.source)) for r, p in placed])
    await tx.executemany(
        "UPDATE blob SET unlisted_since = NULL WHERE sha256 = ? AND filename = ? AND unlisted_since IS NOT NULL",
        [(p.sha256, p.file.filename) for _, p in placed],
    )


def _summaries(placed: Sequence[tuple[ProjectRecord, Placed]]) -> list[Summary]:
    """Return what was read of the wheels; the version is the second part of a wheel's name."""
    return [
        Summary(name=record.name, version=one.file.filename.split("-", 2)[1], text=one.summary)
        for record, one in placed
        if one.summary is not None and is_wheel(one.file.filename)
    ]


async def _load_open(tx: Transaction, names: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return which (project, filename) have an open row, of any index; few queries, since each costs a thread's turn."""
    found: set[tuple[str, str]] = set()
    for start in range(0, len(names), 250):
        chunk = names[start : start + 250]
        rows = await tx.rows(
            f"WITH given (name, filename) AS (VALUES {','.join(['(?, ?)'] * len(chunk))})"
            " SELECT p.name, e.filename FROM given CROSS JOIN project p ON p.name = given.name"
            " CROSS JOIN entry e ON e.project = p.id AND e.filename = given.filename AND e.valid_to IS NULL",
            [value for pair in chunk for value in pair],
        )
        found.update((name, filename) for name, filename in rows)
    return found


async def close_entries(
    tx: Transaction, where: str, values: Row, revision: int, now: float, *, is_exempt: bool = False
) -> None:
    """Close the open rows that a condition selects; a blob that no open row needs begins its retention.

    ``is_exempt``: the removal brake does not count them.
    """
    closed = await tx.rows(f"SELECT sha256, filename FROM entry WHERE valid_to IS NULL AND {where}", values)
    await tx.execute(
        f"UPDATE entry SET valid_to = ?, exempt = ? WHERE valid_to IS NULL AND {where}", (revision, is_exempt, *values)
    )
    await tx.executemany(_UNLIST_BLOB, [(now, sha256, filename) for sha256, filename in closed])


def _entry_values(record: ProjectRecord, placed: Placed, revision: int, links: KeptLinks) -> Row:
    file, labels = placed.file, placed.file.labels
    return (
        record.project,
        record.source,
        file.filename,
        placed.sha256,
        placed.size,
        _encode_digests(file.digests),
        strongest_digest(file.digests) is None,
        links.kept(file.url),
        labels.upload_time,
        labels.requires_python,
        labels.yanked,
        labels.provenance,
        labels.extra,
        revision,
    )


async def _enter_labels(tx: Transaction, records: Sequence[ProjectRecord], revision: int) -> None:
    for change in (c for r in records for c in r.relabel):
        closed = await tx.execute(
            "UPDATE entry SET valid_to = ? WHERE id = ? AND valid_to IS NULL", (revision, change.held.id)
        )
        if not closed:
            continue  # replaced by new bytes in this transaction: those carry their own labels
        labels = change.labels
        await tx.execute(
            "INSERT INTO entry (project, source, filename, sha256, size, digests, unhashed, url, refused, upload_time,"
            " requires_python, yanked, provenance, extra, valid_from) SELECT project, source, filename, sha256, size,"
            " digests, unhashed, url, refused, ?, ?, ?, ?, ?, ? FROM entry WHERE id = ?",
            (
                labels.upload_time,
                labels.requires_python,
                labels.yanked,
                labels.provenance,
                labels.extra,
                revision,
                change.held.id,
            ),
        )


async def enter_meta(tx: Transaction, metas: Iterable[tuple[int, ProjectMeta | None, str | None]]) -> None:
    """Record the projects' own attributes from pages: (project id, keys or None for no change,
    withdrawal).
    """
    await tx.executemany(
        "UPDATE project SET status = ?, status_reason = ?, versions = ?, extra = ?, extra_meta = ?, withdrawn = ?"
        " WHERE id = ?",
        [(*meta_values(meta), withdrawn, project) for project, meta, withdrawn in metas if meta is not None],
    )


async def mark_pages(tx: Transaction, names: Iterable[ProjectName], revision: int) -> None:
    """Mark these pages as older than the state."""
    await tx.executemany(
        "INSERT INTO page (name, revision, marked) VALUES (?, ?, 1)"
        " ON CONFLICT (name) DO UPDATE SET revision = excluded.revision, marked = 1",
        [(name, revision) for name in set(names)],
    )


async def forget_later_indexes(tx: Transaction, projects: Iterable[tuple[ProjectName, int]]) -> None:
    """Make the indexes after this one judge their pages again, since an owner's listing changed.

    Pairs of (name, source).
    """
    await tx.executemany(
        f"{FORGET_VALIDATORS} name = ? AND source IN"
        " (SELECT later.id FROM source later JOIN source mine ON mine.id = ? WHERE later.position > mine.position)",
        projects,
    )


async def _touch(tx: Transaction, records: Sequence[ProjectRecord]) -> None:
    """Update columns in place that no page shows."""
    where = "filename = ? AND project = ? AND valid_to IS NULL"
    await tx.executemany(
        f"UPDATE entry SET digests = ?, unhashed = ?, url = ? WHERE {where}",
        [
            (
                _encode_digests(f.digests),
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
        [(_encode_digests(digests), h.filename, r.project) for r in records for h, digests in r.refuse],
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


async def record_missing(store: Store, missing: Mapping[int, Sequence[HeldFile]], *, cycle: int) -> None:
    """Record the first reading that missed some entries; no new version of them."""
    async with store.transaction() as tx:
        await tx.executemany(
            "UPDATE entry SET absent_since = ? WHERE filename = ? AND project = ? AND valid_to IS NULL",
            [(cycle, h.filename, project) for project, held in missing.items() for h in held],
        )


async def load_marked(store: Store, after: str, limit: int = 500) -> list[ProjectName]:
    """Return some names of marked pages, in order."""
    rows = await store.rows("SELECT name FROM page WHERE marked = 1 AND name > ? ORDER BY name LIMIT ?", (after, limit))
    return [ProjectName(name) for (name,) in rows]


async def mark_all_pages(store: Store, *, cycle: int, now: float, renderer: int) -> None:
    """Mark every page: the renderer has changed since they were written."""
    async with store.transaction() as tx:
        if await tx.execute("UPDATE page SET marked = 1"):
            revision = await tx.revision(cycle, now)
            await tx.execute("UPDATE page SET revision = ?", (revision,))
        await tx.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('renderer', ?)", (str(renderer),))


class _MetaColumns(Columns, frozen=True):
    name: str
    listed: bool
    status: str
    status_reason: str | None
    versions: str | None
    extra: str
    extra_meta: str
    shows: bool


class _EntryColumns(Columns, frozen=True):
    name: str
    filename: str
    sha256: Sha256
    size: int
    metadata_sha256: Sha256 | None
    requires_python: str | None
    yanked: str | None
    upload_time: str | None
    provenance: str | None
    extra: str


class PageState(msgspec.Struct, frozen=True, kw_only=True):
    """A marked page: the view that it has to show, whether it exists and whether it should."""

    view: ProjectView
    is_published: bool
    is_marked: bool
    stays: bool
    """A project without an entry keeps its page while an index lists it; one that never had a page gets none."""


async def split_by_entries(store: Store, names: Collection[ProjectName], *, limit: int) -> list[list[ProjectName]]:
    """Split projects into parts whose pages have at most ``limit`` files together, or one project."""
    if len(names) < 2:
        return [list(names)] if names else []
    rows = await store.rows(
        "SELECT p.name, count(*) FROM project p JOIN entry e ON e.project = p.id AND e.valid_to IS NULL"
        f" WHERE p.name IN ({_marks(names)}) GROUP BY p.name",
        tuple(names),
    )
    counts: dict[str, int] = dict(rows)
    parts: list[list[ProjectName]] = [[]]
    entries = 0
    for name in names:
        entries += counts.get(name, 0)
        if entries > limit and parts[-1]:
            parts.append([])
            entries = counts.get(name, 0)
        parts[-1].append(name)
    return parts


async def load_pages(store: Store, names: Collection[ProjectName]) -> list[PageState]:
    """Return the state of some projects' pages, by name."""
    marks = _marks(names)
    pages = await store.rows(
        f"SELECT name, revision, published, marked FROM page WHERE name IN ({marks})", tuple(names)
    )
    metas: dict[str, ProjectMeta] = {}
    listed: set[str] = set()
    for row in await store.rows_as(
        _MetaColumns,
        "SELECT p.name, p.listed, p.status, p.status_reason, p.versions, p.extra, p.extra_meta,"
        " EXISTS (SELECT 1 FROM entry e WHERE e.project = p.id AND e.valid_to IS NULL) AS shows FROM project p"
        f" JOIN source s ON s.id = p.source WHERE p.name IN ({marks}) AND (p.listed = 1 OR shows)"
        " ORDER BY s.configured DESC, s.position, s.id",
        tuple(names),
    ):
        meta = meta_of(row)
        if row.name not in metas:
            metas[row.name] = meta
        # an index that adds nothing to the page, such as a former owner, doesn't change its
        # attributes
        elif row.shows:
            metas[row.name] = _joined_meta(metas[row.name], meta)
        if row.listed:
            listed.add(row.name)
    entries: dict[str, list[Entry]] = {}
    for one in await store.rows_as(
        _EntryColumns,
        f"SELECT p.name, e.filename, e.sha256, e.size,"
        f" CASE WHEN {offers_metadata('e')} THEN b.metadata_sha256 END AS metadata_sha256,"
        " e.requires_python, e.yanked, e.upload_time, e.provenance, e.extra"
        " FROM project p JOIN entry e ON e.project = p.id AND e.valid_to IS NULL"
        " JOIN blob b ON b.sha256 = e.sha256 AND b.filename = e.filename"
        f" WHERE p.name IN ({marks}) ORDER BY e.filename",
        tuple(names),
    ):
        entry = Entry(
            filename=one.filename,
            sha256=one.sha256,
            size=one.size,
            metadata_sha256=one.metadata_sha256,
            labels=_labels(one),
        )
        entries.setdefault(one.name, []).append(entry)
    return [
        PageState(
            view=ProjectView(
                name=ProjectName(name),
                meta=metas.get(name, ProjectMeta()),
                entries=tuple(entries.get(name, ())),
                serial=revision,
            ),
            is_published=bool(published),
            is_marked=bool(marked),
            stays=name in entries or (bool(published) and name in listed),
        )
        for name, revision, published, marked in pages
    ]


def _joined_meta(first: ProjectMeta, later: ProjectMeta) -> ProjectMeta:
    """Take status and keys from the first index; the versions are the union."""
    if later.versions is None or first.versions is None:
        return first if first.versions is not None or later.versions is None else _with_versions(first, later.versions)
    return _with_versions(first, (*first.versions, *(v for v in later.versions if v not in first.versions)))


def _with_versions(meta: ProjectMeta, versions: tuple[str, ...]) -> ProjectMeta:
    return msgspec.structs.replace(meta, versions=versions)


async def record_published(
    store: Store,
    pages: Collection[tuple[ProjectName, int]],
    gone: Collection[ProjectName],
    closings: Sequence[Closing],
    *,
    root_revision: int | None = None,
) -> None:
    """Clear the marks of pages that are on disk, drop those that left, and keep the validators, last.

    ``root_revision`` is the serial of a root page that was written with them.
    """
    if not pages and not gone and not closings and root_revision is None:
        return
    async with store.transaction() as tx:
        if root_revision is not None:
            await tx.execute(
                "INSERT OR REPLACE INTO meta (key, value) VALUES ('root_revision', ?)", (str(root_revision),)
            )
        await tx.executemany(
            "UPDATE page SET published = 1, marked = (revision != ?) WHERE name = ?", [(rev, n) for n, rev in pages]
        )
        await tx.executemany("DELETE FROM page WHERE name = ?", [(n,) for n in gone])
        await tx.executemany(
            "UPDATE project SET etag = ?, last_modified = ?, serial = ?, digest = ?, selection = ?,"
            " page_origin = ? WHERE id = ?",
            [(*validator_values(c.validators), c.selection, c.page_origin, c.project) for c in closings],
        )
        read = [(_encode_claims(c.claims), c.project) for c in closings if c.left_out is not None]
        await tx.executemany(_FORGET_OVERLAYS_OF_CLAIMS, [(project, claims, project) for claims, project in read])
        await tx.executemany("UPDATE project SET claims = ? WHERE id = ?", read)
        await enter_left_out(tx, {c.project: c.left_out for c in closings if c.left_out is not None})


def _encode_claims(claims: tuple[str, ...]) -> str | None:
    return msgspec.json.encode(claims).decode() if claims else None


async def record_unremoved(store: Store, names: Collection[ProjectName]) -> None:
    """Record that the root no longer lists some projects whose pages could not be removed; they
    stay marked.
    """
    if names:
        async with store.transaction() as tx:
            await tx.executemany("UPDATE page SET published = 0 WHERE name = ?", [(name,) for name in names])


async def load_published(store: Store) -> list[tuple[ProjectName, int]]:
    """Return every published project with the revision of its page, by name, for the root page."""
    return await store.rows("SELECT name, revision FROM page WHERE published = 1 ORDER BY name")


async def load_last_revision(store: Store) -> int:
    """Return the newest revision; 0 where there is none."""
    return int(await store.value("SELECT coalesce(max(id), 0) FROM revision"))


async def has_blobs(store: Store) -> bool:
    """Return whether any bytes are held."""
    return bool(await store.value("SELECT EXISTS (SELECT 1 FROM blob)"))


def _labels(row: _HeldColumns | _EntryColumns) -> Labels:
    return Labels(
        requires_python=row.requires_python,
        yanked=row.yanked,
        upload_time=row.upload_time,
        provenance=row.provenance,
        extra=row.extra,
    )


def _encode_digests(digests: Digests) -> str:
    return " ".join(f"{a}={d}" for a, d in digests)


def _decode_digests(text: str) -> Digests:
    return tuple((a, d) for a, _, d in (pair.partition("=") for pair in text.split()))


def _marks(values: Collection[object]) -> str:
    return ",".join("?" * len(values))


async def load_listed_filenames(store: Store, names: Collection[ProjectName]) -> set[tuple[str, str]]:
    """Return (project, filename) of all that the pages of some projects list."""
    found: set[tuple[str, str]] = set()
    for name in names:
        rows = await store.rows(
            "SELECT p.name, e.filename FROM project p JOIN entry e ON e.project = p.id AND e.valid_to IS NULL"
            " WHERE p.name = ?",
            (name,),
        )
        found.update((project, filename) for project, filename in rows)
    return found
