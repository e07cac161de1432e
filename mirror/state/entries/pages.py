"""The pages: their content, and the marks of those that are older than the state.

A page shows the open rows of its project's name, so it can be rendered again from the state alone,
also after a kill.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import msgspec

from mirror.core.model import Entry, Labels, ProjectMeta, ProjectView, Validators
from mirror.core.names import ProjectName, Sha256
from mirror.state.entries.claims import FORGET_OVERLAYS_OF_CLAIMS, encode_claims
from mirror.state.entries.labels import label_columns
from mirror.state.entries.offered import offers_metadata
from mirror.state.listing.columns import META_COLUMNS, validator_values
from mirror.state.missing.deferred import DeferredFile, enter_deferred
from mirror.state.missing.left_out import LeftOutRows, enter_left_out
from mirror.state.parameters import marks
from mirror.state.rows import Columns
from mirror.state.store import Store, Transaction


class PageSeen(msgspec.Struct, frozen=True, kw_only=True):
    """The values recorded for a project of an index once every change that its page asked for is
    done.
    """

    project: int
    validators: Validators
    selection: str
    page_origin: str | None = None
    """The origin of the page; None for the index's own origin."""
    left_out: LeftOutRows | None = None
    """The listed files that are not wanted; None: as before, since the page was confirmed
    unchanged.
    """
    claims: tuple[str, ...] | None = None
    """None: as before."""
    source: int = 0
    """The index; needed for ``deferred``."""
    deferred: tuple[DeferredFile, ...] | None = None
    """The files to judge again later; None: as before."""


async def mark_pages(tx: Transaction, names: Iterable[ProjectName], revision: int) -> None:
    """Mark these pages as older than the state."""
    await tx.executemany(
        "INSERT INTO page (name, revision, marked) VALUES (?, ?, 1)"
        " ON CONFLICT (name) DO UPDATE SET revision = excluded.revision, marked = 1",
        [(name, revision) for name in set(names)],
    )


async def load_marked(store: Store, after: str, limit: int = 500) -> list[ProjectName]:
    """Return some names of marked pages, in order."""
    return await store.values(
        "SELECT name FROM page WHERE marked = 1 AND name > ? ORDER BY name LIMIT ?", (after, limit)
    )


async def mark_all_pages(store: Store, *, cycle: int, now: float, renderer: int) -> None:
    """Mark every page: the renderer has changed since they were written."""
    async with store.transaction() as tx:
        if await tx.execute("UPDATE page SET marked = 1"):
            revision = await tx.revision(cycle, now)
            await tx.execute("UPDATE page SET revision = ?", (revision,))
        await tx.execute(
            "INSERT OR REPLACE INTO meta (key, value) VALUES ('renderer', ?)", (str(renderer),)
        )


class _PageColumns(Columns, frozen=True):
    name: ProjectName
    revision: int
    published: bool
    marked: bool


class _MetaColumns(Columns, frozen=True):
    name: str
    listed: bool
    shows: bool
    meta: ProjectMeta


class _EntryColumns(Columns, frozen=True):
    name: str
    filename: str
    sha256: Sha256
    size: int
    metadata_sha256: Sha256 | None
    labels: Labels


class PageState(msgspec.Struct, frozen=True, kw_only=True):
    """A marked page: the view that it has to show, whether it exists and whether it should."""

    view: ProjectView
    is_published: bool
    is_marked: bool
    stays: bool
    """A project without an entry keeps its page while an index lists it; one that never had a page
    gets none.
    """


async def split_by_entries(
    store: Store, names: Collection[ProjectName], *, limit: int
) -> list[list[ProjectName]]:
    """Split projects into parts whose pages have at most ``limit`` files together, or one
    project.
    """
    if len(names) < 2:
        return [list(names)] if names else []
    counts = await store.mapping(
        "SELECT p.name, count(*) FROM project p JOIN entry e ON e.project = p.id"
        " AND e.valid_to IS NULL"
        f" WHERE p.name IN ({marks(names)}) GROUP BY p.name",
        tuple(names),
    )
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
    given = marks(names)
    pages = await store.rows_as(
        _PageColumns,
        f"SELECT name, revision, published, marked FROM page WHERE name IN ({given})",
        tuple(names),
    )
    metas: dict[str, ProjectMeta] = {}
    listed: set[str] = set()
    for row in await store.rows_as(
        _MetaColumns,
        f"SELECT p.name, p.listed, {META_COLUMNS},"
        " EXISTS (SELECT 1 FROM entry e WHERE e.project = p.id AND e.valid_to IS NULL) AS shows"
        " FROM project p"
        f" JOIN source s ON s.id = p.source WHERE p.name IN ({given}) AND (p.listed = 1 OR shows)"
        " ORDER BY s.configured DESC, s.position, s.id",
        tuple(names),
    ):
        if row.name not in metas:
            metas[row.name] = row.meta
        # an index that adds nothing to the page, such as a former owner, doesn't change its
        # attributes
        elif row.shows:
            metas[row.name] = _joined_meta(metas[row.name], row.meta)
        if row.listed:
            listed.add(row.name)
    entries: dict[str, list[Entry]] = {}
    for one in await store.rows_as(
        _EntryColumns,
        f"SELECT p.name, e.filename, e.sha256, e.size,"
        f" CASE WHEN {offers_metadata('e')} THEN b.metadata_sha256 END AS metadata_sha256,"
        f" {label_columns('e')}"
        " FROM project p JOIN entry e ON e.project = p.id AND e.valid_to IS NULL"
        " JOIN blob b ON b.sha256 = e.sha256 AND b.filename = e.filename"
        f" WHERE p.name IN ({given}) ORDER BY e.filename",
        tuple(names),
    ):
        entry = Entry(
            filename=one.filename,
            sha256=one.sha256,
            size=one.size,
            metadata_sha256=one.metadata_sha256,
            labels=one.labels,
        )
        entries.setdefault(one.name, []).append(entry)
    return [
        PageState(
            view=ProjectView(
                name=page.name,
                meta=metas.get(page.name, ProjectMeta()),
                entries=tuple(entries.get(page.name, ())),
                serial=page.revision,
            ),
            is_published=page.published,
            is_marked=page.marked,
            stays=page.name in entries or (page.published and page.name in listed),
        )
        for page in pages
    ]


def _joined_meta(first: ProjectMeta, later: ProjectMeta) -> ProjectMeta:
    """Take status and keys from the first index; the versions are the union."""
    if later.versions is None or first.versions is None:
        return (
            first
            if first.versions is not None or later.versions is None
            else _with_versions(first, later.versions)
        )
    return _with_versions(
        first, (*first.versions, *(v for v in later.versions if v not in first.versions))
    )


def _with_versions(meta: ProjectMeta, versions: tuple[str, ...]) -> ProjectMeta:
    return msgspec.structs.replace(meta, versions=versions)


async def record_published(
    store: Store,
    pages: Collection[tuple[ProjectName, int]],
    gone: Collection[ProjectName],
    pages_seen: Sequence[PageSeen],
    *,
    root_revision: int | None = None,
) -> None:
    """Clear the marks of pages that are on disk, drop those that left, and keep the validators,
    last.

    ``root_revision`` is the serial of a root page that was written with them.
    """
    if not pages and not gone and not pages_seen and root_revision is None:
        return
    async with store.transaction() as tx:
        if root_revision is not None:
            await tx.execute(
                "INSERT OR REPLACE INTO meta (key, value) VALUES ('root_revision', ?)",
                (str(root_revision),),
            )
        await tx.executemany(
            "UPDATE page SET published = 1, marked = (revision != ?) WHERE name = ?",
            [(rev, n) for n, rev in pages],
        )
        await tx.executemany("DELETE FROM page WHERE name = ?", [(n,) for n in gone])
        await tx.executemany(
            "UPDATE project SET etag = ?, last_modified = ?, serial = ?, digest = ?, selection = ?,"
            " page_origin = ? WHERE id = ?",
            [
                (*validator_values(c.validators), c.selection, c.page_origin, c.project)
                for c in pages_seen
            ],
        )
        read = [(encode_claims(c.claims), c.project) for c in pages_seen if c.claims is not None]
        await tx.executemany(
            FORGET_OVERLAYS_OF_CLAIMS, [(project, claims, project) for claims, project in read]
        )
        await tx.executemany("UPDATE project SET claims = ? WHERE id = ?", read)
        await enter_left_out(
            tx, {c.project: c.left_out for c in pages_seen if c.left_out is not None}
        )
        await enter_deferred(
            tx, {c.project: (c.source, c.deferred) for c in pages_seen if c.deferred is not None}
        )


async def record_unremoved(store: Store, names: Collection[ProjectName]) -> None:
    """Record that the root no longer lists some projects whose pages could not be removed; they
    stay marked.
    """
    if names:
        async with store.transaction() as tx:
            await tx.executemany(
                "UPDATE page SET published = 0 WHERE name = ?", [(name,) for name in names]
            )


async def load_published(store: Store) -> list[tuple[ProjectName, int]]:
    """Return every published project with the revision of its page, by name, for the root page."""
    query = "SELECT name, revision FROM page WHERE published = 1 ORDER BY name"
    return list((await store.mapping(query)).items())


async def load_last_revision(store: Store) -> int:
    """Return the newest revision; 0 where there is none."""
    return int(await store.value("SELECT coalesce(max(id), 0) FROM revision"))


class Revisions(Columns, frozen=True):
    """The newest revision, and that of the root page that was written last; 0 where there is
    none.
    """

    newest: int
    written: int


async def load_revisions(store: Store) -> Revisions:
    """Return how far the root page is behind the state."""
    return await store.only(
        Revisions,
        "SELECT coalesce(max(id), 0) AS newest, coalesce((SELECT CAST(value AS INTEGER) FROM meta"
        " WHERE key = 'root_revision'), 0) AS written FROM revision",
    )
