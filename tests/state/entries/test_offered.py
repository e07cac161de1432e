"""The queries of ``mirror.state.entries.offered``."""

from __future__ import annotations

from harness.state_rows import add, add_revisions, rows_of
from mirror.core.names import Sha256
from mirror.state.entries.offered import Offered, enter_offered, first_metadata, load_first, offers_metadata
from mirror.state.store import Store


async def test_enter_offered(store: Store) -> None:
    """Metadata is entered beside its blob; what was published first stays the first."""
    for sha256, filename in (("a", "f"), ("a", "g"), ("a", "h"), ("b", "f")):
        await add(store, "blob", sha256=sha256, filename=filename, metadata_sha256="old")
        await add(store, "dropped_metadata", sha256=sha256, filename=filename)
    await add(store, "first_metadata", sha256="a", filename="g", metadata_sha256="first")
    async with store.transaction() as tx:
        await enter_offered(tx, [offered("a", "f", 3, "m"), offered("a", "g", 4, "n")])
    assert await rows_of(store, "blob", "sha256, filename, metadata_sha256, metadata_project") == [
        ("a", "f", "m", 3),
        ("a", "g", "n", 4),
        ("a", "h", "old", None),
        ("b", "f", "old", None),
    ]
    assert await rows_of(store, "first_metadata", "*") == [("a", "f", "m"), ("a", "g", "first")]
    assert await rows_of(store, "dropped_metadata", "*") == [("a", "h"), ("b", "f")]


async def test_load_first(store: Store) -> None:
    """The metadata that was published first is found by the digest of the file, in chunks."""
    for sha256, filename in (("a", "f"), ("a", "g"), ("b", "f"), ("c", "f")):
        await add(store, "first_metadata", sha256=sha256, filename=filename, metadata_sha256=sha256 + filename)
    many = [(Sha256(f"0{number}"), "f") for number in range(600)]
    found = await load_first(store, [(Sha256("a"), "f"), (Sha256("c"), "f"), *many])
    assert found == {("a", "f"): "af", ("a", "g"): "ag", ("c", "f"): "cf"}


async def test_offers_metadata(store: Store) -> None:
    """A page offers the metadata of wheels, and of other files of the project that has it."""
    await add_revisions(store, 1)
    await add(store, "source", name="main")
    for name in ("a", "b"):
        await add(store, "project", name=name)
    for filename, project in (("w.whl", None), ("mine.zip", 1), ("other.zip", 2), ("none.zip", None)):
        await add(store, "blob", sha256="x", filename=filename, metadata_project=project)
        await add(store, "entry", sha256="x", filename=filename)
    rows = await store.rows(
        f"SELECT e.filename FROM entry e JOIN blob b ON b.filename = e.filename WHERE {offers_metadata('e')} ORDER BY 1"
    )
    assert rows == [("mine.zip",), ("w.whl",)]


async def test_first_metadata(store: Store) -> None:
    """The column is null for a wheel and for what was never published with metadata."""
    for sha256, filename in (("a", "w.whl"), ("a", "s.zip"), ("b", "s.zip"), ("a", "t.zip")):
        await add(store, "blob", sha256=sha256, filename=filename)
    for sha256, filename in (("a", "w.whl"), ("a", "s.zip")):
        await add(store, "first_metadata", sha256=sha256, filename=filename, metadata_sha256="m")
    rows = await store.rows(f"SELECT sha256, filename, {first_metadata('blob')} FROM blob ORDER BY 1, 2")
    assert rows == [("a", "s.zip", "m"), ("a", "t.zip", None), ("a", "w.whl", None), ("b", "s.zip", None)]


def offered(sha256: str, filename: str, project: int, metadata: str) -> Offered:
    return Offered(sha256=Sha256(sha256), filename=filename, project=project, metadata_sha256=Sha256(metadata))
