"""Every way in which an answer can fail to come, and what each status means."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
import socket
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import aiohttp
import pytest
from aiohttp import web

from harness.ports import closed_port
from mirror.errors import AccessDenied, NotFound, TreeError, Unavailable, UpstreamError, Withheld
from mirror.upstream.limits.rate import Budget
from mirror.upstream.response import failure_of, is_pushback, media_type
from mirror.upstream.session import RequestKind

SECRET = "?sig=very-secret"


async def failure(session, url, **options):
    try:
        async with session.get(url, kind=RequestKind.FILE, headers={}, **options) as response:
            return await response.read_at_most(10**7)
    except UpstreamError as exc:
        found = exc
    assert "very-secret" not in str(found)
    return found


def answering(response_of):
    async def handler(request):
        return response_of()

    return handler


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *(pytest.param(status, NotFound, id=str(status)) for status in (400, 404, 405, 406, 410, 416, 418, 422)),
        *(pytest.param(status, AccessDenied, id=str(status)) for status in (203, 402, 451)),
        pytest.param(409, Withheld, id="409"),
        *(
            pytest.param(status, Unavailable, id=str(status))
            for status in (201, 204, 407, 408, 425, 429, 500, 502, 503, 504)
        ),
    ],
)
async def test_what_a_status_means(serve, open_session, status, kind):
    """Each status that is no success becomes one kind of error."""
    own = await serve(answering(lambda: web.Response(status=status)))
    session = await open_session(own.url)
    found = await failure(session, own.url + SECRET)
    assert type(found) is kind
    assert session.pushback == (status in {429, 503})
    assert session.traffic.file_bytes == 0


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(b'{"reason": "POLICY_COOLDOWN"}', "POLICY_COOLDOWN", id="a reason"),
        pytest.param(b'{"reason": "MALWARE_DETECTED", "x": 1}', "MALWARE_DETECTED", id="malware"),
        pytest.param(b'{"reason": 5}', None, id="a reason of another type"),
        pytest.param(b"[]", None, id="no object"),
        pytest.param(b"<html>", None, id="no JSON"),
        pytest.param(b"[" * 60000, None, id="deep nesting"),
        pytest.param(b"", None, id="empty"),
        pytest.param(b'{"reason": "X"}' + b" " * 100_000, None, id="too long"),
    ],
)
async def test_409_says_why(serve, open_session, body, code):
    """The reason of a 409 is read from its JSON, and anything else is no reason."""
    own = await serve(answering(lambda: web.Response(status=409, body=body)))
    session = await open_session(own.url)
    found = await failure(session, own.url)
    assert isinstance(found, Withheld)
    assert found.code == code


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_carried(serve, open_session, status):
    """The seconds of a Retry-After reach the caller, as a number or as a date."""
    later = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    values = iter(["7", later, "soon"])
    own = await serve(answering(lambda: web.Response(status=status, headers={"Retry-After": next(values)})))
    session = await open_session(own.url)
    waits = [(await failure(session, own.url)).retry_after_s for _ in range(3)]
    assert waits[0] == 7.0
    assert 3500 < waits[1] <= 3600
    assert waits[2] is None
    assert session.pushback == 3


async def test_nobody_listens(open_session):
    """A refused connection is told in the system's words, without the address."""
    with closed_port() as port:
        session = await open_session(f"http://127.0.0.1:{port}/simple/")
        found = await failure(session, f"http://127.0.0.1:{port}/simple/{SECRET}")
    assert str(found) == f"http://127.0.0.1:{port}/simple/ could not be fetched: no connection (Connection refused)"


async def test_unknown_host(open_session):
    """A name that can't be resolved is told as such."""
    session = await open_session("http://nowhere.invalid/simple/")
    found = await failure(session, "http://nowhere.invalid/simple/x" + SECRET)
    assert "the name of its host can't be resolved" in str(found)
    foreign = await failure(session, "http://elsewhere.invalid/x" + SECRET)
    assert "the name of its host can't be resolved" in str(foreign)


async def test_connection_closed_without_an_answer(serve, open_session):
    """A server that hangs up is told as such and counts as pushback."""

    async def hang_up(request):
        request.transport.abort()
        return web.Response()

    own = await serve(hang_up)
    session = await open_session(own.url)
    found = await failure(session, own.url + SECRET)
    assert isinstance(found, Unavailable)
    assert session.pushback == 1


@pytest.mark.parametrize("has_begun", [False, True], ids=["before the first byte", "in the body"])
async def test_stall(serve, open_session, has_begun):
    """A server that goes silent is given up after stall-timeout, before its answer or within."""

    async def stall(request):
        if has_begun:
            response = web.StreamResponse(headers={"Content-Length": "100"})
            await response.prepare(request)
            await response.write(b"some")
        await asyncio.Event().wait()

    own = await serve(stall)
    session = await open_session(own.url, limits={"stall_timeout_s": 0.05})
    found = await failure(session, own.url + SECRET)
    assert isinstance(found, Unavailable)
    assert "no byte came for 0.05 s" in str(found)


async def test_headers_that_never_end(serve_raw, open_session):
    """An answer whose headers drip in for ever is given up, although each byte comes in time."""

    async def drip(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    port = await serve_raw(drip)
    session = await open_session(
        f"http://127.0.0.1:{port}/", limits={"stall_timeout_s": 0.05, "connect_timeout_s": 0.05}
    )
    assert isinstance(await failure(session, f"http://127.0.0.1:{port}/"), Unavailable)


async def test_a_chunk_that_never_begins(serve_raw, open_session):
    """Bytes that belong to no body, such as the endless extension of a chunk, hold nobody up for longer than a stall."""

    async def speak(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5")
        while True:
            writer.write(b";name=value")
            await writer.drain()
            await asyncio.sleep(0.01)

    port = await serve_raw(speak)
    session = await open_session(f"http://127.0.0.1:{port}/simple/", limits={"stall_timeout_s": 0.2})
    found = await failure(session, f"http://127.0.0.1:{port}/x{SECRET}")
    assert isinstance(found, Unavailable)
    assert "stall-timeout" in str(found)
    assert session.pushback == 1


async def test_body_that_drips(serve, open_session):
    """A body that comes slower than 1 KiB a second on average is given up after stall-timeout."""

    async def drip(request):
        response = web.StreamResponse(headers={"Content-Length": "1000000"})
        await response.prepare(request)
        while True:
            await response.write(b"x")
            await asyncio.sleep(0.005)

    own = await serve(drip)
    session = await open_session(own.url, limits={"stall_timeout_s": 0.1})
    assert "slower than 1024 bytes a second" in str(await failure(session, own.url))


async def test_cut_body(serve, open_session):
    """A body shorter than its Content-Length is a failure, never a whole body."""

    async def cut(request):
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"some")
        request.transport.close()
        return response

    own = await serve(cut)
    session = await open_session(own.url)
    assert "the body was cut" in str(await failure(session, own.url))


async def test_redirect_whose_body_is_cut(serve, open_session):
    """What happens to the body of a redirect does not matter."""

    async def index(request):
        if request.path == "/end":
            return web.Response(body=b"end")
        response = web.StreamResponse(status=302, headers={"Location": "/end", "Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"some")
        request.transport.close()
        return response

    own = await serve(index)
    session = await open_session(own.url)
    assert await failure(session, own.url) == b"end"


async def test_no_http(serve_raw, open_session):
    """An answer that is not HTTP is told as such."""

    async def speak(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 ftp.example ready\r\n\r\n")

    port = await serve_raw(speak)
    session = await open_session(f"http://127.0.0.1:{port}/")
    assert "not valid HTTP" in str(await failure(session, f"http://127.0.0.1:{port}/"))


async def test_budget_bounds_body_and_all(serve, open_session):
    """A budget ends a request in the middle of its body, and the caller is told so."""

    async def slow(request):
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"some")
        await asyncio.Event().wait()

    own = await serve(slow)
    session = await open_session(own.url)
    found = await failure(session, own.url, budget=Budget(0.05))
    assert "no complete answer within 0.05 s" in str(found)
    assert session.pushback == 1


@contextlib.contextmanager
def no_more_files():
    """Use up the file descriptors of this process, really."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, soft), hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(socket.socket())
        yield
    finally:
        for one in held:
            one.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_too_many_open_files(serve, open_session, tmp_path):
    """Running out of file descriptors is no fault of the index or the credential: the message says what to raise."""
    own = await serve(answering(lambda: web.Response(body=b"x")))
    secret = tmp_path / "secret"
    secret.write_text("password")
    for auth in (
        {"kind": "none"},
        {"kind": "basic", "username": "u", "password_file": secret},
        {"kind": "command", "command": ("true",)},
        {"kind": "netrc"},
    ):
        session = await open_session(own.url, auth=auth)
        if auth["kind"] == "none":
            await session.prepare()
        with no_more_files(), pytest.raises(TreeError, match="LimitNOFILE"):
            async with session.get(own.url, kind=RequestKind.FILE, headers={}):
                pass
        assert session.denied is None


@pytest.mark.parametrize(
    ("exc", "words", "pushes_back"),
    [
        pytest.param(aiohttp.ConnectionTimeoutError("x"), "no connection within connect-timeout", True, id="connect"),
        pytest.param(aiohttp.SocketTimeoutError("x"), "no byte came for 9 s", True, id="read"),
        pytest.param(
            aiohttp.ServerDisconnectedError("http://x/?very-secret"),
            "closed without an answer",
            True,
            id="disconnected",
        ),
        pytest.param(aiohttp.ClientPayloadError("very-secret"), "the body was cut", True, id="payload"),
        pytest.param(aiohttp.InvalidURL("http://very-secret"), "the request failed (InvalidURL)", False, id="url"),
        pytest.param(
            ConnectionResetError(errno.ECONNRESET, "very-secret"), "Connection reset by peer", True, id="reset"
        ),
        pytest.param(OSError("very-secret"), "the connection broke (OSError)", False, id="no number"),
        pytest.param(OSError(errno.EMFILE, "x"), "too many open files", False, id="open files"),
        pytest.param(ssl.SSLError(1, "very-secret"), "the connection broke", False, id="tls"),
        pytest.param(
            aiohttp.ClientConnectorSSLError(None, ssl.SSLError(1, "very-secret")),
            "the TLS handshake failed",
            False,
            id="handshake",
        ),
        pytest.param(aiohttp.ClientOSError(errno.EPIPE, "very-secret"), "Broken pipe", False, id="pipe"),
    ],
)
def test_causes_are_in_our_words(exc, words, pushes_back):
    """A cause names the failure and never quotes the library's text."""
    text = str(failure_of(exc, "http://h/x", timeout_s=9))
    assert words in text
    assert "very-secret" not in text
    assert is_pushback(exc) is pushes_back


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("text/html", ("text/html", None), id="plain"),
        pytest.param('Text/HTML; Charset="ISO-8859-1"; x=y', ("text/html", "ISO-8859-1"), id="quoted charset"),
        pytest.param("application/json;charset=", ("application/json", None), id="empty charset"),
        pytest.param("", ("", None), id="nothing"),
    ],
)
def test_media_type(value, expected):
    """Type and charset are read from a Content-Type."""
    assert media_type({"Content-Type": value}) == expected
