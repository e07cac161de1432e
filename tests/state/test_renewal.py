"""The queries of ``mirror.state.renewal``."""

from __future__ import annotations

import pytest

from harness.state_rows import add, add_revisions, rows_of
from mirror.core.names import ProjectName, Sha256
from mirror.core.pages.render_pages import RENDERER
from mirror.state.listing.sources import UNCLAIMED
from mirror.state.renewal import (
    load_dropped,
    load_offerable,
    load_outdated_snapshots,
    may_offer_in,
    record_dropped,
    record_dropped_gone,
    record_metadata_settled,
    record_snapshots_renewed,
    settle_metadata,
)
from mirror.state.store import Store

READ = {"etag": "e", "last_modified": "l", "serial": 1, "digest": "d"}


async def test_record_metadata_settled(store: Store) -> None:
    """A state that is settled is not judged."""
    await add(store, "blob", sha256="x", filename="a-1.zip", metadata_sha256="m")
    await add(store, "meta", key="other", value="2")
    for _ in range(2):  # also after a kill
        await record_metadata_settled(store)
    assert await settle_metadata(store) == 0
    assert await rows_of(store, "meta", "*") == [("metadata_rules", "1"), ("other", "2")]
    assert await rows_of(store, "blob", "metadata_sha256") == [("m",)]


class TestSettleMetadata:
    """``settle_metadata``: the metadata that an older version entered is judged once."""

    @pytest.fixture(autouse=True)
    async def projects(self, store: Store) -> None:
        """``main`` with a (1) and b (2), ``extra`` with a (3), unclaimed a (4)."""
        await add_revisions(store, 3)
        await add(store, "source", name="main")
        await add(store, "source", name="extra", position=1)
        await add(store, "source", name=UNCLAIMED, position=9, configured=0)
        for source, name in ((1, "a"), (1, "b"), (2, "a"), (3, "a")):
            await add(store, "project", source=source, name=name, **READ)

    async def old(self, store: Store, sha256: str, filename: str, metadata: str | None = "m", *projects: int) -> None:
        await add(store, "blob", sha256=sha256, filename=filename, metadata_sha256=metadata)
        for project in projects:
            await add(store, "entry", sha256=sha256, filename=filename, project=project)

    async def test_stays(self, store: Store) -> None:
        """Metadata stays where only the file's own project in one index can have brought it."""
        await self.old(store, "x", "a-1.zip", "m", 1)
        await self.old(store, "x", "a-2.whl", "m", 1, 3)
        await add(store, "entry", sha256="y", filename="a-1.zip", project=2)
        await add(store, "entry", sha256="x", filename="a-3.zip", project=2)
        assert await settle_metadata(store) == 0
        assert await rows_of(store, "blob", "filename, metadata_sha256, metadata_project") == [
            ("a-1.zip", "m", 1),
            ("a-2.whl", "m", None),
        ]
        assert await rows_of(store, "first_metadata", "*") == [("x", "a-1.zip", "m")]
        assert await rows_of(store, "dropped_metadata", "*") == []
        assert await rows_of(store, "project", "id, digest") == [(1, "d"), (2, "d"), (3, "d"), (4, "d")]
        assert await rows_of(store, "meta", "*") == [("metadata_rules", "1")]

    async def test_drops(self, store: Store) -> None:
        """Metadata of a file with several owners, or another project's, is dropped; the pages are read again."""
        await self.old(store, "x1", "a-1.zip", "m", 1, 3)
        await self.old(store, "x2", "a-2.zip", "m", 2)
        await self.old(store, "x3", "a-3.zip", "m", 4)
        await self.old(store, "x4", "a-4.zip", "m")
        await self.old(store, "x5", "a-5.zip", "m", 1)
        await add(store, "entry", sha256="x5", filename="a-5.zip", project=3, valid_to=2)
        await self.old(store, "x6", "a-6.zip", "m", 1)
        await add(store, "snapshot", name="s", revision=1)
        await add(store, "kept_blob", sha256="x6", filename="a-6.zip", snapshot=1)
        await self.old(store, "x7", "a-7.zip", "m", 1)
        await self.old(store, "x1", "a-9.zip", "m", 1)
        assert await settle_metadata(store) == 6
        dropped = [(f"x{number}", f"a-{number}.zip") for number in range(1, 7)]
        assert await rows_of(store, "blob", "sha256, filename, metadata_sha256, metadata_project") == sorted(
            [*((*file, None, None) for file in dropped), ("x7", "a-7.zip", "m", 1), ("x1", "a-9.zip", "m", 1)], key=repr
        )
        assert await rows_of(store, "dropped_metadata", "*") == dropped
        assert await rows_of(store, "first_metadata", "*") == [("x1", "a-9.zip", "m"), ("x7", "a-7.zip", "m")]
        assert await rows_of(store, "project", "id, etag, last_modified, serial, digest") == [
            (1, None, None, None, None),
            (2, "e", "l", 1, "d"),
            (3, None, None, None, None),
            (4, None, None, None, None),
        ]

    async def test_pruned_history(self, store: Store) -> None:
        """Where history was pruned, nobody knows what a page once listed."""
        await self.old(store, "x", "a-1.zip", "m", 1)
        await add(store, "meta", key="other", value="2")
        await add(store, "meta", key="history_from", value="2")
        assert await settle_metadata(store) == 1

    async def test_strays(self, store: Store) -> None:
        """Metadata that the state does not know may lie beside a file with several owners."""
        await self.old(store, "x1", "a-1.zip", None, 1, 3)
        await self.old(store, "x2", "a-2.zip", None, 1)
        await self.old(store, "x3", "a-3.whl", None, 1, 3)
        await add(store, "dropped_metadata", sha256="x1", filename="a-1.zip")
        assert await settle_metadata(store) == 0
        assert await rows_of(store, "dropped_metadata", "*") == [("x1", "a-1.zip")]

    @pytest.mark.parametrize(
        ("since", "sent", "valid_from", "first"),
        [
            (1, None, 1, None),
            (1, 1, 1, "m"),
            (2, 1, 1, ""),
            (2, 1, 2, None),
            (2, 3, 2, "m"),
        ],
    )
    async def test_sent(self, store: Store, since: int, sent: int | None, valid_from: int, first: str | None) -> None:
        """What a site may have received gets no other metadata: which was sent is kept, or that nobody knows."""
        await self.old(store, "x", "a-1.zip", "m")
        await add(store, "entry", sha256="x", filename="a-1.zip", project=2, valid_from=valid_from)
        await add(store, "entry", sha256="x", filename="a-2.zip", project=2, valid_from=1)
        await add(store, "entry", sha256="y", filename="a-1.zip", project=1, valid_from=1)
        await store.connection.execute("UPDATE blob SET metadata_revision = ?", (since,))
        if sent is not None:
            await add(store, "shipment", revision=sent, sequence=2)
            await add(store, "shipment", revision=0, sequence=1)
        assert await settle_metadata(store) == 1
        rows = await rows_of(store, "first_metadata", "*")
        assert rows == ([] if first is None else [("x", "a-1.zip", first)])

    async def test_first_stays(self, store: Store) -> None:
        """What is known to have been published first stays."""
        await self.old(store, "x", "a-1.zip", "m", 1, 3)
        await add(store, "shipment", revision=3)
        await add(store, "first_metadata", sha256="x", filename="a-1.zip", metadata_sha256="n")
        await add(store, "dropped_metadata", sha256="x", filename="a-1.zip")
        assert await settle_metadata(store) == 1
        assert await rows_of(store, "first_metadata", "*") == [("x", "a-1.zip", "n")]

    async def test_chunks(self, store: Store) -> None:
        """More files than one query takes are each judged once, also several of one digest."""
        for number in range(1100):
            await self.old(store, f"x{number % 3}", f"a-{number}.zip", "m")
        assert await settle_metadata(store) == 1100


async def test_load_outdated_snapshots(store: Store) -> None:
    """A ready snapshot of another renderer is outdated; a pin has no pages."""
    for name, values in (
        ("new", {"renderer": RENDERER}),
        ("old", {"renderer": RENDERER - 1}),
        ("found", {"renderer": 0}),
        ("begun", {"renderer": 0, "ready": 0}),
        ("pin", {"renderer": 0, "kind": "pin"}),
    ):
        await add(store, "snapshot", name=name, revision=1, **values)
    assert await load_outdated_snapshots(store) == ["found", "old"]


async def test_record_snapshots_renewed(store: Store) -> None:
    """Only the snapshots of these names are renewed."""
    for name, kind in (("s", "snapshot"), ("s", "pin"), ("t", "snapshot")):
        await add(store, "snapshot", name=name, kind=kind, revision=1, renderer=0)
    await record_snapshots_renewed(store, ["s"])
    assert await rows_of(store, "snapshot", "name, kind, renderer") == [
        ("s", "pin", 0),
        ("s", "snapshot", RENDERER),
        ("t", "snapshot", 0),
    ]


async def test_load_offerable(store: Store) -> None:
    """The metadata beside known files is returned, in chunks."""
    for sha256, metadata in (("a", "m"), ("b", "n"), ("c", None)):
        await add(store, "blob", sha256=sha256, filename="f", metadata_sha256=metadata)
    many = [(f"0{number}", "f") for number in range(600)]
    assert await load_offerable(store, [("a", "f"), ("c", "f"), *many]) == {("a", "f"): "m", ("c", "f"): None}


@pytest.mark.parametrize(
    ("filename", "may"), [("a-1.tar.gz", True), ("b-1.tar.gz", False), ("b-1-py3-none-any.whl", True)]
)
def test_may_offer_in(filename: str, may: bool) -> None:
    """A page may offer the metadata of wheels and of its own project's other files."""
    assert may_offer_in(ProjectName("a"), filename) is may


async def test_record_dropped(store: Store) -> None:
    """What is known as dropped stays."""
    for _ in range(2):
        await record_dropped(store, [(Sha256("a"), "f"), (Sha256("b"), "f")])
    assert await rows_of(store, "dropped_metadata", "*") == [("a", "f"), ("b", "f")]


async def test_load_dropped(store: Store) -> None:
    """Dropped metadata leaves unless metadata came back for the same file."""
    for sha256, filename in (("a", "f"), ("a", "g"), ("b", "f"), ("c", "f")):
        await add(store, "dropped_metadata", sha256=sha256, filename=filename)
    for sha256, filename, metadata in (("a", "f", "m"), ("b", "f", None), ("c", "g", "m"), ("d", "g", "m")):
        await add(store, "blob", sha256=sha256, filename=filename, metadata_sha256=metadata)
    assert sorted(await load_dropped(store)) == [("a", "g"), ("b", "f"), ("c", "f")]


async def test_record_dropped_gone(store: Store) -> None:
    """Only what left is forgotten."""
    for sha256, filename in (("a", "f"), ("a", "g"), ("b", "f")):
        await add(store, "dropped_metadata", sha256=sha256, filename=filename)
    await record_dropped_gone(store, [(Sha256("a"), "f")])
    assert await rows_of(store, "dropped_metadata", "*") == [("a", "g"), ("b", "f")]
