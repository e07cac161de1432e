"""The queries of ``mirror.state.listing``."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from harness.state_rows import add, add_file, add_revisions, rows_of
from mirror.core.model import ProjectMeta, RootPage, Validators
from mirror.core.names import ProjectName
from mirror.state.listing.due import Due, ProjectRow, count_due, has_wanted, load_due, load_listed
from mirror.state.listing.roots import RootChange, record_root
from mirror.state.listing.sources import (
    SourceRow,
    forget_root_validators,
    forget_serials,
    load_served_projects,
    load_sources,
    record_identity,
    record_root_read,
    record_served_names,
    record_sources,
    record_success,
)
from mirror.state.readers.overview import IndexCounts, load_counts
from mirror.state.store import Store

A, B, C, D, E, F, G = (ProjectName(name) for name in "abcdefg")
READ = {"etag": "e", "last_modified": "l", "serial": 1, "digest": "d"}
VALIDATORS = Validators(**READ)


@pytest.fixture
async def indexes(store: Store) -> None:
    """Three indexes whose roots were read; the last one left the configuration."""
    await add(store, "source", name="main", position=0, url="https://main/simple/", root_read=1, **READ)
    await add(
        store, "source", name="extra", position=1, url="https://extra/simple/", root_read=1, let_out='["a"]', **READ
    )
    await add(
        store, "source", name="former", position=2, configured=0, url="https://former/simple/", root_read=1, **READ
    )


async def source_of(store: Store, name: str) -> SourceRow:
    return next(row for row in await load_sources(store) if row.name == name)


SOURCE = "id, name, url, position, configured, etag, last_modified, serial, digest, root_read, let_out"


class TestRecordSources:
    """``record_sources``: the configured indexes are entered."""

    @pytest.fixture(autouse=True)
    async def projects(self, store: Store, indexes: None) -> None:
        """One project of each index."""
        for source in (1, 2, 3):
            await add(store, "project", source=source, name="a", **READ)

    async def test_unchanged(self, store: Store) -> None:
        """Nothing is written for the same indexes."""
        before = store.changes
        found = await record_sources(store, [("main", "https://main/simple/"), ("extra", "https://extra/simple/")])
        assert (list(found), store.changes) == (["main", "extra", "former"], before)

    async def test_left(self, store: Store) -> None:
        """An index that left stays known."""
        await record_sources(store, [("main", "https://main/simple/")])
        assert await rows_of(store, "source", "id, configured, digest") == [(1, 1, "d"), (2, 0, "d"), (3, 0, "d")]

    async def test_changed_url(self, store: Store) -> None:
        """A changed URL drops the validators of all pages of the index."""
        await record_sources(store, [("main", "https://main/simple/"), ("extra", "https://other/simple/")])
        assert await rows_of(store, "source", SOURCE) == [
            (1, "main", "https://main/simple/", 0, 1, "e", "l", 1, "d", 1, None),
            (2, "extra", "https://other/simple/", 1, 1, None, None, None, None, None, None),
            (3, "former", "https://former/simple/", 2, 0, "e", "l", 1, "d", 1, None),
        ]
        assert await rows_of(store, "project", "id, etag, last_modified, serial, digest") == [
            (1, "e", "l", 1, "d"),
            (2, None, None, None, None),
            (3, "e", "l", 1, "d"),
        ]

    async def test_back_and_new(self, store: Store) -> None:
        """The root of an index that comes back is read again; a new one is added, and the order is kept."""
        urls = [("former", "https://former/simple/"), ("new", "https://new/"), ("main", "https://main/simple/")]
        await record_sources(store, [*urls, ("extra", "https://extra/simple/")])
        assert await rows_of(store, "source", SOURCE) == [
            (1, "main", "https://main/simple/", 2, 1, "e", "l", 1, "d", 1, None),
            (2, "extra", "https://extra/simple/", 3, 1, "e", "l", 1, "d", 1, '["a"]'),
            (3, "former", "https://former/simple/", 0, 1, None, None, None, None, None, None),
            (4, "new", "https://new/", 1, 1, None, None, None, None, None, None),
        ]
        assert [row[1] for row in await rows_of(store, "project", "id, digest")] == ["d"] * 3


async def test_load_sources(store: Store) -> None:
    """The configured indexes come first, in their order."""
    await add(store, "source", name="z", position=0, configured=0)
    await add(store, "source", name="b", position=2)
    await add(
        store, "source", name="a", position=1, url="u", selection="s", root_read=3, listed=4, succeeded_at=5.0,
        let_out='["x","y"]', had_credential=0, page_origin="https://o", unread='[2,["n"]]', is_flat=1, **READ,
    )  # fmt: skip
    await add(store, "source", name="c", position=2, had_credential=1)
    found = await load_sources(store)
    assert [row.name for row in found] == ["a", "b", "c", "z"]
    assert found[0] == SourceRow(
        id=3, name="a", url="u", position=1, configured=True, validators=VALIDATORS, selection="s", root_read=3,
        listed=4, succeeded_at=5.0, let_out=("x", "y"), had_credential=False, page_origin="https://o", is_flat=True,
        unread=2, unread_names=("n",),
    )  # fmt: skip
    assert found[1] == SourceRow(
        id=2, name="b", url="https://index/simple/", position=2, configured=True, validators=None, selection=None,
        root_read=None, listed=0, succeeded_at=None,
    )  # fmt: skip
    assert (found[2].had_credential, found[3].configured) == (True, False)


class TestRecordRoot:
    """``record_root``: a root is compared with the rows of its index."""

    COLUMNS = "source, name, listed, wanted, listed_serial, absent_since, address, digest"

    @pytest.fixture(autouse=True)
    async def projects(self, store: Store, indexes: None) -> None:
        """Listed ones, one that is gone, one that is unwanted, and one that was missed."""
        for name, values in (
            ("a", {"listed_serial": 1}),
            ("b", {"listed_serial": 1, "address": "old/"}),
            ("c", {"absent_since": 4}),
            ("d", {"listed": 0}),
            ("e", {"wanted": 0}),
            ("f", {"absent_since": 3}),
        ):
            await add(store, "project", name=name, **{**READ, **values})
        await add(store, "project", source=2, name="c", absent_since=3)
        await add(store, "project", source=2, name="e", wanted=0)

    async def look(self, store: Store, projects: dict[str, int | None] | None, **values: Any) -> RootChange:
        source = await source_of(store, "main")
        page = None
        if projects is not None:
            page = RootPage(projects={ProjectName(n): s for n, s in projects.items()}, addresses={B: "new/"})
        return await record_root(store, source, cycle=4, listing=page, **{"wants": lambda name: True, **values})

    async def rows(self, store: Store) -> list[Any]:
        rows = await store.rows(f"SELECT {self.COLUMNS} FROM project WHERE source = 1 ORDER BY name")
        return [row[1:] for row in rows]

    async def test_unchanged(self, store: Store) -> None:
        """A confirmed root judges only what an earlier cycle missed."""
        before = store.changes
        assert await self.look(store, None) == RootChange(gone=((6, F),), unwanted=((5, E),))
        assert await self.look(store, None, is_whole=False) == RootChange(unwanted=((5, E),))
        assert await self.look(store, None, only=[A]) == RootChange()
        assert store.changes == before

    async def test_listing(self, store: Store) -> None:
        """Projects are added, kept and missed; a moved page is read again."""
        change = await self.look(store, {"b": 1, "c": None, "d": 2, "e": 3, "g": 4, "0": 5})
        assert change == RootChange(gone=((6, F),))
        assert await self.rows(store) == [
            ("0", 1, 1, 5, None, None, None),
            ("a", 1, 1, 1, 4, None, "d"),
            ("b", 1, 1, 1, None, "new/", None),
            ("c", 1, 1, None, None, None, "d"),
            ("d", 1, 1, 2, None, None, "d"),
            ("e", 1, 1, 3, None, None, "d"),
            ("f", 1, 1, None, 3, None, "d"),
            ("g", 1, 1, 4, None, None, None),
        ]
        assert await store.rows("SELECT absent_since, wanted FROM project WHERE source = 2") == [(3, 1), (None, 0)]

    async def test_not_wanted(self, store: Store) -> None:
        """What the patterns do not want any more is unwanted, whether it is listed or not."""
        change = await self.look(store, {"a": 1, "b": 1}, wants=lambda name: name not in {"a", "f"})
        assert change == RootChange(unwanted=((1, A), (6, F)))
        assert [(row[0], row[2], row[4]) for row in await self.rows(store)] == [
            ("a", 0, None), ("b", 1, None), ("c", 1, 4), ("d", 1, None), ("e", 1, 4), ("f", 0, None),
        ]  # fmt: skip

    async def test_narrowed(self, store: Store) -> None:
        """A narrowed look misses nothing but what of its projects is unwanted."""
        assert await self.look(store, {"d": 2}, only=[A, D], wants=lambda name: name != "a") == RootChange()
        assert [(row[0], row[1], row[2], row[4]) for row in await self.rows(store)] == [
            ("a", 1, 0, None), ("b", 1, 1, None), ("c", 1, 1, 4), ("d", 1, 1, None), ("e", 1, 0, None), ("f", 1, 1, 3),
        ]  # fmt: skip

    async def test_not_whole(self, store: Store) -> None:
        """What a cut root does not list is not missed."""
        assert await self.look(store, {"a": 1}, is_whole=False) == RootChange(unwanted=((5, E),))
        assert [(row[0], row[4]) for row in await self.rows(store)] == [
            ("a", None), ("b", None), ("c", 4), ("d", None), ("e", None), ("f", 3),
        ]  # fmt: skip

    async def test_chunks(self, store: Store) -> None:
        """More projects than one query returns are each kept."""
        await store.connection.execute(
            "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 4100)"
            " INSERT INTO project (source, name) SELECT 1, 'p' || (5000 - i) FROM n"
        )
        names = [f"p{number}" for number in range(900, 5000)]
        await self.look(store, dict.fromkeys([*"abcdef", *names], 1))
        assert await store.rows(
            "SELECT name, listed_serial FROM project WHERE source = 1 AND name > 'g' ORDER BY 1"
        ) == (sorted((name, 1) for name in names))


class TestRecordRootRead:
    """``record_root_read``: the validators of a root are kept."""

    async def read(self, store: Store, **values: Any) -> None:
        source = await source_of(store, "main")
        common = {"validators": VALIDATORS, "cycle": 7, "selection": "s", "listed": 9}
        await record_root_read(store, source, **{**common, **values})

    async def test_changed(self, store: Store, indexes: None) -> None:
        """All that is known of the root is kept in its own row."""
        validators = Validators(etag="e2", last_modified="l2", serial=2, digest="d2")
        await self.read(store, validators=validators, page_origin="https://o", is_flat=True, unread=(2, ("n",)))
        columns = "id, etag, last_modified, serial, digest, selection, root_read, listed, page_origin, is_flat, unread"
        assert await rows_of(store, "source", columns) == [
            (1, "e2", "l2", 2, "d2", "s", 7, 9, "https://o", 1, '[2,["n"]]'),
            (2, "e", "l", 1, "d", None, 1, 0, None, 0, None),
            (3, "e", "l", 1, "d", None, 1, 0, None, 0, None),
        ]
        await self.read(store, unread=(0, ()))
        assert (await source_of(store, "main")).unread == 0

    async def test_unchanged(self, store: Store, indexes: None) -> None:
        """Nothing is written for the same root, and what is unread stays where it is not said."""
        await self.read(store, unread=(1, ("n",)))
        before = store.changes
        await self.read(store, cycle=8, unread=(1, ("n",)))
        await self.read(store, cycle=8)
        assert store.changes == before
        found = await source_of(store, "main")
        assert (found.root_read, found.unread, found.unread_names) == (7, 1, ("n",))


async def test_forget_root_validators(store: Store, indexes: None) -> None:
    """The root is read again; its rows stay the listing of the last good one."""
    source = await source_of(store, "main")
    await forget_root_validators(store, source)
    assert await rows_of(store, "source", "id, etag, last_modified, serial, digest, root_read") == [
        (1, None, None, None, None, 1),
        (2, "e", "l", 1, "d", 1),
        (3, "e", "l", 1, "d", 1),
    ]
    before = store.changes
    await forget_root_validators(store, await source_of(store, "main"))
    assert store.changes == before


async def test_forget_serials(store: Store, indexes: None) -> None:
    """The pages of one index are asked for conditionally."""
    for source in (1, 2):
        await add(store, "project", source=source, name="a", **READ)
    await forget_serials(store, await source_of(store, "main"))
    assert await rows_of(store, "project", "id, etag, serial, digest") == [(1, "e", None, "d"), (2, "e", 1, "d")]


async def test_record_success(store: Store, indexes: None) -> None:
    """The time is kept for some indexes."""
    await record_success(store, [1, 3], 5.0)
    assert await rows_of(store, "source", "id, succeeded_at") == [(1, 5.0), (2, None), (3, 5.0)]


class TestLoadLetOut:
    """``load_served_projects``: the projects by which a refusal is judged."""

    async def load(self, store: Store, *let_out: str) -> list[tuple[str, str | None]]:
        source = msgspec.structs.replace(await source_of(store, "main"), let_out=let_out)
        return await load_served_projects(store, source)

    async def test_kept(self, store: Store, indexes: None) -> None:
        """Those that are not refused by now, with their addresses, in the order in which they were let out."""
        for source, name, address in ((1, "b", "b/"), (1, "a", None), (2, "a", "no/"), (1, "c", "c/")):
            await add(store, "project", source=source, name=name, address=address, **READ)
        assert await self.load(store, "b", "a", "gone") == [("b", "b/"), ("a", None), ("gone", None)]
        await add(store, "failure", project="a", reason="denied")
        await add(store, "failure", project="b", reason="denied", filename="f")
        await add(store, "failure", project="b", reason="unreachable")
        await add(store, "failure", project="gone", reason="denied", source=2)
        assert await self.load(store, "b", "a", "gone") == [("b", "b/"), ("gone", None)]

    async def test_others(self, store: Store, indexes: None) -> None:
        """Where too few are left, some that were read and are listed are added."""
        for name, values in (("a", {}), ("b", {"listed": 0}), ("c", {"digest": None}), ("d", {"source": 2}), ("e", {}),
                             ("f", {}), ("g", {})):  # fmt: skip
            await add(store, "project", **{"name": name, **READ, **values})
        await add(store, "failure", project="e", reason="denied")
        await add(store, "failure", project="f", reason="unreachable")
        await add(store, "failure", project="g", reason="denied", filename="f")
        await add(store, "failure", project="a", reason="denied", source=2)
        found = await self.load(store, "x", "e")
        assert (found[0], sorted(found)) == (("x", None), [("a", None), ("f", None), ("g", None), ("x", None)])

    async def test_refused_alone(self, store: Store, indexes: None) -> None:
        """Refused ones are returned where there is no other."""
        await add(store, "failure", project="x", reason="denied")
        assert await self.load(store, "x") == [("x", None)]


async def test_record_identity(store: Store, indexes: None) -> None:
    """Whether a credential was used is kept where something was read."""
    await record_identity(store, await source_of(store, "main"), had_credential=None)
    await record_identity(store, await source_of(store, "extra"), had_credential=True)
    assert await rows_of(store, "source", "id, had_credential") == [(1, None), (2, 1), (3, None)]
    before = store.changes
    await record_identity(store, await source_of(store, "extra"), had_credential=True)
    assert store.changes == before


async def test_record_let_out(store: Store, indexes: None) -> None:
    """The names are kept where they changed."""
    await record_served_names(store, await source_of(store, "main"), ["b", "a"])
    assert await rows_of(store, "source", "id, let_out") == [(1, '["b","a"]'), (2, '["a"]'), (3, None)]
    before = store.changes
    await record_served_names(store, await source_of(store, "main"), ["b", "a"])
    assert store.changes == before


class TestDue:
    """``load_due`` and ``count_due``: which projects a cycle looks at."""

    @pytest.fixture(autouse=True)
    async def revisions(self, store: Store, indexes: None) -> None:
        await add_revisions(store, 2)

    async def due(self, store: Store, index: str = "main", **values: Any) -> list[ProjectRow]:
        source = await source_of(store, index)
        common = {"selection": "s", "trust_serials": False, "only_held": False, "is_overlay": False, "now": 50.0}
        due = Due(source=source, **{**common, **values})
        found = [row async for chunk in load_due(store, due) for row in chunk]
        assert (await count_due(store, due))[0] == len(found)
        return found

    async def names(self, store: Store, index: str = "main", **values: Any) -> str:
        return "".join(row.name for row in await self.due(store, index, **values))

    async def test_rows(self, store: Store) -> None:
        """The listed, wanted and present projects of the index are due, by name, with all that is known of them."""
        await add(store, "project", name="b")
        await add(
            store, "project", name="a", listed_serial=2, selection="s", status="archived", status_reason="r",
            versions='["1"]', extra='{"k":1}', extra_meta='{"m":2}', withdrawn="gone", address="x/",
            page_origin="https://o", **READ,
        )  # fmt: skip
        for values in ({"listed": 0}, {"wanted": 0}, {"absent_since": 1}, {"source": 2}):
            await add(store, "project", name=f"z{values}", **values)
        await add_file(store, "f", "x", project=2, absent_since=1)
        await add(store, "failure", project="a", filename="f", needs_page=1, next_at=50.0)
        assert await self.due(store) == [
            ProjectRow(
                id=2, name=A, address="x/", page_origin="https://o", listed_serial=2, validators=VALIDATORS,
                selection="s",
                meta=ProjectMeta(
                    status="archived", status_reason="r", versions=("1",), extra='{"k":1}', extra_meta='{"m":2}'
                ),
                withdrawn="gone", has_entries=True, has_absent=True, has_failures=True, needs_page=True,
            ),
            ProjectRow(
                id=1, name=B, address=None, page_origin=None, listed_serial=None, validators=None, selection=None,
                meta=ProjectMeta(), withdrawn=None, has_entries=False, has_absent=False, has_failures=False,
            ),
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("table", "values", "flags"),
        [
            ("entry", {}, (True, False)),
            ("entry", {"valid_to": 2}, (False, False)),
            ("entry", {"absent_since": 1}, (True, True)),
            ("entry", {"absent_since": 1, "valid_to": 2}, (False, False)),
            ("entry", {"absent_since": 1, "project": 2}, (False, False)),
            ("failure", {"filename": "f"}, (True, False)),
            ("failure", {"filename": "f", "needs_page": 1, "next_at": 51.0}, (True, False)),
            ("failure", {"filename": "f", "needs_page": 1, "next_at": 50.0}, (True, True)),
            ("failure", {"filename": "f", "needs_page": 1, "next_at": 90.0, "last_at": 51.0}, (True, True)),
            ("failure", {"filename": "f", "needs_page": 1, "next_at": 90.0, "last_at": 50.0}, (True, False)),
            ("failure", {"filename": "f", "needs_page": 1, "source": 2}, (False, False)),
            ("failure", {"filename": "f", "needs_page": 1, "project": "b"}, (False, False)),
        ],
    )
    async def test_flags(self, store: Store, table: str, values: dict[str, Any], flags: tuple[bool, bool]) -> None:
        """A project is marked for its own open entries and failures."""
        for name in "ab":
            await add(store, "project", name=name)
        row = {"filename": "f", "sha256": "x"} if table == "entry" else {"project": "a"}
        await add(store, table, **{**row, **values})
        [found] = await self.due(store, only=(A,))
        if table == "entry":
            assert (found.has_entries, found.has_absent) == flags
        else:
            assert (found.has_failures, found.needs_page) == flags

    @pytest.mark.parametrize(
        ("owner", "values", "names"),
        [
            (1, {}, "b"),
            (1, {"listed": 0}, "ab"),
            (1, {"wanted": 0}, "ab"),
            (1, {"name": "c"}, "ab"),
            (3, {}, "ab"),
            (4, {}, "ab"),
        ],
    )
    async def test_owner(self, store: Store, owner: int, values: dict[str, Any], names: str) -> None:
        """What an earlier index lists and wants is not due, except for an overlay."""
        await add(store, "source", name="last", position=2)
        await store.connection.execute("UPDATE source SET position = 0 WHERE id = 3")
        for name in "ab":
            await add(store, "project", source=2, name=name)
        await add(store, "project", **{"source": owner, "name": "a", **values})
        assert await self.names(store, "extra") == names
        assert await self.names(store, "extra", is_overlay=True) == "ab"

    async def test_only_held(self, store: Store) -> None:
        """New projects wait."""
        for name in "abc":
            await add(store, "project", name=name)
        await add_file(store, "f", "x", project=2)
        await add_file(store, "f", "x", project=3, valid_to=2)
        assert await self.names(store, only_held=True) == "b"

    async def test_only_and_unlisted(self, store: Store) -> None:
        """Only some projects are due, without those that the root does not list any more."""
        for name in "abcd":
            await add(store, "project", name=name)
        assert await self.names(store, only=(A, C, D)) == "acd"
        assert await self.names(store, only=(A, C, D), unlisted=(C, D)) == "a"

    @pytest.mark.parametrize(
        ("values", "is_due"),
        [
            ({"next_at": 51.0}, False),
            ({"next_at": 50.0}, True),
            ({"next_at": 51.0, "last_at": 50.0}, False),
            ({"next_at": 51.0, "last_at": 51.0}, True),
            ({"next_at": 51.0, "reason": "unreachable"}, True),
            ({"next_at": 51.0, "filename": "f"}, True),
            ({"next_at": 51.0, "source": 2}, True),
            ({"next_at": 51.0, "project": "b"}, True),
        ],
    )
    async def test_resting(self, store: Store, values: dict[str, Any], is_due: bool) -> None:
        """A refused page is left alone until its next try; a cycle by hand tries everything."""
        await add(store, "project", name="a")
        await add(store, "failure", **{"project": "a", "reason": "denied", **values})
        assert await self.names(store) == ("a" if is_due else "")
        assert await self.names(store, now=math.inf) == "a"

    @pytest.mark.parametrize(
        ("values", "is_due"),
        [
            ({}, False),
            ({"digest": None}, True),
            ({"serial": None, "listed_serial": None}, True),
            ({"listed_serial": 2}, True),
            ({"listed_serial": None}, True),
            ({"selection": "t"}, True),
            ({"selection": None}, True),
        ],
    )
    async def test_serials(self, store: Store, values: dict[str, Any], is_due: bool) -> None:
        """A page whose serial is the root's is confirmed without a request."""
        await add(store, "project", **{"name": "a", "listed_serial": 1, "selection": "s", **READ, **values})
        assert await self.names(store, trust_serials=True) == ("a" if is_due else "")
        due = Due(source=await source_of(store, "main"), selection="s", trust_serials=True, only_held=False,
                  is_overlay=False)  # fmt: skip
        assert await count_due(store, due) == (int(is_due), int(not is_due))

    @pytest.mark.parametrize(
        ("table", "values", "is_due"),
        [
            ("entry", {"absent_since": 1}, True),
            ("entry", {}, False),
            ("entry", {"absent_since": 1, "valid_to": 2}, False),
            ("entry", {"absent_since": 1, "project": 2}, False),
            ("failure", {"next_at": 50.0}, True),
            ("failure", {"next_at": 51.0}, False),
            ("failure", {"next_at": 51.0, "last_at": 51.0}, True),
            ("failure", {"next_at": 51.0, "last_at": 50.0}, False),
            ("failure", {"source": 2}, False),
            ("failure", {"project": "b"}, False),
        ],
    )
    async def test_serials_with_more_to_do(
        self, store: Store, table: str, values: dict[str, Any], is_due: bool
    ) -> None:
        """A confirmed page is due where a file of it is absent or is tried again."""
        for name in "ab":
            await add(store, "project", name=name, listed_serial=1, selection="s", **READ)
        row = {"filename": "f", "sha256": "x"} if table == "entry" else {"project": "a", "filename": "f"}
        await add(store, table, **{**row, **values})
        assert await self.names(store, trust_serials=True, only=(A,)) == ("a" if is_due else "")

    async def test_nothing(self, store: Store) -> None:
        """An index without projects has none due."""
        assert await self.due(store) == []

    async def test_chunks(self, store: Store) -> None:
        """More projects than one query returns come once each."""
        await store.connection.execute(
            "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 1100)"
            " INSERT INTO project (source, name) SELECT 1, 'p' || (3000 - i) FROM n"
        )
        assert [row.name for row in await self.due(store)] == [f"p{number}" for number in range(1900, 3000)]


@pytest.mark.parametrize(
    ("values", "has"), [({}, True), ({"listed": 0}, False), ({"wanted": 0}, False), ({"source": 2}, False)]
)
async def test_has_wanted(store: Store, indexes: None, values: dict[str, Any], has: bool) -> None:
    """A project counts that the index lists and that the patterns want."""
    assert not await has_wanted(store, 1)
    await add(store, "project", **{"name": "a", **values})
    assert await has_wanted(store, 1) is has


async def test_load_listed(store: Store, indexes: None) -> None:
    """Of some names those are returned that the index lists and wants now."""
    for name, values in (
        ("a", {}), ("b", {"listed": 0}), ("c", {"wanted": 0}), ("d", {"absent_since": 1}), ("e", {"source": 2}), ("g", {}),
    ):  # fmt: skip
        await add(store, "project", name=name, **values)
    assert await load_listed(store, 1, [A, B, C, D, E, F]) == {A}


async def test_load_counts(store: Store, indexes: None) -> None:
    """Absent and unhashed files of one index are counted, and what its pages leave out."""
    await add_revisions(store, 2)
    for source, name, absent_since, skipped in ((1, "a", None, 2), (1, "b", 1, 3), (2, "a", None, 5), (2, "b", 1, 0)):
        await add(store, "project", source=source, name=name, absent_since=absent_since, skipped=skipped)
    assert await load_counts(store, 3) == IndexCounts(absent=0, unhashed=0, skipped=0)
    for filename, project, values in (
        ("f", 1, {"absent_since": 1}),
        ("g", 1, {"absent_since": 1, "valid_to": 2}),
        ("h", 1, {"unhashed": 1}),
        ("i", 1, {"unhashed": 1, "valid_to": 2}),
        ("j", 2, {}),
        ("k", 2, {"absent_since": 1}),
        ("l", 2, {"valid_to": 2}),
        ("m", 3, {"absent_since": 1, "unhashed": 1}),
        ("n", 3, {"unhashed": 1}),
        ("o", 4, {}),
    ):
        await add_file(store, filename, "x", project=project, source=1 if project < 3 else 2, **values)
    assert await load_counts(store, 1) == IndexCounts(absent=3, unhashed=1, skipped=5)
    assert await load_counts(store, 2) == IndexCounts(absent=2, unhashed=2, skipped=5)
