"""Reads objects for one process, in threads, each with a deadline.

Invariant: a store that is away, denies or hangs becomes ``StoreAway`` within the deadline; the
event loop never waits for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol, TypeVar

import msgspec

from mirror.core.store_address import StoreAddress
from mirror.errors import MirrorError, TreeError
from mirror.logs import get_logger
from mirror.tree.objects.client import ObjectClient, StoredObject

PAGE_LIMIT_S: Final = 8.0
"""How long to wait for a page, or for the status of a file."""
PART_LIMIT_S: Final = 60.0
"""How long to wait for one part of a file."""
_THREADS: Final = 32
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
            with self._client.reading(key, start=first, end=end) as found:
                status, blocks = _there(found, key)
                return ObjectPart(data=b"".join(blocks), status=status)
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


class ObjectSource:
    """A store as one event loop reads it."""

    def __init__(self, open_reader: Callable[[], ObjectReader]) -> None:
        """``open_reader``: called in the process that answers, after its fork."""
        self._open = open_reader
        self._reader: ObjectReader | None = None
        self._small = ThreadPoolExecutor(_THREADS, "pages")
        self._large = ThreadPoolExecutor(_THREADS, "files")
        self._logged_s: float | None = None
        self._away_s = -_REST_S

    async def status(self, key: str) -> StoredObject:
        """Return the status of an object. Raises ``FileNotFoundError``, ``StoreAway``."""
        return await self._run(self._small, PAGE_LIMIT_S, lambda r: r.status(key))

    async def read(self, key: str, *, known: str | None = None) -> ObjectPart | None:
        """Return a whole object, None where its ETag is still ``known``.

        Raises ``FileNotFoundError``, ``StoreAway``.
        """
        return await self._run(self._small, PAGE_LIMIT_S, lambda r: r.read(key, known=known))

    async def read_part(self, key: str, *, first: int, end: int) -> ObjectPart:
        """Return a part of an object. Raises ``FileNotFoundError``, ``StoreAway``."""
        return await self._run(
            self._large,
            PART_LIMIT_S,
            lambda r: r.read_part(key, first=first, end=end),
        )

    async def sign(self, method: str, key: str, *, expires_s: float) -> str:
        """Return the address of an object for clients, signed for ``method``.

        Raises ``StoreAway`` where there are no credentials to sign with.
        """
        return await self._run(
            self._small, PAGE_LIMIT_S, lambda r: r.sign(method, key, expires_s=expires_s)
        )

    def close(self) -> None:
        """Start no further call; those under way end with the process."""
        self._small.shutdown(wait=False, cancel_futures=True)
        self._large.shutdown(wait=False, cancel_futures=True)

    async def _run(
        self, threads: ThreadPoolExecutor, limit_s: float, call: Callable[[ObjectReader], T]
    ) -> T:
        loop = asyncio.get_running_loop()
        if time.monotonic() - self._away_s < _REST_S:
            raise StoreAway("it was away a moment ago")
        try:
            async with asyncio.timeout(limit_s):
                found = await loop.run_in_executor(threads, lambda: call(self._opened()))
        except TimeoutError:
            raise self._away(f"no answer within {limit_s:.0f} s") from None
        except MirrorError as exc:
            raise self._away(str(exc)) from exc
        if self._logged_s is not None:
            self._logged_s = None
            _log.info("store.reachable")
        return found

    def _opened(self) -> ObjectReader:
        # Two threads may open one each: the later one is kept.
        if self._reader is None:
            self._reader = self._open()
        return self._reader

    def _away(self, problem: str) -> StoreAway:
        self._away_s = now_s = time.monotonic()
        if self._logged_s is None or now_s - self._logged_s > _LOG_EVERY_S:
            self._logged_s = now_s
            _log.error("store.unreachable", problem=problem)
        return StoreAway(problem)
