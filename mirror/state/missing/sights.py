"""When each digest of a file was seen first, and the names under which files were ever published.

``first_sight`` counts where an index lists no upload time, and for every name under which a file
was published. A row is never older than a cycle that began before it: while the machine's clock
stands behind that time, ``clock_at`` counts, the time by that clock. So neither a clock that was
ahead nor one that falls behind and comes back shortens a cooldown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from mirror.core.model import Labels, ListedFile
from mirror.core.rules.judge import Sight, sight_of
from mirror.state.entries.labels import decode_digests
from mirror.state.rows import Columns
from mirror.state.store import Store, Transaction

MAX_SIGHTS = 1000
"""Maximum number of first sights that are kept of a project's files that are listed no more."""

_OF_ALL_INDEXES = (
    "project IN (SELECT o.id FROM project p JOIN project o ON o.name = p.name"
    " WHERE p.id = :project)"
)
"""The condition for rows about a project of the same name of any index."""
_OF_OTHER_INDEXES = _OF_ALL_INDEXES.removesuffix(")") + " AND o.id != p.id)"
"""The condition for rows about a project of the same name of another index."""
_PUBLISHED = (
    "SELECT e.filename, e.sha256, e.digests, e.size, e.upload_time, r.at AS seen_at,"
    " e.project = :project AS is_own FROM entry e"
)
_REVISION = "JOIN revision r ON r.id = e.valid_from"


_LATEST_BEFORE = "SELECT max(started_at) FROM cycle WHERE id < (SELECT max(id) FROM cycle)"
"""When the latest cycle before this one began, by the clock."""


class ProjectSights(msgspec.Struct, frozen=True, kw_only=True):
    """First sights of the files of one project of one index."""

    project: int
    seen: Mapping[Sight, float]
    listed: Sequence[Sight] = ()
    """All that the page lists now; empty where it was not read."""


class KnownSights(msgspec.Struct, frozen=True, kw_only=True):
    """The state's facts about first sights of the files of one project of one index."""

    seen: Mapping[Sight, float]
    """When each digest was seen first, as an index lists it or as it was published."""
    published: frozenset[str]
    """Names under which this index's files were published and no longer are."""
    elsewhere: Mapping[str, frozenset[str]]
    """Names under which other indexes' files were ever published, each with their digests."""

    def replaced(self, files: Iterable[ListedFile]) -> set[str]:
        """Return the names of files that have other bytes than those of another index had."""
        return {
            file.filename
            for file in files
            if file.filename in self.elsewhere
            and sight_of(file) not in self.elsewhere[file.filename]
        }


class _SightColumns(Columns, frozen=True):
    filename: str
    digest: str
    seen_at: float


class _NameColumns(Columns, frozen=True):
    filename: str
    is_own: int


class _PublishedColumns(Columns, frozen=True):
    filename: str
    sha256: str
    digests: str
    size: int
    upload_time: str | None
    seen_at: float
    is_own: int

    @property
    def sights(self) -> set[str]:
        """The digest of the bytes, and what stood for it in the listing."""
        listed = ListedFile(
            filename=self.filename,
            url="",
            digests=decode_digests(self.digests),
            size=self.size,
            labels=Labels(upload_time=self.upload_time),
        )
        return {f"sha256:{self.sha256}", sight_of(listed)}


async def load_sights(store: Store, project: int, *, now: float) -> KnownSights:
    """Return what is known of the files of a project: first sights, and names ever published."""
    values = {"project": project, "now": now}
    seen: dict[Sight, float] = {}
    for row in await store.rows_as(
        _SightColumns,
        "SELECT filename, digest, CASE WHEN seen_at > :now THEN coalesce(clock_at, seen_at)"
        " ELSE seen_at END AS seen_at FROM first_sight"
        f" WHERE {_OF_ALL_INDEXES}",
        values,
    ):
        _enter(seen, (row.filename, row.digest), row.seen_at)
    published = set[str]()
    elsewhere: dict[str, set[str]] = {}
    for entry in await store.rows_as(
        _PublishedColumns,
        f"{_PUBLISHED} INDEXED BY entry_project_closed {_REVISION}"
        f" WHERE e.valid_to IS NOT NULL AND e.{_OF_ALL_INDEXES} UNION ALL"
        f" {_PUBLISHED} INDEXED BY entry_open {_REVISION}"
        f" WHERE e.valid_to IS NULL AND e.{_OF_OTHER_INDEXES}",
        values,
    ):
        for digest in entry.sights:
            _enter(seen, (entry.filename, digest), entry.seen_at)
        if entry.is_own:
            published.add(entry.filename)
        else:
            elsewhere.setdefault(entry.filename, set()).update(entry.sights)
    for name in await store.rows_as(
        _NameColumns,
        "SELECT filename, project = :project AS is_own FROM published_name"
        f" WHERE {_OF_ALL_INDEXES}",
        {"project": project},
    ):
        if name.is_own:
            published.add(name.filename)
        else:
            elsewhere.setdefault(name.filename, set())
    return KnownSights(
        seen=seen,
        published=frozenset(published),
        elsewhere={name: frozenset(of) for name, of in elsewhere.items()},
    )


def _enter(seen: dict[Sight, float], sight: Sight, at: float) -> None:
    seen[sight] = min(at, seen.get(sight, at))


async def has_sights(store: Store) -> bool:
    """Return whether any first sight is recorded, or follows from a file that was published."""
    query = (
        "SELECT EXISTS (SELECT 1 FROM first_sight) OR EXISTS (SELECT 1 FROM entry)"
        " OR EXISTS (SELECT 1 FROM published_name)"
    )
    return bool(await store.value(query))


async def record_sights(store: Store, projects: Sequence[ProjectSights]) -> None:
    """Record first sights; of files that are no longer listed the newest stay."""
    if not projects:
        return
    async with store.transaction() as tx:
        latest = await tx.value(_LATEST_BEFORE) or 0.0
        for one in projects:
            await tx.executemany(
                "INSERT INTO first_sight (project, filename, digest, seen_at, clock_at)"
                " VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (project, filename, digest) DO UPDATE SET clock_at = ?",
                [
                    (one.project, *sight, max(at, latest), at if at < latest else None, at)
                    for sight, at in one.seen.items()
                ],
            )
            if one.listed:
                await _forget_unlisted(tx, one)


async def _forget_unlisted(tx: Transaction, sights: ProjectSights) -> None:
    query = "SELECT filename, digest, seen_at FROM first_sight WHERE project = ?"
    known = await tx.rows_as(_SightColumns, query, (sights.project,))
    still = set(sights.listed)
    gone = [row for row in known if (row.filename, row.digest) not in still]
    gone.sort(key=lambda row: row.seen_at, reverse=True)
    await tx.executemany(
        "DELETE FROM first_sight WHERE project = ? AND filename = ? AND digest = ?",
        [(sights.project, row.filename, row.digest) for row in gone[MAX_SIGHTS:]],
    )


async def count_from_now(store: Store, *, now: float) -> None:
    """Let what was seen in the future count from now on, since the clock went back."""
    async with store.transaction() as tx:
        await tx.execute(
            "UPDATE first_sight SET clock_at = ?"
            " WHERE seen_at > ? AND (clock_at IS NULL OR clock_at > ?)",
            (now, now, now),
        )
