"""The queries of ``mirror.state.frozen.plan``."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mirror.errors import StateError
from mirror.state.frozen.plan import Member, Plan, PlannedItem, Volume, open_plan


@pytest.fixture
def plan(tmp_path: Path) -> Iterator[Plan]:
    """An open work file."""
    with open_plan(tmp_path / "plan.db") as opened:
        yield opened


def test_open_plan(tmp_path: Path) -> None:
    """What was kept is there after the file was opened again; a damaged file is named."""
    path = tmp_path / "plan.db"
    for number in (1, 2):
        with open_plan(path) as plan:
            assert plan.path == path
            plan.keep(**{f"key{number}": number})
    with open_plan(path) as plan:
        assert (plan.meta("key1"), plan.meta("key2")) == (1, 2)
    path.write_bytes(b"no database, " * 100)
    with pytest.raises(StateError, match="delete it, and make the bundle again"), open_plan(path):
        pass


def test_keep_and_meta(plan: Plan) -> None:
    """A value is found by its key, and replaced by the next of the same key."""
    plan.keep(a=1, b=[2])
    plan.keep(a={"c": 3})
    assert (plan.meta("a"), plan.meta("b"), plan.meta("c")) == ({"c": 3}, [2], None)


def test_forget(plan: Plan) -> None:
    """No table keeps a row."""
    plan.keep(a=1)
    plan.add_pages([("s", "p")])
    plan.add_items([item("i")])
    plan.add_removed(["r"])
    plan.replace_layout([(item("i"), "v1", [member("v1", 1, "m")])])
    plan.add_volumes([5])
    plan.forget()
    with closing(sqlite3.connect(plan.path)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        assert {name: db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables} == dict.fromkeys(
            ("meta", "page", "item", "removed", "member", "volume"), 0
        )


def test_pages(plan: Plan) -> None:
    """Pages are sorted by digest, then path, or by path alone; one of them is counted once."""
    plan.add_pages([("b", "x"), ("a", "z"), ("a", "y")])
    assert list(plan.iter_pages()) == [("a", "y"), ("a", "z"), ("b", "x")]
    assert list(plan.iter_pages(by_path=True)) == [("b", "x"), ("a", "y"), ("a", "z")]
    assert plan.count_pages() == 3


def test_a_failed_write_is_undone(plan: Plan) -> None:
    """Of a batch that fails nothing stays."""
    plan.add_pages([("a", "x")])
    with pytest.raises(sqlite3.IntegrityError):
        plan.add_pages([("b", "x"), ("a", "x")])
    assert list(plan.iter_pages()) == [("a", "x")]


def test_items(plan: Plan) -> None:
    """The items of one kind come by path, each once, in chunks; they are counted with their bytes."""
    plan.add_items([item("b", 2), item("a", 1), item("a", 9), item("c", 4, kind="page")])
    assert list(plan.iter_items("blob")) == [(item("a", 1), ""), (item("b", 2), "")]
    assert list(plan.iter_items("page")) == [(item("c", 4, kind="page"), "")]
    assert [plan.count_items(kind) for kind in ("blob", "page", "sidecar")] == [(2, 3), (1, 4), (0, 0)]
    plan.add_items(item(f"{number:05}") for number in range(2500))
    assert [one.path for one, _ in plan.iter_items("blob")] == [*(f"{n:05}" for n in range(2500)), "a", "b"]


def test_removed(plan: Plan) -> None:
    """The projects that leave are sorted, each once."""
    plan.add_removed(["b", "a"])
    plan.add_removed(["b", "c"])
    assert plan.removed() == ["a", "b", "c"]


def test_layout(plan: Plan) -> None:
    """Each item gets its place; the members are those of the last layout, in order."""
    plan.add_items([item("a"), item("b"), item("a", kind="page")])
    plan.replace_layout([(item("a"), "old", [member("old", 1, "m")])])
    plan.replace_layout(
        [
            (item("a"), "v2", [member("v2", 2, "n"), member("v2", 1, "m")]),
            (item("b"), "v1", [member("v1", 1, "k")]),
        ]
    )
    assert [place for _, place in plan.iter_items("blob")] == ["v2", "v1"]
    assert [place for _, place in plan.iter_items("page")] == [""]
    assert plan.parts("v2") == [(2, "n", 7), (1, "m", 7)]
    assert plan.parts("v1") == [(1, "k", 7)]
    assert plan.parts("old") == []
    assert list(plan.iter_members(1)) == [member("v2", 1, "m"), member("v1", 1, "k")]
    assert list(plan.iter_members(2)) == [member("v2", 2, "n")]


def test_volumes(plan: Plan) -> None:
    """Volumes are numbered from 1; one that is written has a digest."""
    plan.add_volumes([5, 6, 7])
    plan.record_volume(2, "x")
    plan.record_volume(3, "y")
    plan.record_volume(3, None)
    assert plan.volumes() == [
        Volume(number=1, size=5, sha256=None),
        Volume(number=2, size=6, sha256="x"),
        Volume(number=3, size=7, sha256=None),
    ]


def item(path: str, size: int = 1, *, kind: str = "blob") -> PlannedItem:
    return PlannedItem(kind=kind, path=path, size=size, sha256=f"digest of {path}")


def member(place: str, volume: int, name: str) -> Member:
    return Member(
        place=place, volume=volume, name=name, source=f"files/{name}", start=3, size=7, whole=11, sha256=f"of {name}"
    )
