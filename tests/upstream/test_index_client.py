"""Pages: conditional, bounded, retried, recognised and parsed."""

from __future__ import annotations

import gc
import gzip
import hashlib
import zlib

import msgspec
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from mirror.config import Limits
from mirror.core.model import ListedFile, ProjectMeta, ProjectPage, RootPage, Validators
from mirror.core.names import ProjectName
from mirror.errors import BadPage, NotFound, TooLarge, Unavailable
from mirror.upstream.exchange import Exchange
from mirror.upstream.index import IndexClient, Read, Unchanged, is_json
from mirror.upstream.limits.retry import RetryPolicy
from mirror.upstream.pages import Decoder

NAME = ProjectName("demo")
V1_JSON = "application/vnd.pypi.simple.v1+json"
V1_HTML = "application/vnd.pypi.simple.v1+html"
HTML = b'<!DOCTYPE html><html><head><meta name="pypi:repository-version" content="1.0"></head><body><a href="demo-1.tar.gz">x</a></body></html>'


def sha256(body):
    return hashlib.sha256(body).hexdigest()


@pytest.fixture
def client_of(serve, open_session, new_index, quick):
    """Start a server with one handler and return it with a client of it."""

    async def start(handler, *, policy=quick, **limits):
        own = await serve(handler)
        session = await open_session(own.url, limits=limits)
        return own, IndexClient(session, new_index(own.url), Limits(**limits), policy=policy)

    return start


def answer(body, kind=V1_JSON, **headers):
    async def handler(request):
        return web.Response(
            body=body, headers={"Content-Type": kind, **{k.replace("_", "-"): v for k, v in headers.items()}}
        )

    return handler


async def test_requests_leave_little_to_the_collector(client_of, json_page):
    """A request is freed as it ends: to collect thousands of them would take a worker process a twentieth of its time."""
    _, client = await client_of(answer(json_page("demo")))
    gc.disable()
    try:
        of_other_tests = _exchanges()
        for _ in range(5):
            await client.fetch_project(NAME, None)
        left = [one for one in _exchanges() if not any(one is other for other in of_other_tests)]
    finally:
        gc.enable()
    assert len(left) <= 2  # the last one, and the one that opened the connection


def _exchanges() -> list[Exchange]:
    return [one for one in gc.get_objects() if type(one) is Exchange]


async def test_json_page(client_of, json_page):
    """A JSON page is asked for first and read with all that identifies it later."""
    body = json_page("demo", {"filename": "demo-1.tar.gz", "url": "../../f/demo-1.tar.gz", "hashes": {}, "size": 3})
    own, client = await client_of(answer(body, ETag='W/"1"', Last_Modified="Sun, 22 Nov 2026 12:00:00 GMT"))
    look = await client.fetch_project(NAME, None)
    page = ProjectPage(
        name=NAME,
        files=(ListedFile(filename="demo-1.tar.gz", url=f"http://127.0.0.1:{own.port}/f/demo-1.tar.gz", size=3),),
        meta=ProjectMeta(versions=()),
    )
    validators = Validators(etag='W/"1"', last_modified="Sun, 22 Nov 2026 12:00:00 GMT", digest=sha256(body))
    assert look == Read(page=page, validators=validators)
    assert own.paths == ["/simple/demo/"]
    assert own.header("Accept")[0].startswith(f"{V1_JSON}, {V1_HTML};q=")
    assert own.header("Accept-Encoding") == ["gzip"]
    assert own.header("User-Agent")[0].startswith("offline-mirror/")


@pytest.mark.parametrize("kind", [V1_HTML, "text/html", "text/html; charset=utf-8", "", "application/octet-stream"])
async def test_html_page(client_of, kind):
    """An HTML page is read from any server, also one that labels it badly."""
    own, client = await client_of(answer(HTML, kind))
    look = await client.fetch_project(NAME, None)
    assert [file.url for file in look.page.files] == [f"{own.url}demo/demo-1.tar.gz"]
    assert look.page.is_html


async def test_root_pages(client_of):
    """A root is read from JSON with its serials, and from HTML."""
    body = msgspec.json.encode(
        {"meta": {"api-version": "1.0", "_last-serial": 9}, "projects": [{"name": "A_b", "_last-serial": 7}]}
    )
    _, client = await client_of(answer(body))
    look = await client.fetch_root(None)
    page = RootPage(projects={ProjectName("a-b"): 7}, serial=9)
    assert look == Read(page=page, validators=Validators(serial=9, digest=sha256(body)))
    _, client = await client_of(answer(b'<html><body><a href="a-b/">A_b</a></body></html>', "text/html"))
    look = await client.fetch_root(None)
    assert look.page.projects == {"a-b": None}


async def test_links_start_from_the_final_url(client_of):
    """Relative links of a page that was redirected start from where it came from in the end."""

    async def handler(request):
        if request.path == "/simple/demo/":
            return web.Response(status=301, headers={"Location": "/elsewhere/demo/"})
        return web.Response(body=HTML, content_type="text/html")

    own, client = await client_of(handler)
    look = await client.fetch_project(NAME, None)
    assert look.page.files[0].url == f"http://127.0.0.1:{own.port}/elsewhere/demo/demo-1.tar.gz"


async def test_304_is_unchanged(client_of):
    """What the index knows of our copy is sent, and its 304 means unchanged; a new ETag replaces the old one."""

    async def handler(request):
        return web.Response(status=304, headers={"ETag": '"2"'})

    own, client = await client_of(handler)
    known = Validators(etag='"1"', last_modified="Sun, 22 Nov 2026 12:00:00 GMT", serial=5, digest="d")
    look = await client.fetch_project(NAME, known)
    assert look == Unchanged(validators=Validators(etag='"2"', last_modified=known.last_modified, serial=5, digest="d"))
    assert own.header("If-None-Match") == ['"1"']
    assert own.header("If-Modified-Since") == [known.last_modified]


async def test_304_to_an_unconditional_request(client_of):
    """A 304 that nobody asked for says nothing about a page, and is tried again."""

    async def handler(request):
        return web.Response(status=304)

    own, client = await client_of(handler)
    with pytest.raises(Unavailable, match="after 5 tries"):
        await client.fetch_project(NAME, None)
    assert len(own.requests) == 5


async def test_equal_bytes_are_unchanged(client_of, json_page):
    """Without a validator the digest of the page tells that nothing changed, for the root too."""
    body = json_page()
    _, client = await client_of(answer(body, ETag='"new"'))
    known = Validators(serial=3, digest=sha256(body))
    unchanged = Unchanged(validators=Validators(etag='"new"', serial=3, digest=sha256(body)))
    assert await client.fetch_project(NAME, known) == unchanged
    assert await client.fetch_root(known) == unchanged


@pytest.mark.parametrize("value", ['"ü"', "x" * 2000], ids=["not ASCII", "too long"])
async def test_validators_that_can_not_be_sent_back(client_of, json_page, value):
    """A validator that is unfit for a header is not kept."""
    _, client = await client_of(answer(json_page(), ETag=value))
    look = await client.fetch_project(NAME, None)
    assert look.validators.etag is None


def deflated(body, wbits):
    packer = zlib.compressobj(wbits=wbits)
    return packer.compress(body) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        pytest.param("gzip", gzip.compress, id="gzip"),
        pytest.param("X-GZIP", gzip.compress, id="x-gzip"),
        pytest.param("gzip", lambda body: gzip.compress(body[:9]) + gzip.compress(body[9:]), id="gzip in two members"),
        pytest.param("deflate", lambda body: deflated(body, zlib.MAX_WBITS), id="deflate"),
        pytest.param("deflate", lambda body: deflated(body, -zlib.MAX_WBITS), id="raw deflate"),
        pytest.param("identity", bytes, id="identity"),
    ],
)
async def test_compressed_pages(client_of, encoding, pack):
    """A compressed page is the same page: the digest is that of the decoded bytes."""
    _, client = await client_of(answer(pack(HTML), "text/html", Content_Encoding=encoding))
    look = await client.fetch_project(NAME, None)
    assert look.page.files[0].filename == "demo-1.tar.gz"
    assert look.validators.digest == sha256(HTML)


@pytest.mark.parametrize(
    ("body", "encoding", "cause"),
    [
        pytest.param(HTML, "br", "was not asked for", id="an encoding that was not asked for"),
        pytest.param(HTML, "gzip", "damaged", id="not what it says"),
        pytest.param(deflated(HTML, zlib.MAX_WBITS) + b"more", "deflate", "bytes follow", id="bytes after deflate"),
        pytest.param(b"PK\x03\x04", "", "does not look like one", id="neither JSON nor HTML"),
        pytest.param(b"", "", "does not look like one", id="empty"),
    ],
)
async def test_bad_bodies(client_of, body, encoding, cause):
    """What can't be a page is refused after one request."""
    headers = {"Content_Encoding": encoding} if encoding else {}
    own, client = await client_of(answer(body, "application/x", **headers))
    with pytest.raises(BadPage, match=cause):
        await client.fetch_project(NAME, None)
    assert len(own.requests) == 1


@pytest.mark.parametrize("body", [gzip.compress(HTML)[:-9], b""], ids=["cut", "empty"])
async def test_cut_compression_is_tried_again(client_of, body):
    """A compressed body without its end was cut on the way."""
    own, client = await client_of(answer(body, "text/html", Content_Encoding="gzip"))
    with pytest.raises(Unavailable, match="cut"):
        await client.fetch_project(NAME, None)
    assert len(own.requests) == 5


@pytest.mark.parametrize("is_packed", [False, True])
async def test_bounds(client_of, is_packed):
    """A page over its limit is refused, also as a decompression bomb, and the message names the setting."""
    bomb = b"<" + b" " * 50_000_000
    headers = {"Content_Encoding": "gzip"} if is_packed else {}
    own, client = await client_of(
        answer(gzip.compress(bomb) if is_packed else bomb, "text/html", **headers),
        page_size=100_000,
        root_page_size=200_000,
    )
    with pytest.raises(TooLarge, match=r"100000 bytes; raise limits.page-size"):
        await client.fetch_project(NAME, None)
    with pytest.raises(TooLarge, match=r"200000 bytes; raise limits.root-page-size"):
        await client.fetch_root(None)
    assert len(own.requests) == 2


async def test_large_pages_are_parsed_in_a_thread(client_of, json_page):
    """A page of megabytes is read as a small one is."""
    files = [{"filename": f"demo-{n}.tar.gz", "url": f"http://h/demo-{n}.tar.gz", "hashes": {}} for n in range(9000)]
    _, client = await client_of(answer(json_page("demo", *files)))
    look = await client.fetch_project(NAME, None)
    assert len(look.page.files) == 9000


@pytest.mark.parametrize(
    ("content", "kind", "expected"),
    [
        pytest.param(b"<", "application/json", True, id="JSON by type"),
        pytest.param(b"{", "text/html", False, id="HTML by type"),
        pytest.param(b"\xef\xbb\xbf \n{", "text/plain", True, id="JSON by its first character"),
        pytest.param(b"\n <!doctype", "", False, id="HTML by its first character"),
    ],
)
def test_kind_of_a_page(content, kind, expected):
    """The type decides, else the first character."""
    assert is_json(content, kind, "http://h/") is expected


@pytest.mark.parametrize("kind", ["application/vnd.pypi.simple.v2+json", "application/vnd.pypi.simple.v2+html"])
async def test_another_major_version(client_of, json_page, kind):
    """A page of another major version is refused."""
    _, client = await client_of(answer(json_page(), kind))
    with pytest.raises(BadPage, match="major version 2"):
        await client.fetch_project(NAME, None)


async def test_passing_failures_are_tried_again(client_of, json_page):
    """503s pass; the page is read in the end."""
    statuses = iter([503, 500, 200])

    async def handler(request):
        return web.Response(status=next(statuses), body=json_page(), content_type=V1_JSON)

    own, client = await client_of(handler)
    assert isinstance(await client.fetch_project(NAME, None), Read)
    assert len(own.requests) == 3


async def test_a_long_retry_after_ends_the_tries(client_of):
    """A Retry-After that goes beyond the budget is carried to the caller at once; a short one is obeyed."""

    async def handler(request):
        return web.Response(status=429, headers={"Retry-After": "61" if request.path.endswith("demo/") else "0"})

    own, client = await client_of(handler)
    for fetch in (client.fetch_project(NAME, None), client.fetch_root(None)):
        with pytest.raises(Unavailable) as caught:
            await fetch
        assert caught.value.retry_after_s in {61.0, 0.0}
    assert own.paths == ["/simple/demo/", *["/simple/"] * 5]


async def test_the_budget_is_for_all_tries(client_of):
    """A page is given up when its time is over, in the middle of a try."""
    import asyncio

    async def handler(request):
        await asyncio.Event().wait()

    _, client = await client_of(handler, policy=RetryPolicy(budget_s=0.05))
    with pytest.raises(Unavailable, match=r"no complete answer within 0\.05 s"):
        await client.fetch_project(NAME, None)


async def test_a_missing_page_is_asked_for_once(client_of):
    """A page that is not there is no passing failure."""

    async def handler(request):
        return web.Response(status=404)

    own, client = await client_of(handler)
    with pytest.raises(NotFound):
        await client.fetch_project(NAME, None)
    assert len(own.requests) == 1


async def test_other_successes_are_no_page(client_of):
    """A 206 to a request for a whole page is none."""

    async def handler(request):
        return web.Response(status=206, body=HTML, content_type="text/html")

    _, client = await client_of(handler)
    with pytest.raises(Unavailable, match="206"):
        await client.fetch_project(NAME, None)


@given(body=st.binary(max_size=3000), cuts=st.lists(st.integers(1, 50), max_size=40), members=st.integers(1, 4))
def test_decoder_is_independent_of_the_pieces(body, cuts, members):
    """However a gzip body is cut into pieces and members, it decodes to the same bytes."""
    step = len(body) // members + 1
    packed = b"".join(gzip.compress(body[n : n + step]) for n in range(0, max(len(body), 1), step))
    decoder = Decoder(is_gzip=True, url="http://h/")
    decoded, position = b"", 0
    for cut in [*cuts, len(packed)]:
        decoded += b"".join(decoder.feed(packed[position : position + cut], room=10**6))
        position += cut
    decoder.finish()
    assert decoded == body


@given(st.binary(max_size=200), st.booleans())
def test_decoder_refuses_any_garbage(body, is_gzip):
    """Any bytes decode or are refused, never with another exception."""
    decoder = Decoder(is_gzip=is_gzip, url="http://h/")
    try:
        decoder.feed(body, room=1000)
        decoder.finish()
    except (BadPage, Unavailable):
        pass
