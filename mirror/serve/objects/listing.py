"""The one page for people in front of a store: a plain list of the projects."""

from __future__ import annotations

import hashlib
from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import web
from aiohttp.web_request import BaseRequest
from markupsafe import Markup

from mirror.serve.requests.conditions import JoinedHeaders, is_unchanged
from mirror.serve.sending import unchanged

MOST: Final = 10_000
"""Maximum number of names in the list; the rest are on the root page."""
_POLICY: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_NEVER: Final = float(2**60)
_HEAD: Final = Markup(
    '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width">\n<title>Python packages</title>\n'
    "</head>\n<body>\n<h1>Python packages</h1>\n<p>{}</p>\n<ul>\n"
)
_ITEM: Final = Markup('<li><a href="simple/{0}/">{0}</a></li>\n')
_END: Final = Markup("</ul>\n{}</body>\n</html>\n")
_REST: Final = Markup('<p>{} more are in <a href="simple/">the whole list</a>.</p>\n')


class _Project(msgspec.Struct, frozen=True):
    name: str


class _Root(msgspec.Struct, frozen=True):
    projects: list[_Project]


_decode: Final = msgspec.json.Decoder(_Root).decode


def render_list(root_page: bytes) -> bytes:
    """Return the list as a page. Raises ``msgspec.MsgspecError`` for a root page that is none."""
    names = sorted(project.name for project in _decode(root_page).projects)
    plural = "project" if len(names) == 1 else "projects"
    items = Markup("").join(_ITEM.format(name) for name in names[:MOST])
    rest = _REST.format(f"{len(names) - MOST:,}") if len(names) > MOST else ""
    page = _HEAD.format(f"{len(names):,} {plural}") + items + _END.format(rest)
    return page.encode()


def answer_list(request: BaseRequest, body: bytes) -> web.Response:
    """Return the rendered list as an answer."""
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "ETag": f'"{hashlib.sha256(body).hexdigest()}"',
        "Cache-Control": "no-cache",
        "Content-Security-Policy": _POLICY,
        "Referrer-Policy": "no-referrer",
    }
    if is_unchanged(JoinedHeaders(request.headers), etag=headers["ETag"], modified=_NEVER):
        return unchanged(headers)
    return web.Response(status=HTTPStatus.OK, body=body, headers=headers)
