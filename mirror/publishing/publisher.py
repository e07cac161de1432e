"""Write pages from the state, in the order of writes: project page, root page, sync, closing
transaction.

Every page published here is marked in the state before, so that the next cycle repairs one killed
anywhere (``docs/explanation/order-of-writes.md``). The root is rewritten when the set of projects
changes, during a long first fill now and then, and at the end whenever any page changed, since it
carries their serials; only joining and leaving projects wait for it.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from functools import partial

import anyio
import anyio.to_thread

from mirror.core.names import ProjectName
from mirror.core.pages.render_pages import RENDERER, iter_root_html, iter_root_json, render_project
from mirror.errors import TreeError
from mirror.holdings.holdings import Holdings
from mirror.logs import get_logger
from mirror.publishing.fencing import fenced
from mirror.publishing.mended import MendedPages
from mirror.publishing.snapshot_pages import renew_snapshots
from mirror.state.entries.pages import (
    PageSeen,
    PageState,
    load_last_revision,
    load_marked,
    load_pages,
    load_published,
    load_revisions,
    mark_all_pages,
    record_published,
    record_unremoved,
    split_by_entries,
)
from mirror.state.meta import load_meta, record_meta
from mirror.state.renewal import record_metadata_settled, settle_metadata

_log = get_logger(__name__)

_ROOT_SHARE = 20
"""Writing the root takes at most one part in this many of the time."""
_ROOT_PAUSE_S = 5.0
_MAX_ENTRIES = 100_000
"""Maximum number of files whose pages are in memory at a time, unless one page has more."""


class Publisher:
    """Brings the pages on disk up to the state.

    ``unwritten``: takes the projects whose pages can't be written or removed, with the error; their
    pages stay marked.
    """

    def __init__(
        self, holdings: Holdings, unwritten: dict[ProjectName, TreeError] | None = None
    ) -> None:
        self._holdings, self._store = holdings, holdings.store
        self._unwritten = {} if unwritten is None else unwritten
        self._mended = MendedPages(holdings.store, holdings.layout, holdings.client)
        self._joining: dict[ProjectName, int] = {}
        self._leaving: set[ProjectName] = set()
        self._waiting: list[PageSeen] = []
        self._root_next_s = time.monotonic() + _ROOT_PAUSE_S

    async def publish_marked(self) -> None:
        """Publish pages that an earlier cycle left marked, and all of them if the renderer has
        changed.

        Metadata that an older version recorded is judged first, and leaves the disk after the
        pages, those of snapshots included.
        """
        store = self._store
        written = await load_meta(store, "renderer")
        if written is None:
            await record_meta(store, "renderer", str(RENDERER))
            await record_metadata_settled(store)
        elif written != str(RENDERER):
            await settle_metadata(store)
            await mark_all_pages(
                store, cycle=self._holdings.cycle, now=self._holdings.clock(), renderer=RENDERER
            )
        after = ""
        while names := await load_marked(store, after):
            await self.publish(names, ())
            after = names[-1]
        await self.finish()
        await renew_snapshots(store, self._holdings.files, cycle=self._holdings.cycle)

    async def publish(self, names: Collection[ProjectName], pages_seen: Sequence[PageSeen]) -> None:
        """Write the pages of these projects, and enter the validators of read pages as soon as the
        order of writes allows it.
        """
        done: list[tuple[ProjectName, int]] = []
        joins = False
        for part in await split_by_entries(self._store, names, limit=_MAX_ENTRIES):
            written, is_whole = await self._publish_part(part)
            done += [(name, serial) for name, serial, is_published in written if is_published]
            joins = joins or any(not is_published for *_, is_published in written)
            pages_seen = pages_seen if is_whole else ()  # the next cycle asks their pages again
        if joins or self._leaving:
            self._waiting += pages_seen
            pages_seen = ()
        await record_published(self._store, done, (), pages_seen)
        if self._waits and time.monotonic() >= self._root_next_s:
            await self.write_root()

    async def _publish_part(
        self, names: Collection[ProjectName]
    ) -> tuple[list[tuple[ProjectName, int, bool]], bool]:
        """Write some pages; return name, serial and whether the root lists it already, and whether
        all were written.
        """
        pages = await load_pages(self._store, names)
        stay = [p for p in pages if p.stays]
        failed: Mapping[ProjectName, TreeError] = {}
        if stay:
            async with fenced(self._store, self._holdings.pages, [p.view.name for p in stay]):
                failed = await anyio.to_thread.run_sync(self._write, stay)
            self._record_unwritten([p.view.name for p in stay], failed)
            stay = [p for p in stay if p.view.name not in failed]
            await self._mended.written([p.view.name for p in stay])
        self._joining |= {p.view.name: p.view.serial for p in stay if not p.is_published}
        self._leaving -= {p.view.name for p in stay}
        gone = {p.view.name for p in pages if not p.stays}
        self._leaving |= gone
        for name in gone:
            self._joining.pop(name, None)
        return [(p.view.name, p.view.serial, p.is_published) for p in stay], not failed

    async def finish(self) -> None:
        """Write the root if anything changed since it was written."""
        await self.flush()
        revisions = await load_revisions(self._store)
        if revisions.written != revisions.newest:
            await self.write_root()

    async def flush(self) -> None:
        """Write the root if anything waits for it: it enters all validators of read pages."""
        if self._waits:
            await self.write_root()

    async def write_root(self) -> None:
        """Write the root pages, remove the pages of leaving projects, and close all records that
        waited for it.
        """
        started_s = time.monotonic()
        joining, leaving, waiting = self._joining, self._leaving, self._waiting
        self._joining, self._leaving, self._waiting = {}, set(), []
        store = self._store
        revision = await load_last_revision(store)
        projects = [
            (name, serial) for name, serial in await load_published(store) if name not in leaving
        ]
        if joining:
            projects = sorted(projects + list(joining.items()))
        async with fenced(store, self._holdings.pages, leaving):
            failed = await anyio.to_thread.run_sync(
                self._write_root, projects, revision, sorted(leaving)
            )
        self._record_unwritten(leaving, failed)
        leaving -= failed.keys()
        await record_unremoved(store, failed.keys())
        await self._mended.written(leaving, root=True)
        await record_published(
            store, list(joining.items()), leaving, waiting, root_revision=revision
        )
        now_s = time.monotonic()
        self._root_next_s = now_s + max(_ROOT_PAUSE_S, _ROOT_SHARE * (now_s - started_s))

    @property
    def _waits(self) -> bool:
        return bool(self._joining or self._leaving or self._waiting)

    def _record_unwritten(
        self, tried: Collection[ProjectName], failed: Mapping[ProjectName, TreeError]
    ) -> None:
        for name in tried:
            self._unwritten.pop(name, None)
        self._unwritten.update(failed)
        for name, error in failed.items():
            _log.error("page.unwritten", project=name, problem=str(error))

    def _write(self, pages: Sequence[PageState]) -> dict[ProjectName, TreeError]:
        """Write the pages of some projects; return those whose own directory does not let it."""
        tree = self._holdings.pages
        failed = tree.run_each({p.view.name: partial(self._write_one, p) for p in pages})
        tree.sync([p.view.name for p in pages if p.view.name not in failed], root=False)
        return failed

    def _write_one(self, page: PageState) -> None:
        tree, view = self._holdings.pages, page.view
        tree.write_project(view.name, render_project(view), is_durable=page.is_published)

    def _write_root(
        self,
        projects: Sequence[tuple[ProjectName, int]],
        revision: int,
        leaving: Sequence[ProjectName],
    ) -> dict[ProjectName, TreeError]:
        pages = self._holdings.pages
        pages.write_root(iter_root_html(projects, revision), iter_root_json(projects, revision))
        failed = pages.run_each({name: partial(pages.remove_project, name) for name in leaving})
        pages.sync([name for name in leaving if name not in failed], root=True)
        return failed
