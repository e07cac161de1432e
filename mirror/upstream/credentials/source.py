"""Keeps one index's credential: reads it when it is first needed, when its file changed, and when
it expires.

Invariants: one reading at a time; the credential is not sent over plain http to another host than
loopback unless the index allows it; an unusable one is ``AccessDenied`` and names its source, one
that can never be right ``ConfigError``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping

import anyio
import anyio.to_thread

from mirror.config import AuthConfig, IndexConfig, by_hand, credential_names, is_loopback_host
from mirror.errors import AccessDenied, ConfigError
from mirror.upstream.credentials.credential import Credential, MalformedSecretError
from mirror.upstream.credentials.kinds import (
    Automatic,
    Command,
    Keyring,
    Netrc,
    Nothing,
    Reader,
    Token,
    UsernamePassword,
    automatic_pairs,
    host_of,
)
from mirror.upstream.credentials.parts import NoCredentialError, SecretSource
from mirror.upstream.credentials.program_env import program_environment

CHECK_EVERY_S = 1.0
"""How often a source's file is checked for a change: a request every 150 µs must not cost a
``stat`` each.
"""

RENEW_BEFORE_S = 30.0
"""A credential that expires so soon is read again first, and not more often than in this
interval.
"""


class CredentialSource:
    """The credential of one index, read lazily and kept. Used from one event loop."""

    def __init__(
        self,
        reader: Reader,
        index: IndexConfig,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._reader = reader
        self._index = index
        self._clock = clock
        self._now = now
        self._lock: anyio.Lock | None = None
        self._kept: Credential | None = None
        self._is_loaded = False
        self._stamp: object = None
        self._check_at = 0.0
        self._renew_at = math.inf

    def __repr__(self) -> str:
        return f"CredentialSource({self.describe()!r})"

    def describe(self) -> str:
        """Return the credential's origin (variable, file, command), never its value."""
        return self._reader.describe()

    @property
    def kept(self) -> Credential | None:
        """The credential that was read last; nothing is asked."""
        return self._kept

    async def load(self) -> Credential | None:
        """Return the credential, or None where the index is read without one.

        Raises ``AccessDenied`` (it can't be read) or ``ConfigError`` (it can never be used).
        """
        if self._is_loaded and self._clock() < self._check_at:
            return self._kept
        async with self._mutex():
            if not self._is_loaded or self._now() >= self._renew_at or await self._has_changed():
                await self._read()
            return self._kept

    async def refresh(self) -> Credential | None:
        """Read the source again, as after a 401, and return its current credential.

        Raises as ``load``.
        """
        async with self._mutex():
            await self._read()
            return self._kept

    def _mutex(self) -> anyio.Lock:
        # Made late, so that a source can be built before the event loop runs.
        if self._lock is None:
            self._lock = anyio.Lock()
        return self._lock

    async def _has_changed(self) -> bool:
        if self._clock() < self._check_at:
            return False
        self._check_at = self._clock() + CHECK_EVERY_S
        return (
            await anyio.to_thread.run_sync(self._reader.stamp, abandon_on_cancel=True)
            != self._stamp
        )

    async def _read(self) -> None:
        where = f"index {self._index.name!r}: auth"
        # Taken before the reading: a file that changes meanwhile is read once more rather than
        # missed.
        self._stamp = await anyio.to_thread.run_sync(self._reader.stamp, abandon_on_cancel=True)
        try:
            found = await self._reader.read()
        except NoCredentialError as exc:
            raise self._unusable(str(exc)) from None
        except MalformedSecretError as exc:
            raise ConfigError(where=where, problem=f"{exc} (from {self.describe()})") from None
        if found is not None:
            self._refuse_plain_http()
        self._kept = found
        self._is_loaded = True
        self._check_at = self._clock() + CHECK_EVERY_S
        self._renew_at = self._when_to_renew()

    def _when_to_renew(self) -> float:
        if self._kept is None or self._kept.expires_at is None:
            return math.inf
        # A source that keeps returning an expired credential is not read for every request.
        return max(self._kept.expires_at - RENEW_BEFORE_S, self._now() + RENEW_BEFORE_S)

    def _refuse_plain_http(self) -> None:
        index = self._index
        if (
            index.url.startswith("https:")
            or index.allow_insecure
            or is_loopback_host(host_of(index.url))
        ):
            return
        problem = (
            f"the credential from {self.describe()} would go over plain http; use https,"
            " or set allow-insecure = true for this index"
        )
        raise ConfigError(where=f"index {index.name!r}: url", problem=problem)

    def _unusable(self, detail: str) -> AccessDenied:
        return AccessDenied(
            url=self._index.url,
            index=self._index.name,
            status=None,
            source=self.describe(),
            ends_index=True,
            detail=detail,
        )


def credential_source(
    index: IndexConfig, env: Mapping[str, str], others: Iterable[IndexConfig] = ()
) -> CredentialSource:
    """Return the source that the index's ``[index.auth]`` describes; nothing is read yet.

    ``others``: the other indexes, whose secrets a credential command does not get either.
    """
    return CredentialSource(_reader(index, env, (index, *others)), index)


def _reader(index: IndexConfig, env: Mapping[str, str], indexes: Iterable[IndexConfig]) -> Reader:
    auth, host = index.auth, host_of(index.url)
    where = f"index {index.name!r}: auth"
    netrc = Netrc(host=host, where=where, env=env)
    match "auto" if auth is None else auth.kind:
        case "none":
            return Nothing()
        case "netrc":
            return netrc
        case "basic" if auth is not None:
            username, password = (
                _username(auth),
                _part(auth, "password") or SecretSource(literal=""),
            )
            if username is not None:
                return UsernamePassword(username=username, password=password, env=env)
        case "bearer" if auth is not None:
            token = _part(auth, "token")
            if token is not None:
                return Token(token=token, env=env)
        case "keyring" if auth is not None:
            return Keyring(url=index.url, host=host, username=_username(auth), where=where, env=env)
        case "command" if auth is not None and auth.command:
            without_secrets = program_environment(indexes, env, own=index)
            return Command(
                command=tuple(auth.command),
                username=_username(auth),
                env=env,
                program_env=without_secrets,
            )
        case "auto":
            return Automatic(
                pairs=automatic_pairs(index.name, host), fallback=netrc, where=where, env=env
            )
        case _:
            pass
    # ``config`` checks this first; repeated for code that builds an IndexConfig by hand.
    raise ConfigError(where=where, problem="this kind lacks its keys, or is not known")


def _username(auth: AuthConfig) -> SecretSource | None:
    if auth.username is not None:
        return SecretSource(literal=auth.username)
    return _part(auth, "username")


def _part(auth: AuthConfig, what: str) -> SecretSource | None:
    variable: str | None = getattr(auth, f"{what}_env")
    file: str | None = getattr(auth, f"{what}_file")
    systemd: str | None = getattr(auth, f"{what}_credential")
    if variable is None and file is None and systemd is None:
        return None
    advice = by_hand(credential_names(auth)) if systemd is not None else ""
    return SecretSource(
        variable=variable, file=None if file is None else str(file), systemd=systemd, by_hand=advice
    )
