"""The recorder: one task, the only writer, that enters finished files in batches.

While one batch is written to the disk the next one is collected, so that many files share the cost
of a sync. A project's page is published once all of its files are entered.
"""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import anyio.to_thread

from mirror.holdings.holdings import Holdings
from mirror.logs import get_logger
from mirror.publishing.publisher import Publisher
from mirror.sync.recording.batch import place_batch, record_batch
from mirror.sync.recording.events import (
    BlobPlaced,
    Event,
    FileStaged,
    MetadataFetched,
    bytes_of,
    put_aside,
)
from mirror.sync.work import ProjectWork

_log = get_logger(__name__)

_WAITING = 512
"""Maximum number of queued events."""
_WAITING_BYTES = 32 * 1024 * 1024
"""Maximum number of bytes of finished files that wait in memory; later files wait in staging."""
_BATCH = 512
_MANY = 8
_GATHER_S = 0.05
"""After a large batch, wait this long before taking the next: a batch has a fixed cost (thread
switches, one sync).
"""


class Recorder:
    """The stage behind all crawls and downloads of a cycle."""

    def __init__(
        self, holdings: Holdings, publisher: Publisher, *, has_overlays: bool = False
    ) -> None:
        """``has_overlays``: whether an index adds files to the projects of another."""
        self._holdings, self._publisher = holdings, publisher
        self._has_overlays = has_overlays
        self._send, self._receive = anyio.create_memory_object_stream[Event](
            max_buffer_size=_WAITING
        )
        self._is_closed = False
        self._is_pressing = anyio.Event()
        """Set when there is no room, or no event follows: collecting for longer would only delay
        others.
        """
        self._waiting_bytes = 0
        self._entered = anyio.Event()
        """Something that waited in memory was entered."""
        self._has_ended = False
        # Bound once: a module's own logger is a proxy that reads the configuration for each event.
        self._log = _log.bind()

    async def put(self, event: Event) -> None:
        """Queue one event; waits while the queue is full.

        A cancellation waits too: an event is taken whole or not at all.
        """
        if (
            isinstance(event, FileStaged)
            and self._waiting_bytes + event.staged.in_memory > _WAITING_BYTES
        ):
            await anyio.to_thread.run_sync(event.staged.flush)
        if isinstance(event, FileStaged | MetadataFetched):
            # A worker process sends small metadata only.
            await self._wait_for_room(len(event.metadata or b""))
        self._waiting_bytes += bytes_of(event)
        try:
            try:
                self._send.send_nowait(
                    event
                )  # most of the time there is room: to wait costs several times as much
            except anyio.WouldBlock:
                self._is_pressing.set()
                with anyio.CancelScope(shield=True):
                    await self._send.send(event)
        except anyio.BrokenResourceError:
            # The recorder ended first; the error that ended it cancels this task soon, and is
            # reported by itself.
            await anyio.sleep_forever()

    async def _wait_for_room(self, metadata_bytes: int) -> None:
        """Wait until metadata fits into memory; unlike a file, it can't wait in staging."""
        most = max(0, _WAITING_BYTES - metadata_bytes)
        while metadata_bytes and self._waiting_bytes > most and not self._has_ended:
            self._is_pressing.set()
            await self._entered.wait()

    def close(self) -> None:
        """End the queue: no event follows."""
        self._send.close()
        self._is_closed = True
        self._is_pressing.set()

    def end(self) -> None:
        """Close the stream, also where ``run`` was cancelled before it began."""
        self._receive.close()
        self._has_ended = True
        self._entered.set()

    async def run(self) -> None:
        """Record batches until ``close`` was called and everything is recorded."""
        batch: list[Event] = []
        is_busy = False
        async with self._receive:
            try:
                while True:
                    try:
                        batch = [await self._receive.receive()]
                    except anyio.EndOfStream:
                        return
                    if is_busy and not self._is_closed:
                        with anyio.move_on_after(_GATHER_S):
                            await self._is_pressing.wait()
                    self._is_pressing = anyio.Event()
                    events, batch = self._gather(batch), []
                    is_busy = len(events) >= _MANY
                    await self._enter(events)
            except anyio.get_cancelled_exc_class():
                await self._enter_the_last(batch)
                raise
            finally:
                self._has_ended = True
                self._entered.set()
                await put_aside(self._gather([]))

    async def _enter_the_last(self, batch: Sequence[Event]) -> None:
        """Record the files that workers have placed when all is cancelled; the senders end too, and
        close the stream.
        """
        with anyio.CancelScope(shield=True):
            rest = [*batch, *[event async for event in self._receive]]
            await put_aside(rest)
            placed = [event for event in rest if not isinstance(event, FileStaged)]
            if any(isinstance(event, BlobPlaced) for event in placed):
                await self._enter_batch(placed)

    def _gather(self, batch: list[Event]) -> list[Event]:
        while len(batch) < _BATCH:
            try:
                batch.append(self._receive.receive_nowait())
            except (anyio.WouldBlock, anyio.EndOfStream):
                break
        return batch

    async def _enter(self, batch: Sequence[Event]) -> None:
        # Once begun, a batch is entered whole: bytes that are placed and not recorded would be
        # fetched again.
        with anyio.CancelScope(shield=True):
            works = await self._enter_batch(batch)
        finished = [work for work in works if work.progress.pending == 0]
        await self._close_finished(finished)
        for work in finished:
            work.release()

    async def _enter_batch(self, batch: Sequence[Event]) -> list[ProjectWork]:
        in_memory = sum(map(bytes_of, batch))
        placed = await place_batch(self._holdings, batch)
        self._waiting_bytes -= in_memory
        entered, self._entered = self._entered, anyio.Event()
        entered.set()
        return await record_batch(
            self._holdings, placed, self._log, has_overlays=self._has_overlays
        )

    async def _close_finished(self, works: Sequence[ProjectWork]) -> None:
        names = {w.row.name for w in works if w.progress.shows}
        pages_seen = [w.asked.page_seen for w in works if w.asked.page_seen is not None]
        if names or pages_seen:
            await self._publisher.publish(names, pages_seen)
