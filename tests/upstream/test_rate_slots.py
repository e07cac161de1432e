"""How many requests are under way at once, and how some of that is lent to other processes."""

from __future__ import annotations

import anyio
import pytest
from anyio.lowlevel import checkpoint

from mirror.upstream.limits.rate import Slots


async def hold(slots: Slots, held: list[int], let_go: anyio.Event) -> None:
    if not slots.take_free():
        await slots.take()
    try:
        held.append(1)
        await let_go.wait()
    finally:
        slots.give_back()
    held.pop()


async def settle() -> None:
    for _ in range(20):
        await checkpoint()


async def test_free_ones_are_lent_at_once() -> None:
    """What nobody uses is lent without a wait, and what is taken back can be used again."""
    slots, held, let_go = Slots(3), [], anyio.Event()
    await slots.reserve(2)
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(hold, slots, held, let_go)
        await settle()
        assert len(held) == 1
        slots.release(2)
        await settle()
        assert len(held) == 3
        let_go.set()


async def test_a_loan_comes_before_those_who_wait() -> None:
    """What is let go is lent first, however many wait for it; they go on with the rest."""
    slots, held, first, rest = Slots(3), [], anyio.Event(), anyio.Event()
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(hold, slots, held, first)
        await settle()
        for _ in range(5):
            tasks.start_soon(hold, slots, held, rest)
        lent = anyio.Event()

        async def reserve() -> None:
            await slots.reserve(2)
            lent.set()

        tasks.start_soon(reserve)
        await settle()
        assert not lent.is_set()
        first.set()
        await settle()
        assert lent.is_set()
        assert len(held) == 1
        rest.set()


async def test_a_loan_that_is_given_up_leaves_all() -> None:
    """Where the wait for a loan is cancelled, nothing of it is lost."""
    slots, held, first, rest = Slots(2), [], anyio.Event(), anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hold, slots, held, rest)
        await settle()
        with anyio.move_on_after(0) as scope:
            await slots.reserve(2)
        assert scope.cancelled_caught
        tasks.start_soon(hold, slots, held, first)
        await settle()
        assert len(held) == 2
        first.set()
        rest.set()


@pytest.mark.parametrize("count", [1, 64])
async def test_never_more_than_there_are(count: int) -> None:
    """However many ask, only so many are under way."""
    slots, held, let_go = Slots(count), [], anyio.Event()
    async with anyio.create_task_group() as tasks:
        for _ in range(count * 2):
            tasks.start_soon(hold, slots, held, let_go)
        await settle()
        assert len(held) == count
        let_go.set()
