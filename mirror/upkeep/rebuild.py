"""Rebuild a lost state from the tree (``mirror verify --repair`` without a usable ``state.db``).

The pages list the published files with their labels, the blobs are hashed again, the metadata of
wheels is extracted from them again. Pages carry no upstream URLs, so the entries belong to no index
at first: the next cycle claims them by project, name and sha256 without downloading intact files.
Unclaimed files are removed after two cycles and within the brake (``sync.removals``). The retention
of unlisted files starts over. A rebuild that was interrupted is noticed, and starts over.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar

import anyio
import anyio.to_thread
from anyio.abc import ObjectReceiveStream

from mirror.core.files.distributions import belongs_to, is_foreign, is_wheel
from mirror.core.model import ListedFile, ProjectPage
from mirror.core.names import ProjectName, Sha256, check_filename, check_sha256
from mirror.errors import StateError, TreeError, UnsafeName, leaves_of
from mirror.holdings.holdings import Holdings
from mirror.logs import get_logger
from mirror.publishing.own_pages import is_of_this_renderer, read_page
from mirror.publishing.publisher import Publisher
from mirror.state.blobs.lost import LostFile
from mirror.state.blobs.verified import load_known_files
from mirror.state.entries.changes import Placed, ProjectRecord, record_changes
from mirror.state.entries.rebuilt import (
    enter_unclaimed_projects,
    record_rebuilt_end,
    record_rebuilt_start,
    record_unlisted_blobs,
)
from mirror.state.listing.sources import UNCLAIMED
from mirror.state.renewal import record_dropped
from mirror.tree.checking.aside import move_aside
from mirror.tree.checking.blobs import DamageKind, check_blob, sidecar_digest, wheel_metadata
from mirror.tree.checking.page_places import iter_projects
from mirror.tree.checking.single_files import size_of
from mirror.tree.checking.unknown import iter_outer, scan_blobs
from mirror.tree.layout import METADATA_ENDING
from mirror.tree.snapshots import list_snapshots, snapshot_path
from mirror.upkeep.findings import Finding, Verification
from mirror.upkeep.frozen.found import record_found_snapshot
from mirror.upkeep.repair import write_sidecar

_log = get_logger(__name__)

_PAGES_AT_ONCE = 100

T = TypeVar("T")


async def rebuild(holdings: Holdings, *, into: Verification) -> None:
    """Fill an empty state from the tree; damaged files are reported, moved aside and left out."""
    into.doing, into.rebuilt = "rebuilding the state", True
    now = holdings.clock()
    serial = await anyio.to_thread.run_sync(holdings.pages.root_serial)
    # Without the root the last revision is unknown: the time in seconds is beyond any.
    source = await record_rebuilt_start(
        holdings.store, revision=int(now) if serial is None else serial, now=now
    )
    worker = _Rebuilder(holdings, source, now, into)
    names = await anyio.to_thread.run_sync(lambda: list(iter_projects(holdings.layout)))
    for start in range(0, len(names), _PAGES_AT_ONCE):
        await worker.enter_projects(names[start : start + _PAGES_AT_ONCE])
    await worker.enter_unlisted()
    await worker.enter_dropped()
    for snapshot in await anyio.to_thread.run_sync(list_snapshots, holdings.layout):
        await _enter_snapshot(holdings, source, snapshot)
    await record_rebuilt_end(holdings.store)
    publisher = Publisher(holdings)
    await publisher.publish_marked()
    await publisher.finish()
    # Only now: until then the old pages listed it.
    await anyio.to_thread.run_sync(worker.move_damaged)
    _log.warning(
        "state.rebuilt",
        path=str(holdings.store.path),
        files=into.blobs_checked,
        damaged=len(into.findings),
    )


async def _enter_snapshot(holdings: Holdings, source: int, name: str) -> None:
    """Record a snapshot found on the disk: no file of its pages may be pruned."""
    simple = snapshot_path(holdings.layout, name) / "simple"
    projects = await anyio.to_thread.run_sync(
        lambda: sorted(ProjectName(item.name) for item in simple.iterdir() if item.is_dir())
    )

    def read(names: Sequence[ProjectName]) -> list[ProjectPage]:
        pages = (read_page(simple, one) for one in names)
        return [page for page in pages if page is not None]

    await record_found_snapshot(holdings, source, name, projects, read)


class _Rebuilder:
    """Records projects and blobs, hashing as many files concurrently as there are cores."""

    def __init__(self, holdings: Holdings, source: int, now: float, into: Verification) -> None:
        self._holdings, self._store, self._layout = holdings, holdings.store, holdings.layout
        self._limit_bytes = holdings.files.metadata_limit_bytes
        self._source, self._now, self._into = source, now, into
        self._damaged: set[str] = set()
        self._dropped: list[tuple[Sha256, str]] = []

    async def enter_projects(self, directories: Sequence[str]) -> None:
        """Record the files that some projects' pages list and the disk still holds."""
        found = [
            p
            for p in await anyio.to_thread.run_sync(self._read_pages, directories)
            if p is not None
        ]
        pages = [page for page, _ in found]
        current = {page.name for page, is_current in found if is_current}
        self._into.pages_checked += len(pages)
        placed: dict[ProjectName, list[Placed]] = {page.name: [] for page in pages}

        async def enter(item: tuple[ProjectPage, ListedFile]) -> None:
            page, file = item
            check = partial(self._check_listed, page.name, file, is_current=page.name in current)
            whole = await anyio.to_thread.run_sync(check)
            if whole is not None:
                placed[page.name].append(whole)

        listed = (
            (page, file)
            for page in pages
            for file in page.files
            if not is_foreign(file.filename, page.name)
        )
        await _side_by_side(listed, enter)
        empty = {page.name for page in pages if not page.files}
        names = [page.name for page in pages]
        projects = await enter_unclaimed_projects(self._store, self._source, names, empty)
        records = [
            ProjectRecord(
                project=projects[page.name],
                source=self._source,
                name=page.name,
                placed=tuple(sorted(placed[page.name], key=lambda p: p.file.filename)),
                meta=page.meta,
            )
            for page in pages
        ]
        await record_changes(self._store, records, cycle=0, now=self._now, has_overlays=False)

    async def enter_unlisted(self) -> None:
        """Record the whole blobs that no page lists; their retention begins now."""

        async def enter(outer: str) -> None:
            known = await load_known_files(self._store, outer)
            found = await anyio.to_thread.run_sync(self._find_unlisted, outer, set(known))
            await record_unlisted_blobs(self._store, found, now=self._now)

        outers = await anyio.to_thread.run_sync(
            lambda: [o for o, is_ours in iter_outer(self._layout) if is_ours]
        )
        await _side_by_side(outers, enter)

    def move_damaged(self) -> None:
        """Move the damaged blobs aside."""
        for path in sorted(self._damaged):
            move_aside(self._layout, path)

    async def enter_dropped(self) -> None:
        """Record the metadata that no page may offer: it leaves the disk once the pages are
        written.
        """
        await record_dropped(self._store, self._dropped)

    def _read_pages(self, directories: Sequence[str]) -> list[tuple[ProjectPage, bool] | None]:
        pages: list[tuple[ProjectPage, bool] | None] = []
        for directory in directories:
            page = read_page(self._layout.simple, directory)
            if page is None:
                path = str(self._layout.simple / directory)
                self._into.add(
                    Finding(
                        damage=DamageKind.PAGE, path=path, detail="no page of ours can be read here"
                    )
                )
                move_aside(self._layout, path)
                pages.append(None)
            else:
                pages.append((page, is_of_this_renderer(self._layout.simple, directory)))
        return pages

    def _check_listed(
        self, project: ProjectName, file: ListedFile, *, is_current: bool
    ) -> Placed | None:
        try:
            sha256 = check_sha256(dict(file.digests)["sha256"])
        except (KeyError, ValueError):
            return None
        size = self._check_bytes(sha256, file.filename, file.size)
        if size is None:
            self._into.lost.append(
                LostFile(
                    source=self._source,
                    index=UNCLAIMED,
                    is_configured=False,
                    project=project,
                    filename=file.filename,
                    sha256=sha256,
                )
            )
            return None
        metadata = self._mend_metadata(
            sha256, file.filename, dict(file.metadata or ()).get("sha256")
        )
        may_offer = is_wheel(file.filename) or (is_current and belongs_to(file.filename, project))
        if metadata is not None and not may_offer:
            self._dropped.append((sha256, file.filename))
            metadata = None
        own = ListedFile(
            filename=file.filename,
            url="",
            digests=(("sha256", sha256),),
            size=size,
            labels=file.labels,
        )
        return Placed(file=own, sha256=sha256, size=size, metadata_sha256=metadata)

    def _check_bytes(self, sha256: Sha256, filename: str, size: int | None) -> int | None:
        """Return the size of a whole blob; None for a damaged one, which is moved aside."""
        path = self._layout.blob_path(sha256, filename)
        if size is None:
            size = size_of(path)
        check = check_blob(self._layout, sha256, filename, size, None, self._limit_bytes)
        self._into.blobs_checked += 1
        self._into.bytes_checked += check.bytes_read
        if check.damage is None:
            return size
        self._into.add(Finding(damage=check.damage, path=path, detail=check.detail))
        if check.damage is not DamageKind.MISSING:
            self._damaged.add(path)
        return None

    def _mend_metadata(
        self, sha256: Sha256, filename: str, advertised: str | None
    ) -> Sha256 | None:
        """Return the sha256 of a trusted sidecar: the wheel's own, or the one that the page
        advertised.
        """
        on_disk = sidecar_digest(self._layout, sha256, filename, self._limit_bytes)
        if not is_wheel(filename):
            digest = on_disk if on_disk == advertised else None
        else:
            data = wheel_metadata(self._layout, sha256, filename, self._limit_bytes)
            digest = None if data is None else Sha256(hashlib.sha256(data).hexdigest())
            if data is not None and digest != on_disk:
                write_sidecar(self._holdings, sha256, filename, data)
        if advertised and on_disk != advertised:
            path = self._layout.blob_path(sha256, filename)
            detail = "its sidecar is missing or not what its page advertised"
            self._into.add(Finding(damage=DamageKind.SIDECAR, path=path, detail=detail))
            if digest is None:
                self._into.without_metadata.append(path)
        return digest

    def _find_unlisted(
        self, outer: str, known: set[tuple[str, str]]
    ) -> list[tuple[str, str, int, str | None]]:
        found: list[tuple[str, str, int, str | None]] = []
        for item in scan_blobs(self._layout, outer):
            is_sidecar = item.name.endswith(METADATA_ENDING)
            if (
                not item.sha256
                or item.is_directory
                or is_sidecar
                or (item.sha256, item.name) in known
            ):
                continue
            if item.path in self._damaged:
                continue
            try:
                filename = check_filename(item.name)
            except UnsafeName:
                continue
            sha256 = check_sha256(item.sha256)
            size = self._check_bytes(sha256, filename, None)
            if size is not None:
                metadata = self._mend_metadata(sha256, filename, None)
                # Only listed files are known to be durable: this may be a rest of a failed sync.
                self._holdings.files.rewrite_blob(sha256, filename)
                found.append((sha256, filename, size, metadata))
        return found


async def _side_by_side(items: Iterable[T], act: Callable[[T], Awaitable[None]]) -> None:
    """Call ``act`` for each item, as many concurrently as there are cores."""
    send, receive = anyio.create_memory_object_stream[T]()

    async def work(mine: ObjectReceiveStream[T]) -> None:
        async with mine:
            async for item in mine:
                await act(item)

    try:
        async with anyio.create_task_group() as tasks, send:
            for _ in range(len(os.sched_getaffinity(0))):
                tasks.start_soon(work, receive.clone())
            receive.close()
            for item in items:
                await send.send(item)
    except* (StateError, TreeError) as group:
        raise leaves_of(group)[0] from group
