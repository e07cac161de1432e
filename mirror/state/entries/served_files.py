"""The files of projects that a server gives out: published now, or held for old locks.

Reading only. A blob whose only entries were withdrawn is not among them.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from mirror.state.parameters import chunks, marks
from mirror.state.rows import Columns
from mirror.state.store import Store


class ServedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A held file under one of its names."""

    project: str
    filename: str
    sha256: str
    size: int
    index: str | None = None
    """The index that it came from; None where only the tree knows it."""
    is_published: bool = True
    """Whether a page lists it now."""
    upload_time: str | None = None
    requires_python: str | None = None


class _BlobColumns(Columns, frozen=True):
    sha256: str
    filename: str
    size: int


async def load_served_files(store: Store, projects: Collection[str]) -> list[ServedFile]:
    """Return the held files of some projects: published ones first, of earlier indexes first."""
    found: list[ServedFile] = []
    for chunk in chunks(tuple(dict.fromkeys(projects))):
        found += await store.rows_as(
            ServedFile,
            'SELECT p.name AS project, e.filename, e.sha256, b.size, s.name AS "index",'
            " e.valid_to IS NULL AS is_published, e.upload_time, e.requires_python"
            " FROM project p JOIN source s ON s.id = p.source JOIN entry e ON e.project = p.id"
            " JOIN blob b ON b.sha256 = e.sha256 AND b.filename = e.filename"
            f" WHERE p.name IN ({marks(chunk)}) AND (e.valid_to IS NULL OR NOT EXISTS ("
            "  SELECT 1 FROM project w JOIN source o ON o.id = w.source"
            "  WHERE w.name = p.name AND o.position <= s.position"
            "  AND (w.withdrawn IS NOT NULL OR w.status = 'quarantined'))"
            " AND NOT EXISTS (SELECT 1 FROM advised a WHERE a.project = p.id"
            "  AND a.filename = e.filename AND a.kind = 'withdrawn'))"
            " ORDER BY p.name, e.valid_to IS NOT NULL, s.position, e.id DESC",
            chunk,
        )
    return found


async def load_blobs_without_entries(
    store: Store, digests: Collection[str]
) -> dict[str, list[tuple[str, int]]]:
    """Return the blobs of some sha256 that no entry names any more: sha256 -> names and sizes."""
    found: dict[str, list[tuple[str, int]]] = {}
    for chunk in chunks(tuple(dict.fromkeys(digests))):
        rows = await store.rows_as(
            _BlobColumns,
            f"SELECT sha256, filename, size FROM blob WHERE sha256 IN ({marks(chunk)})"
            " AND NOT EXISTS (SELECT 1 FROM entry e WHERE e.sha256 = blob.sha256"
            " AND e.filename = blob.filename AND e.valid_to IS NULL)"
            " AND NOT EXISTS (SELECT 1 FROM entry e WHERE e.sha256 = blob.sha256"
            " AND e.filename = blob.filename AND e.valid_to IS NOT NULL)",
            chunk,
        )
        for row in rows:
            found.setdefault(row.sha256, []).append((row.filename, row.size))
    return found
