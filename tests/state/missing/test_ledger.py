"""The queries of ``mirror.state.missing.ledger``."""

from __future__ import annotations

import msgspec
import pytest

from harness.state_rows import add, rows_of
from mirror.core.files.kept_links import KeptLinks
from mirror.core.model import Labels, ListedFile
from mirror.core.names import ProjectName
from mirror.errors import Reason
from mirror.state.listing.sources import UNCLAIMED
from mirror.state.missing.ledger import (
    Failure,
    FailureRow,
    count_all_failures,
    count_failures,
    has_index_failure,
    has_page_failure,
    iter_failed_files,
    load_failures,
    load_index_failures,
    load_project_failures,
    load_reported,
    record_failures,
    reword_missing_pages,
)
from mirror.state.store import Store

FILE = ListedFile(
    filename="a-1.tar.gz", url="https://index/a-1.tar.gz", digests=(("md5", "0"),), size=3, labels=Labels(yanked="")
)
COLUMNS = "source, project, filename, reason, detail, listed, first_at, last_at, attempts, next_at, needs_page"


@pytest.fixture
async def indexes(store: Store) -> None:
    """Two indexes of the configuration, one that left it, and the one of what nobody claims."""
    await add(store, "source", name="main", position=1)
    await add(store, "source", name="first", position=0)
    await add(store, "source", name="former", position=2, configured=0)
    await add(store, "source", name=UNCLAIMED, position=9, configured=0)


async def test_record_failures(store: Store, indexes: None) -> None:
    """A new failure is entered, a known one is counted, and the rows of what succeeded close."""
    signed = msgspec.structs.replace(FILE, url="https://index/a-1.tar.gz?signature=x")
    bare = msgspec.structs.replace(FILE, url="https://index/a-1.tar.gz?")
    failures = [
        Failure(source=1, project="a", filename="a-1.tar.gz", reason=Reason.NOT_FOUND, detail="404", file=FILE),
        Failure(source=1, project="a", filename="", reason=Reason.DENIED, detail="403"),
        Failure(source=1, project="b", filename="", reason=Reason.DENIED, detail="403"),
        Failure(source=2, project="a", filename="", reason=Reason.DENIED, detail="403"),
    ]
    await record_failures(store, failures, (), now=100.0)
    again = Failure(
        source=1, project="a", filename="", reason=Reason.UNREACHABLE, detail="503", file=signed, wait_s=500.0
    )
    await record_failures(store, [again], [(1, "a", "a-1.tar.gz"), (2, "a", "")], now=200.0)
    assert await rows_of(store, "failure", COLUMNS) == [
        (1, "a", "", "unreachable", "503", msgspec.json.encode(bare).decode(), 100.0, 200.0, 2, 700.0, 1),
        (1, "b", "", "denied", "403", None, 100.0, 100.0, 1, 160.0, 0),
    ]


async def test_record_failures_of_the_same_file(store: Store, indexes: None) -> None:
    """The attempts are those of the same index, project and file."""
    await add(store, "failure", source=2, project="a", filename="f", attempts=5)
    await add(store, "failure", source=1, project="b", filename="f", attempts=6)
    await add(store, "failure", source=1, project="a", filename="g", attempts=7)
    failure = Failure(source=1, project="a", filename="f", reason=Reason.STORAGE, detail="")
    await record_failures(store, [failure], (), now=10.0)
    await record_failures(store, [], [(1, "b", "g"), (2, "a", "g"), (2, "b", "f")], now=10.0)
    assert await rows_of(store, "failure", "source, project, filename, reason, attempts, next_at") == [
        (1, "a", "f", "storage", 1, 70.0),
        (1, "a", "g", "not-found", 7, 0.0),
        (1, "b", "f", "not-found", 6, 0.0),
        (2, "a", "f", "not-found", 5, 0.0),
    ]


async def test_reword_missing_pages(store: Store, indexes: None) -> None:
    """Only what is said of the missing pages of one index changes."""
    await add(store, "failure", project="a", detail="no page yet")
    await add(store, "failure", project="a", filename="f", detail="no page yet")
    await add(store, "failure", project="b", reason="denied", detail="no page yet")
    await add(store, "failure", source=2, project="a", detail="no page yet")
    await reword_missing_pages(store, 1, "no page", "nothing")
    assert await rows_of(store, "failure", "source, project, filename, detail") == [
        (1, "a", "", "nothing yet"),
        (1, "a", "f", "no page yet"),
        (1, "b", "", "no page yet"),
        (2, "a", "", "no page yet"),
    ]


async def test_load_project_failures(store: Store, indexes: None) -> None:
    """The ledger of one project of one index is returned by filename, links made whole."""
    store.links = {1: KeptLinks(secret_root="https://index/secret/simple/")}
    listed = msgspec.structs.replace(FILE, url="./a-1.tar.gz")
    await add(store, "failure", project="a", filename="f", listed=msgspec.json.encode(listed).decode(), first_at=1.0,
              last_at=2.0, attempts=3, next_at=4.0, reason="withheld", detail="quarantined")  # fmt: skip
    await add(store, "failure", project="a")
    await add(store, "failure", project="b")
    await add(store, "failure", source=2, project="a", filename="g")
    found = await load_project_failures(store, 1, ProjectName("a"))
    whole = msgspec.structs.replace(FILE, url="https://index/secret/simple/a-1.tar.gz")
    assert found == {
        "": failure_row(index="main", project="a"),
        "f": FailureRow(
            index="main", project="a", filename="f", reason=Reason.WITHHELD, detail="quarantined", file=whole,
            first_at=1.0, last_at=2.0, attempts=3, next_at=4.0,
        ),
    }  # fmt: skip


async def test_load_failures(store: Store, indexes: None) -> None:
    """The ledger of the configured indexes is sorted; a limited one ends with what is withheld."""
    await add(store, "failure", project="b")
    await add(store, "failure", project="a", filename="g")
    await add(store, "failure", project="a", filename="f", reason="withheld")
    await add(store, "failure", source=2, project="c")
    await add(store, "failure", source=3, project="a")
    await add(store, "failure", source=4, project="a")
    by_place = [
        failure_row(index="first", project="c"),
        failure_row(index="main", project="a", filename="f", reason=Reason.WITHHELD),
        failure_row(index="main", project="a", filename="g"),
        failure_row(index="main", project="b"),
        failure_row(index=UNCLAIMED, project="a"),
    ]
    assert await load_failures(store) == by_place
    assert await load_failures(store, limit=2) == [by_place[0], by_place[2]]
    assert await load_failures(store, limit=9) == [*by_place[:1], *by_place[2:], by_place[1]]


async def test_load_index_failures(store: Store, indexes: None) -> None:
    """Only the rows about a whole index of the configuration are returned."""
    await add(store, "failure", project="", filename="", reason="shrink")
    await add(store, "failure", project="", filename="x")
    await add(store, "failure", project="a", filename="")
    await add(store, "failure", source=3, project="")
    await add(store, "failure", source=4, project="")
    assert await load_index_failures(store) == [
        failure_row(index="main", project="", reason=Reason.SHRINK),
        failure_row(index="main", project="", filename="x"),
        failure_row(index=UNCLAIMED, project=""),
    ]


@pytest.mark.parametrize(
    ("row", "has"),
    [
        ({"source": 1, "project": ""}, True),
        ({"source": 2, "project": ""}, False),
        ({"source": 1, "project": "a"}, False),
        ({"source": 1, "project": "", "filename": "f"}, False),
    ],
)
async def test_has_index_failure(store: Store, indexes: None, row: dict[str, object], has: bool) -> None:
    """A row counts if it is about one index as a whole."""
    assert not await has_index_failure(store, 1)
    await add(store, "failure", **row)
    assert await has_index_failure(store, 1) is has


async def test_count_failures(store: Store, indexes: None) -> None:
    """The rows of one index are counted by reason."""
    for source, project, reason in ((1, "a", "denied"), (1, "b", "denied"), (1, "c", "storage"), (2, "a", "denied")):
        await add(store, "failure", source=source, project=project, reason=reason)
    assert await count_failures(store, 1) == {Reason.DENIED: 2, Reason.STORAGE: 1}


def failure_row(*, index: str, project: str, filename: str = "", reason: Reason = Reason.NOT_FOUND) -> FailureRow:
    return FailureRow(
        index=index, project=project, filename=filename, reason=reason, detail="", file=None,
        first_at=0.0, last_at=0.0, attempts=1, next_at=0.0,
    )  # fmt: skip


async def seed_failures(store: Store) -> None:
    """Add three files and a page of main, a page and a file of first, one of nobody, one of the former index."""
    listed = msgspec.json.encode(FILE).decode()
    for source, project, filename in (
        (1, "a", "f1"),
        (1, "a", "f2"),
        (1, "a", "f3"),
        (1, "b", ""),
        (2, "c", ""),
        (2, "c", "g"),
        (3, "d", "h"),
        (4, "e", "k"),
    ):
        await add(store, "failure", source=source, project=project, filename=filename, listed=listed)


async def test_load_reported(store: Store, indexes: None) -> None:
    """Each index has the same share of the report, pages first; what fits is there in order, without its files."""
    await seed_failures(store)
    rows = await load_reported(store, limit=7)
    assert [(row.index, row.project, row.filename, row.file) for row in rows] == [
        ("first", "c", "", None),
        ("first", "c", "g", None),
        ("main", "a", "f1", None),
        ("main", "a", "f2", None),
        ("main", "a", "f3", None),
        ("main", "b", "", None),
        (UNCLAIMED, "e", "k", None),
    ]
    rows = await load_reported(store, limit=6)
    assert [(row.index, row.filename, row.file) for row in rows] == [
        ("first", "", None),
        ("first", "g", None),
        ("main", "", None),
        ("main", "f1", None),
        (UNCLAIMED, "k", None),
    ]


async def test_count_all_failures(store: Store, indexes: None) -> None:
    """Rows of an index that left the configuration don't count."""
    await seed_failures(store)
    assert await count_all_failures(store) == 7


@pytest.mark.parametrize(
    ("values", "has_any"),
    [
        ({"source": 1, "project": "a"}, True),
        ({"source": 4, "project": "a"}, True),
        ({"source": 3, "project": "a"}, False),
        ({"source": 1, "project": "a", "filename": "f"}, False),
        ({"source": 1, "project": ""}, False),
    ],
)
async def test_has_page_failure(store: Store, indexes: None, values: dict[str, object], *, has_any: bool) -> None:
    """Only the page of a project counts, of an index that is configured or unclaimed."""
    await add(store, "failure", **values)
    assert await has_page_failure(store) is has_any


async def test_iter_failed_files(store: Store, indexes: None) -> None:
    """Every file to try again is there once, with its link made whole."""
    store.links = {1: KeptLinks(secret_root="https://index/secret/simple/")}
    short = msgspec.structs.replace(FILE, url="./f")
    listed = msgspec.json.encode(short).decode()
    for number in range(450):
        await add(store, "failure", project=f"p{number}", filename="f", listed=listed)
    await add(store, "failure", project="x", filename="none")
    await add(store, "failure", source=3, project="x", filename="former", listed=listed)
    whole = msgspec.structs.replace(FILE, url="https://index/secret/simple/f")
    found = [one async for one in iter_failed_files(store)]
    assert found == [("main", f"p{number}", whole) for number in range(450)]
