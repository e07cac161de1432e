"""The files that the pages publish now, and the blobs behind them. Reading only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable

import msgspec

from mirror.core.diff import HeldFile
from mirror.core.model import Labels
from mirror.core.names import ProjectName, Sha256
from mirror.state.entries.labels import decode_digests, label_columns
from mirror.state.entries.offered import first_metadata, offers_metadata
from mirror.state.parameters import chunks, marks
from mirror.state.rows import Columns
from mirror.state.store import Store


class _HeldColumns(Columns, frozen=True):
    project: int
    id: int
    filename: str
    sha256: Sha256
    size: int
    digests: str
    url: str
    absent_since: int | None
    refused: str | None
    source: int
    has_metadata: int
    first_metadata: str | None
    labels: Labels


async def load_held(store: Store, projects: Collection[int]) -> dict[int, dict[str, HeldFile]]:
    """Return the open entries of some projects: project id -> filename -> entry."""
    found: dict[int, dict[str, HeldFile]] = {p: {} for p in projects}
    for row in await store.rows_as(
        _HeldColumns,
        "SELECT project, id, filename, sha256, size, digests, url, absent_since, refused, source,"
        " EXISTS (SELECT 1 FROM blob b WHERE b.sha256 = entry.sha256"
        f" AND b.filename = entry.filename AND b.metadata_sha256 IS NOT NULL"
        f" AND {offers_metadata('entry')})"
        f" AS has_metadata, {first_metadata('entry')} AS first_metadata, {label_columns()}"
        f" FROM entry WHERE valid_to IS NULL AND project IN ({marks(projects)})",
        tuple(projects),
    ):
        found[row.project][row.filename] = HeldFile(
            id=row.id,
            filename=row.filename,
            sha256=row.sha256,
            size=row.size,
            digests=decode_digests(row.digests),
            url=store.links_of(row.source).whole(row.url),
            labels=row.labels,
            absent_since=row.absent_since,
            refused=decode_digests(row.refused) if row.refused else (),
            has_metadata=bool(row.has_metadata),
            first_metadata=row.first_metadata,
        )
    return found


class OpenFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that a page lists, and for which index."""

    id: int
    """Of its entry."""
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
        files = await store.rows_as(
            OpenFile,
            'SELECT e.id, p.id AS project, e.source, s.name AS "index", p.name, e.filename,'
            " e.sha256, e.size"
            " FROM entry e"
            " JOIN project p ON p.id = e.project JOIN source s ON s.id = e.source"
            " WHERE e.valid_to IS NULL AND e.id > ? ORDER BY e.id LIMIT 5000",
            (after,),
        )
        if not files:
            return
        for file in files:
            yield file
        after = files[-1].id


class HeldBlob(msgspec.Struct, frozen=True, kw_only=True):
    """A blob in the tree, for any index."""

    sha256: Sha256
    filename: str
    size: int
    metadata_sha256: Sha256 | None
    """Digest of its sidecar."""
    first_metadata: str | None
    """The only metadata that may be offered for it, where it is not a wheel; None: none was
    published yet.
    """


async def load_blobs(
    store: Store, wanted: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], HeldBlob]:
    """Return the held ones of some (sha256, filename) pairs; unsure ones are not held
    (``blobs.durability``).
    """
    pairs = set(wanted)
    digests = sorted({sha256 for sha256, _ in pairs})
    found = {}
    for chunk in chunks(digests):
        for blob in await store.rows_as(
            HeldBlob,
            f"SELECT sha256, filename, size, metadata_sha256, {first_metadata('blob')} AS"
            f" first_metadata FROM blob"
            f" WHERE sha256 IN ({marks(chunk)}) AND verified >= 0",
            chunk,
        ):
            if (blob.sha256, blob.filename) in pairs:
                found[(str(blob.sha256), blob.filename)] = blob
    return found


async def has_blobs(store: Store) -> bool:
    """Return whether any bytes are held."""
    return bool(await store.value("SELECT EXISTS (SELECT 1 FROM blob)"))


async def load_listed_filenames(
    store: Store, names: Collection[ProjectName]
) -> set[tuple[str, str]]:
    """Return (project, filename) of all that the pages of some projects list."""
    found: set[tuple[str, str]] = set()
    for name in names:
        filenames = await store.values(
            "SELECT e.filename FROM project p JOIN entry e ON e.project = p.id"
            " AND e.valid_to IS NULL"
            " WHERE p.name = ?",
            (name,),
        )
        found.update((name, filename) for filename in filenames)
    return found
