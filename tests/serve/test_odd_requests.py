"""Requests that are large, or say things in several lines: each whole request gets its answer."""

from __future__ import annotations

import pytest

from harness.server import JSON, Server

LARGE = {
    "target": b"GET /" + b"a" * 900_000 + b" HTTP/1.1\r\n",
    "header": b"GET /simple/ HTTP/1.1\r\nX: " + b"a" * 900_000 + b"\r\n",
    "headers": b"GET /simple/ HTTP/1.1\r\n" + b"X: a\r\n" * 100_000,
}


@pytest.mark.parametrize("head", LARGE.values(), ids=LARGE)
def test_large_requests(server: Server, head: bytes) -> None:
    """A client that still sends reads its 400 before the connection goes."""
    answer = server.send(head + b"Host: x\r\nConnection: close\r\n\r\n")
    assert (answer.status, answer.headers["X-Content-Type-Options"]) == (400, "nosniff")
    assert server.events("request.failed") == server.events("connection.failed") == []


def asked(server: Server, target: str, *lines: str, method: str = "GET") -> tuple[int, str]:
    head = "\r\n".join([f"{method} {target} HTTP/1.1", "Host: x", "Connection: close", *lines, "", ""])
    answer = server.send(head.encode())
    return answer.status, answer.headers.get("Content-Type", "")


def test_headers_in_several_lines(server: Server, tree) -> None:
    """A header that is sent in several lines is one list."""
    target, _ = tree.files["demo_app-1.0-py3-none-any.whl"]
    etag = server.get("/simple/").headers["ETag"]
    assert asked(server, "/simple/", "Accept: text/plain", f"Accept: {JSON}") == (200, JSON)
    assert asked(server, "/simple/", 'If-None-Match: "x"', f"If-None-Match: {etag}")[0] == 304
    assert asked(server, target, "Range: bytes=0-1", "Range: bytes=2-3")[0] == 200
    assert asked(server, target, "Range: bytes=0-1")[0] == 206


def test_head_has_no_ranges(server: Server, tree) -> None:
    """A range counts for GET alone: HEAD describes the whole file."""
    target, data = tree.files["demo_app-1.0-py3-none-any.whl"]
    answer = server.get(target, {"Range": "bytes=0-1"}, method="HEAD")
    assert (answer.status, answer.headers["Content-Length"]) == (200, str(len(data)))


@pytest.mark.parametrize("method", ["PATCH", "PURGE", "BREW", "get", "X-Y"])
def test_other_methods(server: Server, method: str) -> None:
    """Another method is 405, also one that nobody knows; the answer says that there are no uploads."""
    answer = server.get("/simple/", method=method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
    assert answer.text == "This index takes no uploads: it answers GET and HEAD.\n"
    assert server.send(b"\0\0 / HTTP/1.1\r\nHost: x\r\n\r\n").status == 400
