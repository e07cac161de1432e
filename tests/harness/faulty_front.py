"""A front of an object store: it passes requests on, answers some by itself, or loses answers."""

from __future__ import annotations

import contextlib
import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_FAULT = "<?xml version='1.0'?><Error><Code>{}</Code><Message>as a test wants it</Message></Error>"


class FaultyFront(ThreadingHTTPServer):
    """A front of the store that passes requests on, or answers some of them by itself."""

    daemon_threads = True

    def __init__(self, endpoint):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.store = endpoint.removeprefix("http://")
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.rule = lambda method, path: None
        self.requests = []
        self.stopped = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _pass_on(self):
        front, method, path = self.server, self.command, self.path
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        front.requests.append((method, path))
        fault = front.rule(method, path)
        if fault == "hang":
            front.stopped.wait()
            self.close_connection = True
            return
        if fault == "elsewhere":
            self._answer(307, [("Location", f"{front.url}/elsewhere")], b"")
            return
        if isinstance(fault, bytes):
            self._answer(200, [], fault)
            return
        if isinstance(fault, tuple):
            status, code = fault
            self._answer(status, [], _FAULT.format(code).encode())
            return
        status, headers, data = self._ask(method, path, body)
        if fault == "whole":  # as if no range was asked for; the range is signed, so it is passed on
            status, headers = 200, [header for header in headers if header[0].lower() != "content-range"]
        if fault == "kill":
            self.server.kill()
        if fault in {"lose", "kill"}:  # it was done, and nobody hears of it
            self.close_connection = True
            return
        self._answer(status, headers, data, is_cut=fault == "cut")

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on  # noqa: N815 - named by the library

    def _ask(self, method, path, body):
        connection = http.client.HTTPConnection(self.server.store)
        with contextlib.closing(connection):
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            hidden = {"connection", "transfer-encoding", "content-length"} - (
                {"content-length"} if method == "HEAD" else set()
            )
            return answer.status, [h for h in answer.getheaders() if h[0].lower() not in hidden], answer.read()

    def _answer(self, status, headers, data, *, is_cut=False):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if not any(name.lower() == "content-length" for name, _ in headers):
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[:-5] if is_cut else data)
        self.close_connection = is_cut

    def log_message(self, *_):
        pass
