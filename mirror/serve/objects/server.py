"""Answers requests from an object store: stateless, so that any number of processes and machines do
it.

Invariants: while the store is away, pages, files and ``ready`` are 503, and nothing old is sent in
their place; a missing object is 404.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import web
from aiohttp.web_request import BaseRequest

from mirror.core.names import ProjectName
from mirror.core.store_address import StoreAddress
from mirror.holdings.wishes import WishFile
from mirror.metrics import CONTENT_TYPE
from mirror.serve.answers import no_store, not_found, plain
from mirror.serve.fronts import (
    FOREIGN_API,
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
from mirror.serve.people.server import answer_static
from mirror.serve.requests.conditions import JoinedHeaders, is_unchanged
from mirror.serve.requests.negotiation import Form, select_form, takes_gzip
from mirror.serve.requests.routes import (
    File,
    ForeignApi,
    Live,
    NoRoute,
    Numbers,
    Page,
    PeopleView,
    Ready,
    Route,
    ShownRoute,
    Static,
)
from mirror.serve.requests.target import Target
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
            return await self._answer(request, target, route)
        except StoreAway:
            answer = unreadable()
            answer.headers["Retry-After"] = str(_RETRY_S)
            return answer
        except FileNotFoundError:
            if self._wishes is not None and isinstance(route, Page) and route.project is not None:
                await self._wishes.record(route.project)
            raise

    async def _answer(
        self, request: BaseRequest, target: Target, route: Route
    ) -> web.StreamResponse:
        match route:
            case Page():
                return await self._page(request, target, route)
            case File():
                return await self._files.answer(request, route)
            case Live():
                return plain(HTTPStatus.OK, "alive\n")
            case Ready():
                return await self._ready()
            case Numbers():
                headers = {"Content-Type": CONTENT_TYPE}
                return no_store(web.Response(body=self._numbers(), headers=headers))
            case ShownRoute():
                if route.kind is PeopleView.OVERVIEW and route.redirect is None:
                    return await self._shown_list(request)
                return not_found()
            case Static():
                return answer_static(request, route) or not_found()
            case ForeignApi():
                return plain(HTTPStatus.NOT_FOUND, FOREIGN_API)
            case NoRoute():
                return not_found()

    async def _ready(self) -> web.StreamResponse:
        try:
            await self._pages.page(_ROOT, Form.HTML, gzip=False)
        except (FileNotFoundError, StoreAway):
            return plain(HTTPStatus.SERVICE_UNAVAILABLE, "unready\n")
        return plain(HTTPStatus.OK, "ready\n")

    async def _page(self, request: BaseRequest, target: Target, page: Page) -> web.StreamResponse:
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
