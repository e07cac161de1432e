"""Values that the lock formats share: names, file names of addresses, digests, markers."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

from packaging.markers import Marker

from mirror.core.names import HEX_LENGTHS, check_filename, normalize_project
from mirror.errors import ConfigError, UnsafeName, shown_url
from mirror.selection.documents import Table
from mirror.selection.markers import InvalidMarker, parse_lock_marker

MAX_PACKAGES = 50_000
MAX_FILES_OF_PACKAGE = 10_000


def read_project(table: Table, key: str = "name") -> str:
    """Return a normalised project name. Raises ``ConfigError``."""
    return checked_project(table.text(key), table, key)


def checked_project(name: str, table: Table, key: str = "") -> str:
    """Return a name normalised. Raises ``ConfigError`` at the key."""
    try:
        return normalize_project(name)
    except UnsafeName:
        raise table.error("expected the name of a project", key) from None


def read_filename(table: Table, *keys: str) -> str:
    """Return the file name from the first key that is there: a name, a path or an address.

    Raises ``ConfigError`` for one that is no plain file name.
    """
    for key in keys:
        value = table.optional_text(key)
        if value is not None:
            name = filename_of(value) if key in {"url", "path"} else value
            try:
                return check_filename(name)
            except UnsafeName:
                raise table.error("expected the name of a file at its end", key) from None
    raise table.error(f"missing: expected one of {', '.join(keys)}")


def filename_of(address: str) -> str:
    """Return the last segment of an address or path, decoded, without query and fragment."""
    try:
        path = urlsplit(address).path
    except ValueError:
        path = address
    return unquote(path.rpartition("/")[2])


def read_digest(table: Table, key: str) -> tuple[str, ...]:
    """Return the digest ``sha256:…`` of a key, or none where it is absent.

    Raises ``ConfigError``.
    """
    value = table.optional_text(key)
    return () if value is None else (checked_digest(value, table, key),)


def checked_digest(value: str, table: Table, key: str = "") -> str:
    """Return ``algorithm:digits`` in lower case. Raises ``ConfigError``."""
    algorithm, _, digits = value.lower().partition(":")
    if HEX_LENGTHS.get(algorithm) != len(digits) or not _is_hexadecimal(digits):
        raise table.error("expected a digest such as sha256:…", key)
    return f"{algorithm}:{digits}"


def read_marker(text: str | None, table: Table, key: str) -> Marker | None:
    """Return a marker whose choices of extras count as made. Raises ``ConfigError``."""
    try:
        return None if text is None else parse_lock_marker(text)
    except InvalidMarker:
        raise table.error("expected a marker such as sys_platform == 'linux'", key) from None


def shown_index(address: str | None) -> str | None:
    """Return an index's address without user info and query, fit for a message."""
    return None if address is None else shown_url(address)


def check_count(tables: tuple[Table, ...], document: Table, key: str) -> None:
    """Raise ``ConfigError`` for a lock of more packages than anyone has."""
    if len(tables) > MAX_PACKAGES:
        raise document.error(f"more than {MAX_PACKAGES:,} packages", key)


def check_file_count(listed: Sequence[object], table: Table) -> None:
    """Raise ``ConfigError`` for a package of more files than any has."""
    if len(listed) > MAX_FILES_OF_PACKAGE:
        raise table.error(f"more than {MAX_FILES_OF_PACKAGE:,} files")


def unknown_version(document: Table, shown: object, known: str) -> ConfigError:
    """Return the error for a version of a format that is not known here."""
    text = shown if isinstance(shown, int) else "another version"
    return document.error(f"is a lock of format version {text}; known: {known}")


def _is_hexadecimal(text: str) -> bool:
    return all(character in "0123456789abcdef" for character in text)
