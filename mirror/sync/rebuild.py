"""Rebuild a lost state from the tree (``mirror verify --repair`` without a usable ``state.db``).

The pages say what was published and with which labels, the blobs are hashed again. Pages carry no upstream URLs, so the
entries belong to no index at first: the next cycle claims them by project, name and sha256 without downloading what is
intact. What nobody claims follows two looks and the brake (``sync.removal``). The retention of what nothing lists begins
again.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import anyio
import anyio.to_thread

from mirror.core import parse_html, parse_json
from mirror.core.model import ListedFile, ProjectPage
from mirror.core.names import ProjectName, Sha256, check_filename, check_sha256, normalize_project
from mirror.errors import BadPage, UnsafeName
from mirror.logs import get_logger
from mirror.state.entries import Placed, ProjectRecord, record_changes
from mirror.state.rebuilt import enter_unclaimed_project, record_rebuilt_start, record_unlisted_blobs
from mirror.state.store import Store
from mirror.sync.verify import Finding, Verification
from mirror.tree.check import (
    Damage,
    check_blob,
    iter_blob_files,
    iter_outer,
    iter_projects,
    move_aside,
    sidecar_digest,
)
from mirror.tree.layout import METADATA_ENDING, Layout
from mirror.tree.pages import PageStore

_log = get_logger(__name__)

_BASE = "https://tree.invalid/simple/"
"""Only to resolve our own relative links; never asked."""


async def rebuild(store: Store, layout: Layout, *, metadata_limit_bytes: int, now: float, into: Verification) -> None:
    """Fill an empty state from the tree; what is damaged is told, moved aside and left out."""
    serial = await anyio.to_thread.run_sync(PageStore(layout).root_serial)
    source = await record_rebuilt_start(store, revision=serial or 0, now=now)
    worker = _Rebuilder(store, layout, source, metadata_limit_bytes, now, into)
    for name in await anyio.to_thread.run_sync(lambda: list(iter_projects(layout))):
        await worker.enter_project(name)
    await worker.enter_unlisted()
    _log.warning("state.rebuilt", path=str(store.path), files=into.blobs_checked, damaged=len(into.findings))


def set_aside_state(path: Path) -> list[Path]:
    """Move a damaged database and its side files out of the way; return where they are."""
    moved = []
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    for ending in ("", "-wal", "-shm"):
        source = path.with_name(path.name + ending)
        if source.exists():
            target = source.with_name(f"{path.name}.damaged-{stamp}{ending}")
            os.rename(source, target)
            moved.append(target)
    return moved


class _Rebuilder:
    """Enters project by project."""

    def __init__(
        self, store: Store, layout: Layout, source: int, limit_bytes: int, now: float, into: Verification
    ) -> None:
        self._store, self._layout, self._source = store, layout, source
        self._limit_bytes, self._now, self._into = limit_bytes, now, into
        self._cores = anyio.CapacityLimiter(len(os.sched_getaffinity(0)))
        self._entered: set[tuple[str, str]] = set()

    async def enter_project(self, directory: str) -> None:
        """Enter what one project's pages list and the disk still holds."""
        page = await anyio.to_thread.run_sync(_read_page, self._layout, directory)
        if page is None:
            path = str(self._layout.simple / directory)
            self._tell(Finding(damage=Damage.PAGE, path=path, detail="no page of ours can be read here"))
            return
        self._into.pages_checked += 1
        placed: list[Placed] = []
        async with anyio.create_task_group() as tasks:
            for file in page.files:
                tasks.start_soon(self._enter_file, file, placed)
        project = await enter_unclaimed_project(self._store, self._source, page.name)
        record = ProjectRecord(
            project=project,
            source=self._source,
            name=page.name,
            placed=tuple(sorted(placed, key=lambda p: p.file.filename)),
            meta=page.meta,
        )
        await record_changes(self._store, [record], cycle=0, now=self._now, has_overlays=False)

    async def enter_unlisted(self) -> None:
        """Enter the whole blobs that no page lists; their retention begins now."""
        for outer, is_ours in await anyio.to_thread.run_sync(lambda: list(iter_outer(self._layout))):
            if is_ours:
                found = await anyio.to_thread.run_sync(self._find_unlisted, outer)
                await record_unlisted_blobs(self._store, found, now=self._now)

    async def _enter_file(self, file: ListedFile, placed: list[Placed]) -> None:
        try:
            sha256 = check_sha256(dict(file.digests)["sha256"])
        except (KeyError, ValueError):
            return
        size = file.size if file.size is not None else -1
        found = await anyio.to_thread.run_sync(self._check, sha256, file.filename, size, limiter=self._cores)
        self._into.blobs_checked += 1
        self._into.bytes_checked += max(size, 0)
        if found is None:
            return
        self._entered.add((sha256, file.filename))
        own = ListedFile(filename=file.filename, url="", digests=(("sha256", sha256),), size=size, labels=file.labels)
        placed.append(Placed(file=own, sha256=sha256, size=size, metadata_sha256=Sha256(found) if found else None))

    def _check(self, sha256: str, filename: str, size: int) -> str | None:
        """Return the sidecar's sha256 ('' without one) of a whole blob; None for a damaged one, which is moved aside."""
        digest = check_sha256(sha256)
        metadata = sidecar_digest(self._layout, digest, filename, self._limit_bytes)
        check = check_blob(self._layout, digest, filename, size, metadata, self._limit_bytes)
        path = self._layout.blob_path(digest, filename)
        if check.damage is Damage.SIDECAR:
            move_aside(self._layout, path + METADATA_ENDING)
            self._tell(Finding(damage=Damage.SIDECAR, path=path, detail=check.detail))
            return ""
        if check.damage is not None:
            self._tell(Finding(damage=check.damage, path=path, detail=check.detail))
            if check.damage is not Damage.MISSING:
                move_aside(self._layout, path)
            return None
        return metadata or ""

    def _find_unlisted(self, outer: str) -> list[tuple[str, str, int, str | None]]:
        found = []
        for path, sha256, name in iter_blob_files(self._layout, outer):
            if not sha256 or name.endswith(METADATA_ENDING) or (sha256, name) in self._entered:
                continue
            try:
                check_filename(name)
                size = os.lstat(path).st_size
            except (UnsafeName, OSError):
                continue
            metadata = self._check(sha256, name, size)
            if metadata is not None:
                found.append((sha256, name, size, metadata or None))
        return found

    def _tell(self, finding: Finding) -> None:
        self._into.findings.append(finding)
        _log.error("tree.damaged", damage=finding.damage.value, path=finding.path, detail=finding.detail)


def _read_page(layout: Layout, directory: str) -> ProjectPage | None:
    """Read one of our own pages: the JSON, else the HTML; None where neither is one of this project."""
    try:
        name: ProjectName = normalize_project(directory)
    except UnsafeName:
        return None
    if name != directory:
        return None
    url = f"{_BASE}{name}/"
    for page in ("index.v1_json", "index.html"):
        try:
            body = (layout.simple / directory / page).read_bytes()
            if page.endswith("json"):
                return parse_json.parse_project_page(body, project=name, url=url)
            return parse_html.parse_project_page(body, project=name, url=url)
        except (OSError, BadPage):
            continue
    return None
