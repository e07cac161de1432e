"""The queries of ``mirror.state.readers.overview``."""

from __future__ import annotations

import msgspec

from harness.state_rows import add, add_file, add_revisions
from mirror.errors import Reason
from mirror.state.readers.overview import Held, load_held_counts, load_overview
from mirror.state.store import Store


async def test_load_held_counts(store: Store) -> None:
    """The open entries are counted for each index, with their projects and bytes."""
    await _make_entries(store)
    assert await load_held_counts(store) == {
        1: Held(projects=2, files=3, size=30),
        2: Held(projects=1, files=1, size=5),
    }


async def _make_entries(store: Store) -> None:
    await add_revisions(store, 2)
    await add(store, "source", name="main")
    await add(store, "source", name="extra", position=1)
    for source, name in ((1, "a"), (1, "b"), (2, "a")):
        await add(store, "project", source=source, name=name)
    for project, source, filename, size, valid_to in (
        (1, 1, "f", 10, None),
        (1, 1, "g", 8, None),
        (1, 1, "h", 100, 2),
        (2, 1, "f", 12, None),
        (3, 2, "k", 5, None),
    ):
        await add_file(store, filename, "x", project=project, source=source, size=size, valid_to=valid_to)


async def test_load_overview(store: Store) -> None:
    """Cycles, counts and the ledger of each index are put together; what is missing by name counts as failed."""
    await _make_entries(store)
    for started_at, finished_at in ((5.0, None), (3.0, 4.0), (6.0, None), (7.0, None)):
        await add(store, "cycle", started_at=started_at, finished_at=finished_at)
    await add(store, "left_out", project=1, rule="files", files=2, names="[]")
    await store.connection.execute("UPDATE project SET skipped = 2 WHERE id = 1")
    for project, reason in (("a", "withheld"), ("b", "denied"), ("", "shrink")):
        await add(store, "failure", project=project, reason=reason)
    await add(store, "failure", source=2, project="", reason="unreachable")
    await add(store, "unserved", index_name="main", project="c", reason="not-offered", literal=1, first_at=8.0)
    await add(store, "unserved", index_name="main", project="d", reason="not-served")
    await add(store, "unserved", index_name="extra", project="e", reason="not-served")
    found = await load_overview(store, max_failures=2)
    assert found.first_cycle_at == 3.0
    assert [cycle and cycle.id for cycle in (found.last_cycle, found.last_finished)] == [4, 2]
    assert found.killed_before == 3
    assert [(row.index, row.project, row.reason) for row in found.failures] == [
        ("main", "", Reason.SHRINK),
        ("main", "b", Reason.DENIED),
        ("main", "c", Reason.NOT_OFFERED),
    ]
    assert (found.failures[2].first_at, found.failures[2].last_at, found.failures[2].next_at) == (8.0, 8.0, 8.0)
    assert [row.index for row in found.brakes] == ["main"]
    assert [row.index for row in found.ended] == ["extra"]
    assert [row.project for row in found.unserved] == ["e", "c", "d"]
    main, extra = found.indexes
    assert msgspec.structs.asdict(main.counts) == {"absent": 0, "unhashed": 0, "skipped": 2}
    assert (main.source.name, main.held, main.left_out) == ("main", Held(projects=2, files=3, size=30), {"files": 2})
    assert (main.withheld, main.failed, main.not_offered, main.not_served) == (1, 3, 1, 1)
    assert (extra.source.name, extra.held, extra.left_out) == ("extra", Held(projects=1, files=1, size=5), {})
    assert (extra.withheld, extra.failed, extra.not_offered, extra.not_served) == (0, 1, 0, 1)
    assert found.failed == 5
    assert len((await load_overview(store)).failures) == 5
