"""Answers requests: the file of an address is opened, judged and sent.

Read-only; writes nothing, takes no lock.

Invariants: a missing or foreign file is 404; no input of a client causes an answer of 5xx; every
link and redirect is relative; no answer names a path of this host.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from aiohttp import web
from aiohttp.web_request import BaseRequest

from mirror.logs import get_logger
from mirror.metrics import CONTENT_TYPE
from mirror.serve.answers import no_store, not_found, plain
from mirror.serve.blobs import BlobJudge
from mirror.serve.pages import MetadataTags, PageCache
from mirror.serve.people.server import PeopleServer, answer_static
from mirror.serve.requests.conditions import (
    ByteRange,
    JoinedHeaders,
    Unsatisfiable,
    format_date,
    is_unchanged,
    select_part,
)
from mirror.serve.requests.negotiation import Form, select_form, takes_gzip
from mirror.serve.requests.routes import (
    PAGE_FILES,
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
    find_route,
)
from mirror.serve.requests.target import MalformedTargetError, Target, parse_target
from mirror.serve.sending import FileAnswer
from mirror.serve.wishes import WishRecorder
from mirror.state.shown.served import Verdict
from mirror.tree.served import ServedTree

PAGE_CACHING: Final = "max-age=600"
FILE_CACHING: Final = "max-age=31536000, immutable"
PAGE_POLICY: Final = "default-src 'none'; sandbox allow-downloads"
"""A browser that shows a page of the index runs no script of it, and may download its links."""

_ROOT_PLACE: Final = ("simple", "index.html")
_NO_UPLOADS: Final = "This index takes no uploads: it answers GET and HEAD.\n"
_FOREIGN_API: Final = (
    "This API is not here. Installers use /simple/PROJECT/;"
    " the facts about a project are at /-/api/v1/projects/PROJECT.\n"
)
_log = get_logger(__name__)


class IndexServer:
    """Answers one process's requests."""

    def __init__(
        self,
        tree: ServedTree,
        judge: BlobJudge,
        people: PeopleServer,
        numbers: Callable[[], bytes],
        wishes: WishRecorder | None = None,
    ) -> None:
        """``numbers``: renders this server's own metrics."""
        self._tree, self._judge, self._people, self._numbers = tree, judge, people, numbers
        self._wishes = wishes
        self._pages = PageCache()
        self._metadata = MetadataTags()

    async def answer(self, request: BaseRequest) -> web.StreamResponse:
        """Return the answer to a request."""
        if request.method not in {"GET", "HEAD"}:
            answer = plain(HTTPStatus.METHOD_NOT_ALLOWED, _NO_UPLOADS)
            answer.headers["Allow"] = "GET, HEAD"
            return answer
        try:
            target = parse_target(request.message.path)
        except MalformedTargetError as exc:
            client = str(request.get("client") or "unix")
            _log.debug("request.malformed", client=client, problem=str(exc))
            return plain(HTTPStatus.BAD_REQUEST, f"It is malformed: {exc}.\n")
        route = find_route(target)
        try:
            return await self._route(request, target, route)
        except FileNotFoundError:
            if self._wishes is not None and isinstance(route, Page) and route.project is not None:
                await self._wishes.record(route.project, follows_owner=self._judge.has_state)
            return not_found()
        except OSError as exc:
            if isinstance(exc, ConnectionError):
                raise
            _log.error(
                "tree.unreadable", path="/".join(target.segments), problem=exc.strerror or str(exc)
            )
            return plain(
                HTTPStatus.SERVICE_UNAVAILABLE, "This can't be read at the moment: see the log.\n"
            )

    async def _route(
        self, request: BaseRequest, target: Target, route: Route
    ) -> web.StreamResponse:
        match route:
            case Page():
                return await self._page(request, target, route)
            case File():
                return await self._file(request, route)
            case Live():
                return plain(HTTPStatus.OK, "alive\n")
            case Ready():
                return self._ready()
            case Numbers():
                body = await self._people.metrics() + self._numbers()
                return no_store(web.Response(body=body, headers={"Content-Type": CONTENT_TYPE}))
            case ShownRoute():
                return await self._people.answer(request, target, route) or not_found()
            case Static():
                return answer_static(request, route) or not_found()
            case ForeignApi():
                return plain(HTTPStatus.NOT_FOUND, _FOREIGN_API)
            case NoRoute():
                return not_found()

    def _ready(self) -> web.StreamResponse:
        try:
            descriptor, _ = self._tree.open(_ROOT_PLACE, follows_owner=self._judge.has_state)
        except OSError:
            return plain(HTTPStatus.SERVICE_UNAVAILABLE, "unready\n")
        os.close(descriptor)
        return plain(HTTPStatus.OK, "ready\n")

    async def _page(self, request: BaseRequest, target: Target, page: Page) -> web.StreamResponse:
        headers_in = JoinedHeaders(request.headers)
        form = page.form or select_form(headers_in.get("Accept"), target.format)
        name = PAGE_FILES[form or Form.HTML]
        # index.html and index.v1_html have the same bytes; a tree may have one of them alone.
        descriptor, found = self._tree.open(
            (*page.place, name), follows_owner=self._judge.has_state
        )
        try:
            if page.redirect is not None:
                return _redirect(page.redirect, target)
            if form is None:
                return _vary(
                    plain(
                        HTTPStatus.NOT_ACCEPTABLE,
                        "This page is text/html or PEP 691's HTML or JSON.\n",
                    )
                )
            gzip = takes_gzip(headers_in.get("Accept-Encoding"))
            sent = await self._pages.page(page.place, form, descriptor, found, gzip=gzip)
            headers = {
                "Content-Type": f"{form.value}; charset=utf-8" if form is Form.HTML else form.value,
                "ETag": sent.etag,
                "Last-Modified": format_date(sent.modified),
                "Cache-Control": PAGE_CACHING,
                "Vary": "Accept, Accept-Encoding",
            }
            if form.is_html:
                headers["Content-Security-Policy"] = PAGE_POLICY
            if gzip:
                headers["Content-Encoding"] = "gzip"
            if is_unchanged(headers_in, etag=sent.etag, modified=sent.modified):
                return _unchanged(headers)
            if sent.body is not None:
                return web.Response(body=sent.body, headers=headers)
            answer = FileAnswer(
                descriptor, first=0, end=sent.size, status=HTTPStatus.OK, headers=headers
            )
            descriptor = -1
            return answer
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    async def _file(self, request: BaseRequest, file: File) -> web.StreamResponse:
        verdict = await self._judge.judge(file.sha256, file.filename)
        if verdict is Verdict.WITHDRAWN:
            reason = "its index has withdrawn the project"
            _log.info("file.refused", filename=file.filename, sha256=file.sha256, reason=reason)
        if verdict is not Verdict.SERVED:
            return not_found()
        descriptor, found = self._tree.open(file.place, follows_owner=self._judge.has_state)
        try:
            digest = (
                await self._metadata.digest(descriptor, found) if file.is_metadata else file.sha256
            )
            answer = _file_answer(request, descriptor, found, f'"{digest}"')
            if isinstance(answer, FileAnswer):
                descriptor = -1
            return answer
        finally:
            if descriptor >= 0:
                os.close(descriptor)


def _file_answer(
    request: BaseRequest, descriptor: int, found: os.stat_result, etag: str
) -> web.StreamResponse:
    headers = {
        "Content-Type": "application/octet-stream",
        "ETag": etag,
        "Last-Modified": format_date(found.st_mtime),
        "Cache-Control": FILE_CACHING,
        "Accept-Ranges": "bytes",
    }
    headers_in = JoinedHeaders(request.headers)
    if is_unchanged(headers_in, etag=etag, modified=found.st_mtime):
        return _unchanged(headers)
    size, part = found.st_size, None
    if request.method == "GET":  # the only method with ranges (RFC 9110, 14.2)
        part = select_part(headers_in, size=size, etag=etag, modified=found.st_mtime)
    if isinstance(part, Unsatisfiable):
        answer = plain(
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            "The range begins past the end of the file.\n",
        )
        answer.headers["Content-Range"] = f"bytes */{size}"
        return answer
    if part is None:
        return FileAnswer(descriptor, first=0, end=size, status=HTTPStatus.OK, headers=headers)
    assert isinstance(part, ByteRange)
    headers["Content-Range"] = f"bytes {part.first}-{part.end - 1}/{size}"
    return FileAnswer(
        descriptor,
        first=part.first,
        end=part.end,
        status=HTTPStatus.PARTIAL_CONTENT,
        headers=headers,
    )


def _vary(answer: web.Response) -> web.Response:
    answer.headers["Vary"] = "Accept, Accept-Encoding"
    return answer


def _redirect(where: str, target: Target) -> web.Response:
    location = f"{where}?{target.query}" if target.query else where
    headers = {"Location": location, "Cache-Control": PAGE_CACHING}
    return web.Response(status=HTTPStatus.MOVED_PERMANENTLY, text=f"{where}\n", headers=headers)


def _unchanged(headers: dict[str, str]) -> web.Response:
    kept = {
        name: value
        for name, value in headers.items()
        if name not in {"Content-Type", "Content-Encoding"}
    }
    return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=kept)
