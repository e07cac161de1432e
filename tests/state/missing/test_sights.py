"""What is read of first sights for one page: rows of its project, whichever index has them, and no others."""

from __future__ import annotations

from mirror.state.missing.sights import load_sights


async def test_no_table_is_read_as_a_whole(store, monkeypatch):
    """A mirror has millions of rows, and each changed page asks."""
    asked = []
    rows_as = store.rows_as

    async def remembered(kind, sql, parameters=()):
        asked.append((sql, parameters))
        return await rows_as(kind, sql, parameters)

    monkeypatch.setattr(store, "rows_as", remembered)
    await load_sights(store, 1, now=0.0)
    assert len(asked) == 3
    for sql, parameters in asked:
        plan = await store.rows(f"EXPLAIN QUERY PLAN {sql}", parameters)
        assert [step for *_, step in plan if step.startswith("SCAN")] == []
