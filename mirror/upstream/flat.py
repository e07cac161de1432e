"""An index that is one flat page: its root and the pages of its projects are parts of that page.

The page is requested once in a cycle. While it is unchanged its content is not needed, unless a
project has to be read again: then it is read once more, for all projects.
"""

from __future__ import annotations

from collections.abc import Iterable

import anyio

from mirror.core.files.links import too_many_files
from mirror.core.model import ProjectPage, Validators
from mirror.core.names import ProjectName
from mirror.core.pages.flat import FlatPage, group_files, validators_of_part
from mirror.upstream.index import IndexClient, PageAnswer, Read, RootAnswer, Unchanged
from mirror.upstream.limits.memory import PageLease


class FlatClient:
    """The parts of one flat page, with the functions of an ``IndexClient``."""

    reads_alone = True

    def __init__(self, page: IndexClient, *, max_files: int) -> None:
        self._page = page
        self._max_files = max_files
        self._read: FlatPage | None = None
        self._origin: str | None = None
        self._given: set[ProjectName] = set()
        """Projects that were read from this content: a second request for one of them needs newer
        content.
        """
        self._lock = anyio.Lock()
        self.memory = page.memory

    def expect(self, root: Validators | None, pages: Iterable[tuple[str, str | None]]) -> None:
        """Take over the root's validators, and whether a page was served before."""
        self._page.expect_flat(root, was_served=any(True for _ in pages))

    async def fetch_root(self, validators: Validators | None) -> RootAnswer:
        """Read the page unless it is unchanged. Raises ``UpstreamError``; ``BadPage``."""
        answer = await self._page.fetch_flat(validators)
        if isinstance(answer, Unchanged):
            return answer
        self._keep(answer)
        assert self._read is not None
        return Read(page=self._read.root, validators=answer.validators, origin=answer.origin)

    async def fetch_project(
        self,
        name: ProjectName,
        validators: Validators | None,
        address: str | None = None,  # noqa: ARG002 - as an IndexClient has it; here there is one address
        lease: PageLease | None = None,  # noqa: ARG002 - the one page is in memory all the time
    ) -> PageAnswer:
        """Return a project's part of the page. Raises ``UpstreamError``; ``BadPage``."""
        if self._read is None and validators is not None:
            return Unchanged(validators=validators, origin=self._origin)
        async with self._lock:
            if self._read is None or (validators is None and name in self._given):
                answer = await self._page.fetch_flat(None)
                assert isinstance(answer, Read)
                self._keep(answer)
        assert self._read is not None
        self._given.add(name)
        page = self._read.projects.get(name)
        if page is None:
            page = ProjectPage(name=name, files=(), is_html=True, is_whole=self._read.root.is_whole)
        if len(page.files) > self._max_files:
            raise too_many_files(self._page.url, self._max_files)
        current = validators_of_part(page)
        if current == validators:
            return Unchanged(validators=current, origin=self._origin)
        return Read(page=page, validators=current, origin=self._origin)

    async def answers(self) -> bool:
        """Return whether the index gives any answer."""
        return await self._page.answers()

    def _keep(self, answer: Read[ProjectPage]) -> None:
        self._read, self._origin = group_files(answer.page), answer.origin
        self._given.clear()
