"""What the search finds, with its index and without it."""

from __future__ import annotations

import pytest

from harness.state_rows import add, add_file, add_revisions
from mirror.core.names import ProjectName
from mirror.state.shown.search import (
    MAX_RANKED,
    Hit,
    Summary,
    enter_summaries,
    fold_text,
    load_hits,
    load_unread,
    load_wheels,
    record_summaries,
)
from mirror.state.shown.search_index import HAS_INDEX, keep_index, leave_index
from mirror.state.store import Store

PROJECTS = {
    "flask": ("2.0", "A simple framework for building web applications"),
    "flask-login": ("1.0", "User sessions for Flask"),
    "quart": ("1.0", "A Python ASGI web framework, flask-like"),
    "numpy": ("1.0", "Arrays: fundamental package"),
    "zope-interface": ("1.0", ""),
}


async def seed(store: Store) -> None:
    for name in PROJECTS:
        await add(store, "page", name=name)
    await add(store, "page", name="hidden-flask", published=0)
    async with store.transaction() as tx:
        found = [Summary(name=ProjectName(n), version=v, text=t) for n, (v, t) in PROJECTS.items() if t]
        await enter_summaries(tx, found)


@pytest.fixture(params=["indexed", "scanned"])
async def seeded(request: pytest.FixtureRequest, store: Store) -> Store:
    if request.param == "scanned":
        await leave_index(store.connection)
    await seed(store)
    assert bool(await store.value(HAS_INDEX)) == (request.param == "indexed")
    return store


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("flask", ["flask", "flask-login", "quart"]),
        ("FLASK", ["flask", "flask-login", "quart"]),
        ("lask", ["flask", "flask-login", "quart"]),
        ("flask_login", ["flask-login"]),
        ("flask.login", ["flask-login"]),
        ("framework web", ["flask", "quart"]),
        ("framework sessions", []),
        ("zope.interface", ["zope-interface"]),
        ("fl", ["flask", "flask-login"]),
        ("z", ["zope-interface"]),
        ("wx", []),
        ('"', []),
        ('a"b', []),
        ("arrays: f", ["numpy"]),
        ("100%", []),
        ("_____", []),
        ("flask\0", ["flask", "flask-login", "quart"]),
        ("", sorted(PROJECTS)),
        ("   ", sorted(PROJECTS)),
    ],
)
async def test_a_search_finds_names_before_summaries(seeded: Store, text: str, names: list[str]) -> None:
    """The name itself is first, then names that begin with the text, other names, and summaries; case, ``-``, ``_`` and
    ``.`` make no difference, and quotes and wildcards mean themselves.
    """
    found = await load_hits(seeded, text, 50)
    assert [hit.name for hit in found.hits] == names
    assert found.total == len(names)


async def test_hits_carry_summaries_and_are_limited(seeded: Store) -> None:
    """A hit has its summary; the total counts what the limit cuts off."""
    found = await load_hits(seeded, "flask", 1)
    assert found.hits == (Hit(name="flask", summary=PROJECTS["flask"][1]),)
    assert found.total == 3


async def test_many_hits_are_counted_and_the_best_are_ranked(seeded: Store) -> None:
    """More hits than are ranked are counted; the name itself and those that begin with the text stay first."""
    many = [(f"a-numpy-{number}",) for number in range(MAX_RANKED + 5)]
    await seeded.connection.executemany(
        "INSERT INTO page (name, revision, marked, published) VALUES (?, 1, 0, 1)", many
    )
    found = await load_hits(seeded, "numpy", 3)
    assert [hit.name for hit in found.hits] == ["numpy", "a-numpy-0", "a-numpy-1"]
    assert found.hits[0].summary == PROJECTS["numpy"][1]
    assert found.total == MAX_RANKED + 6
    assert (await load_hits(seeded, "a", 1)).total == MAX_RANKED + 5


async def test_the_newest_version_gives_the_summary(store: Store) -> None:
    """A newer final release replaces a summary; an older one and a pre-release do not."""
    await seed(store)
    for version, text, expected in [
        ("1.9", "older", PROJECTS["flask"][1]),
        ("3.0a1", "a pre-release", PROJECTS["flask"][1]),
        ("2.0", "the same version again", "the same version again"),
        ("10.0", "newer", "newer"),
    ]:
        async with store.transaction() as tx:
            await enter_summaries(tx, [Summary(name=ProjectName("flask"), version=version, text=text)])
        assert (await load_hits(store, "flask", 1)).hits[0].summary == expected
    assert [hit.name for hit in (await load_hits(store, "newer", 9)).hits] == ["flask"]
    assert not (await load_hits(store, "again", 9)).hits


async def test_the_newest_of_one_batch_counts(store: Store) -> None:
    """Among wheels that are placed together the newest version gives the summary, in whatever order they come."""
    async with store.transaction() as tx:
        found = [Summary(name=ProjectName("flask"), version=v, text=v) for v in ("1.0", "3.0", "2.0")]
        await enter_summaries(tx, found)
    await add(store, "page", name="flask")
    assert (await load_hits(store, "flask", 1)).hits == (Hit(name="flask", summary="3.0"),)


async def test_a_project_is_found_while_its_page_is_published(seeded: Store) -> None:
    """The search follows the pages: published, taken from the root, deleted, published again."""

    async def found() -> list[str]:
        return [hit.name for hit in (await load_hits(seeded, "numpy", 9)).hits]

    for change, is_found in [
        ("UPDATE page SET published = 0 WHERE name = 'numpy'", False),
        ("UPDATE page SET published = 1 WHERE name = 'numpy'", True),
        ("DELETE FROM page WHERE name = 'numpy'", False),
        ("INSERT INTO page (name, revision, marked, published) VALUES ('numpy', 1, 1, 0)", False),
        ("UPDATE page SET published = 1 WHERE name = 'numpy'", True),
    ]:
        await seeded.connection.execute(change)
        assert await found() == (["numpy"] if is_found else []), change


async def test_an_index_that_was_left_is_made_again(store: Store) -> None:
    """What changed while no index was kept is found after it was built again."""
    await seed(store)
    await leave_index(store.connection)
    await add(store, "page", name="added-meanwhile")
    await store.connection.execute("DELETE FROM page WHERE name = 'quart'")
    await keep_index(store.connection)
    assert await store.value(HAS_INDEX)
    assert [hit.name for hit in (await load_hits(store, "meanwhile", 9)).hits] == ["added-meanwhile"]
    assert [hit.name for hit in (await load_hits(store, "framework", 9)).hits] == ["flask"]
    await store.rows("INSERT INTO search (search, rank) VALUES ('integrity-check', 1)")


async def test_unread_summaries_are_listed_until_they_are_recorded(store: Store) -> None:
    """Upkeep is given published projects without a summary, and those without any metadata only once."""
    await seed(store)
    assert await load_unread(store, "") == ["zope-interface"]
    await record_summaries(store, [], ["zope-interface"])
    assert await load_unread(store, "") == []
    assert (await load_hits(store, "zope-interface", 1)).hits == (Hit(name="zope-interface", summary=""),)


async def test_only_published_wheels_with_metadata_are_read(store: Store) -> None:
    """A source distribution, a wheel without metadata and one that left the page give no summary."""
    await add_revisions(store, 2)
    await add(store, "source", id=1, name="default")
    await add(store, "project", id=1, name="p")
    for filename, sha256, metadata, closed in [
        ("p-1.0-py3-none-any.whl", "a" * 64, "m", None),
        ("p-2.0-py3-none-any.whl", "b" * 64, None, None),
        ("p-3.0-py3-none-any.whl", "c" * 64, "m", 2),
        ("p-4.0.tar.gz", "d" * 64, "m", None),
    ]:
        await add(store, "blob", sha256=sha256, filename=filename, metadata_sha256=metadata)
        await add_file(store, filename, sha256, valid_to=closed)
    assert await load_wheels(store, ["p", "other"]) == {"p": [("p-1.0-py3-none-any.whl", "a" * 64)]}


def test_folding_makes_separators_the_same() -> None:
    """Case and the separators of names do not matter."""
    assert fold_text("Zope.Interface__X - ÄÖ") == "zope-interface-x - äö"
