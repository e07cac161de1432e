"""The queries of ``mirror.state.readers.lookup``."""

from __future__ import annotations

from typing import Any

import pytest

from harness.state_rows import add, add_file, add_revisions
from mirror.core.names import ProjectName
from mirror.errors import Reason
from mirror.state.listing.sources import load_sources
from mirror.state.missing.ledger import load_project_failures
from mirror.state.missing.left_out import LeftOut
from mirror.state.missing.unserved import Unserved
from mirror.state.readers.lookup import (
    HeldName,
    IndexPart,
    ProjectPart,
    is_known_project,
    iter_projects,
    load_last_published,
    load_project,
)
from mirror.state.store import Store

UNSERVED = (
    Unserved(index="main", project="asked", reason=Reason.NOT_OFFERED, detail="", is_literal=True),
    Unserved(index="main", project="file", filename="f", reason=Reason.NOT_OFFERED, detail="", is_literal=True),
    Unserved(index="main", project="served", reason=Reason.NOT_SERVED, detail="", is_literal=False),
)


@pytest.fixture
async def indexes(store: Store) -> None:
    """Two indexes of the configuration, one that left it; the second one's root was never read."""
    await add_revisions(store, 3)
    await add(store, "source", name="main", position=0, root_read=1)
    await add(store, "source", name="extra", position=1)
    await add(store, "source", name="former", position=2, configured=0, root_read=1)


async def names(store: Store, **values: Any) -> list[str]:
    sources = await load_sources(store)
    matches = values.get("matches", lambda name: True)
    return [part.name async for chunk in iter_projects(store, sources, UNSERVED, matches) for part in chunk]


async def test_iter_projects(store: Store, indexes: None) -> None:
    """What is listed, published or asked for comes once, by name."""
    for source, name, listed in ((1, "z", 1), (2, "z", 1), (1, "b", 0), (1, "c", 0), (1, "d", 0)):
        await add(store, "project", source=source, name=name, listed=listed)
    await add_file(store, "f", "x", project=4)
    await add_file(store, "f", "x", project=5, valid_to=2)
    assert await names(store) == ["asked", "c", "z"]
    assert await names(store, matches=lambda name: name > "b") == ["c", "z"]


async def test_iter_projects_in_chunks(store: Store, indexes: None) -> None:
    """More names than one query returns come once each; what is asked for stands among them."""
    found = [f"a{number:04}" for number in range(600)] + [f"b{number:04}" for number in range(600)]
    for name in reversed(found):
        await add(store, "project", name=name)
    assert await names(store) == sorted([*found, "asked"])


async def test_load_project(store: Store, indexes: None) -> None:
    """What each index says of a project is put together with what is held."""
    await add(store, "project", source=1, name="a", skipped=3, selection="s", absent_since=2, status="quarantined",
              status_reason="malware")  # fmt: skip
    await add(store, "project", source=2, name="a", wanted=0, skipped=1)
    await add(store, "project", source=3, name="a", withdrawn="gone")
    await add(store, "project", source=1, name="b")
    await add(store, "left_out", project=1, rule="files", files=3, names='["g"]')
    await add_file(store, "g", "x", project=3, source=3, size=5, absent_since=3)
    await add_file(store, "f", "y", project=1)
    await add_file(store, "old", "x", project=1, valid_to=2)
    await add_file(store, "b", "x", project=4)
    await add(store, "failure", source=1, project="a", filename="h")
    await add(store, "failure", source=2, project="b", filename="h")
    failures = tuple((await load_project_failures(store, 1, ProjectName("a"))).values())
    assert len(failures) == 1
    sources = await load_sources(store)
    unserved = Unserved(index="main", project="a", reason=Reason.NOT_SERVED, detail="", is_literal=False)
    assert await load_project(store, sources, (unserved, *UNSERVED), "a") == ProjectPart(
        name="a",
        indexes=(
            IndexPart(
                index="main", configured=True, root_known=True, lists=True, wanted=True, owns=True, absent=True,
                page_read=True, withdrawn="malware", skipped=3,
                left_out=(LeftOut(rule="files", files=3, names=("g",)),), failures=failures,
            ),
            IndexPart(
                index="extra", configured=True, root_known=False, lists=True, wanted=False, owns=False, absent=False,
                page_read=False, withdrawn=None, skipped=1, left_out=(), failures=(),
            ),
            IndexPart(
                index="former", configured=False, root_known=True, lists=False, wanted=False, owns=False, absent=False,
                page_read=False, withdrawn="active", skipped=0, left_out=(), failures=(),
            ),
        ),
        held=(
            HeldName(filename="f", index="main", size=1, sha256="y", is_absent=False),
            HeldName(filename="g", index="former", size=5, sha256="x", is_absent=True),
        ),
        unserved=(unserved,),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("values", "withdrawn"),
    [({}, None), ({"status": "archived"}, None), ({"status": "quarantined"}, "quarantined"),
     ({"withdrawn": "gone", "status_reason": "why"}, "why")],
)  # fmt: skip
async def test_load_project_that_was_withdrawn(
    store: Store, indexes: None, values: dict[str, Any], withdrawn: str | None
) -> None:
    """A withdrawn project has its reason, or its status."""
    await add(store, "project", name="a", listed=0, **values)
    part = (await load_project(store, await load_sources(store), (), "a")).indexes[0]
    assert (part.withdrawn, part.lists, part.owns) == (withdrawn, False, False)


async def test_load_last_published(store: Store, indexes: None) -> None:
    """The last time that a file left the pages is returned."""
    for name in ("a", "b"):
        await add(store, "project", name=name)
    await add(store, "project", source=2, name="a")
    for project, filename, valid_to in ((1, "f", 2), (3, "f", 1), (1, "f", None), (1, "g", 3), (2, "f", 3)):
        await add_file(store, filename, "x", project=project, valid_to=valid_to)
    assert await load_last_published(store, "a", "f") == 20.0
    assert await load_last_published(store, "a", "h") is None
    await add_file(store, "open", "x", project=1)
    assert await load_last_published(store, "a", "open") is None


async def test_is_known_project(store: Store, indexes: None) -> None:
    """A project that is not listed any more is known."""
    await add(store, "project", name="a", listed=0)
    assert [await is_known_project(store, name) for name in "ab"] == [True, False]
