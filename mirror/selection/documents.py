"""Files of users, read within bounds: bytes, TOML and JSON, each value with its place for errors.

A document may be hostile: an error names the file and the key, never a value, which may be an
address with a password.
"""

from __future__ import annotations

import json
import os
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from mirror.errors import ConfigError, shown_text

MAX_LOCK_BYTES = 32 << 20
MAX_PROJECT_BYTES = 4 << 20
"""Maximum size of a requirement file, a pyproject.toml or a script."""


def read_document(path: Path, *, where: str, limit_bytes: int) -> bytes:
    """Return the bytes of a regular file.

    Raises ``ConfigError`` for one that can't be read or is larger than the limit.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigError(where=where, problem="is no regular file")
            data = file.read(limit_bytes + 1)
    except (OSError, ValueError) as exc:
        reason = (exc.strerror if isinstance(exc, OSError) else None) or "no usable path"
        raise ConfigError(where=where, problem=f"can't be read: {reason}") from exc
    if len(data) > limit_bytes:
        raise ConfigError(where=where, problem=f"is larger than {limit_bytes >> 20} MiB")
    return data


def decode_text(data: bytes, *, where: str) -> str:
    """Return a text of UTF-8, or of UTF-16 with its mark. Raises ``ConfigError``."""
    marked = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        return data.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise ConfigError(where=f"{where}:{line}", problem="is not UTF-8") from None


def parse_toml(data: bytes, *, where: str) -> Table:
    """Return the table of a TOML document. Raises ``ConfigError``."""
    try:
        return Table(values=tomllib.loads(decode_text(data, where=where)), where=where)
    except RecursionError:
        raise ConfigError(where=where, problem="is not valid TOML: nested too deeply") from None
    except ValueError as exc:  # also a number of too many digits
        place = _place(exc)
        raise ConfigError(where=where, problem=f"is not valid TOML{place}") from None


def parse_json(data: bytes, *, where: str) -> Table:
    """Return the object of a JSON document. Raises ``ConfigError``."""
    try:
        values = json.loads(decode_text(data, where=where))
    except RecursionError:
        raise ConfigError(where=where, problem="is not valid JSON: nested too deeply") from None
    except json.JSONDecodeError as exc:
        problem = f"is not valid JSON (at line {exc.lineno})"
        raise ConfigError(where=where, problem=problem) from None
    except ValueError:
        raise ConfigError(where=where, problem="is not valid JSON") from None
    if not isinstance(values, dict):
        raise ConfigError(where=where, problem="is not valid JSON: expected an object")
    return Table(values=values, where=where)


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """One table of a document. ``key``: its own place in the document; empty for the whole."""

    values: Mapping[str, Any]
    where: str
    key: str = ""

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def error(self, problem: str, key: str = "") -> ConfigError:
        """Return the error for this table, or for one of its keys."""
        place = ".".join(part for part in (self.key, shown_text(key, limit=80)) if part)
        return ConfigError(where=f"{self.where}: {place}" if place else self.where, problem=problem)

    def text(self, key: str) -> str:
        """Return a text that must be there."""
        value = self.optional_text(key)
        if value is None:
            raise self.error("missing: expected a text", key)
        return value

    def optional_text(self, key: str) -> str | None:
        """Return a text, or None where the key is absent."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, str):
            raise self.error("expected a text", key)
        return value

    def optional_size(self, key: str) -> int | None:
        """Return a number of bytes, or None where the key is absent."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.error("expected a number of bytes", key)
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts; none where the key is absent."""
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error("expected a list of texts", key)
        return tuple(value)

    def table(self, key: str) -> Table:
        """Return a table; an empty one where the key is absent."""
        value = self.values.get(key, {})
        if not isinstance(value, dict):
            raise self.error("expected a table", key)
        return Table(values=value, where=self.where, key=self._joined(key))

    def tables(self, key: str) -> tuple[Table, ...]:
        """Return a list of tables; none where the key is absent."""
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.error("expected a list of tables", key)
        path = self._joined(key)
        return tuple(
            Table(values=item, where=self.where, key=f"{path}[{n}]") for n, item in enumerate(value)
        )

    def _joined(self, key: str) -> str:
        shown = shown_text(key, limit=80)
        return f"{self.key}.{shown}" if self.key else shown


def _place(exc: ValueError) -> str:
    """Return the line of a TOML error; its message repeats no value, but a key may be long."""
    text = str(exc)
    start = text.rfind("(at ")
    return f" {shown_text(text[start:], limit=60)}" if start >= 0 else ""
