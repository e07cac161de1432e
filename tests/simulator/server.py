"""The simulated index on loopback: two real HTTP servers on free ports, a record of requests, scripted faults."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

from aiohttp import web

from simulator.faults import Announce, Cut, Delivery, Drip, Endless, Fault, Faults, Reset, Stall, Unframed
from simulator.origin import Answer, IndexOrigin, Kind, SignedUrls, Target, answer_store
from simulator.settings import Settings
from simulator.state import IndexState

AnyFault = TypeVar("AnyFault", bound=Fault)


@dataclass(kw_only=True)
class Recorded:
    """One request as it arrived. ``status`` is None until it is answered, ``path`` is raw and has the query."""

    method: str
    path: str
    kind: Kind
    project: str | None
    filename: str | None
    headers: Mapping[str, str] = field(repr=False)
    """All of them, names in lower case."""
    status: int | None = None


class Simulator:
    """A simulated index, used as ``async with``. Change ``state``, ``settings`` and faults while it runs."""

    def __init__(
        self,
        state: IndexState | None = None,
        settings: Settings | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        **changes: Any,
    ) -> None:
        """``changes`` are fields of ``Settings``."""
        self.state = state or IndexState()
        self.settings = replace(settings or Settings(), **changes)
        self.requests: list[Recorded] = []
        self.faults = Faults()
        self.signed = SignedUrls(self.settings)
        self._tls = tls
        self._origin = IndexOrigin(self.state, self.settings, self.signed)
        self._answer_store = answer_store(self.state, self.settings, self.signed)
        self._runners: list[web.ServerRunner] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._released = asyncio.Event()

    # -- what tests use ---------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The URL of the index: its root page."""
        return f"{self._origin.base}{self.settings.prefix}/simple/"

    @property
    def credential_url(self) -> str:
        """The same with the credential in it, for clients that want it there."""
        scheme, _, rest = self.url.partition("://")
        user, password = (quote(text or "", safe="") for text in (self.settings.username, self.settings.password))
        return f"{scheme}://{user}:{password}@{rest}"

    @property
    def store_url(self) -> str:
        """Scheme, host and port of the second origin."""
        return self._origin.store_base

    def inject(
        self,
        fault: AnyFault,
        *,
        kind: Kind | None = None,
        project: str | None = None,
        filename: str | None = None,
        times: int | None = None,
    ) -> AnyFault:
        """Use a fault for the next ``times`` requests (None: all) of this kind, project and file; return it."""
        self.faults.add(fault, kind=kind, project=project, filename=filename, times=times)
        return fault

    def count(
        self,
        *,
        kind: Kind | None = None,
        project: str | None = None,
        filename: str | None = None,
        status: int | None = None,
    ) -> int:
        """Return how many requests of this kind, project, file and status were made."""
        wanted = (kind, project, filename, status)
        asked = [(r.kind, r.project, r.filename, r.status) for r in list(self.requests)]
        return sum(all(w is None or w == a for w, a in zip(wanted, item, strict=True)) for item in asked)

    def take_requests(self) -> list[Recorded]:
        """Return the requests so far, and start a new record."""
        taken, self.requests = self.requests, []
        return taken

    def freeze(self, project: str) -> None:
        """Let a project's page stay as it is now, as a stale cache does, whatever happens to the project."""
        current = self.state[project]
        self._origin.frozen[current.name] = current

    def thaw(self) -> None:
        """End all freezing."""
        self._origin.frozen.clear()

    def expire_urls(self) -> None:
        """Make the pre-signed URLs given out so far invalid."""
        self.signed.expire()

    def release(self) -> None:
        """Let the requests that are stalled now go on."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._release_now)

    # -- running ----------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def _start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._origin.base = await self._listen(self._handle_index)
        self._origin.store_base = await self._listen(self._handle_store)

    async def _stop(self) -> None:
        self._release_now()
        for runner in self._runners:
            await runner.cleanup()
        self._loop = None

    async def _listen(self, handler: Callable[[web.BaseRequest], Any]) -> str:
        runner = web.ServerRunner(web.Server(handler, access_log=None), shutdown_timeout=1.0)
        await runner.setup()
        self._runners.append(runner)
        site = web.TCPSite(runner, self.settings.host, 0, ssl_context=self._tls)
        await site.start()
        port = runner.addresses[0][1]
        return f"{'https' if self._tls else 'http'}://{self.settings.host}:{port}"

    def _release_now(self) -> None:
        self._released.set()
        self._released = asyncio.Event()

    # -- answering --------------------------------------------------------------------------------------------------

    async def _handle_index(self, request: web.BaseRequest) -> web.StreamResponse:
        path = _raw_path(request)
        target = self._origin.classify(path)
        recorded = self._record(request, path, target)
        answer = self._origin.answer(target, path, recorded.headers)
        return await self._deliver(request, target, recorded, answer)

    async def _handle_store(self, request: web.BaseRequest) -> web.StreamResponse:
        path = _raw_path(request)
        found = self.signed.find(path)
        project, filename = found or (None, None)
        recorded = self._record(request, path, Target(kind="store", project=project, filename=filename))
        answer = self._answer_store(path, recorded.headers)
        return await self._deliver(request, Target(kind="store", project=project, filename=filename), recorded, answer)

    def _record(self, request: web.BaseRequest, path: str, target: Target) -> Recorded:
        recorded = Recorded(
            method=request.method,
            path=path,
            kind=target.kind,
            project=target.project,
            filename=target.filename,
            headers={name.lower(): value for name, value in request.headers.items()},
        )
        self.requests.append(recorded)
        return recorded

    async def _deliver(
        self, request: web.BaseRequest, target: Target, recorded: Recorded, answer: Answer
    ) -> web.StreamResponse:
        if request.method != "GET":
            answer = Answer(status=405, headers={"Allow": "GET"})
        fault = self.faults.take(target, answer)
        if fault is not None:
            answer = fault.change(answer)
        recorded.status = answer.status
        if isinstance(fault, Delivery):
            return await self._deliver_badly(request, answer, fault)
        return web.Response(status=answer.status, headers=dict(answer.headers), body=answer.body)

    async def _deliver_badly(self, request: web.BaseRequest, answer: Answer, fault: Delivery) -> web.StreamResponse:
        if isinstance(fault, Stall) and fault.after is None:
            await self._stall(fault)
        response = web.StreamResponse(status=answer.status, headers=dict(answer.headers))
        if isinstance(fault, Reset) and fault.after is None:
            _close(request, is_reset=True)
            return response
        if isinstance(fault, Unframed):
            _send_unframed(request, answer, fault.behind)
            return response
        response.content_length = _announced(answer, fault)
        await response.prepare(request)
        match fault:
            case Cut() | Announce():
                await response.write(answer.body[: fault.after] if isinstance(fault, Cut) else answer.body)
                _close(request)
                return response
            case Reset(after=after):
                await response.write(answer.body[:after])
                _close(request, is_reset=True)
                return response
            case Endless():
                with contextlib.suppress(ConnectionError):
                    while True:
                        await response.write(answer.body)
                return response
            case Stall(after=after):
                sent = after or 0
                await response.write(answer.body[:sent])
                if after is not None:
                    await self._stall(fault)
                await response.write(answer.body[sent:])
            case Drip(piece=piece, pause_s=pause_s):
                for start in range(0, len(answer.body), piece):
                    await response.write(answer.body[start : start + piece])
                    await asyncio.sleep(pause_s)
        await response.write_eof()
        return response

    async def _stall(self, fault: Stall) -> None:
        released = self._released
        fault.reached.set()
        await released.wait()


class ThreadedSimulator(Simulator):
    """The same in a thread of its own, used as ``with``: for tests that block, such as on a ``mirror`` process."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._stopping: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="simulator", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None and self._stopping is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _run(self) -> None:
        sys.settrace(None)  # coverage measures the mirror, and a server that it does not follow is twice as quick
        try:
            asyncio.run(self._serve())
        except OSError as exc:
            self._failure = exc
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._stopping = asyncio.Event()
        async with self:
            self._started.set()
            await self._stopping.wait()


def _announced(answer: Answer, fault: Delivery) -> int | None:
    """Return the Content-Length to announce."""
    if isinstance(fault, Endless):
        return fault.content_length
    return len(answer.body) + (fault.by if isinstance(fault, Announce) else 0)


def _send_unframed(request: web.BaseRequest, answer: Answer, behind: bytes | None) -> None:
    """Answer as servers of HTTP/1.0 may: the end of the connection is the end of the body."""
    transport = request.transport
    if transport is None:
        return
    fields = {k: v for k, v in answer.headers.items() if k.lower() not in {"content-length", "transfer-encoding"}}
    lines = [f"HTTP/1.0 {answer.status} OK", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    head, found, _rest = answer.body.partition(behind or answer.body)
    transport.write("\r\n".join(lines).encode() + head + found)
    transport.close()


def _close(request: web.BaseRequest, *, is_reset: bool = False) -> None:
    """Close a connection in the middle of an answer; by a reset the other side sees that it is no end."""
    transport = request.transport
    if transport is None:
        return
    if is_reset:
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    else:
        transport.close()


def _raw_path(request: web.BaseRequest) -> str:
    """Return path and query byte for byte as the client sent them, also of an absolute-form request line."""
    raw = request.raw_path
    return raw if raw.startswith("/") else "/" + raw.partition("://")[2].partition("/")[2]
