"""The passes over the indexes: when each began and ended, and how."""

from __future__ import annotations

import msgspec

from mirror.state.store import Store


class CycleRow(msgspec.Struct, frozen=True, kw_only=True):
    """One cycle as recorded.

    Times are seconds since the epoch; ``report`` is the JSON text of its report.
    """

    id: int
    started_at: float
    finished_at: float | None
    outcome: str | None
    exit_code: int | None
    report: str | None
    problem: str | None = None
    """The problem that stopped it, where the disk or the state did."""


async def record_cycle_start(store: Store, now: float, *, allow_shrink: bool) -> int:
    """Record a new cycle and return its number."""
    async with store.transaction() as tx:
        return await tx.insert(
            "INSERT INTO cycle (started_at, allow_shrink) VALUES (?, ?)", (now, allow_shrink)
        )


async def forget_cycle(store: Store, cycle: int) -> None:
    """Forget a cycle that was refused before it did anything."""
    async with store.transaction() as tx:
        await tx.execute("DELETE FROM cycle WHERE id = ?", (cycle,))


async def record_cycle_end(
    store: Store,
    cycle: int,
    now: float,
    *,
    outcome: str,
    exit_code: int,
    report: str,
    problem: str | None = None,
) -> None:
    """Record the end of a cycle."""
    async with store.transaction() as tx:
        await tx.execute(
            "UPDATE cycle SET finished_at = ?, outcome = ?, exit_code = ?, report = ?, problem = ?"
            " WHERE id = ?",
            (now, outcome, exit_code, report, problem, cycle),
        )


async def load_last_cycle(store: Store, *, finished: bool = False) -> CycleRow | None:
    """Return the cycle that began last; with ``finished``, only of the finished ones."""
    where = "WHERE finished_at IS NOT NULL" if finished else ""
    columns = "id, started_at, finished_at, outcome, exit_code, report, problem"
    return await store.row_as(
        CycleRow, f"SELECT {columns} FROM cycle {where} ORDER BY id DESC LIMIT 1"
    )


async def load_killed_before(store: Store) -> int | None:
    """Return the newest unfinished cycle between the last finished one and the very last one."""
    found = await store.value(
        "SELECT max(id) FROM cycle WHERE finished_at IS NULL AND id < (SELECT max(id) FROM cycle)"
        " AND id > coalesce((SELECT max(id) FROM cycle WHERE finished_at IS NOT NULL), 0)"
    )
    return None if found is None else int(found)


async def has_clock_gone_back(store: Store) -> bool:
    """Return whether the cycle that began last began earlier, by the clock, than the one before
    it.
    """
    starts = await store.values("SELECT started_at FROM cycle ORDER BY id DESC LIMIT 2")
    return len(starts) == 2 and starts[0] < starts[1]
