"""The parsed listings of pages that wants may need, kept in ``ROOT/cache``.

A validator of such a page counts only while its listing is there. Links are kept as in the state:
without a query, relative to a secret address. A page whose links have a query is not kept, since
its files could not be fetched from it.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio.to_thread
import msgspec

from mirror.core.files.kept_links import KeptLinks
from mirror.core.model import ListedFile, ProjectPage
from mirror.tree.needed.cache import Cache

_KIND = "pages"


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    digest: str
    """Of the page."""
    page: ProjectPage


class ListingCache:
    """Pages by index and project."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache

    async def load(
        self, index: str, project: str, digest: str, links: KeptLinks
    ) -> ProjectPage | None:
        """Return the page with this digest, or None where it is lost."""

        def read() -> ProjectPage | None:
            body = self.cache.load(_KIND, f"{index}\n{project}")
            if body is None:
                return None
            try:
                kept = msgspec.msgpack.decode(body, type=_Kept)
            except msgspec.MsgspecError:
                return None
            if kept.digest != digest:
                return None
            return kept.page if links.secret_root is None else _with_links(kept.page, links.whole)

        return await anyio.to_thread.run_sync(read)

    async def save(
        self, index: str, project: str, digest: str, page: ProjectPage, links: KeptLinks
    ) -> bool:
        """Keep a page; return whether its links may be kept."""
        if any("?" in file.url for file in page.files):
            return False

        def write() -> None:
            kept = page if links.secret_root is None else _with_links(page, links.kept)
            body = msgspec.msgpack.encode(_Kept(digest=digest, page=kept))
            self.cache.save(_KIND, f"{index}\n{project}", body)

        await anyio.to_thread.run_sync(write)
        return True


def _with_links(page: ProjectPage, change: Callable[[str], str]) -> ProjectPage:
    files: list[ListedFile] = [
        msgspec.structs.replace(file, url=change(file.url)) for file in page.files
    ]
    return msgspec.structs.replace(page, files=tuple(files))
