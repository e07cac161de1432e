"""Reads objects for one process, in threads, each with a deadline.

Invariant: a store that is away, denies or hangs becomes ``StoreAway`` within the deadline; the
event loop never waits for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any, Final, Protocol, TypeVar

import msgspec

from mirror.core.store_address import StoreAddress
from mirror.errors import MirrorError, TreeError
from mirror.logs import get_logger
from mirror.tree.objects.client import ObjectClient, StoredObject

PAGE_LIMIT_S: Final = 8.0
"""How long to wait for a page, or for the status of a file."""
PART_LIMIT_S: Final = 60.0
"""How long to wait for one part of a file."""
_AT_ONCE: Final = 32
"""Maximum number of reads of one kind at a time, each in a thread."""
_LOG_EVERY_S: Final = 60.0
_REST_S: Final = 0.5
"""How long a store that was away is not asked again: requests do not queue up for it."""

T = TypeVar("T")

_log = get_logger(__name__)


class StoreAway(OSError):
    """The store can't be read at the moment."""


class ObjectPart(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of an object, and its status."""

    data: bytes
    status: StoredObject


class ObjectReader(Protocol):
    """Reads of a store. Blocking; raises ``FileNotFoundError`` or ``MirrorError``."""

    def start(self, read: Callable[[], T]) -> Future[T]:
        """Begin some reads in a thread of its own; wait for nothing."""

    def status(self, key: str) -> StoredObject:
        """Return the status of an object."""

    def read(self, key: str, *, known: str | None = None) -> ObjectPart | None:
        """Return a whole object; None where its ETag is still ``known``."""

    def read_part(self, key: str, *, first: int, end: int) -> ObjectPart:
        """Return the bytes from ``first`` up to ``end``, fewer at the object's end."""

    def sign(self, method: str, key: str, *, expires_s: float) -> str:
        """Return the address of an object for clients, signed for a time."""


class StoreReader:
    """Reads the objects of one tree."""

    def __init__(
        self, address: StoreAddress, env: Mapping[str, str], *, store_url: str | None
    ) -> None:
        """``store_url``: how clients reach the store; a signature is valid for one host only."""
        self._client = ObjectClient(address, env)
        self._signing = self._client
        if store_url is not None:
            ours = {"AWS_ENDPOINT_URL_S3": store_url, "AWS_ALLOW_HTTP": "true"}
            self._signing = ObjectClient(address, {**env, **ours})

    def start(self, read: Callable[[], T]) -> Future[T]:
        """Begin some reads in a thread of its own; wait for nothing."""
        return self._client.start(read)

    def status(self, key: str) -> StoredObject:
        """Return the status of an object."""
        return _there(self._client.head(key), key)

    def read(self, key: str, *, known: str | None = None) -> ObjectPart | None:
        """Return a whole object; None where its ETag is still ``known``."""
        if known is None:
            data, status = _there(self._client.get(key), key)
            return ObjectPart(data=data, status=status)
        found = self._client.get_if_changed(key, known)
        if found is None:
            _there(self._client.head(key), key)
            return None
        return ObjectPart(data=found[0], status=found[1])

    def read_part(self, key: str, *, first: int, end: int) -> ObjectPart:
        """Return the bytes from ``first`` up to ``end``, fewer at the object's end."""
        try:
            deadline_s = self._client.stall_timeout_s
            found = self._client.get(key, start=first, end=end, deadline_s=deadline_s)
            data, status = _there(found, key)
            return ObjectPart(data=data, status=status)
        except TreeError:
            if first or (status := self.status(key)).size:
                raise
            return ObjectPart(data=b"", status=status)  # no range fits an empty object

    def sign(self, method: str, key: str, *, expires_s: float) -> str:
        """Return the address of an object for clients, signed for a time."""
        return self._signing.sign(method, key, expires_s)


def _there(found: T | None, key: str) -> T:
    if found is None:
        raise FileNotFoundError(key)
    return found


class _Slots:
    """Some reads at a time, until each of them has ended by itself."""

    def __init__(self, limit_s: float) -> None:
        """``limit_s``: how long to wait for a slot and for the read."""
        self.limit_s = limit_s
        self._free = asyncio.Semaphore(_AT_ONCE)

    async def run(self, start: Callable[[], Future[T]]) -> T:
        """Return the result of a read. Raises ``TimeoutError``, or the error of the read."""
        left_s = self.limit_s
        if self._free.locked():
            begun_s = time.monotonic()
            async with asyncio.timeout(left_s):
                await self._free.acquire()
            left_s = max(0.0, left_s - (time.monotonic() - begun_s))
        else:
            await self._free.acquire()
        try:
            reading = asyncio.wrap_future(start())
        except BaseException:
            self._free.release()
            raise
        reading.add_done_callback(self._end)
        done, _ = await asyncio.wait((reading,), timeout=left_s)
        if not done:
            raise TimeoutError
        return reading.result()

    def _end(self, reading: asyncio.Future[Any]) -> None:
        self._free.release()
        if not reading.cancelled():
            reading.exception()  # its reader may be gone, and nobody else asks


class ObjectSource:
    """A store as one event loop reads it."""

    def __init__(self, open_reader: Callable[[], ObjectReader]) -> None:
        """``open_reader``: called in the process that answers, after its fork."""
        self._open = open_reader
        self._reader: ObjectReader | None = None
        self._opening = asyncio.Lock()
        self._is_closed = False
        self._small, self._large = _Slots(PAGE_LIMIT_S), _Slots(PART_LIMIT_S)
        self._logged_s: float | None = None
        self._away_s = -_REST_S

    async def status(self, key: str) -> StoredObject:
        """Return the status of an object. Raises ``FileNotFoundError``, ``StoreAway``."""
        return await self._run(self._small, lambda r: r.status(key))

    async def read(self, key: str, *, known: str | None = None) -> ObjectPart | None:
        """Return a whole object, None where its ETag is still ``known``.

        Raises ``FileNotFoundError``, ``StoreAway``.
        """
        return await self._run(self._small, lambda r: r.read(key, known=known))

    async def read_part(self, key: str, *, first: int, end: int) -> ObjectPart:
        """Return a part of an object. Raises ``FileNotFoundError``, ``StoreAway``."""
        return await self._run(self._large, lambda r: r.read_part(key, first=first, end=end))

    async def sign(self, method: str, key: str, *, expires_s: float) -> str:
        """Return the address of an object for clients, signed for ``method``.

        Raises ``StoreAway`` where there are no credentials to sign with.
        """
        return await self._run(self._small, lambda r: r.sign(method, key, expires_s=expires_s))

    def close(self) -> None:
        """Start no further read; those under way end with the process."""
        self._is_closed = True

    async def _run(self, slots: _Slots, read: Callable[[ObjectReader], T]) -> T:
        if time.monotonic() - self._away_s < _REST_S:
            raise StoreAway("it was away a moment ago")
        try:
            reader = self._reader or await self._opened()
            found = await slots.run(lambda: self._start(reader, read))
        except TimeoutError:
            raise self._away(f"no answer within {slots.limit_s:.0f} s") from None
        except MirrorError as exc:
            raise self._away(str(exc)) from exc
        if self._logged_s is not None:
            self._logged_s = None
            _log.info("store.reachable")
        return found

    def _start(self, reader: ObjectReader, read: Callable[[ObjectReader], T]) -> Future[T]:
        if self._is_closed:
            raise StoreAway("this server ends")
        return reader.start(partial(read, reader))

    async def _opened(self) -> ObjectReader:
        """Open the reader once, in a thread: files of credentials are read."""
        async with self._opening:
            if self._reader is None:
                loop = asyncio.get_running_loop()
                self._reader = await loop.run_in_executor(None, self._open)
        return self._reader

    def _away(self, problem: str) -> StoreAway:
        self._away_s = now_s = time.monotonic()
        if self._logged_s is None or now_s - self._logged_s > _LOG_EVERY_S:
            self._logged_s = now_s
            _log.error("store.unreachable", problem=problem)
        return StoreAway(problem)
