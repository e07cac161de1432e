"""The queries of ``mirror.state.missing.unserved``."""

from __future__ import annotations

import msgspec
import pytest

from harness.state_rows import add, add_file, add_revisions, rows_of
from mirror.core.names import ProjectName
from mirror.errors import Reason
from mirror.state.missing.unserved import (
    FilePlace,
    SkippedProject,
    Unserved,
    load_file_place,
    load_offered_names,
    load_owner,
    load_skipped_projects,
    load_unserved,
    record_unserved,
)
from mirror.state.store import Store


@pytest.fixture
async def indexes(store: Store) -> None:
    """Three indexes of the configuration, and one that left it."""
    await add_revisions(store, 2)
    await add(store, "source", name="main", position=1)
    await add(store, "source", name="first", position=0)
    await add(store, "source", name="former", position=2, configured=0)
    await add(store, "source", name="last", position=3)


async def test_load_skipped_projects(store: Store, indexes: None) -> None:
    """A project is skipped where its owner's files are all left out, with the later indexes."""
    await add(store, "project", name="b", skipped=2)
    other = await add(store, "project", name="a", skipped=1)
    await add_file(store, "f", "x", project=other, valid_to=2)
    await add(store, "project", source=4, name="b")
    await add(store, "project", source=3, name="b")
    await add(store, "project", source=4, name="a", listed=0)
    await add(store, "project", source=2, name="a", wanted=0)
    await add(store, "project", source=2, name="z", skipped=1)
    await add(store, "project", source=4, name="z", wanted=0)
    await add(store, "failure", source=4, project="c")
    await add(store, "failure", source=9, project="a")
    assert await load_skipped_projects(store) == [
        SkippedProject(index="first", name=ProjectName("z"), others=()),
        SkippedProject(index="main", name=ProjectName("a"), others=()),
        SkippedProject(index="main", name=ProjectName("b"), others=("last",)),
    ]


@pytest.mark.parametrize(
    "values",
    [
        {"skipped": 0},
        {"listed": 0},
        {"wanted": 0},
        {"withdrawn": "gone"},
        {"status": "quarantined"},
        {"source": 3},
    ],
)
async def test_load_skipped_projects_without(store: Store, indexes: None, values: dict[str, object]) -> None:
    """A project that nothing was left out of, or that its index does not give out, is not skipped."""
    await add(store, "project", **{"name": "a", "skipped": 1, **values})
    assert await load_skipped_projects(store) == []


async def test_load_skipped_projects_of_other_indexes(store: Store, indexes: None) -> None:
    """What another index publishes, fails or owns is not skipped."""
    for name in ("held", "failed", "owned", "here"):
        await add(store, "project", name=name, skipped=1)
    held = await add(store, "project", source=4, name="held")
    await add_file(store, "f", "x", project=held)
    await add(store, "failure", source=4, project="failed")
    await add(store, "project", source=2, name="owned")
    assert [one.name for one in await load_skipped_projects(store)] == ["here"]


@pytest.mark.parametrize(
    ("rows", "owner"),
    [
        ([], ("", False)),
        ([{"source": 4}, {"source": 1}], ("main", False)),
        ([{"source": 2, "listed": 0}, {"source": 4}], ("last", False)),
        ([{"source": 3}, {"source": 4, "listed": 0}], ("last", False)),
        ([{"source": 3, "withdrawn": "gone"}], ("former", True)),
        ([{"status": "quarantined"}], ("main", True)),
        ([{"status": "archived"}], ("main", False)),
        ([{"source": 2, "name": "other"}, {}], ("main", False)),
    ],
)
async def test_load_owner(store: Store, indexes: None, rows: list[dict[str, object]], owner: tuple[str, bool]) -> None:
    """The first index owns a project: a configured one, then one that lists it, then the earlier one."""
    for row in rows:
        await add(store, "project", **{"name": "a", **row})
    assert await load_owner(store, "a") == owner


async def test_load_offered_names(store: Store, indexes: None) -> None:
    """A name is offered where a configured index lists and wants it."""
    await add(store, "project", name="yes")
    await add(store, "project", name="gone", listed=0)
    await add(store, "project", name="unwanted", wanted=0)
    await add(store, "project", source=3, name="former")
    names = ["yes", "gone", "unwanted", "former", "unknown"]
    assert await load_offered_names(store, names) == {"yes"}


class TestLoadFilePlace:
    """``load_file_place``: what became of a filename."""

    async def test_without_projects(self, store: Store, indexes: None) -> None:
        """A file that no project may have is published or not."""
        project = await add(store, "project", name="a")
        await add_file(store, "f", "x", project=project)
        await add_file(store, "g", "x", project=project, valid_to=2)
        assert await place(store, "f") == FilePlace(is_known=True, is_had=True)
        assert await place(store, "g") == FilePlace(is_known=True, is_had=False)

    @pytest.mark.parametrize(
        ("values", "is_known"),
        [
            ({"selection": "s"}, True),
            ({}, False),
            ({"selection": "s", "withdrawn": "gone"}, False),
            ({"selection": "s", "status": "quarantined"}, False),
            ({"selection": "s", "skipped": 1}, False),
            ({"listed": 0}, True),
            ({"wanted": 0}, True),
            ({"source": 3}, True),
            ({"name": "b"}, True),
        ],
    )
    async def test_is_known(self, store: Store, indexes: None, values: dict[str, object], is_known: bool) -> None:
        """A page tells all when it was read, is given out, and every name that it leaves out is kept."""
        await add(store, "project", **{"name": "a", **values})
        assert await place(store, "f", "a") == FilePlace(is_known=is_known)

    async def test_left_out(self, store: Store, indexes: None) -> None:
        """The rule of the first index that leaves a file out is returned."""
        for source, rule in ((4, "late"), (1, "files")):
            project = await add(store, "project", source=source, name="a", selection="s", skipped=1)
            await add(store, "left_out", project=project, rule=rule, files=1, names='["f"]')
        assert await place(store, "f", "b", "a", overlays={"last"}) == FilePlace(
            is_known=True, index="main", project="a", rule="files"
        )
        assert await place(store, "g", "a", overlays={"last"}) == FilePlace(is_known=True)

    async def test_only_the_owner_counts(self, store: Store, indexes: None) -> None:
        """The page of a later index counts for nothing, unless it is an overlay."""
        await add(store, "project", source=4, name="a")
        project = await add(store, "project", name="a", selection="s")
        await add_file(store, "f", "x", project=1)
        await add_file(store, "g", "x", project=project)
        assert await place(store, "f", "a") == FilePlace(is_known=True)
        assert await place(store, "f", "a", overlays={"last"}) == FilePlace(is_known=True, is_had=True)
        assert await place(store, "g", "a") == FilePlace(is_known=True, is_had=True)
        assert await place(store, "h", "a", overlays={"last"}) == FilePlace(is_known=False)

    @pytest.mark.parametrize(
        ("table", "values", "is_had"),
        [
            ("entry", {}, True),
            ("entry", {"valid_to": 2}, False),
            ("entry", {"project": 2}, False),
            ("entry", {"filename": "g"}, False),
            ("failure", {"project": "a", "filename": "f"}, True),
            ("failure", {"project": "a", "filename": ""}, True),
            ("failure", {"project": "a", "filename": "g"}, False),
            ("failure", {"project": "b", "filename": "f"}, False),
            ("failure", {"project": "a", "filename": "f", "source": 4}, False),
        ],
    )
    async def test_is_had(
        self, store: Store, indexes: None, table: str, values: dict[str, object], is_had: bool
    ) -> None:
        """A file is had where the project publishes it, or where it or its page failed."""
        for name in ("a", "b"):
            await add(store, "project", name=name, selection="s")
        entry = {"filename": "f", "sha256": "x"} if table == "entry" else {}
        await add(store, table, **{**entry, **values})
        assert await place(store, "f", "a") == FilePlace(is_known=True, is_had=is_had)


async def place(store: Store, filename: str, *projects: str, overlays: set[str] | None = None) -> FilePlace:
    return await load_file_place(store, filename, projects, overlays=overlays or set())


def unserved(index: str, project: str, filename: str = "", *, detail: str = "d", first_at: float = 0.0) -> Unserved:
    return Unserved(
        index=index, project=project, filename=filename, reason=Reason.NOT_SERVED, detail=detail, is_literal=False,
        first_at=first_at,
    )  # fmt: skip


async def test_record_unserved(store: Store) -> None:
    """The table becomes what was found; what is known keeps its time, and only what is new is returned."""
    names = [("main", "a"), ("main", "a", "f"), ("main", "b"), ("extra", "a"), ("main", "d", "f")]
    found = [unserved(*name) for name in names]
    dated = [msgspec.structs.replace(one, first_at=5.0) for one in found]
    assert await record_unserved(store, found, 5.0) == dated
    before = store.changes
    assert await record_unserved(store, found, 6.0) == []
    assert store.changes == before
    changed = unserved("main", "b", detail="other")
    assert await record_unserved(store, [found[0], changed, unserved("main", "c"), found[4]], 7.0) == [
        unserved("main", "c", first_at=7.0)
    ]
    assert await rows_of(store, "unserved", "*") == [
        ("main", "a", "", "not-served", "d", 0, 5.0),
        ("main", "b", "", "not-served", "other", 0, 5.0),
        ("main", "c", "", "not-served", "d", 0, 7.0),
        ("main", "d", "f", "not-served", "d", 0, 5.0),
    ]
    assert await record_unserved(store, [], 8.0) == []
    assert await rows_of(store, "unserved", "*") == []


async def test_load_unserved(store: Store) -> None:
    """What is missing is sorted by index, project and file."""
    for index, project, filename in (("b", "a", ""), ("a", "b", ""), ("a", "a", "g"), ("a", "a", "f")):
        await add(store, "unserved", index_name=index, project=project, filename=filename, detail="d", first_at=3.0)
    await add(store, "unserved", index_name="c", project="a", reason="not-offered", literal=1)
    assert await load_unserved(store) == [
        unserved("a", "a", "f", first_at=3.0),
        unserved("a", "a", "g", first_at=3.0),
        unserved("a", "b", first_at=3.0),
        unserved("b", "a", first_at=3.0),
        Unserved(index="c", project="a", reason=Reason.NOT_OFFERED, detail="", is_literal=True),
    ]
