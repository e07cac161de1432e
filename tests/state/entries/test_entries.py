"""The queries of ``mirror.state.entries``."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from harness.state_rows import add, add_file, add_revisions, rows_of
from mirror.core.diff import HeldFile, Relabel
from mirror.core.files.kept_links import KeptLinks
from mirror.core.model import Entry, Labels, ListedFile, ProjectMeta, ProjectView, Validators
from mirror.core.names import ProjectName, Sha256
from mirror.state.entries.changes import (
    Placed,
    ProjectRecord,
    close_entries,
    enter_meta,
    record_changes,
    record_missing,
    record_offered,
)
from mirror.state.entries.claims import OwnerClaims, forget_later_indexes, load_owner_claims
from mirror.state.entries.held import (
    HeldBlob,
    OpenFile,
    has_blobs,
    iter_open_files,
    load_blobs,
    load_held,
    load_listed_filenames,
)
from mirror.state.entries.offered import Offered
from mirror.state.entries.pages import (
    PageSeen,
    PageState,
    load_last_revision,
    load_marked,
    load_pages,
    load_published,
    mark_all_pages,
    mark_pages,
    record_published,
    record_unremoved,
    split_by_entries,
)
from mirror.state.store import Store

A, B, C, D = (ProjectName(name) for name in "abcd")
READ = {"etag": "e", "last_modified": "l", "serial": 1, "digest": "d"}
"""The validators of a page that was read."""


@pytest.fixture
async def projects(store: Store) -> None:
    """Three indexes: ``main`` with a (1) and b (2), ``extra`` with a (3), ``former``, not configured, with a (4)."""
    await add_revisions(store, 3)
    await add(store, "source", name="main", position=0)
    await add(store, "source", name="extra", position=1)
    await add(store, "source", name="former", position=2, configured=0)
    for source, name in ((1, "a"), (1, "b"), (2, "a"), (3, "a")):
        await add(store, "project", source=source, name=name, **READ)


def held(filename: str, *, id: int = 1, **values: Any) -> HeldFile:  # noqa: A002
    common = {"sha256": Sha256("x"), "size": 1, "digests": (), "url": "https://index/f", "labels": Labels()}
    return HeldFile(id=id, filename=filename, **{**common, **values})


async def test_load_held(store: Store, projects: None) -> None:
    """The open entries of some projects are returned with their labels, links made whole."""
    store.links = {1: KeptLinks(secret_root="https://index/secret/simple/")}
    labels = {"requires_python": "r", "yanked": "y", "upload_time": "t", "provenance": "p", "extra": '{"k":1}'}
    await add_file(
        store, "f-1.zip", "x1", size=5, digests="md5=0 sha256=1", url="./f", absent_since=3, refused="md5=2", **labels
    )
    await add(store, "first_metadata", sha256="x1", filename="f-1.zip", metadata_sha256="m1")
    await add_file(store, "g.whl", "x", project=2, url="./g")
    await add_file(store, "old", "x", valid_to=2)
    await add_file(store, "other", "x", project=3)
    assert await load_held(store, [1, 2, 4]) == {
        1: {
            "f-1.zip": HeldFile(
                id=1,
                filename="f-1.zip",
                sha256=Sha256("x1"),
                size=5,
                digests=(("md5", "0"), ("sha256", "1")),
                url="https://index/secret/simple/f",
                labels=Labels(**labels),
                absent_since=3,
                refused=(("md5", "2"),),
                first_metadata="m1",
            )
        },
        2: {"g.whl": held("g.whl", id=2, url="https://index/secret/simple/g")},
        4: {},
    }


async def test_load_held_with_metadata(store: Store, projects: None) -> None:
    """An entry has metadata where its own blob has, and where its page may offer it."""
    for filename, sha256, metadata, project in (
        ("w.whl", "x", "m", None),
        ("v.whl", "x", None, None),
        ("v.whl", "y", "m", None),
        ("u.whl", "y", "m", None),
        ("mine.zip", "x", "m", 1),
        ("other.zip", "x", "m", 3),
    ):
        await add(store, "blob", sha256=sha256, filename=filename, metadata_sha256=metadata, metadata_project=project)
        if sha256 == "x" or filename == "u.whl":
            await add(store, "entry", filename=filename, sha256="x")
    found = (await load_held(store, [1]))[1]
    assert {name: file.has_metadata for name, file in found.items()} == {
        "w.whl": True,
        "v.whl": False,
        "u.whl": False,
        "mine.zip": True,
        "other.zip": False,
    }


async def test_iter_open_files(store: Store, projects: None) -> None:
    """Every open entry is returned with its index and project, by its number."""
    await add_file(store, "g", "x", size=3)
    await add_file(store, "old", "x", valid_to=2)
    await add_file(store, "f", "y", project=3, source=2)
    assert [file async for file in iter_open_files(store)] == [
        OpenFile(id=1, project=1, source=1, index="main", name=A, filename="g", sha256=Sha256("x"), size=3),
        OpenFile(id=3, project=3, source=2, index="extra", name=A, filename="f", sha256=Sha256("y"), size=1),
    ]


async def test_iter_open_files_in_chunks(store: Store, projects: None) -> None:
    """More files than one query returns come once each."""
    await store.connection.execute(
        "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 5001)"
        " INSERT INTO entry (project, source, filename, sha256, size, digests, url, valid_from)"
        " SELECT 1, 1, i, 'x', 1, '', '', 1 FROM n ORDER BY i DESC"
    )
    assert [int(file.filename) async for file in iter_open_files(store)] == list(range(5001, 0, -1))


class TestLoadOwnerClaims:
    """``load_owner_claims``: which filenames of a project belong to earlier indexes."""

    async def test_names(self, store: Store, projects: None) -> None:
        """The names are what is held, failed or left out by earlier indexes of the configuration."""
        await store.connection.execute("UPDATE project SET selection = 's', claims = '[\"claimed\"]' WHERE id = 1")
        await add_file(store, "held", "x")
        await add_file(store, "old", "x", valid_to=2)
        await add_file(store, "of-b", "x", project=2)
        await add_file(store, "own", "x", project=3)
        for source, project, filename in ((1, "a", "failed"), (1, "a", ""), (2, "a", "g"), (1, "b", "h")):
            await add(store, "failure", source=source, project=project, filename=filename)
        assert await load_owner_claims(store, A, 1) == OwnerClaims(
            names=frozenset({"held", "failed", "claimed"}), owners=frozenset({"main"})
        )
        assert await load_owner_claims(store, A, 0) == OwnerClaims()
        assert await load_owner_claims(store, A, 9) == OwnerClaims(
            names=frozenset({"held", "failed", "claimed", "own", "g"}),
            owners=frozenset({"main", "extra"}),
            is_complete=False,
        )

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ({}, OwnerClaims(owners=frozenset({"main"}), is_complete=False)),
            ({"selection": "s"}, OwnerClaims(owners=frozenset({"main"}))),
            ({"withdrawn": "gone"}, OwnerClaims(owners=frozenset({"main"}), is_withdrawn=True)),
            ({"status": "quarantined"}, OwnerClaims(owners=frozenset({"main"}), is_withdrawn=True)),
            ({"listed": 0}, OwnerClaims()),
            ({"wanted": 0}, OwnerClaims()),
            ({"name": "c"}, OwnerClaims()),
        ],
    )
    async def test_one_owner(self, store: Store, projects: None, values: dict[str, Any], expected: OwnerClaims) -> None:
        """An owner is complete once its page is read, or once it is withdrawn."""
        sets = ", ".join(f"{column} = ?" for column in values) or "id = id"
        await store.connection.execute(f"UPDATE project SET {sets} WHERE id = 1", tuple(values.values()))
        assert await load_owner_claims(store, A, 1) == expected


async def test_load_blobs(store: Store) -> None:
    """The held ones of some pairs are returned."""
    for sha256, filename in (("a", "f.zip"), ("a", "g.whl"), ("b", "f.zip"), ("c", "f.zip")):
        await add(store, "blob", sha256=sha256, filename=filename, size=4, metadata_sha256=f"m-{sha256}")
        await add(store, "first_metadata", sha256=sha256, filename=filename, metadata_sha256=f"n-{sha256}")
    many = [(f"0{number}", "f") for number in range(600)]
    assert await load_blobs(store, [("a", "f.zip"), ("a", "g.whl"), ("c", "f.zip"), ("b", "other"), *many]) == {
        (sha256, filename): HeldBlob(
            sha256=Sha256(sha256),
            filename=filename,
            size=4,
            metadata_sha256=Sha256(f"m-{sha256}"),
            first_metadata=first,
        )
        for sha256, filename, first in (("a", "f.zip", "n-a"), ("a", "g.whl", None), ("c", "f.zip", "n-c"))
    }


ENTRY = "project, filename, sha256, valid_from, valid_to, exempt"
LISTED = ListedFile(
    filename="f.whl", url="https://index/f.whl?s=1", digests=(("md5", "0" * 32),),
    labels=Labels(requires_python="r", yanked="y", upload_time="t", provenance="p", extra='{"k":1}'),
)  # fmt: skip


def record(project: int = 1, source: int = 1, name: ProjectName = A, **values: Any) -> ProjectRecord:
    return ProjectRecord(project=project, source=source, name=name, **values)


def placed(filename: str, sha256: str, metadata: str | None = None) -> Placed:
    return Placed(
        file=msgspec.structs.replace(LISTED, filename=filename),
        sha256=Sha256(sha256),
        size=5,
        metadata_sha256=None if metadata is None else Sha256(metadata),
    )


class TestRecordChanges:
    """``record_changes``: what one transaction enters for some projects."""

    async def enter(self, store: Store, *records: ProjectRecord, has_overlays: bool = False) -> None:
        await record_changes(store, records, cycle=7, now=70.0, has_overlays=has_overlays)

    async def test_placed(self, store: Store, projects: None) -> None:
        """A new file opens a row, with its labels and its blob; the page is marked."""
        await self.enter(store, record(placed=(placed("f.whl", "x", "m"),)))
        assert await rows_of(store, "entry", "*") == [
            (1, 1, 1, "f.whl", "x", 5, "md5=" + "0" * 32, 1, "https://index/f.whl?", "t", "r", "y", "p", '{"k":1}',
             None, None, 4, None, 0),
        ]  # fmt: skip
        assert await rows_of(store, "blob", "*") == [("x", "f.whl", 5, "m", 70.0, 70.0, None, 4, None)]
        assert await rows_of(store, "page", "*") == [("a", 4, 1, 0)]
        assert (await rows_of(store, "revision", "*"))[3:] == [(4, 7, 70.0)]

    async def test_replaced(self, store: Store, projects: None) -> None:
        """New bytes close the row of that name, for whichever index of the project it is open."""
        await add_file(store, "f", "old", project=3)
        await add_file(store, "g", "same", project=3)
        await add_file(store, "f", "old", project=2)
        await self.enter(store, record(placed=(placed("f", "new"),)))
        assert await rows_of(store, "entry", ENTRY) == [
            (1, "f", "new", 4, None, 0),
            (2, "f", "old", 1, None, 0),
            (3, "f", "old", 1, 4, 0),
            (3, "g", "same", 1, None, 0),
        ]

    async def test_held_blob(self, store: Store, projects: None) -> None:
        """A blob that was kept is published again; what is known of its metadata stays."""
        for sha256, filename in (("x", "f.whl"), ("x", "g.whl"), ("y", "f.whl")):
            await add(store, "blob", sha256=sha256, filename=filename, unlisted_since=5.0, metadata_sha256="m")
        await self.enter(store, record(placed=(placed("f.whl", "x"), placed("g.whl", "x", "n"))))
        assert await rows_of(store, "blob", "sha256, filename, size, metadata_sha256, stored, unlisted_since") == [
            ("x", "f.whl", 1, "m", 0.0, None),
            ("x", "g.whl", 1, "n", 0.0, None),
            ("y", "f.whl", 1, "m", 0.0, 5.0),
        ]

    async def test_same_bytes_again(self, store: Store, projects: None) -> None:
        """A blob whose row closes and opens in one transaction keeps no end of retention."""
        await add_file(store, "f", "x", project=3)
        await add_file(store, "g", "gone", project=3)
        await self.enter(store, record(placed=(placed("f", "x"), placed("g", "new"))))
        assert await rows_of(store, "blob", "sha256, unlisted_since") == [
            ("gone", 70.0),
            ("new", None),
            ("x", None),
        ]

    async def test_sdist_metadata(self, store: Store, projects: None) -> None:
        """Metadata of what is no wheel belongs to the project that offers it."""
        await self.enter(store, record(placed=(placed("f.zip", "x", "m"), placed("g.whl", "x", "n"))))
        assert await rows_of(store, "blob", "filename, metadata_sha256, metadata_project") == [
            ("f.zip", "m", 1),
            ("g.whl", "n", None),
        ]
        assert await rows_of(store, "first_metadata", "*") == [("x", "f.zip", "m")]

    async def test_relabelled(self, store: Store, projects: None) -> None:
        """A relabelled file gets a new row with the same bytes; one that new bytes replaced gets none."""
        await add_file(store, "f", "x", size=5, digests="d", url="u", refused="r", unhashed=1, yanked="old")
        await add_file(store, "g", "x")
        await add_file(store, "h", "x")
        relabel = tuple(
            Relabel(held=held(name, id=number), labels=LISTED.labels) for number, name in ((1, "f"), (2, "g"))
        )
        await self.enter(store, record(relabel=relabel, placed=(placed("g", "new"),)))
        assert await rows_of(store, "entry", ENTRY) == [
            (1, "f", "x", 1, 4, 0),
            (1, "f", "x", 4, None, 0),
            (1, "g", "new", 4, None, 0),
            (1, "g", "x", 1, 4, 0),
            (1, "h", "x", 1, None, 0),
        ]
        assert (await store.rows("SELECT * FROM entry WHERE filename = 'f' AND valid_to IS NULL"))[0][1:] == (
            1, 1, "f", "x", 5, "d", 1, "u", "t", "r", "y", "p", '{"k":1}', "r", None, 4, None, 0,
        )  # fmt: skip
        assert await rows_of(store, "blob", "sha256, filename, unlisted_since") == [
            ("new", "g", None),
            ("x", "f", None),
            ("x", "g", 70.0),
            ("x", "h", None),
        ]

    async def test_validators(self, store: Store, projects: None) -> None:
        """The pages of the projects are read again, and with overlays those of later indexes."""
        await self.enter(store, record(touch=((held("f"), LISTED),)))
        assert await rows_of(store, "project", "id, digest") == [(1, None), (2, "d"), (3, "d"), (4, "d")]
        assert await rows_of(store, "page", "*") == []
        await self.enter(store, record(project=3, source=2), has_overlays=True)
        assert await rows_of(store, "project", "id, digest") == [(1, None), (2, "d"), (3, None), (4, None)]

    async def test_touched(self, store: Store, projects: None) -> None:
        """What no page shows changes in place, in the open row of the project alone."""
        for filename, project, valid_to in (("f", 1, None), ("g", 1, None), ("f", 3, None), ("f", 1, 2)):
            await add_file(
                store, filename, "x", project=project, valid_to=valid_to, absent_since=2, refused="old", unhashed=0
            )
        file = held("f")
        await self.enter(store, record(touch=((file, LISTED),), refuse=((file, (("md5", "1"),)),), returned=(file,)))
        assert await rows_of(store, "entry", "id, digests, unhashed, url, refused, absent_since") == [
            (1, "md5=" + "0" * 32, 1, "https://index/f.whl?", "md5=1", None),
            (2, "", 0, "https://index/f", "old", 2),
            (3, "", 0, "https://index/f", "old", 2),
            (4, "", 0, "https://index/f", "old", 2),
        ]

    async def test_meta(self, store: Store, projects: None) -> None:
        """The keys of a page are entered with the withdrawal, and the page is marked."""
        await add(store, "page", name="b")
        await self.enter(store, record(meta=ProjectMeta(status="archived"), withdrawn="gone"))
        assert await rows_of(store, "project", "id, status, withdrawn") == [
            (1, "archived", "gone"),
            (2, "active", None),
            (3, "active", None),
            (4, "active", None),
        ]
        assert await rows_of(store, "page", "*") == [("a", 4, 1, 0), ("b", 1, 0, 1)]


async def test_close_entries(store: Store, projects: None) -> None:
    """Open rows close; a blob that no open row needs begins its retention."""
    await add_file(store, "f", "x")
    await add_file(store, "f", "x", project=3)
    await add_file(store, "g", "x")
    await add_file(store, "g", "y", project=3)
    await add_file(store, "k", "x", valid_to=2)
    await add(store, "blob", sha256="y", filename="f", unlisted_since=1.0)
    async with store.transaction() as tx:
        await close_entries(tx, "project = ?", (1,), 3, 30.0, exempt=2)
    assert await rows_of(store, "entry", ENTRY) == [
        (1, "f", "x", 1, 3, 2),
        (1, "g", "x", 1, 3, 2),
        (1, "k", "x", 1, 2, 0),
        (3, "f", "x", 1, None, 0),
        (3, "g", "y", 1, None, 0),
    ]
    assert await rows_of(store, "blob", "sha256, filename, unlisted_since") == [
        ("x", "f", None),
        ("x", "g", 30.0),
        ("x", "k", None),
        ("y", "f", 1.0),
        ("y", "g", None),
    ]


async def test_enter_meta(store: Store, projects: None) -> None:
    """The keys of a page are entered as they are; None changes nothing."""
    meta = ProjectMeta(
        status="archived", status_reason="old", versions=("1", "2"), extra='{"k":1}', extra_meta='{"m":2}'
    )
    async with store.transaction() as tx:
        await enter_meta(tx, [(1, meta, "gone"), (2, None, "gone")])
    columns = "id, status, status_reason, versions, extra, extra_meta, withdrawn"
    assert (await rows_of(store, "project", columns))[:2] == [
        (1, "archived", "old", '["1","2"]', '{"k":1}', '{"m":2}', "gone"),
        (2, "active", None, None, "{}", "{}", None),
    ]


async def test_mark_pages(store: Store) -> None:
    """A known page keeps whether it is published."""
    await add(store, "page", name="a")
    await add(store, "page", name="c")
    async with store.transaction() as tx:
        await mark_pages(tx, [A, B, A], 5)
    assert await rows_of(store, "page", "*") == [("a", 5, 1, 1), ("b", 5, 1, 0), ("c", 1, 0, 1)]


@pytest.mark.parametrize(("source", "forgotten"), [(1, [3, 4]), (2, [4]), (3, [])])
async def test_forget_later_indexes(store: Store, projects: None, source: int, forgotten: list[int]) -> None:
    """Only pages of this project in later indexes are read again."""
    await add(store, "project", source=2, name="b", **READ)
    async with store.transaction() as tx:
        await forget_later_indexes(tx, [(A, source)])
    rows = await rows_of(store, "project", "id, etag, last_modified, serial, digest")
    assert [row for row in rows if row[1:] != ("e", "l", 1, "d")] == [(n, None, None, None, None) for n in forgotten]


async def test_record_offered(store: Store, projects: None) -> None:
    """Metadata is entered and the pages that offer it are marked."""
    await add(store, "blob", sha256="x", filename="f.zip")
    offered = Offered(sha256=Sha256("x"), filename="f.zip", project=1, metadata_sha256=Sha256("m"))
    await record_offered(store, [(A, offered)], cycle=7, now=70.0)
    assert await rows_of(store, "blob", "filename, metadata_sha256, metadata_project") == [("f.zip", "m", 1)]
    assert await rows_of(store, "page", "*") == [("a", 4, 1, 0)]
    assert (await rows_of(store, "revision", "*"))[3:] == [(4, 7, 70.0)]


async def test_record_missing(store: Store, projects: None) -> None:
    """Only the open row of the project is missing."""
    for filename, project, valid_to in (("f", 1, None), ("g", 1, None), ("f", 3, None), ("f", 1, 2)):
        await add_file(store, filename, "x", project=project, valid_to=valid_to)
    await record_missing(store, {1: [held("f")]}, cycle=7)
    assert await rows_of(store, "entry", "id, absent_since") == [(1, 7), (2, None), (3, None), (4, None)]


async def test_load_marked(store: Store) -> None:
    """Names of marked pages come in order, after a name and up to a number."""
    for name, marked in (("d", 1), ("b", 1), ("a", 1), ("c", 0)):
        await add(store, "page", name=name, marked=marked)
    assert await load_marked(store, "") == ["a", "b", "d"]
    assert await load_marked(store, "a", 1) == ["b"]


async def test_mark_all_pages(store: Store) -> None:
    """Every page gets the new revision; without a page there is none."""
    await add(store, "meta", key="renderer", value="4")
    await mark_all_pages(store, cycle=7, now=70.0, renderer=5)
    assert await rows_of(store, "revision", "*") == []
    for name in "ab":
        await add(store, "page", name=name, published=0)
    await mark_all_pages(store, cycle=7, now=70.0, renderer=6)
    assert await rows_of(store, "page", "*") == [("a", 1, 1, 0), ("b", 1, 1, 0)]
    await mark_all_pages(store, cycle=8, now=80.0, renderer=6)
    assert await rows_of(store, "page", "*") == [("a", 2, 1, 0), ("b", 2, 1, 0)]
    assert await rows_of(store, "revision", "*") == [(1, 7, 70.0), (2, 8, 80.0)]
    assert await rows_of(store, "meta", "*") == [("renderer", "6")]


class TestLoadPages:
    """``load_pages``: what the pages of some projects have to show."""

    async def test_entries(self, store: Store, projects: None) -> None:
        """The open entries of every index are sorted by filename, with their labels."""
        await add(store, "page", name="a", revision=3, marked=1)
        await add(store, "page", name="b", published=0)
        await add(store, "page", name="z")
        labels = {"requires_python": "r", "yanked": "y", "upload_time": "t", "provenance": "p", "extra": '{"k":1}'}
        await add_file(store, "g.whl", "x", size=5, **labels)
        await add_file(store, "f.zip", "y", project=3, source=2)
        await add_file(store, "e.zip", "y", project=1)
        await add_file(store, "old", "x", valid_to=2)
        await add_file(store, "of-b", "x", project=2)
        await add(store, "blob", sha256="z", filename="g.whl", metadata_sha256="no")
        await add(store, "blob", sha256="x", filename="f.zip", metadata_sha256="no")
        await store.connection.execute(
            "UPDATE blob SET metadata_sha256 = 'm', metadata_project = 3 WHERE sha256 IN ('x', 'y')"
        )
        found = {state.view.name: state for state in await load_pages(store, [A, B, D])}
        assert found[A] == PageState(
            view=ProjectView(
                name=A,
                entries=(
                    Entry(filename="e.zip", sha256=Sha256("y"), size=1),
                    Entry(filename="f.zip", sha256=Sha256("y"), size=1, metadata_sha256=Sha256("m")),
                    Entry(
                        filename="g.whl",
                        sha256=Sha256("x"),
                        size=5,
                        labels=Labels(**labels),
                        metadata_sha256=Sha256("m"),
                    ),
                ),
                serial=3,
            ),
            is_published=True,
            is_marked=True,
            stays=True,
        )
        assert found[B] == PageState(
            view=ProjectView(name=B, entries=(Entry(filename="of-b", sha256=Sha256("x"), size=1),), serial=1),
            is_published=False,
            is_marked=False,
            stays=True,
        )
        assert len(found) == 2

    @pytest.mark.parametrize(
        ("is_published", "listed", "stays"), [(1, 1, True), (1, 0, False), (0, 1, False), (0, 0, False)]
    )
    async def test_stays(self, store: Store, projects: None, is_published: int, listed: int, stays: bool) -> None:
        """A page without an entry stays if it is published and an index lists its project."""
        await add(store, "page", name="a", published=is_published)
        await store.connection.execute("UPDATE project SET listed = ?", (listed,))
        assert [state.stays for state in await load_pages(store, [A])] == [stays]

    @pytest.mark.parametrize(
        ("metas", "shown", "meta"),
        [
            ({1: ("archived", '["1"]'), 3: ("active", '["1","2"]')}, (1, 3), ("archived", ("1", "2"))),
            ({1: ("archived", '["1"]'), 3: ("active", '["2"]')}, (1,), ("archived", ("1",))),
            ({1: ("archived", '["1"]'), 3: ("active", '["2"]')}, (3,), ("archived", ("1", "2"))),
            ({1: ("archived", None), 3: ("active", '["2"]')}, (3,), ("archived", ("2",))),
            ({1: ("archived", '["1"]'), 3: ("active", None)}, (3,), ("archived", ("1",))),
            ({4: ("former", '["1"]'), 3: ("active", '["2"]')}, (3, 4), ("active", ("2", "1"))),
        ],
    )
    async def test_meta(
        self,
        store: Store,
        projects: None,
        metas: dict[int, tuple[str, str | None]],
        shown: tuple[int, ...],
        meta: tuple[str, tuple[str, ...]],
    ) -> None:
        """The first index says the status; each one that shows a file adds its versions."""
        await add(store, "page", name="a")
        await store.connection.execute("UPDATE project SET listed = 0")
        for project, (status, versions) in metas.items():
            await store.connection.execute(
                "UPDATE project SET listed = 1, status = ?, versions = ?, status_reason = 'why', extra = '{\"e\":1}',"
                " extra_meta = '{\"m\":2}' WHERE id = ?",
                (status, versions, project),
            )
        for project in shown:
            await add_file(store, f"f{project}", "x", project=project)
        await add_file(store, "closed", "x", project=4, valid_to=2)
        [page] = await load_pages(store, [A])
        assert page.view.meta == ProjectMeta(
            status=meta[0], versions=meta[1], status_reason="why", extra='{"e":1}', extra_meta='{"m":2}'
        )

    async def test_meta_of_one_that_no_index_lists(self, store: Store, projects: None) -> None:
        """A project that left its root shows its keys while it has an entry."""
        await add(store, "page", name="a")
        await store.connection.execute("UPDATE project SET listed = 0, status = 'archived' WHERE name = 'a'")
        await store.connection.execute("UPDATE source SET position = 0")
        await add_file(store, "old", "x", project=1, valid_to=2)
        [page] = await load_pages(store, [A])
        assert (page.view.meta, page.stays) == (ProjectMeta(), False)
        await store.connection.execute("UPDATE project SET status = 'second' WHERE id = 3")
        for project in (3, 1):
            await add_file(store, f"f{project}", "x", project=project)
        [page] = await load_pages(store, [A])
        assert (page.view.meta, page.stays) == (ProjectMeta(status="archived"), True)


class TestRecordPublished:
    """``record_published``: marks are cleared, pages leave, validators are kept."""

    async def test_pages(self, store: Store) -> None:
        """A page that changed since it was written stays marked."""
        for name in "abcd":
            await add(store, "page", name=name, revision=3, marked=1, published=0)
        await add(store, "meta", key="root_revision", value="1")
        await record_published(store, [(A, 3), (B, 2)], [C], (), root_revision=9)
        assert await rows_of(store, "page", "*") == [("a", 3, 0, 1), ("b", 3, 1, 1), ("d", 3, 1, 0)]
        assert await rows_of(store, "meta", "*") == [("root_revision", "9")]
        await record_published(store, [], [D], ())
        assert await rows_of(store, "meta", "*") == [("root_revision", "9")]

    async def test_nothing(self, store: Store) -> None:
        """Without anything to enter nothing is written."""
        before = store.changes
        await record_published(store, (), (), ())
        assert store.changes == before

    async def test_validators(self, store: Store, projects: None) -> None:
        """The validators of a page are kept, with what it left out where it was read."""
        await store.connection.execute("UPDATE project SET claims = '[\"old\"]', skipped = 5")
        validators = Validators(etag="e2", last_modified="l2", serial=2, digest="d2")
        await record_published(
            store,
            (),
            (),
            [
                PageSeen(project=2, validators=validators, selection="s", page_origin="https://other"),
                PageSeen(
                    project=3, validators=validators, selection="s", left_out={"files": (1, '["f"]')}, claims=("c",)
                ),
            ],
        )
        columns = "id, etag, last_modified, serial, digest, selection, page_origin, claims, skipped"
        assert await rows_of(store, "project", columns) == [
            (1, "e", "l", 1, "d", None, None, '["old"]', 5),
            (2, "e2", "l2", 2, "d2", "s", "https://other", '["old"]', 5),
            (3, "e2", "l2", 2, "d2", "s", None, '["c"]', 1),
            (4, None, None, None, None, None, None, '["old"]', 5),
        ]
        assert await rows_of(store, "left_out", "*") == [(3, "files", 1, '["f"]')]

    @pytest.mark.parametrize(
        ("claims", "project", "forgotten"),
        [((), 1, []), (("c",), 1, [3, 4]), (("c",), 3, [4]), (("c",), 4, []), (("c",), 2, [])],
    )
    async def test_claims(
        self, store: Store, projects: None, claims: tuple[str, ...], project: int, forgotten: list[int]
    ) -> None:
        """Later indexes judge a project again when what its owner claims has changed."""
        closing = PageSeen(
            project=project, validators=Validators(digest="d"), selection="s", left_out={}, claims=claims
        )
        await record_published(store, (), (), [closing])
        rows = await rows_of(store, "project", "id, digest")
        assert [row[0] for row in rows if row[1] is None] == forgotten


async def test_record_unremoved(store: Store) -> None:
    """The page stays marked, and the root no longer lists it."""
    for name in "ab":
        await add(store, "page", name=name, marked=1)
    await record_unremoved(store, [])
    await record_unremoved(store, [A])
    assert await rows_of(store, "page", "*") == [("a", 1, 1, 0), ("b", 1, 1, 1)]


async def test_load_published(store: Store) -> None:
    """Only published pages are on the root, by name."""
    for name, published, revision in (("b", 1, 2), ("a", 1, 3), ("c", 0, 4)):
        await add(store, "page", name=name, published=published, revision=revision)
    assert await load_published(store) == [("a", 3), ("b", 2)]


async def test_load_last_revision(store: Store) -> None:
    """A new state has no revision."""
    assert await load_last_revision(store) == 0
    await add_revisions(store, 3)
    assert await load_last_revision(store) == 3


async def test_has_blobs(store: Store) -> None:
    """Any blob counts."""
    assert not await has_blobs(store)
    await add(store, "blob", sha256="x", filename="f")
    assert await has_blobs(store)


async def test_load_listed_filenames(store: Store, projects: None) -> None:
    """The open entries of the named projects are returned."""
    await add_file(store, "f", "x")
    await add_file(store, "g", "x", project=3)
    await add_file(store, "h", "x", project=2)
    await add_file(store, "old", "x", valid_to=2)
    assert await load_listed_filenames(store, [A, C]) == {(A, "f"), (A, "g")}


@pytest.mark.parametrize(
    ("limit", "parts"),
    [
        (7, ["none few many some"]),
        (4, ["none few", "many", "some"]),
        (6, ["none few many", "some"]),
        (5, ["none few", "many some"]),
    ],
)
async def test_split_by_entries(store: Store, limit: int, parts: list[str]) -> None:
    """Projects are split where the open files of all indexes would be too many for one part."""
    for source in (1, 2):
        await add(store, "source", name=f"index{source}")
    for source, name in ((1, "few"), (1, "many"), (2, "many"), (1, "some"), (1, "other")):
        await add(store, "project", source=source, name=name)
    await add(store, "revision")
    for project, files in ((1, 2), (2, 3), (3, 1), (4, 1), (5, 9)):
        for number in range(files):
            await add_file(store, f"f{number}", "x", project=project)
            await add_file(store, f"f{number}", "x", project=project, valid_to=1)
    names = [ProjectName(name) for name in ("none", "few", "many", "some")]
    found = await split_by_entries(store, names, limit=limit)
    assert [" ".join(part) for part in found] == parts


async def test_split_by_entries_of_few(store: Store) -> None:
    """One project is one part, none is none."""
    assert await split_by_entries(store, [A], limit=0) == [[A]]
    assert await split_by_entries(store, [], limit=0) == []
