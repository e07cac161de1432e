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
from mirror.serve.answers import not_found
from mirror.serve.blobs import BlobJudge
from mirror.serve.fronts import (
    answered,
    not_acceptable,
    page_headers,
    redirected,
)
from mirror.serve.pages import MetadataTags, PageCache
from mirror.serve.people.server import PeopleServer
from mirror.serve.requests.conditions import JoinedHeaders, is_unchanged
from mirror.serve.requests.negotiation import Form, select_form, takes_gzip
from mirror.serve.requests.routes import (
    PAGE_FILES,
    File,
    Page,
    Route,
    ShownRoute,
)
from mirror.serve.requests.target import Target
from mirror.serve.routing import answer_route
from mirror.serve.sending import FileAnswer, answer_part, unchanged
from mirror.serve.wishes import WishRecorder
from mirror.state.shown.served import Verdict
from mirror.tree.served import ServedTree

_ROOT_PLACE: Final = ("simple", "index.html")
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

    def close(self) -> None:
        """Close the state; wishes that wait are recorded."""
        if self._wishes is not None:
            self._wishes.close()
        self._judge.close()
        self._people.close()

    async def answer(self, request: BaseRequest) -> web.StreamResponse:
        """Return the answer to a request."""
        return await answered(request, self._route)

    async def _route(
        self, request: BaseRequest, target: Target, route: Route
    ) -> web.StreamResponse:
        return await answer_route(self, self._wishes, request, target, route)

    async def is_ready(self) -> bool:
        """Return whether the root page can be opened."""
        try:
            descriptor, _ = self._tree.open(_ROOT_PLACE, follows_owner=self._judge.has_state)
        except OSError:
            return False
        os.close(descriptor)
        return True

    async def metrics(self) -> bytes:
        """Return the metrics of the mirror and of this server."""
        return await self._people.metrics() + self._numbers()

    async def answer_people(
        self, request: BaseRequest, target: Target, route: ShownRoute
    ) -> web.StreamResponse | None:
        """Return a page for people; None where there is none."""
        return await self._people.answer(request, target, route)

    async def answer_page(
        self, request: BaseRequest, target: Target, page: Page
    ) -> web.StreamResponse:
        """Return a page of the index in the form that the client takes."""
        headers_in = JoinedHeaders(request.headers)
        form = page.form or select_form(headers_in.get("Accept"), target.format)
        name = PAGE_FILES[form or Form.HTML]
        # index.html and index.v1_html have the same bytes; a tree may have one of them alone.
        descriptor, found = self._tree.open(
            (*page.place, name), follows_owner=self._judge.has_state
        )
        try:
            if page.redirect is not None:
                return redirected(page.redirect, target)
            if form is None:
                return not_acceptable()
            gzip = takes_gzip(headers_in.get("Accept-Encoding"))
            sent = await self._pages.page(page.place, form, descriptor, found, gzip=gzip)
            headers = page_headers(form, etag=sent.etag, modified=sent.modified, gzip=gzip)
            if is_unchanged(headers_in, etag=sent.etag, modified=sent.modified):
                return unchanged(headers)
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

    async def answer_file(self, request: BaseRequest, file: File) -> web.StreamResponse:
        """Return a file or its metadata, unless it is withdrawn or unknown."""
        verdict = await self._judge.judge(file.sha256, file.filename)
        if verdict is Verdict.WITHDRAWN:
            reason = "it is withdrawn: by its index, or by an advisory"
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
    part = answer_part(request, size=found.st_size, modified=found.st_mtime, etag=etag)
    if isinstance(part, web.Response):
        return part
    return FileAnswer(
        descriptor, first=part.first, end=part.end, status=part.status, headers=part.headers
    )
