"""The resolver's view, served: an index on loopback that only our resolver can read.

Its address has a secret path, and it asks for a credential, which the resolver gets by its
environment. Each run has an address of its own: the alias names are equal in all runs, and the
resolver caches metadata by file name below an index's address.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import secrets
from collections.abc import AsyncIterator, Iterator

from aiohttp import web

from mirror.core.names import normalize_project
from mirror.errors import MirrorError, UnsafeName
from mirror.selection.view.answers import RunAnswers, TooManyNames
from mirror.selection.view.tables import CONTENT_TYPE

_USER = "resolver"
_METADATA = ".metadata"


class ResolverView:
    """A running server."""

    def __init__(self) -> None:
        self._path, self._password = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        expected = base64.b64encode(f"{_USER}:{self._password}".encode()).decode()
        self._authorization = f"Basic {expected}"
        self._runs: dict[str, RunAnswers] = {}
        self._port = 0

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return the texts that no message may show."""
        return self._path, self._password

    @property
    def port(self) -> int:
        """The port on 127.0.0.1."""
        return self._port

    @contextlib.contextmanager
    def answering(self, name: str, answers: RunAnswers) -> Iterator[str]:
        """Serve one run under an address of its own; yield the address with its credential."""
        self._runs[name] = answers
        try:
            yield f"http://{_USER}:{self._password}@127.0.0.1:{self._port}/{self._path}/{name}/simple/"
        finally:
            del self._runs[name]

    def _check(self, request: web.Request) -> RunAnswers:
        given = request.headers.get("Authorization", "")
        if not _is_equal(request.match_info["secret"], self._path):
            raise web.HTTPNotFound
        if not _is_equal(given, self._authorization):
            raise web.HTTPUnauthorized(headers={"WWW-Authenticate": 'Basic realm="view"'})
        answers = self._runs.get(request.match_info["run"])
        if answers is None:
            raise web.HTTPNotFound
        return answers

    async def page(self, request: web.Request) -> web.Response:
        """Return the page of a project."""
        answers = self._check(request)
        try:
            page = await answers.page(normalize_project(request.match_info["project"]))
        except UnsafeName:
            raise web.HTTPNotFound from None
        except (MirrorError, TooManyNames):
            raise web.HTTPServiceUnavailable from None
        if page is None:
            raise web.HTTPNotFound
        return web.Response(
            body=page, headers={"Content-Type": CONTENT_TYPE, "Cache-Control": "max-age=600"}
        )

    async def file(self, request: web.Request) -> web.Response:
        """Return the metadata of a file; its bytes are never served."""
        answers = self._check(request)
        name = request.match_info["name"]
        if not name.endswith(_METADATA):
            raise web.HTTPNotFound
        try:
            text = await answers.metadata_text(name.removesuffix(_METADATA))
        except MirrorError:
            raise web.HTTPServiceUnavailable from None
        if text is None:
            raise web.HTTPNotFound
        return web.Response(body=text, headers={"Cache-Control": "max-age=600"})


def _is_equal(given: str, expected: str) -> bool:
    """Compare in constant time; any text may be given, surrogates too."""
    return hmac.compare_digest(given.encode(errors="surrogatepass"), expected.encode())


@contextlib.asynccontextmanager
async def served_view() -> AsyncIterator[ResolverView]:
    """Serve a view on a free port of 127.0.0.1 until the end of the block."""
    view = ResolverView()
    app = web.Application()
    app.router.add_get("/{secret}/{run}/simple/{project}/", view.page)
    app.router.add_get("/{secret}/{run}/files/{name}", view.file)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        view._port = runner.addresses[0][1]  # noqa: SLF001 - known only now
        yield view
    finally:
        await runner.cleanup()
