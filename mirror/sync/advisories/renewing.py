"""Reads another advisory database than the one in force, and records it whole or not at all.

A database that can't be read whole, or that lost too many of its records, is not taken.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import anyio.from_thread
import anyio.to_thread
import msgspec

from mirror.advisories.database import (
    DatabaseError,
    DatabaseMissing,
    open_database,
    read_changed,
)
from mirror.holdings.holdings import Holdings
from mirror.logs import get_logger
from mirror.state.advisories.records import (
    AdvisoryNote,
    ChangedFile,
    KnownFile,
    load_known_files,
    record_advisory_note,
    take_database,
)
from mirror.state.store import Store
from mirror.sync.advisories.taking import nothing_there
from mirror.sync.cycle_parts import Options
from mirror.sync.report import Report

_log = get_logger(__name__)

_MAX_LOST = 0.1
"""Part of its records that a database may lose at once."""


class _News(msgspec.Struct, frozen=True, kw_only=True):
    """The difference between the database and the one in force."""

    stamp: str
    changed: tuple[ChangedFile, ...] = ()
    gone: tuple[str, ...] = ()


async def renew(
    holdings: Holdings, options: Options, report: Report, path: Path, note: AdvisoryNote | None
) -> AdvisoryNote | None:
    """Return which database is in force once that at ``path`` was read."""
    store = holdings.store
    try:
        news = await _read(store, path, note, may_shrink=options.allow_shrink)
    except DatabaseMissing as exc:
        if note is None:
            raise nothing_there(str(exc)) from exc
        problem = str(exc)
    except DatabaseError as exc:
        problem = str(exc)
    else:
        return await _take(store, path, note, news, now=holdings.clock())
    in_force = "nothing new comes in" if note is None else "the last judgement stays"
    report.advisory_problem = f"the advisories were not taken, {in_force}: {problem}"
    _log.error("advisories.refused", problem=report.advisory_problem)
    return note


async def _take(
    store: Store, path: Path, note: AdvisoryNote | None, news: _News | None, *, now: float
) -> AdvisoryNote:
    """Record the news, if there are any."""
    if note is not None and (news is None or not (news.changed or news.gone)):
        stamp = note.stamp if news is None else news.stamp
        same = msgspec.structs.replace(note, path=str(path), stamp=stamp)
        await record_advisory_note(store, same)
        return same
    assert news is not None
    before = note or AdvisoryNote(path="", stamp="", records=0, date=0.0, taken_at=0.0)
    new = msgspec.structs.replace(before, path=str(path), stamp=news.stamp, taken_at=now)
    taken = await take_database(store, new, news.changed, news.gone, is_first=note is None)
    _log.info(
        "advisories.taken",
        path=str(path),
        records=taken.records,
        changed=len(news.changed),
        gone=len(news.gone),
    )
    return taken


async def _read(
    store: Store, path: Path, note: AdvisoryNote | None, *, may_shrink: bool
) -> _News | None:
    """Return the news of the database at ``path``; None where its stamp is the one that is
    known.
    """

    def known() -> list[KnownFile]:
        return anyio.from_thread.run(load_known_files, store)

    def read() -> _News | None:
        with open_database(path) as database:
            stamp = database.stamp
            if note is not None and stamp and stamp == note.stamp:
                return None
            names = database.files()
            if not names:
                raise DatabaseError(f"{path} holds no record: no file in it ends in .json")
            before = known()
            stamps = {one.path: one.stamp for one in before}
            changed = tuple(
                ChangedFile(
                    path=name,
                    stamp=found.stamp,
                    id=found.record.id,
                    record=msgspec.json.encode(found.record),
                )
                for name, found in read_changed(database, stamps)
            )
            gone = tuple(one.path for one in before if one.path not in names)
            _check_loss(before, changed, gone, may_shrink=may_shrink)
            return _News(stamp=stamp, changed=changed, gone=gone)

    return await anyio.to_thread.run_sync(partial(read), abandon_on_cancel=False)


def _check_loss(
    before: list[KnownFile],
    changed: tuple[ChangedFile, ...],
    gone: tuple[str, ...],
    *,
    may_shrink: bool,
) -> None:
    """Raise ``DatabaseError`` for a database that lost more than a tenth of its records."""
    other = {one.path for one in changed}.union(gone)
    ids = {one.id for one in before}
    lost = ids - {one.id for one in before if one.path not in other} - {one.id for one in changed}
    if len(lost) > _MAX_LOST * len(ids) and not may_shrink:
        raise DatabaseError(
            f"{len(lost)} of {len(ids)} records are gone, more than a tenth; if that is right, run"
            " `mirror sync --once --allow-shrink`"
        )
