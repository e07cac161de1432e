"""One file: resumed, bounded, and checked before it counts."""

from __future__ import annotations

import hashlib
import re

import pytest
from aiohttp import web

from mirror.errors import DigestMismatch, NotFound, SizeMismatch, TooLarge, Unavailable
from mirror.upstream.download import FileRequest, algorithms_for, download, fetch_metadata

DATA = bytes(range(256)) * 1024  # 256 KiB
SHA256 = (("sha256", hashlib.sha256(DATA).hexdigest()),)
MD5 = (("md5", hashlib.md5(DATA).hexdigest()),)
ETAG = '"one"'


def wanted(url, **changes):
    return FileRequest(
        **{"filename": "demo-1.0.tar.gz", "url": url + "f", "size": len(DATA), "digests": SHA256, **changes}
    )


def range_start(request):
    found = re.fullmatch(r"bytes=([0-9]+)-", request.headers.get("Range", ""))
    return int(found[1]) if found else None


async def send(request, body, *, announced=None, status=200, headers=None, cut=False):
    """Answer with ``body``; ``cut`` breaks the connection before what was announced has come."""
    response = web.StreamResponse(
        status=status, headers={"Content-Length": str(announced or len(body)), **(headers or {})}
    )
    await response.prepare(request)
    await response.write(body)
    if cut:
        request.transport.close()
    return response


def whole(body=DATA, **headers):
    async def handler(request):
        return web.Response(body=body, headers=headers)

    return handler


def resuming(piece, *, ignore_range=False, etag=ETAG, lie=None):
    """Give ``piece`` bytes for each connection, then cut."""

    async def handler(request):
        start = None if ignore_range else range_start(request)
        begin = start or 0
        rest = DATA[begin:]
        headers = {"ETag": etag} if etag else {}
        if start is not None:
            headers["Content-Range"] = lie or f"bytes {begin}-{len(DATA) - 1}/{len(DATA)}"
        part = rest[:piece]
        return await send(
            request,
            part,
            announced=len(rest),
            status=206 if start is not None else 200,
            headers=headers,
            cut=len(part) < len(rest),
        )

    return handler


async def test_whole_file(serve, open_session, new_sink, quick):
    """A file comes in one request, asked for without any encoding, and its bytes are counted."""
    own = await serve(whole())
    session = await open_session(own.url)
    sink = new_sink()
    await download(session, wanted(own.url), sink, policy=quick)
    assert bytes(sink.kept) == DATA
    assert own.header("Accept-Encoding") == ["identity"]
    assert own.header("Range") == [None]
    assert session.traffic.file_bytes == len(DATA)


async def test_encoded_body_is_kept_as_it_comes(serve, open_session, new_sink, quick):
    """A body labelled with a Content-Encoding is not decoded: the digest is that of the file."""
    import gzip

    packed = gzip.compress(b"a source distribution")
    own = await serve(whole(packed, **{"Content-Encoding": "gzip"}))
    session = await open_session(own.url)
    sink = new_sink()
    request = wanted(own.url, size=len(packed), digests=(("sha256", hashlib.sha256(packed).hexdigest()),))
    await download(session, request, sink, policy=quick)
    assert bytes(sink.kept) == packed


async def test_cut_bodies_are_resumed(serve, open_session, new_sink, quick):
    """A body cut again and again goes on where it stopped, and tries that made progress do not count."""
    piece = 20 * 1024
    big = 64 * 1024
    for step, requests in ((big, 4), (piece * 4, 4)):
        own = await serve(resuming(step))
        session = await open_session(own.url)
        sink = new_sink()
        await download(session, wanted(own.url), sink, policy=quick)
        assert bytes(sink.kept) == DATA
        assert len(own.requests) == requests
        assert own.header("Range") == [None, *(f"bytes={step * n}-" for n in range(1, requests))]
        assert own.header("If-Range") == [None, *[ETAG] * (requests - 1)]
        assert sink.restarts == 0


async def test_more_tries_than_the_budget_with_progress(serve, open_session, new_sink, quick):
    """A large file over a bad line comes through, although it is cut more often than tries are allowed."""
    data = DATA * 4
    own = await serve(resuming(64 * 1024))
    session = await open_session(own.url)
    sink = new_sink()

    async def handler(request):
        start = range_start(request) or 0
        part = data[start : start + 64 * 1024]
        headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        return await send(
            request,
            part,
            announced=len(data) - start,
            status=206 if start else 200,
            headers=headers,
            cut=start + len(part) < len(data),
        )

    own = await serve(handler)
    session = await open_session(own.url)
    request = wanted(own.url, size=len(data), digests=(("sha256", hashlib.sha256(data).hexdigest()),))
    await download(session, request, sink, policy=quick)
    assert bytes(sink.kept) == data
    assert len(own.requests) == 16


async def test_drops_of_progress_do_not_go_on_for_ever(serve, open_session, new_sink, quick):
    """A server that gives a few bytes for each connection is given up after the usual tries."""
    own = await serve(resuming(10))
    session = await open_session(own.url)
    sink = new_sink()
    with pytest.raises(Unavailable, match="after 5 tries"):
        await download(session, wanted(own.url), sink, policy=quick)
    assert len(own.requests) == 5
    assert bytes(sink.kept) == DATA[:50]


async def test_endless_progress_is_bounded(serve, open_session, new_sink, quick):
    """Even with progress each time, a hundred tries are the end."""

    async def handler(request):
        start = range_start(request) or 0
        headers = {"Content-Range": f"bytes {start}-{10**12 - 1}/{10**12}"} if start else {}
        return await send(
            request, DATA, announced=10**12 - start, status=206 if start else 200, headers=headers, cut=True
        )

    own = await serve(handler)
    session = await open_session(own.url)
    request = wanted(own.url, size=None, digests=(("sha256", "0" * 64),))
    with pytest.raises(Unavailable):
        await download(session, request, new_sink(), policy=quick)
    assert len(own.requests) == 100


async def test_whole_file_whose_body_is_cut_behind_it(serve, open_session, new_sink, quick):
    """All bytes by the listed digest are the file, although the connection broke before the announced end."""

    async def handler(request):
        return await send(request, DATA, announced=len(DATA) + 1, cut=True)

    own = await serve(handler)
    sink = new_sink()
    await download(await open_session(own.url), wanted(own.url, size=None), sink, policy=quick)
    assert (bytes(sink.kept), len(own.requests)) == (DATA, 1)


async def test_range_that_is_ignored(serve, open_session, new_sink, quick):
    """A server that answers 200 to a range gives the whole file again, from the start."""
    cuts = iter([True, False])

    async def handler(request):
        if next(cuts):
            return await send(request, DATA[:1000], announced=len(DATA), cut=True)
        return await send(request, DATA)

    own = await serve(handler)
    session = await open_session(own.url)
    sink = new_sink()
    await download(session, wanted(own.url), sink, policy=quick)
    assert (bytes(sink.kept) == DATA, sink.restarts) == (True, 1)
    assert own.header("Range") == [None, "bytes=1000-"]


async def test_always_cut_without_ranges(serve, open_session, new_sink, quick):
    """A server that ignores ranges and always cuts at the same place is given up: that is no progress."""
    own = await serve(resuming(100_000, ignore_range=True))
    session = await open_session(own.url)
    with pytest.raises(Unavailable):
        await download(session, wanted(own.url), new_sink(), policy=quick)
    assert len(own.requests) == 6


@pytest.mark.parametrize(
    "lie",
    [
        pytest.param("bytes 5-262143/262144", id="another start"),
        pytest.param("bytes 1000-262143/999999", id="another total"),
        pytest.param("items 1-2/3", id="another unit"),
        pytest.param("", id="nothing"),
    ],
)
async def test_range_that_lies(serve, open_session, new_sink, quick, lie):
    """A 206 for another range than the one asked for is not appended; the file starts again."""

    async def handler(request):
        start = range_start(request)
        if start is None:
            is_first = len(own.requests) == 1
            return await send(request, DATA[:1000] if is_first else DATA, announced=len(DATA), cut=is_first)
        return await send(request, DATA[start:], status=206, headers={"Content-Range": lie})

    own = await serve(handler)
    session = await open_session(own.url)
    sink = new_sink()
    await download(session, wanted(own.url), sink, policy=quick)
    assert bytes(sink.kept) == DATA
    assert own.header("Range") == [None, "bytes=1000-", None]


@pytest.mark.parametrize("status", [206, 304])
async def test_answers_to_what_was_not_asked(serve, open_session, new_sink, quick, status):
    """A 206 or 304 without a range or a condition is no file."""

    async def handler(request):
        return web.Response(status=status)

    own = await serve(handler)
    session = await open_session(own.url)
    with pytest.raises(Unavailable):
        await download(session, wanted(own.url), new_sink(), policy=quick)
    assert len(own.requests) == 5


async def test_416_starts_again(serve, open_session, new_sink, quick):
    """A kept part that the server has no rest for is dropped."""

    async def handler(request):
        return web.Response(status=416) if range_start(request) is not None else web.Response(body=DATA)

    own = await serve(handler)
    session = await open_session(own.url)
    sink = new_sink(b"x" * 10, etag='"old"')
    await download(session, wanted(own.url), sink, policy=quick)
    assert bytes(sink.kept) == DATA
    assert own.header("If-Range") == ['"old"', None]


async def test_kept_part_of_an_earlier_run_is_resumed(serve, open_session, new_sink, quick):
    """What an earlier run kept is completed, by the digest alone where no ETag is known."""
    own = await serve(resuming(10**9, etag=None))
    session = await open_session(own.url)
    sink = new_sink(DATA[:7777])
    await download(session, wanted(own.url), sink, policy=quick)
    assert bytes(sink.kept) == DATA
    assert own.header("Range") == ["bytes=7777-"]
    assert own.header("If-Range") == [None]
    assert session.traffic.file_bytes == len(DATA) - 7777


async def test_kept_part_that_was_of_another_file(serve, open_session, new_sink, quick):
    """A kept part that does not fit gives a wrong digest, and the file is fetched once more from the start."""
    own = await serve(resuming(10**9, etag=None))
    session = await open_session(own.url)
    sink = new_sink(b"?" * 5000)
    await download(session, wanted(own.url), sink, policy=quick)
    assert bytes(sink.kept) == DATA
    assert own.header("Range") == ["bytes=5000-", None]
    assert own.header("Cache-Control") == [None, "no-cache"]


async def test_kept_part_without_any_proof_is_dropped(serve, open_session, new_sink, quick):
    """Without an ETag and without a strong digest nothing is resumed."""
    own = await serve(whole())
    session = await open_session(own.url)
    sink = new_sink(b"?" * 10)
    await download(session, wanted(own.url, digests=MD5), sink, policy=quick)
    assert bytes(sink.kept) == DATA
    assert own.header("Range") == [None]


async def test_kept_whole_file_needs_no_request(serve, open_session, new_sink, quick):
    """A file that an earlier run had completed is not asked for again; one that is wrong is."""
    own = await serve(whole())
    session = await open_session(own.url)
    for size in (len(DATA), None):
        await download(session, wanted(own.url, size=size), new_sink(DATA), policy=quick)
    assert own.requests == []
    sink = new_sink(b"?" * len(DATA))
    await download(session, wanted(own.url), sink, policy=quick)
    assert bytes(sink.kept) == DATA
    assert own.header("Range") == [None]


async def test_wrong_digest_is_tried_once_more(serve, open_session, new_sink, quick):
    """Wrong bytes are fetched once more, past caches, and then refused."""
    own = await serve(whole(b"?" * len(DATA)))
    session = await open_session(own.url)
    with pytest.raises(DigestMismatch) as caught:
        await download(session, wanted(own.url), new_sink(), policy=quick)
    assert (caught.value.algorithm, caught.value.expected) == SHA256[0]
    assert own.header("Cache-Control") == [None, "no-cache"]


async def test_wrong_digest_may_heal(serve, open_session, new_sink, quick):
    """A corrupted copy on the way is replaced by the second try."""
    bodies = iter([b"?" * len(DATA), DATA])

    async def handler(request):
        return web.Response(body=next(bodies))

    own = await serve(handler)
    session = await open_session(own.url)
    sink = new_sink()
    await download(session, wanted(own.url), sink, policy=quick)
    assert bytes(sink.kept) == DATA


@pytest.mark.parametrize(
    ("body", "has_length", "kept"),
    [
        pytest.param(DATA + b"!", True, 0, id="announced longer"),
        pytest.param(DATA[:-1], True, 0, id="announced shorter"),
        pytest.param(DATA + b"!" * 999, False, None, id="chunked, longer"),
        pytest.param(DATA[:-1], False, None, id="chunked, shorter"),
    ],
)
async def test_wrong_size(serve, open_session, new_sink, quick, body, has_length, kept):
    """A body of another size is refused, before it is read where its length is announced."""

    async def handler(request):
        if has_length:
            return web.Response(body=body)
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(body)
        await response.write_eof()
        return response

    own = await serve(handler)
    session = await open_session(own.url)
    sink = new_sink()
    with pytest.raises(SizeMismatch) as caught:
        await download(session, wanted(own.url), sink, policy=quick)
    assert caught.value.expected_bytes == len(DATA)
    assert sink.written <= len(DATA)
    assert kept in {None, sink.written}
    assert len(own.requests) == 2


async def test_body_without_an_end_mark(serve_raw, open_session, new_sink, quick):
    """Where only the closed connection ends a body (HTTP/1.0), a short one counts as cut, not as complete."""
    targets = []

    async def speak(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        targets.append(head)
        start = 1000 if b"bytes=1000-" in head else 0
        status = b"206 Partial\r\nContent-Range: bytes 1000-262143/262144" if start else b"200 OK"
        writer.write(b"HTTP/1.0 " + status + b"\r\n\r\n" + (DATA[start:] if start else DATA[:1000]))
        await writer.drain()

    port = await serve_raw(speak)
    session = await open_session(f"http://127.0.0.1:{port}/")
    sink = new_sink()
    await download(session, wanted(f"http://127.0.0.1:{port}/"), sink, policy=quick)
    assert bytes(sink.kept) == DATA
    assert len(targets) == 2


@pytest.mark.parametrize(
    ("size", "has_length", "requests"),
    [
        pytest.param(len(DATA), True, 0, id="listed"),
        pytest.param(None, True, 1, id="announced"),
        pytest.param(None, False, 1, id="found while reading"),
    ],
)
async def test_too_large(serve, open_session, new_sink, quick, size, has_length, requests):
    """A file over the limit is refused as early as its size is known, and never kept beyond the limit."""

    async def handler(request):
        response = web.StreamResponse(headers={"Content-Length": str(len(DATA))} if has_length else {})
        await response.prepare(request)
        await response.write(DATA)
        return response

    own = await serve(handler)
    session = await open_session(own.url)
    sink = new_sink()
    with pytest.raises(TooLarge, match=r"limits\.file-size"):
        await download(session, wanted(own.url, size=size, limit_bytes=1000), sink, policy=quick)
    assert len(own.requests) == requests
    assert sink.written <= 1000


async def test_refusals_are_not_tried_again(serve, open_session, new_sink, quick):
    """A file that is not there is asked for once."""

    async def gone(request):
        return web.Response(status=404)

    own = await serve(gone)
    session = await open_session(own.url)
    with pytest.raises(NotFound):
        await download(session, wanted(own.url), new_sink(), policy=quick)
    assert len(own.requests) == 1


@pytest.mark.parametrize("etag", ['W/"weak"', "bare", '"' + "x" * 5000 + '"'], ids=["weak", "unquoted", "too long"])
async def test_etags_that_prove_nothing(serve, open_session, new_sink, quick, etag):
    """Only a strong ETag of a sane length is kept for a resume."""
    own = await serve(whole(ETag=etag))
    session = await open_session(own.url)
    sink = new_sink()
    await download(session, wanted(own.url), sink, policy=quick)
    assert sink.etag is None


@pytest.mark.parametrize(
    ("digests", "algorithms"),
    [
        pytest.param((), (), id="none"),
        pytest.param((("md5", "0" * 32),), ("md5",), id="weak only"),
        pytest.param((("md5", "0" * 32), ("sha1", "0" * 40)), ("sha1", "md5"), id="all weak ones"),
        pytest.param(
            (("md5", "0" * 32), ("sha256", "0" * 64), ("sha512", "0" * 128)), ("sha512", "sha256"), id="all strong ones"
        ),
    ],
)
def test_algorithms(digests, algorithms):
    """A sink hashes by all strong digests that are listed, by weak ones only where there is no other."""
    assert algorithms_for(digests) == algorithms


async def test_weak_digest_is_compared(serve, open_session, new_sink, quick):
    """Where only a weak digest is listed it still has to agree."""
    own = await serve(whole())
    session = await open_session(own.url)
    await download(session, wanted(own.url, digests=MD5), new_sink(), policy=quick)
    await download(session, wanted(own.url, digests=()), new_sink(), policy=quick)
    with pytest.raises(DigestMismatch):
        await download(session, wanted(own.url, digests=(("md5", "0" * 32),)), new_sink(), policy=quick)


METADATA = b"Metadata-Version: 2.1\nName: demo\n"
METADATA_SHA256 = (("sha256", hashlib.sha256(METADATA).hexdigest()),)


@pytest.mark.parametrize(
    ("response", "digests", "limit", "expected"),
    [
        pytest.param((200, METADATA), METADATA_SHA256, 1000, METADATA, id="as advertised"),
        pytest.param((400, b""), METADATA_SHA256, 1000, None, id="400"),
        pytest.param((404, b""), METADATA_SHA256, 1000, None, id="404"),
        pytest.param((200, b"other"), METADATA_SHA256, 1000, None, id="other bytes"),
        pytest.param((200, METADATA), METADATA_SHA256, 10, None, id="too large"),
        pytest.param((200, METADATA), (("md5", hashlib.md5(METADATA).hexdigest()),), 1000, None, id="a weak digest"),
        pytest.param((304, b""), METADATA_SHA256, 1000, None, id="an answer to another question"),
    ],
)
async def test_metadata(serve, open_session, quick, response, digests, limit, expected):
    """A file's metadata is taken only as advertised, and its absence is no failure."""

    async def handler(request):
        return web.Response(status=response[0], body=response[1])

    own = await serve(handler)
    session = await open_session(own.url)
    assert await fetch_metadata(session, own.url + "f.metadata", digests, limit, policy=quick) == expected


async def test_metadata_is_tried_again(serve, open_session, quick):
    """A passing failure is tried again, a lasting one is told."""
    statuses = iter([503, 200, *[500] * 5])

    async def handler(request):
        return web.Response(status=next(statuses), body=METADATA)

    own = await serve(handler)
    session = await open_session(own.url)
    assert await fetch_metadata(session, own.url, METADATA_SHA256, 1000, policy=quick) == METADATA
    with pytest.raises(Unavailable, match="after 5 tries"):
        await fetch_metadata(session, own.url, METADATA_SHA256, 1000, policy=quick)
