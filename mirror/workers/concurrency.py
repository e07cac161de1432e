"""Adaptive concurrency: workers whose number adapts to the load that the upstream bears.

The number starts at the configured one, grows with success up to the maximum, and is halved when
the upstream pushes back (429, 503, time-outs, resets). The first growth doubles with each round;
after a push-back it goes one by one. One burst is one signal: items that were under way when the
number was halved do not halve it again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
import anyio.lowlevel
from anyio.streams.memory import MemoryObjectReceiveStream

T = TypeVar("T")


class AdaptiveLimit:
    """How many workers there should be."""

    def __init__(self, *, start: int, maximum: int, pushbacks: Callable[[], int]) -> None:
        """``pushbacks`` counts, ever growing, how often the upstream has pushed back."""
        self.target = min(start, maximum)
        self._maximum = maximum
        self._pushbacks = pushbacks
        self._seen = pushbacks()
        self._careful = False
        self._successes = 0
        self._under_way = 0
        """Number of unfinished items among those under way at the last push-back."""

    def count_done(self) -> None:
        """Count one finished item."""
        pushed = self._pushbacks()
        was_under_way = self._under_way > 0
        self._under_way = max(0, self._under_way - 1)
        if pushed != self._seen:
            if not was_under_way:
                self._under_way = self.target - 1
                self.target = max(1, self.target // 2)
            self._seen, self._careful, self._successes = pushed, True, 0
            return
        self._successes += 1
        if self.target < self._maximum and (not self._careful or self._successes >= self.target):
            self.target += 1
            if self._careful:
                self._successes = 0


async def next_of(waiting: MemoryObjectReceiveStream[T]) -> T:
    """Return the next item of a stream, without waiting while there is one: to wait costs several
    times as much.

    Raises ``EndOfStream`` after the last.
    """
    try:
        return waiting.receive_nowait()
    except anyio.WouldBlock:
        return await waiting.receive()


async def work_through(
    next_item: Callable[[], Awaitable[T]],
    work: Callable[[T], Awaitable[None]],
    width: AdaptiveLimit,
) -> None:
    """Call ``work`` for each item, ``width.target`` concurrently, until ``next_item`` raises
    ``anyio.EndOfStream``.
    """
    running = 0
    exhausted = False

    async def worker() -> None:
        nonlocal running, exhausted
        try:
            while running <= width.target and not exhausted:
                try:
                    item = await next_item()
                except anyio.EndOfStream:
                    exhausted = True
                    return
                # No step between two items needs to wait, so that a cancellation is seen here.
                await anyio.lowlevel.checkpoint_if_cancelled()
                await work(item)
                width.count_done()
                if running < width.target and not exhausted:
                    running += 1
                    workers.start_soon(worker)
        finally:
            running -= 1

    async with anyio.create_task_group() as workers:
        for _ in range(width.target):
            running += 1
            workers.start_soon(worker)
