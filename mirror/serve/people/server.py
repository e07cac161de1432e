"""Answers the addresses of pages for people and of the API, in threads.

Two readings: one for pages that a person waits for (search, a project), one for pages that may take
longer in a large mirror (overview, changes, failures, the status), so that the second never delays
the first.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections.abc import Callable, Hashable
from functools import partial
from http import HTTPStatus
from typing import Final

from aiohttp import web
from aiohttp.web_request import BaseRequest

from mirror.config import Config
from mirror.serve.access.proxies import Proxies
from mirror.serve.api.answers import (
    JsonAnswer,
    answer_changes,
    answer_project,
    answer_projects,
    answer_status,
    parse_number,
)
from mirror.serve.api.objects import render_schema
from mirror.serve.connections.protocol import Connection
from mirror.serve.facts.reading import Reading
from mirror.serve.facts.tree_pages import NameList, load_project_page
from mirror.serve.people import views
from mirror.serve.people.address import put_address
from mirror.serve.people.kept import Rendered, RenderedCache
from mirror.serve.people.metrics import MirrorMetrics
from mirror.serve.people.static_files import STATIC_FILES
from mirror.serve.people.views import Site
from mirror.serve.requests.conditions import is_unchanged
from mirror.serve.requests.negotiation import takes_gzip
from mirror.serve.requests.routes import Api, PeopleView, ShownRoute, Static
from mirror.serve.requests.target import Target
from mirror.serve.state_warning import StateWarning
from mirror.tree.layout import Layout
from mirror.tree.served import ServedTree

PEOPLE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
JSON: Final = "application/json"
_FOREVER: Final = "max-age=31536000, immutable"
_GZIP_FROM: Final = 1_024
_GZIP_LEVEL: Final = 5
_ON_LOOP_BYTES: Final = 32 << 10
_LONGEST_QUERY: Final = 200
_NEVER: Final = float(2**60)
"""These answers have no date of modification: only a tag counts."""
_SLOW: Final = frozenset(
    {
        PeopleView.OVERVIEW,
        PeopleView.CHANGES,
        PeopleView.FEED,
        PeopleView.FAILURES,
        PeopleView.WANTS,
        PeopleView.SNAPSHOTS,
        Api.STATUS,
        Api.CHANGES,
    }
)


class PeopleServer:
    """The pages for people and the API of one process."""

    def __init__(
        self, config: Config, tree: ServedTree, warning: StateWarning, proxies: Proxies
    ) -> None:
        state, layout = config.mirror.state, Layout(config.mirror.root)
        self._proxies = proxies
        self._quick, self._slow = (Reading(state, tree, warning) for _ in range(2))
        self._kept = {one: RenderedCache(one) for one in (self._quick, self._slow)}
        self._metrics = MirrorMetrics(self._slow, config)
        self._sites = {
            one: Site(config=config, layout=layout, names=NameList()) for one in self._kept
        }

    def close(self) -> None:
        """End the threads."""
        for reading in self._kept:
            reading.close()

    async def answer(
        self, request: BaseRequest, target: Target, shown: ShownRoute
    ) -> web.Response | None:
        """Return the answer; None where there is nothing at this address."""
        base = self._base(request)
        text = (target.value("q") or "").strip()[:_LONGEST_QUERY]
        is_search = shown.kind is PeopleView.OVERVIEW and bool(text)
        is_slow = shown.kind in _SLOW and not is_search
        reading = self._slow if is_slow else self._quick
        site = self._sites[reading]
        if shown.redirect is not None:
            return await self._redirect(reading, target, shown)
        if shown.kind is PeopleView.SETUP:
            page = await reading.run(lambda: views.setup_page(reading, base))
            return await send(request, page, base)
        key, render = _select_render(reading, site, target, shown, text)
        page = await self._kept[reading].get(key, render)
        return await send(request, page, base)

    async def metrics(self) -> bytes:
        """Return the state's facts in Prometheus' text format."""
        return await self._slow.run(self._metrics.render)

    def _base(self, request: BaseRequest) -> str:
        """Return the server's address as this client sees it; it ends in a slash."""
        connection, transport = request.protocol, request.transport
        assert isinstance(connection, Connection)
        is_tls, fallback = False, "localhost"
        if transport is not None:
            is_tls = transport.get_extra_info("ssl_object") is not None
            name = transport.get_extra_info("sockname")
            if isinstance(name, tuple):
                fallback = f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
        return self._proxies.shown_base(
            connection.address, request.headers, is_tls=is_tls, fallback=fallback
        )

    async def _redirect(
        self, reading: Reading, target: Target, shown: ShownRoute
    ) -> web.Response | None:
        name = shown.project
        if name is not None:
            page = await reading.run(lambda: load_project_page(reading, name))
            if page is None:
                return None
        location = f"{shown.redirect}?{target.query}" if target.query else shown.redirect
        assert location is not None
        headers = {"Location": location, "Cache-Control": "no-cache"}
        return web.Response(
            status=HTTPStatus.MOVED_PERMANENTLY, text=f"{shown.redirect}\n", headers=headers
        )


def _select_render(
    reading: Reading, site: Site, target: Target, shown: ShownRoute, text: str
) -> tuple[Hashable, Callable[[], Rendered]]:
    """Return what identifies an answer, and the function that renders it."""
    value, name = target.value, shown.project
    match shown.kind:
        case PeopleView.OVERVIEW if text:
            return (shown.kind, text), partial(views.search_page, reading, site, text)
        case PeopleView.OVERVIEW:
            return (shown.kind,), partial(views.overview_page, reading, site)
        case PeopleView.PROJECT:
            assert name is not None
            version = value("version")
            render = partial(views.project_page, reading, site, name, version)
            return (shown.kind, name, version), render
        case PeopleView.CHANGES:
            before = parse_number(value("before"), default=-1, least=0, most=10**15)
            since = None if before in {None, -1} else before
            return (shown.kind, since), partial(views.changes_page, reading, site, since)
        case PeopleView.SNAPSHOTS:
            pair = value("from"), value("to")
            return (shown.kind, *pair), partial(views.snapshots_page, reading, site, *pair)
        case PeopleView.FAILURES:
            return (shown.kind,), partial(views.failures_page, reading, site)
        case PeopleView.WANTS:
            return (shown.kind,), partial(views.wants_page, reading, site)
        case PeopleView.FEED:
            return (shown.kind,), partial(views.changes_feed, reading)
        case _:
            return _select_object_render(reading, site, target, shown)


def _select_object_render(
    reading: Reading, site: Site, target: Target, shown: ShownRoute
) -> tuple[Hashable, Callable[[], Rendered]]:
    value, name = target.value, shown.project
    match shown.kind:
        case Api.STATUS:
            ask = partial(answer_status, reading, site.config)
            key: tuple[Hashable, ...] = ()
        case Api.PROJECTS:
            key = ((value("q") or "")[:_LONGEST_QUERY], value("limit"))
            ask = partial(answer_projects, reading, site.names, text=key[0], limit=key[1])
        case Api.PROJECT:
            assert name is not None
            key = (name,)
            ask = partial(answer_project, reading, name)
        case Api.CHANGES:
            key = (value("since"), value("limit"))
            ask = partial(answer_changes, reading, since=key[0], limit=key[1])
        case _:
            return (Api.SCHEMA,), lambda: _as_rendered(JsonAnswer(body=render_schema()))
    return (shown.kind, *key), lambda: _as_rendered(ask())


def _as_rendered(answer: JsonAnswer) -> Rendered:
    return Rendered(body=answer.body, content_type=JSON, status=answer.status, is_page=False)


async def send(request: BaseRequest, page: Rendered, base: str) -> web.Response:
    """Return a rendered page as an answer, with the server's address put in."""
    body = put_address(page.body, base) if page.has_address else page.body
    headers = {"Content-Type": page.content_type, "Vary": "Accept-Encoding"}
    if page.is_page:
        headers["Content-Security-Policy"] = PEOPLE_POLICY
        headers["Referrer-Policy"] = "no-referrer"
    if page.status is not HTTPStatus.OK:
        headers["Cache-Control"] = "no-store"
        return web.Response(body=body, status=page.status, headers=headers)
    packs = takes_gzip(request.headers.get("Accept-Encoding")) and len(body) >= _GZIP_FROM
    digest = hashlib.sha256(body).hexdigest()
    headers |= {"ETag": f'"{digest}{"-gzip" if packs else ""}"', "Cache-Control": "no-cache"}
    if is_unchanged(request.headers, etag=headers["ETag"], modified=_NEVER):
        kept = {name: value for name, value in headers.items() if name != "Content-Type"}
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=kept)
    if packs:
        headers["Content-Encoding"] = "gzip"
        body = await _packed(body)
    return web.Response(body=body, headers=headers)


async def _packed(body: bytes) -> bytes:
    pack = partial(gzip.compress, body, _GZIP_LEVEL, mtime=0)
    if len(body) <= _ON_LOOP_BYTES:
        return pack()
    return await asyncio.get_running_loop().run_in_executor(None, pack)


def answer_static(request: BaseRequest, static: Static) -> web.Response | None:
    """Return a file of the pages; None for an address with another digest."""
    file = STATIC_FILES.get(static.name)
    if file is None or static.digest not in {None, file.digest}:
        return None
    headers = {
        "Content-Type": file.content_type,
        "ETag": f'"{file.digest}"',
        "Cache-Control": _FOREVER if static.digest else "no-cache",
        "Content-Security-Policy": "default-src 'none'",
    }
    if is_unchanged(request.headers, etag=headers["ETag"], modified=_NEVER):
        headers.pop("Content-Type")
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    return web.Response(body=file.body, headers=headers)
