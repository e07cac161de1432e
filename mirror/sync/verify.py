"""Hash the tree again, compare it with the state, and mend it (``mirror verify``).

Blobs are read with all cores in constant memory, the longest unverified first; what was found whole is recorded as it goes,
so that an interrupted run is not lost. Without ``repair`` nothing but those times is written, no lock is taken, and a cycle
may run beside it: what disagrees is looked at again before it is called damage.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.to_thread

from mirror.core.names import ProjectName, Sha256
from mirror.core.render_pages import iter_root_html, iter_root_json, render_project
from mirror.errors import StateError
from mirror.logs import get_logger
from mirror.state.blobs import (
    BlobRow,
    count_blobs,
    is_known,
    load_known_files,
    load_oldest_verified,
    record_lost,
    record_pages_damaged,
    record_sidecars,
    record_verified,
)
from mirror.state.cycles import load_meta
from mirror.state.entries import PageState, load_pages, load_published
from mirror.state.store import Store
from mirror.sync.publish import Publisher
from mirror.sync.work import Cycle
from mirror.tree.check import (
    Damage,
    check_blob,
    iter_blob_files,
    iter_outer,
    iter_projects,
    move_aside,
    wheel_metadata,
)
from mirror.tree.layout import METADATA_ENDING, Layout

_log = get_logger(__name__)

_PAGES_AT_ONCE = 200


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
        return {"damage": self.damage.value, "path": self.path, "detail": self.detail}


@dataclass(slots=True, kw_only=True)
class Verification:
    """What was looked at and found; live while it runs."""

    blobs_total: int = 0
    bytes_total: int = 0
    blobs_checked: int = 0
    bytes_checked: int = 0
    pages_checked: int = 0
    leftovers: int = 0
    """Whole files that no row knows, as a kill may leave them: no damage, ``prune`` takes them away."""
    findings: list[Finding] = field(default_factory=list)
    lost: list[tuple[str, str, str]] = field(default_factory=list)
    """(index, project, filename) of what was taken off the pages to be fetched again."""
    repaired: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return the report object."""
        return {
            "format": 1,
            "blobs_checked": self.blobs_checked,
            "bytes_checked": self.bytes_checked,
            "pages_checked": self.pages_checked,
            "leftovers": self.leftovers,
            "damage": [f.as_json() for f in self.findings],
            "repaired": self.repaired,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """How much is looked at."""

    share: float = 1.0
    """Of the blobs, by number, the longest unverified first; below 1 only blobs are looked at."""
    not_since: float | None = None
    """Only blobs that were not found whole since this time."""

    @property
    def is_whole(self) -> bool:
        """Whether pages and foreign files are looked at too."""
        return self.share >= 1.0


async def verify(
    store: Store,
    layout: Layout,
    scope: Scope,
    *,
    now: Callable[[], float],
    metadata_limit_bytes: int,
    into: Verification,
) -> Verification:
    """Look at the tree and fill ``into`` with what is found; nothing is mended."""
    before = scope.not_since if scope.not_since is not None else now()
    count, size = await count_blobs(store, before=before)
    limit = None if scope.share >= 1.0 else max(1, round(count * scope.share))
    into.blobs_total = count if limit is None else min(count, limit)
    into.bytes_total = size if limit is None or not count else size * into.blobs_total // count
    checker = _BlobChecker(store, layout, metadata_limit_bytes, now, into)
    async for chunk in load_oldest_verified(store, before=before, limit=limit):
        await checker.check(chunk)
    if scope.is_whole:
        await _check_files(store, layout, into)
        await _check_pages(store, layout, into)
    return into


async def repair(cycle: Cycle, layout: Layout, found: Verification) -> None:
    """Mend what was found: damage is moved aside, sidecars and pages are made again, lost files leave the pages.

    What ``found.lost`` names afterwards is for the next cycle to fetch.
    """
    now = cycle.clock()
    damaged = [f for f in found.findings if f.damage in {Damage.MISSING, Damage.SIZE, Damage.BYTES} and f.blob]
    await anyio.to_thread.run_sync(_move_aside, layout, [f.path for f in damaged if f.damage is not Damage.MISSING])
    blobs = [f.blob for f in damaged if f.blob is not None]
    if blobs:
        found.lost = await record_lost(cycle.store, blobs, cycle=cycle.id, now=now)
    sidecars = [f.blob for f in found.findings if f.damage is Damage.SIDECAR and f.blob is not None]
    if sidecars:
        mended = await anyio.to_thread.run_sync(_mend_sidecars, cycle, layout, sidecars)
        await record_sidecars(cycle.store, mended, cycle=cycle.id, now=now)
    foreign = [f.path for f in found.findings if f.damage is Damage.FOREIGN]
    await anyio.to_thread.run_sync(_move_aside, layout, foreign)
    pages = {f.project for f in found.findings if f.damage is Damage.PAGE and f.project is not None}
    if pages:
        await record_pages_damaged(cycle.store, pages, cycle=cycle.id, now=now)
    publisher = Publisher(cycle)
    await publisher.publish_marked()
    if any(f.damage is Damage.PAGE and f.project is None for f in found.findings):
        await publisher.write_root()
    found.repaired = len(found.findings) - len(blobs)


async def republish(cycle: Cycle) -> None:
    """Write every page of a state that was rebuilt, and the root."""
    publisher = Publisher(cycle)
    await publisher.publish_marked()
    await publisher.finish()


class _BlobChecker:
    """Checks blobs side by side, as many as there are cores."""

    def __init__(
        self, store: Store, layout: Layout, limit_bytes: int, now: Callable[[], float], into: Verification
    ) -> None:
        self._store, self._layout, self._limit_bytes, self._now, self._into = store, layout, limit_bytes, now, into
        self._cores = anyio.CapacityLimiter(len(os.sched_getaffinity(0)))

    async def check(self, blobs: Sequence[BlobRow]) -> None:
        """Check some blobs, and record those that are whole."""
        whole: list[BlobRow] = []
        async with anyio.create_task_group() as tasks:
            for blob in blobs:
                tasks.start_soon(self._check_one, blob, whole)
        try:
            await record_verified(self._store, whole, self._now())
        except StateError as exc:  # a reader of a tree that it may not write: the result is the same
            _log.debug("verify.not_recorded", problem=str(exc))

    async def _check_one(self, blob: BlobRow, whole: list[BlobRow]) -> None:
        into = self._into
        found = await anyio.to_thread.run_sync(
            check_blob,
            self._layout,
            blob.sha256,
            blob.filename,
            blob.size,
            blob.metadata_sha256,
            self._limit_bytes,
            limiter=self._cores,
        )
        into.blobs_checked += 1
        into.bytes_checked += found.bytes_read
        if found.damage is None:
            whole.append(blob)
        elif await is_known(self._store, blob):
            path = self._layout.blob_path(blob.sha256, blob.filename)
            _tell(into, Finding(damage=found.damage, path=path, detail=found.detail, blob=blob))


async def _check_files(store: Store, layout: Layout, into: Verification) -> None:
    """Find what lies among the blobs and belongs to none."""
    for outer, is_ours in await anyio.to_thread.run_sync(lambda: list(iter_outer(layout))):
        if not is_ours:
            path = str(layout.files / outer)
            _tell(into, Finding(damage=Damage.FOREIGN, path=path, detail="nothing of ours lies here"))
            continue
        on_disk = await anyio.to_thread.run_sync(_list_blob_files, layout, outer)
        known = await load_known_files(store, outer)
        for path, sha256, name in on_disk:
            blob_name = name.removesuffix(METADATA_ENDING)
            if (sha256, name) in known or ((sha256, blob_name) in known and name != blob_name):
                continue
            if sha256 and (sha256, name) not in await load_known_files(store, sha256):
                into.leftovers += 1
            elif not sha256:
                _tell(into, Finding(damage=Damage.FOREIGN, path=path, detail="no blob belongs here"))


def _list_blob_files(layout: Layout, outer: str) -> list[tuple[str, str, str]]:
    return list(iter_blob_files(layout, outer))


async def _check_pages(store: Store, layout: Layout, into: Verification) -> None:
    """Compare every page on disk with what the state says it shows."""
    published = dict(await load_published(store))
    names = sorted(published)
    for start in range(0, len(names), _PAGES_AT_ONCE):
        chunk = names[start : start + _PAGES_AT_ONCE]
        for name in await _wrong_pages(store, layout, chunk):
            if await _wrong_pages(store, layout, [name]):
                path = layout.project_dir(name)
                detail = "a page of it is missing or is not what the state says"
                _tell(into, Finding(damage=Damage.PAGE, path=path, detail=detail, project=name))
        into.pages_checked += len(chunk)
    if await _is_root_wrong(store, layout) and await _is_root_wrong(store, layout):
        detail = "the root page is missing or is not what the state says"
        _tell(into, Finding(damage=Damage.PAGE, path=str(layout.simple), detail=detail))
    for found in await anyio.to_thread.run_sync(lambda: list(iter_projects(layout))):
        if found not in published and not await load_pages(store, [ProjectName(found)]):
            path = str(layout.simple / found)
            _tell(into, Finding(damage=Damage.FOREIGN, path=path, detail="no project of the state has a page here"))


async def _wrong_pages(store: Store, layout: Layout, names: Collection[ProjectName]) -> list[ProjectName]:
    pages = [p for p in await load_pages(store, names) if p.is_published and not p.is_marked]
    return await anyio.to_thread.run_sync(_compare_pages, layout, pages)


def _compare_pages(layout: Layout, pages: Iterable[PageState]) -> list[ProjectName]:
    wrong = []
    for page in pages:
        rendered = render_project(page.view)
        directory = layout.project_dir(page.view.name)
        if not (
            _has_bytes(f"{directory}/index.html", [rendered.html])
            and _has_bytes(f"{directory}/index.v1_html", [rendered.html])
            and _has_bytes(f"{directory}/index.v1_json", [rendered.json])
        ):
            wrong.append(page.view.name)
    return wrong


async def _is_root_wrong(store: Store, layout: Layout) -> bool:
    written = await load_meta(store, "root_revision")
    if written is None:
        return False
    projects = await load_published(store)
    if any(serial > int(written) for _, serial in projects):
        return False  # a cycle is on its way to write it
    root = str(layout.simple)

    def compare() -> bool:
        return (
            _has_bytes(f"{root}/index.html", iter_root_html(projects, int(written)))
            and _has_bytes(f"{root}/index.v1_html", iter_root_html(projects, int(written)))
            and _has_bytes(f"{root}/index.v1_json", iter_root_json(projects, int(written)))
        )

    return not await anyio.to_thread.run_sync(compare)


def _has_bytes(path: str, expected: Iterable[bytes]) -> bool:
    try:
        with open(path, "rb") as file:
            return all(file.read(len(piece)) == piece for piece in expected) and not file.read(1)
    except OSError:
        return False


def _move_aside(layout: Layout, paths: Sequence[str]) -> None:
    for path in paths:
        if os.path.lexists(path):
            moved = move_aside(layout, path)
            _log.warning("file.moved_aside", path=path, to=str(moved))


def _mend_sidecars(cycle: Cycle, layout: Layout, blobs: Sequence[BlobRow]) -> list[tuple[BlobRow, Sha256 | None]]:
    """Take the metadata of wheels out of them again; what no longer has any loses its sidecar."""
    mended: list[tuple[BlobRow, Sha256 | None]] = []
    for blob in blobs:
        sidecar = layout.sidecar_path(blob.sha256, blob.filename)
        if os.path.lexists(sidecar):
            move_aside(layout, sidecar)
        data = None
        if blob.filename.endswith(".whl"):
            data = wheel_metadata(layout, blob.sha256, blob.filename, cycle.files.metadata_limit_bytes)
        digest = None if data is None else cycle.files.place_sidecar(blob.sha256, blob.filename, data)
        mended.append((blob, digest))
    return mended


def _tell(into: Verification, finding: Finding) -> None:
    into.findings.append(finding)
    _log.error("tree.damaged", damage=finding.damage.value, path=finding.path, detail=finding.detail)
