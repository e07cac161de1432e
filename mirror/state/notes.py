"""Small values that one process stores for others to read: its activity, ends of credentials,
growth of the disk.

Each is one JSON value in ``meta``. A note that can't be read (made by another version) counts as
missing.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeVar

import msgspec

from mirror.core.schedule import DiskSample
from mirror.state.frozen.snapshots import load_lost_blobs
from mirror.state.meta import load_meta, load_metas, record_meta
from mirror.state.store import Store

T = TypeVar("T")

_KEYS = ("credentials", "activity", "upkeep", "damage", "disk", "want_proofs")


class CredentialNote(msgspec.Struct, frozen=True, kw_only=True):
    """The state of an index's credential at the last cycle."""

    source: str
    expires_at: float | None = None
    problem: str | None = None
    """Why it could not be used."""
    days: int | None = None
    """How close its end was at the last warning."""


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """The current activity of the daemon."""

    pid: int
    doing: str
    since: float
    next_cycle_at: float | None = None


class DamageNote(msgspec.Struct, frozen=True, kw_only=True):
    """Something that the daemon found damaged."""

    path: str
    damage: str
    detail: str
    found_at: float
    sha256: str | None = None
    filename: str | None = None


class UpkeepNote(msgspec.Struct, frozen=True, kw_only=True):
    """The last upkeep that was completed."""

    at: float
    pruned: int = 0
    pruned_bytes: int = 0
    checked: int = 0
    checked_bytes: int = 0


class WantNote(msgspec.Struct, frozen=True, kw_only=True):
    """The last proof of one want in one target; its fields as in ``mirror check --json``."""

    want: str | None
    file: str | None
    target: str
    installable: bool
    files: int
    bytes: int
    rebuilt: list[str] = []
    instead: list[dict[str, str]] = []
    gaps: list[dict[str, str]] = []


class Notes(msgspec.Struct, frozen=True, kw_only=True):
    """All notes."""

    credentials: dict[str, CredentialNote] = {}
    activity: Activity | None = None
    upkeep: UpkeepNote | None = None
    damage: tuple[DamageNote, ...] = ()
    disk: tuple[DiskSample, ...] = ()
    wants: tuple[WantNote, ...] = ()


async def load_notes(store: Store) -> Notes:
    """Return every note. Damage that has been mended or verified since is left out."""
    texts = await load_metas(store, _KEYS)
    noted = _decoded(texts.get("damage"), tuple[DamageNote, ...]) or ()
    lost = await load_lost_blobs(store) if any(_is_of_snapshot(note) for note in noted) else []
    endings = {f"/{sha256}/{filename}" for _, _, sha256, filename in lost}
    damage = [note for note in noted if await _lasts(store, note, endings)]
    return Notes(
        credentials=_decoded(texts.get("credentials"), dict[str, CredentialNote]) or {},
        activity=_decoded(texts.get("activity"), Activity),
        upkeep=_decoded(texts.get("upkeep"), UpkeepNote),
        damage=tuple(damage),
        disk=_decoded(texts.get("disk"), tuple[DiskSample, ...]) or (),
        wants=_decoded(texts.get("want_proofs"), tuple[WantNote, ...]) or (),
    )


async def load_note(store: Store, key: str, kind: type[T]) -> T | None:
    """Return one note, or None."""
    return _decoded(await load_meta(store, key), kind)


def _decoded(text: str | None, kind: type[T]) -> T | None:
    try:
        return None if text is None else msgspec.json.decode(text, type=kind)
    except msgspec.MsgspecError:
        return None


async def record_note(store: Store, key: str, note: object) -> None:
    """Store one note; an equal one is not written again."""
    text = msgspec.json.encode(note).decode()
    if await load_meta(store, key) != text:
        await record_meta(store, key, text)


async def forget_damage(store: Store, paths: Collection[str]) -> None:
    """Forget damage at these paths: it has been mended."""
    known = await load_note(store, "damage", tuple[DamageNote, ...]) or ()
    if known:
        await record_note(store, "damage", [note for note in known if note.path not in paths])


def _is_of_snapshot(note: DamageNote) -> bool:
    """Return whether only a snapshot lists the missing file: no row has it."""
    return note.damage == "missing" and note.sha256 is None


async def _lasts(store: Store, note: DamageNote, lost: Collection[str]) -> bool:
    """Return whether the damaged blob is unchanged since it was found, and was not found whole
    since.

    ``lost``: the ends of the paths of missing files that snapshots list.
    """
    if _is_of_snapshot(note):
        return any(note.path.endswith(ending) for ending in lost)
    if note.sha256 is None:
        return True
    seen = await store.values(
        "SELECT max(stored, verified) FROM blob WHERE sha256 = ? AND filename = ?",
        (note.sha256, note.filename),
    )
    return any(last_seen <= note.found_at for last_seen in seen)
