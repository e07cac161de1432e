"""401 and 403: when the credential's source is asked again, and when nothing more is asked."""

from __future__ import annotations

import anyio
import pytest
from aiohttp import web

from mirror.errors import AccessDenied, NotListed
from mirror.upstream.session import Kind


async def status_of(session, url, kind=Kind.PAGE):
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
    first = await status_of(session, own.url, Kind.ROOT)
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
    found = await status_of(session, own.url)
    assert isinstance(found, AccessDenied)
    assert len(own.requests) == 2


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
    found = await status_of(session, own.url, Kind.ROOT)
    assert isinstance(found, AccessDenied)
    assert (found.status, found.ends_index) == (403, True)


async def test_three_403_in_a_row_end_the_index(serve, open_session):
    """One forbidden page is denied for itself; three without a success in between deny the index."""
    statuses = iter([403, 403, 200, 403, 403, 404, 403])

    async def handler(request):
        return web.Response(status=next(statuses))

    own = await serve(handler)
    session = await open_session(own.url)
    ends = []
    for _ in range(8):
        try:
            found = await status_of(session, own.url + "demo/")
            ends.append(found.ends_index if isinstance(found, AccessDenied) else found)
        except NotListed as exc:
            ends.append(type(exc).__name__)
    assert ends == [False, False, 200, False, False, "NotListed", True, True]
    assert len(own.requests) == 7


async def test_a_foreign_hosts_denial_is_not_the_indexs(serve, open_session):
    """A link of a page to another host that refuses us is denied for itself, however often."""

    async def refuse(request):
        return web.Response(status=401)

    other = await serve(refuse)
    own = await serve(refuse)
    session = await open_session(own.url)
    # The very first request may go to another host: the index's own address is then looked up.
    for _ in range(4):
        found = await status_of(session, f"http://127.0.0.1:{other.port}/f", Kind.FILE)
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
