"""The parts of an older state that an upgrade adapts to this version's rules: metadata, and the
pages of frozen states.

An older state knows the metadata stored with a file, but not which index listed it for which
project. The metadata is kept only where the file's own project in one index is the only possible
origin; otherwise it is dropped, and fetched again once the owner's page lists it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from mirror.core.files.distributions import is_wheel, sdist_project
from mirror.core.names import ProjectName, Sha256
from mirror.core.pages.render_pages import RENDERER
from mirror.state.entries.offered import BlobKey, KnownMetadata, Offered, enter_offered
from mirror.state.frozen.snapshots import FrozenKind
from mirror.state.listing.columns import FORGET_VALIDATORS
from mirror.state.listing.sources import UNCLAIMED
from mirror.state.parameters import chunks, marks
from mirror.state.rows import Columns
from mirror.state.store import Store, Transaction

_CHUNK = 500
_DONE = "metadata_rules"


async def record_metadata_settled(store: Store) -> None:
    """Record that a state is new: nothing in it is older than the rules."""
    async with store.transaction() as tx:
        await _enter_done(tx)


async def settle_metadata(store: Store) -> int:
    """Judge the metadata that an older version recorded, once; return how many files lose their
    metadata.

    Pages must be written again after it, and those of snapshots, before the metadata of
    ``load_dropped`` leaves the disk.
    """
    if await store.values("SELECT 1 FROM meta WHERE key = ?", (_DONE,)):
        return 0
    stays: list[Offered] = []
    drops: list[_Old] = []
    strays: list[tuple[Sha256, str]] = []
    """Files that may have a sidecar unknown to the state: an older version let two projects write
    it.
    """
    after: tuple[str, str] = ("", "")
    while True:
        old = await store.rows_as(
            _Old,
            "SELECT sha256, filename, metadata_sha256, metadata_revision AS since FROM blob"
            f" WHERE substr(filename, -4) != '.whl' AND (sha256, filename) > (?, ?)"
            f" ORDER BY sha256, filename LIMIT {_CHUNK}",
            after,
        )
        if not old:
            break
        after = (old[-1].sha256, old[-1].filename)
        owners = await _load_owners(store, [o.sha256 for o in old])
        for item in old:
            project = _only_owner(owners.get((item.sha256, item.filename), []), item.filename)
            if item.metadata_sha256 is None:
                if project is None:
                    strays.append((item.sha256, item.filename))
            elif project is None:
                drops.append(item)
            else:
                offered = Offered(
                    sha256=item.sha256,
                    filename=item.filename,
                    project=project,
                    metadata_sha256=item.metadata_sha256,
                )
                stays.append(offered)
    last_sent = await store.value("SELECT coalesce(max(revision), -1) FROM shipment")
    async with store.transaction() as tx:
        await enter_offered(tx, stays)
        await _drop(tx, drops, last_sent)
        await tx.executemany(
            "INSERT OR IGNORE INTO dropped_metadata (sha256, filename) VALUES (?, ?)", strays
        )
        await _enter_done(tx)
    return len(drops)


class _Old(msgspec.Struct, frozen=True, kw_only=True):
    """Metadata of a blob that is not a wheel, as an older version recorded it."""

    sha256: Sha256
    filename: str
    metadata_sha256: Sha256 | None
    since: int
    """The revision at which it was recorded."""


class _Owner(msgspec.Struct, frozen=True, kw_only=True):
    """A project of an index whose page lists a blob, or once did."""

    project: int
    name: str
    is_known: bool
    """Which index it is of is known, and all that its pages ever listed."""


class _OldOwner(Columns, frozen=True):
    sha256: str
    filename: str
    project: int
    name: str
    index_name: str


async def _load_owners(
    store: Store, digests: Sequence[Sha256]
) -> dict[tuple[str, str], list[_Owner]]:
    given = marks(digests)
    is_pruned = await store.value("SELECT EXISTS (SELECT 1 FROM meta WHERE key = 'history_from')")
    owner = (
        "SELECT e.sha256, e.filename, p.id AS project, p.name, s.name AS index_name FROM entry e"
        " JOIN project p ON p.id = e.project"
        f" JOIN source s ON s.id = p.source WHERE e.sha256 IN ({given})"
    )
    found: dict[tuple[str, str], list[_Owner]] = {}
    # In parts, since each has an index of its own. A rebuilt snapshot's files have no known index.
    for row in await store.rows_as(
        _OldOwner,
        f"{owner} AND e.valid_to IS NULL UNION {owner} AND e.valid_to IS NOT NULL"
        f" UNION SELECT sha256, filename, 0, '', ? FROM kept_blob WHERE sha256 IN ({given})",
        (*digests, *digests, UNCLAIMED, *digests),
    ):
        is_known = row.index_name != UNCLAIMED and not is_pruned
        found.setdefault((row.sha256, row.filename), []).append(
            _Owner(project=row.project, name=row.name, is_known=is_known)
        )
    return found


def _only_owner(owners: Sequence[_Owner], filename: str) -> int | None:
    """Return the project that alone can have brought a file's metadata, and may offer it."""
    if len(owners) != 1 or not owners[0].is_known or sdist_project(filename) != owners[0].name:
        return None
    return owners[0].project


async def _drop(tx: Transaction, drops: Sequence[_Old], last_sent: int) -> None:
    same = [(o.sha256, o.filename) for o in drops]
    await tx.executemany(
        "UPDATE blob SET metadata_sha256 = NULL, metadata_project = NULL WHERE sha256 = ?"
        " AND filename = ?",
        same,
    )
    await tx.executemany(
        "INSERT OR IGNORE INTO dropped_metadata (sha256, filename) VALUES (?, ?)", same
    )
    # A site may have received this metadata, so only the same metadata may be offered again, no
    # second one.
    sent = [
        (o.sha256, o.filename, o.metadata_sha256 if o.since <= last_sent else "") for o in drops
    ]
    await tx.executemany(
        "INSERT OR IGNORE INTO first_metadata (sha256, filename, metadata_sha256) SELECT ?1, ?2, ?3"
        " WHERE ?3 != '' OR EXISTS (SELECT 1 FROM entry JOIN shipment"
        " ON shipment.revision >= entry.valid_from"
        " WHERE entry.sha256 = ?1 AND entry.filename = ?2)",
        sent,
    )
    names = {name for o in drops if (name := sdist_project(o.filename)) is not None}
    await tx.executemany(f"{FORGET_VALIDATORS} name = ?", [(name,) for name in sorted(names)])


async def _enter_done(tx: Transaction) -> None:
    await tx.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, '1')", (_DONE,))


async def load_outdated_snapshots(store: Store) -> list[str]:
    """Return the snapshots whose pages another version of the renderer wrote, by name."""
    return await store.values(
        "SELECT name FROM snapshot WHERE kind = ? AND ready = 1 AND renderer != ? ORDER BY name",
        (FrozenKind.SNAPSHOT.value, RENDERER),
    )


async def record_snapshots_renewed(store: Store, names: Collection[str]) -> None:
    """Record that the pages of these snapshots are written again."""
    async with store.transaction() as tx:
        await tx.executemany(
            "UPDATE snapshot SET renderer = ? WHERE kind = ? AND name = ?",
            [(RENDERER, FrozenKind.SNAPSHOT.value, name) for name in names],
        )


async def load_offerable(
    store: Store, blobs: Collection[tuple[str, str]]
) -> dict[tuple[str, str], Sha256 | None]:
    """Return the recorded metadata of those (sha256, filename) that are known; None: no sidecar."""
    found: dict[tuple[str, str], Sha256 | None] = {}
    for chunk in chunks(sorted({sha256 for sha256, _ in blobs})):
        rows = await store.rows_as(
            KnownMetadata,
            f"SELECT sha256, filename, metadata_sha256 FROM blob WHERE sha256 IN ({marks(chunk)})",
            chunk,
        )
        found |= {(row.sha256, row.filename): row.metadata_sha256 for row in rows}
    return found


def may_offer_in(project: ProjectName, filename: str) -> bool:
    """Return whether the page of a frozen state may offer a file's metadata, if it is the stored
    sidecar.
    """
    return is_wheel(filename) or sdist_project(filename) == project


async def record_dropped(store: Store, dropped: Collection[tuple[Sha256, str]]) -> None:
    """Record metadata on the disk that no page may offer."""
    async with store.transaction() as tx:
        await tx.executemany(
            "INSERT OR IGNORE INTO dropped_metadata (sha256, filename) VALUES (?, ?)", dropped
        )


async def load_dropped(store: Store) -> list[tuple[Sha256, str]]:
    """Return the (sha256, filename) whose metadata no page names, so that it has to leave the
    disk.
    """
    rows = await store.rows_as(
        BlobKey,
        "SELECT d.sha256, d.filename FROM dropped_metadata d LEFT JOIN blob b"
        " ON b.sha256 = d.sha256"
        " AND b.filename = d.filename WHERE b.metadata_sha256 IS NULL",
    )
    return [(row.sha256, row.filename) for row in rows]


async def record_dropped_gone(store: Store, gone: Collection[tuple[Sha256, str]]) -> None:
    """Record that this metadata has left the disk."""
    async with store.transaction() as tx:
        await tx.executemany("DELETE FROM dropped_metadata WHERE sha256 = ? AND filename = ?", gone)
