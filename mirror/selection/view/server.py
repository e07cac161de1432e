"""The resolver's view, served: an index on loopback that only the mirror's resolver can read.

Its address has a secret path, and it asks for a credential, which the resolver gets by its
environment. An address belongs to a cycle and an environment: alias names are equal in all of them,
and the resolver caches metadata by file name below an index's address. Runs that share an address
share that cache: each run has a user of its own in its credential, and the resolver asks again for
everything that it has cached (304), so that the view knows the questions of each run.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import itertools
import secrets
from collections.abc import AsyncIterator, Iterator

from aiohttp import web

from mirror.core.names import normalize_project
from mirror.errors import MirrorError, UnsafeName
from mirror.selection.view.answers import RunAnswers, TooManyNames
from mirror.selection.view.tables import CONTENT_TYPE

_METADATA = ".metadata"


class ResolverView:
    """A running server."""

    def __init__(self) -> None:
        self._path, self._password = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        self._runs: dict[str, tuple[str, RunAnswers]] = {}
        """By the user in a run's credential: its address, and its answers."""
        self._numbers = itertools.count(1)
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
    def answering(self, address: str, answers: RunAnswers) -> Iterator[str]:
        """Answer one run at an address; yield the URL of its index, with its credential."""
        user = f"run-{next(self._numbers)}"
        self._runs[user] = (address, answers)
        try:
            credential = f"{user}:{self._password}"
            yield f"http://{credential}@127.0.0.1:{self._port}/{self._path}/{address}/simple/"
        finally:
            del self._runs[user]

    def _check(self, request: web.Request) -> RunAnswers:
        if not _is_equal(request.match_info["secret"], self._path):
            raise web.HTTPNotFound
        user, password = _credential(request.headers.get("Authorization", ""))
        if not _is_equal(password, self._password):
            raise web.HTTPUnauthorized(headers={"WWW-Authenticate": 'Basic realm="view"'})
        address, answers = self._runs.get(user, ("", None))
        if answers is None or address != request.match_info["address"]:
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
        return _answer(request, page, CONTENT_TYPE)

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
        return _answer(request, text, "application/octet-stream")


def _answer(request: web.Request, body: bytes, content_type: str) -> web.Response:
    """Return a body that the resolver may keep, and must ask for again."""
    etag = f'"{hashlib.sha256(body).hexdigest()}"'
    headers = {"ETag": etag, "Cache-Control": "no-cache", "Content-Type": content_type}
    if request.headers.get("If-None-Match") == etag:
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, headers=headers)


def _credential(header: str) -> tuple[str, str]:
    """Return user and password of a Basic credential; empty texts for another header."""
    kind, _, encoded = header.partition(" ")
    if kind.lower() != "basic":
        return "", ""
    try:
        text = base64.b64decode(encoded.encode(errors="surrogatepass")).decode(errors="replace")
    except (binascii.Error, ValueError):
        return "", ""
    user, _, password = text.partition(":")
    return user, password


def _is_equal(given: str, expected: str) -> bool:
    """Compare in constant time; any text may be given, surrogates too."""
    return hmac.compare_digest(given.encode(errors="surrogatepass"), expected.encode())


@contextlib.asynccontextmanager
async def served_view() -> AsyncIterator[ResolverView]:
    """Serve a view on a free port of 127.0.0.1 until the end of the block."""
    view = ResolverView()
    app = web.Application()
    app.router.add_get("/{secret}/{address}/simple/{project}/", view.page)
    app.router.add_get("/{secret}/{address}/files/{name}", view.file)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        view._port = runner.addresses[0][1]  # noqa: SLF001 - known only now
        yield view
    finally:
        await runner.cleanup()
