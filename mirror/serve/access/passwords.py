"""Checks the credentials of requests against an htpasswd file.

Invariants: at most two hash checks at once in all processes together; other requests wait a few
seconds for their turn. A success is remembered for five minutes under a digest with a random key,
and forgotten when the file changes. Equal credentials of concurrent requests cost one check.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import fcntl
import hashlib
import os
import secrets
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from pathlib import Path
from typing import Final

from mirror.errors import ConfigError
from mirror.serve.access.htpasswd import MAX_BYTES, HtpasswdError, Users, parse_htpasswd
from mirror.serve.access.watched import Watched

CHECKS_AT_ONCE: Final = 2
REMEMBERED_S: Final = 300.0
WAIT_LIMIT_S: Final = 5.0
"""How long a request waits for its check."""

MAX_WAITING: Final = 200
_MOST_REMEMBERED: Final = 10_000
_LONGEST_HEADER: Final = 4096
_POLL_S: Final = 0.01


class Admission(Enum):
    """Whether a request may be answered."""

    ADMITTED = "admitted"
    REFUSED = "refused"
    BUSY = "busy"


class CheckSlots:
    """The places of the hash checks, shared by the processes that are forked from this one."""

    def __init__(self) -> None:
        # A lock on an open file ends with its process, however that ends.
        self._files = [os.memfd_create(f"check-{number}") for number in range(CHECKS_AT_ONCE)]

    def take(self, until_s: float) -> int | None:
        """Return the descriptor of a free place, or None where there is none in time. Blocking."""
        while True:
            for file in self._files:
                # Opened again: a lock belongs to the open file, which a fork shares.
                own = os.open(f"/proc/self/fd/{file}", os.O_RDWR | os.O_CLOEXEC)
                try:
                    fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    os.close(own)
                else:
                    return own
            if time.monotonic() >= until_s:
                return None
            time.sleep(_POLL_S)


class PasswordFile:
    """The file and the places of the checks; made before a fork."""

    def __init__(self, path: Path) -> None:
        """Read the file. Raises ``ConfigError``."""
        try:
            self.users = Watched([path], lambda: _load(path), noun="htpasswd", words=_words)
        except (OSError, HtpasswdError) as exc:
            problem = f"{path} can't be used: {_words(exc)}"
            raise ConfigError(where="serve.htpasswd", problem=problem) from exc
        self.slots = CheckSlots()


class Passwords:
    """The checks of one process; used by one event loop."""

    def __init__(self, file: PasswordFile) -> None:
        self._file = file
        self._users = file.users.current()
        self._key = secrets.token_bytes(32)
        self._remembered: OrderedDict[bytes, float] = OrderedDict()
        self._checking: dict[bytes, asyncio.Task[Admission]] = {}
        self._turns = asyncio.Semaphore(CHECKS_AT_ONCE)
        self._threads = ThreadPoolExecutor(CHECKS_AT_ONCE, "password")

    async def admission(self, header: str | None) -> Admission:
        """Return whether the credentials of an ``Authorization`` header are a user's."""
        credentials = parse_basic(header)
        if credentials is None:
            return Admission.REFUSED
        self._refresh()
        user, password = credentials
        digest = hashlib.blake2b(
            len(user).to_bytes(4, "big") + user + password, key=self._key, digest_size=32
        ).digest()
        until_s = self._remembered.get(digest)
        if until_s is not None and time.monotonic() < until_s:
            return Admission.ADMITTED
        task = self._checking.get(digest)
        if task is None:
            if len(self._checking) >= MAX_WAITING:
                return Admission.BUSY
            task = asyncio.ensure_future(self._check(self._users, user, password, digest))
            self._checking[digest] = task
            task.add_done_callback(lambda _: self._checking.pop(digest, None))
        return await asyncio.shield(task)

    def close(self) -> None:
        """End the threads; checks under way are not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _refresh(self) -> None:
        users = self._file.users.current()
        if users is not self._users:
            self._users, self._key = users, secrets.token_bytes(32)
            self._remembered.clear()

    async def _check(self, users: Users, user: bytes, password: bytes, digest: bytes) -> Admission:
        until_s = time.monotonic() + WAIT_LIMIT_S
        try:
            async with asyncio.timeout(WAIT_LIMIT_S):
                await self._turns.acquire()
        except TimeoutError:
            return Admission.BUSY
        try:
            found = await asyncio.get_running_loop().run_in_executor(
                self._threads, self._verify, users, user, password, until_s
            )
        finally:
            self._turns.release()
        if found is Admission.ADMITTED and users is self._users:
            self._remembered[digest] = time.monotonic() + REMEMBERED_S
            self._remembered.move_to_end(digest)
            if len(self._remembered) > _MOST_REMEMBERED:
                self._remembered.popitem(last=False)
        return found

    def _verify(self, users: Users, user: bytes, password: bytes, until_s: float) -> Admission:
        place = self._file.slots.take(until_s)
        if place is None:
            return Admission.BUSY
        try:
            return Admission.ADMITTED if users.verify(user, password) else Admission.REFUSED
        finally:
            os.close(place)


def parse_basic(header: str | None) -> tuple[bytes, bytes] | None:
    """Return user name and password of an ``Authorization`` header, or None without usable ones."""
    scheme, _, text = (header or "").strip().partition(" ")
    if scheme.lower() != "basic" or len(text) > _LONGEST_HEADER:
        return None
    try:
        decoded = base64.b64decode(text.strip().encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return None
    user, colon, password = decoded.partition(b":")
    # No user or password of an htpasswd file has a NUL, and older bcrypt raises for one.
    return (user, password) if colon and b"\0" not in decoded else None


def _load(path: Path) -> Users:
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise HtpasswdError("it is larger than an htpasswd file may be")
    return parse_htpasswd(data)


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
