"""Files that advisories name: held and vulnerable, not judged, or withdrawn from the pages.

A withdrawn file keeps its listing in ``deferred``, so that it comes back without a request, and
without a download, once no advisory names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import msgspec

from mirror.core.advisories.severity import Severity
from mirror.core.files.kept_links import is_incomplete
from mirror.core.model import Labels, ListedFile
from mirror.core.names import ProjectName
from mirror.core.rules.model import EXCLUDE_VULNERABLE
from mirror.state.entries.labels import decode_digests, label_columns
from mirror.state.missing.left_out import enter_left_out, judged_again, load_left_out
from mirror.state.parameters import chunks, marks
from mirror.state.rows import Columns
from mirror.state.store import Store, Transaction

_AT_ONCE = 200


class AdvisedKind(Enum):
    """The meaning of an advisory for a file."""

    VULNERABLE = "vulnerable"
    UNJUDGED = "unjudged"
    """It names the public version of a local build."""
    WITHDRAWN = "withdrawn"
    """It is malware: no page may list it."""


class PublishedName(msgspec.Struct, frozen=True, kw_only=True):
    """A file of one index that is published, or once was."""

    project: int
    source: int
    name: ProjectName
    filename: str
    is_open: bool
    """Whether a page lists it now."""


class AdvisedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of one index that advisories name."""

    project: int
    name: ProjectName
    filename: str
    kind: AdvisedKind
    ids: tuple[str, ...]
    level: Severity
    fixed: str | None = None


async def load_unjudged_projects(store: Store) -> list[ProjectName]:
    """Return some projects whose files were not compared with their advisories yet."""
    query = "SELECT project FROM advisory WHERE judged = 0 ORDER BY project LIMIT ?"
    return await store.values(query, (_AT_ONCE,))


async def load_projects_changed_since(store: Store, revision: int) -> list[ProjectName]:
    """Return the projects with advisories that have new files since a revision."""
    return await store.values(
        "SELECT DISTINCT p.name FROM entry e JOIN project p ON p.id = e.project"
        " WHERE e.valid_from > ? AND EXISTS (SELECT 1 FROM advisory a WHERE a.project = p.name)",
        (revision,),
    )


async def load_published_names(store: Store, names: Sequence[ProjectName]) -> list[PublishedName]:
    """Return the files of some projects that were ever published, and are still known."""
    found: list[PublishedName] = []
    for chunk in chunks(names):
        of_names = (
            "FROM project p JOIN entry e ON e.project = p.id AND e.valid_to IS {} NULL"
            f" WHERE p.name IN ({marks(chunk)})"
        )
        columns = "p.id AS project, p.source, p.name, e.filename"
        found += await store.rows_as(
            PublishedName,
            # In two halves, since each has an index of its own.
            f"SELECT {columns}, 1 AS is_open {of_names.format('')}"
            f" UNION ALL SELECT DISTINCT {columns}, 0 {of_names.format('NOT')}"
            " AND NOT EXISTS (SELECT 1 FROM entry o WHERE o.project = e.project"
            " AND o.filename = e.filename AND o.valid_to IS NULL) ORDER BY 3, 4",
            (*chunk, *chunk),
        )
    return found


class _ListedEntry(Columns, frozen=True):
    project: int
    source: int
    filename: str
    url: str
    digests: str
    sha256: str
    size: int
    labels: Labels


class _WaitingName(Columns, frozen=True):
    project: int
    filename: str


async def record_listings(store: Store, files: Sequence[PublishedName]) -> None:
    """Keep the listings of published files that are withdrawn next, as files that a rule leaves
    out.
    """
    wanted = {(file.project, file.filename) for file in files}
    async with store.transaction() as tx:
        for chunk in chunks(sorted({file.project for file in files})):
            of = f"project IN ({marks(chunk)})"
            rows = await tx.rows_as(
                _ListedEntry,
                f"SELECT project, source, filename, url, digests, sha256, size, {label_columns()}"
                f" FROM entry WHERE valid_to IS NULL AND {of}",
                chunk,
            )
            query = f"SELECT project, filename FROM deferred WHERE {of}"
            waiting = {
                (o.project, o.filename) for o in await tx.rows_as(_WaitingName, query, chunk)
            }
            # A cycle that was killed has entered some of them before.
            new = [r for r in rows if (r.project, r.filename) in wanted - waiting]
            await tx.executemany(
                "INSERT INTO deferred (project, filename, source, rule, listed, needs_page,"
                " next_at) VALUES (?, ?, ?, ?, ?, ?, 0)",
                [
                    (row.project, row.filename, row.source, EXCLUDE_VULNERABLE, *_listing(row))
                    for row in new
                ],
            )
            await _leave_out(store, tx, new)


async def _leave_out(store: Store, tx: Transaction, rows: Sequence[_ListedEntry]) -> None:
    """Record that the rule leaves out some files that were published."""
    by_project: dict[int, dict[str, tuple[str, str]]] = {}
    for row in rows:
        by_project.setdefault(row.project, {})[row.filename] = ("", EXCLUDE_VULNERABLE)
    left_out = {
        project: judged_again(await load_left_out(store, project), rules)
        for project, rules in by_project.items()
    }
    await enter_left_out(tx, left_out)


def _listing(row: _ListedEntry) -> tuple[str, bool]:
    """Return a published file as its index lists it, with the digest by which its blob is found."""
    digests = {**dict(decode_digests(row.digests)), "sha256": row.sha256}
    file = ListedFile(
        filename=row.filename,
        url=row.url,
        digests=tuple(sorted(digests.items())),
        size=row.size,
        labels=row.labels,
    )
    return msgspec.json.encode(file).decode(), is_incomplete(row.url)


async def record_advised(
    store: Store,
    names: Sequence[ProjectName],
    files: Sequence[AdvisedFile],
    *,
    has_news: bool,
) -> None:
    """Record the advised files of some projects, all of whose files were judged.

    ``has_news``: the advisories are other ones, so that the files that they kept out are judged
    again.
    """
    async with store.transaction() as tx:
        for chunk in chunks(names):
            of = f"project IN (SELECT id FROM project WHERE name IN ({marks(chunk)}))"
            await tx.execute(f"DELETE FROM advised WHERE {of}", chunk)
            if has_news:
                await tx.execute(
                    f"UPDATE deferred SET next_at = 0 WHERE rule = ? AND {of}",
                    (EXCLUDE_VULNERABLE, *chunk),
                )
            await tx.execute(
                f"UPDATE advisory SET judged = 1 WHERE project IN ({marks(chunk)})", chunk
            )
            await tx.execute(
                f"DELETE FROM advisory WHERE advisories = '[]' AND project IN ({marks(chunk)})",
                chunk,
            )
        await tx.executemany(
            "INSERT OR REPLACE INTO advised (project, filename, kind, ids, level, fixed)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            [
                (
                    one.project,
                    one.filename,
                    one.kind.value,
                    msgspec.json.encode(one.ids).decode(),
                    int(one.level),
                    one.fixed,
                )
                for one in files
            ],
        )


async def free_all(tx: Transaction) -> None:
    """Have everything judged again that advisories keep out."""
    await tx.execute("UPDATE deferred SET next_at = 0 WHERE rule = ?", (EXCLUDE_VULNERABLE,))


class ReportedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A published file that an advisory names."""

    project: ProjectName
    filename: str
    ids: tuple[str, ...]
    level: Severity
    fixed: str | None


_PUBLISHED = (
    "FROM advised a JOIN project p ON p.id = a.project JOIN entry e ON e.project = a.project"
    " AND e.filename = a.filename AND e.valid_to IS NULL WHERE a.kind = ?"
)


async def load_published_advised(
    store: Store, kind: AdvisedKind, *, limit: int, project: ProjectName | None = None
) -> list[ReportedFile]:
    """Return the published files that advisories name, of all projects or of one, by name."""
    of_project = " AND a.project IN (SELECT id FROM project WHERE name = ?)"
    where, values = ("", ()) if project is None else (of_project, (project,))
    return await store.rows_as(
        ReportedFile,
        f"SELECT p.name AS project, a.filename, a.ids, a.level, a.fixed {_PUBLISHED}{where}"
        " ORDER BY p.name, a.filename LIMIT ?",
        (kind.value, *values, limit),
    )


async def count_published_advised(store: Store, kind: AdvisedKind) -> int:
    """Return how many published files advisories name."""
    return int(await store.value(f"SELECT count(*) {_PUBLISHED}", (kind.value,)))


async def count_withdrawn(store: Store) -> int:
    """Return how many files advisories took off the pages."""
    query = "SELECT count(DISTINCT filename) FROM advised WHERE kind = ?"
    return int(await store.value(query, (AdvisedKind.WITHDRAWN.value,)))


class NeededFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that a want needs and that is not published."""

    index_name: str
    project: ProjectName
    filename: str


async def load_needed_unpublished(store: Store) -> list[NeededFile]:
    """Return the files of projects with advisories that wants need and no page lists."""
    return await store.rows_as(
        NeededFile,
        "SELECT DISTINCT w.index_name, w.project, w.filename FROM advisory a"
        " CROSS JOIN wanted w ON w.project = a.project WHERE w.part != 'earlier'"
        " AND NOT EXISTS (SELECT 1 FROM project p JOIN entry e ON e.project = p.id"
        " AND e.filename = w.filename AND e.valid_to IS NULL WHERE p.name = w.project)"
        " ORDER BY 2, 3",
    )
