"""The kinds of credentials, one reader each: it names the place of the credential, and reads it
there.

Invariants: reading raises ``NoCredentialError`` (it may be there later), ``MalformedSecretError``
or ``ConfigError`` (it never will), ``TreeError`` (too many open files), and nothing else; no
message quotes a secret, the contents of a netrc or the output of a command. A cancelled reading
ends immediately: a file may be a pipe or on a share that is gone.
"""

# ruff: noqa: D102 - the methods of a reader are documented once, at Reader
from __future__ import annotations

import netrc
import os
import pwd
from collections.abc import Mapping
from pathlib import Path
from subprocess import DEVNULL, PIPE, CompletedProcess
from typing import Protocol
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import msgspec
from anyio.abc import ByteReceiveStream

from mirror.errors import ConfigError, shown_text
from mirror.upstream.connections.descriptors import open_files_error
from mirror.upstream.credentials.credential import Credential, basic, bearer
from mirror.upstream.credentials.parts import NoCredentialError, SecretSource, file_stamp
from mirror.upstream.credentials.program_env import CHAINGUARD_PASSWORD, CHAINGUARD_USERNAME

COMMAND_TIMEOUT_S = 30.0
DRAIN_S = 1.0
"""How long to wait for remaining output after the command has exited."""

CHAINGUARD_HOST = "libraries.cgr.dev"

_NO_BACKEND = (ImportError, AttributeError, TypeError, ValueError)
"""Errors of the keyring library where the backend that ``$PYTHON_KEYRING_BACKEND`` names can't be
loaded.
"""


class Reader(Protocol):
    """Reads one kind of credential."""

    def describe(self) -> str:
        """Return the credential's origin, for messages."""

    def stamp(self) -> object:
        """Return a value that changes when it must be read again; blocking."""

    async def read(self) -> Credential | None:
        """Read it; None where this kind may be without one."""


class Nothing(msgspec.Struct, frozen=True):
    """``kind = "none"``."""

    def describe(self) -> str:
        return 'the configuration (auth kind "none")'

    def stamp(self) -> object:
        return None

    async def read(self) -> Credential | None:
        return None


class UsernamePassword(msgspec.Struct, frozen=True, kw_only=True):
    """``kind = "basic"``."""

    username: SecretSource
    password: SecretSource
    env: Mapping[str, str]

    def describe(self) -> str:
        return (self.username if self.password.literal is not None else self.password).describe()

    def stamp(self) -> object:
        return _stamps((self.username, self.password), self.env)

    async def read(self) -> Credential | None:
        username = await anyio.to_thread.run_sync(
            self.username.load, self.env, abandon_on_cancel=True
        )
        password = await anyio.to_thread.run_sync(
            self.password.load, self.env, abandon_on_cancel=True
        )
        return basic(username, password, source=self.describe())


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """``kind = "bearer"``."""

    token: SecretSource
    env: Mapping[str, str]

    def describe(self) -> str:
        return self.token.describe()

    def stamp(self) -> object:
        return _stamps((self.token,), self.env)

    async def read(self) -> Credential | None:
        token = await anyio.to_thread.run_sync(self.token.load, self.env, abandon_on_cancel=True)
        return bearer(token, source=self.describe())


class Netrc(msgspec.Struct, frozen=True, kw_only=True):
    """``kind = "netrc"``: the entry for the host, else its ``default`` entry."""

    host: str
    where: str
    env: Mapping[str, str]

    def describe(self) -> str:
        return f"netrc file {self.path()}"

    def path(self) -> Path:
        """Return ``$NETRC``, else ``.netrc`` in the home directory."""
        named = self.env.get("NETRC")
        return Path(named).expanduser() if named else _home(self.env) / ".netrc"

    def stamp(self) -> object:
        return file_stamp(self.path())

    async def read(self) -> Credential | None:
        found = await anyio.to_thread.run_sync(self.lookup, abandon_on_cancel=True)
        if found is None:
            raise NoCredentialError(f"{self.describe()} has no entry for {self.host}")
        return found

    def lookup(self) -> Credential | None:
        """Return the entry's credential, or None where there is no file or no entry; blocking."""
        path = self.path()
        try:
            entry = netrc.netrc(path).authenticators(self.host)
        except FileNotFoundError:
            if self.env.get("NETRC"):
                raise NoCredentialError(f"$NETRC names {path}, which does not exist") from None
            return None
        except netrc.NetrcParseError as exc:
            # The parser's own message quotes the word that it stumbled over, which may be a
            # password.
            raise ConfigError(
                where=self.where, problem=f"{path}, line {exc.lineno}: not a valid netrc"
            ) from None
        except UnicodeDecodeError:
            raise ConfigError(
                where=self.where, problem=f"{path}: not a valid netrc (not text)"
            ) from None
        except OSError as exc:
            if (full := open_files_error(exc)) is not None:
                raise full from None
            raise NoCredentialError(f"{path} can't be read: {exc.strerror}") from None
        login, _account, password = entry or ("", "", "")
        if not login and not password:
            return None
        return basic(login, password or "", source=self.describe())


class Keyring(msgspec.Struct, frozen=True, kw_only=True):
    """``kind = "keyring"``: asked for the index's URL, then for its host, as pip does."""

    url: str
    host: str
    username: SecretSource | None
    where: str
    env: Mapping[str, str]

    def describe(self) -> str:
        return f"the keyring entry for {self.host}"

    def stamp(self) -> object:
        return None

    async def read(self) -> Credential | None:
        return await anyio.to_thread.run_sync(self._ask, abandon_on_cancel=True)

    def _ask(self) -> Credential:
        try:
            # 123 ms
            import keyring
            import keyring.errors
        except ImportError:
            problem = (
                'kind = "keyring" needs the keyring library: pip install "offline-mirror[keyring]"'
            )
            raise ConfigError(where=self.where, problem=problem) from None
        username = None if self.username is None else self.username.load(self.env)
        try:
            for service in (self.url, self.host):
                found = keyring.get_credential(service, username)
                if found is not None and found.password:
                    return basic(
                        found.username or username or "", found.password, source=self.describe()
                    )
        except (keyring.errors.KeyringError, RuntimeError, OSError, *_NO_BACKEND) as exc:
            raise NoCredentialError(
                f"the keyring could not be asked ({type(exc).__name__})"
            ) from None
        raise NoCredentialError(f"the keyring has no entry for {self.url} or {self.host}")


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """``kind = "command"``: the first line of its output; with a user name Basic, without
    Bearer.
    """

    command: tuple[str, ...]
    username: SecretSource | None
    env: Mapping[str, str]
    timeout_s: float = COMMAND_TIMEOUT_S
    program_env: Mapping[str, str] | None = None
    """The program's environment instead of ``env``, without the mirror's secrets."""

    def describe(self) -> str:
        return f"the command {shown_text(self.command[0])}"

    def stamp(self) -> object:
        return None

    async def read(self) -> Credential | None:
        secret = await self._run()
        if self.username is None:
            return bearer(secret, source=self.describe())
        username = await anyio.to_thread.run_sync(
            self.username.load, self.env, abandon_on_cancel=True
        )
        return basic(username, secret, source=self.describe())

    async def _run(self) -> str:
        try:
            with anyio.fail_after(self.timeout_s):
                done = await _run_to_its_end(
                    self.command, self.env if self.program_env is None else self.program_env
                )
        except TimeoutError:
            raise NoCredentialError(
                f"{self.describe()} did not end within {self.timeout_s:g} s"
            ) from None
        except (OSError, ValueError) as exc:
            if (full := open_files_error(exc)) is not None:
                raise full from None
            cause = getattr(exc, "strerror", None) or type(exc).__name__
            raise NoCredentialError(f"{self.describe()} could not be started: {cause}") from None
        if done.returncode != 0:
            said = _last_line(done.stderr, secrets=done.stdout)
            raise NoCredentialError(
                f"{self.describe()} ended with exit status {done.returncode}{said}"
            )
        secret = done.stdout.partition(b"\n")[0].strip()
        if not secret:
            raise NoCredentialError(f"{self.describe()} printed nothing")
        try:
            return secret.decode()
        except UnicodeDecodeError:
            raise NoCredentialError(
                f"{self.describe()} printed something that is not UTF-8 text"
            ) from None


class Automatic(msgspec.Struct, frozen=True, kw_only=True):
    """``kind = "auto"``: the index's two variables, for Chainguard its own two, then netrc, then
    none.
    """

    pairs: tuple[tuple[str, str], ...]
    """Names of variables for user name and password, in the order in which they are tried."""
    fallback: Netrc
    where: str
    env: Mapping[str, str]

    def describe(self) -> str:
        pair = self._pair()
        if pair is not None:
            return f"${pair[1]}"
        names = ", ".join(f"${username} and ${password}" for username, password in self.pairs)
        return f"{names} (not set), {self.fallback.describe()}"

    def stamp(self) -> object:
        return (self._pair(), self.fallback.stamp())

    async def read(self) -> Credential | None:
        pair = self._pair()
        if pair is None:
            return await anyio.to_thread.run_sync(self.fallback.lookup, abandon_on_cancel=True)
        missing = [name for name in pair if not self.env.get(name)]
        if missing:
            other = pair[0] if missing[0] == pair[1] else pair[1]
            raise ConfigError(
                where=self.where, problem=f"${other} is set, but ${missing[0]} is not: set both"
            )
        return basic(self.env[pair[0]], self.env[pair[1]], source=self.describe())

    def _pair(self) -> tuple[str, str] | None:
        """Return the first pair of which at least one variable is set: half a pair is a mistake to
        report.
        """
        return next((pair for pair in self.pairs if any(self.env.get(name) for name in pair)), None)


def automatic_pairs(index_name: str, host: str) -> tuple[tuple[str, str], ...]:
    """Return the pairs of variables that ``auto`` reads for an index."""
    prefix = "MIRROR_" + index_name.upper().replace("-", "_")
    own = (f"{prefix}_USERNAME", f"{prefix}_PASSWORD")
    return (own, (CHAINGUARD_USERNAME, CHAINGUARD_PASSWORD)) if host == CHAINGUARD_HOST else (own,)


def host_of(url: str) -> str:
    """Return the host of a configured URL."""
    return urlsplit(url).hostname or ""


async def _run_to_its_end(
    command: tuple[str, ...], env: Mapping[str, str]
) -> CompletedProcess[bytes]:
    """Run a program.

    A background process that it leaves, such as an agent, may hold its output open: that is not
    awaited.
    """
    said = {"stdout": b"", "stderr": b""}

    async def listen(name: str, stream: ByteReceiveStream) -> None:
        async for chunk in stream:
            said[name] += chunk

    async with await anyio.open_process(
        command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=env
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen, "stdout", process.stdout)
            tasks.start_soon(listen, "stderr", process.stderr)
            code = await process.wait()
            tasks.cancel_scope.deadline = anyio.current_time() + DRAIN_S
    return CompletedProcess(command, code, **said)


def _stamps(parts: tuple[SecretSource, ...], env: Mapping[str, str]) -> object:
    try:
        return tuple(file_stamp(part.path(env)) for part in parts)
    except NoCredentialError as exc:
        return str(exc)


def _home(env: Mapping[str, str]) -> Path:
    named = env.get("HOME")
    if named:
        return Path(named)
    try:
        # A service may run without HOME.
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        return Path("/nonexistent")


def _last_line(stderr: bytes, *, secrets: bytes) -> str:
    """Return the last line of a command's error output, without any line that it printed as a
    secret.
    """
    lines = [
        line.strip() for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()
    ]
    if not lines:
        return ""
    last = lines[-1]
    for secret in secrets.decode("utf-8", "replace").splitlines():
        if len(secret.strip()) >= 4:
            last = last.replace(secret.strip(), "***")
    return f": {shown_text(last)}"
