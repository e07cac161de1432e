"""Answers ``/metrics``, ``/live`` and ``/ready`` over HTTP, from threads of its own: also while the
event loop is stuck.

Reads the values that it shows and changes nothing, and asks no name server. A client that is slow,
silent or over the maximum number of clients is disconnected.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any

from mirror.logs import get_logger
from mirror.metrics import CONTENT_TYPE

TIMEOUT_S = 10.0
"""From the connection to the end of the answer."""
_MOST_AT_ONCE = 16
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The sources of the answers; called from other threads."""

    metrics: Callable[[], bytes]
    is_live: Callable[[], bool]
    problems: Callable[[], list[str]]
    """Why the mirror is not ready; empty when it is."""


class Endpoint:
    """A listening server; used as ``with``. Raises ``OSError`` where it can't listen."""

    def __init__(self, host: str, port: int, answers: Answers) -> None:
        class Handler(_Handler):
            source = answers

        class Server(_Server):
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        self._server = Server((host, port), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="metrics", daemon=True
        )
        self._thread.start()

    @property
    def address(self) -> str:
        """``HOST:PORT``, with the assigned port where port 0 was configured."""
        host, port = self._server.server_address[:2]
        return f"[{host!s}]:{port}" if ":" in str(host) else f"{host!s}:{port}"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingTCPServer):
    """Not ``ThreadingHTTPServer``: that class asks a name server for its own name, which delays the
    daemon's start.
    """

    allow_reuse_address = True
    request_queue_size = 128
    """How many connections may wait to be accepted: five, as by default, time clients out."""
    daemon_threads = True
    # Closing must not wait for a client that reads slowly.
    block_on_close = False

    def __init__(self, *arguments: Any) -> None:
        self._slots = threading.BoundedSemaphore(_MOST_AT_ONCE)
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._slots.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        guard = threading.Timer(TIMEOUT_S, _cut, (request,))
        guard.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            guard.cancel()
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the names that socketserver has
        """A client that went away is not an event; anything else is a bug."""
        error = sys.exception()
        if not isinstance(error, OSError):
            _log.error("metrics.crashed", exc_info=error)


def _cut(request: socket.socket) -> None:
    with contextlib.suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    source: Answers
    server_version = "mirror"
    sys_version = ""

    def do_GET(self) -> None:
        match self.path.partition("?")[0]:
            case "/metrics":
                self._answer(HTTPStatus.OK, self.source.metrics(), CONTENT_TYPE)
            case "/live":
                is_live = self.source.is_live()
                self._answer_check(is_live, "alive" if is_live else "stuck: see the log")
            case "/ready":
                problems = self.source.problems()
                self._answer_check(not problems, "\n".join(problems) or "ready")
            case _:
                self._answer(HTTPStatus.NOT_FOUND, b"/metrics /live /ready\n")

    def do_HEAD(self) -> None:
        self.do_GET()

    def _answer_check(self, is_well: bool, text: str) -> None:  # noqa: FBT001 - two words for one answer
        self._answer(
            HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE, f"{text}\n".encode()
        )

    def _answer(
        self, status: HTTPStatus, body: bytes, content_type: str = "text/plain; charset=utf-8"
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that http.server calls
        """A scrape every few seconds is not an event."""
