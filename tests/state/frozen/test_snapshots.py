"""The queries of ``mirror.state.frozen.snapshots``."""

from __future__ import annotations

import pytest

from harness.state_rows import add, add_file, add_revisions, rows_of
from mirror.core.changes import PublishedFile
from mirror.core.model import Labels
from mirror.core.names import ProjectName, Sha256
from mirror.core.pages.render_pages import RENDERER
from mirror.state.frozen.snapshots import (
    FrozenKind,
    SnapshotRow,
    count_projects_at,
    count_published,
    is_known,
    load_files_at,
    load_lost_blobs,
    load_owners,
    load_revision_at,
    load_revision_of_cycle,
    load_sidecar_revisions,
    load_snapshot,
    load_snapshots,
    load_touched,
    record_kept_blobs,
    record_snapshot,
    record_snapshot_gone,
    record_snapshot_ready,
)
from mirror.state.store import Store

A, B, C, D = (ProjectName(name) for name in "abcd")
MANY = [ProjectName(f"x{number}") for number in range(600)]
"""More names than one query takes."""


@pytest.fixture
async def history(store: Store) -> None:
    """Files that opened and closed in six revisions, in two indexes."""
    await add_revisions(store, 6)
    await add(store, "source", name="main")
    await add(store, "source", name="extra", position=1)
    for source, name in ((1, "a"), (1, "b"), (2, "a"), (1, "c"), (1, "d")):
        await add(store, "project", source=source, name=name)
    for project, filename, sha256, size, valid_from, valid_to in (
        (1, "f", "f1", 1, 1, 3),
        (1, "f", "f2", 2, 3, None),
        (2, "g", "g1", 4, 2, 4),
        (3, "h", "h1", 8, 4, None),
        (4, "k", "k1", 16, 5, 6),
    ):
        await add_file(store, filename, sha256, project=project, source=2 if project == 3 else 1, size=size,
                       valid_from=valid_from, valid_to=valid_to, yanked=f"y{size}", requires_python="r",
                       upload_time="t", provenance="p", extra="{}")  # fmt: skip


async def test_load_snapshots(store: Store) -> None:
    """All of a kind are returned, the oldest first."""
    await add(store, "snapshot", name="late", revision=1, made_at=2.0)
    await add(store, "snapshot", name="first", revision=2, made_at=1.0, note="n", projects=3, files=4, bytes=5, ready=0)
    await add(store, "snapshot", name="second", revision=2, made_at=1.0, rebuilt=1)
    await add(store, "snapshot", name="pin", revision=2, made_at=0.0, kind="pin")
    assert await load_snapshots(store, FrozenKind.SNAPSHOT) == [
        SnapshotRow(
            id=2,
            kind=FrozenKind.SNAPSHOT,
            name="first",
            revision=2,
            made_at=1.0,
            note="n",
            projects=3,
            files=4,
            bytes=5,
        ),
        SnapshotRow(id=3, kind=FrozenKind.SNAPSHOT, name="second", revision=2, made_at=1.0, ready=True, rebuilt=True),
        SnapshotRow(id=1, kind=FrozenKind.SNAPSHOT, name="late", revision=1, made_at=2.0, ready=True),
    ]
    assert [row.name for row in await load_snapshots(store, FrozenKind.PIN)] == ["pin"]


async def test_load_snapshot(store: Store) -> None:
    """A snapshot and a pin may have the same name."""
    await add(store, "snapshot", name="s", revision=1, kind="pin")
    await add(store, "snapshot", name="t", revision=2)
    await add(store, "snapshot", name="s", revision=3)
    assert await load_snapshot(store, FrozenKind.SNAPSHOT, "s") == SnapshotRow(
        id=3, kind=FrozenKind.SNAPSHOT, name="s", revision=3, made_at=0.0, ready=True
    )
    assert await load_snapshot(store, FrozenKind.PIN, "t") is None


async def test_record_snapshot(store: Store) -> None:
    """The renderer of pages that were found on the disk is not known."""
    made = await record_snapshot(store, FrozenKind.SNAPSHOT, "s", revision=1, now=2.0, note="n")
    assert made == SnapshotRow(id=1, kind=FrozenKind.SNAPSHOT, name="s", revision=1, made_at=2.0, note="n")
    found = await record_snapshot(store, FrozenKind.PIN, "s", revision=3, now=4.0, rebuilt=True)
    assert found == SnapshotRow(id=2, kind=FrozenKind.PIN, name="s", revision=3, made_at=4.0, rebuilt=True)
    assert await rows_of(store, "snapshot", "id, renderer") == [(1, RENDERER), (2, 0)]


async def test_record_snapshot_ready(store: Store) -> None:
    """What its pages list is entered in its own row."""
    for name in ("s", "t"):
        await add(store, "snapshot", name=name, revision=1, ready=0)
    row = await load_snapshot(store, FrozenKind.SNAPSHOT, "s")
    assert row is not None
    await record_snapshot_ready(store, row, projects=2, files=3, size=4)
    assert await rows_of(store, "snapshot", "name, ready, projects, files, bytes") == [
        ("s", 1, 2, 3, 4),
        ("t", 0, 0, 0, 0),
    ]


async def test_record_kept_blobs_and_gone(store: Store) -> None:
    """A blob is kept once for each snapshot, and forgotten with it."""
    rows = [await record_snapshot(store, FrozenKind.SNAPSHOT, name, revision=1, now=0.0) for name in "st"]
    for row in (rows[0], rows[0], rows[1]):
        await record_kept_blobs(store, row, [(Sha256("a"), "f"), (Sha256("a"), "g")])
    assert await rows_of(store, "kept_blob", "*") == [
        ("a", "f", 1),
        ("a", "f", 2),
        ("a", "g", 1),
        ("a", "g", 2),
    ]
    await record_snapshot_gone(store, rows[0])
    assert await rows_of(store, "snapshot", "name") == [("t",)]
    assert await rows_of(store, "kept_blob", "*") == [("a", "f", 2), ("a", "g", 2)]


@pytest.mark.parametrize(
    ("revision", "all_files", "of_a", "projects"),
    [
        (0, (0, 0), (0, 0), 0),
        (1, (1, 1), (1, 1), 1),
        (2, (2, 5), (1, 1), 2),
        (3, (2, 6), (1, 2), 2),
        (4, (2, 10), (2, 10), 1),
        (5, (3, 26), (2, 10), 2),
        (6, (2, 10), (2, 10), 1),
    ],
)
async def test_counts_at_a_revision(
    store: Store, history: None, revision: int, all_files: tuple[int, int], of_a: tuple[int, int], projects: int
) -> None:
    """Files, bytes and projects are those of one revision: a project of two indexes counts once."""
    assert await count_published(store, revision) == all_files
    assert await count_published(store, revision, [*MANY, A]) == of_a
    assert await count_projects_at(store, revision) == projects


@pytest.mark.parametrize(
    ("revision", "expected"),
    [
        (0, {}),
        (2, {A: {"f": ("f1", 1)}, B: {"g": ("g1", 4)}}),
        (3, {A: {"f": ("f2", 2)}, B: {"g": ("g1", 4)}}),
        (4, {A: {"f": ("f2", 2), "h": ("h1", 8)}}),
        (5, {A: {"f": ("f2", 2), "h": ("h1", 8)}}),
    ],
)
async def test_load_files_at(
    store: Store, history: None, revision: int, expected: dict[ProjectName, dict[str, tuple[str, int]]]
) -> None:
    """The files of some projects are those of one revision, with their labels."""
    for filename, valid_to in (("open", None), ("closed", 6)):
        await add_file(store, filename, "d1", project=5, valid_to=valid_to)
    assert await load_files_at(store, [A, *MANY, B], revision) == {
        name: {
            filename: PublishedFile(
                sha256=sha256,
                size=size,
                labels=Labels(yanked=f"y{size}", requires_python="r", upload_time="t", provenance="p"),
            )
            for filename, (sha256, size) in files.items()
        }
        for name, files in expected.items()
    }


@pytest.mark.parametrize(
    ("first", "second", "names"),
    [
        (0, 6, [A, B, C]),
        (1, 2, [B]),
        (2, 1, [B]),
        (2, 3, [A]),
        (3, 4, [A, B]),
        (4, 5, [C]),
        (5, 6, [C]),
        (6, 9, []),
    ],
)
async def test_load_touched(store: Store, history: None, first: int, second: int, names: list[ProjectName]) -> None:
    """A project is touched where an entry opened or closed between two revisions."""
    assert [name async for chunk in load_touched(store, first, second) for name in chunk] == names


async def test_load_touched_in_chunks(store: Store, history: None) -> None:
    """Many names come in several chunks, by name."""
    for number in range(600):
        project = await add(store, "project", name=f"m{number:03}")
        await add_file(store, "f", "x", project=project, valid_from=2)
    chunks = [chunk async for chunk in load_touched(store, 1, 2)]
    assert [name for chunk in chunks for name in chunk] == [B, *(f"m{number:03}" for number in range(600))]
    assert max(map(len, chunks)) < 600


async def test_load_owners(store: Store, history: None) -> None:
    """A project that lists a file or once did owns it."""
    await add_file(store, "k", "g1", project=5)
    await add_file(store, "g", "g1", project=5, valid_to=2)
    many = [(f"0{number}", "f") for number in range(600)]
    assert await load_owners(store, [("g1", "g"), ("h1", "h"), *many]) == {
        ("g1", "g"): {B, D},
        ("g1", "k"): {D},
        ("h1", "h"): {A},
    }


async def test_load_lost_blobs(store: Store, history: None) -> None:
    """What a ready snapshot lists and no row knows is lost; a rebuilt one lists what was kept for it."""
    for name, revision, values in (
        ("s2", 2, {}),
        ("r1", 1, {"rebuilt": 1}),
        ("u1", 1, {"ready": 0}),
        ("p1", 1, {"kind": "pin"}),
        ("s3", 3, {}),
        ("s4", 4, {}),
    ):
        await add(store, "snapshot", name=name, revision=revision, **values)
    await add(store, "kept_blob", sha256="z", filename="z", snapshot=2)
    await add(store, "kept_blob", sha256="g1", filename="z", snapshot=2)
    await add(store, "kept_blob", sha256="h1", filename="h", snapshot=2)
    assert await load_lost_blobs(store) == [("r1", "", "g1", "z"), ("r1", "", "z", "z")]
    await store.connection.execute("DELETE FROM blob WHERE sha256 IN ('f1', 'f2', 'g1')")
    await add(store, "blob", sha256="f1", filename="other")
    await add(store, "blob", sha256="other", filename="f")
    assert await load_lost_blobs(store) == [
        ("s2", "a", "f1", "f"),
        ("s2", "b", "g1", "g"),
        ("s3", "b", "g1", "g"),
        ("r1", "", "g1", "z"),
        ("r1", "", "z", "z"),
    ]
    await add(store, "kept_blob", sha256="f1", filename="f", snapshot=2)
    assert (await load_lost_blobs(store))[:2] == [("r1", "", "f1", "f"), ("s2", "a", "f1", "f")]


async def test_load_revision_of_cycle(store: Store) -> None:
    """A cycle without a revision of its own ended with the one before it."""
    for cycle in (2, 3, 4, 5):
        await add(store, "cycle", id=cycle)
    for revision, cycle in ((1, 3), (2, 3), (3, 5)):
        await add(store, "revision", id=revision, cycle=cycle, at=1.0)
    assert [await load_revision_of_cycle(store, cycle) for cycle in range(1, 7)] == [None, 0, 2, 2, 3, None]


async def test_load_revision_at(store: Store) -> None:
    """The revision of a time is the last one until then."""
    await add_revisions(store, 3)
    assert [await load_revision_at(store, at) for at in (9.0, 10.0, 29.0, 30.0, 99.0)] == [0, 1, 2, 3, 3]


async def test_is_known(store: Store) -> None:
    """Before the history that is kept, only the revisions of snapshots and needed shipments are known."""
    await add(store, "snapshot", name="s", revision=2)
    await add(store, "snapshot", name="r", revision=3, rebuilt=1)
    await add(store, "shipment", sequence=1, revision=4)
    await add(store, "shipment", sequence=2, revision=5, needed=0)
    assert await is_known(store, 1)
    await add(store, "meta", key="history_from", value="7")
    assert [await is_known(store, revision) for revision in range(1, 9)] == [
        False, True, False, True, False, False, True, True,
    ]  # fmt: skip


async def test_load_sidecar_revisions(store: Store) -> None:
    """A blob's sidecar is of the revision that stood when the blob came, or when the sidecar last changed."""
    await add(store, "blob", sha256="a", filename="f")
    await add_revisions(store, 2)
    await add(store, "blob", sha256="b", filename="f")
    await add(store, "blob", sha256="b", filename="g")
    await add(store, "blob", sha256="c", filename="f")
    await add(store, "revision", id=3)
    await store.connection.execute("UPDATE blob SET metadata_sha256 = 'm' WHERE sha256 = 'b' AND filename = 'f'")
    await store.connection.execute("UPDATE blob SET metadata_sha256 = NULL, size = 2 WHERE sha256 = 'c'")
    many = [(Sha256(f"0{number}"), "f") for number in range(600)]
    assert await load_sidecar_revisions(store, [(Sha256("a"), "f"), (Sha256("b"), "f"), *many]) == {
        ("a", "f"): 0,
        ("b", "f"): 3,
        ("b", "g"): 2,
    }
    assert await load_sidecar_revisions(store, [(Sha256("c"), "f")]) == {("c", "f"): 2}
