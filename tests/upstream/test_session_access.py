"""401 and 403: when the credential's source is asked again, and when nothing more is asked."""

from __future__ import annotations

import anyio
import pytest
from aiohttp import web

from mirror.errors import AccessDenied, NotFound
from mirror.upstream.session import RequestKind


async def status_of(session, url, kind=RequestKind.PAGE):
    try:
        async with session.get(url, kind=kind, headers={}) as response:
            return response.status
    except AccessDenied as exc:
        return exc


def checking(passwords):
    """Return a handler that lets in whoever has one of the (changing) passwords of ``u``."""
    from aiohttp import encode_basic_auth

    async def handler(request):
        good = {encode_basic_auth("u", password) for password in passwords}
        return web.Response(status=200 if request.headers.get("Authorization") in good else 401)

    return handler


def file_auth(path):
    return {"kind": "basic", "username": "u", "password_file": path}


async def test_401_ends_the_index_after_one_request(serve, open_session):
    """A source that has no other secret is not tried again, and nothing more is sent to the index."""
    own = await serve(checking(["right"]))
    session = await open_session(own.url, env={"MIRROR_TEST_USERNAME": "u", "MIRROR_TEST_PASSWORD": "wrong-secret"})
    first = await status_of(session, own.url, RequestKind.ROOT)
    second = await status_of(session, own.url + "demo/")
    assert isinstance(first, AccessDenied)
    assert isinstance(second, AccessDenied)
    assert (first.status, first.ends_index, second.ends_index) == (401, True, True)
    assert "MIRROR_TEST_PASSWORD" in str(first)
    assert "wrong-secret" not in str(first)
    assert second.url == own.url + "demo/"
    assert len(own.requests) == 1
    assert session.denied is not None


async def test_401_is_repeated_with_another_secret(serve, open_session, tmp_path):
    """A token file that was rotated in the meantime is read again, and the request repeated."""
    passwords = ["first"]
    own = await serve(checking(passwords))
    secret = tmp_path / "secret"
    secret.write_text("first\n")
    session = await open_session(own.url, auth=file_auth(secret))
    assert await status_of(session, own.url) == 200
    passwords[:] = ["second"]
    secret.write_text("second\n")
    assert await status_of(session, own.url) == 200
    assert session.denied is None


async def test_401_with_another_wrong_secret_ends_the_index(serve, open_session, tmp_path):
    """Another secret is tried once, also when the source has a new one each time."""
    own = await serve(checking([]))
    session = await open_session(
        own.url, auth={"kind": "command", "username": "u", "command": ("sh", "-c", "date +%s%N")}
    )
    found = await status_of(session, own.url, RequestKind.ROOT)
    assert isinstance(found, AccessDenied)
    assert (found.ends_index, len(own.requests)) == (True, 2)


async def test_many_401_at_once_ask_the_source_once(serve, open_session, tmp_path):
    """Requests that are refused together share one asking of the source."""
    passwords = ["first"]
    own = await serve(checking(passwords))
    asked = tmp_path / "asked"
    script = f"echo x >> {asked}; wc -l < {asked}"
    session = await open_session(own.url, auth={"kind": "command", "username": "u", "command": ("sh", "-c", script)})
    passwords[:] = ["2"]
    found = []

    async def one():
        found.append(await status_of(session, own.url))

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(one)
    assert found == [200] * 20
    assert asked.read_text() == "x\nx\n"


async def test_403_on_the_root_ends_the_index(serve, open_session):
    """A root page that is forbidden denies the whole index."""

    async def forbid(request):
        return web.Response(status=403)

    own = await serve(forbid)
    session = await open_session(own.url)
    found = await status_of(session, own.url, RequestKind.ROOT)
    assert isinstance(found, AccessDenied)
    assert (found.status, found.ends_index) == (403, True)


def scripted(answers):
    """Return a handler that answers as a changing dictionary of path -> status says, else 200."""

    async def handler(request):
        found = answers.get(request.path, 200)
        return web.Response(status=next(found) if hasattr(found, "__next__") else found)

    return handler


async def outcome(session, url, kind=RequestKind.PAGE):
    """Return a status, or whether an ``AccessDenied`` ends the index."""
    found = await status_of(session, url, kind)
    return found.ends_index if isinstance(found, AccessDenied) else found


def served_pages(session, *names):
    """Say that these pages were let out in an earlier cycle, the last one last."""
    for name in names:
        session.served_pages.record_page(name, f"{session.root_url}{name}/")


@pytest.mark.parametrize(("status", "first"), [(403, 3), (401, 1)])
async def test_refusals_in_a_row_are_checked_more_and_more_rarely(serve, open_session, status, first):
    """Root and last page are asked at the third 403 (the first 401), then after 8, 16, 32 further refusals."""
    own = await serve(scripted({"/simple/x/": status}))
    session = await open_session(own.url)
    served_pages(session, "a", "b")
    checked = []
    for number in range(1, 70):
        before = len(own.requests)
        assert await outcome(session, own.url + "x/") is False
        if len(own.requests) - before > 1:
            checked.append(number)
            assert own.paths[before:] == ["/simple/x/", "/simple/", "/simple/b/"]
    assert checked == [first, first + 8, first + 24, first + 56]


async def test_a_success_ends_the_row(serve, open_session):
    """Refusals with a page let out between them are no row, and neither a 404 nor the root ends one."""
    own = await serve(scripted({"/simple/x/": 403, "/simple/missing/": 404}))
    session = await open_session(own.url)
    served_pages(session, "a")
    for _ in range(5):
        assert await outcome(session, own.url + "x/") is False
        assert await outcome(session, own.url + "x/") is False
        assert await outcome(session, own.url + "y/") == 200
    assert "/simple/" not in own.paths
    await outcome(session, own.url + "x/")
    with pytest.raises(NotFound):
        await status_of(session, own.url + "missing/")
    await outcome(session, own.url + "x/")
    assert await outcome(session, own.url, RequestKind.ROOT) == 200
    del own.requests[:]
    await outcome(session, own.url + "x/")
    assert own.paths == ["/simple/x/", "/simple/", "/simple/a/"]


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(
    ("answers", "ends", "asked"),
    [
        ({}, False, ["/simple/", "/simple/b/"]),
        ({"/simple/": 401}, True, ["/simple/"]),
        ({"/simple/": 403}, True, ["/simple/"]),
        ({"/simple/": 404, "/simple/b/": 404}, False, ["/simple/", "/simple/b/"]),
        ({"/simple/b/": 403}, False, ["/simple/", "/simple/b/", "/simple/a/"]),
        ({"/simple/b/": 401, "/simple/a/": 403}, True, ["/simple/", "/simple/b/", "/simple/a/"]),
        ({"/simple/": 503}, False, ["/simple/", "/simple/b/"]),
        ({"/simple/b/": 500}, False, ["/simple/", "/simple/b/"]),
        ({"/simple/": 503, "/simple/b/": 403, "/simple/a/": 403}, True, ["/simple/", "/simple/b/", "/simple/a/"]),
    ],
    ids=["answers", "root-401", "root-403", "404", "one-page", "both-pages", "root-503", "page-500", "503-and-pages"],
)
async def test_a_check_asks_root_and_pages(serve, open_session, status, answers, ends, asked):
    """The root or both pages refused: the index; anything else they answer: the item; no answer decides nothing."""
    own = await serve(scripted({"/simple/x/": status, **answers}))
    session = await open_session(own.url)
    served_pages(session, "a", "b")
    found = [await outcome(session, own.url + "x/") for _ in range(3 if status == 403 else 1)]
    assert found == [False] * (len(found) - 1) + [ends]
    assert own.paths[len(found) :] == asked
    if ends:
        assert await outcome(session, own.url + "a/") is True
        assert len(own.requests) == len(found) + len(asked)


async def test_a_page_that_was_refused_itself_proves_nothing(serve, open_session):
    """A page that was let out before and is the one refused now is not asked again; an earlier one is."""
    own = await serve(scripted({"/simple/c/": 401}))
    session = await open_session(own.url)
    served_pages(session, "a", "b", "c")
    assert await outcome(session, own.url + "c/") is False
    assert own.paths == ["/simple/c/", "/simple/", "/simple/b/"]


async def test_without_a_root_page_only_pages_are_asked(serve, open_session):
    """With list = "config" nothing asks for a root."""
    own = await serve(scripted({"/simple/x/": 401}))
    session = await open_session(own.url, list="config", projects=("x", "y"))
    served_pages(session, "a")
    assert await outcome(session, own.url + "x/") is False
    assert own.paths == ["/simple/x/", "/simple/a/"]


@pytest.mark.parametrize("status", [401, 403])
async def test_twenty_refusals_end_what_never_let_anything_out(serve, open_session, status):
    """A root that is open to all proves nothing: the twentieth refusal in a row ends the index."""
    answers = {f"/simple/p{n}/": status for n in range(30)}
    own = await serve(scripted(answers))
    session = await open_session(own.url)
    found = [await outcome(session, own.url + f"p{n}/") for n in range(30)]
    assert found == [False] * 19 + [True] * 11
    assert own.paths.count("/simple/") <= 3
    assert len(own.requests) <= 23


async def test_a_check_reads_no_body_and_waits_for_no_other_request(serve, open_session):
    """With one connection at most, refused requests are judged all the same, though the root's body never ends."""

    async def handler(request):
        if request.path != "/simple/":
            return web.Response(status=401 if request.path == "/simple/x/" else 200)
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"<")
        await anyio.sleep_forever()
        return response

    own = await serve(handler)
    session = await open_session(own.url, limits={"max_connections": 1})
    served_pages(session, "a")
    found = []

    async def one():
        found.append(await outcome(session, own.url + "x/"))

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(one)
    assert found == [False] * 4


async def test_the_source_is_asked_at_a_check_only(serve, open_session, tmp_path):
    """A command is run for the first refusal and again with the next check, not for each 401."""
    asked = tmp_path / "asked"
    own = await serve(scripted({"/simple/x/": 401}))
    script = f"echo x >> {asked}; echo secret"
    session = await open_session(own.url, auth={"kind": "command", "username": "u", "command": ("sh", "-c", script)})
    served_pages(session, "a")
    for _ in range(8):
        assert await outcome(session, own.url + "x/") is False
    assert asked.read_text() == "x\nx\n"
    assert await outcome(session, own.url + "x/") is False
    assert asked.read_text() == "x\nx\nx\n"


async def test_a_foreign_hosts_denial_is_not_the_indexs(serve, open_session):
    """A link of a page to another host that refuses us is denied for itself, however often."""

    async def refuse(request):
        return web.Response(status=401)

    other = await serve(refuse)
    own = await serve(refuse)
    session = await open_session(own.url)
    # The very first request may go to another host: the index's own address is then looked up.
    for _ in range(4):
        found = await status_of(session, f"http://127.0.0.1:{other.port}/f", RequestKind.FILE)
        assert isinstance(found, AccessDenied)
        assert not found.ends_index
    assert session.denied is None
    assert len(other.requests) == 4


async def test_a_credential_that_can_not_be_had_sends_nothing(serve, open_session):
    """Without the configured secret nothing is asked, and the message names the variable."""
    own = await serve(checking([]))
    session = await open_session(own.url, auth={"kind": "bearer", "token_env": "NO_SUCH_TOKEN"})
    with pytest.raises(AccessDenied, match="NO_SUCH_TOKEN"):
        await session.prepare()
    found = await status_of(session, own.url)
    assert isinstance(found, AccessDenied)
    assert (found.status, found.ends_index) == (None, True)
    assert own.requests == []


async def test_a_source_that_fails_when_asked_again_ends_the_index(serve, open_session, tmp_path):
    """A token file that vanished before the 401 denies the index and says what is wrong with the file."""
    secret = tmp_path / "secret"
    secret.write_text("old")

    async def handler(request):
        secret.unlink(missing_ok=True)
        return web.Response(status=401)

    own = await serve(handler)
    session = await open_session(own.url, auth=file_auth(secret))
    found = await status_of(session, own.url)
    assert isinstance(found, AccessDenied)
    assert "No such file" in str(found)
    assert session.denied is found
    assert len(own.requests) == 1
