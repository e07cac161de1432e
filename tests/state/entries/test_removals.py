"""The queries of ``mirror.state.entries.removals``."""

from __future__ import annotations

import pytest

from harness.state_rows import add, add_file, add_revisions, rows_of
from mirror.core.model import ProjectMeta
from mirror.core.names import ProjectName
from mirror.state.entries.removals import (
    BrakeWindow,
    RemovalRecord,
    count_pages_of,
    load_brake_window,
    load_displaced,
    load_files_of,
    load_orphaned,
    load_overlaid,
    record_brake_lifted,
    record_removals,
)
from mirror.state.listing.sources import UNCLAIMED
from mirror.state.store import Store

A, B = ProjectName("a"), ProjectName("b")
MANY = [ProjectName(f"x{number}") for number in range(600)]
DAY = 86_400.0
READ = {"etag": "e", "last_modified": "l", "serial": 1, "digest": "d", "selection": "s", "claims": "[]", "skipped": 2}


@pytest.fixture
async def projects(store: Store) -> None:
    """``main`` with a (1) and b (2), ``extra`` with a (3) and b (4), ``former``, not configured, with a (5)."""
    await add(store, "source", name="main", position=0)
    await add(store, "source", name="extra", position=1)
    await add(store, "source", name="former", position=2, configured=0)
    for source, name in ((1, "a"), (1, "b"), (2, "a"), (2, "b"), (3, "a")):
        await add(store, "project", source=source, name=name, **READ)


class TestLoadBrakeWindow:
    """``load_brake_window``: what the last 24 hours did to the files of one index."""

    @pytest.fixture(autouse=True)
    async def revisions(self, store: Store, projects: None) -> None:
        """Revision 2 stands at the start of the window, revisions 3 to 5 follow."""
        for number, at in enumerate((1.0, 2.0, 3.0, 4.0, 5.0), 1):
            await add(store, "revision", id=number, cycle=number, at=at)

    async def window(self, store: Store, enough: int = 99) -> BrakeWindow:
        return await load_brake_window(store, 1, 2.0 + DAY, enough=lambda left: enough)

    async def test_files_at_the_start(self, store: Store) -> None:
        """What was there at the start is published; what of it closed since has left, once for each file."""
        for filename, valid_from, valid_to in (
            ("stays", 1, None),
            ("gone-before", 1, 2),
            ("gone", 2, 3),
            ("late", 3, 4),
            ("new", 3, None),
            ("twice", 1, 4),
            ("relabelled", 1, 3),
            ("relabelled", 3, None),
            ("again", 2, 3),
            ("again", 3, 5),
        ):
            await add_file(store, filename, "x", valid_from=valid_from, valid_to=valid_to)
        await add_file(store, "exempt", "x", valid_to=3, exempt=1)
        await add_file(store, "other-index", "x", project=3, source=2, valid_to=3)
        await add_file(store, "moved", "x", valid_to=3)
        await add_file(store, "moved", "x", project=3, source=2, valid_from=3)
        await add_file(store, "gone", "x", project=2, valid_from=3)
        await add_file(store, "gone", "x", project=3, source=2, valid_to=3)
        assert await self.window(store) == BrakeWindow(published=7, left=3)
        assert await self.window(store, enough=4) == BrakeWindow(published=4, left=3)

    async def test_no_file_at_the_start(self, store: Store) -> None:
        """Where there were none, the files since then are published, and each one that closed has left."""
        for filename, valid_from, valid_to in (("f", 3, None), ("g", 3, 4), ("h", 3, 4), ("h", 4, 5), ("old", 1, 2)):
            await add_file(store, filename, "x", valid_from=valid_from, valid_to=valid_to)
        await add_file(store, "f", "x", project=2, valid_from=3)
        await add_file(store, "other", "x", project=3, source=2)
        assert await self.window(store) == BrakeWindow(published=4, left=2)

    @pytest.mark.parametrize(("lifted", "left"), [(None, 2), (1, 2), (3, 1), (4, 0)])
    async def test_lifted(self, store: Store, lifted: int | None, left: int) -> None:
        """The window begins after the cycle in which the brake was lifted for this index."""
        await store.connection.execute("UPDATE source SET brake_lifted = ? WHERE id = 1", (lifted,))
        await store.connection.execute("UPDATE source SET brake_lifted = 5 WHERE id = 2")
        await add_file(store, "f", "x", valid_to=3)
        await add_file(store, "g", "x", valid_to=4)
        assert (await self.window(store)).left == left

    async def test_before_the_first_revision(self, store: Store) -> None:
        """A window without a revision before it begins at nothing."""
        await add_file(store, "f", "x")
        await add_file(store, "g", "x", valid_to=2)
        window = await load_brake_window(store, 1, 0.0, enough=lambda left: 9)
        assert window == BrakeWindow(published=2, left=1)


async def test_record_brake_lifted(store: Store, projects: None) -> None:
    """The cycle is kept for one index."""
    await record_brake_lifted(store, source=1, cycle=7)
    assert await rows_of(store, "source", "id, brake_lifted") == [(1, 7), (2, None), (3, None)]


async def test_load_files_of(store: Store, projects: None) -> None:
    """The open entries of some projects are counted, in chunks."""
    await add_revisions(store, 2)
    for filename, project, valid_to in (("f", 1, None), ("g", 1, None), ("f", 2, None), ("f", 3, None), ("h", 1, 2)):
        await add_file(store, filename, "x", project=project, valid_to=valid_to)
    assert await load_files_of(store, [1, *range(100, 700), 2]) == 3


async def test_count_pages_of(store: Store) -> None:
    """The pages of some names are counted, in chunks."""
    for name in ("a", "b", "c"):
        await add(store, "page", name=name)
    assert await count_pages_of(store, [A, *MANY, B]) == 2


class TestLoadDisplaced:
    """``load_displaced``: the projects that another index owns now."""

    @pytest.mark.parametrize("index", ["main", "extra"])
    async def test_files_and_failures(self, store: Store, projects: None, index: str) -> None:
        """What an index publishes or tries of an earlier one's project is displaced, whichever index is larger."""
        await add_revisions(store, 2)
        await add(store, "source", name="last", position=2)
        for number in range(3):
            await add(store, "project", source=1 if index == "main" else 2, name=f"z{number}")
        later = [await add(store, "project", source=4, name=name, **READ) for name in "abc"]
        await add(store, "project", source=1, name="c", **READ)
        await add_file(store, "f", "x", project=4, source=2)
        await add_file(store, "f", "x", project=1, source=1)
        await add_file(store, "old", "x", project=3, source=2, valid_to=2)
        await add_file(store, "f", "x", project=5, source=3)
        await add(store, "failure", source=4, project="a")
        await add_file(store, "f", "x", project=later[1], source=4)
        await add(store, "failure", source=2, project="c")
        assert await load_displaced(store) == [
            (later[0], 4, A, "last", "main"),
            (4, 2, B, "extra", "main"),
            (later[1], 4, B, "last", "main"),
        ]

    @pytest.mark.parametrize("values", ["listed = 0", "wanted = 0", "digest = NULL", "name = 'z'"])
    async def test_owner(self, store: Store, projects: None, values: str) -> None:
        """Only where the owner lists and wants the project, and its page has been read."""
        await add_revisions(store, 1)
        await add_file(store, "f", "x", project=3, source=2)
        assert await load_displaced(store) == [(3, 2, A, "extra", "main")]
        await store.connection.execute(f"UPDATE project SET {values} WHERE id = 1")
        assert await load_displaced(store) == []

    async def test_one_index(self, store: Store) -> None:
        """One index displaces nothing."""
        await add(store, "source", name="main")
        assert await load_displaced(store) == []


async def test_load_overlaid(store: Store, projects: None) -> None:
    """Later indexes of the configuration count where they have files on the pages."""
    await add_revisions(store, 2)
    third = await add(store, "project", source=2, name="c")
    for project, valid_to in ((1, None), (3, None), (4, 2), (5, None), (third, None)):
        await add_file(store, "f", "x", project=project, valid_to=valid_to)
    assert await load_overlaid(store, 0, [A, *MANY, B]) == [(3, A)]
    assert await load_overlaid(store, 1, [A, B]) == []


async def test_load_orphaned(store: Store, projects: None) -> None:
    """The projects of an index that left are orphaned while listed or on the pages; unclaimed ones are not."""
    await add_revisions(store, 2)
    await add(store, "source", name=UNCLAIMED, position=9, configured=0)
    held, closed, _gone = [await add(store, "project", source=3, name=name, listed=0) for name in "hcg"]
    await add(store, "project", source=4, name="u")
    await add_file(store, "f", "x", project=held)
    await add_file(store, "f", "x", project=closed, valid_to=2)
    assert sorted(await load_orphaned(store)) == [(5, 3, A, "former"), (held, 3, "h", "former")]


class TestRecordRemovals:
    """``record_removals``: what one transaction takes off the pages."""

    COLUMNS = "id, listed, absent_since, etag, last_modified, serial, digest, selection, claims, skipped"

    @pytest.fixture(autouse=True)
    async def files(self, store: Store, projects: None) -> None:
        """Two files of each project."""
        await add_revisions(store, 1)
        for project in (1, 2, 3):
            for filename in ("f", "g"):
                await add_file(store, filename, f"x{project}", project=project)
            await store.connection.execute("UPDATE project SET absent_since = 4")

    async def remove(self, store: Store, project: int, name: ProjectName, **values: object) -> None:
        removal = RemovalRecord(project=project, source=1 if project < 3 else 2, name=name, **values)
        await record_removals(store, [removal], cycle=7, now=70.0)

    async def test_filenames(self, store: Store) -> None:
        """Only these files close, exempt from the brake where they are; the page is marked."""
        await self.remove(store, 1, A, filenames=("f",), is_exempt=True)
        assert await rows_of(store, "entry", "project, filename, valid_to, exempt") == [
            (1, "f", 2, 1),
            (1, "g", None, 0),
            (2, "f", None, 0),
            (2, "g", None, 0),
            (3, "f", None, 0),
            (3, "g", None, 0),
        ]
        assert await rows_of(store, "blob", "sha256, filename, unlisted_since") == [
            ("x1", "f", 70.0),
            ("x1", "g", None),
            ("x2", "f", None),
            ("x2", "g", None),
            ("x3", "f", None),
            ("x3", "g", None),
        ]
        assert await rows_of(store, "page", "*") == [("a", 2, 1, 0)]
        assert (await rows_of(store, "revision", "*"))[1:] == [(2, 7, 70.0)]
        assert (await rows_of(store, "project", self.COLUMNS))[0] == (1, 1, 4, "e", "l", 1, "d", "s", "[]", 2)

    async def test_all_files(self, store: Store) -> None:
        """All files of the project close, not those of another index."""
        await self.remove(store, 1, A, all_files=True)
        assert await rows_of(store, "entry", "project, valid_to") == [
            (1, 2), (1, 2), (2, None), (2, None), (3, None), (3, None),
        ]  # fmt: skip

    async def test_leaves(self, store: Store) -> None:
        """A project that leaves is not listed any more, and later indexes judge theirs again."""
        for source, project in ((1, "a"), (1, "b"), (2, "a")):
            await add(store, "failure", source=source, project=project)
        for project in (1, 2):
            await add(store, "left_out", project=project, rule="files", files=1, names="[]")
        await self.remove(store, 1, A, leaves=True)
        assert await rows_of(store, "project", self.COLUMNS) == [
            (1, 0, None, None, None, None, None, None, None, 0),
            (2, 1, 4, "e", "l", 1, "d", "s", "[]", 2),
            (3, 1, 4, None, None, None, None, "s", "[]", 2),
            (4, 1, 4, "e", "l", 1, "d", "s", "[]", 2),
            (5, 1, 4, None, None, None, None, "s", "[]", 2),
        ]
        assert await rows_of(store, "failure", "source, project") == [(1, "b"), (2, "a")]
        assert await rows_of(store, "left_out", "project") == [(2,)]

    async def test_displaced(self, store: Store) -> None:
        """What failed of a displaced project is not tried again."""
        for source, project in ((2, "a"), (2, "b")):
            await add(store, "failure", source=source, project=project)
        await self.remove(store, 3, A, is_displaced=True)
        assert await rows_of(store, "failure", "source, project") == [(2, "b")]

    async def test_forgets(self, store: Store) -> None:
        """The page of the project is read again."""
        await self.remove(store, 3, A, forgets=True, meta=ProjectMeta(status="archived"), withdrawn="gone")
        assert await rows_of(store, "project", "id, etag, listed, status, withdrawn") == [
            (1, "e", 1, "active", None),
            (2, "e", 1, "active", None),
            (3, None, 1, "archived", "gone"),
            (4, "e", 1, "active", None),
            (5, None, 1, "active", None),
        ]
