"""The queries of ``mirror.state.notes``."""

from __future__ import annotations

import msgspec

from harness.state_rows import add, add_revisions, rows_of
from mirror.core.schedule import DiskSample
from mirror.state.notes import (
    Activity,
    CredentialNote,
    DamageNote,
    Notes,
    UpkeepNote,
    forget_damage,
    load_note,
    load_notes,
    record_note,
)
from mirror.state.store import Store


async def test_load_notes(store: Store) -> None:
    """Every note is returned; damage that was verified, replaced or fetched since is left out."""
    await add_revisions(store, 1)
    await add(store, "snapshot", name="s", revision=1)
    await add(store, "kept_blob", sha256="lost", filename="f", snapshot=1)
    await add(store, "blob", sha256="a", filename="f", stored=1.0, verified=2.0)
    await add(store, "blob", sha256="a", filename="g", stored=9.0, verified=9.0)
    await add(store, "blob", sha256="b", filename="f", stored=9.0, verified=9.0)
    await add(store, "blob", sha256="stored", filename="f", stored=6.0, verified=2.0)
    lasting = (
        damage("page", sha256=None, filename=None),
        damage("files/a/f", sha256="a", filename="f", found_at=2.0),
        damage("files/lost/f", sha256=None, filename=None, damage="missing"),
    )
    mended = (
        damage("files/b/f", sha256="b", filename="f"),
        damage("files/stored/f", sha256="stored", filename="f"),
        damage("files/gone/f", sha256="gone", filename="f"),
        damage("files/found/f", sha256=None, filename=None, damage="missing"),
    )
    expected = Notes(
        credentials={"main": CredentialNote(source="main", days=3)},
        activity=Activity(pid=1, doing="idle", since=1.0),
        upkeep=UpkeepNote(at=1.0, pruned=2),
        damage=lasting,
        disk=(DiskSample(at=1.0, used=2, free=3),),
    )
    assert await load_notes(store) == Notes()
    for key, note in msgspec.structs.asdict(expected).items():
        await record_note(store, key, (*note, *mended) if key == "damage" else note)
    assert await load_notes(store) == expected


async def test_load_note(store: Store) -> None:
    """A note of another form counts as not there."""
    await add(store, "meta", key="activity", value='{"pid": 1, "doing": "idle", "since": 1.0}')
    await add(store, "meta", key="upkeep", value='{"at": "never"}')
    assert await load_note(store, "activity", Activity) == Activity(pid=1, doing="idle", since=1.0)
    assert await load_note(store, "upkeep", UpkeepNote) is None
    assert await load_note(store, "disk", UpkeepNote) is None


async def test_record_note(store: Store) -> None:
    """An equal note is not written again."""
    await record_note(store, "upkeep", UpkeepNote(at=1.0))
    before = store.changes
    await record_note(store, "upkeep", UpkeepNote(at=1.0))
    assert store.changes == before
    await record_note(store, "upkeep", UpkeepNote(at=2.0))
    assert await load_note(store, "upkeep", UpkeepNote) == UpkeepNote(at=2.0)


async def test_forget_damage(store: Store) -> None:
    """Damage at other paths stays."""
    await forget_damage(store, ["a"])
    assert await rows_of(store, "meta", "*") == []
    await record_note(store, "damage", [damage("a"), damage("b")])
    await forget_damage(store, ["a"])
    assert await load_note(store, "damage", tuple[DamageNote, ...]) == (damage("b"),)


def damage(
    path: str,
    *,
    sha256: str | None = "a",
    filename: str | None = "f",
    found_at: float = 5.0,
    damage: str = "size",
) -> DamageNote:
    return DamageNote(path=path, damage=damage, detail="", found_at=found_at, sha256=sha256, filename=filename)
