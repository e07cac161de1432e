"""Nothing that a request says, at any level, has a secret in it."""

from __future__ import annotations

import base64
import io

import pytest
from aiohttp import web

from harness.logged import reset_logging
from mirror.errors import AccessDenied, Unavailable
from mirror.logs import configure_logging
from mirror.upstream.download import FileRequest, download
from mirror.upstream.session import RequestKind

PASSWORD = "p4ss-w0rd-of-the-index"
SIGNATURE = "s1gnature-of-the-store"


@pytest.fixture
def everything_logged():
    """Log at debug level, as a user could ask for, into memory."""
    stream = io.StringIO()
    configure_logging("debug", "json", stream)
    yield stream
    reset_logging()


async def test_debug_log_has_no_secrets(serve, open_session, new_sink, quick, everything_logged):
    """Neither the credential nor a signed query is logged or told, whether requests succeed, fail or are refused."""
    statuses = iter([200, 503, 200, 500, 500, 500, 500, 500])

    async def store_handler(request):
        return web.Response(status=next(statuses), body=b"x")

    store = await serve(store_handler)

    async def index(request):
        if request.path == "/simple/denied":
            return web.Response(status=401)
        return web.Response(status=302, headers={"Location": f"http://127.0.0.1:{store.port}/f?sig={SIGNATURE}"})

    own = await serve(index)
    env = {"MIRROR_TEST_USERNAME": "the-user", "MIRROR_TEST_PASSWORD": PASSWORD}
    session = await open_session(own.url, env=env)
    request = FileRequest(filename="f", url=own.url + "f?token=" + SIGNATURE)
    await download(session, request, new_sink(), policy=quick)
    await download(session, request, new_sink(), policy=quick)
    with pytest.raises(Unavailable) as unreachable:
        await download(session, request, new_sink(), policy=quick)
    with pytest.raises(AccessDenied) as denied:
        await session.get(own.url + "denied", kind=RequestKind.PAGE, headers={}).__aenter__()
    said = everything_logged.getvalue() + str(unreachable.value) + repr(session) + str(denied.value)
    assert "request.done" in said
    assert "request.retried" in said
    for secret in (PASSWORD, SIGNATURE, base64.b64encode(f"the-user:{PASSWORD}".encode()).decode()):
        assert secret not in said
