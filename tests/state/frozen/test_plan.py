"""The queries of ``mirror.state.frozen.draft``."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mirror.errors import StateError
from mirror.state.frozen.draft import BundleDraft, BundleItem, Member, Volume, open_draft


@pytest.fixture
def draft(tmp_path: Path) -> Iterator[BundleDraft]:
    """An open work file."""
    with open_draft(tmp_path / "plan.db") as opened:
        yield opened


def test_open_plan(tmp_path: Path) -> None:
    """What was kept is there after the file was opened again; a damaged file is named."""
    path = tmp_path / "plan.db"
    for number in (1, 2):
        with open_draft(path) as draft:
            assert draft.path == path
            draft.keep(**{f"key{number}": number})
    with open_draft(path) as draft:
        assert (draft.meta("key1"), draft.meta("key2")) == (1, 2)
    path.write_bytes(b"no database, " * 100)
    with pytest.raises(StateError, match="delete it, and make the bundle again"), open_draft(path):
        pass


def test_keep_and_meta(draft: BundleDraft) -> None:
    """A value is found by its key, and replaced by the next of the same key."""
    draft.keep(a=1, b=[2])
    draft.keep(a={"c": 3})
    assert (draft.meta("a"), draft.meta("b"), draft.meta("c")) == ({"c": 3}, [2], None)


def test_forget(draft: BundleDraft) -> None:
    """No table keeps a row."""
    draft.keep(a=1)
    draft.add_pages([("s", "p")])
    draft.add_items([item("i")])
    draft.add_removed(["r"])
    draft.replace_layout([(item("i"), "v1", [member("v1", 1, "m")])])
    draft.add_volumes([5])
    draft.forget()
    with closing(sqlite3.connect(draft.path)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        assert {name: db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables} == dict.fromkeys(
            ("meta", "page", "item", "removed", "member", "volume"), 0
        )


def test_pages(draft: BundleDraft) -> None:
    """Pages are sorted by digest, then path, or by path alone; one of them is counted once."""
    draft.add_pages([("b", "x"), ("a", "z"), ("a", "y")])
    assert list(draft.iter_pages()) == [("a", "y"), ("a", "z"), ("b", "x")]
    assert list(draft.iter_pages(by_path=True)) == [("b", "x"), ("a", "y"), ("a", "z")]
    assert draft.count_pages() == 3


def test_a_failed_write_is_undone(draft: BundleDraft) -> None:
    """Of a batch that fails nothing stays."""
    draft.add_pages([("a", "x")])
    with pytest.raises(sqlite3.IntegrityError):
        draft.add_pages([("b", "x"), ("a", "x")])
    assert list(draft.iter_pages()) == [("a", "x")]


def test_items(draft: BundleDraft) -> None:
    """The items of one kind come by path, each once, in chunks; they are counted with their bytes."""
    draft.add_items([item("b", 2), item("a", 1), item("a", 9), item("c", 4, kind="page")])
    assert list(draft.iter_items("blob")) == [(item("a", 1), ""), (item("b", 2), "")]
    assert list(draft.iter_items("page")) == [(item("c", 4, kind="page"), "")]
    assert [draft.count_items(kind) for kind in ("blob", "page", "sidecar")] == [(2, 3), (1, 4), (0, 0)]
    draft.add_items(item(f"{number:05}") for number in range(2500))
    assert [one.path for one, _ in draft.iter_items("blob")] == [*(f"{n:05}" for n in range(2500)), "a", "b"]


def test_removed(draft: BundleDraft) -> None:
    """The projects that leave are sorted, each once."""
    draft.add_removed(["b", "a"])
    draft.add_removed(["b", "c"])
    assert draft.removed() == ["a", "b", "c"]


def test_layout(draft: BundleDraft) -> None:
    """Each item gets its place; the members are those of the last layout, in order."""
    draft.add_items([item("a"), item("b"), item("a", kind="page")])
    draft.replace_layout([(item("a"), "old", [member("old", 1, "m")])])
    draft.replace_layout(
        [
            (item("a"), "v2", [member("v2", 2, "n"), member("v2", 1, "m")]),
            (item("b"), "v1", [member("v1", 1, "k")]),
        ]
    )
    assert [place for _, place in draft.iter_items("blob")] == ["v2", "v1"]
    assert [place for _, place in draft.iter_items("page")] == [""]
    assert draft.parts("v2") == [(2, "n", 7), (1, "m", 7)]
    assert draft.parts("v1") == [(1, "k", 7)]
    assert draft.parts("old") == []
    assert list(draft.iter_members(1)) == [member("v2", 1, "m"), member("v1", 1, "k")]
    assert list(draft.iter_members(2)) == [member("v2", 2, "n")]


def test_volumes(draft: BundleDraft) -> None:
    """Volumes are numbered from 1; one that is written has a digest."""
    draft.add_volumes([5, 6, 7])
    draft.record_volume(2, "x")
    draft.record_volume(3, "y")
    draft.record_volume(3, None)
    assert draft.volumes() == [
        Volume(number=1, size=5, sha256=None),
        Volume(number=2, size=6, sha256="x"),
        Volume(number=3, size=7, sha256=None),
    ]


def item(path: str, size: int = 1, *, kind: str = "blob") -> BundleItem:
    return BundleItem(kind=kind, path=path, size=size, sha256=f"digest of {path}")


def member(place: str, volume: int, name: str) -> Member:
    return Member(
        place=place, volume=volume, name=name, source=f"files/{name}", start=3, size=7, whole=11, sha256=f"of {name}"
    )
