"""The queries of ``mirror.state.blobs``."""

from __future__ import annotations

import math
from typing import Any

import pytest

from harness.state_rows import add, add_file, add_revisions, rows_of
from mirror.core.names import ProjectName, Sha256
from mirror.errors import Reason
from mirror.state.blobs.lost import LostFile, record_gone, record_lost, record_pages_damaged, record_sidecars
from mirror.state.blobs.prunable import (
    count_history,
    load_cycle_starts,
    load_prunable,
    load_prunable_total,
    record_history_pruned,
    record_pruned,
)
from mirror.state.blobs.verified import (
    BlobRow,
    Window,
    count_blobs,
    load_blob,
    load_known_files,
    load_oldest_verified,
    open_window,
    record_verified,
)
from mirror.state.store import Store

A, B = ProjectName("a"), ProjectName("b")


def blob(sha256: str, filename: str = "f", **values: Any) -> BlobRow:
    common = {"size": 1, "metadata_sha256": None, "verified": 0.0, "unlisted_since": None, "is_vouched": True}
    return BlobRow(sha256=Sha256(sha256), filename=filename, **{**common, **values})


@pytest.fixture
async def projects(store: Store) -> None:
    """``main`` with a (1) and b (2), ``first`` with a (3), ``former``, not configured, with a (4)."""
    await add_revisions(store, 6)
    await add(store, "source", name="main", position=1)
    await add(store, "source", name="first", position=0)
    await add(store, "source", name="former", position=2, configured=0)
    for source, name in ((1, "a"), (1, "b"), (2, "a"), (3, "a")):
        await add(store, "project", source=source, name=name, etag="e", last_modified="l", serial=1, digest="d")


class TestWindow:
    """The blobs that one run looks at."""

    @pytest.fixture(autouse=True)
    async def blobs(self, store: Store) -> None:
        """Blobs that were verified at several times, one of them in the future."""
        for sha256, filename, verified, size in (
            ("b", "f", 1.0, 1), ("a", "g", 1.0, 2), ("a", "f", 1.0, 4), ("c", "f", 5.0, 8), ("d", "f", 90.0, 16),
        ):  # fmt: skip
            await add(store, "blob", sha256=sha256, filename=filename, verified=verified, size=size)

    async def test_open_window(self, store: Store) -> None:
        """The time of a run is one that no row has."""
        assert await open_window(store, now=50.0) == Window(stamp=50.0, before=9e99, newest=90.0)
        stamp = math.nextafter(5.0, math.inf)
        assert await open_window(store, now=5.0, before=4.0) == Window(stamp=stamp, before=4.0, newest=90.0)

    async def test_open_window_without_blobs(self, store: Store) -> None:
        """Nothing was ever verified."""
        await store.connection.execute("DELETE FROM blob")
        assert await open_window(store, now=5.0) == Window(stamp=5.0, before=9e99, newest=0.0)

    @pytest.mark.parametrize(
        ("window", "expected"),
        [
            (Window(stamp=50.0, before=9e99, newest=90.0), ["a/f", "a/g", "b/f", "c/f", "d/f"]),
            (Window(stamp=50.0, before=5.0, newest=90.0), ["a/f", "a/g", "b/f", "d/f"]),
            (Window(stamp=99.0, before=5.0, newest=90.0), ["a/f", "a/g", "b/f"]),
            (Window(stamp=90.0, before=9e99, newest=90.0), ["a/f", "a/g", "b/f", "c/f"]),
            (Window(stamp=50.0, before=9e99, newest=5.0), ["a/f", "a/g", "b/f", "c/f"]),
            (Window(stamp=50.0, before=9e99, newest=4.0), ["a/f", "a/g", "b/f"]),
            (Window(stamp=0.5, before=0.0, newest=1.0), ["a/f", "a/g", "b/f"]),
        ],
    )
    async def test_load_oldest_verified(self, store: Store, window: Window, expected: list[str]) -> None:
        """The longest unverified come first, then by name; those of the future too. They are counted with their bytes."""
        found = [one async for one in load_oldest_verified(store, window)]
        assert [f"{one.sha256}/{one.filename}" for one in found] == expected
        limited = [one async for one in load_oldest_verified(store, window, limit=2)]
        assert limited == found[:2]
        assert await count_blobs(store, window) == (len(found), sum(one.size for one in found))
        assert found[0] == blob("a", verified=1.0, size=4)

    async def test_count_no_blobs(self, store: Store) -> None:
        """An empty window has no bytes."""
        assert await count_blobs(store, Window(stamp=1.0, before=0.0, newest=0.0)) == (0, 0)

    async def test_load_oldest_verified_in_chunks(self, store: Store) -> None:
        """More blobs than one query returns come once each."""
        await store.connection.execute(
            "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 2100)"
            " INSERT INTO blob (sha256, filename, size, stored, verified) SELECT 'x', i, 1, 0.0, 2.0 FROM n"
        )
        window = Window(stamp=99.0, before=9e99, newest=90.0)
        names = [one.filename async for one in load_oldest_verified(store, window)]
        assert names == ["f", "g", "f", *sorted(map(str, range(1, 2101))), "f", "f"]

    async def test_record_verified(self, store: Store) -> None:
        """Only these blobs are verified."""
        await record_verified(store, [blob("a"), blob("c")], 7.0)
        assert await rows_of(store, "blob", "sha256, filename, verified") == [
            ("a", "f", 7.0),
            ("a", "g", 1.0),
            ("b", "f", 1.0),
            ("c", "f", 7.0),
            ("d", "f", 90.0),
        ]


async def test_load_blob(store: Store, projects: None) -> None:
    """A blob is vouched for unless every open entry of it is without a digest."""
    await add(store, "blob", sha256="x", filename="f", size=5, metadata_sha256="m", verified=3.0, unlisted_since=4.0)
    await add(store, "blob", sha256="x", filename="g")
    whole = {"size": 5, "metadata_sha256": "m", "verified": 3.0, "unlisted_since": 4.0}
    assert await load_blob(store, Sha256("x"), "f") == blob("x", **whole)
    assert await load_blob(store, Sha256("x"), "h") is None
    assert await load_blob(store, Sha256("y"), "f") is None
    await add_file(store, "f", "x")
    await add_file(store, "f", "x", digests="md5=0", valid_to=2)
    await add_file(store, "f", "y", project=2, digests="md5=0")
    await add_file(store, "g", "x", digests="md5=0")
    assert await load_blob(store, Sha256("x"), "f") == blob("x", **whole, is_vouched=False)
    assert await load_blob(store, Sha256("x"), "g") == blob("x", "g")
    await add_file(store, "f", "x", project=3, digests="md5=0")
    assert await load_blob(store, Sha256("x"), "f") == blob("x", **whole)
    await add_file(store, "f", "z", valid_to=2)
    assert await load_blob(store, Sha256("z"), "f") == blob("z")


async def test_load_known_files(store: Store) -> None:
    """The blobs of one prefix are returned with their sidecars."""
    for sha256, metadata in (("0f", None), ("1", "m"), ("10", "m"), ("1f", None), ("20", None)):
        await add(store, "blob", sha256=sha256, filename="f", metadata_sha256=metadata)
    await add(store, "blob", sha256="1g", filename="f")
    assert await load_known_files(store, "1") == {("1", "f"): "m", ("10", "f"): "m", ("1f", "f"): None}


class TestPrunable:
    """The blobs that nothing lists any more."""

    async def names(self, store: Store, cutoff: float = 50.0, kept_from: int | None = None) -> list[str]:
        found = await load_prunable(store, cutoff, kept_from=kept_from)
        assert await load_prunable_total(store, cutoff, kept_from=kept_from) == (
            len(found),
            sum(one.size for one in found),
        )
        return [one.filename for one in found]

    async def test_age(self, store: Store, projects: None) -> None:
        """What was unlisted until a time may go, the longest unlisted first."""
        for filename, since, size in (("b", 50.0, 4), ("a", 20.0, 5), ("c", 51.0, 6), ("d", None, 7)):
            await add(store, "blob", sha256="x", filename=filename, unlisted_since=since, size=size)
        assert await self.names(store) == ["a", "b"]
        assert await load_prunable(store, 50.0, 1) == [blob("x", "a", size=5, unlisted_since=20.0)]
        assert await self.names(store, 9.0) == []

    async def test_lists(self, store: Store, projects: None) -> None:
        """What a page or a snapshot lists stays."""
        for name, revision in (("two", 2), ("four", 4)):
            await add(store, "snapshot", name=name, revision=revision)
        for filename in ("open", "snap", "late", "early", "kept", "other"):
            await add(store, "blob", sha256="x", filename=filename, unlisted_since=1.0)
        await add_file(store, "open", "x")
        await add_file(store, "snap", "x", valid_from=2, valid_to=3)
        await add_file(store, "late", "x", valid_from=3, valid_to=4)
        await add_file(store, "early", "x", valid_from=1, valid_to=2)
        await add(store, "kept_blob", sha256="x", filename="kept", snapshot=1)
        await add(store, "kept_blob", sha256="y", filename="other", snapshot=1)
        await add_file(store, "other", "y")
        await add_file(store, "late", "y", valid_from=2, valid_to=4)
        assert await self.names(store) == ["early", "late", "other"]
        forgotten = await record_pruned(
            store, [blob("x", name) for name in ("open", "snap", "late", "early", "kept", "other")]
        )
        assert [one.filename for one in forgotten] == ["late", "early", "other"]

    @pytest.mark.parametrize(("kept_from", "expected"), [(None, ["f4", "f5"]), (6, ["f4", "f5"]), (5, ["f4"]), (4, [])])
    async def test_recent(self, store: Store, projects: None, kept_from: int | None, expected: list[str]) -> None:
        """What the kept cycles took off the pages stays, whatever its clock said."""
        for cycle in (4, 5):
            await add(store, "blob", sha256="x", filename=f"f{cycle}", unlisted_since=1.0)
            await add_file(store, f"f{cycle}", "x", valid_to=cycle)
        await add_file(store, "f4", "y", valid_to=6)
        assert await self.names(store, kept_from=kept_from) == expected

    async def test_record_pruned(self, store: Store, projects: None) -> None:
        """Only blobs of which the retention ran are forgotten, with the metadata that nobody was sent."""
        for sha256, filename, since in (("x", "f", 1.0), ("x", "g", 1.0), ("y", "f", 1.0), ("z", "f", None)):
            await add(store, "blob", sha256=sha256, filename=filename, unlisted_since=since)
            await add(store, "first_metadata", sha256=sha256, filename=filename, metadata_sha256="m")
        assert await record_pruned(store, [blob("x"), blob("z")]) == [blob("x")]
        left = [("x", "g"), ("y", "f"), ("z", "f")]
        assert await rows_of(store, "blob", "sha256, filename") == left
        assert await rows_of(store, "first_metadata", "sha256, filename") == left
        await add(store, "shipment", revision=1)
        assert await record_pruned(store, [blob("y")]) == [blob("y")]
        assert await rows_of(store, "first_metadata", "sha256, filename") == left


class TestHistory:
    """The closed entries and the cycles of before a time."""

    @pytest.fixture(autouse=True)
    async def history(self, store: Store, projects: None) -> None:
        """Entries that closed in the revisions 2 to 6, cycles 0 to 7 of which 3 to 7 have no revision."""
        await store.connection.execute("UPDATE revision SET cycle = min(cycle, 3)")
        for valid_to in range(2, 7):
            await add_file(store, f"f{valid_to}", "x", valid_from=valid_to - 1, valid_to=valid_to)
        await add_file(store, "open", "x")
        for cycle in range(1, 8):
            await add(store, "cycle", id=cycle, started_at=cycle * 10.0)

    async def prune(self, store: Store, cutoff: float, kept_from: int | None = None) -> tuple[str, int | None]:
        count = await count_history(store, cutoff, kept_from=kept_from)
        assert await record_history_pruned(store, cutoff, kept_from=kept_from) == count
        left = "".join(str(row[0] or "-") for row in await store.rows("SELECT valid_to FROM entry ORDER BY id"))
        return left, await store.value("SELECT max(CAST(value AS INTEGER)) FROM meta WHERE key = 'history_from'")

    async def test_time(self, store: Store) -> None:
        """What closed until the last revision of a time goes; history begins there, and never earlier again."""
        assert await self.prune(store, 9.0) == ("23456-", None)
        assert await self.prune(store, 40.0) == ("56-", 4)
        await store.connection.execute("INSERT INTO entry SELECT 99, project, source, filename, sha256, size, digests,"
            " unhashed, url, upload_time, requires_python, yanked, provenance, extra, refused, absent_since, 1, 2, 0"
            " FROM entry LIMIT 1")  # fmt: skip
        assert await self.prune(store, 20.0) == ("56-", 4)
        assert await self.prune(store, 99.0) == ("-", 6)

    @pytest.mark.parametrize(("kept_from", "left"), [(2, ("23456-", None)), (3, ("3456-", 2)), (4, ("-", 6))])
    async def test_kept_from(self, store: Store, kept_from: int, left: tuple[str, int | None]) -> None:
        """What the kept cycles did stays."""
        assert await self.prune(store, 99.0, kept_from) == left

    async def test_needed(self, store: Store) -> None:
        """What a snapshot or a needed shipment shows stays."""
        await add(store, "snapshot", name="s", revision=2)
        await add(store, "shipment", revision=4, sequence=1)
        await add(store, "shipment", revision=5, sequence=2, needed=0)
        assert await self.prune(store, 99.0) == ("35-", 6)

    @pytest.mark.parametrize(
        ("cutoff", "kept_from", "left"),
        [
            (59.0, None, [1, 2, 3, 6, 7]),
            (60.0, None, [1, 2, 3, 7]),
            (99.0, None, [1, 2, 3, 7]),
            (99.0, 5, [1, 2, 3, 5, 6, 7]),
        ],
    )
    async def test_cycles(self, store: Store, cutoff: float, kept_from: int | None, left: list[int]) -> None:
        """A cycle with a revision stays, and so do the last one and those from a given one on."""
        await record_history_pruned(store, cutoff, kept_from=kept_from)
        assert [row[0] for row in await rows_of(store, "cycle", "id")] == left

    async def test_load_cycle_starts(self, store: Store) -> None:
        """The newest cycle comes first."""
        assert await load_cycle_starts(store) == [(cycle, cycle * 10.0) for cycle in range(7, 0, -1)]


class TestLost:
    """What is damaged leaves the pages."""

    async def test_record_lost(self, store: Store, projects: None) -> None:
        """Its entries close, its blob is forgotten, and every page of the project is read again."""
        for filename, sha256, project, source in (
            ("f", "x", 1, 1), ("f", "x", 3, 2), ("f", "x", 4, 3), ("g", "x", 1, 1), ("f", "y", 2, 1),
        ):  # fmt: skip
            await add_file(store, filename, sha256, project=project, source=source)
        await store.connection.execute("UPDATE project SET listed = 0 WHERE id = 1")
        found = await record_lost(store, [blob("x")], cycle=7, now=70.0)
        assert found == [
            lost(2, "first", is_configured=True),
            lost(1, "main", is_configured=False),
            lost(3, "former", is_configured=False),
        ]
        assert await rows_of(store, "entry", "project, filename, sha256, valid_to") == [
            (1, "f", "x", 7), (1, "g", "x", None), (2, "f", "y", None), (3, "f", "x", 7), (4, "f", "x", 7),
        ]  # fmt: skip
        assert await rows_of(store, "blob", "sha256, filename") == [("x", "g"), ("y", "f")]
        assert await rows_of(store, "project", "id, digest") == [(1, None), (2, "d"), (3, None), (4, None)]
        assert await rows_of(store, "page", "*") == [("a", 7, 1, 0)]

    async def test_record_lost_that_stays(self, store: Store, projects: None) -> None:
        """A blob that is whole stays until its retention ends."""
        await add_file(store, "f", "x", project=2)
        await record_lost(store, [blob("x")], cycle=7, now=70.0, keep_blobs=True)
        assert await rows_of(store, "blob", "sha256, unlisted_since") == [("x", 70.0)]

    async def test_record_lost_to_a_snapshot(self, store: Store, projects: None) -> None:
        """Where only a snapshot lists it, the snapshot is named."""
        for name, revision, kind in (("two", 2, "snapshot"), ("three", 3, "snapshot"), ("one", 1, "snapshot"),
                                     ("a-pin", 2, "pin")):  # fmt: skip
            await add(store, "snapshot", name=name, revision=revision, kind=kind)
        await add_file(store, "f", "x", project=2, valid_from=2, valid_to=3)
        await add_file(store, "f", "y", project=1, valid_from=1, valid_to=4)
        await add_file(store, "g", "x", project=1, valid_from=1, valid_to=4)
        await add(store, "kept_blob", sha256="k", filename="f", snapshot=2)
        await add(store, "kept_blob", sha256="k", filename="g", snapshot=3)
        await add(store, "kept_blob", sha256="x", filename="z", snapshot=3)
        found = await record_lost(store, [blob("x"), blob("k"), blob("k", "h"), blob("h", "f")], cycle=7, now=70.0)
        assert found == [
            lost(0, "snapshot two", is_configured=False, project=B),
            lost(0, "snapshot three", is_configured=False, project=ProjectName(""), sha256="k"),
        ]

    async def test_record_gone(self, store: Store, projects: None) -> None:
        """What a configured index should have is in the ledger, unless its file or page is there already."""
        files = [
            lost(1, "main", is_configured=True),
            lost(3, "former", is_configured=False),
            lost(1, "main", is_configured=True, project=B),
            lost(2, "first", is_configured=True),
        ]
        await add(store, "failure", source=1, project="b", filename="", reason="denied")
        await add(store, "failure", source=2, project="a", filename="f", reason="denied")
        await record_gone(store, files, now=70.0)
        assert await rows_of(store, "failure", "source, project, filename, reason, last_at") == [
            (1, "a", "f", Reason.NOT_FOUND.value, 70.0),
            (1, "b", "", "denied", 0.0),
            (2, "a", "f", "denied", 0.0),
        ]


def lost(source: int, index: str, *, is_configured: bool, project: ProjectName = A, sha256: str = "x") -> LostFile:
    return LostFile(
        source=source, index=index, is_configured=is_configured, project=project, filename="f", sha256=Sha256(sha256)
    )


async def test_record_sidecars(store: Store, projects: None) -> None:
    """The pages that show a sidecar are marked; where there is none any more, they are read again."""
    for filename, sha256, project in (("f", "x", 1), ("g", "x", 2), ("f", "y", 3)):
        await add_file(store, filename, sha256, project=project)
    await add_file(store, "f", "x", project=2, valid_to=2)
    await store.connection.execute("UPDATE blob SET metadata_sha256 = 'old', metadata_project = 9")
    await record_sidecars(store, [(blob("x"), Sha256("m"))], cycle=7, now=70.0)
    assert await rows_of(store, "blob", "sha256, filename, metadata_sha256, metadata_project") == [
        ("x", "f", "m", None),
        ("x", "g", "old", 9),
        ("y", "f", "old", 9),
    ]
    assert await rows_of(store, "page", "*") == [("a", 7, 1, 0)]
    assert await rows_of(store, "project", "id, digest") == [(1, "d"), (2, "d"), (3, "d"), (4, "d")]
    await record_sidecars(store, [(blob("x"), None)], cycle=8, now=80.0)
    assert await rows_of(store, "project", "id, digest") == [(1, None), (2, "d"), (3, None), (4, None)]


async def test_record_pages_damaged(store: Store) -> None:
    """The pages are marked at a new revision."""
    await add(store, "page", name="b")
    await record_pages_damaged(store, [A], cycle=7, now=70.0)
    assert await rows_of(store, "page", "*") == [("a", 1, 1, 0), ("b", 1, 0, 1)]
    assert await rows_of(store, "revision", "*") == [(1, 7, 70.0)]
