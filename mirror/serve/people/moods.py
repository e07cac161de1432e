"""Fresh, whole, room: the status of the mirror in a word and a sentence each; pure."""

from __future__ import annotations

from typing import Final

import msgspec

from mirror.core.words.amounts import counted, size
from mirror.errors import Reason, shown_url
from mirror.state.readers.overview import IndexOverview
from mirror.status.value import Status

_FEW_DAYS: Final = 14.0


class Mood(msgspec.Struct, frozen=True, kw_only=True):
    """A judgement of the overview. ``mood``: good, warn, bad, or "" for none."""

    mood: str
    word: str
    detail: str
    at: float | None = None
    address: str = ""
    """Of the page that says more, relative to the server's base address."""


class RoomMood(msgspec.Struct, frozen=True, kw_only=True):
    """The room on the disk."""

    mood: str
    free: int
    detail: str


class IndexLine(msgspec.Struct, frozen=True, kw_only=True):
    """An index in the table of the overview."""

    name: str
    url: str
    last_success: float | None
    projects: int
    files: int
    bytes: int
    notes: tuple[tuple[str, str], ...]
    """(mood, text)"""


def judge_fresh(status: Status) -> Mood:
    """Return whether each index was read in time."""
    read = [index.source.succeeded_at for index in _configured(status)]
    known = [at for at in read if at is not None]
    oldest = min(known) if known and len(known) == len(read) else None
    if not read or not known:
        return Mood(mood="warn", word="not yet", detail="No index was read to its end so far.")
    if len(known) < len(read):
        return Mood(mood="warn", word="partly", detail="An index was never read to its end.")
    if status.is_stale:
        late = "The oldest reading of an index is of"
        return Mood(mood="bad", word="stale", detail=late, at=oldest)
    if status.is_stale is None:
        return Mood(mood="", word="read", detail="Each index was read since", at=oldest)
    return Mood(mood="good", word="fresh", detail="Each index was read since", at=oldest)


def judge_whole(status: Status) -> Mood:
    """Return whether everything wanted is held, whole."""
    if status.damage:
        detail = f"{counted(len(status.damage), 'file')} found damaged."
        return Mood(mood="bad", word="damaged", detail=detail, address="failures/")
    failed = sum(index.failed for index in status.overview.indexes)
    withheld = sum(index.withheld for index in status.overview.indexes)
    waits = f"{counted(withheld, 'file')} withheld by an index." if withheld else ""
    if failed:
        detail = f"{counted(failed, 'item')} could not be fetched. {waits}".strip()
        return Mood(mood="warn", word="partly", detail=detail, address="failures/")
    if status.overview.last_finished is None:
        return Mood(mood="warn", word="filling", detail="The first cycle has not ended yet.")
    if withheld:
        return Mood(mood="good", word="whole", detail=waits, address="failures/")
    return Mood(mood="good", word="whole", detail="Everything wanted and offered is held.")


def judge_wants(status: Status) -> Mood | None:
    """Return whether the wants install in all their targets; None without a proof."""
    notes = status.notes.wants if status.notes is not None else ()
    if not notes:
        return None
    names = {(note.want, note.file) for note in notes}
    bad = {(note.want, note.file) for note in notes if not note.installable}
    if not bad:
        word, detail = "install", f"{counted(len(names), 'want')} proved in all targets."
        return Mood(mood="good", word=word, detail=detail, address="wants/")
    verb = "does" if len(bad) == 1 else "do"
    detail = f"{len(bad):,} of {counted(len(names), 'want')} {verb} not install."
    return Mood(mood="bad", word="gaps", detail=detail, address="wants/")


def judge_room(status: Status) -> RoomMood | None:
    """Return the room on the disk of the tree."""
    if status.disk is None:
        return None
    per_day, days = status.disk_forecast
    detail = f"of {size(status.disk.free + status.disk.used)} on its disk."
    if per_day is not None and per_day > 0:
        detail += f" It grows by {size(round(per_day))} a day."
    is_soon = days is not None and days < _FEW_DAYS
    if days is not None and is_soon:
        detail += f" Full in {counted(max(round(days), 0), 'day')}."
    return RoomMood(mood="warn" if is_soon else "", free=status.disk.free, detail=detail)


def index_lines(status: Status) -> list[IndexLine]:
    """Return the indexes with their states."""
    return [
        IndexLine(
            name=index.source.name,
            url=shown_url(index.source.url),
            last_success=index.source.succeeded_at,
            projects=index.held.projects,
            files=index.held.files,
            bytes=index.held.size,
            notes=_notes(status, index),
        )
        for index in status.overview.indexes
    ]


def _notes(status: Status, index: IndexOverview) -> tuple[tuple[str, str], ...]:
    notes = []
    if not status.is_configured(index.source):
        notes.append(("", "not configured any more"))
    elif (is_stale := status.stale(index)) is not None:
        notes.append(("bad", "stale") if is_stale else ("good", "fresh"))
    ended = [row.reason for row in status.overview.ended if row.index == index.source.name]
    notes += [("bad", reason.value) for reason in dict.fromkeys(ended)]
    if any(row.index == index.source.name for row in status.overview.brakes):
        notes.append(("warn", "removals held back"))
    if index.failed:
        notes.append(("warn", f"{index.failed:,} failed"))
    if index.failures.get(Reason.WITHHELD):
        notes.append(("", f"{index.withheld:,} withheld"))
    return tuple(notes)


def _configured(status: Status) -> list[IndexOverview]:
    return [index for index in status.overview.indexes if status.is_configured(index.source)]
