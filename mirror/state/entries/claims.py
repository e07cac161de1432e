"""The filenames of a project that belong to earlier indexes: an overlay never publishes them."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from mirror.core.names import ProjectName
from mirror.state.listing.columns import FORGET_VALIDATORS
from mirror.state.rows import Columns
from mirror.state.store import Store, Transaction

FORGET_OVERLAYS_OF_CLAIMS = (
    f"{FORGET_VALIDATORS}"
    " name = (SELECT name FROM project WHERE id = ? AND claims IS NOT ?)"
    " AND source IN (SELECT later.id FROM project p"
    " JOIN source mine ON mine.id = p.source JOIN source later ON later.position > mine.position"
    " WHERE p.id = ?)"
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
    """Return which filenames of a project belong to earlier indexes, and whether one of them
    withdrew the project.
    """
    names: set[str] = set()
    owners: set[str] = set()
    withdrawn, complete = False, True
    for row in await store.rows_as(
        _OwnerColumns,
        "SELECT p.id, p.source, p.claims, p.withdrawn IS NOT NULL OR p.status = 'quarantined' AS"
        " is_withdrawn,"
        " p.selection IS NOT NULL AS was_read, s.name AS index_name"
        " FROM project p"
        " JOIN source s ON s.id = p.source"
        " WHERE p.name = ? AND s.configured = 1 AND s.position < ? AND p.listed = 1"
        " AND p.wanted = 1",
        (name, position),
    ):
        names.update(row.claims or ())
        owners.add(row.index_name)
        withdrawn = withdrawn or row.is_withdrawn
        complete = complete and (row.is_withdrawn or row.was_read)
        held = await store.values(
            "SELECT filename FROM entry WHERE project = ? AND valid_to IS NULL", (row.id,)
        )
        failed = await store.values(
            "SELECT filename FROM failure WHERE source = ? AND project = ?", (row.source, name)
        )
        names.update(held)
        names.update(filename for filename in failed if filename)
    return OwnerClaims(
        names=frozenset(names),
        owners=frozenset(owners),
        is_withdrawn=withdrawn,
        is_complete=complete,
    )


async def forget_later_indexes(
    tx: Transaction, projects: Iterable[tuple[ProjectName, int]]
) -> None:
    """Make the indexes after this one judge their pages again, since an owner's listing changed.

    Pairs of (name, source).
    """
    await tx.executemany(
        f"{FORGET_VALIDATORS} name = ? AND source IN"
        " (SELECT later.id FROM source later JOIN source mine ON mine.id = ?"
        " WHERE later.position > mine.position)",
        projects,
    )


def encode_claims(claims: tuple[str, ...]) -> str | None:
    """Return claims as the text of their column."""
    return msgspec.json.encode(claims).decode() if claims else None
