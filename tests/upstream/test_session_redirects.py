"""Redirects: who gets the credential, which bytes arrive, and where they must not lead."""

from __future__ import annotations

import pytest
from aiohttp import web

from mirror.errors import RedirectRefused, Unavailable
from mirror.upstream.session import RequestKind

BASIC = {"MIRROR_TEST_USERNAME": "org/user", "MIRROR_TEST_PASSWORD": "secret-word"}
HEADER = "Basic b3JnL3VzZXI6c2VjcmV0LXdvcmQ="


async def read(session, url, kind=RequestKind.FILE, headers=None):
    async with session.get(url, kind=kind, headers=headers or {}) as response:
        return response.status, response.url, await response.read_at_most(10**6)


def redirect(location, status=302, body="<html>Found</html>"):
    return web.Response(status=status, headers={"Location": location}, text=body, content_type="text/html")


async def ok(request):
    return web.Response(body=b"the file")


async def test_credential_goes_to_the_index_only(serve, open_session):
    """A redirect to another port gets no credential, and its body is what counts, not the redirect's."""
    store = await serve(ok)

    async def index(request):
        return redirect(f"http://127.0.0.1:{store.port}/blob")

    own = await serve(index)
    session = await open_session(own.url, env=BASIC)
    assert await read(session, own.url + "f") == (200, f"http://127.0.0.1:{store.port}/blob", b"the file")
    assert own.header("Authorization") == [HEADER]
    assert store.header("Authorization") == [None]
    assert session.traffic.requests == 2


async def test_credential_is_not_given_again_after_a_chain_left(serve, open_session):
    """A chain that leaves the index's origin and comes back gets no credential any more."""
    servers = {}

    async def index(request):
        if request.path == "/back":
            return web.Response(body=b"back")
        return redirect(f"http://127.0.0.1:{servers['other'].port}/there")

    async def other(request):
        return redirect(f"http://127.0.0.1:{servers['own'].port}/back")

    servers["own"], servers["other"] = await serve(index), await serve(other)
    session = await open_session(servers["own"].url, env=BASIC)
    assert (await read(session, servers["own"].url))[2] == b"back"
    assert servers["own"].header("Authorization") == [HEADER, None]


async def test_credential_stays_within_the_index(serve, open_session):
    """Redirects within the index's own origin keep the credential; a relative Location is resolved."""

    async def index(request):
        return {
            "/simple/a/": redirect("../b/"),
            "/simple/b/": redirect("/simple/c/?x=%2B", 308),
            "/simple/c/": web.Response(body=b"c"),
        }[request.path]

    own = await serve(index)
    session = await open_session(own.url, env=BASIC)
    assert (await read(session, own.url + "a/"))[2] == b"c"
    assert own.paths == ["/simple/a/", "/simple/b/", "/simple/c/?x=%2B"]
    assert own.header("Authorization") == [HEADER] * 3


@pytest.mark.parametrize(
    ("location", "arrives"),
    [
        pytest.param("/o%2Fb%7Ej?S=%2B%2F%7E&e=a+b&k=%3d", "/o%2Fb%7Ej?S=%2B%2F%7E&e=a+b&k=%3d", id="a signed query"),
        pytest.param("/a~b?x=~&y=[1]&z=a'b(c)", "/a~b?x=~&y=[1]&z=a'b(c)", id="characters that need no escape"),
        pytest.param("/a b?q=ü", "/a%20b?q=%C3%BC", id="what can't stand in a URL is escaped"),
        pytest.param("/x#part", "/x", id="a fragment is not sent"),
        pytest.param("/%zz?%", "/%zz?%", id="broken escapes"),
    ],
)
async def test_location_arrives_byte_for_byte(serve, open_session, location, arrives):
    """A pre-signed Location reaches its host unchanged, absolute or relative."""
    store = await serve(ok)

    async def index(request):
        if request.path == "/simple/absolute":
            return redirect(f"http://u:p@127.0.0.1:{store.port}{location}")
        return redirect(location) if request.path == "/simple/relative" else await ok(request)

    own = await serve(index)
    session = await open_session(own.url)
    await read(session, own.url + "absolute")
    assert store.paths == [arrives]
    assert store.header("Authorization") == [None]
    await read(session, own.url + "relative")
    assert own.paths[-1] == arrives


async def test_link_arrives_byte_for_byte(serve, open_session):
    """The URL of a page's link is sent as it is listed, without user info."""
    own = await serve(ok)
    session = await open_session(own.url)
    await read(session, f"http://u:p@127.0.0.1:{own.port}/a%2Bb-1.0%7E.whl?x=%2F+%2b")
    assert own.paths == ["/a%2Bb-1.0%7E.whl?x=%2F+%2b"]
    assert own.header("Authorization") == [None]


async def test_five_redirects_are_followed_and_six_refused(serve, open_session):
    """Five hops are followed; the sixth is refused and nothing more is asked."""

    async def index(request):
        left = int(request.path.rpartition("/")[2])
        return redirect(f"/{left - 1}") if left else web.Response(body=b"end")

    own = await serve(index)
    session = await open_session(own.url)
    assert (await read(session, own.url + "5"))[2] == b"end"
    with pytest.raises(RedirectRefused) as caught:
        await read(session, own.url + "6")
    assert "more than 5 redirects" in str(caught.value)
    assert len(own.requests) == 6 + 6


@pytest.mark.parametrize(
    ("location", "cause"),
    [
        pytest.param("file:///etc/passwd", "only http and https", id="file"),
        pytest.param("ftp://127.0.0.1/x", "only http and https", id="ftp"),
        pytest.param("javascript:alert(1)", "only http and https", id="javascript"),
        pytest.param("http:///x", "no usable host", id="no host"),
        pytest.param("http://[::1/x", "not a usable URL", id="broken IPv6"),
        pytest.param("http://h:99999/x", "not a usable URL", id="port out of range"),
        pytest.param("http://a b/x", "no usable host", id="space in the host"),
        pytest.param("http://169.254.169.254/latest/meta-data", "link-local", id="link-local"),
        pytest.param("http://[::ffff:169.254.169.254]/", "link-local", id="link-local within IPv6"),
        pytest.param("http://[fe80::1]/", "link-local", id="link-local IPv6"),
        pytest.param("http://224.0.0.1/", "multicast", id="multicast"),
        pytest.param("http://0xa9fea9fe/", "link-local", id="link-local as a number"),
        pytest.param("", "without a Location", id="no Location"),
    ],
)
async def test_redirects_that_lead_astray_are_refused(serve, open_session, location, cause):
    """A redirect to another scheme, to no host or to a forbidden address is refused without a connection."""

    async def index(request):
        return redirect(location)

    own = await serve(index)
    session = await open_session(own.url)
    with pytest.raises(RedirectRefused) as caught:
        await read(session, own.url)
    assert cause in str(caught.value)
    assert len(own.requests) == 1


async def test_a_link_is_held_to_the_same_rules(serve, open_session):
    """A link of a page to a forbidden address is refused as a redirect is."""
    own = await serve(ok)
    session = await open_session(own.url)
    for link in ("http://169.254.1.1/x.whl", "ftp://127.0.0.1/x.whl"):
        with pytest.raises(RedirectRefused):
            await read(session, link)
    assert own.requests == []


async def test_https_is_never_downgraded(serve, open_session, authority):
    """Neither a redirect nor a link leads from https to plain http."""
    plain = await serve(ok)

    async def index(request):
        return redirect(f"http://127.0.0.1:{plain.port}/x")

    own = await serve(index, tls=authority.server_context())
    session = await open_session(own.url, ca_file=authority.ca)
    for url in (own.url, f"http://127.0.0.1:{plain.port}/y"):
        with pytest.raises(RedirectRefused, match="from https to plain http"):
            await read(session, url)
    assert plain.requests == []


@pytest.mark.parametrize("status", [300, 305, 306])
async def test_other_300s_are_no_redirects(serve, open_session, status):
    """A status that is no redirect is not followed, even with a Location."""

    async def index(request):
        return redirect("/elsewhere", status)

    own = await serve(index)
    session = await open_session(own.url)
    with pytest.raises(Unavailable, match=str(status)):
        await read(session, own.url)
    assert own.paths == ["/simple/"]


async def test_expired_signed_url_is_asked_for_again(serve, open_session):
    """A 403 of the object store asks the index's own URL once more, which gives a fresh one."""
    answers = iter([web.Response(status=403), web.Response(body=b"fresh")])

    async def store_handler(request):
        return next(answers)

    store = await serve(store_handler)
    signed = iter(range(9))

    async def index(request):
        return redirect(f"http://127.0.0.1:{store.port}/f?sig={next(signed)}")

    own = await serve(index)
    session = await open_session(own.url)
    assert (await read(session, own.url + "f"))[2] == b"fresh"
    assert store.paths == ["/f?sig=0", "/f?sig=1"]


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_refusal_by_the_redirected_host_is_not_the_indexs(serve, open_session, status):
    """A redirected host that refuses twice has refused the item; the index itself has neither denied nor lost anything."""

    async def refuse(request):
        return web.Response(status=status)

    store = await serve(refuse)

    async def index(request):
        return redirect(f"http://127.0.0.1:{store.port}/f?token=signature")

    own = await serve(index)
    session = await open_session(own.url, env=BASIC)
    with pytest.raises(Unavailable) as caught:
        await read(session, own.url + "f")
    assert str(status) in str(caught.value)
    assert "signature" not in str(caught.value)
    assert caught.value.reason.value == ("not-found" if status == 404 else "denied")
    assert len(own.requests) == 2
    assert session.denied is None


async def test_redirects_keep_the_connection(serve, open_session):
    """The short body of a redirect is read to its end, so that one connection serves them all."""
    peers = []

    async def index(request):
        peers.append(request.transport.get_extra_info("peername"))
        return web.Response(body=b"x") if request.path == "/end" else redirect("/end")

    own = await serve(index)
    session = await open_session(own.url)
    for _ in range(3):
        await read(session, own.url)
    assert len(set(peers)) == 1


async def test_long_body_of_a_redirect_is_not_read(serve, open_session):
    """An endless body of a redirect is cut off; the redirect is followed."""

    async def index(request):
        if request.path == "/end":
            return web.Response(body=b"end")
        response = web.StreamResponse(status=302, headers={"Location": "/end"})
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)

    own = await serve(index)
    session = await open_session(own.url)
    assert (await read(session, own.url))[2] == b"end"
