"""Answers requests from an object store: stateless, so that any number of processes and machines do
it.

Invariants: while the store is away, pages, files and ``ready`` are 503, and nothing old is sent in
their place; a missing object is 404.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Final

import msgspec
from aiohttp import web
from aiohttp.web_request import BaseRequest

from mirror.core.names import ProjectName
from mirror.core.store_address import StoreAddress
from mirror.holdings.wishes import WishFile
from mirror.serve.answers import not_found
from mirror.serve.fronts import (
    answered,
    not_acceptable,
    page_headers,
    redirected,
    unreadable,
)
from mirror.serve.objects.files import StoredFiles
from mirror.serve.objects.listing import answer_list, render_list
from mirror.serve.objects.pages import StoredPages
from mirror.serve.objects.source import ObjectReader, ObjectSource, StoreAway, StoreReader
from mirror.serve.requests.conditions import JoinedHeaders, is_unchanged
from mirror.serve.requests.negotiation import Form, select_form, takes_gzip
from mirror.serve.requests.routes import (
    File,
    Page,
    PeopleView,
    Route,
    ShownRoute,
)
from mirror.serve.requests.target import Target
from mirror.serve.routing import answer_route
from mirror.serve.sending import unchanged
from mirror.serve.wishes import WishRecorder

_ROOT: Final = ("simple",)
_RETRY_S: Final = 5


class ObjectServer:
    """Answers one process's requests."""

    def __init__(
        self,
        source: ObjectSource,
        numbers: Callable[[], bytes],
        *,
        redirects: bool,
        wishes: WishFile | None = None,
    ) -> None:
        """``numbers``: renders this server's own metrics. ``redirects``: as of ``StoredFiles``."""
        self._source, self._numbers = source, numbers
        self._pages = StoredPages(source)
        self._files = StoredFiles(source, redirects=redirects)
        self._list: tuple[str, bytes] = ("", b"")
        presence = StoredPresence(self._pages)
        self._wishes = WishRecorder(wishes, presence) if wishes is not None else None

    async def answer(self, request: BaseRequest) -> web.StreamResponse:
        """Return the answer to a request."""
        return await answered(request, self._route)

    def close(self) -> None:
        """Start no further call to the store; wishes that wait are recorded."""
        if self._wishes is not None:
            self._wishes.close()
        self._source.close()

    async def _route(
        self, request: BaseRequest, target: Target, route: Route
    ) -> web.StreamResponse:
        try:
            return await answer_route(self, self._wishes, request, target, route)
        except StoreAway:
            answer = unreadable()
            answer.headers["Retry-After"] = str(_RETRY_S)
            return answer

    async def is_ready(self) -> bool:
        """Return whether the store gives the root page."""
        try:
            await self._pages.page(_ROOT, Form.HTML, gzip=False)
        except (FileNotFoundError, StoreAway):
            return False
        return True

    async def metrics(self) -> bytes:
        """Return the metrics of this server."""
        return self._numbers()

    async def answer_file(self, request: BaseRequest, file: File) -> web.StreamResponse:
        """Return a file or its metadata."""
        return await self._files.answer(request, file)

    async def answer_people(
        self, request: BaseRequest, _target: Target, route: ShownRoute
    ) -> web.StreamResponse | None:
        """Return the list of projects, the one page for people here."""
        if route.kind is PeopleView.OVERVIEW and route.redirect is None:
            return await self._shown_list(request)
        return None

    async def answer_page(
        self, request: BaseRequest, target: Target, page: Page
    ) -> web.StreamResponse:
        """Return a page of the index in the form that the client takes."""
        headers_in = JoinedHeaders(request.headers)
        form = page.form or select_form(headers_in.get("Accept"), target.format)
        gzip = takes_gzip(headers_in.get("Accept-Encoding"))
        sent = await self._pages.page(page.place, form or Form.HTML, gzip=gzip)
        if page.redirect is not None:
            return redirected(page.redirect, target)
        if form is None:
            return not_acceptable()
        headers = page_headers(form, etag=sent.etag, modified=sent.modified, gzip=gzip)
        if is_unchanged(headers_in, etag=sent.etag, modified=sent.modified):
            return unchanged(headers)
        return web.Response(body=sent.body, headers=headers)

    async def _shown_list(self, request: BaseRequest) -> web.StreamResponse:
        root = await self._pages.page(_ROOT, Form.JSON, gzip=False)
        if self._list[0] != root.etag:
            loop = asyncio.get_running_loop()
            try:
                body = await loop.run_in_executor(None, render_list, root.body)
            except msgspec.MsgspecError:
                return not_found()
            self._list = (root.etag, body)
        return answer_list(request, self._list[1])


class StoredPresence:
    """Pages of a store: whether one is there."""

    def __init__(self, pages: StoredPages) -> None:
        self._pages = pages

    async def mark(self, name: ProjectName | None) -> str | None:
        """Return the ETag of a page; None for no page. Raises ``StoreAway``."""
        place = _ROOT if name is None else (*_ROOT, name)
        try:
            return (await self._pages.page(place, Form.HTML, gzip=False)).etag
        except FileNotFoundError:
            return None


def open_object_server(
    address: StoreAddress,
    store_url: str | None,
    numbers: Callable[[], bytes],
    wishes: WishFile | None = None,
) -> ObjectServer:
    """Return the server of one process; the store is first asked by a request.

    ``store_url``: how clients reach the store, where files are redirected there.
    """
    env = dict(os.environ)

    def open_reader() -> ObjectReader:
        return StoreReader(address, env, store_url=store_url)

    return ObjectServer(
        ObjectSource(open_reader), numbers, redirects=store_url is not None, wishes=wishes
    )
