"""Requests to an object store: the only home of obstore, whose exceptions end here.

Each call has a deadline (``calls``), tries included. obstore repeats a request by itself after a
lost answer, a conditional put too: a ``Conflict`` may be with the caller's own earlier try. ETags
are opaque. The payload of each put is signed by its sha256, which is sent as the checksum header
too: engines check one or the other.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime, timedelta
from functools import partial
from typing import Any, BinaryIO, Final, TypeVar

import msgspec

from mirror.core.store_address import StoreAddress
from mirror.errors import ConfigError, KeyRefused, TreeError
from mirror.tree.objects.calls import CallBreaks, Calls
from mirror.tree.objects.credentials import allows_http, engine_settings
from mirror.tree.objects.failures import foreign_answer, own_words, store_error

T = TypeVar("T")

CALL_S: Final = 15.0
"""Deadline of a call of the lock, of a page and of a delete, tries included."""
_ANSWER_S: Final = 12.0
"""Until obstore itself gives up, so that its own error is the one that is reported."""
_RETRIES: Final = 5
PART_BYTES: Final = 8 << 20
"""Minimum size of a part of an upload; smaller objects are put whole."""
_MOST_PARTS: Final = 9_000
"""Maximum number of parts of an upload; engines take 10,000."""
_PARTS_AT_ONCE: Final = 2
_LISTED_AT_ONCE: Final = 1000
_BLOCK_BYTES: Final = 1 << 20


class Conflict(Exception):
    """The condition of a put did not hold."""


class StoredObject(msgspec.Struct, frozen=True, kw_only=True):
    """An object as the store describes it."""

    key: str
    size: int
    etag: str
    modified: datetime
    attributes: Mapping[str, str] = {}
    """Headers such as ``Content-Type``, and metadata of the writer; empty in a listing."""


class Put(msgspec.Struct, frozen=True, kw_only=True):
    """A small object to be written whole (``ObjectClient.put``)."""

    key: str
    data: bytes | bytearray | memoryview
    attributes: Mapping[str, str]
    mode: str | Mapping[str, str] = "overwrite"


class ObjectClient:
    """The objects of one tree. Methods block and raise ``TreeError``; to be called in threads.

    Not to be used after a fork: each process opens its own.
    """

    def __init__(
        self,
        address: StoreAddress,
        env: Mapping[str, str],
        *,
        connect_timeout_s: float = 10.0,
        stall_timeout_s: float = 60.0,
    ) -> None:
        """Open nothing yet. Blocking: files of credentials are read. Raises ``ConfigError``."""
        self.address = address
        self.connect_timeout_s, self.stall_timeout_s = connect_timeout_s, stall_timeout_s
        self._library = _load_library()
        settings = engine_settings(address, env)
        options: dict[str, Any] = {
            "connect_timeout": timedelta(seconds=min(connect_timeout_s, _ANSWER_S)),
            "pool_max_idle_per_host": "64",
        }
        if allows_http(env):
            options["allow_http"] = True
        if authority := env.get("AWS_CA_BUNDLE"):
            options["root_certificate"] = _read_authority(authority)
        self._calls = Calls()
        self._small = _open(self._library, address, settings, options, timeout_s=_ANSWER_S)
        self._large = _open(
            self._library, address, settings, options, timeout_s=max(stall_timeout_s, _ANSWER_S)
        )

    def start(self, work: Callable[[], T]) -> Future[T]:
        """Do a piece of work with this client in a thread of its own, and return its result to be.

        Nothing waits here. A request that the store does not answer ends it with a ``TreeError``;
        later steps of the work are never taken.
        """
        return self._calls.start(work)

    def put(
        self,
        key: str,
        data: bytes | bytearray | memoryview,
        *,
        attributes: Mapping[str, str] | None = None,
        mode: str | Mapping[str, str] = "overwrite",
        deadline_s: float = CALL_S,
    ) -> str:
        """Write an object whole and return its ETag.

        ``mode``: ``overwrite``, ``create``, or ``{"e_tag": …}``. Raises ``Conflict`` where that
        does not hold.
        """
        store = self._small if deadline_s <= CALL_S else self._large
        put = lambda: self._library.put(  # noqa: E731 - one call, handed over
            store, key, data, attributes=dict(attributes or {}), mode=mode, use_multipart=False
        )
        try:
            result = self._call_conditionally(key, put, deadline_s=deadline_s)
        except (_Missing, _Refused) as exc:
            # some engines call it missing where there is no object with this ETag
            if mode == "overwrite":
                raise self._unexpected(key, exc) from exc
            raise Conflict(key) from None
        return str(result["e_tag"] or "")

    def put_in_turn(self, puts: Sequence[Put], *, deadline_s: float = CALL_S) -> list[str]:
        """Write small objects, one after the other, in one call; return the ETags of the first.

        The caller puts the others by themselves: a later put failed, or the first ones took long.
        One call for two objects costs half as many switches of threads. Raises ``Conflict`` where
        the first condition does not hold.
        """
        store = self._small if deadline_s <= CALL_S else self._large
        done: list[str] = []
        late_at = time.monotonic() + deadline_s / 4

        def put_all() -> None:
            for put in puts:
                if done and time.monotonic() > late_at:
                    return
                try:
                    result = self._library.put(
                        store,
                        put.key,
                        put.data,
                        attributes=dict(put.attributes),
                        mode=put.mode,
                        use_multipart=False,
                    )
                except self._library.exceptions.BaseError:
                    if done:
                        return
                    raise
                done.append(str(result["e_tag"] or ""))

        first = puts[0]
        try:
            self._call_conditionally(first.key, put_all, deadline_s=deadline_s)
        except (_Missing, _Refused) as exc:
            if first.mode == "overwrite":
                raise self._unexpected(first.key, exc) from exc
            raise Conflict(first.key) from None
        return done

    def put_file(
        self, key: str, file: BinaryIO, size: int, *, attributes: Mapping[str, str] | None = None
    ) -> None:
        """Write a large object in parts, a few of them in memory; ``stall_timeout_s`` without
        progress ends it.

        Nothing is visible before the last part is there.
        """
        source = _Watched(file)
        put = lambda: self._library.put(  # noqa: E731
            self._large,
            key,
            source,
            attributes=dict(attributes or {}),
            chunk_size=max(PART_BYTES, -(-size // _MOST_PARTS)),
            max_concurrency=_PARTS_AT_ONCE,
        )
        self._call(
            key, put, deadline_s=self.stall_timeout_s, progressed_at=lambda: source.progressed_at
        )

    def head(self, key: str) -> StoredObject | None:
        """Return an object's description, or None where there is none."""

        def read_head() -> StoredObject:
            return _described(self._library.get(self._small, key, options={"head": True}))

        return self._or_none(key, read_head)

    def get(
        self, key: str, *, start: int = 0, end: int | None = None, deadline_s: float = CALL_S
    ) -> tuple[bytes, StoredObject] | None:
        """Return the bytes of a small object, or some of them, or None where there is none."""
        store = self._small if deadline_s <= CALL_S else self._large

        def read() -> tuple[bytes, StoredObject]:
            got = self._opened(store, key, start, end)
            data = bytes(got.bytes())
            found = _described(got)
            _check_length(len(data), found.size, start, end)
            return data, found

        return self._or_none(key, read, deadline_s)

    def get_if_changed(self, key: str, etag: str) -> tuple[bytes, StoredObject] | None:
        """Return a small object unless it has this ETag or is missing, which ``head`` shows."""

        def read() -> tuple[bytes, StoredObject] | None:
            try:
                got = self._library.get(self._small, key, options={"if_none_match": etag})
            except self._library.exceptions.NotModifiedError:
                return None
            return bytes(got.bytes()), _described(got)

        return self._or_none(key, read)

    @contextlib.contextmanager
    def reading(
        self, key: str, *, start: int = 0, end: int | None = None
    ) -> Iterator[tuple[StoredObject, Iterator[bytes]] | None]:
        """Yield an object's description and its bytes in blocks, or None where there is none.

        Each block has the deadline ``stall_timeout_s``. A body that ends early is a ``TreeError``.
        """
        got = self._or_none(
            key,
            lambda: self._opened(self._large, key, start, end),
            deadline_s=max(self.stall_timeout_s, CALL_S),
        )
        if got is None:
            yield None
            return
        found = _described(got)
        stop = found.size if end is None else min(end, found.size)
        yield found, self._blocks(key, got, max(0, stop - start))

    def _opened(self, store: Any, key: str, start: int, end: int | None) -> Any:
        options: dict[str, Any] = {}
        if end is not None:
            options["range"] = (start, end)
        elif start:
            options["range"] = {"offset": start}
        return self._library.get(store, key, options=options)

    def _blocks(self, key: str, got: Any, size: int) -> Iterator[bytes]:
        stream = iter(got.stream(min_chunk_size=_BLOCK_BYTES))
        came = 0
        while True:
            block = self._call(key, lambda: next(stream, None), deadline_s=self.stall_timeout_s)
            if block is None:
                break
            data = bytes(block)
            came += len(data)
            yield data
        if came != size:
            raise self._error(key, f"{came} of {size} bytes came; run it again")

    def list_objects(
        self, prefix: str = "", *, offset: str | None = None, limit: int | None = None
    ) -> Iterator[StoredObject]:
        """Yield the objects whose keys begin with ``prefix`` (whole segments), in the order of
        keys.

        Never in a cycle. ``offset``: only keys after it. ``limit``: maximum number of objects.
        """
        size = _LISTED_AT_ONCE if limit is None else min(limit, _LISTED_AT_ONCE)
        stream = iter(
            self._library.list(self._small, prefix=prefix or None, offset=offset, chunk_size=size)
        )
        left = limit
        while left is None or left > 0:
            found = self._call(prefix, lambda: next(stream, None))
            if found is None:
                return
            for meta in found[:left]:
                yield _listed(meta)
            left = None if left is None else left - len(found)

    def list_names(self, prefix: str = "") -> tuple[list[str], list[StoredObject]]:
        """Return the names of the next level below ``prefix``: the common prefixes, and the
        objects.
        """
        found = self._call(
            prefix,
            lambda: self._library.list_with_delimiter(self._large, prefix=prefix or None),
            deadline_s=max(self.stall_timeout_s, CALL_S),
        )
        return [*found["common_prefixes"]], [_listed(meta) for meta in found["objects"]]

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; missing ones are no error."""
        for start in range(0, len(keys), _LISTED_AT_ONCE):
            some = list(keys[start : start + _LISTED_AT_ONCE])
            try:
                self._call_conditionally(some[0], partial(self._library.delete, self._small, some))
            except _Missing:
                continue
            except _Refused as exc:
                raise self._unexpected(some[0], exc) from exc

    def copy(self, source: str, target: str, *, deadline_s: float | None = None) -> None:
        """Copy an object on the server's side. Raises ``TreeError`` where it is missing.

        ``deadline_s``: None: as of a large object.
        """
        deadline_s = max(self.stall_timeout_s, CALL_S) if deadline_s is None else deadline_s
        store = self._small if deadline_s <= CALL_S else self._large
        copy = partial(self._library.copy, store, source, target)
        self._call(source, copy, deadline_s=deadline_s)

    def sign(self, method: str, key: str, expires_s: float) -> str:
        """Return a URL that allows one method on one object for a while."""
        url: str = self._call(
            key,
            lambda: self._library.sign(self._small, method, key, timedelta(seconds=expires_s)),
        )
        return url

    def _or_none(self, key: str, call: Callable[[], T], deadline_s: float = CALL_S) -> T | None:
        try:
            return self._call_conditionally(key, call, deadline_s=deadline_s)
        except _Missing:
            return None
        except _Refused as exc:
            raise self._unexpected(key, exc) from exc

    def _call(
        self,
        key: str,
        call: Callable[[], T],
        *,
        deadline_s: float = CALL_S,
        progressed_at: Callable[[], float] | None = None,
    ) -> T:
        """Make a call that depends on no condition, of an object that is there.

        Raises ``TreeError``.
        """
        try:
            return self._call_conditionally(
                key, call, deadline_s=deadline_s, progressed_at=progressed_at
            )
        except (_Missing, _Refused) as exc:
            raise self._unexpected(key, exc) from exc

    def _call_conditionally(
        self,
        key: str,
        call: Callable[[], T],
        *,
        deadline_s: float = CALL_S,
        progressed_at: Callable[[], float] | None = None,
    ) -> T:
        """Make a call that a condition or a missing object may end.

        Raises ``TreeError``, ``_Missing``, ``_Refused``.
        """
        exceptions = self._library.exceptions
        try:
            return self._calls.run(
                call,
                deadline_s=deadline_s,
                progressed_at=progressed_at,
                late=partial(self._late, key, deadline_s),
            )
        except CallBreaks as exc:
            raise self._error(key, foreign_answer(str(exc))) from exc
        except (exceptions.AlreadyExistsError, exceptions.PreconditionError) as exc:
            raise _Refused(own_words(exc)) from exc
        except FileNotFoundError as exc:
            if "<Code>NoSuchBucket</Code>" in str(exc):
                raise store_error(self.address, key, exc) from exc
            raise _Missing(key) from exc
        except exceptions.InvalidPathError as exc:
            problem = f"this name can't be a key of the store: {own_words(exc)}"
            raise KeyRefused(path=self.address.shown(key), problem=problem) from exc
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as exc:
            raise store_error(self.address, key, exc, is_denied=True) from exc
        except exceptions.BaseError as exc:
            raise store_error(self.address, key, exc) from exc
        except OSError as exc:
            raise self._error(key, f"can't be read or written: {exc.strerror or exc}") from exc

    def _late(self, key: str, deadline_s: float) -> TreeError:
        problem = (
            f"the store gave no answer within {deadline_s:g} s; see whether it is well, and run it"
            " again"
        )
        return self._error(key, problem)

    def _unexpected(self, key: str, error: Exception) -> TreeError:
        if isinstance(error, _Missing):
            return self._error(key, "it is missing")
        return self._error(key, f"the store refuses this request ({error}); run it again")

    def _error(self, key: str, problem: str) -> TreeError:
        return TreeError(path=self.address.shown(key), problem=problem)


class _Missing(Exception):
    """There is no such object."""


class _Refused(Exception):
    """A condition did not hold, or the engine does something else with this key at the moment."""


class _Watched:
    """A file whose reads are noted, since they show that an upload makes progress."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.progressed_at = time.monotonic()

    def read(self, size: int = -1, /) -> bytes:
        self.progressed_at = time.monotonic()
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True


def check_engine(address: StoreAddress, env: Mapping[str, str]) -> None:
    """Raise ``ConfigError`` where no client could be opened; opens none. Blocking."""
    _load_library()
    engine_settings(address, env)


def _load_library() -> Any:
    """Return obstore. Imported late: it is an extra, and most mirrors lie on a disk."""
    try:
        # 11 ms
        import obstore
        import obstore.exceptions
        import obstore.store
    except ImportError as exc:
        problem = "an object store needs the extra `store`: pip install 'offline-mirror[store]'"
        raise ConfigError(where="mirror.tree", problem=problem) from exc
    return obstore


def _open(
    library: Any,
    address: StoreAddress,
    settings: Mapping[str, str],
    options: Mapping[str, Any],
    *,
    timeout_s: float,
) -> Any:
    return library.store.S3Store(
        prefix=address.prefix or None,
        config={**settings, "checksum_algorithm": "SHA256"},
        client_options={**options, "timeout": timedelta(seconds=timeout_s)},
        retry_config={
            "max_retries": _RETRIES,
            "retry_timeout": timedelta(seconds=timeout_s),
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": timedelta(seconds=3),
                "base": 2,
            },
        },
    )


def _described(got: Any) -> StoredObject:
    return msgspec.structs.replace(_listed(got.meta), attributes=dict(got.attributes))


def _listed(meta: Any) -> StoredObject:
    return StoredObject(
        key=meta["path"],
        size=meta["size"],
        etag=str(meta["e_tag"] or ""),
        modified=meta["last_modified"],
    )


def _check_length(came: int, size: int, start: int, end: int | None) -> None:
    expected = max(0, (size if end is None else min(size, end)) - start)
    if came != expected:
        raise OSError(f"{came} of {expected} bytes came; run it again")


def _read_authority(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(1 << 22)
    except OSError as exc:
        raise ConfigError(where="AWS_CA_BUNDLE", problem=f"can't be read: {exc.strerror}") from exc
