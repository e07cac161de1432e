"""What both servers share, that of a disk and that of an object store: the way from a request to a
route, and the headers of a page.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from aiohttp import web
from aiohttp.web_request import BaseRequest

from mirror.logs import get_logger
from mirror.serve.answers import no_uploads, not_found, plain
from mirror.serve.requests.conditions import format_date
from mirror.serve.requests.negotiation import Form
from mirror.serve.requests.routes import Route, find_route
from mirror.serve.requests.target import MalformedTargetError, Target, parse_target

PAGE_CACHING: Final = "max-age=600"
PAGE_POLICY: Final = "default-src 'none'; sandbox allow-downloads"
"""A browser that shows a page of the index runs no script of it, and may download its links."""
FOREIGN_API: Final = (
    "This API is not here. Installers use /simple/PROJECT/;"
    " the facts about a project are at /-/api/v1/projects/PROJECT.\n"
)
_log = get_logger(__name__)

RouteAnswer = Callable[[BaseRequest, Target, Route], Awaitable[web.StreamResponse]]


async def answered(request: BaseRequest, answer_route: RouteAnswer) -> web.StreamResponse:
    """Return the answer to a request; 404 for a missing page, 503 for an unreadable one."""
    if request.method not in {"GET", "HEAD"}:
        return no_uploads()
    try:
        target = parse_target(request.message.path)
    except MalformedTargetError as exc:
        client = str(request.get("client") or "unix")
        _log.debug("request.malformed", client=client, problem=str(exc))
        return plain(HTTPStatus.BAD_REQUEST, f"It is malformed: {exc}.\n")
    try:
        return await answer_route(request, target, find_route(target))
    except FileNotFoundError:
        return not_found()
    except OSError as exc:
        if isinstance(exc, ConnectionError):
            raise
        _log.error(
            "tree.unreadable", path="/".join(target.segments), problem=exc.strerror or str(exc)
        )
        return unreadable()


def unreadable() -> web.Response:
    """Return the answer where the tree can't be read."""
    return plain(HTTPStatus.SERVICE_UNAVAILABLE, "This can't be read at the moment: see the log.\n")


def page_headers(form: Form, *, etag: str, modified: float, gzip: bool) -> dict[str, str]:
    """Return the headers of a page."""
    headers = {
        "Content-Type": f"{form.value}; charset=utf-8" if form is Form.HTML else form.value,
        "ETag": etag,
        "Last-Modified": format_date(modified),
        "Cache-Control": PAGE_CACHING,
        "Vary": "Accept, Accept-Encoding",
    }
    if form.is_html:
        headers["Content-Security-Policy"] = PAGE_POLICY
    if gzip:
        headers["Content-Encoding"] = "gzip"
    return headers


def not_acceptable() -> web.Response:
    """Return the answer to a client that takes no form of a page."""
    answer = plain(HTTPStatus.NOT_ACCEPTABLE, "This page is text/html or PEP 691's HTML or JSON.\n")
    answer.headers["Vary"] = "Accept, Accept-Encoding"
    return answer


def redirected(where: str, target: Target) -> web.Response:
    """Return the redirect to the right spelling of an address, relative, its query kept."""
    location = f"{where}?{target.query}" if target.query else where
    headers = {"Location": location, "Cache-Control": PAGE_CACHING}
    return web.Response(status=HTTPStatus.MOVED_PERMANENTLY, text=f"{where}\n", headers=headers)
