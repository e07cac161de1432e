"""Each label of a file is kept in a column of its name, and read again everywhere."""

from __future__ import annotations

import msgspec
import pytest

from harness.state_rows import add, add_file
from mirror.core.diff import Relabel
from mirror.core.model import Labels, ListedFile
from mirror.core.names import ProjectName, Sha256
from mirror.state.entries.changes import Placed, ProjectRecord, record_changes
from mirror.state.entries.held import load_held
from mirror.state.entries.labels import LABELS, decode_digests, encode_digests, label_columns, label_values
from mirror.state.entries.pages import load_pages
from mirror.state.frozen.snapshots import load_files_at
from mirror.state.store import Store

NAME = ProjectName("a")


async def test_each_label_has_a_column(store: Store) -> None:
    """The columns of the labels are called like the fields."""
    columns = set(await store.values("SELECT name FROM pragma_table_info('entry')"))
    assert set(Labels.__struct_fields__) <= columns
    assert LABELS.split(", ") == list(Labels.__struct_fields__)
    assert label_columns("e").split(", ") == [f"e.{name}" for name in Labels.__struct_fields__]


@pytest.mark.parametrize("name", Labels.__struct_fields__)
async def test_each_label_is_kept(store: Store, name: str) -> None:
    """A label is there in all that reads a file, whether the file is new or has another label now."""
    await add(store, "source", name="main")
    await add(store, "project", name="a")
    labels = Labels(**{name: '{"k":1}'})
    file = ListedFile(filename="new", url="https://index/new", labels=labels)
    placed = Placed(file=file, sha256=Sha256("x"), size=1)
    await add(store, "revision")
    await add_file(store, "old", "y")
    old = (await load_held(store, [1]))[1]["old"]
    assert old.labels == Labels()
    record = ProjectRecord(
        project=1, source=1, name=NAME, placed=(placed,), relabel=(Relabel(held=old, labels=labels),)
    )
    await record_changes(store, [record], cycle=1, now=1.0, has_overlays=False)
    assert {one.filename: one.labels for one in (await load_held(store, [1]))[1].values()} == {
        "new": labels,
        "old": labels,
    }
    [page] = await load_pages(store, [NAME])
    assert [entry.labels for entry in page.view.entries] == [labels, labels]
    for revision, expected in ((1, {"old": Labels()}), (2, {"new": labels, "old": labels})):
        files = (await load_files_at(store, [NAME], revision))[NAME]
        assert {filename: one.labels for filename, one in files.items()} == expected


def test_label_values() -> None:
    """The values are in the order of the columns."""
    labels = Labels(yanked="y", provenance="p")
    assert dict(zip(LABELS.split(", "), label_values(labels), strict=True)) == msgspec.structs.asdict(labels)


@pytest.mark.parametrize(
    ("digests", "text"), [((), ""), ((("md5", "0"),), "md5=0"), ((("md5", "0"), ("sha256", "1")), "md5=0 sha256=1")]
)
def test_digests(digests: tuple[tuple[str, str], ...], text: str) -> None:
    """Digests are one text."""
    assert encode_digests(digests) == text
    assert decode_digests(text) == digests
