"""What a refusal says for people: found in each form, bounded, on one line, without queries and secrets."""

from __future__ import annotations

import gzip
import json

import pytest
from aiohttp import web

from mirror.errors import AccessDenied
from mirror.upstream.session import RequestKind

XML = '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code><Message>{}</Message></Error>'

FORMS = {
    "errors": ('{"errors": [{"status": 403, "message": "no unscanned"}]}', "application/json", "no unscanned"),
    "two errors": ('{"errors": [{"message": "a"}, {"message": "b"}]}', "application/json", "a; b"),
    "error texts": ('{"errors": ["a", "b"]}', "application/json", "a; b"),
    "message": ('{"message": "no"}', "application/json", "no"),
    "detail": ('{"detail": "no"}', "application/problem+json", "no"),
    "nested": ('{"error": {"message": "no"}}', "application/json", "no"),
    "json without its type": ('{"message": "no"}', "application/octet-stream", "no"),
    "other json": ('{"hello": 1}', "application/json", ""),
    "broken json": ('{"message": "no', "application/json", ""),
    "deep json": ("[" * 10000, "application/json", ""),
    "xml": (XML.format("Access Denied &amp; more"), "application/xml", "Access Denied & more"),
    "xml in a namespace": (XML.format("no").replace("Message", "s3:Message"), "text/xml", "no"),
    "text": ("  blocked by\n policy\r\n", "text/plain; charset=utf-8", "blocked by policy"),
    "long text": ("blocked " + "x" * 5000, "text/plain", f"blocked {'x' * 192}…"),
    "text that is called html": ("blocked by policy", "text/html", "blocked by policy"),
    "bytes": (b"blocked \xff", "text/plain", ""),
    "binary": ("\x00\x01", "application/octet-stream", ""),
    "html": ("<html><head><title>403\n Forbidden &mdash; proxy</title><body>x", "text/html", "403 Forbidden — proxy"),
    "html without a title": ("<html><body><h1 class=x>Not allowed</h1>no", "text/html", "Not allowed"),
    "html without a heading": ("<html><body>no</body></html>", "text/html", ""),
    "nothing": ("", "text/plain", ""),
}


async def words_of(serve, open_session, body, content_type, *, query="", headers=None, env=None):
    content = body if isinstance(body, bytes) else body.encode()

    async def handler(request):
        return web.Response(status=403, body=content, headers={"Content-Type": content_type, **(headers or {})})

    own = await serve(handler)
    session = await open_session(own.url, env=env)
    with pytest.raises(AccessDenied) as caught:
        async with session.get(f"{own.url}f{query}", kind=RequestKind.FILE, headers={}):
            pass
    return str(caught.value).partition(" with status 403")[2].removeprefix(": ")


@pytest.mark.parametrize(("body", "content_type", "words"), FORMS.values(), ids=FORMS)
async def test_the_words_are_found(serve, open_session, body, content_type, words):
    """Each form of an answer yields its message, or nothing."""
    assert await words_of(serve, open_session, body, content_type) == words


async def test_a_compressed_answer(serve, open_session):
    """An answer that is compressed says the same; one that is damaged says nothing."""
    body = gzip.compress(b'{"message": "no"}')
    headers = {"Content-Encoding": "gzip"}
    assert await words_of(serve, open_session, body, "application/json", headers=headers) == "no"
    assert await words_of(serve, open_session, body[5:], "application/json", headers=headers) == ""


async def test_words_are_bounded_and_escaped(serve, open_session):
    """A long message is cut, and control characters can't do anything to a terminal."""
    message = "\x1b[31mred\x07" + "\u202e" + "y" * 5000
    found = await words_of(serve, open_session, json.dumps({"message": message}), "application/json")
    assert len(found) < 300
    assert found.isprintable()
    assert found.startswith("\\x1b[31mred\\x07\\u202eyyy")


async def test_words_repeat_no_query(serve, open_session):
    """Neither the link's query nor its values nor the query of any URL is repeated, in whatever spelling."""
    query = "?X-Signature=c2lnbmVk%2Fby%2Bus&expires=1700000000"
    said = f"bad {query[1:]} and c2lnbmVk/by+us until 1700000000, see https://help.example/a?token=hidden-one"
    found = await words_of(serve, open_session, said, "text/plain", query=query)
    assert "c2lnbmVk" not in found
    assert "1700000000" not in found
    assert "hidden-one" not in found
    assert found.endswith("see https://help.example/a")


async def test_words_repeat_no_secret(serve, open_session):
    """An index that repeats the password, or its header, does not bring it into a message."""
    env = {"MIRROR_TEST_USERNAME": "u", "MIRROR_TEST_PASSWORD": "very-secret-word"}
    said = "user u, password very-secret-word, dTp2ZXJ5LXNlY3JldC13b3Jk, is blocked"
    found = await words_of(serve, open_session, said, "text/plain", env=env)
    assert "very-secret-word" not in found
    assert "dTp2ZXJ5LXNlY3JldC13b3Jk" not in found
    assert found.startswith("user u, password ***")


async def test_a_secret_that_the_bound_would_cut_is_hidden(serve, open_session):
    """A secret that begins before the end of what is shown is taken out as a whole."""
    env = {"MIRROR_TEST_USERNAME": "u", "MIRROR_TEST_PASSWORD": "very-secret-word"}
    found = await words_of(serve, open_session, "x" * 190 + " very-secret-word", "text/plain", env=env)
    assert "very" not in found
