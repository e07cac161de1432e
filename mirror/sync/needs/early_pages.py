"""Pages that are asked for before the cycle comes to them: each once, several at the same time."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import anyio
import anyio.to_thread
import msgspec

from mirror.core.model import ProjectPage, Validators
from mirror.core.names import ProjectName
from mirror.errors import MirrorError, StateError, TreeError
from mirror.state.listing.due import Due, ProjectRow, load_due
from mirror.state.wants.needs import NamedRow, load_named
from mirror.sync.cycle_parts import PageScope
from mirror.sync.pages.asking import fetch_page
from mirror.sync.pages.echoes import without_own_secrets
from mirror.sync.work import EarlyPage, IndexRun
from mirror.upstream.index import Unchanged
from mirror.workers.concurrency import work_through

_KEPT_FILES = 100_000
"""Maximum number of listed files of fresh pages that stay in memory; others are read from the
cache.
"""


class EarlyPages:
    """The pages of one cycle that were asked for early, by index and project."""

    def __init__(
        self,
        scope: PageScope,
        dues: Sequence[tuple[IndexRun, Due]],
        resting: Sequence[tuple[IndexRun, Due]] = (),
    ) -> None:
        """``resting``: indexes that this cycle does not read; only unknown pages are asked for."""
        self._scope, self._holdings = scope, scope.holdings
        ordered = sorted([*dues, *resting], key=lambda pair: pair[0].source.position)
        self.dues = {run.source.id: (run, due) for run, due in ordered}
        """By the index's number, in the order of the indexes."""
        self.named: dict[ProjectName, dict[int, NamedRow]] = {}
        """The indexes that list a project that was asked for."""
        self._resting = {run.name for run, _ in resting}
        self._seen: dict[ProjectName, anyio.Event] = {}
        """The names that were asked for, each with the end of its reading."""
        self._rows: dict[tuple[int, ProjectName], ProjectRow] = {}
        self._kept_files = 0

    async def see(self, names: Collection[ProjectName]) -> None:
        """Ask for the pages of some projects, several at the same time."""
        new = sorted({name for name in names if name not in self._seen})
        others = [self._seen[name] for name in names if name in self._seen]
        done = anyio.Event()
        self._seen |= dict.fromkeys(new, done)
        try:
            if new:
                await self._see_all(new)
        finally:
            done.set()
        for event in others:
            if not event.is_set():  # another resolution asks for them at the moment
                await event.wait()

    async def _see_all(self, names: Sequence[ProjectName]) -> None:
        for row in await load_named(self._holdings.store, names):
            self.named.setdefault(row.name, {})[row.source] = row
        async with anyio.create_task_group() as tasks:
            for run, due in self.dues.values():
                if run.reach.ended is None:
                    tasks.start_soon(self._see_index, run, due, names)

    async def _see_index(self, run: IndexRun, due: Due, names: Sequence[ProjectName]) -> None:
        rows: list[ProjectRow] = []
        for start in range(0, len(names), 500):
            only = tuple(names[start : start + 500])
            narrowed = msgspec.structs.replace(
                due,
                only=only,
                unlisted=(),
                trust_serials=False,
                only_held=False,
                now=math.inf,
                is_needed=False,
            )
            rows += [
                row async for chunk in load_due(self._holdings.store, narrowed) for row in chunk
            ]
        for row in rows:
            self._rows[run.source.id, row.name] = row
        waiting = iter([row for row in rows if row.name not in run.pages.early])

        async def next_row() -> ProjectRow:
            row = next(waiting, None)
            if row is None:
                raise anyio.EndOfStream
            return row

        async def read(row: ProjectRow) -> None:
            run.pages.early[row.name] = await self._ask(run, due, row)

        await work_through(next_row, read, run.access.page_width)

    async def _ask(self, run: IndexRun, due: Due, row: ProjectRow) -> EarlyPage:
        links = self._holdings.store.links_of(run.source.id)
        known = None if self._scope.options.full or row.needs_page else row.validators
        page = await self.load(run, row.name, known)
        if page is None:
            known = None
        if (
            known is not None
            and due.trust_serials
            # A page's own serial says nothing where the root lists none to compare it with.
            and row.listed_serial is not None
            and row.listed_serial == known.serial
        ):
            return EarlyPage(validators=known, origin=row.page_origin, page=self._kept(page))
        if page is not None and run.name in self._resting:
            return EarlyPage(validators=known, origin=row.page_origin, page=self._kept(page))
        lease = run.access.client.memory.lease()
        try:
            run.pages.asked += 1
            answer = await fetch_page(run, row, known, lease)
        except (StateError, TreeError):
            raise
        except MirrorError as exc:
            return EarlyPage(error=exc)
        finally:
            lease.release()
        if answer is None or isinstance(answer, Unchanged):
            validators = known if answer is None else answer.validators
            origin = row.page_origin if answer is None else answer.origin
            return EarlyPage(validators=validators, origin=origin, page=self._kept(page))
        fresh = without_own_secrets(answer.page)
        listings = self._scope.wants.listings
        assert listings is not None
        assert answer.validators.digest is not None
        is_kept = await listings.save(run.name, row.name, answer.validators.digest, fresh, links)
        kept = self._kept(fresh) if is_kept else fresh
        return EarlyPage(validators=answer.validators, origin=answer.origin, page=kept)

    def _kept(self, page: ProjectPage | None) -> ProjectPage | None:
        """Return a page that stays in memory, while there is room; it is in the cache too."""
        if page is None or self._kept_files + len(page.files) > _KEPT_FILES:
            return None
        self._kept_files += len(page.files)
        return page

    async def load(
        self, run: IndexRun, name: ProjectName, known: Validators | None
    ) -> ProjectPage | None:
        """Return a listing that is in the cache."""
        if known is None or known.digest is None or self._scope.wants.listings is None:
            return None
        links = self._holdings.store.links_of(run.source.id)
        return await self._scope.wants.listings.load(run.name, name, known.digest, links)

    def find(
        self, run: IndexRun, project: ProjectName
    ) -> tuple[EarlyPage | None, ProjectRow | None]:
        """Return a page that was asked for and its row; None for one that its root lacks."""
        return run.pages.early.get(project), self._rows.get((run.source.id, project))
