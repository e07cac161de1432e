"""One process that answers: it accepts from sockets that its parent has bound, until a signal ends
it.

SIGTERM ends it: requests under way have a few seconds. SIGUSR1 too, when another process takes its
place: then transfers take as long as they need. Accepted connections are answered in both cases.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
from collections.abc import Callable
from typing import Final

import msgspec

from mirror.config import Config
from mirror.core.store_address import StoreAddress
from mirror.holdings.wishes import WishFile, served_wishes
from mirror.logs import get_logger
from mirror.serve.access.passwords import PasswordFile, Passwords
from mirror.serve.access.proxies import Proxies
from mirror.serve.blobs import BlobJudge
from mirror.serve.connections.protocol import ConnectionLimits, Connections
from mirror.serve.connections.shared import Counters, render_numbers
from mirror.serve.connections.tls import Certificate
from mirror.serve.gate import Gate
from mirror.serve.objects.server import ObjectServer, open_object_server
from mirror.serve.people.server import PeopleServer
from mirror.serve.server import IndexServer
from mirror.serve.state_warning import StateWarning
from mirror.serve.wishes import TreePresence, WishRecorder
from mirror.state.shown.served import BlobState
from mirror.tree.layout import Layout
from mirror.tree.served import ServedTree

END_LIMIT_S: Final = 5.0
"""How long transfers may go on after SIGTERM."""
_HANDSHAKE_LIMIT_S: Final = 10.0
_POLL_S: Final = 0.02
_FULL_PAUSE_S: Final = 0.2
_AT_ONCE: Final = 4
"""Connections accepted before other work has its turn, and other processes get their turn."""

_log = get_logger(__name__)


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """The served tree and the limits; the same in each process."""

    config: Config
    layout: Layout
    state: BlobState
    limits: ConnectionLimits
    proxies: Proxies
    certificate: Certificate | None = None
    passwords: PasswordFile | None = None
    store: StoreAddress | None = None
    """The tree in an object store, instead of the one in ``layout``."""

    def refresh(self, *, always: bool = False) -> None:
        """Read certificate and passwords again where their files changed, or ``always``."""
        if self.certificate is not None:
            self.certificate.refresh(always=always)
        if self.passwords is not None:
            self.passwords.users.refresh(always=always)


class Worker:
    """The server of one process."""

    def __init__(self, setup: Setup, sockets: list[socket.socket], counters: Counters) -> None:
        self._sockets, self._certificate = sockets, setup.certificate
        self._passwords = Passwords(setup.passwords) if setup.passwords is not None else None
        self._server = _open_server(setup, lambda: render_numbers(counters.shared))
        gate = Gate(self._server.answer, proxies=setup.proxies, passwords=self._passwords)
        self._connections = Connections(gate.answer, limits=setup.limits, counters=counters)
        self._adopting: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._end_requested = self._loop.create_future()

    def begin_end(self, *, at_once: bool) -> None:
        """Begin to end; ``at_once``: no other process takes its place."""
        if not self._end_requested.done():
            self._end_requested.set_result(at_once)
        elif at_once:
            self._connections.drain(at_once=True)
            self._loop.call_later(END_LIMIT_S, self._abort)

    async def run(self, started: Callable[[], None]) -> None:
        """Answer until ``begin_end`` is called, then finish the requests under way."""
        for listening in self._sockets:
            self._listen(listening)
        watching = asyncio.create_task(self._connections.watch())
        started()
        at_once = await self._end_requested
        for listening in self._sockets:
            self._loop.remove_reader(listening)
            # Those that wait are answered, also where nobody listens from now on.
            self._accept(listening, most=1000)
            listening.close()
        self._connections.drain(at_once=at_once)
        if at_once:
            self._loop.call_later(END_LIMIT_S, self._abort)
        while self._connections.open or self._adopting:  # noqa: ASYNC110 - two sets, seldom waited for
            await asyncio.sleep(_POLL_S)
        watching.cancel()
        if self._passwords is not None:
            self._passwords.close()
        self._server.close()

    def _listen(self, listening: socket.socket) -> None:
        if not self._end_requested.done():
            self._loop.add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket, most: int = _AT_ONCE) -> None:
        for _ in range(most):
            try:
                connection, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as exc:
                # Too many open files: those that wait are accepted when there is room again.
                _log.error("connection.refused", problem=exc.strerror or str(exc))
                self._loop.remove_reader(listening)
                self._loop.call_later(_FULL_PAUSE_S, self._listen, listening)
                return
            connection.setblocking(False)
            task = self._loop.create_task(self._adopt(connection))
            self._adopting.add(task)
            task.add_done_callback(self._adopting.discard)

    async def _adopt(self, connection: socket.socket) -> None:
        try:
            context = self._certificate.context() if self._certificate is not None else None
            await self._loop.connect_accepted_socket(
                self._connections,
                connection,
                ssl=context,
                ssl_handshake_timeout=_HANDSHAKE_LIMIT_S if context is not None else None,
            )
        except (OSError, ssl.SSLError, TimeoutError) as exc:
            _log.debug("connection.failed", problem=str(exc) or type(exc).__name__)
            with contextlib.suppress(OSError):
                connection.close()

    def _abort(self) -> None:
        for connection in list(self._connections.open):
            if connection.transport is not None:
                connection.transport.abort()
        for task in self._adopting:
            task.cancel()


def _open_server(setup: Setup, numbers: Callable[[], bytes]) -> IndexServer | ObjectServer:
    """Open the tree: here, after the fork, since a client of a store does not survive one."""
    list_of_wishes = WishFile(served_wishes(setup.layout)) if setup.config.serve.wishes else None
    if setup.store is not None:
        store_url = setup.config.serve.store_url
        return open_object_server(setup.store, store_url, numbers, list_of_wishes)
    tree, warning = ServedTree(setup.layout), StateWarning()
    judge = BlobJudge(setup.state, warning)
    people = PeopleServer(setup.config, tree, warning, setup.proxies)
    wishes = None
    if list_of_wishes is not None:
        wishes = WishRecorder(list_of_wishes, TreePresence(tree, judge))
    return IndexServer(tree, judge, people, numbers, wishes)


def run_worker(
    setup: Setup, sockets: list[socket.socket], counters: Counters, *, ready: int, parent: int
) -> None:
    """Be one process: write a byte to ``ready`` once requests are answered, end with the parent,
    whose pipe closes.
    """

    async def run() -> None:
        worker = Worker(setup, sockets, counters)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, lambda: worker.begin_end(at_once=True))
        loop.add_signal_handler(signal.SIGUSR1, lambda: worker.begin_end(at_once=False))
        for ignored in (signal.SIGINT, signal.SIGHUP):  # a terminal sends them to the parent too
            signal.signal(ignored, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

        def parent_ended() -> None:
            loop.remove_reader(parent)
            worker.begin_end(at_once=True)

        loop.add_reader(parent, parent_ended)
        await worker.run(started)

    def started() -> None:
        os.write(ready, b"1")
        os.close(ready)

    asyncio.run(run())
