"""Make a state fit the tree in an object store (``mirror tree adopt``): under the store's lock.

A state that wrote exactly this tree, before it was copied, keeps its rows: sizes are checked, and
missing files leave the pages. Any other state is replaced by one that is rebuilt from the pages, as
``upkeep.rebuild`` does it for a disk: entries belong to no index until the next cycle claims them
by project, name and sha256. Bytes are not read: `mirror verify` does that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

import anyio.to_thread
import msgspec

from mirror.core.files.distributions import belongs_to, is_foreign, is_wheel
from mirror.core.model import ListedFile, ProjectPage
from mirror.core.names import ProjectName, Sha256, check_filename, check_sha256
from mirror.core.pages.render_pages import iter_root_json
from mirror.errors import TreeError, UnsafeName
from mirror.holdings.holdings import Holdings
from mirror.logs import get_logger
from mirror.publishing.publisher import Publisher
from mirror.state.blobs.lost import record_lost, record_pages_damaged
from mirror.state.blobs.verified import BlobRow, load_known_files, load_oldest_verified, open_window
from mirror.state.entries.changes import Placed, ProjectRecord, record_changes
from mirror.state.entries.pages import load_last_revision, load_published
from mirror.state.entries.rebuilt import (
    enter_unclaimed_projects,
    record_rebuilt_end,
    record_rebuilt_start,
    record_unlisted_blobs,
)
from mirror.state.meta import load_meta
from mirror.state.objects import record_tags
from mirror.state.store import Store
from mirror.tree.objects.client import ObjectClient, StoredObject
from mirror.tree.objects.keys import ROOT_HTML, ROOT_JSON, blob_key, page_keys, sidecar_key
from mirror.upkeep.frozen.found import record_found_snapshot
from mirror.upkeep.stores.listing import (
    OUTERS,
    PageListing,
    iter_snapshot_projects,
    list_files,
    list_pages,
    list_stored_snapshots,
    read_stored_page,
    unknown_of,
)
from mirror.upkeep.stores.snapshots import StoredSnapshot

_PAGES_AT_ONCE: Final = 200
_THREADS: Final = 16
_COPY_MARK: Final = ".copy"
_log = get_logger(__name__)


class Adoption(msgspec.Struct, kw_only=True):
    """The results of an adoption, filled while it goes on."""

    is_rebuilt: bool = False
    """The state was replaced by one rebuilt from the pages."""
    projects: int = 0
    files: int = 0
    lost: list[str] = []
    """Keys of listed files that are missing or cut: they left the pages."""
    foreign: list[str] = []
    """Keys that are none of a tree's; they stay."""

    def as_json(self) -> dict[str, Any]:
        """Return the object of the report."""
        return {"format": 1, **msgspec.to_builtins(self)}


def check_adoptable(client: ObjectClient) -> None:
    """Raise ``TreeError`` where no whole tree lies. Blocking."""
    address = str(client.address)
    if client.head(_COPY_MARK) is not None:
        problem = "an interrupted copy lies here: run `mirror tree copy` again until it is whole"
        raise TreeError(path=address, problem=problem)
    if client.head(ROOT_HTML) is None and client.head(ROOT_JSON) is None:
        problem = "there is no tree here to adopt: check `tree`, or run `mirror sync --once`"
        raise TreeError(path=address, problem=problem)


async def is_own_tree(store: Store, client: ObjectClient) -> bool:
    """Return whether the tree's root page is the one that this state wrote last."""
    written = int(await load_meta(store, "root_revision") or 0)
    if not written:
        return False
    expected = b"".join(iter_root_json(await load_published(store), written))
    got = await anyio.to_thread.run_sync(client.get, ROOT_JSON)
    return got is not None and got[0] == expected


async def adopt(holdings: Holdings, client: ObjectClient, into: Adoption) -> None:
    """Fit state and tree; the lock is held. An empty state is filled, any other keeps its rows."""
    pages = await anyio.to_thread.run_sync(list_pages, client)
    await record_tags(holdings.store, pages.tags)
    into.foreign += pages.foreign
    into.is_rebuilt = not await load_last_revision(holdings.store)
    work = _Adopter(holdings, client, into)
    if into.is_rebuilt:
        await work.rebuild(pages)
    else:
        await work.keep(pages)
    publisher = Publisher(holdings)
    await publisher.publish_marked()
    await publisher.finish()
    for key in into.lost:
        _log.warning("file.lost", key=client.address.shown(key))
    _log.warning(
        "tree.adopted",
        tree=str(client.address),
        rebuilt=into.is_rebuilt,
        files=into.files,
        lost=len(into.lost),
    )


class _Adopter:
    def __init__(self, holdings: Holdings, client: ObjectClient, into: Adoption) -> None:
        self._holdings, self._store, self._client = holdings, holdings.store, client
        self._into, self._now = into, holdings.clock()

    async def keep(self, pages: PageListing) -> None:
        """Check sizes and pages of a state that wrote this tree."""
        there: dict[str, Mapping[str, StoredObject]] = {}
        lost = []
        window = await open_window(self._store, now=self._now)
        async for blob in load_oldest_verified(self._store, window):
            outer = blob.sha256[:2]
            if outer not in there:
                there[outer] = await anyio.to_thread.run_sync(list_files, self._client, outer)
            self._into.files += 1
            if not _is_there(blob, there[outer]):
                lost.append(blob)
        if lost:
            self._into.lost += [blob_key(blob.sha256, blob.filename) for blob in lost]
            await record_lost(self._store, lost, cycle=self._holdings.cycle, now=self._now)
        published = [name for name, _ in await load_published(self._store)]
        self._into.projects = len(published)
        missing = {
            name for name in published if not all(key in pages.tags for key in page_keys(name))
        }
        if missing:
            await record_pages_damaged(
                self._store, missing, cycle=self._holdings.cycle, now=self._now
            )

    async def rebuild(self, pages: PageListing) -> None:
        """Fill an empty state from the pages."""
        serial = await anyio.to_thread.run_sync(self._holdings.pages.root_serial)
        source = await record_rebuilt_start(
            self._store, revision=int(self._now) if serial is None else serial, now=self._now
        )
        names = sorted(pages.projects)
        for start in range(0, len(names), _PAGES_AT_ONCE):
            await self._enter_projects(source, names[start : start + _PAGES_AT_ONCE])
        await self._enter_unlisted()
        for snapshot in await anyio.to_thread.run_sync(list_stored_snapshots, self._client):
            await self._enter_snapshot(source, snapshot)
        await record_rebuilt_end(self._store)

    async def _enter_projects(self, source: int, names: Sequence[ProjectName]) -> None:
        found = await anyio.to_thread.run_sync(self._read, names)
        listed = [
            (page, file, is_current)
            for page, is_current in found
            for file in page.files
            if not is_foreign(file.filename, page.name)
        ]
        placed = await anyio.to_thread.run_sync(self._check, listed)
        self._into.lost.sort()  # threads have found them
        by_project: dict[ProjectName, list[Placed]] = {page.name: [] for page, _ in found}
        for (page, _, _), whole in zip(listed, placed, strict=True):
            if whole is not None:
                by_project[page.name].append(whole)
        there = [page.name for page, _ in found]
        empty = {page.name for page, _ in found if not page.files}
        projects = await enter_unclaimed_projects(self._store, source, there, empty)
        records = [
            ProjectRecord(
                project=projects[page.name],
                source=source,
                name=page.name,
                placed=tuple(sorted(by_project[page.name], key=lambda p: p.file.filename)),
                meta=page.meta,
            )
            for page, _ in found
        ]
        await record_changes(self._store, records, cycle=0, now=self._now, has_overlays=False)
        self._into.projects += len(found)
        self._into.files += sum(map(len, by_project.values()))

    def _read(self, names: Sequence[ProjectName]) -> list[tuple[ProjectPage, bool]]:
        read = partial(read_stored_page, self._client)
        with ThreadPoolExecutor(_THREADS) as threads:
            return [page for page in threads.map(read, names) if page is not None]

    def _check(self, listed: Sequence[tuple[ProjectPage, ListedFile, bool]]) -> list[Placed | None]:
        with ThreadPoolExecutor(_THREADS) as threads:
            return list(threads.map(self._check_one, listed))

    def _check_one(self, item: tuple[ProjectPage, ListedFile, bool]) -> Placed | None:
        """Return a listed file that is there with its size, and its metadata."""
        page, file, is_current = item
        try:
            sha256 = check_sha256(dict(file.digests)["sha256"])
        except (KeyError, ValueError):
            return None
        key = blob_key(sha256, file.filename)
        there = self._client.head(key)
        if there is None or file.size not in {None, there.size}:
            self._into.lost.append(key)
            return None
        own = ListedFile(
            filename=file.filename,
            url="",
            digests=(("sha256", sha256),),
            size=there.size,
            labels=file.labels,
        )
        metadata = self._metadata(page, file, sha256, is_current=is_current)
        return Placed(file=own, sha256=sha256, size=there.size, metadata_sha256=metadata)

    def _metadata(
        self, page: ProjectPage, file: ListedFile, sha256: Sha256, *, is_current: bool
    ) -> Sha256 | None:
        listed = dict(file.metadata or ()).get("sha256")
        may_offer = is_wheel(file.filename) or (is_current and belongs_to(file.filename, page.name))
        if not listed or not may_offer:
            return None
        is_there = self._client.head(sidecar_key(sha256, file.filename)) is not None
        try:
            return check_sha256(listed) if is_there else None
        except ValueError:
            return None

    async def _enter_unlisted(self) -> None:
        """Record the blobs that no page lists; their retention begins now."""
        for outer in OUTERS:
            there = await anyio.to_thread.run_sync(list_files, self._client, outer)
            known = await load_known_files(self._store, outer)
            found = list(_unlisted(there, known))
            if found:
                await record_unlisted_blobs(self._store, found, now=self._now)

    async def _enter_snapshot(self, source: int, name: str) -> None:
        """Record a snapshot, with this version's renderer only where all of its pages are as it
        writes them.
        """
        found = StoredSnapshot(self._client, name)
        projects = await anyio.to_thread.run_sync(
            lambda: list(iter_snapshot_projects(self._client, name))
        )
        await anyio.to_thread.run_sync(found.read_root, projects)

        def read(names: Sequence[ProjectName]) -> list[ProjectPage]:
            with ThreadPoolExecutor(_THREADS) as threads:
                return [page for page in threads.map(found.read, names) if page is not None]

        await record_found_snapshot(
            self._holdings, source, name, projects, read, lambda: found.is_current
        )


def _is_there(blob: BlobRow, there: Mapping[str, StoredObject]) -> bool:
    found = there.get(blob_key(blob.sha256, blob.filename))
    has_metadata = blob.metadata_sha256 is None or sidecar_key(blob.sha256, blob.filename) in there
    return found is not None and found.size == blob.size and has_metadata


def _unlisted(
    there: Mapping[str, StoredObject], known: Mapping[tuple[str, str], str | None]
) -> Iterator[tuple[str, str, int, str | None]]:
    for item in map(unknown_of, there.values()):
        if not item.sha256 or item.name.endswith(".metadata") or (item.sha256, item.name) in known:
            continue
        try:
            yield item.sha256, check_filename(item.name), item.size, None
        except UnsafeName:
            continue
