"""Frozen pages in an object store, at their own depth below ``snapshots/NAME/``.

Pages are rendered from the state; one that an earlier snapshot has already is copied on the
server's side. Pages of projects are put first, the root pages last; they are removed in the other
order. Each put and each removal sees first that this process has the lock still. A pin, which no
reader sees, lies on the local disk with the links of a disk.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

import anyio.to_thread

from mirror.core.model import ProjectView
from mirror.core.names import ProjectName
from mirror.core.pages.page_depth import deepened, raised
from mirror.core.pages.render_pages import (
    RenderedPage,
    iter_root_html,
    iter_root_json,
    render_project,
)
from mirror.errors import TreeError
from mirror.holdings.holdings import Holdings
from mirror.state.entries.pages import load_pages
from mirror.state.frozen.snapshots import FrozenKind, SnapshotRow, load_snapshots
from mirror.state.objects import record_channels
from mirror.tree import snapshots as disk
from mirror.tree.disk.failures import tree_errors
from mirror.tree.disk.places import make_directory
from mirror.tree.disk.writing import write_new
from mirror.tree.layout import PUBLIC_FILE
from mirror.tree.objects.client import CALL_S, ObjectClient
from mirror.tree.objects.keys import CHANNEL_HEADERS, HTML_HEADERS, JSON_HEADERS, snapshot_keys
from mirror.tree.pages import HTML, HTML_V1, JSON_V1, link_or_copy
from mirror.upkeep.frozen.disk import DiskFrozen
from mirror.upkeep.frozen.roots import names_of, parse_frozen_root

_PAGES_AT_ONCE: Final = 200
_THREADS: Final = 16
_REMOVED_AT_ONCE: Final = 1000
"""Maximum number of objects in one request."""


class StoreFrozen:
    """Frozen states of a tree in an object store."""

    def __init__(self, holdings: Holdings, client: ObjectClient) -> None:
        self._holdings, self._client = holdings, client
        self._pins = DiskFrozen(holdings.layout)

    async def is_taken(self, name: str) -> bool:
        """Return whether something lies at the place of a snapshot."""
        found = partial(self._client.list_objects, f"snapshots/{name}", limit=1)
        return await anyio.to_thread.run_sync(lambda: next(iter(found()), None)) is not None

    async def load_root(self, source: SnapshotRow) -> list[tuple[ProjectName, int]]:
        """Return the projects of a snapshot with the revisions of their pages, by name."""
        _, key = snapshot_keys(source.name, None)
        got = await anyio.to_thread.run_sync(self._client.get, key)
        path = self._client.address.shown(key)
        if got is None:
            raise TreeError(path=path, problem="the snapshot's root page is missing; delete it")
        return await anyio.to_thread.run_sync(parse_frozen_root, got[0], path)

    async def freeze(
        self,
        row: SnapshotRow,
        source: SnapshotRow | None,
        projects: Sequence[tuple[ProjectName, int]],
        *,
        has_all: bool,  # noqa: ARG002 - the root page is rendered in any case
    ) -> None:
        """Put the pages of some projects into the place of ``row``."""
        if row.kind is FrozenKind.PIN:
            await self._freeze_pin(row, source, projects)
            return
        await self._holdings.writer.begin()
        earlier, known = await self._load_earlier()
        same = {name for name, serial in projects if known.get(name) == serial}
        for names in _parts(names_of(projects)):
            rendered = await self._load_rendered(None, [n for n in names if n not in same])
            put = partial(self._put_pages, row.name, rendered)
            await anyio.to_thread.run_sync(put)
            copy = partial(self._copy_pages, row.name, earlier, [n for n in names if n in same])
            missing = await anyio.to_thread.run_sync(copy)
            rendered = await self._load_rendered(None, missing)
            await anyio.to_thread.run_sync(partial(self._put_pages, row.name, rendered))
        await anyio.to_thread.run_sync(self._put_root, row, projects)

    async def has(self, row: SnapshotRow) -> bool:
        """Return whether a frozen state is there."""
        if row.kind is FrozenKind.PIN:
            return await self._pins.has(row)
        key, _ = snapshot_keys(row.name, None)
        return await anyio.to_thread.run_sync(self._client.head, key) is not None

    async def remove(self, row: SnapshotRow) -> None:
        """Remove a frozen state; a missing one is not an error."""
        if row.kind is FrozenKind.PIN:
            await self._pins.remove(row)
            return
        await self._holdings.writer.begin()
        await anyio.to_thread.run_sync(self._remove, row.name)

    async def sweep(self, pins: Collection[str]) -> None:
        """Remove the leftovers of killed runs; ``pins`` stay."""
        await self._pins.sweep(pins)

    async def load_channels(self) -> dict[str, str]:
        """Return the snapshot that each channel shows."""
        return await anyio.to_thread.run_sync(read_channels, self._client)

    async def promote(self, snapshot: str, channel: str) -> None:
        """Let a channel show a snapshot: one put, so that a reader sees the old one or the new
        one.
        """
        await self._holdings.writer.begin()
        key, text = f"channels/{channel}", f"{snapshot}\n".encode()
        await anyio.to_thread.run_sync(self._put, key, text, CHANNEL_HEADERS)
        await record_channels(self._holdings.store, await self.load_channels())

    async def _load_earlier(self) -> tuple[str, Mapping[ProjectName, int]]:
        """Return the newest snapshot whose pages can be copied, and the revisions of its pages."""
        rows = await load_snapshots(self._holdings.store, FrozenKind.SNAPSHOT)
        whole = [row for row in rows if row.ready and not row.rebuilt]
        if not whole:
            return "", {}
        newest = max(whole, key=lambda row: row.revision)
        try:
            return newest.name, dict(await self.load_root(newest))
        except TreeError:  # damaged: nothing is copied from it
            return "", {}

    async def _load_rendered(
        self, source: SnapshotRow | None, names: Sequence[ProjectName]
    ) -> list[tuple[ProjectName, RenderedPage]]:
        """Return pages with the links of a disk: from the state, or those of a snapshot."""
        if source is not None:
            return await anyio.to_thread.run_sync(self._read_pages, source.name, names)
        if not names:
            return []
        pages = await load_pages(self._holdings.store, names)
        render = partial(_render, [page.view for page in pages])
        return await anyio.to_thread.run_sync(render)

    def _read_pages(
        self, snapshot: str, names: Sequence[ProjectName]
    ) -> list[tuple[ProjectName, RenderedPage]]:
        def read(name: ProjectName) -> tuple[ProjectName, RenderedPage]:
            got = [self._client.get(key) for key in snapshot_keys(snapshot, name)]
            html, json = got
            if html is None or json is None:
                path = self._client.address.shown(f"snapshots/{snapshot}/simple/{name}")
                raise TreeError(path=path, problem="a page of the snapshot is missing; delete it")
            return name, RenderedPage(html=raised(html[0]), json=raised(json[0]))

        with ThreadPoolExecutor(_THREADS) as threads:
            return list(threads.map(read, names))

    def _put_pages(self, snapshot: str, pages: Sequence[tuple[ProjectName, RenderedPage]]) -> None:
        def put(item: tuple[ProjectName, RenderedPage]) -> None:
            name, page = item
            html, json = snapshot_keys(snapshot, name)
            self._put(html, deepened(page.html), HTML_HEADERS)
            self._put(json, deepened(page.json), JSON_HEADERS)

        with ThreadPoolExecutor(_THREADS) as threads:
            list(threads.map(put, pages))

    def _copy_pages(
        self, snapshot: str, earlier: str, names: Sequence[ProjectName]
    ) -> list[ProjectName]:
        """Copy pages of an earlier snapshot; return the projects whose pages it lacks."""

        def copy(name: ProjectName) -> bool:
            pairs = zip(snapshot_keys(earlier, name), snapshot_keys(snapshot, name), strict=True)
            self._holdings.writer.enter_for_page()
            try:
                for old, new in pairs:
                    self._client.copy(old, new, deadline_s=CALL_S)
            except TreeError:
                return False
            return True

        with ThreadPoolExecutor(_THREADS) as threads:
            done = list(threads.map(copy, names))
        return [name for name, is_done in zip(names, done, strict=True) if not is_done]

    def _put_root(self, row: SnapshotRow, projects: Sequence[tuple[ProjectName, int]]) -> None:
        html, json = snapshot_keys(row.name, None)
        root_html = b"".join(iter_root_html(projects, row.revision))
        root_json = b"".join(iter_root_json(projects, row.revision))
        self._put(html, root_html, HTML_HEADERS)
        self._put(json, root_json, JSON_HEADERS)

    def _remove(self, snapshot: str) -> None:
        """Remove the root pages first: a reader that has them finds the others for a moment
        only.
        """
        self._delete(snapshot_keys(snapshot, None))
        keys = [found.key for found in self._client.list_objects(f"snapshots/{snapshot}")]
        for start in range(0, len(keys), _REMOVED_AT_ONCE):
            self._delete(keys[start : start + _REMOVED_AT_ONCE])

    def _put(self, key: str, data: bytes, headers: Mapping[str, str]) -> None:
        self._holdings.writer.enter_for_page()
        self._client.put(key, data, attributes=headers)

    def _delete(self, keys: Sequence[str]) -> None:
        self._holdings.writer.enter_for_delete()
        self._client.delete(keys)

    async def _freeze_pin(
        self,
        row: SnapshotRow,
        source: SnapshotRow | None,
        projects: Sequence[tuple[ProjectName, int]],
    ) -> None:
        """Write the pages of a pin to the local disk, durably."""
        layout = self._holdings.layout
        place = await anyio.to_thread.run_sync(disk.begin_frozen, layout)
        for names in _parts(names_of(projects)):
            pages = await self._load_rendered(source, names)
            await anyio.to_thread.run_sync(_write_pages, place, pages)
        await anyio.to_thread.run_sync(_write_root, place, projects, row.revision)
        await anyio.to_thread.run_sync(disk.settle, layout, place, disk.pin_path(layout, row.name))


def read_channels(client: ObjectClient) -> dict[str, str]:
    """Return the snapshot that each channel of a store names. Blocking."""
    channels: dict[str, str] = {}
    for found in client.list_objects("channels"):
        name, got = found.key.rpartition("/")[2], client.get(found.key)
        if got is not None and disk.NAME.fullmatch(name):
            channels[name] = got[0].decode("utf-8", "replace").strip()
    return channels


def _render(views: Sequence[ProjectView]) -> list[tuple[ProjectName, RenderedPage]]:
    return [(view.name, render_project(view)) for view in views]


def _write_pages(place: Path, pages: Sequence[tuple[ProjectName, RenderedPage]]) -> None:
    with tree_errors(place):
        for name, page in pages:
            directory = f"{place}/simple/{name}"
            make_directory(directory)
            _write_forms(directory, page)


def _write_root(place: Path, projects: Sequence[tuple[ProjectName, int]], revision: int) -> None:
    html = b"".join(iter_root_html(projects, revision))
    json = b"".join(iter_root_json(projects, revision))
    with tree_errors(place):
        _write_forms(f"{place}/simple", RenderedPage(html=html, json=json))


def _write_forms(directory: str, page: RenderedPage) -> None:
    write_new(f"{directory}/{HTML}", [page.html], PUBLIC_FILE)
    link_or_copy(f"{directory}/{HTML}", f"{directory}/{HTML_V1}")
    write_new(f"{directory}/{JSON_V1}", [page.json], PUBLIC_FILE)


def _parts(names: Sequence[ProjectName]) -> Iterator[Sequence[ProjectName]]:
    for start in range(0, len(names), _PAGES_AT_ONCE):
        yield names[start : start + _PAGES_AT_ONCE]
