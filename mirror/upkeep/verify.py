"""Hash the tree again and compare it with the state (``mirror verify``).

Blobs are read with all cores in constant memory, the longest unverified first; whole ones are
recorded as the run goes, so that an interrupted run is not lost. Only those times are written, no
lock is taken, and a cycle may run meanwhile: each difference is checked again before it is called
damage. ``upkeep.repair`` mends.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from itertools import islice

import anyio
import anyio.to_thread
from anyio.abc import ObjectReceiveStream

from mirror.core.names import ProjectName, Sha256
from mirror.errors import StateError, TreeError, leaves_of
from mirror.holdings.holdings import Holdings
from mirror.logs import get_logger
from mirror.state.blobs.lost import LostFile
from mirror.state.blobs.verified import (
    BlobRow,
    count_blobs,
    load_blob,
    load_known_files,
    load_oldest_verified,
    open_window,
    record_verified,
)
from mirror.state.frozen.snapshots import load_lost_blobs
from mirror.tree.checking.blobs import BlobCheck, DamageKind, check_blob
from mirror.tree.checking.modes import closed_modes, iter_public
from mirror.tree.checking.unknown import iter_outer, scan_blobs, sort_unknown
from mirror.tree.layout import Layout
from mirror.tree.objects.keys import blob_key
from mirror.upkeep.findings import SNAPSHOT, Finding, Scope, Verification
from mirror.upkeep.stores.check import ObjectCheckers, check_object, check_store
from mirror.upkeep.verify_pages import add_foreign, check_pages
from mirror.workers.checking import BATCH_BYTES, BATCH_FILES, BlobQuestion, Checkers
from mirror.workers.fork_server import ForkServer

_log = get_logger(__name__)

_MANY_BLOBS = 200
_MANY_BYTES = 64 << 20
"""Blobs and bytes above which processes check them: to fork them takes as long as to check some
dozens.
"""
_NOTED_AT_ONCE = 500
_RECORD_EVERY_S = 10.0
_MODES_AT_ONCE = 2000


async def verify(
    holdings: Holdings,
    scope: Scope,
    *,
    into: Verification,
    fork_server: ForkServer | None = None,
) -> Verification:
    """Check the tree and add each finding to ``into``; nothing is mended.

    ``fork_server``: of processes that check the blobs, where there are many.
    """
    store = holdings.store
    window = await open_window(store, now=holdings.clock(), before=scope.not_since)
    count, size = await count_blobs(store, window)
    limit = None if scope.is_whole else max(1, round(count * scope.share))
    into.blobs_total = count if limit is None else min(count, limit)
    into.bytes_total = size if limit is None or not count else size * into.blobs_total // count
    into.doing = "hashing files"
    is_large = into.blobs_total > _MANY_BLOBS or into.bytes_total > _MANY_BYTES
    processes = fork_server if is_large else None
    checker = _BlobChecker(holdings, window.stamp, into, processes)
    blobs = load_oldest_verified(store, window, limit=limit)
    if scope.is_whole and processes is not None:
        # This process waits for the others meanwhile.
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_check_surroundings, holdings, into)
                await checker.check(blobs)
                into.doing = "comparing pages"
        except* (StateError, TreeError) as group:
            raise leaves_of(group)[0] from group
        await _check_snapshots(holdings, into)
        return into
    await checker.check(blobs)
    if scope.is_whole:
        await _check_all_but_blobs(holdings, into)
    return into


async def check_again(holdings: Holdings, scope: Scope, *, into: Verification) -> None:
    """Check the findings made without the lock again, now that it is held: only damage that still
    exists remains.

    Whole files are not hashed a second time, so that the lock is not held for as long as a tree
    takes to read.
    """
    suspects = [f.blob for f in into.findings if f.blob is not None]
    checked = (into.blobs_checked, into.bytes_checked, into.pages_checked)
    into.findings, into.lost_to_snapshots, into.leftovers = [], [], 0
    into.closed.clear()
    window = await open_window(holdings.store, now=holdings.clock(), before=scope.not_since)

    async def listed() -> AsyncIterator[BlobRow]:
        for blob in suspects:
            yield blob

    await _BlobChecker(holdings, window.stamp, into).check(listed())
    if scope.is_whole:
        await _check_all_but_blobs(holdings, into)
    into.blobs_checked, into.bytes_checked, into.pages_checked = checked


async def _check_all_but_blobs(holdings: Holdings, into: Verification) -> None:
    into.doing = "looking for foreign files and comparing pages"
    await _check_surroundings(holdings, into)
    await _check_snapshots(holdings, into)


async def _check_surroundings(holdings: Holdings, into: Verification) -> None:
    """Check all but the blobs: modes, foreign files, pages."""
    if holdings.client is not None:
        await check_store(holdings, holdings.client, into)
        return
    await _check_modes(holdings.layout, into)
    await _check_files(holdings, into)
    await check_pages(holdings, into)


class _BlobChecker:
    """Checks blobs in batches, and records those that are whole."""

    def __init__(
        self,
        holdings: Holdings,
        stamp: float,
        into: Verification,
        fork_server: ForkServer | None = None,
    ) -> None:
        self._store, self._holdings = holdings.store, holdings
        self._limit_bytes = holdings.files.metadata_limit_bytes
        self._stamp, self._into = stamp, into
        self._fork_server = fork_server
        self._whole: list[BlobRow] = []
        self._recorded_s = time.monotonic()

    async def check(self, blobs: AsyncIterator[BlobRow]) -> None:
        """Check blobs, and record those that are whole now and then."""
        holdings, client = self._holdings, self._holdings.client
        checkers: Checkers | ObjectCheckers = (
            Checkers(holdings.layout, self._limit_bytes, self._count_bytes)
            if client is None
            else ObjectCheckers(client, self._count_bytes)
        )
        try:
            if self._fork_server is not None and isinstance(checkers, Checkers):
                await checkers.start(self._fork_server)
            send, receive = anyio.create_memory_object_stream[list[BlobRow]](0)
            async with anyio.create_task_group() as tasks, send:
                for _ in range(checkers.width):
                    tasks.start_soon(self._work, checkers, receive.clone())
                receive.close()
                async for batch in _batches(blobs):
                    if self._into.stopped:
                        break
                    await send.send(batch)
        except* (StateError, TreeError) as group:
            raise leaves_of(group)[0] from group
        finally:
            checkers.close()
            with anyio.CancelScope(shield=True):
                await self._record_checked()

    async def _work(
        self, checkers: Checkers | ObjectCheckers, batches: ObjectReceiveStream[list[BlobRow]]
    ) -> None:
        async with batches:
            async for batch in batches:
                await self._check_batch(checkers, batch)
                is_time = time.monotonic() - self._recorded_s > _RECORD_EVERY_S
                if len(self._whole) >= _NOTED_AT_ONCE or is_time:
                    await self._record_checked()

    async def _check_batch(self, checkers: Checkers | ObjectCheckers, batch: list[BlobRow]) -> None:
        found = await checkers.check([_question(blob) for blob in batch])
        for blob, check in zip(batch, found, strict=True):
            self._into.blobs_checked += 1
            if check.damage is None:
                self._whole.append(blob)
            else:
                await self._check_again(blob)

    async def _check_again(self, blob: BlobRow) -> None:
        """Check a blob that seems damaged by the state's current row: a cycle or a prune may have
        run in between.
        """
        current = await load_blob(self._store, blob.sha256, blob.filename)
        if current is None:
            return
        found = await anyio.to_thread.run_sync(self._check_blob, current, abandon_on_cancel=True)
        if found.damage is None:
            self._whole.append(blob)
        elif await load_blob(self._store, blob.sha256, blob.filename) == current:
            path = blob_place(self._holdings, blob.sha256, blob.filename)
            self._into.add(
                Finding(damage=found.damage, path=path, detail=found.detail, blob=current)
            )

    def _check_blob(self, blob: BlobRow) -> BlobCheck:
        if self._holdings.client is not None:
            return check_object(self._holdings.client, blob)
        return check_blob(
            self._holdings.layout,
            blob.sha256,
            blob.filename,
            blob.size,
            blob.metadata_sha256,
            self._limit_bytes,
            is_vouched=blob.is_vouched,
        )

    def _count_bytes(self, count: int) -> None:
        self._into.bytes_checked += count

    async def _record_checked(self) -> None:
        whole, self._whole, self._recorded_s = self._whole, [], time.monotonic()
        try:
            if whole:
                await record_verified(self._store, whole, self._stamp)
        except (
            StateError
        ) as exc:  # a reader of a state that it may not write: the result is the same
            _log.debug("verify.not_recorded", problem=str(exc))


async def _batches(blobs: AsyncIterator[BlobRow]) -> AsyncIterator[list[BlobRow]]:
    """Yield blobs in batches of one hand-over; a large one alone."""
    batch: list[BlobRow] = []
    size = 0
    async for blob in blobs:
        if batch and (len(batch) == BATCH_FILES or size + blob.size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(blob)
        size += blob.size
    if batch:
        yield batch


def _question(blob: BlobRow) -> BlobQuestion:
    return BlobQuestion(
        sha256=blob.sha256,
        filename=blob.filename,
        size=blob.size,
        metadata_sha256=blob.metadata_sha256,
        is_vouched=blob.is_vouched,
    )


def blob_place(holdings: Holdings, sha256: Sha256, filename: str) -> str:
    """Return the path of a blob, or its address in an object store."""
    if holdings.client is None:
        return holdings.layout.blob_path(sha256, filename)
    return holdings.client.address.shown(blob_key(sha256, filename))


async def _check_modes(layout: Layout, into: Verification) -> None:
    """Find public files that a web server of another user can't read; some at a time, so that a
    stop is heeded soon.
    """
    paths = iter_public(layout)

    def check_some() -> tuple[int, list[tuple[str, str]]]:
        some = list(islice(paths, _MODES_AT_ONCE))
        return len(some), closed_modes(some)

    found: list[tuple[str, str]] = []
    count = 1
    while count:
        count, closed = await anyio.to_thread.run_sync(check_some)
        found += closed
    # A process that works meanwhile makes a directory first and gives it its mode then.
    again = [path for path, _ in found]
    for path, detail in sorted(await anyio.to_thread.run_sync(closed_modes, again)):
        into.add(Finding(damage=DamageKind.MODE, path=path, detail=detail))


async def _check_files(holdings: Holdings, into: Verification) -> None:
    """Find foreign files among the blobs."""
    for outer, is_ours in await anyio.to_thread.run_sync(lambda: list(iter_outer(holdings.layout))):
        if not is_ours:
            await add_foreign(
                into, [str(holdings.layout.files / outer)], "nothing of the mirror is here"
            )
            continue
        # First the disk, then the state: a file that a cycle adds in between then has its row.
        found = await anyio.to_thread.run_sync(scan_blobs, holdings.layout, outer)
        foreign, leftovers = sort_unknown(found, await load_known_files(holdings.store, outer))
        into.leftovers += len(leftovers)
        await add_foreign(into, foreign, "no blob belongs here")


async def _check_snapshots(holdings: Holdings, into: Verification) -> None:
    """Add findings for files of snapshots that an earlier repair found lost.

    A cycle fetches such a file only where an index lists it.
    """
    known = {finding.path for finding in into.findings}
    for snapshot, project, sha256, filename in await load_lost_blobs(holdings.store):
        path = blob_place(holdings, Sha256(sha256), filename)
        if path not in known:
            detail = (
                f"the snapshot {snapshot} lists it; restore it from a backup,"
                " or delete the snapshot"
            )
            into.add(Finding(damage=DamageKind.MISSING, path=path, detail=detail))
            into.lost_to_snapshots.append(
                LostFile(
                    source=0,
                    index=f"{SNAPSHOT}{snapshot}",
                    is_configured=False,
                    project=ProjectName(project),
                    filename=filename,
                    sha256=Sha256(sha256),
                )
            )
