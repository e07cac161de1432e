"""Servers that do exactly what a test says, and sessions that talk to them."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from mirror.config import AuthConfig, IndexConfig, Limits
from mirror.upstream.credentials import credential_source
from mirror.upstream.limits.retry import RetryPolicy
from mirror.upstream.session import IndexSession

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

QUICK = RetryPolicy(base_s=0.0001, cap_s=0.0002)


@dataclass
class Server:
    """A server on loopback; ``requests`` are (request target, headers) in the order of arrival."""

    url: str
    port: int
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.requests]

    def header(self, name: str) -> list[str | None]:
        """Return one header of each request, in order."""
        return [headers.get(name) for _, headers in self.requests]


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Awaitable[Server]]]:
    """Start servers whose answers a handler gives; all of them end with the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(handler: Handler, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Server:
            server = Server(url="", port=0)

            async def recorded(request: web.BaseRequest) -> web.StreamResponse:
                server.requests.append((request.raw_path, dict(request.headers)))
                return await handler(request)

            # A handler whose client has gone is to end; access logs would only be noise.
            runner = web.ServerRunner(
                web.Server(recorded, access_log=None, handler_cancellation=True), shutdown_timeout=0.1
            )
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            site = web.TCPSite(runner, host, 0, ssl_context=tls)
            await site.start()
            server.port = runner.addresses[0][1]
            server.url = f"{'https' if tls else 'http'}://{host}:{server.port}/simple/"
            return server

        yield start


@pytest.fixture
async def serve_raw() -> AsyncIterator[Callable[..., Awaitable[int]]]:
    """Start servers that speak by themselves, byte for byte; each returns its port and ends with the test."""
    tasks: set[asyncio.Task[None]] = set()
    servers: list[asyncio.Server] = []

    async def start(speak: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> int:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            with contextlib.suppress(OSError, asyncio.CancelledError, asyncio.IncompleteReadError):
                await speak(reader, writer)
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

        servers.append(await asyncio.start_server(connected, "127.0.0.1", 0))
        return servers[-1].sockets[0].getsockname()[1]

    yield start
    for server in servers:
        server.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks)


@pytest.fixture
async def open_session() -> AsyncIterator[Callable[..., Awaitable[IndexSession]]]:
    """Open sessions of an index at a URL; keyword arguments are those of the index, limits, auth and environment."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(
            url: str,
            *,
            env: dict[str, str] | None = None,
            limits: dict[str, Any] | None = None,
            auth: dict[str, Any] | None = None,
            **options: Any,
        ) -> IndexSession:
            config = index_config(url, auth=auth, **options)
            held_env = {"HOME": "/nonexistent", **(env or {})}
            session = IndexSession(config, Limits(**(limits or {})), credential_source(config, held_env), held_env)
            return await stack.enter_async_context(session)

        yield start


def index_config(url: str, *, auth: dict[str, Any] | None = None, **options: Any) -> IndexConfig:
    return IndexConfig(name="test", url=url, auth=None if auth is None else AuthConfig(**auth), **options)


@pytest.fixture
def quick() -> RetryPolicy:
    """The usual number of tries, without the usual patience."""
    return QUICK


@pytest.fixture
def new_index() -> Callable[..., IndexConfig]:
    return index_config


@dataclass(frozen=True)
class Authority:
    """Throw-away certificates: an authority, a server's (for 127.0.0.1 and localhost) and a client's."""

    directory: Path

    @property
    def ca(self) -> Path:
        return self.directory / "ca.pem"

    def server_context(self, *, wants_client: bool = False) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.directory / "server.pem", self.directory / "server.key")
        if wants_client:
            context.load_verify_locations(self.ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Make the certificates with the openssl program, once."""
    where = tmp_path_factory.mktemp("tls")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=where, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test authority",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip
    for name, extension in (
        ("server", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
        ("client", "extendedKeyUsage=clientAuth"),
    ):
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (where / "extension").write_text(extension)
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2",
                "-CAcreateserial", "-out", f"{name}.pem", "-extfile", "extension")  # fmt: skip
    return Authority(where)


class MemorySink:
    """A sink that keeps everything in memory; a second implementation beside the tree's own."""

    def __init__(self, kept: bytes = b"", etag: str | None = None) -> None:
        self.kept = bytearray(kept)
        self.etag = etag
        self.restarts = 0

    @property
    def written(self) -> int:
        return len(self.kept)

    async def expect_unlisted(self, announced_bytes: int | None) -> None:
        self.announced = announced_bytes

    async def write(self, chunk: bytes) -> None:
        self.kept += chunk

    async def restart(self) -> None:
        self.restarts += 1
        self.kept.clear()

    def hexdigest(self, algorithm: str) -> str:
        import hashlib

        return hashlib.new(algorithm, self.kept).hexdigest()


@pytest.fixture
def new_sink() -> type[MemorySink]:
    return MemorySink


@pytest.fixture
def json_page() -> Callable[..., bytes]:
    """Build a project's JSON page."""

    def build(name: str = "demo", *files: dict[str, Any], **more: Any) -> bytes:
        return msgspec.json.encode(
            {"meta": {"api-version": "1.1"}, "name": name, "versions": [], "files": list(files), **more}
        )

    return build
