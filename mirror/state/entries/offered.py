"""Sidecars of files that are no wheels, and the project whose page offers each of them.

A wheel's metadata is in its own bytes. For another file the metadata is the index's claim: it
belongs to the project of the index that listed it first, no other page offers it, and it is never
exchanged for another. The tree has one place for it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from mirror.core.names import Sha256
from mirror.state.parameters import chunks, marks
from mirror.state.rows import Columns
from mirror.state.store import Store, Transaction


class Offered(msgspec.Struct, frozen=True, kw_only=True):
    """Metadata that a page offers for a file that is not a wheel."""

    sha256: Sha256
    filename: str
    project: int
    metadata_sha256: Sha256


class BlobKey(Columns, frozen=True):
    """A blob."""

    sha256: Sha256
    filename: str


class KnownMetadata(Columns, frozen=True):
    """A blob, and the digest of its metadata or None."""

    sha256: str
    filename: str
    metadata_sha256: Sha256 | None


def offers_metadata(entry: str) -> str:
    """Return the condition under which the page of an ``entry`` row offers the metadata of the blob
    ``b``.
    """
    return f"(substr({entry}.filename, -4) = '.whl' OR b.metadata_project = {entry}.project)"


def first_metadata(row: str) -> str:
    """Return an SQL expression for the metadata published first for a row's file; null for a
    wheel.
    """
    return (
        f"CASE WHEN substr({row}.filename, -4) != '.whl' THEN (SELECT f.metadata_sha256"
        f" FROM first_metadata f"
        f" WHERE f.sha256 = {row}.sha256 AND f.filename = {row}.filename) END"
    )


async def enter_offered(tx: Transaction, offered: Sequence[Offered]) -> None:
    """Record metadata that is stored with its blob and may be offered (``load_first``)."""
    await tx.executemany(
        "INSERT OR IGNORE INTO first_metadata (sha256, filename, metadata_sha256) VALUES (?, ?, ?)",
        [(o.sha256, o.filename, o.metadata_sha256) for o in offered],
    )
    await tx.executemany(
        "UPDATE blob SET metadata_sha256 = ?, metadata_project = ? WHERE sha256 = ?"
        " AND filename = ?",
        [(o.metadata_sha256, o.project, o.sha256, o.filename) for o in offered],
    )
    await tx.executemany(
        "DELETE FROM dropped_metadata WHERE sha256 = ? AND filename = ?",
        [(o.sha256, o.filename) for o in offered],
    )


class _FirstMetadata(Columns, frozen=True):
    sha256: str
    filename: str
    metadata_sha256: str


async def load_first(
    store: Store, blobs: Collection[tuple[Sha256, str]]
) -> dict[tuple[str, str], str]:
    """Return the metadata published first for each (sha256, filename) that has any."""
    found: dict[tuple[str, str], str] = {}
    digests = sorted({sha256 for sha256, _ in blobs})
    for chunk in chunks(digests):
        rows = await store.rows_as(
            _FirstMetadata,
            "SELECT sha256, filename, metadata_sha256 FROM first_metadata"
            f" WHERE sha256 IN ({marks(chunk)})",
            chunk,
        )
        found |= {(row.sha256, row.filename): row.metadata_sha256 for row in rows}
    return found
