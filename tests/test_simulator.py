"""The index simulator itself, checked with pypi-simple, pip and a plain client: what it does must be what an index does."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
from blockbuster import BlockingError
from pypi_simple import ACCEPT_HTML_ONLY, ACCEPT_JSON_ONLY, PyPISimple
from yarl import URL

import mirror
from harness.program import call, clean_environment
from simulator import (
    HTML_TYPE,
    JSON_TYPE,
    Corrupt,
    Cut,
    Drip,
    IndexState,
    Page,
    Redirect,
    Resize,
    Simulator,
    Stall,
    Status,
    ThreadedSimulator,
    build_sdist,
    build_wheel,
    core_metadata,
    unavailable,
    wheel_metadata,
    withheld,
)

Start = Callable[..., Awaitable[Simulator]]
StartThreaded = Callable[..., ThreadedSimulator]

WHEEL = build_wheel("demo-app", "1.0", requires=["demo-lib>=1"], requires_python=">=3.8")
SDIST = build_sdist("demo-lib", "1.0+local.1")
ALL_FORMATS = pytest.mark.parametrize("accept", [ACCEPT_JSON_ONLY, ACCEPT_HTML_ONLY], ids=["json", "html"])


@pytest.fixture
def state() -> IndexState:
    """An index with two projects, one wheel and one sdist."""
    state = IndexState()
    state.publish("Demo.App", *WHEEL, requires_python=">=3.8", provenance="https://example.invalid/p")
    state.publish("demo-lib", *SDIST)
    return state


async def get(url: str, **headers: str) -> tuple[int, Mapping[str, str], bytes]:
    """GET one URL as it is written: no redirects followed, nothing decoded, names of headers in lower case."""
    written = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.get(URL(url, encoded=True), headers=written, allow_redirects=False) as response,
    ):
        return response.status, {k.lower(): v for k, v in response.headers.items()}, await response.read()


async def get_json(url: str) -> Any:
    """GET a page as JSON."""
    async with aiohttp.ClientSession() as session, session.get(url, headers={"Accept": JSON_TYPE}) as response:
        return await response.json(content_type=JSON_TYPE)


def file_url(simulator: Simulator, project: str, filename: str, directory: str = "files") -> str:
    """The URL of a file at its index."""
    return simulator.url.removesuffix("simple/") + f"{directory}/{project}/{filename.replace('+', '%2B')}"


# -- wheels and sdists -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [build_wheel, build_sdist])
def test_equal_arguments_give_equal_bytes(build: Callable[..., tuple[str, bytes]]) -> None:
    """A distribution made twice is the same file, so that digests in tests are stable."""
    assert build("a-b", "1.0", requires=["c"], size_pad=10) == build("a-b", "1.0", requires=["c"], size_pad=10)
    assert build("a-b", "1.0") != build("a-b", "1.1")


def test_wheel_carries_its_metadata() -> None:
    """The metadata taken out of a wheel is what was put in."""
    expected = core_metadata("demo-app", "1.0", requires=["demo-lib>=1"], requires_python=">=3.8")
    assert wheel_metadata(WHEEL[1]) == expected


def pip(*arguments: str, cwd: Path) -> str:
    """Run pip without any configuration of the machine and return what it printed."""
    command = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", *arguments]
    environment = clean_environment(cwd, PIP_CONFIG_FILE=os.devnull)
    done = call([*command, "--no-cache-dir"], env=environment, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("make", [build_wheel, build_sdist])
def test_pip_installs_what_is_built(make: Callable[..., tuple[str, bytes]], tmp_path: Path) -> None:
    """Pip installs our wheels, and builds our sdists without any index."""
    filename, data = make("demo-lib", "1.0")
    (tmp_path / filename).write_bytes(data)
    pip("install", "--no-index", "--target", "site", filename, cwd=tmp_path)
    assert (tmp_path / "site/demo_lib/__init__.py").read_text() == '__version__ = "1.0"\n'
    assert (tmp_path / "site/demo_lib-1.0.dist-info/METADATA").read_bytes() == core_metadata("demo-lib", "1.0")


# -- real clients ----------------------------------------------------------------------------------------------------


@ALL_FORMATS
@pytest.mark.parametrize("links", ["absolute", "root-relative", "relative"])
def test_pypi_simple_reads_the_pages(
    state: IndexState, threaded_simulator: StartThreaded, tmp_path: Path, accept: str, links: str
) -> None:
    """pypi-simple sees the same projects and files in both formats, and the URLs it resolves lead to the bytes."""
    server = threaded_simulator(state, links=links, prefix="/python", serials=True, core_metadata=True)
    with PyPISimple(server.url, accept=accept) as client:
        assert client.get_index_page().projects == ["Demo.App", "demo-lib"]
        (package,) = client.get_project_page("demo.app").packages
        digest = hashlib.sha256(WHEEL[1]).hexdigest()
        assert (package.filename, package.digests) == (WHEEL[0], {"sha256": digest})
        assert (package.version, package.requires_python) == ("1.0", ">=3.8")
        assert package.provenance_url == "https://example.invalid/p"
        assert client.get_package_metadata_bytes(package) == wheel_metadata(WHEEL[1])
        (sdist,) = client.get_project_page("demo-lib").packages
        client.download_package(sdist, tmp_path / "sdist")
    assert (tmp_path / "sdist").read_bytes() == SDIST[1]


@ALL_FORMATS
def test_labels_reach_the_client(state: IndexState, threaded_simulator: StartThreaded, accept: str) -> None:
    """Yanked marks, a status and missing digests are seen by pypi-simple as they were set."""
    server = threaded_simulator(state, hashes=())
    state.yank("demo-app", WHEEL[0], "broken")
    state.status("demo-app", "archived", "done")
    with PyPISimple(server.url, accept=accept) as client:
        page = client.get_project_page("demo-app")
        assert (page.status, page.status_reason) == ("archived", "done")
        assert [(p.is_yanked, p.yanked_reason, dict(p.digests)) for p in page.packages] == [(True, "broken", {})]
        state.unyank("demo-app", WHEEL[0])
        assert [p.is_yanked for p in client.get_project_page("demo-app").packages] == [False]


@pytest.mark.parametrize("formats", ["json", "html", "both"])
def test_pip_downloads_with_a_credential(
    state: IndexState, threaded_simulator: StartThreaded, tmp_path: Path, formats: str
) -> None:
    """Pip resolves and downloads from an index with Basic auth, a prefix and a second origin."""
    server = threaded_simulator(
        state,
        formats=formats,
        username="key@org",
        password="s3:cret",
        prefix="/python",
        second_origin=True,
        exact_signatures=False,
    )
    pip("download", "--index-url", server.credential_url, "--dest", "out", "demo-app", cwd=tmp_path)
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == dict([WHEEL, SDIST])
    assert server.count(kind="store", status=200) == 2


# -- pages -----------------------------------------------------------------------------------------------------------


async def test_json_page_as_a_whole(simulator: Start) -> None:
    """A JSON page of API 1.4 has exactly the keys that the standards name, and the extra ones that were asked for."""
    state = IndexState(first_serial=7)
    state.create_project("demo", extra={"alternate-locations": []}, extra_meta={"tracks": []})
    state.publish("demo", "demo-1.zip", b"data", extra={"gpg-sig": False}, size=5, metadata=b"m", yanked="why")
    server = await simulator(state, serials=True, core_metadata=True, links="relative", hashes=("md5",))
    metadata = {"sha256": hashlib.sha256(b"m").hexdigest()}
    assert await get_json(server.url + "demo/") == {
        "meta": {"api-version": "1.4", "_last-serial": 9, "tracks": []},
        "name": "demo",
        "files": [
            {
                "filename": "demo-1.zip",
                "url": "../../files/demo/demo-1.zip",
                "hashes": {"md5": "8d777f385d3dfec8815d20f7496026dc"},
                "requires-python": None,
                "yanked": "why",
                "core-metadata": metadata,
                "data-dist-info-metadata": metadata,
                "size": 5,
                "upload-time": "2026-01-01T00:00:09.000000Z",
                "provenance": None,
                "gpg-sig": False,
            }
        ],
        "versions": ["1"],
        "alternate-locations": [],
    }
    assert await get_json(server.url) == {
        "meta": {"api-version": "1.4", "_last-serial": 9},
        "projects": [{"name": "demo", "_last-serial": 9}],
    }


async def test_html_page_as_a_whole(simulator: Start) -> None:
    """An HTML page has PyPI's form: anchors with digests and labels, the serial in a closing comment."""
    state = IndexState(first_serial=7)
    state.publish(
        "demo", "demo-1+x.zip", b"data", yanked=True, requires_python=">=3", html_attributes={"download": "d"}
    )
    state.status("demo", "archived", "old & done")
    server = await simulator(state, formats="html", serials=True, links="root-relative", prefix="/p")
    digest = hashlib.sha256(b"data").hexdigest()
    _, headers, body = await get(server.url + "demo/", accept=JSON_TYPE)
    assert headers["content-type"] == HTML_TYPE
    assert body.decode() == (
        "<!DOCTYPE html>\n<html>\n  <head>\n"
        '    <meta name="pypi:repository-version" content="1.4">\n'
        '    <meta name="pypi:project-status" content="archived">\n'
        '    <meta name="pypi:project-status-reason" content="old &amp; done">\n'
        "    <title>Links for demo</title>\n  </head>\n  <body>\n    <h1>Links for demo</h1>\n"
        f'    <a href="/p/files/demo/demo-1%2Bx.zip#sha256={digest}" data-requires-python="&gt;=3" data-yanked=""'
        ' download="d">demo-1+x.zip</a><br />\n  </body>\n</html>\n<!--SERIAL 9-->'
    )


@pytest.mark.parametrize(
    ("minor", "keys"),
    [
        (0, {"filename", "url", "hashes", "requires-python", "yanked", "core-metadata", "data-dist-info-metadata"}),
        (1, {"size", "upload-time"}),
        (3, {"provenance"}),
    ],
    ids=["1.0", "1.1", "1.3"],
)
async def test_keys_come_with_their_api_version(
    state: IndexState, simulator: Start, minor: int, keys: set[str]
) -> None:
    """Keys of a newer API version are not in the pages of an older one."""
    below = await simulator(state, api_minor=max(minor - 1, 0))
    here = await simulator(state, api_minor=minor)
    newer = set((await get_json(here.url + "demo-app/"))["files"][0])
    assert keys <= newer
    if minor:
        assert newer - set((await get_json(below.url + "demo-app/"))["files"][0]) == keys


@pytest.mark.parametrize(
    ("formats", "accept", "expected"),
    [
        ("both", JSON_TYPE, (200, JSON_TYPE)),
        ("both", f"{JSON_TYPE};q=0.1, text/html", (200, HTML_TYPE)),
        ("both", "*/*", (200, HTML_TYPE)),
        ("both", "image/png", (406, "text/plain; charset=utf-8")),
        ("json", "text/html, */*;q=0.1", (200, JSON_TYPE)),
        ("json", "text/html", (406, "text/plain; charset=utf-8")),
        ("html", JSON_TYPE, (200, HTML_TYPE)),
    ],
)
async def test_negotiation(
    state: IndexState, simulator: Start, formats: str, accept: str, expected: tuple[int, str]
) -> None:
    """The answer's format is the best that the server has of what the client accepts."""
    server = await simulator(state, formats=formats)
    status, headers, _ = await get(server.url, accept=accept)
    assert (status, headers["content-type"]) == expected


async def test_gzip_only_where_accepted(state: IndexState, simulator: Start) -> None:
    """Pages are compressed for a client that accepts gzip, and only then."""
    server = await simulator(state, gzip_pages=True)
    _, plain, _ = await get(server.url, accept_encoding="identity")
    _, packed, body = await get(server.url, accept_encoding="gzip, deflate")
    assert ("content-encoding" in plain, packed["content-encoding"], body[:2]) == (False, "gzip", b"\x1f\x8b")


async def test_odd_spellings_are_redirected(state: IndexState, simulator: Start) -> None:
    """A name that is not normalised, or has no slash, is redirected to the page; an unknown one is a 404."""
    server = await simulator(state)
    redirected = [(await get(server.url + name))[:2] for name in ("Demo.App/", "demo-app")]
    assert [(s, h["location"]) for s, h in redirected] == [(301, "/simple/demo-app/")] * 2
    assert (await get(server.url + "unknown/"))[0] == 404


async def test_projects_come_and_go(state: IndexState, simulator: Start) -> None:
    """Unlisted projects keep their page, deleted ones lose it, and a quarantined one offers no files."""
    server = await simulator(state)

    async def seen() -> tuple[list[str], int]:
        root = await get_json(server.url)
        return [p["name"] for p in root["projects"]], (await get(server.url + "demo-app/"))[0]

    state.unlist_project("demo-app")
    assert await seen() == (["demo-lib"], 200)
    state.relist("demo-app")
    assert await seen() == (["Demo.App", "demo-lib"], 200)
    state.status("demo-app", "quarantined", listed=False)
    assert await seen() == (["demo-lib"], 200)
    assert (await get_json(server.url + "demo-app/"))["files"] == []
    state.delete_project("demo-app")
    assert await seen() == (["demo-lib"], 404)


# -- validators and serials ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["", "demo-app/"], ids=["root", "project"])
@pytest.mark.parametrize(
    ("validators", "validator", "condition"),
    [("etag", "etag", "if_none_match"), ("last-modified", "last-modified", "if_modified_since")],
)
async def test_unchanged_page_is_confirmed(
    state: IndexState, simulator: Start, validators: str, validator: str, condition: str, page: str
) -> None:
    """A page asked for with its validator answers 304 until its project changes, then 200 with another one."""
    server = await simulator(state, validators=validators)
    _, headers, _ = await get(server.url + page)
    known = {condition: headers[validator]}
    assert (await get(server.url + page, **known))[0::2] == (304, b"")
    state.touch("demo-lib")
    state.replace("demo-app", WHEEL[0], b"other", metadata=None)
    state.publish("new", "new-1.zip", b"x")
    status, changed, _ = await get(server.url + page, **known)
    assert status == 200
    assert changed[validator] != headers[validator]


async def test_no_validators(state: IndexState, simulator: Start) -> None:
    """A server without validators sends none and knows no conditions."""
    server = await simulator(state, validators="none")
    status, headers, _ = await get(server.url, if_none_match="*", if_modified_since="Thu, 01 Jan 2032 00:00:00 GMT")
    assert (status, {"etag", "last-modified"} & set(headers)) == (200, set())


async def test_every_change_has_a_serial_of_its_own(state: IndexState, simulator: Start) -> None:
    """Each change moves the serial of its project and of the index, of no other project; a frozen page keeps its own."""
    server = await simulator(state, serials=True)
    before = {p["name"]: p["_last-serial"] for p in (await get_json(server.url))["projects"]}
    server.freeze("demo-lib")
    state.change("demo-lib", SDIST[0], requires_python=">=3.9")
    root = await get_json(server.url)
    after = {p["name"]: p["_last-serial"] for p in root["projects"]}
    assert after == {"Demo.App": before["Demo.App"], "demo-lib": root["meta"]["_last-serial"]}
    page = server.url + "demo-lib/"
    assert (await get(page))[1]["x-pypi-last-serial"] == str(before["demo-lib"])
    server.thaw()
    assert (await get_json(page))["meta"]["_last-serial"] == after["demo-lib"]


# -- credentials and origins -----------------------------------------------------------------------------------------


BASIC = "Basic dXNlcjpwYXNz"


@pytest.mark.parametrize(
    ("options", "authorization", "expected"),
    [
        ({}, None, 200),
        ({"username": "user", "password": "pass"}, BASIC, 200),
        ({"username": "user", "password": "pass"}, None, 401),
        ({"username": "user", "password": "other"}, BASIC, 401),
        ({"username": "user", "password": "pass"}, "Basic dXNlcg", 401),
        ({"username": "user", "password": "pass"}, "Bearer t0ken", 401),
        ({"token": "t0ken"}, "Bearer t0ken", 200),
        ({"token": "t0ken"}, "Bearer other", 401),
        ({"token": "t0ken"}, BASIC, 401),
    ],
)
async def test_credentials_are_checked(
    state: IndexState, simulator: Start, options: dict[str, str], authorization: str | None, expected: int
) -> None:
    """Root, pages, files and metadata want the right credential, and say which kind."""
    server = await simulator(state, **options)
    urls = [
        server.url,
        server.url + "demo-app/",
        *(file_url(server, "demo-app", WHEEL[0] + e) for e in ("", ".metadata")),
    ]
    headers = {"authorization": authorization} if authorization else {}
    answers = [await get(url, **headers) for url in urls]
    assert [status for status, _, _ in answers] == [expected] * 4
    if expected == 401:
        kind = "Bearer" if "token" in options else "Basic"
        assert {h["www-authenticate"] for _, h, _ in answers} == {f'{kind} realm="simulator"'}


async def test_second_origin_wants_the_signature_byte_for_byte(state: IndexState, simulator: Start) -> None:
    """The 302 has a body that is not the file; its target works as it is, not re-encoded, not with a credential."""
    server = await simulator(state, second_origin=True)
    status, headers, body = await get(file_url(server, "demo-lib", SDIST[0]))
    location = headers["location"]
    assert (status, b"<html>" in body, location.startswith(server.store_url)) == (302, True, True)
    assert {"%2F", "%2B", "%7E"} <= {location[i : i + 3] for i in range(len(location))}
    assert (await get(location))[0::2] == (200, SDIST[1])
    assert (await get(str(URL(location))))[0] == 403, "yarl re-encodes a URL unless told not to"
    assert (await get(location, authorization=BASIC))[0] == 400
    server.expire_urls()
    assert (await get(location))[0] == 403
    assert [(r.kind, r.status) for r in server.take_requests()] == [
        ("file", 302),
        ("store", 200),
        ("store", 403),
        ("store", 400),
        ("store", 403),
    ]
    assert server.requests == []


# -- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "headers", "expected"),
    [
        ({}, {}, (200, None, b"0123456789")),
        ({}, {"range": "bytes=4-"}, (206, "bytes 4-9/10", b"456789")),
        ({}, {"range": "bytes=4-5"}, (206, "bytes 4-5/10", b"45")),
        ({}, {"range": "bytes=4-99"}, (206, "bytes 4-9/10", b"456789")),
        ({}, {"range": "bytes=10-"}, (416, "bytes */10", b"")),
        ({}, {"range": "bytes=4-", "if_range": '"other"'}, (200, None, b"0123456789")),
        ({"ranges": False}, {"range": "bytes=4-"}, (200, None, b"0123456789")),
    ],
)
async def test_ranges(
    simulator: Start, options: dict[str, Any], headers: dict[str, str], expected: tuple[int, str | None, bytes]
) -> None:
    """A part of a file is served as RFC 9110 says, unless ranges are off or the file is another one."""
    server = await simulator(**options)
    server.state.publish("demo", "demo-1.zip", b"0123456789")
    status, answered, body = await get(file_url(server, "demo", "demo-1.zip"), **headers)
    assert (status, answered.get("content-range"), body) == expected


async def test_a_range_of_the_known_file(simulator: Start) -> None:
    """``If-Range`` with the file's ETag gets the part."""
    server = await simulator()
    server.state.publish("demo", "demo-1.zip", b"0123456789")
    url = file_url(server, "demo", "demo-1.zip")
    tag = (await get(url))[1]["etag"]
    assert (await get(url, range="bytes=8-", if_range=tag))[0::2] == (206, b"89")


async def test_what_is_not_there(state: IndexState, simulator: Start) -> None:
    """Removed files, absent metadata, wrong directories and paths outside the prefix are 404; only GET is allowed."""
    server = await simulator(state, prefix="/python")
    state.publish("demo-app", "demo_app-2.zip", b"x", directory="python-upstream")
    state.remove_file("demo-app", WHEEL[0])
    wanted = {
        file_url(server, "demo-app", WHEEL[0]): 404,
        file_url(server, "demo-lib", SDIST[0] + ".metadata"): 404,
        file_url(server, "demo-app", "demo_app-2.zip"): 404,
        file_url(server, "demo-app", "demo_app-2.zip", "python-upstream"): 200,
        server.url.replace("/python", ""): 404,
        server.url + "a/b/c/d/": 404,
    }
    assert {url: (await get(url))[0] for url in wanted} == wanted
    async with aiohttp.ClientSession() as session, session.head(server.url) as response:
        assert (response.status, response.headers["Allow"]) == (405, "GET")


async def test_label_gzip_on_files(state: IndexState, simulator: Start) -> None:
    """A server may call a ``.tar.gz`` gzip-encoded although its bytes are the file's own."""
    server = await simulator(state, gzip_label=True)
    _, headers, body = await get(file_url(server, "demo-lib", SDIST[0]))
    assert (headers["content-encoding"], body) == ("gzip", SDIST[1])


# -- faults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "status", "headers", "body"),
    [
        (Status(status=401), 401, {}, b"scripted\n"),
        (withheld("POLICY_COOLDOWN"), 409, {"content-type": "application/json"}, b'{"reason": "POLICY_COOLDOWN"}'),
        (withheld(None), 409, {}, b'{"detail": "conflict"}'),
        (unavailable(429, "7"), 429, {"retry-after": "7"}, b"scripted\n"),
        (Page(body=b"<form>", content_type="text/html"), 200, {"content-type": "text/html"}, b"<form>"),
        (
            Redirect(url="https://example.invalid/x"),
            302,
            {"location": "https://example.invalid/x"},
            b'<html><body><a href="https://example.invalid/x">Found</a></body></html>',
        ),
        (Corrupt(at=1), 200, {}, b"0\xce23456789"),
        (Corrupt(at=99), 200, {}, b"012345678\xc6"),
        (Resize(by=-4), 200, {"content-length": "6"}, b"012345"),
        (Resize(by=2), 200, {"content-length": "12"}, b"0123456789\0\0"),
        (Drip(piece=3), 200, {"content-length": "10"}, b"0123456789"),
    ],
    ids=lambda value: repr(value) if not isinstance(value, int | dict | bytes) else "",
)
async def test_fault_hits_as_often_as_told(
    simulator: Start, fault: Any, status: int, headers: dict[str, str], body: bytes
) -> None:
    """A fault changes the answer of the requests it is for, then everything works again."""
    server = await simulator()
    server.state.publish("demo", "demo-1.zip", b"0123456789")
    server.state.publish("demo", "demo-2.zip", b"other")
    server.inject(fault, project="demo", filename="demo-1.zip", times=1)
    assert (await get(file_url(server, "demo", "demo-2.zip")))[0::2] == (200, b"other")
    answered = await get(file_url(server, "demo", "demo-1.zip"))
    assert (answered[0], answered[2]) == (status, body)
    assert {k: v for k, v in answered[1].items() if k in headers} == headers
    assert (await get(file_url(server, "demo", "demo-1.zip")))[0::2] == (200, b"0123456789")
    assert server.count(filename="demo-1.zip", kind="file") == 2


async def test_fault_for_ever_until_cleared(state: IndexState, simulator: Start) -> None:
    """A fault without a count hits every request of its kind, and no other, until faults are cleared."""
    server = await simulator(state)
    server.inject(unavailable(), kind="page")
    assert [(await get(server.url + p))[0] for p in ("", "demo-app/", "demo-lib/", "demo-app/")] == [200, 503, 503, 503]
    server.faults.clear()
    assert (await get(server.url + "demo-app/"))[0] == 200


async def test_body_fault_waits_for_the_body(state: IndexState, simulator: Start) -> None:
    """With a second origin a body fault on a file hits the file's bytes, not the redirect to them."""
    server = await simulator(state, second_origin=True)
    server.inject(Corrupt(), filename=SDIST[0], times=1)
    status, headers, _ = await get(file_url(server, "demo-lib", SDIST[0]))
    assert status == 302
    assert (await get(headers["location"]))[2][0] == SDIST[1][0] ^ 0xFF


async def test_cut_ends_the_body_early(simulator: Start) -> None:
    """A cut answer announces its whole length, delivers the bytes before the cut, and ends."""
    server = await simulator()
    server.state.publish("demo", "demo-1.zip", b"0123456789" * 1000)
    server.inject(Cut(after=4000), kind="file")
    received = b""
    async with aiohttp.ClientSession() as session, session.get(file_url(server, "demo", "demo-1.zip")) as response:
        assert response.content_length == 10_000
        with pytest.raises(aiohttp.ClientPayloadError):  # noqa: PT012 - the last of the chunks raises it
            async for chunk in response.content.iter_any():
                received += chunk
    assert received == b"0123456789" * 400


@pytest.mark.parametrize("after", [None, 0, 4], ids=["before headers", "before the body", "within the body"])
async def test_stall_waits_for_its_release(simulator: Start, after: int | None) -> None:
    """A stalled answer is delivered whole after its release, and not before."""
    server = await simulator()
    server.state.publish("demo", "demo-1.zip", b"0123456789")
    stall = server.inject(Stall(after=after), kind="file", times=1)
    answers: list[bytes] = []

    async def ask() -> None:
        answers.append((await get(file_url(server, "demo", "demo-1.zip")))[2])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await stall.wait_async()
        assert answers == []
        server.release()
    assert answers == [b"0123456789"]


def test_stalled_requests_do_not_hold_the_end(state: IndexState) -> None:
    """Leaving the simulator releases what is stalled: a process that was killed meanwhile leaves nothing behind."""
    with ThreadedSimulator(state) as server:
        stall = server.inject(Stall(after=None), kind="root")
        child = subprocess.Popen(
            [sys.executable, "-c", f"import urllib.request; urllib.request.urlopen({server.url!r})"],
            stderr=subprocess.DEVNULL,
        )
        stall.wait()
        child.kill()
        child.wait()


# -- the guards of conftest ------------------------------------------------------------------------------------------


async def test_tests_can_not_leave_loopback() -> None:
    """Connecting to or looking up anything but loopback fails in a test."""
    loop = asyncio.get_running_loop()
    with pytest.raises(OSError, match="stay on loopback"):
        await loop.create_connection(asyncio.Protocol, "192.0.2.1", 9)
    with pytest.raises(OSError, match="look up no names"):
        await loop.getaddrinfo("example.invalid", 9)


async def test_mirror_can_not_block_the_loop() -> None:
    """A blocking call made from a module of the mirror inside an event loop fails; elsewhere it is left alone."""
    call = "import time; time.sleep(0)"
    exec(compile(call, __file__, "exec"), {})
    with pytest.raises(BlockingError):
        exec(compile(call, mirror.__file__, "exec"), {})
