"""Hash the tree again, compare it with the state, and mend it (``mirror verify``).

Blobs are read with all cores in constant memory, the longest unverified first; whole ones are
recorded as the run goes, so that an interrupted run is not lost. Without ``repair`` only those
times are written, no lock is taken, and a cycle may run meanwhile: each difference is checked again
before it is called damage.

``repair`` keeps the order of writes (``docs/explanation/order-of-writes.md``): rows close and pages
are marked, pages are written, and only then unlisted files are moved aside. After a kill, the next
run or cycle continues.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
from anyio.abc import ObjectReceiveStream

from mirror.core.names import ProjectName, Sha256, normalize_project
from mirror.core.render_pages import RENDERER, iter_root_html, iter_root_json, render_project
from mirror.errors import StateError, TreeError, UnsafeName, shown_text
from mirror.logs import get_logger
from mirror.state.blobs.durability import record_unsure
from mirror.state.blobs.lost import LostFile, record_lost, record_pages_damaged, record_sidecars
from mirror.state.blobs.verified import (
    BlobRow,
    count_blobs,
    load_blob,
    load_known_files,
    load_oldest_verified,
    open_window,
    record_verified,
)
from mirror.state.entries.pages import PageState, load_marked, load_pages, load_published
from mirror.state.frozen.snapshots import load_lost_blobs
from mirror.state.meta import load_meta
from mirror.state.notes import forget_damage
from mirror.state.store import Store
from mirror.sync.publish import Publisher
from mirror.sync.work import Cycle
from mirror.tree.check import (
    BlobCheck,
    Damage,
    check_blob,
    clear_page_place,
    closed_modes,
    exists,
    foreign_in_project,
    has_bytes,
    is_blocked,
    is_directory,
    iter_outer,
    iter_projects,
    move_aside,
    open_modes,
    scan_blobs,
    sort_unknown,
    sync_path,
    wheel_metadata,
)
from mirror.tree.layout import Layout
from mirror.tree.pages import HTML, HTML_V1, JSON_V1, PageStore

_log = get_logger(__name__)

_PAGES_AT_ONCE = 200
_NOTED_AT_ONCE = 500
_NOTED_EVERY_S = 10.0
_LOOKS = 5
"""Maximum number of times that a differing page is read, while the state changes under it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something on disk that is not as it should be."""

    damage: Damage
    path: str
    detail: str
    blob: BlobRow | None = None
    project: ProjectName | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the object of the report."""
        return {"damage": self.damage.value, "path": shown_path(self.path), "detail": shown_text(self.detail)}


@dataclass(slots=True, kw_only=True)
class Verification:
    """The progress and findings of a run; live while it runs."""

    doing: str = "reading the state"
    blobs_total: int = 0
    bytes_total: int = 0
    blobs_checked: int = 0
    bytes_checked: int = 0
    pages_checked: int = 0
    stopped: bool = False
    """Set to end the run soon: the file being hashed is finished, no new one is begun."""
    rebuilt: bool = False
    """The state was lost and has been rebuilt from the tree."""
    leftovers: int = 0
    """Whole files that no row knows, as a kill may leave them: no damage, ``prune`` takes them away."""
    findings: list[Finding] = field(default_factory=list)
    lost: list[LostFile] = field(default_factory=list)
    """Files removed from the pages and still missing."""
    lost_to_snapshots: list[LostFile] = field(default_factory=list)
    """Files that snapshots list and that are known to be lost."""
    closed: set[str] = field(default_factory=set)
    """The paths whose mode keeps them from being read."""
    without_metadata: list[str] = field(default_factory=list)
    """Files whose damaged metadata could not be made again: their pages no longer advertise any."""

    @property
    def repaired(self) -> int:
        """How many findings are mended, once ``repair`` is done."""
        return len(self.findings) - len({(file.sha256, file.filename) for file in self.lost})

    def as_json(self) -> dict[str, Any]:
        """Return the report object."""
        return {
            "format": 1,
            "blobs_checked": self.blobs_checked,
            "bytes_checked": self.bytes_checked,
            "pages_checked": self.pages_checked,
            "rebuilt": self.rebuilt,
            "leftovers": self.leftovers,
            "damage": [f.as_json() for f in self.findings],
        }

    def tell(self, finding: Finding) -> None:
        """Add a finding and log it; an unreadable mode is found in two ways, and reported once."""
        if finding.damage is Damage.MODE:
            if finding.path in self.closed:
                return
            self.closed.add(finding.path)
        self.findings.append(finding)
        _log.error(
            "tree.damaged",
            damage=finding.damage.value,
            path=shown_path(finding.path),
            detail=shown_text(finding.detail),
        )


def first_error(group: BaseExceptionGroup[Exception]) -> Exception:
    """Return one of the errors of several workers: they all met the same trouble."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, Exception)
    return error


def shown_path(path: str) -> str:
    """Return a path fit for a line of text: a foreign one may hold any bytes."""
    return shown_text(path, limit=4096)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The share of the tree to check."""

    share: float = 1.0
    """Of the blobs, by number, the longest unverified first; below 1 only blobs are checked."""
    not_since: float | None = None
    """Only blobs that were not found whole since this time."""

    @property
    def is_whole(self) -> bool:
        """Whether pages and foreign files are checked too."""
        return self.share >= 1.0

    @property
    def is_all(self) -> bool:
        """Whether everything is checked, so that nothing else is damaged."""
        return self.is_whole and self.not_since is None


async def verify(
    store: Store,
    layout: Layout,
    scope: Scope,
    *,
    now: Callable[[], float],
    metadata_limit_bytes: int,
    into: Verification,
) -> Verification:
    """Check the tree and add each finding to ``into``; nothing is mended."""
    window = await open_window(store, now=now(), before=scope.not_since)
    count, size = await count_blobs(store, window)
    limit = None if scope.is_whole else max(1, round(count * scope.share))
    into.blobs_total = count if limit is None else min(count, limit)
    into.bytes_total = size if limit is None or not count else size * into.blobs_total // count
    into.doing = "hashing files"
    checker = _BlobChecker(store, layout, metadata_limit_bytes, window.stamp, into)
    await checker.check(load_oldest_verified(store, window, limit=limit))
    if scope.is_whole:
        into.doing = "looking for foreign files"
        await _check_modes(layout, into)
        await _check_files(store, layout, into)
        into.doing = "comparing pages"
        await _check_pages(store, layout, into)
        await _check_snapshots(store, layout, into)
    return into


async def look_again(
    store: Store,
    layout: Layout,
    scope: Scope,
    *,
    now: Callable[[], float],
    metadata_limit_bytes: int,
    into: Verification,
) -> None:
    """Check the findings made without the lock again, now that it is held: only damage that still
    exists remains.

    Whole files are not hashed a second time, so that the lock is not held for as long as a tree
    takes to read.
    """
    suspects = [f.blob for f in into.findings if f.blob is not None]
    checked = (into.blobs_checked, into.bytes_checked, into.pages_checked)
    into.findings, into.lost_to_snapshots, into.leftovers = [], [], 0
    into.closed.clear()
    window = await open_window(store, now=now(), before=scope.not_since)

    async def listed() -> AsyncIterator[BlobRow]:
        for blob in suspects:
            yield blob

    await _BlobChecker(store, layout, metadata_limit_bytes, window.stamp, into).check(listed())
    if scope.is_whole:
        await _check_modes(layout, into)
        await _check_files(store, layout, into)
        await _check_pages(store, layout, into)
        await _check_snapshots(store, layout, into)
    into.blobs_checked, into.bytes_checked, into.pages_checked = checked


class _BlobChecker:
    """Checks blobs side by side, as many as there are cores."""

    def __init__(self, store: Store, layout: Layout, limit_bytes: int, stamp: float, into: Verification) -> None:
        self._store, self._layout, self._limit_bytes = store, layout, limit_bytes
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
            raise first_error(group) from group
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
            self._into.tell(Finding(damage=found.damage, path=path, detail=found.detail, blob=current))

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
        except StateError as exc:  # a reader of a state that it may not write: the result is the same
            _log.debug("verify.not_recorded", problem=str(exc))


async def _check_modes(layout: Layout, into: Verification) -> None:
    """Find public files that a web server of another user can't read."""
    for path, detail in await anyio.to_thread.run_sync(closed_modes, layout):
        into.tell(Finding(damage=Damage.MODE, path=path, detail=detail))


async def _check_files(store: Store, layout: Layout, into: Verification) -> None:
    """Find foreign files among the blobs."""
    for outer, is_ours in await anyio.to_thread.run_sync(lambda: list(iter_outer(layout))):
        if not is_ours:
            await _tell_foreign(into, [str(layout.files / outer)], "nothing of ours lies here")
            continue
        # First the disk, then the state: a file that a cycle adds in between then has its row.
        found = await anyio.to_thread.run_sync(scan_blobs, layout, outer)
        foreign, leftovers = sort_unknown(found, await load_known_files(store, outer))
        into.leftovers += len(leftovers)
        await _tell_foreign(into, foreign, "no blob belongs here")


async def _tell_foreign(into: Verification, paths: Sequence[str], detail: str) -> None:
    for path in paths:
        # A command that starts meanwhile writes and removes an empty file to test for write access.
        if await anyio.to_thread.run_sync(exists, path):
            into.tell(Finding(damage=Damage.FOREIGN, path=path, detail=detail))


async def _check_snapshots(store: Store, layout: Layout, into: Verification) -> None:
    """Add findings for files of snapshots that an earlier repair found lost.

    A cycle fetches such a file only where an index lists it.
    """
    known = {finding.path for finding in into.findings}
    for snapshot, project, sha256, filename in await load_lost_blobs(store):
        path = layout.blob_path(Sha256(sha256), filename)
        if path not in known:
            detail = f"the snapshot {snapshot} lists it; restore it from a backup, or delete the snapshot"
            into.tell(Finding(damage=Damage.MISSING, path=path, detail=detail))
            into.lost_to_snapshots.append(
                LostFile(
                    source=0,
                    index=f"snapshot {snapshot}",
                    is_configured=False,
                    project=ProjectName(project),
                    filename=filename,
                    sha256=Sha256(sha256),
                )
            )


async def _check_pages(store: Store, layout: Layout, into: Verification) -> None:
    """Compare every page on disk with the state."""
    published = dict(await load_published(store))
    names = sorted(published)
    for start in range(0, len(names), _PAGES_AT_ONCE):
        chunk = names[start : start + _PAGES_AT_ONCE]
        # What stands in the way counts also where pages are still to be written: they can't be.
        blocked = await anyio.to_thread.run_sync(_blocked_in, layout, chunk)
        for name in sorted({*blocked, *await _wrong_pages(store, layout, chunk)}):
            if name in blocked or await _is_page_wrong(store, layout, name):
                path = layout.project_dir(name)
                detail = "a page of it is missing or is not what the state says"
                into.tell(Finding(damage=Damage.PAGE, path=path, detail=detail, project=name))
        await _tell_foreign(
            into, await anyio.to_thread.run_sync(_foreign_in, layout, chunk), "no page of the project has this name"
        )
        into.pages_checked += len(chunk)
    if await _is_root_wrong(store, layout):
        detail = "the root page is missing or is not what the state says"
        into.tell(Finding(damage=Damage.PAGE, path=str(layout.simple), detail=detail))
    for found in await anyio.to_thread.run_sync(lambda: list(iter_projects(layout))):
        if found not in published and not (_is_name(found) and await load_pages(store, [ProjectName(found)])):
            await _tell_foreign(into, [str(layout.simple / found)], "no project of the state has a page here")


def _is_name(text: str) -> bool:
    try:
        return normalize_project(text) == text
    except UnsafeName:
        return False


def _blocked_in(layout: Layout, names: Sequence[ProjectName]) -> set[ProjectName]:
    return {name for name in names if is_blocked(layout, name)}


def _foreign_in(layout: Layout, names: Sequence[ProjectName]) -> list[str]:
    return [path for name in names for path in foreign_in_project(layout, name)]


async def _wrong_pages(store: Store, layout: Layout, names: Collection[ProjectName]) -> list[ProjectName]:
    pages = await _settled_pages(store, names)
    return await anyio.to_thread.run_sync(_compare_pages, layout, pages)


async def _is_page_wrong(store: Store, layout: Layout, name: ProjectName) -> bool:
    """Check again, until the state was the same before and after the check."""
    for _ in range(_LOOKS):
        before = await _settled_pages(store, [name])
        is_wrong = bool(await anyio.to_thread.run_sync(_compare_pages, layout, before))
        if not is_wrong or await _settled_pages(store, [name]) == before:
            return is_wrong
    return False  # it changes faster than it can be read: a cycle is writing it


async def _settled_pages(store: Store, names: Collection[ProjectName]) -> list[PageState]:
    """Return the pages that the state takes for written; none before the next cycle where another renderer wrote them."""
    if await load_meta(store, "renderer") != str(RENDERER):
        return []
    return [p for p in await load_pages(store, names) if p.is_published and not p.is_marked]


def _compare_pages(layout: Layout, pages: Sequence[PageState]) -> list[ProjectName]:
    wrong = []
    for page in pages:
        rendered = render_project(page.view)
        directory = layout.project_dir(page.view.name)
        expected = ((HTML, rendered.html), (HTML_V1, rendered.html), (JSON_V1, rendered.json))
        if not is_directory(directory) or not all(has_bytes(f"{directory}/{name}", [data]) for name, data in expected):
            wrong.append(page.view.name)
    return wrong


async def _is_root_wrong(store: Store, layout: Layout) -> bool:
    for _ in range(_LOOKS):
        before = await _settled_root(store)
        if before is None or not await anyio.to_thread.run_sync(_is_other_root, layout, *before):
            return False
        if await _settled_root(store) == before:
            return True
    return False


async def _settled_root(store: Store) -> tuple[list[tuple[ProjectName, int]], int] | None:
    """Return the root page's projects and its serial; None while one is to be written."""
    written = int(await load_meta(store, "root_revision") or 0)
    projects = await load_published(store)
    is_due = not written or await load_marked(store, "", 1) or any(serial > written for _, serial in projects)
    return None if is_due else (projects, written)


def _is_other_root(layout: Layout, projects: Sequence[tuple[ProjectName, int]], written: int) -> bool:
    root = str(layout.simple)
    if (PageStore(layout).root_serial() or 0) > written:
        return False  # just written, and about to be entered
    return not (
        has_bytes(f"{root}/{HTML}", iter_root_html(projects, written))
        and has_bytes(f"{root}/{HTML_V1}", iter_root_html(projects, written))
        and has_bytes(f"{root}/{JSON_V1}", iter_root_json(projects, written))
    )


async def repair(cycle: Cycle, layout: Layout, found: Verification) -> None:
    """Mend the findings: lost files leave the pages, sidecars and pages are made again, damage is
    moved aside.

    The next cycle fetches the files that ``found.lost`` lists afterwards.
    """
    found.doing = "mending"
    now = cycle.clock()
    await anyio.to_thread.run_sync(open_modes, [f.path for f in found.findings if f.damage is Damage.MODE])
    damaged = [f for f in found.findings if f.damage in {Damage.MISSING, Damage.SIZE, Damage.BYTES}]
    blobs = [f.blob for f in damaged if f.blob is not None]
    if blobs:
        found.lost = await record_lost(cycle.store, blobs, cycle=cycle.id, now=now)
    bad = [f.blob for f in found.findings if f.damage is Damage.BAD_FILE and f.blob is not None]
    if bad:  # their bytes stay like those of any removed file: a snapshot may list them
        found.lost += await record_lost(cycle.store, bad, cycle=cycle.id, now=now, keep_blobs=True)
    found.lost += found.lost_to_snapshots
    unfit = await _mend_sidecars(cycle, layout, found)
    pages = {f.project for f in found.findings if f.damage is Damage.PAGE}
    await anyio.to_thread.run_sync(_clear_page_places, layout, pages)
    names = {name for name in pages if name is not None}
    if names:
        await record_pages_damaged(cycle.store, names, cycle=cycle.id, now=now)
    publisher = Publisher(cycle)
    await publisher.publish_marked()
    if None in pages:
        await publisher.write_root()
    aside = [f.path for f in damaged if f.damage is not Damage.MISSING]
    foreign = [f.path for f in found.findings if f.damage is Damage.FOREIGN]
    await anyio.to_thread.run_sync(_move_aside, layout, [*aside, *unfit, *foreign])
    still_lost = {layout.blob_path(file.sha256, file.filename) for file in found.lost_to_snapshots}
    mended = [f for f in found.findings if f.path not in still_lost]
    await forget_damage(cycle.store, [shown_path(f.path) for f in mended])


async def _mend_sidecars(cycle: Cycle, layout: Layout, found: Verification) -> list[str]:
    """Extract the metadata of wheels again; return the sidecars of wheels without any."""
    blobs = [f.blob for f in found.findings if f.damage is Damage.SIDECAR and f.blob is not None]
    if not blobs:
        return []
    await record_unsure(cycle.store, [(blob.sha256, blob.filename) for blob in blobs])
    mended = await anyio.to_thread.run_sync(_write_sidecars, cycle, layout, blobs)
    await record_sidecars(cycle.store, mended, cycle=cycle.id, now=cycle.clock())
    unfit = []
    for blob, digest in mended:
        if digest is None:
            unfit.append(layout.sidecar_path(blob.sha256, blob.filename))
            found.without_metadata.append(layout.blob_path(blob.sha256, blob.filename))
            _log.warning("metadata.dropped", filename=blob.filename, sha256=blob.sha256)
    return unfit


def _write_sidecars(cycle: Cycle, layout: Layout, blobs: Sequence[BlobRow]) -> list[tuple[BlobRow, Sha256 | None]]:
    mended: list[tuple[BlobRow, Sha256 | None]] = []
    for blob in blobs:
        data = None
        if blob.filename.endswith(".whl"):
            data = wheel_metadata(layout, blob.sha256, blob.filename, cycle.files.metadata_limit_bytes)
        mended.append((blob, None if data is None else write_sidecar(cycle, layout, blob.sha256, blob.filename, data)))
    return mended


def write_sidecar(cycle: Cycle, layout: Layout, sha256: Sha256, filename: str, data: bytes) -> Sha256:
    """Replace a sidecar durably; an existing one is moved aside."""
    sidecar = layout.sidecar_path(sha256, filename)
    if exists(sidecar):
        move_aside(layout, sidecar, keep=True)
    digest = cycle.files.place_sidecar(sha256, filename, data)
    sync_path(sidecar)
    return digest


def _clear_page_places(layout: Layout, pages: Collection[ProjectName | None]) -> None:
    for name in pages:
        for moved in clear_page_place(layout, name):
            _log.warning("file.moved_aside", to=str(moved))


def _move_aside(layout: Layout, paths: Sequence[str]) -> None:
    for path in paths:
        if exists(path):
            moved = move_aside(layout, path)
            _log.warning("file.moved_aside", path=shown_path(path), to=shown_path(str(moved)))
