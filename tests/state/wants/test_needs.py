"""The queries of ``mirror.state.wants.needs`` and ``failures``."""

from __future__ import annotations

import msgspec
import pytest

from harness.state_rows import add, add_file, rows_of
from mirror.core.names import ProjectName
from mirror.errors import Reason
from mirror.state.store import Store
from mirror.state.wants.failures import WantedFailure, load_wanted_failures
from mirror.state.wants.needs import (
    Key,
    NamedRow,
    NewResolution,
    Remembered,
    StoredResolution,
    WantedFile,
    forget_earlier_sets,
    forget_resolutions,
    forget_wants,
    has_wants,
    load_asked,
    load_fallback,
    load_missing,
    load_named,
    load_needed_indexes,
    load_published_count,
    load_remembered,
    load_resolutions,
    load_wanted,
    load_wants_by_project,
    load_wants_of,
    record_inputs,
    record_remembered,
    record_resolution,
)

FIRST = Key(want="apps", file="", target="linux")
SECOND = Key(want="apps", file="", target="mac")
OTHERS = (Key(want="apps", file="r.txt", target="linux"), Key(want="tools", file="", target="linux"))


def wanted(filename: str, project: str = "a", index: str = "main") -> WantedFile:
    return WantedFile(index=index, project=project, filename=filename)


async def record(store: Store, key: Key, *files: str, cycle: int = 1) -> None:
    new = NewResolution(key=key, inputs="i", answer=b"{}", files=tuple(map(wanted, files)))
    await record_resolution(store, new, cycle=cycle, now=10.0)


@pytest.fixture
async def indexes(store: Store) -> None:
    """The index ``main`` with a (1), ``extra`` with a (2); of main g is published, of extra h; f was published."""
    await add(store, "revision", id=1)
    for source, name in ((1, "main"), (2, "extra")):
        await add(store, "source", name=name, position=source)
        await add(store, "project", source=source, name="a")
    await add_file(store, "f", "x", valid_to=1)
    await add_file(store, "g", "x")
    await add_file(store, "h", "x", project=2, source=2)


async def test_record_resolution(store: Store) -> None:
    """A resolution has its answer, its names and its files; a later run replaces all of them."""
    new = NewResolution(
        key=FIRST, inputs="i", answer=b'{"k":1}', names=("b", "a", "b"), files=(wanted("f"),), sought=(wanted("s"),)
    )
    await record_resolution(store, new, cycle=1, now=10.0)
    for key in (SECOND, *OTHERS):
        await record(store, key, "f")
    again = msgspec.structs.replace(new, inputs="j", answer=b"{}", names=("c",), files=None, sought=(wanted("t"),))
    await record_resolution(store, again, cycle=2, now=20.0)
    assert await rows_of(store, "resolution", "*") == [
        (1, "apps", "", "linux", "j", "{}", 2, 20.0),
        (2, "apps", "", "mac", "i", "{}", 1, 10.0),
        (3, "apps", "r.txt", "linux", "i", "{}", 1, 10.0),
        (4, "tools", "", "linux", "i", "{}", 1, 10.0),
    ]
    assert await load_asked(store) == {1: ("c",)}
    assert await rows_of(store, "wanted", "*") == [
        (1, "set", "main", "a", "f"),
        (1, "sought", "main", "a", "t"),
        *((number, "set", "main", "a", "f") for number in (2, 3, 4)),
    ]


async def test_record_resolution_sets(store: Store) -> None:
    """The first set stays wanted as the earlier one until it is let go; a set in between does not stay."""
    await record(store, SECOND, "other")
    await add(store, "wanted", resolution=1, part="earlier", index_name="main", project="a", filename="old")
    for number in range(1, 4):
        await record(store, FIRST, f"f{number}")
    assert await rows_of(store, "wanted", "resolution, part, filename") == [
        (1, "earlier", "old"),
        (1, "set", "other"),
        (2, "earlier", "f1"),
        (2, "set", "f3"),
    ]


async def test_load_resolutions(store: Store) -> None:
    """Resolutions are found by their keys."""
    for key in (SECOND, FIRST):
        await record(store, key)
    assert list((await load_resolutions(store)).items()) == [
        (FIRST, StoredResolution(id=2, key=FIRST, inputs="i", answer=b"{}")),
        (SECOND, StoredResolution(id=1, key=SECOND, inputs="i", answer=b"{}")),
    ]


async def test_load_asked(store: Store) -> None:
    """The names are in order."""
    for project, resolution in (("a", 2), ("b", 1), ("c", 1), ("a", 1)):
        await add(store, "asked", project=project, resolution=resolution)
    found = await load_asked(store)
    assert list(found.items()) == [(1, ("a", "b", "c")), (2, ("a",))]


async def test_load_wanted(store: Store) -> None:
    """All parts of all resolutions are wanted."""
    for resolution, part, index, filename in (
        (1, "set", "main", "f"),
        (2, "earlier", "main", "g"),
        (2, "sought", "extra", "f"),
    ):
        await add(store, "wanted", resolution=resolution, part=part, index_name=index, project="a", filename=filename)
    assert await load_wanted(store) == {("main", "a"): {"f", "g"}, ("extra", "a"): {"f"}}


async def test_load_wants_of(store: Store) -> None:
    """A file has the wants whose sets or sought files it is in, each once and in order."""
    for number, want in ((1, "tools"), (2, "apps"), (3, "apps"), (4, "none")):
        await add(
            store,
            "resolution",
            id=number,
            want=want,
            file="",
            target=str(number),
            inputs="",
            answer="",
            cycle=1,
            made_at=0.0,
        )
    for resolution, part, project in (
        (1, "set", "a"),
        (2, "sought", "a"),
        (3, "set", "a"),
        (4, "earlier", "a"),
        (4, "set", "b"),
    ):
        await add(store, "wanted", resolution=resolution, part=part, index_name="main", project=project, filename="f")
    assert await load_wants_of(store, "a") == {"f": ("apps", "tools")}


async def test_record_inputs(store: Store) -> None:
    """A result that is unchanged gets the digest of what it depends on now."""
    await record(store, FIRST)
    await record(store, SECOND)
    await record_inputs(store, {2: ("j", b"[]")})
    assert await rows_of(store, "resolution", "id, inputs, answer") == [(1, "i", "{}"), (2, "j", "[]")]


async def test_forget_resolutions(store: Store) -> None:
    """Nothing of a resolution stays."""
    for key in (FIRST, SECOND):
        new = NewResolution(key=key, inputs="", answer=b"", names=("a",), files=(wanted("f"),))
        await record_resolution(store, new, cycle=1, now=0.0)
    await forget_resolutions(store, [1])
    assert await rows_of(store, "resolution", "id") == [(2,)]
    assert await rows_of(store, "asked", "resolution") == [(2,)]
    assert await rows_of(store, "wanted", "resolution") == [(2,)]


async def test_load_missing(store: Store, indexes: None) -> None:
    """A file of a set is missing unless a page publishes it for its index and project now."""
    await record(store, SECOND, "g", "f")
    await record(store, FIRST, "h")
    await add(store, "project", name="b")
    await add(store, "entry", filename="k", sha256="x", project=3)
    new = NewResolution(
        key=OTHERS[1],
        inputs="",
        answer=b"",
        files=(wanted("g", "b"), wanted("g", index="extra")),
        sought=(wanted("z"),),
    )
    await record_resolution(store, new, cycle=1, now=0.0)
    for part in ("earlier", "sought"):
        await add(store, "wanted", resolution=1, part=part, index_name="main", project="a", filename=part)
    assert await load_missing(store) == [
        (FIRST, wanted("h")),
        (SECOND, wanted("f")),
        (OTHERS[1], wanted("g", index="extra")),
        (OTHERS[1], wanted("g", "b")),
    ]


async def test_let_earlier_go(store: Store, indexes: None) -> None:
    """An earlier set leaves once every file of the new one is published; others stay."""
    await record(store, FIRST, "old")
    await record(store, FIRST, "g")
    await record(store, SECOND, "old")
    await record(store, SECOND, "f", "g")
    await record(store, OTHERS[0], "f")
    await add(store, "wanted", resolution=1, part="sought", index_name="main", project="a", filename="f")
    assert await forget_earlier_sets(store) == 1
    assert await rows_of(store, "wanted", "resolution, part, filename") == [
        (1, "set", "g"),
        (1, "sought", "f"),
        (2, "earlier", "old"),
        (2, "set", "f"),
        (2, "set", "g"),
        (3, "set", "f"),
    ]
    revisions = store.changes
    assert await forget_earlier_sets(store) == 0
    assert store.changes == revisions


async def test_forget_wants(store: Store, indexes: None) -> None:
    """Without wants nothing of them stays; other values of the mirror do."""
    await add(store, "meta", key="renderer", value="1")
    await record(store, FIRST, "f")
    await forget_wants(store)
    assert await rows_of(store, "resolution", "id") == [(1,)]
    await record_remembered(store, Remembered(targets=b"[1]", wants=b"[2]", folder="/f"))
    await add(store, "asked", project="a", resolution=1)
    await add(store, "dropped_want", project="a", filename="k", index_name="main", cycle=1)
    await store.connection.execute("UPDATE source SET needed_since = 1")
    await forget_wants(store)
    for table in ("resolution", "asked", "wanted", "dropped_want"):
        assert await rows_of(store, table, "*") == []
    assert await rows_of(store, "meta", "key") == [("renderer",)]
    assert await rows_of(store, "source", "needed_since") == [(None,), (None,)]


@pytest.mark.parametrize(("wants", "has_any"), [(None, False), ("", False), ("[]", False), ("[{}]", True)])
async def test_has_wants(store: Store, wants: str | None, *, has_any: bool) -> None:
    """An empty list is none."""
    if wants is not None:
        await add(store, "meta", key="wants", value=wants)
    assert await has_wants(store) is has_any


async def test_record_remembered(store: Store) -> None:
    """The wants and targets of the last cycle are remembered; equal ones are not written again."""
    assert await load_remembered(store) is None
    remembered = Remembered(targets=b"[1]", wants=b"[2]", folder="/f")
    for one in (remembered, msgspec.structs.replace(remembered, folder="/g")):
        await record_remembered(store, one)
        assert await load_remembered(store) == one
    changes = store.changes
    await record_remembered(store, one)
    assert store.changes == changes


async def test_load_published_count(store: Store, indexes: None) -> None:
    """A published file of an index counts unless it is wanted of that index under its project's name."""
    await add_file(store, "k", "x")
    await record(store, FIRST, "g")
    assert await load_published_count(store, "main") == 1
    assert await load_published_count(store, "extra") == 1
    for index, project in (("extra", "a"), ("main", "b")):
        await add(store, "wanted", resolution=1, part="set", index_name=index, project=project, filename="k")
    assert await load_published_count(store, "main") == 1


async def test_load_named(store: Store) -> None:
    """Projects are found in all indexes that list and want them."""
    await add(store, "source", name="main")
    await add(store, "source", name="former", configured=0)
    for values in (
        {"name": "a"},
        {"name": "b", "absent_since": 1},
        {"name": "gone", "listed": 0},
        {"name": "left", "wanted": 0},
        {"name": "other"},
        {"name": "a", "source": 2},
    ):
        await add(store, "project", **values)
    found = await load_named(store, ["a", "b", "gone", "left", *map(str, range(600))])
    assert sorted(found, key=lambda row: row.id) == [
        NamedRow(id=1, name=ProjectName("a"), source=1, is_absent=False),
        NamedRow(id=2, name=ProjectName("b"), source=1, is_absent=True),
    ]


async def test_load_wanted_failures(store: Store) -> None:
    """The ledger's rows of projects that a resolution asked for, of configured indexes."""
    await add(store, "source", name="main")
    await add(store, "source", name="former", configured=0)
    for project, filename, source in (("b", "", 1), ("a", "g", 1), ("a", "f", 1), ("c", "", 1), ("a", "", 2)):
        await add(store, "failure", project=project, filename=filename, source=source, detail="d")
    for project in "ab":
        await add(store, "asked", project=project, resolution=1)
    assert await load_wanted_failures(store) == [
        WantedFailure(index="main", project=project, filename=filename, reason=Reason.NOT_FOUND, detail="d")
        for project, filename in (("a", "f"), ("a", "g"), ("b", ""))
    ]


async def test_load_wants_by_project(store: Store) -> None:
    """A project has the wants whose sets or sought files are of it, each once and in order."""
    for number, want in ((1, "tools"), (2, "apps"), (3, "none")):
        values = {"file": "", "target": str(number), "inputs": "", "answer": "", "cycle": 1, "made_at": 0.0}
        await add(store, "resolution", id=number, want=want, **values)
    for resolution, part, project, filename in (
        (1, "set", "a", "f"),
        (1, "set", "a", "g"),
        (2, "sought", "a", "f"),
        (3, "earlier", "a", "f"),
        (3, "set", "b", "f"),
    ):
        values = {"index_name": "main", "project": project, "filename": filename}
        await add(store, "wanted", resolution=resolution, part=part, **values)
    names = ["a", *(f"n{number}" for number in range(600))]
    assert await load_wants_by_project(store, names) == {"a": ("apps", "tools")}


async def test_load_needed_indexes(store: Store) -> None:
    """Only indexes that are limited are named."""
    await add(store, "source", name="main", needed_since=1)
    await add(store, "source", name="extra")
    assert await load_needed_indexes(store) == {"main"}


async def test_load_fallback(store: Store) -> None:
    """Published files of configured indexes after the first, by project and name."""
    await add(store, "revision")
    for name, values in (("main", {}), ("extra", {"position": 1}), ("former", {"position": 2, "configured": 0})):
        await add(store, "source", name=name, **values)
    for source, name in ((1, "b"), (2, "b"), (3, "b"), (2, "a")):
        await add(store, "project", source=source, name=name)
    for project, source in ((1, 1), (2, 2), (3, 3), (4, 2)):
        await add_file(store, "f", "x", project=project, source=source)
    await add_file(store, "e", "x", project=2, source=2)
    await add_file(store, "old", "x", project=2, source=2, valid_to=1)
    assert [(one.project, one.filename, one.index) for one in await load_fallback(store)] == [
        ("a", "f", "extra"),
        ("b", "e", "extra"),
        ("b", "f", "extra"),
    ]
