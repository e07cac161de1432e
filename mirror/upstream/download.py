"""Downloads one file into a sink: resumed, bounded, and checked against size and digest before it
counts.

Invariants: bytes are stored as received, a Content-Encoding is never undone; a body is accepted by
its size and digest only, never because a server claims that it is complete; a server's claims about
ranges are believed only where they agree with the request; no server holds a download for ever
(``MAX_TRIES``).
"""

from __future__ import annotations

import hashlib
import re
from typing import Protocol

import msgspec

from mirror.core.model import Digests
from mirror.core.names import STRONG_DIGESTS, digests_to_compare, strongest_digest
from mirror.errors import (
    DigestMismatch,
    IntegrityError,
    NotFound,
    SizeMismatch,
    TooLarge,
    Unavailable,
    shown_url,
)
from mirror.logs import get_logger
from mirror.upstream.exchange import RequestKind
from mirror.upstream.limits.memory import PageLease
from mirror.upstream.limits.retry import RetryPolicy, pause_before_next
from mirror.upstream.response import Response
from mirror.upstream.session import IndexSession

PROGRESS_BYTES = 64 * 1024
"""A try with at least this many new bytes does not count: a large file over a bad line must
complete.
"""

MAX_TRIES = 100
"""All tries of one file, progress or not."""

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-[0-9]{1,19}/([0-9]{1,19}|\*)\Z")

_ETAG_CHARS = 1024

_log = get_logger(__name__)


class Sink(Protocol):
    """The target of the bytes: hashes and keeps them as they are received."""

    etag: str | None
    """The strong validator of the kept bytes, for a later resume."""

    @property
    def written(self) -> int:
        """Bytes kept so far."""

    async def expect_unlisted(self, announced_bytes: int | None) -> None:
        """Record that no listing bounds the body, and its announced length."""

    async def write(self, chunk: bytes) -> None:
        """Keep more."""

    async def restart(self) -> None:
        """Go back to zero bytes."""

    def hexdigest(self, algorithm: str) -> str:
        """Return the digest of the kept bytes; ``algorithm`` is one of ``algorithms_for``."""


class FileRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A file as it is listed."""

    filename: str
    url: str
    size: int | None = None
    digests: Digests = ()
    limit_bytes: int = 0
    """0: no limit."""
    setting: str = "limits.file-size"
    """The configuration's key that raises the limit."""


def algorithms_for(digests: Digests) -> tuple[str, ...]:
    """Return the algorithms by which a sink must hash so that the download can be checked."""
    return tuple(algorithm for algorithm, _ in digests_to_compare(digests))


async def download(
    session: IndexSession, request: FileRequest, sink: Sink, *, policy: RetryPolicy | None = None
) -> None:
    """Download the whole file into ``sink``, or raise; an interrupted one is resumed from its kept
    bytes.

    A wrong digest or size is tried once more from the start. Raises ``UpstreamError``,
    ``IntegrityError``, and the errors of the sink.
    """
    if request.limit_bytes and (request.size or 0) > request.limit_bytes:
        raise TooLarge(url=request.url, limit_bytes=request.limit_bytes, setting=request.setting)
    if sink.written and _is_complete(request, sink):
        return
    run = _Download(session, request, sink, policy or session.retry_policy)
    try:
        await run.to_the_end()
    except IntegrityError as exc:
        _log.warning("file.tried_again", filename=request.filename, cause=str(exc))
        await run.start_over()
        await run.to_the_end()


class _Download:
    """The tries of one file."""

    def __init__(
        self, session: IndexSession, request: FileRequest, sink: Sink, policy: RetryPolicy
    ) -> None:
        self._session = session
        self._request = request
        self._sink = sink
        self._policy = policy
        self._tries = 0
        self._most_written = sink.written
        self._is_second = False

    async def start_over(self) -> None:
        """Drop the received bytes, which were wrong, and ask caches on the way to revalidate."""
        await self._restart()
        self._is_second = True

    async def to_the_end(self) -> None:
        """Try until the file is whole and right; raise errors that another try can't mend."""
        without_progress = 0
        while True:
            self._tries += 1
            try:
                return await self._try()
            except Unavailable as exc:
                if self._sink.written and _is_complete(self._request, self._sink):
                    return None  # cut after its last byte, or announced as longer than it is
                gained = self._sink.written - self._most_written
                self._most_written = max(self._most_written, self._sink.written)
                if gained >= PROGRESS_BYTES:
                    without_progress = 0
                    self._session.allowance.earn()
                else:
                    without_progress += 1
                await self._pause(exc, max(without_progress, 1))

    async def _pause(self, error: Unavailable, tries_made: int) -> None:
        policy, session = self._policy, self._session
        await pause_before_next(
            error,
            tries_made=policy.tries if self._tries >= MAX_TRIES else tries_made,
            remaining_s=policy.budget_s,
            policy=policy,
            allowance=session.allowance,
        )
        session.traffic.retries += 1

    async def _try(self) -> None:
        offset = await self._prepare()
        headers = self._headers(offset)
        async with self._session.get(
            self._request.url, kind=RequestKind.FILE, headers=headers
        ) as response:
            await self._accept(response, offset)
            await self._receive(response)
        _check_size(self._request, self._sink.written)
        _check_digest(self._request, self._sink)

    async def _prepare(self) -> int:
        """Return the offset to continue from: 0 where nothing could prove that the rest belongs to
        the same bytes.
        """
        request, sink = self._request, self._sink
        is_known = sink.etag is not None or strongest_digest(request.digests) is not None
        is_over = request.size is not None and sink.written >= request.size
        if sink.written and (is_over or not is_known):
            await self._restart()
        return sink.written

    def _headers(self, offset: int) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity"}
        if self._is_second:
            headers["Cache-Control"] = "no-cache"
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if self._sink.etag is not None:
                headers["If-Range"] = self._sink.etag
        return headers

    async def _accept(self, response: Response, offset: int) -> None:
        """Make the sink fit the answer's headers, or raise where they can't belong to the requested
        file.
        """
        if response.status == 206:
            await self._accept_range(response, offset)
        elif response.status == 200:
            if offset:
                _log.info("file.range_ignored", filename=self._request.filename, kept=offset)
                await self._restart()
            self._sink.etag = _strong_etag(response)
        else:
            await self._restart()
            raise Unavailable(
                url=self._request.url,
                cause=f"the server answered {response.status} instead of the file",
            )
        length = response.content_length
        total = None if length is None else self._sink.written + length
        if total is not None:
            self._check_announced(total)
        if self._request.size is None:
            await self._sink.expect_unlisted(total)

    async def _accept_range(self, response: Response, offset: int) -> None:
        found = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
        total = None if found is None or found[2] == "*" else int(found[2])
        is_right = found is not None and offset > 0 and int(found[1]) == offset
        if not is_right or (total is not None and self._request.size not in {None, total}):
            await self._restart()
            raise Unavailable(
                url=self._request.url,
                cause="the server answered with another range than the one asked for",
            )

    def _check_announced(self, total: int) -> None:
        request = self._request
        if request.limit_bytes and total > request.limit_bytes:
            raise TooLarge(
                url=request.url,
                limit_bytes=request.limit_bytes,
                setting=request.setting,
                size_bytes=total,
            )
        if request.size is not None and total != request.size:
            raise SizeMismatch(
                filename=request.filename, expected_bytes=request.size, actual_bytes=total
            )

    async def _receive(self, response: Response) -> None:
        request, sink = self._request, self._sink
        while chunk := await response.read_chunk():
            total = sink.written + len(chunk)
            if request.size is not None and total > request.size:
                raise SizeMismatch(
                    filename=request.filename, expected_bytes=request.size, actual_bytes=total
                )
            if request.limit_bytes and total > request.limit_bytes:
                raise TooLarge(
                    url=request.url, limit_bytes=request.limit_bytes, setting=request.setting
                )
            await sink.write(chunk)
        if request.size is not None and sink.written < request.size and not response.has_known_end:
            raise Unavailable(
                url=request.url, cause="the connection closed before the listed size had come"
            )

    async def _restart(self) -> None:
        await self._sink.restart()
        self._sink.etag = None


async def fetch_metadata(
    session: IndexSession,
    url: str,
    digests: Digests,
    limit_bytes: int,
    *,
    policy: RetryPolicy | None = None,
    lease: PageLease | None = None,
) -> bytes | None:
    """Return a file's ``.metadata`` (PEP 658), or None where it is not there, too large or not as
    advertised.

    Raises ``UpstreamError`` where it could not be asked for. ``lease``: see
    ``fetch_checked_metadata``.
    """
    if not _strong_digests(digests):
        cause = "no sha256 or stronger of it is listed"
        _log.warning("metadata.refused", url=shown_url(url), cause=cause)
        return None
    try:
        return await fetch_checked_metadata(
            session, url, digests, limit_bytes, policy=policy, lease=lease
        )
    except NotFound:
        return None
    except TooLarge:
        _log.warning(
            "metadata.refused", url=shown_url(url), cause="larger than limits.metadata-size"
        )
    except DigestMismatch:
        _log.warning("metadata.refused", url=shown_url(url), cause="other bytes than advertised")
    return None


async def fetch_checked_metadata(
    session: IndexSession,
    url: str,
    digests: Digests,
    limit_bytes: int,
    *,
    policy: RetryPolicy | None = None,
    lease: PageLease | None = None,
) -> bytes:
    """Return a file's ``.metadata`` (PEP 658).

    ``lease``: of the session's memory, held by the caller as long as the metadata is in memory;
    without one the room is held until this returns. Raises ``UpstreamError``; ``NotFound`` where
    it is not there, ``TooLarge``, ``DigestMismatch``.
    """
    if lease is None:
        own = session.metadata_memory.lease()
        with own.body():
            return await fetch_checked_metadata(
                session, url, digests, limit_bytes, policy=policy, lease=own
            )
    policy = policy or session.retry_policy
    headers = {"Accept-Encoding": "identity"}
    tries = 0
    while True:
        tries += 1
        try:
            async with session.get(url, kind=RequestKind.FILE, headers=headers) as response:
                if response.status != 200:
                    raise NotFound(url=url, status=response.status)
                body = await response.read_at_most(limit_bytes, lease)
        except Unavailable as exc:
            await pause_before_next(
                exc,
                tries_made=tries,
                remaining_s=policy.budget_s,
                policy=policy,
                allowance=session.allowance,
            )
            session.traffic.retries += 1
            continue
        if body is None:
            raise TooLarge(url=url, limit_bytes=limit_bytes, setting="limits.metadata-size")
        wrong = next(
            (pair for pair in digests_to_compare(digests) if _digest_of(body, pair[0]) != pair[1]),
            None,
        )
        if wrong is not None:
            filename = url.rpartition("/")[2]
            raise DigestMismatch(
                filename=filename,
                algorithm=wrong[0],
                expected=wrong[1],
                actual=_digest_of(body, wrong[0]),
            )
        return body


def _digest_of(body: bytes, algorithm: str) -> str:
    return hashlib.new(algorithm, body, usedforsecurity=False).hexdigest()


def _is_complete(request: FileRequest, sink: Sink) -> bool:
    """Whether all that an interrupted download kept is already the whole file, by its strong
    digests.
    """
    strong = _strong_digests(request.digests)
    is_right = request.size in {None, sink.written} and all(
        sink.hexdigest(a) == digits for a, digits in strong
    )
    return bool(strong) and is_right


def _strong_digests(digests: Digests) -> Digests:
    return tuple(
        (algorithm, digits) for algorithm, digits in digests if algorithm in STRONG_DIGESTS
    )


def _check_size(request: FileRequest, written: int) -> None:
    if request.size is not None and written != request.size:
        raise SizeMismatch(
            filename=request.filename, expected_bytes=request.size, actual_bytes=written
        )


def _check_digest(request: FileRequest, sink: Sink) -> None:
    for algorithm, expected in digests_to_compare(request.digests):
        actual = sink.hexdigest(algorithm)
        if actual != expected:
            raise DigestMismatch(
                filename=request.filename, algorithm=algorithm, expected=expected, actual=actual
            )


def _strong_etag(response: Response) -> str | None:
    etag = response.headers.get("ETag")
    if (
        not etag
        or not etag.startswith('"')
        or len(etag) > _ETAG_CHARS
        or not (etag.isascii() and etag.isprintable())
    ):
        return None
    return etag
