"""The records of the advisory database as they were taken last, and the advisories by project.

A database is taken whole, in one transaction, or not at all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import anyio.to_thread
import msgspec

from mirror.core.advisories.judging import AdvisoryBook, encode_advisories
from mirror.state.advisories.advised import free_all
from mirror.state.notes import load_note, record_note
from mirror.state.parameters import chunks, marks
from mirror.state.rows import Columns
from mirror.state.store import Store, Transaction

_NOTE, _PROBLEM = "advisories", "advisory_problem"
NO_RULES_TEXT = "none"
"""The rules by which files were judged where the configuration has no advisories."""
_MAX_PARTS = 64
"""Maximum number of queries for the advisories of single projects; then one reads all."""


class AdvisoryNote(msgspec.Struct, frozen=True, kw_only=True):
    """Which database is in force. Times are seconds since the epoch."""

    path: str
    """Where it was read."""
    stamp: str
    """Of all its files; another one may be another database."""
    records: int
    date: float
    """The newest change of a record."""
    taken_at: float
    judged: str = ""
    """The rules by which the files were judged last; empty: they must be judged again."""
    judged_revision: int = 0


class KnownFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of the database as it was read last."""

    path: str
    stamp: str
    id: str


class ChangedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of the database that was read now."""

    path: str
    stamp: str
    id: str
    record: bytes
    """As JSON."""


async def load_advisory_note(store: Store) -> AdvisoryNote | None:
    """Return which database is in force, or None where none was ever taken."""
    return await load_note(store, _NOTE, AdvisoryNote)


async def load_known_files(store: Store) -> list[KnownFile]:
    """Return the files of the database in force."""
    return await store.rows_as(KnownFile, "SELECT path, stamp, id FROM osv_record")


class _RecordColumns(Columns, frozen=True):
    record: str


class _AdvisoryColumns(Columns, frozen=True):
    project: str
    advisories: str


async def load_book(store: Store) -> AdvisoryBook:
    """Return the book of the advisories in force, of which none is read yet."""
    return AdvisoryBook({}, unread=await store.values("SELECT project FROM advisory"))


async def read_advisories(store: Store, book: AdvisoryBook, projects: Iterable[str]) -> None:
    """Read the advisories of some projects into the book; after many such parts, all others too."""
    unread = book.unread_of(projects)
    if not unread:
        return
    query = "SELECT project, advisories FROM advisory"
    if book.parts >= _MAX_PARTS:
        book.add(unread, _encoded(await store.mapping(query)))
        return
    for chunk in chunks(unread):
        found = await store.mapping(f"{query} WHERE project IN ({marks(chunk)})", chunk)
        book.add(chunk, _encoded(found))


def _encoded(rows: Mapping[str, str]) -> dict[str, bytes]:
    return {project: text.encode() for project, text in rows.items()}


async def take_database(
    store: Store,
    note: AdvisoryNote,
    changed: Sequence[ChangedFile],
    gone: Collection[str],
    *,
    is_first: bool,
) -> AdvisoryNote:
    """Record the files that changed, and join the records; return the note as it was recorded.

    Projects whose advisories changed are marked to be judged. ``is_first``: nothing was in force,
    so that every file that was kept out is judged again.
    """
    async with store.transaction() as tx:
        await tx.executemany("DELETE FROM osv_record WHERE path = ?", [(path,) for path in gone])
        await tx.executemany(
            "INSERT OR REPLACE INTO osv_record (path, stamp, id, record) VALUES (?, ?, ?, ?)",
            [(one.path, one.stamp, one.id, one.record.decode()) for one in changed],
        )
        rows = await tx.rows_as(_RecordColumns, "SELECT record FROM osv_record ORDER BY path")
        texts = [row.record for row in rows]
        joined, newest = await anyio.to_thread.run_sync(_join, texts, note.taken_at)
        query = "SELECT project, advisories FROM advisory"
        before = {row.project: row.advisories for row in await tx.rows_as(_AdvisoryColumns, query)}
        # A project without advisories stays until its files have been judged.
        joined |= dict.fromkeys(before.keys() - joined.keys(), "[]")
        await tx.executemany(
            "INSERT OR REPLACE INTO advisory (project, advisories, judged) VALUES (?, ?, 0)",
            [(name, text) for name, text in joined.items() if before.get(name) != text],
        )
        if is_first:
            await free_all(tx)
        taken = msgspec.structs.replace(note, records=len(texts), date=newest or note.taken_at)
        await enter_note(tx, taken)
    return taken


def _join(records: Sequence[str], now: float) -> tuple[dict[str, str], float]:
    """Return the advisories by project as JSON, and when a record was changed last."""
    # 1 ms, only for another database
    from mirror.core.advisories.joining import join_records
    from mirror.core.advisories.osv import OsvRecord

    decoder = msgspec.json.Decoder(OsvRecord)
    read = [decoder.decode(text) for text in records]
    joined = join_records(read)
    newest = max((one.modified for one in read if one.modified <= now), default=0.0)
    return {project: encode_advisories(of).decode() for project, of in joined.items()}, newest


async def enter_note(tx: Transaction, note: AdvisoryNote) -> None:
    """Record which database is in force."""
    await tx.execute(
        "INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)",
        (_NOTE, msgspec.json.encode(note).decode()),
    )


async def record_advisory_note(store: Store, note: AdvisoryNote) -> None:
    """Record which database is in force; an equal note is not written again."""
    await record_note(store, _NOTE, note)


async def load_advisory_problem(store: Store) -> str | None:
    """Return why the database that is there now was not taken, or None where it was."""
    return await load_note(store, _PROBLEM, str) or None


async def record_advisory_problem(store: Store, problem: str | None) -> None:
    """Record why the database was not taken."""
    if problem or await load_advisory_problem(store):
        await record_note(store, _PROBLEM, problem or "")


async def mark_all_unjudged(store: Store) -> None:
    """Have the files of all projects judged: by other rules."""
    async with store.transaction() as tx:
        await tx.execute("UPDATE advisory SET judged = 0")
