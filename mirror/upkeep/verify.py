"""Hash the tree again and compare it with the state (``mirror verify``).

Blobs are read with all cores in constant memory, the longest unverified first; whole ones are
recorded as the run goes, so that an interrupted run is not lost. Only those times are written, no
lock is taken, and a cycle may run meanwhile: each difference is checked again before it is called
damage. ``upkeep.repair`` mends.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from functools import partial

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
from mirror.tree.check import (
    BlobCheck,
    DamageKind,
    check_blob,
    closed_modes,
    iter_outer,
    scan_blobs,
    sort_unknown,
)
from mirror.tree.layout import Layout
from mirror.upkeep.findings import SNAPSHOT, Finding, Scope, Verification
from mirror.upkeep.verify_pages import add_foreign, check_pages

_log = get_logger(__name__)

_NOTED_AT_ONCE = 500
_NOTED_EVERY_S = 10.0


async def verify(holdings: Holdings, scope: Scope, *, into: Verification) -> Verification:
    """Check the tree and add each finding to ``into``; nothing is mended."""
    store = holdings.store
    window = await open_window(store, now=holdings.clock(), before=scope.not_since)
    count, size = await count_blobs(store, window)
    limit = None if scope.is_whole else max(1, round(count * scope.share))
    into.blobs_total = count if limit is None else min(count, limit)
    into.bytes_total = size if limit is None or not count else size * into.blobs_total // count
    into.doing = "hashing files"
    checker = _BlobChecker(holdings, window.stamp, into)
    await checker.check(load_oldest_verified(store, window, limit=limit))
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
    into.doing = "looking for foreign files"
    await _check_modes(holdings.layout, into)
    await _check_files(holdings, into)
    into.doing = "comparing pages"
    await check_pages(holdings, into)
    await _check_snapshots(holdings, into)


class _BlobChecker:
    """Checks blobs side by side, as many as there are cores."""

    def __init__(self, holdings: Holdings, stamp: float, into: Verification) -> None:
        self._store, self._layout = holdings.store, holdings.layout
        self._limit_bytes = holdings.files.metadata_limit_bytes
        self._stamp, self._into = stamp, into
        self._whole: list[BlobRow] = []
        self._noted_s = time.monotonic()

    async def check(self, blobs: AsyncIterator[BlobRow]) -> None:
        """Check blobs, and record those that are whole now and then."""
        cores = len(os.sched_getaffinity(0))
        send, receive = anyio.create_memory_object_stream[BlobRow](cores)
        try:
            async with anyio.create_task_group() as tasks, send:
                for _ in range(cores):
                    tasks.start_soon(self._work, receive.clone())
                receive.close()
                async for blob in blobs:
                    if self._into.stopped:
                        break
                    await send.send(blob)
        except* (StateError, TreeError) as group:
            raise leaves_of(group)[0] from group
        finally:
            with anyio.CancelScope(shield=True):
                await self._note()

    async def _work(self, blobs: ObjectReceiveStream[BlobRow]) -> None:
        async with blobs:
            async for blob in blobs:
                await self._check_one(blob)
                is_time = time.monotonic() - self._noted_s > _NOTED_EVERY_S
                if len(self._whole) >= _NOTED_AT_ONCE or is_time:
                    await self._note()

    async def _check_one(self, blob: BlobRow) -> None:
        found = await self._look(blob)
        self._into.blobs_checked += 1
        self._into.bytes_checked += found.bytes_read
        current: BlobRow | None = blob
        if found.damage is not None:
            # A cycle or a prune may have run in between: the state's current row decides.
            current = await load_blob(self._store, blob.sha256, blob.filename)
            if current is None:
                return
            found = await self._look(current)
        if found.damage is None:
            self._whole.append(blob)
        elif await load_blob(self._store, blob.sha256, blob.filename) == current:
            path = self._layout.blob_path(blob.sha256, blob.filename)
            self._into.add(
                Finding(damage=found.damage, path=path, detail=found.detail, blob=current)
            )

    async def _look(self, blob: BlobRow) -> BlobCheck:
        # Only read, so it may be left alone when the run is interrupted.
        return await anyio.to_thread.run_sync(
            partial(check_blob, is_vouched=blob.is_vouched),
            self._layout,
            blob.sha256,
            blob.filename,
            blob.size,
            blob.metadata_sha256,
            self._limit_bytes,
            abandon_on_cancel=True,
        )

    async def _note(self) -> None:
        whole, self._whole, self._noted_s = self._whole, [], time.monotonic()
        try:
            if whole:
                await record_verified(self._store, whole, self._stamp)
        except (
            StateError
        ) as exc:  # a reader of a state that it may not write: the result is the same
            _log.debug("verify.not_recorded", problem=str(exc))


async def _check_modes(layout: Layout, into: Verification) -> None:
    """Find public files that a web server of another user can't read."""
    for path, detail in await anyio.to_thread.run_sync(closed_modes, layout):
        into.add(Finding(damage=DamageKind.MODE, path=path, detail=detail))


async def _check_files(holdings: Holdings, into: Verification) -> None:
    """Find foreign files among the blobs."""
    for outer, is_ours in await anyio.to_thread.run_sync(lambda: list(iter_outer(holdings.layout))):
        if not is_ours:
            await add_foreign(
                into, [str(holdings.layout.files / outer)], "nothing of ours lies here"
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
        path = holdings.layout.blob_path(Sha256(sha256), filename)
        if path not in known:
            detail = f"the snapshot {snapshot} lists it; restore it from a backup, or delete the snapshot"
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
