"""Withdrawn files, and the frozen states that still have them: by an index, or by an advisory.

A file counts as withdrawn while no page lists it: where the removal brake holds it back, it is
published still. Snapshots are never rewritten.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

import msgspec

from mirror.state.frozen.shipments import ShipmentRow, load_shipments
from mirror.state.frozen.snapshots import FrozenKind, SnapshotRow, load_snapshots
from mirror.state.rows import Columns
from mirror.state.store import Store

WITHDRAWN_PROJECT = "({0}.withdrawn IS NOT NULL OR {0}.status = 'quarantined')"
"""The condition for a project that its index has withdrawn; with the name of its table."""

_COLUMNS = "p.name AS project, e.filename, e.sha256, e.valid_from, e.valid_to"
_IS_GONE = (
    "e.valid_to IS NOT NULL AND NOT EXISTS (SELECT 1 FROM entry o WHERE o.sha256 = e.sha256"
    " AND o.filename = e.filename AND o.valid_to IS NULL)"
)
_BY_ADVISORY = (
    f"SELECT {_COLUMNS} FROM advised a JOIN project p ON p.id = a.project JOIN entry e"
    f" ON e.project = a.project AND e.filename = a.filename AND {_IS_GONE}"
    " WHERE a.kind = 'withdrawn'"
)
# By the name of the project: a withdrawal by the owner also withdraws the files of later indexes.
_BY_INDEX = (
    # CROSS: from the few withdrawn projects on, not from every closed row.
    f"SELECT {_COLUMNS} FROM project w CROSS JOIN source o ON o.id = w.source"
    " CROSS JOIN project p ON p.name = w.name CROSS JOIN source s ON s.id = p.source"
    f" AND o.position <= s.position CROSS JOIN entry e ON e.project = p.id AND {_IS_GONE}"
    f" WHERE {WITHDRAWN_PROJECT.format('w')}"
)


class WithdrawnFile(msgspec.Struct, frozen=True, kw_only=True):
    """A withdrawn file, and the places that still have it; names sorted."""

    project: str
    filename: str
    snapshots: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()


class _ClosedFile(Columns, frozen=True):
    project: str
    filename: str
    sha256: str
    valid_from: int
    valid_to: int


class _KeptFile(Columns, frozen=True):
    snapshot: str
    sha256: str
    filename: str


async def load_withdrawn(
    store: Store, sites: Mapping[str, Callable[[str], bool]] | None = None
) -> list[WithdrawnFile]:
    """Return the files that advisories have withdrawn, and those of indexes that a place still has.

    ``sites``: which projects a site gets; one that is not named gets all.
    """
    snapshots = [s for s in await load_snapshots(store, FrozenKind.SNAPSHOT) if s.ready]
    shipments = await load_shipments(store)
    advised = await store.rows_as(_ClosedFile, _BY_ADVISORY)
    by_index = await store.rows_as(_ClosedFile, _BY_INDEX) if snapshots or shipments else []
    kept = await _load_kept(store) if advised or by_index else {}
    always = {(one.project, one.filename) for one in advised}
    places: dict[tuple[str, str], tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    revisions = _revisions_of_sites(shipments)
    for one in (*advised, *by_index):
        in_snapshots, in_sites = places[one.project, one.filename]
        in_snapshots.update(_snapshots_with(one, snapshots))
        in_snapshots.update(kept.get((one.sha256, one.filename), ()))
        in_sites.update(
            site
            for site, of in revisions.items()
            if any(one.valid_from <= revision < one.valid_to for revision in of)
            and (sites is None or site not in sites or sites[site](one.project))
        )
    return [
        WithdrawnFile(
            project=project,
            filename=filename,
            snapshots=tuple(sorted(in_snapshots)),
            sites=tuple(sorted(in_sites)),
        )
        for (project, filename), (in_snapshots, in_sites) in sorted(places.items())
        if in_snapshots or in_sites or (project, filename) in always
    ]


async def load_withdrawn_of(store: Store, snapshot: SnapshotRow) -> list[str]:
    """Return the withdrawn files that a frozen state still has, sorted."""
    closed = [
        *await store.rows_as(_ClosedFile, _BY_ADVISORY),
        *await store.rows_as(_ClosedFile, _BY_INDEX),
    ]
    if not snapshot.rebuilt:
        revision = snapshot.revision
        return sorted({f.filename for f in closed if f.valid_from <= revision < f.valid_to})
    kept = await _load_kept(store) if closed else {}
    names = (f.filename for f in closed if snapshot.name in kept.get((f.sha256, f.filename), ()))
    return sorted(set(names))


async def load_withdrawn_blobs(store: Store) -> set[tuple[str, str]]:
    """Return (sha256, filename) of all withdrawn files whose rows are known."""
    closed = [
        *await store.rows_as(_ClosedFile, _BY_ADVISORY),
        *await store.rows_as(_ClosedFile, _BY_INDEX),
    ]
    return {(one.sha256, one.filename) for one in closed}


def _snapshots_with(file: _ClosedFile, snapshots: Iterable[SnapshotRow]) -> Iterable[str]:
    return (
        one.name
        for one in snapshots
        if not one.rebuilt and file.valid_from <= one.revision < file.valid_to
    )


def _revisions_of_sites(shipments: Iterable[ShipmentRow]) -> dict[str, list[int]]:
    """Return the states that each site may have: the last that it acknowledged, and all later
    ones.
    """
    found: dict[str, list[int]] = defaultdict(list)
    for row in shipments:  # by sequence
        if row.acknowledged_at is not None:
            found[row.site].clear()
        found[row.site].append(row.revision)
    return found


async def _load_kept(store: Store) -> dict[tuple[str, str], set[str]]:
    """Return the files of snapshots whose history is lost, each with the snapshots that have it."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in await store.rows_as(
        _KeptFile,
        "SELECT s.name AS snapshot, k.sha256, k.filename FROM kept_blob k"
        " JOIN snapshot s ON s.id = k.snapshot WHERE s.kind = 'snapshot' AND s.ready = 1",
    ):
        found[row.sha256, row.filename].add(row.snapshot)
    return found
