"""Files that the cooldown or an advisory keeps out.

``deferred`` has each such file with its listing and the time of its next judgement, so that it is
judged again without a request; its rows are replaced with the page's validators.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from mirror.core.files.kept_links import KeptLinks, is_incomplete
from mirror.core.model import ListedFile
from mirror.core.rules.model import MIN_AGE
from mirror.state.store import Store, Transaction


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


async def judge_all_deferred(store: Store, *, now: float) -> None:
    """Have every deferred file judged, since the clock went back."""
    async with store.transaction() as tx:
        await tx.execute("UPDATE deferred SET next_at = ? WHERE next_at > ?", (now, now))
