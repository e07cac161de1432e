"""Compare the objects of a store with the state: blobs by their bytes, pages with their expected
content.

Only reads. Each difference is checked again by the caller before it is called damage.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

import anyio.to_thread

from mirror.core.names import ProjectName
from mirror.core.pages.render_pages import iter_root_html, iter_root_json, render_project
from mirror.holdings.holdings import Holdings
from mirror.state.blobs.verified import BlobRow, load_known_files
from mirror.state.entries.pages import PageState, load_pages, load_published
from mirror.state.store import Store
from mirror.tree.checking.blobs import BlobCheck, DamageKind
from mirror.tree.checking.unknown import sort_unknown
from mirror.tree.file_form import form_problem
from mirror.tree.objects.client import ObjectClient
from mirror.tree.objects.keys import ROOT_HTML, ROOT_JSON, blob_key, page_keys, sidecar_key
from mirror.upkeep.findings import Finding, Verification
from mirror.upkeep.settled_pages import (
    PAGES_AT_ONCE,
    is_page_wrong,
    is_root_wrong,
    wrong_pages,
)
from mirror.upkeep.stores.listing import OUTERS, list_files, list_pages, unknown_of
from mirror.workers.checking import BlobQuestion

_THREADS: Final = 16
_READERS: Final = 8


def check_object(client: ObjectClient, blob: BlobRow | BlobQuestion) -> BlobCheck:
    """Hash a blob again and compare its metadata. Blocking. Raises ``TreeError``."""
    with client.reading(blob_key(blob.sha256, blob.filename)) as found:
        if found is None:
            return BlobCheck(damage=DamageKind.MISSING, detail="the object is not there")
        status, blocks = found
        if status.size != blob.size:
            detail = f"{blob.size} bytes are recorded, {status.size} are there"
            return BlobCheck(damage=DamageKind.SIZE, detail=detail)
        digest, problem = hashlib.sha256(), ""
        if blob.is_vouched:
            for block in blocks:
                digest.update(block)
        else:  # its form is all that can be judged, which needs all of it
            with tempfile.TemporaryFile() as file:
                for block in blocks:
                    digest.update(block)
                    file.write(block)
                file.seek(0)
                problem = form_problem(file, blob.filename)
    actual = digest.hexdigest()
    if actual != blob.sha256:
        detail = f"the bytes have sha256 {actual}"
        return BlobCheck(damage=DamageKind.BYTES, detail=detail, bytes_read=blob.size)
    if problem:
        detail = f"the index lists no digest, and {problem}"
        return BlobCheck(damage=DamageKind.BAD_FILE, detail=detail, bytes_read=blob.size)
    return _check_metadata(client, blob)


def _check_metadata(client: ObjectClient, blob: BlobRow | BlobQuestion) -> BlobCheck:
    detail = ""
    if blob.metadata_sha256:
        got = client.get(sidecar_key(blob.sha256, blob.filename))
        if got is None:
            detail = "its metadata is not there"
        elif hashlib.sha256(got[0]).hexdigest() != blob.metadata_sha256:
            detail = "its metadata has other bytes than recorded"
    damage = DamageKind.SIDECAR if detail else None
    return BlobCheck(damage=damage, detail=detail, bytes_read=blob.size)


class ObjectCheckers:
    """Checks blobs of a store in threads."""

    width: Final = _READERS
    """How many batches are checked at once."""

    def __init__(self, client: ObjectClient, count_bytes: Callable[[int], None]) -> None:
        self._client, self._count_bytes = client, count_bytes

    async def check(self, blobs: Sequence[BlobQuestion]) -> Sequence[BlobCheck]:
        """Return the results for a batch. Raises ``TreeError``."""
        found = []
        for blob in blobs:
            one = await anyio.to_thread.run_sync(
                check_object, self._client, blob, abandon_on_cancel=True
            )
            self._count_bytes(one.bytes_read)
            found.append(one)
        return found

    def close(self) -> None:
        """Nothing to do."""


async def check_store(holdings: Holdings, client: ObjectClient, into: Verification) -> None:
    """Find foreign objects, and pages that differ from the state."""
    into.doing = "looking for foreign objects"
    for outer in OUTERS:
        # First the store, then the state: a file that a cycle adds in between then has its row.
        there = await anyio.to_thread.run_sync(list_files, client, outer)
        known = await load_known_files(holdings.store, outer)
        foreign, leftovers = sort_unknown(map(unknown_of, there.values()), known)
        into.leftovers += len(leftovers)
        _add_foreign(into, client, foreign, "no blob belongs here")
    into.doing = "comparing pages"
    await _check_pages(holdings.store, client, into)


async def _check_pages(store: Store, client: ObjectClient, into: Verification) -> None:
    compare = partial(_compare_pages, client)
    published = [name for name, _ in await load_published(store)]
    for start in range(0, len(published), PAGES_AT_ONCE):
        some = published[start : start + PAGES_AT_ONCE]
        for name in await wrong_pages(store, compare, some):
            if await is_page_wrong(store, compare, name):
                detail = "a page of it is missing or is not what the state says"
                path = client.address.shown(f"simple/{name}")
                into.add(Finding(damage=DamageKind.PAGE, path=path, detail=detail, project=name))
        into.pages_checked += len(some)
    if await is_root_wrong(store, partial(_is_other_root, client)):
        detail = "the root page is missing or is not what the state says"
        path = client.address.shown("simple")
        into.add(Finding(damage=DamageKind.PAGE, path=path, detail=detail))
    pages = await anyio.to_thread.run_sync(list_pages, client)
    _add_foreign(into, client, pages.foreign, "no page has this name")
    unknown = pages.projects - {name for name, _ in await load_published(store)}
    for name in sorted(unknown):
        if not await load_pages(store, [name]):
            keys = [key for key in page_keys(name) if key in pages.tags]
            _add_foreign(into, client, keys, "no project of the state has a page here")


def _add_foreign(
    into: Verification, client: ObjectClient, keys: Sequence[str], detail: str
) -> None:
    for key in keys:
        path = client.address.shown(key)
        into.add(Finding(damage=DamageKind.FOREIGN, path=path, detail=detail))


def _compare_pages(client: ObjectClient, pages: Sequence[PageState]) -> list[ProjectName]:
    def is_wrong(page: PageState) -> bool:
        rendered = render_project(page.view)
        expected = zip(page_keys(page.view.name), (rendered.html, rendered.json), strict=True)
        return any((got := client.get(key)) is None or got[0] != data for key, data in expected)

    with ThreadPoolExecutor(_THREADS) as threads:
        wrong = list(threads.map(is_wrong, pages))
    return [page.view.name for page, bad in zip(pages, wrong, strict=True) if bad]


def _is_other_root(
    client: ObjectClient, projects: Sequence[tuple[ProjectName, int]], written: int
) -> bool:
    expected = ((ROOT_HTML, iter_root_html), (ROOT_JSON, iter_root_json))
    return any(
        (got := client.get(key)) is None or got[0] != b"".join(render(projects, written))
        for key, render in expected
    )
