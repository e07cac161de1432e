"""The index over HTTP: pages, redirects, health, and what is refused."""

from __future__ import annotations

import gzip
import json
from urllib.parse import urljoin

import pytest

from harness.server import HTML, JSON, Server

CSP = "default-src 'none'; sandbox allow-downloads"


def test_forms_of_a_page(server, tree):
    """Each form has its bytes, its type and a tag of its own; HTML runs nothing in a browser."""
    simple = tree.mirror.simple
    expected = {
        None: ("index.html", "text/html; charset=utf-8"),
        HTML: ("index.v1_html", HTML),
        JSON: ("index.v1_json", JSON),
    }
    tags = set()
    for place in ("", "demo-app/"):
        for accept, (name, content_type) in expected.items():
            headers = {} if accept is None else {"Accept": accept}
            plain = server.get(f"/simple/{place}", headers)
            packed = server.get(f"/simple/{place}", {**headers, "Accept-Encoding": "gzip"})
            assert plain.status == packed.status == 200
            assert plain.body == gzip.decompress(packed.body) == (simple / place / name).read_bytes()
            assert "Content-Encoding" not in plain.headers
            assert packed.headers["Content-Encoding"] == "gzip"
            for answer in (plain, packed):
                assert answer.headers["Content-Type"] == content_type
                assert answer.headers["Vary"] == "Accept, Accept-Encoding"
                assert answer.headers["Cache-Control"] == "max-age=600"
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert answer.headers.get("Content-Security-Policy") == (None if accept == JSON else CSP)
                tags.add(answer.headers["ETag"])
    assert len(tags) == 12
    assert not any(tag.startswith("W/") for tag in tags)


def test_format_in_the_address(server):
    """``?format=`` wins, with a plus sign as it is or encoded; a type that is not here is 406."""
    for plus in ("+", "%2B", "%2b"):
        answer = server.get(f"/simple/?format=application/vnd.pypi.simple.latest{plus}json", {"Accept": "text/html"})
        assert (answer.status, answer.headers["Content-Type"]) == (200, JSON)
    assert server.get("/simple/?format=application/json").status == 406
    assert server.get("/simple/", {"Accept": "application/json"}).status == 406
    assert server.get("/simple/nope/", {"Accept": "application/json"}).status == 404


def test_page_that_the_client_has(server):
    """A page that has not changed is 304, without a body, with its tag."""
    for headers in ({}, {"Accept-Encoding": "gzip"}):
        first = server.get("/simple/demo-lib/", headers)
        again = server.get("/simple/demo-lib/", {**headers, "If-None-Match": first.headers["ETag"]})
        assert (again.status, again.body) == (304, b"")
        assert again.headers["ETag"] == first.headers["ETag"]
        assert again.headers["Vary"] == "Accept, Accept-Encoding"
    assert server.get("/simple/demo-lib/", {"If-Modified-Since": first.headers["Last-Modified"]}).status == 304


def test_head(server, tree):
    """HEAD has the headers of GET and no body."""
    for target in ("/simple/", next(target for target, _ in tree.files.values()), "/nothing"):
        head, get = server.get(target, method="HEAD"), server.get(target)
        unlike = {"Date"}
        assert head.body == b""
        assert {k: v for k, v in head.headers.items() if k not in unlike} == {
            k: v for k, v in get.headers.items() if k not in unlike
        }


REDIRECTS = {
    "root": ("/simple", "/simple/"),
    "slash": ("/simple/demo-lib", "/simple/demo-lib/"),
    "name": ("/simple/Demo.Lib/", "/simple/demo-lib/"),
    "both": ("/simple/Demo_Lib", "/simple/demo-lib/"),
    "query": ("/simple/demo-lib?format=text/html&x=%20", "/simple/demo-lib/?format=text/html&x=%20"),
}


@pytest.mark.parametrize(("asked", "expected"), REDIRECTS.values(), ids=REDIRECTS)
def test_redirect(server, asked, expected):
    """The right address is one relative redirect away, with the query."""
    answer = server.get(asked)
    assert answer.status == 301
    location = answer.headers["Location"]
    assert not location.startswith("/")
    assert ":" not in location
    assert urljoin(f"http://host{asked}", location) == f"http://host{expected}"


MISSING = [
    "/nothing",
    "/simple/nope/",
    "/simple/nope",
    "/simple/No.Pe",
    "/simple/demo-lib/x",
    "/simple//demo-lib/",
    "//simple/",
    "/simple/../simple/",
    "/simple/..%2f..%2fstate.db",
    "/simple/%2e%2e/state.db",
    "/simple/demo-lib/../../state.db",
    "/state.db",
    "/files/",
    "/files/aa/bb/",
    "/files/../state.db",
    f"/files/aa/bb/{'a' * 64}/x.whl",
    "/snapshots/none/simple/",
    "/channels/none/simple/demo-lib/",
    "/channels/../simple/",
    "/pypi/demo-lib/json",
    "/-/health",
    "/-/health/live/",
    "/simple/" + "a" * 3000,
    "/simple/%C3%A4/",
]


@pytest.mark.parametrize("target", MISSING)
def test_missing(server, target):
    """What is not there is 404, kept by nobody."""
    answer = server.get(target)
    assert (answer.status, answer.headers["Cache-Control"]) == (404, "no-store")


@pytest.mark.parametrize("target", ["/%", "/simple/%zz/", "/simple/%00", "/%ff", "/" + "a" * 5000, "/" + "a" * 20_000])
def test_malformed(server, target):
    """What can't be parsed is 400."""
    answer = server.get(target)
    assert (answer.status, answer.headers["Cache-Control"]) == (400, "no-store")


RAW = {
    "garbage": b"GARBAGE\r\n\r\n",
    "tls": bytes.fromhex("160301 0005 0100000100 0d0a0d0a"),
    "header": b"GET / HTTP/1.1\r\nHost: x\r\nBad Header\r\n\r\n",
    "many-headers": b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(500)) + b"\r\n",
    "long-header": b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
    "version": b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    "two-lengths": b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
}


@pytest.mark.parametrize("data", RAW.values(), ids=RAW)
def test_refused_by_the_parser(tree, data):
    """A request that is none is 400 and one debug line, never a traceback."""
    with Server(tree.mirror, "--log-level", "debug") as server:
        assert server.send(data).status == 400
        assert server.get("/simple/").status == 200
        assert server.end() == 0
        assert len(server.events("request.malformed")) == 1
        assert {event["level"] for event in server.events()} <= {"debug", "info"}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND"])
def test_no_uploads(server, method):
    """Another method is 405, said in one line."""
    answer = server.get("/simple/", method=method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
    assert answer.text.count("\n") == 1
    assert "no uploads" in answer.text


def test_upload_sees_its_answer(server):
    """A client that sends a large body reads the answer to it."""
    size = 20_000_000
    with server.connect() as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(20):
            connection.sendall(b"x" * (size // 20))
        assert connection.recv(12) == b"HTTP/1.1 405"


def test_several_requests_in_one_connection(server, tree):
    """A connection answers one request after the other, pages and files alike, also those that came at once."""
    target, data = tree.files["demo_app-1.0-py3-none-any.whl"]
    asked = ["/simple/", target, "/nothing", target, "/simple/demo-app/"]
    with server.connect() as connection:
        connection.sendall("".join(f"GET {t} HTTP/1.1\r\nHost: x\r\n\r\n" for t in asked).encode())
        file = connection.makefile("rb")
        found = []
        for _ in asked:
            status = int(file.readline().split()[1])
            lines = []
            while line := file.readline().strip():
                lines.append(line)
            size = next(int(line.split()[1]) for line in lines if line.lower().startswith(b"content-length"))
            found.append((status, file.read(size)))
        file.close()
    assert [status for status, _ in found] == [200, 200, 404, 200, 200]
    assert found[1][1] == found[3][1] == data


def test_health_and_numbers(tree):
    """Health is one word; the numbers count what was answered."""
    with Server(tree.mirror) as server:
        assert server.get("/-/health/live").text == "alive\n"
        assert server.get("/-/health/ready").text == "ready\n"
        server.get("/nothing")
        answer = server.get("/metrics")
        assert answer.status == 200
        assert 'mirror_serve_answers_total{status="200"} 2.0' in answer.text
        assert 'mirror_serve_answers_total{status="404"} 1.0' in answer.text
        assert "mirror_serve_connections 1.0" in answer.text


def test_access_log(tree):
    """Each request is one info line, without its query."""
    with Server(tree.mirror) as server:
        server.get("http://user:pass-word@host/simple/?token=secret-value", {"User-Agent": "test/1"})
        event = server.heard("request.answered")
        assert server.end() == 0
    shown = {key: event[key] for key in ("level", "client", "method", "path", "status", "agent")}
    assert shown == {
        "level": "info",
        "client": "127.0.0.1",
        "method": "GET",
        "path": "/simple/",
        "status": 200,
        "agent": "test/1",
    }
    assert "secret-value" not in json.dumps(server.events())
    assert "pass-word" not in json.dumps(server.events())


def test_new_cycle_is_served(own):
    """What a cycle publishes is served at once."""
    with Server(own.mirror) as server:
        before = server.get("/simple/demo-app/")
        assert server.get("/simple/fresh/").status == 404
        from simulator import build_wheel

        own.index.state.publish("fresh", *build_wheel("fresh", "1.0"))
        own.index.state.publish("demo-app", *build_wheel("demo-app", "2.0"))
        own.mirror.sync_well()
        after = server.get("/simple/demo-app/")
        assert b"demo_app-2.0" in after.body
        assert after.headers["ETag"] != before.headers["ETag"]
        assert server.get("/simple/fresh/").status == 200
        own.learn()
        target, data = own.files["fresh-1.0-py3-none-any.whl"]
        assert server.get(target).body == data


def test_large_page(own):
    """A page of megabytes is the same, plain and compressed."""
    page = own.mirror.simple / "index.html"
    data = page.read_bytes() + b"".join(b'<a href="p%d/">p%d</a>\n' % (n, n) for n in range(200_000))
    page.write_bytes(data)
    with Server(own.mirror) as server:
        plain, packed = server.get("/simple/"), server.get("/simple/", {"Accept-Encoding": "gzip"})
        assert plain.body == gzip.decompress(packed.body) == data
        assert server.get("/simple/", {"If-None-Match": plain.headers["ETag"]}).status == 304
