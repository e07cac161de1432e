"""One answer for each kind of route, whether the tree lies on a disk or in an object store."""

from __future__ import annotations

from http import HTTPStatus
from typing import Protocol

from aiohttp import web
from aiohttp.web_request import BaseRequest

from mirror.metrics import CONTENT_TYPE
from mirror.serve.answers import no_store, not_found, plain
from mirror.serve.fronts import FOREIGN_API
from mirror.serve.people.server import answer_static
from mirror.serve.requests.routes import (
    File,
    ForeignApi,
    Live,
    NoRoute,
    Numbers,
    Page,
    Ready,
    Route,
    ShownRoute,
    Static,
)
from mirror.serve.requests.target import Target
from mirror.serve.wishes import WishRecorder


class RouteSource(Protocol):
    """A tree that is served; each method raises ``FileNotFoundError`` for a missing file."""

    async def answer_page(
        self, request: BaseRequest, target: Target, page: Page
    ) -> web.StreamResponse:
        """Return a page of the index in the form that the client takes."""

    async def answer_file(self, request: BaseRequest, file: File) -> web.StreamResponse:
        """Return a file or its metadata."""

    async def answer_people(
        self, request: BaseRequest, target: Target, route: ShownRoute
    ) -> web.StreamResponse | None:
        """Return a page for people; None where there is none."""

    async def is_ready(self) -> bool:
        """Return whether the root page is there."""

    async def metrics(self) -> bytes:
        """Return the metrics."""


async def answer_route(
    source: RouteSource,
    wishes: WishRecorder | None,
    request: BaseRequest,
    target: Target,
    route: Route,
) -> web.StreamResponse:
    """Return the answer of a route; the name of a missing project becomes a wish."""
    try:
        return await _answer(source, request, target, route)
    except FileNotFoundError:
        if wishes is not None and isinstance(route, Page) and route.project is not None:
            await wishes.record(route.project)
        raise


async def _answer(
    source: RouteSource, request: BaseRequest, target: Target, route: Route
) -> web.StreamResponse:
    match route:
        case Page():
            return await source.answer_page(request, target, route)
        case File():
            return await source.answer_file(request, route)
        case Live():
            return plain(HTTPStatus.OK, "alive\n")
        case Ready():
            if await source.is_ready():
                return plain(HTTPStatus.OK, "ready\n")
            return plain(HTTPStatus.SERVICE_UNAVAILABLE, "unready\n")
        case Numbers():
            headers = {"Content-Type": CONTENT_TYPE}
            return no_store(web.Response(body=await source.metrics(), headers=headers))
        case ShownRoute():
            return await source.answer_people(request, target, route) or not_found()
        case Static():
            return answer_static(request, route) or not_found()
        case ForeignApi():
            return plain(HTTPStatus.NOT_FOUND, FOREIGN_API)
        case NoRoute():
            return not_found()
