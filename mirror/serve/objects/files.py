"""Files of a store: streamed in parts, or redirected to a signed address of the store.

Invariant: all parts of an answer are of one version of the object; else the connection is cut, and
the client asks for the rest.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from http import HTTPStatus
from typing import Final

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.web_request import BaseRequest

from mirror.serve.answers import no_store
from mirror.serve.objects.source import ObjectPart, ObjectSource, StoreAway
from mirror.serve.requests.routes import File
from mirror.serve.sending import BodyAnswer, SelectedPart, answer_part
from mirror.tree.objects.client import StoredObject

PART_BYTES: Final = 4 << 20
SIGNED_S: Final = 900.0
"""How long a signed address is valid; a client follows it at once, and asks here again to
resume.
"""
_BELIEVED_S: Final = 60.0
"""How long a file counts as there without asking: it is removed much later than its last page."""
_MOST: Final = 20_000
_TRIES: Final = 4
_PAUSE_S: Final = 0.5


class StoredFiles:
    """The files of one store, for one event loop."""

    def __init__(self, source: ObjectSource, *, redirects: bool) -> None:
        """``redirects``: clients reach the store, so files are not streamed."""
        self._source, self._redirects = source, redirects
        self._there: OrderedDict[str, tuple[StoredObject, float]] = OrderedDict()
        self._digests: OrderedDict[tuple[str, str], str] = OrderedDict()

    async def answer(self, request: BaseRequest, file: File) -> web.StreamResponse:
        """Return the answer for a file. Raises ``FileNotFoundError``, ``StoreAway``."""
        key = "/".join(file.place)
        if self._redirects:
            await self._status(key)
            url = await self._source.sign(request.method, key, expires_s=SIGNED_S)
            headers = {"Location": url}
            status = HTTPStatus.TEMPORARY_REDIRECT
            return no_store(web.Response(status=status, headers=headers))
        status_found, head = await self._begin(request, key)
        digest: str = file.sha256
        if file.is_metadata:
            digest, head = await self._digest(key, status_found, head)
        modified = status_found.modified.timestamp()
        part = answer_part(request, size=status_found.size, modified=modified, etag=f'"{digest}"')
        if isinstance(part, web.Response):
            return part
        return StreamedAnswer(self._source, key, status_found, part, head)

    async def _begin(
        self, request: BaseRequest, key: str
    ) -> tuple[StoredObject, ObjectPart | None]:
        """Return the file's status, with its first bytes where they are wanted anyway."""
        is_plain = request.method == "GET" and not (
            request.headers.keys() & {"Range", "If-None-Match", "If-Modified-Since"}
        )
        kept = self._kept(key)
        if not is_plain or (kept is not None and not kept.size):
            return kept or await self._status(key), None
        head = await self._source.read_part(key, first=0, end=PART_BYTES)
        self._keep(key, head.status)
        return head.status, head

    async def _digest(
        self, key: str, status: StoredObject, head: ObjectPart | None
    ) -> tuple[str, ObjectPart | None]:
        """Return the sha256 of a small object, computed once for each version of it."""
        kept = self._digests.get((key, status.etag))
        if kept is not None:
            return kept, head
        hashed, first = hashlib.sha256(), 0
        while first < status.size:
            part = head if head is not None and not first else None
            if part is None:
                part = await self._source.read_part(key, first=first, end=first + PART_BYTES)
            if part.status.etag != status.etag or not part.data:
                raise StoreAway("the object changed while it was read")
            hashed.update(part.data)
            first += len(part.data)
        digest = hashed.hexdigest()
        self._digests[key, status.etag] = digest
        if len(self._digests) > _MOST:
            self._digests.popitem(last=False)
        return digest, head

    async def _status(self, key: str) -> StoredObject:
        kept = self._kept(key)
        if kept is None:
            kept = await self._source.status(key)
            self._keep(key, kept)
        return kept

    def _kept(self, key: str) -> StoredObject | None:
        kept = self._there.get(key)
        return kept[0] if kept is not None and time.monotonic() - kept[1] < _BELIEVED_S else None

    def _keep(self, key: str, status: StoredObject) -> None:
        self._there[key] = (status, time.monotonic())
        self._there.move_to_end(key)
        if len(self._there) > _MOST:
            self._there.popitem(last=False)


class StreamedAnswer(BodyAnswer):
    """A part of an object as an answer, read while it is sent."""

    def __init__(
        self,
        source: ObjectSource,
        key: str,
        status: StoredObject,
        part: SelectedPart,
        head: ObjectPart | None,
    ) -> None:
        super().__init__(status=part.status, headers=part.headers)
        self.content_length = part.end - part.first
        self._source, self._key, self._object, self._head = source, key, status, head
        self._begin = self._first = part.first
        self._end = part.end

    @property
    def position(self) -> int:
        """Up to where the client's connection has taken the object."""
        return self._first

    @property
    def sent_bytes(self) -> int:
        """How many bytes were sent."""
        return self._first - self._begin

    async def prepare(self, request: BaseRequest) -> AbstractStreamWriter | None:
        """Send the headers and the bytes."""
        writer = await super().prepare(request)
        if request.method != "HEAD":
            try:
                await self._send()
            except (OSError, StoreAway) as exc:
                if request.transport is not None:
                    request.transport.abort()
                raise ConnectionResetError(f"the object could not be read: {exc}") from exc
        return writer

    async def _send(self) -> None:
        head, self._head = self._head, None
        if head is not None:
            await self._write(head.data[: self._end])
        while self._first < self._end:
            end = min(self._end, self._first + PART_BYTES)
            await self._write(await self._part(end))

    async def _write(self, data: bytes) -> None:
        await self.write(data)
        self._first += len(data)

    async def _part(self, end: int) -> bytes:
        """Return the next part; a store that fails is asked again a few times."""
        for attempt in range(_TRIES):
            try:
                part = await self._source.read_part(self._key, first=self._first, end=end)
            except StoreAway:
                if attempt + 1 == _TRIES:
                    raise
                await asyncio.sleep(_PAUSE_S * 2**attempt)
                continue
            # A blob that was put again has the same bytes, though another ETag.
            if part.status.size != self._object.size or not part.data:
                raise StoreAway("the object changed while it was sent")
            return part.data
        raise AssertionError("unreachable")
