"""One part of a credential (a user name, a password, a token): from the configuration, a variable
or a file.

Invariant: a message names the variable or the file, never its content.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from mirror.upstream.connections.descriptors import open_files_error

MAX_SECRET_BYTES = 1024 * 1024
"""A larger file is no secret, but a mistaken path."""


class NoCredentialError(Exception):
    """There is no usable credential now; the message gives the reason. It may be there later."""


class SecretSource(msgspec.Struct, frozen=True, kw_only=True):
    """The source of one text; exactly one of the first four is set."""

    literal: str | None = None
    variable: str | None = None
    file: str | None = None
    systemd: str | None = None
    by_hand: str = ""
    """How to run a command where systemd has not handed the credential over."""

    def describe(self) -> str:
        """Return the words for a message; a literal is no secret, but is not shown either."""
        if self.variable is not None:
            return f"${self.variable}"
        if self.file is not None:
            return f"the file {self.file}"
        if self.systemd is not None:
            return f"the systemd credential {self.systemd}"
        return "the configuration"

    def path(self, env: Mapping[str, str]) -> Path | None:
        """Return the file that this part is read from, if it is one.

        Raises ``NoCredentialError``.
        """
        if self.file is not None:
            return Path(self.file).expanduser()
        if self.systemd is None:
            return None
        directory = env.get("CREDENTIALS_DIRECTORY")
        if not directory:
            raise NoCredentialError(
                f"{self.describe()}: $CREDENTIALS_DIRECTORY is not set; {self.by_hand}"
            )
        return Path(directory) / self.systemd

    def load(self, env: Mapping[str, str]) -> str:
        """Return the text, blocking. Raises ``NoCredentialError`` when it is not there or empty."""
        if self.literal is not None:
            return self.literal
        path = self.path(env)
        text = env.get(self.variable or "") if path is None else _load_file(path)
        if not text:
            problem = "is not set" if text is None else "is empty"
            raise NoCredentialError(f"{self.describe()} {problem}")
        return text


def file_stamp(path: Path | None) -> object:
    """Return a value that changes when the file at ``path`` is replaced or rewritten; blocking."""
    if path is None:
        return None
    try:
        found = path.stat()
    except OSError as exc:
        return exc.errno
    return (found.st_mtime_ns, found.st_ino, found.st_size)


def _load_file(path: Path) -> str:
    try:
        with path.open("rb") as source:
            content = source.read(MAX_SECRET_BYTES + 1)
    except OSError as exc:
        if (full := open_files_error(exc)) is not None:
            raise full from None
        raise NoCredentialError(f"the file {path} can't be read: {exc.strerror}") from None
    if len(content) > MAX_SECRET_BYTES:
        raise NoCredentialError(f"the file {path} is too large for a secret")
    try:
        return content.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise NoCredentialError(f"the file {path} is not UTF-8 text") from None
