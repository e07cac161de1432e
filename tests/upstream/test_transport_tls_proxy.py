"""TLS with our own authorities and certificates, proxies, and rates."""

from __future__ import annotations

import asyncio

import anyio
import pytest
from aiohttp import encode_basic_auth, web

from mirror.errors import ConfigError, RedirectRefused, Unavailable
from mirror.upstream.connections.proxies import Proxy, ProxyChoice, is_exempt, parse_proxy
from mirror.upstream.limits.rate import Budget, TokenBucket
from mirror.upstream.session import RequestKind


async def ok(request):
    return web.Response(body=b"x" * 1000)


async def read(session, url):
    async with session.get(url, kind=RequestKind.FILE, headers={}) as response:
        return await response.read_at_most(10**6)


async def test_untrusted_certificate(serve, open_session, authority):
    """A certificate of an unknown authority is not trusted, and the message says what adds one."""
    own = await serve(ok, tls=authority.server_context())
    session = await open_session(own.url)
    with pytest.raises(Unavailable, match=r"certificate is not trusted .*ca-file"):
        await read(session, own.url)
    assert own.requests == []


@pytest.mark.parametrize("by", ["ca-file", "SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE"])
async def test_own_authority(serve, open_session, authority, by):
    """An authority is added by the index's ca-file or by a variable; it holds for redirects too."""
    store = await serve(ok, tls=authority.server_context())

    async def index(request):
        return web.Response(status=302, headers={"Location": store.url})

    own = await serve(index, tls=authority.server_context())
    options = {"ca_file": authority.ca} if by == "ca-file" else {"env": {by: str(authority.ca)}}
    session = await open_session(own.url, **options)
    await session.prepare()
    assert len(await read(session, own.url)) == 1000


async def test_certificate_of_another_host(serve, open_session, authority):
    """A certificate that is not for the host is refused."""
    own = await serve(ok, tls=authority.server_context(), host="127.0.0.2")
    session = await open_session(own.url, ca_file=authority.ca)
    with pytest.raises(Unavailable, match="not trusted"):
        await read(session, own.url)


async def test_client_certificate(serve, open_session, authority):
    """The client certificate is shown to the index, and not to a host that it redirects to."""
    shown = []

    async def note(request):
        shown.append(
            request.transport.get_extra_info("peercert") is not None
            and bool(request.transport.get_extra_info("peercert"))
        )
        return (
            web.Response(status=302, headers={"Location": store.url})
            if request.path == "/simple/"
            else await ok(request)
        )

    own = await serve(note, tls=authority.server_context(wants_client=True))
    store = await serve(ok, tls=authority.server_context(wants_client=True))
    files = {"client_cert": authority.directory / "client.pem", "client_key": authority.directory / "client.key"}
    session = await open_session(own.url, ca_file=authority.ca, **files)
    assert len(await read(session, own.url + "file")) == 1000
    with pytest.raises(Unavailable):
        await read(session, own.url)
    assert shown == [True, True]
    assert store.requests == []


@pytest.mark.parametrize(
    ("options", "named"),
    [
        pytest.param({"ca_file": "/nonexistent/ca.pem"}, "ca-file", id="no ca-file"),
        pytest.param({"client_cert": "/nonexistent/c.pem"}, "client-cert", id="no client-cert"),
        pytest.param({"env": {"SSL_CERT_FILE": "/nonexistent/x.pem"}}, "SSL_CERT_FILE", id="no SSL_CERT_FILE"),
        pytest.param({"ca_file": __file__}, "ca-file", id="a ca-file that is none"),
        pytest.param({"client_cert": __file__}, "client-cert", id="a client-cert that is none"),
        pytest.param({"env": {"SSL_CERT_FILE": __file__}}, "SSL_CERT_FILE", id="an SSL_CERT_FILE that is none"),
        pytest.param({"env": {"PIP_CERT": "/nonexistent/x.pem"}}, "PIP_CERT", id="no PIP_CERT"),
        pytest.param({"env": {"REQUESTS_CA_BUNDLE": __file__}}, "REQUESTS_CA_BUNDLE", id="a bundle that is none"),
    ],
)
async def test_unusable_certificates_are_named(open_session, options, named):
    """A certificate file that can't be used is told before anything is asked, by its key."""
    session = await open_session("https://127.0.0.1:9/simple/", **options)
    with pytest.raises(ConfigError, match=named):
        await session.prepare()


@pytest.fixture
async def proxy(serve_raw):
    """A forward proxy that tunnels CONNECT and forwards plain requests; it wants the user ``p`` with ``w:d``."""
    seen = []

    async def pump(reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

    async def speak(reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, target, _ = head.split("\r\n")[0].split(" ")
        headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        seen.append((method, target, headers))
        if headers.get("Proxy-Authorization") != encode_basic_auth("p", "w:d"):
            writer.write(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return
        authority = target if method == "CONNECT" else target.split("/")[2]
        host, _, port = authority.rpartition(":")
        up_reader, up_writer = await asyncio.open_connection(host, int(port))
        try:
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            else:
                path = "/" + target.split("/", 3)[3]
                up_writer.write(head.replace(target, path, 1).replace("keep-alive", "close").encode())
            await asyncio.wait(
                [asyncio.ensure_future(pump(reader, up_writer)), asyncio.ensure_future(pump(up_reader, writer))],
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            up_writer.close()

    return await serve_raw(speak), seen


async def test_plain_proxy(serve, open_session, proxy):
    """A plain request goes through the proxy byte for byte, with the proxy's credential that the index never sees."""
    port, seen = proxy

    async def close(request):
        response = await ok(request)
        response.force_close()
        return response

    own = await serve(close)
    session = await open_session(own.url, env={"HTTP_PROXY": f"http://p:w%3Ad@127.0.0.1:{port}"})
    assert len(await read(session, own.url + "a%2Bb?x=%7E")) == 1000
    assert [(method, target) for method, target, _ in seen] == [("GET", f"{own.url}a%2Bb?x=%7E")]
    assert own.paths == ["/simple/a%2Bb?x=%7E"]
    with pytest.raises(RedirectRefused):
        # Behind a proxy only what the URL itself says can be judged.
        await read(session, "http://169.254.169.254/")


async def test_tunnel(serve, open_session, proxy, authority):
    """An https request is tunnelled; the index's credential stays inside, the proxy's outside."""
    port, seen = proxy
    own = await serve(ok, tls=authority.server_context())
    env = {"https_proxy": f"p:w%3Ad@127.0.0.1:{port}", "MIRROR_TEST_USERNAME": "u", "MIRROR_TEST_PASSWORD": "pass"}
    session = await open_session(own.url, env=env, ca_file=authority.ca)
    assert len(await read(session, own.url)) == 1000
    assert [(method, target) for method, target, _ in seen] == [("CONNECT", f"127.0.0.1:{own.port}")]
    assert "Authorization" not in seen[0][2]
    assert own.header("Authorization") == [encode_basic_auth("u", "pass")]
    assert own.header("Proxy-Authorization") == [None]


@pytest.mark.parametrize("by", ["ca-file", "SSL_CERT_FILE", None])
async def test_proxy_behind_tls(serve, open_session, authority, by):
    """A proxy that is itself spoken to by TLS is verified against our own authorities, also for plain http."""
    gate = await serve(ok, tls=authority.server_context())
    options = {"ca_file": authority.ca} if by == "ca-file" else {}
    env = {"SSL_CERT_FILE": str(authority.ca)} if by == "SSL_CERT_FILE" else {}
    session = await open_session("http://127.0.0.1:9/", proxy=f"https://127.0.0.1:{gate.port}", env=env, **options)
    if by is None:
        with pytest.raises(Unavailable):
            await read(session, "http://127.0.0.1:9/")
        assert gate.requests == []
    else:
        assert len(await read(session, "http://127.0.0.1:9/")) == 1000
        assert len(gate.requests) == 1


async def test_proxy_that_refuses(serve, open_session, proxy, authority):
    """A proxy's refusal is told as the proxy's."""
    port, _ = proxy
    session = await open_session("https://127.0.0.1:9/", proxy=f"http://127.0.0.1:{port}")
    with pytest.raises(Unavailable, match="the proxy answered 407"):
        await read(session, "https://127.0.0.1:9/")


async def test_proxy_that_is_not_there(open_session):
    """A proxy that can't be reached is named as the cause."""
    session = await open_session("http://127.0.0.1:9/", proxy="http://127.0.0.1:1")
    with pytest.raises(Unavailable, match="the proxy can't be reached"):
        await read(session, "http://127.0.0.1:9/")


@pytest.mark.parametrize(
    ("env", "origin", "url"),
    [
        pytest.param({}, ("https", "h", 443), None, id="none"),
        pytest.param({"HTTPS_PROXY": "http://a:1"}, ("https", "h", 443), "http://a:1", id="by scheme"),
        pytest.param({"HTTPS_PROXY": "http://a:1"}, ("http", "h", 80), None, id="another scheme"),
        pytest.param({"ALL_PROXY": "a:1"}, ("http", "h", 80), "http://a:1", id="all"),
        pytest.param(
            {"https_proxy": "http://low:1", "HTTPS_PROXY": "http://up:1"},
            ("https", "h", 443),
            "http://low:1",
            id="lower case wins",
        ),
        pytest.param(
            {"https_proxy": "", "HTTPS_PROXY": "http://up:1"}, ("https", "h", 443), None, id="lower case empty"
        ),
        pytest.param({"HTTPS_PROXY": "http://a:1", "NO_PROXY": "x, .h"}, ("https", "a.h", 443), None, id="exempt"),
        pytest.param({"NO_PROXY": "*"}, ("https", "h", 443), None, id="only exemptions"),
    ],
)
def test_choice_of_a_proxy(env, origin, url):
    """The environment's variables choose the proxy, as curl and pip read them."""
    choice = ProxyChoice(None, env=env, where="x")
    for _ in range(2):
        found = choice.for_origin(*origin)
        assert (None if found is None else found.url) == url


def test_configured_proxy_wins():
    """The index's own proxy is used for everything, whatever the environment says."""
    choice = ProxyChoice("http://own:1", env={"HTTPS_PROXY": "http://a:1", "NO_PROXY": "*"}, where="x")
    assert choice.for_origin("https", "h", 443) == Proxy(url="http://own:1")


@pytest.mark.parametrize(
    ("host", "port", "no_proxy", "expected"),
    [
        pytest.param("h.example", 443, "example", True, id="a domain"),
        pytest.param("h.example", 443, ".example", True, id="a domain with a dot"),
        pytest.param("h.example", 443, "*.example", True, id="a domain with a star"),
        pytest.param("hexample", 443, "example", False, id="only a suffix of the text"),
        pytest.param("H.Example.", 443, "h.example", True, id="case and final dot"),
        pytest.param("h", 443, "h:443", True, id="with the port"),
        pytest.param("h", 443, "h:80", False, id="another port"),
        pytest.param("[::1]", 443, "::1", True, id="IPv6"),
        pytest.param("[::1]", 443, "[::1]:443", True, id="IPv6 with the port"),
        pytest.param("h", 443, "a b,c *", True, id="a star"),
        pytest.param("h", 443, "", False, id="nothing"),
    ],
)
def test_exemptions(host, port, no_proxy, expected):
    """NO_PROXY names hosts, domains and ports."""
    assert is_exempt(host, port, no_proxy) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("h:1", Proxy(url="http://h:1"), id="host and port"),
        pytest.param("https://h", Proxy(url="https://h"), id="https"),
        pytest.param("http://[::1]:8", Proxy(url="http://[::1]:8"), id="IPv6"),
        pytest.param(
            "http://u:p%40w@h:1/", Proxy(url="http://h:1", authorization=encode_basic_auth("u", "p@w")), id="user info"
        ),
    ],
)
def test_proxies_are_read(text, expected):
    """A proxy's URL is read, and its user info kept apart and hidden."""
    found = parse_proxy(text, where="x")
    assert found == expected
    assert "Basic" not in repr(found)


@pytest.mark.parametrize(
    "text", ["socks5://u:hidden@h:1", "http://u:hidden@h:port", "http://u:hidden@:1", "http://u%3Ax:hidden@h"]
)
def test_unusable_proxies_are_not_quoted(text):
    """A proxy that can't be used is refused without showing its password."""
    with pytest.raises(ConfigError) as caught:
        parse_proxy(text, where="$HTTPS_PROXY")
    assert "hidden" not in str(caught.value)
    assert "$HTTPS_PROXY" in str(caught.value)


async def test_token_bucket():
    """A burst is free, then each unit is paid for in time; without a limit nothing is."""
    bucket = TokenBucket(50)
    waits = [await bucket.take(1) for _ in range(55)]
    assert waits[:50] == [0.0] * 50
    assert all(0 < wait <= 0.1 for wait in waits[51:])
    assert [await TokenBucket(0).take(10**9), TokenBucket(0).is_off] == [0.0, True]


async def test_rates_hold_and_do_not_use_up_the_budget(serve, open_session):
    """Requests and bytes are paced, and our own waiting does not count against an upstream's time."""
    own = await serve(ok)
    session = await open_session(own.url, limits={"requests_per_second": 20.0, "bytes_per_second": 4000})
    started = anyio.current_time()
    for _ in range(6):
        async with session.get(own.url, kind=RequestKind.FILE, headers={}, budget=Budget(0.2)) as response:
            assert len(await response.read_at_most(10**6)) == 1000
    # 6,000 bytes at 4,000 a second, of which the first second's worth is free.
    assert anyio.current_time() - started > 0.4
    assert session.traffic.file_bytes == 6000


async def test_at_most_so_many_connections(serve, open_session):
    """No more requests are under way than max-connections allows, redirects to other hosts included."""
    under_way, most = 0, 0
    gate = asyncio.Event()

    async def count(request):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if most >= 3:
            gate.set()
        await gate.wait()
        under_way -= 1
        return await ok(request)

    own = await serve(count)
    session = await open_session(own.url, limits={"max_connections": 3})
    async with anyio.create_task_group() as tasks:
        for _ in range(12):
            tasks.start_soon(read, session, own.url)
    assert most == 3


async def test_no_cookies(serve, open_session):
    """Cookies of an index are not kept."""

    async def index(request):
        return web.Response(headers={"Set-Cookie": "a=b; Path=/"})

    own = await serve(index)
    session = await open_session(own.url)
    await read(session, own.url)
    await read(session, own.url)
    assert own.header("Cookie") == [None, None]
