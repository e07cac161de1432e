"""Files that the cooldown or an advisory keeps out, and when each digest was seen first.

``deferred`` has each such file with its listing and the time of its next judgement, so that it is
judged again without a request; its rows are replaced with the page's validators. ``first_sight``
counts where an index lists no upload time, and for every name under which a file was published.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from mirror.core.files.kept_links import KeptLinks, is_incomplete
from mirror.core.model import ListedFile
from mirror.core.rules.judge import Sight
from mirror.core.rules.model import MIN_AGE
from mirror.state.rows import Columns
from mirror.state.store import Store, Transaction

MAX_SIGHTS = 1000
"""Maximum number of first sights that are kept of a project's files that are listed no more."""


class DeferredFile(msgspec.Struct, frozen=True, kw_only=True):
    """A listed file that a rule keeps out for now."""

    filename: str
    rule: str
    """``min-age`` or ``exclude-vulnerable``."""
    after: str = ""
    """The rule that keeps it out at the end of its cooldown too; empty: none does."""
    file: ListedFile
    next_at: float | None
    """When it is judged again; None: once there is a new database of advisories."""


DeferredRows = tuple[int, tuple[DeferredFile, ...]]
"""The index, and the deferred files of one of its projects."""


async def enter_deferred(tx: Transaction, projects: Mapping[int, DeferredRows]) -> None:
    """Replace the deferred files of some projects of indexes."""
    await tx.executemany("DELETE FROM deferred WHERE project = ?", [(one,) for one in projects])
    await tx.executemany(
        "INSERT INTO deferred (project, source, filename, rule, after, next_at, listed, needs_page)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (project, source, one.filename, one.rule, one.after, one.next_at, *listed)
            for project, (source, files) in projects.items()
            for one in files
            for listed in [_listed_columns(one.file, tx.links_of(source))]
        ],
    )


def _listed_columns(file: ListedFile, links: KeptLinks) -> tuple[str, bool]:
    """Return the listing as it is kept, and whether only its page has the current link."""
    kept = msgspec.structs.replace(file, url=links.kept(file.url))
    return msgspec.json.encode(kept).decode(), is_incomplete(kept.url)


async def forget_deferred(tx: Transaction, projects: Sequence[int]) -> None:
    """Forget the deferred files of projects that leave."""
    await tx.executemany("DELETE FROM deferred WHERE project = ?", [(one,) for one in projects])


async def load_deferred(store: Store, project: int, source: int) -> list[DeferredFile]:
    """Return the deferred files of one project of one index, by name."""
    links = store.links_of(source)
    rows = await store.rows_as(
        DeferredFile,
        "SELECT filename, rule, after, listed AS file, next_at FROM deferred"
        " WHERE project = ? ORDER BY filename",
        (project,),
    )
    return [
        msgspec.structs.replace(
            row, file=msgspec.structs.replace(row.file, url=links.whole(row.file.url))
        )
        for row in rows
    ]


class DeferredName(msgspec.Struct, frozen=True, kw_only=True):
    """A deferred file without its listing."""

    filename: str
    rule: str
    next_at: float | None


async def load_deferred_names(store: Store, project: int) -> list[DeferredName]:
    """Return the deferred files of one project of one index, without their listings, by name."""
    query = "SELECT filename, rule, next_at FROM deferred WHERE project = ? ORDER BY filename"
    return await store.rows_as(DeferredName, query, (project,))


async def next_end(store: Store, source: int) -> float | None:
    """Return when the next cooldown of an index ends; None where no file is in one."""
    query = (
        "SELECT min(next_at) FROM deferred WHERE source = ? AND rule = ?"
        " AND next_at > coalesce((SELECT started_at FROM cycle ORDER BY id DESC LIMIT 1), 0)"
    )
    found: float | None = await store.value(query, (source, MIN_AGE))
    return found


async def has_files(store: Store, source: int) -> bool:
    """Return whether an index has a published file, or one in the ledger."""
    query = (
        "SELECT EXISTS (SELECT 1 FROM entry WHERE source = ?1 AND valid_to IS NULL)"
        " OR EXISTS (SELECT 1 FROM failure WHERE source = ?1 AND filename != '')"
    )
    return bool(await store.value(query, (source,)))


async def judge_all_again(store: Store, *, now: float) -> None:
    """Have every deferred file judged, since the clock went back: nothing was seen in the
    future.
    """
    async with store.transaction() as tx:
        await tx.execute("UPDATE first_sight SET seen_at = ? WHERE seen_at > ?", (now, now))
        await tx.execute("UPDATE deferred SET next_at = ? WHERE next_at > ?", (now, now))


class _SightColumns(Columns, frozen=True):
    filename: str
    digest: str
    seen_at: float


async def load_sights(store: Store, project: int) -> dict[Sight, float]:
    """Return when each digest of a project's files was seen first, as listed or as published."""
    rows = await store.rows_as(
        _SightColumns,
        "SELECT filename, digest, min(seen_at) AS seen_at FROM ("
        " SELECT filename, digest, seen_at FROM first_sight WHERE project = :project"
        " UNION ALL SELECT e.filename, 'sha256:' || e.sha256, r.at FROM entry e"
        " JOIN revision r ON r.id = e.valid_from"
        " WHERE e.project = :project AND e.valid_to IS NOT NULL"
        ") GROUP BY filename, digest",
        {"project": project},
    )
    return {(row.filename, row.digest): row.seen_at for row in rows}


async def has_sights(store: Store) -> bool:
    """Return whether any first sight is recorded, or follows from a file that was published."""
    query = (
        "SELECT EXISTS (SELECT 1 FROM first_sight) OR EXISTS (SELECT 1 FROM entry)"
        " OR EXISTS (SELECT 1 FROM published_name)"
    )
    return bool(await store.value(query))


async def load_published_names(store: Store, project: int) -> set[str]:
    """Return the names under which files of a project were published and no longer are."""
    return set(
        await store.values(
            "SELECT filename FROM entry WHERE project = ?1 AND valid_to IS NOT NULL"
            " UNION SELECT filename FROM published_name WHERE project = ?1",
            (project,),
        )
    )


class ProjectSights(msgspec.Struct, frozen=True, kw_only=True):
    """First sights of the files of one project of one index."""

    project: int
    seen: Mapping[Sight, float]
    listed: Sequence[Sight] = ()
    """All that the page lists now; empty where it was not read."""


async def record_sights(store: Store, projects: Sequence[ProjectSights]) -> None:
    """Record first sights; of files that are no longer listed the newest stay."""
    if not projects:
        return
    async with store.transaction() as tx:
        for one in projects:
            await tx.executemany(
                "INSERT OR REPLACE INTO first_sight (project, filename, digest, seen_at)"
                " VALUES (?, ?, ?, ?)",
                [(one.project, *sight, seen_at) for sight, seen_at in one.seen.items()],
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
