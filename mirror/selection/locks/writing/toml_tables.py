"""Changes of lists of files in a TOML document, by tomlkit: values change, the rest stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import tomlkit

from mirror.errors import ConfigError
from mirror.selection.locks.rewrite import KeptFile

FileOf = Callable[[Any], KeptFile | None]
Change = Callable[[Any, KeptFile], None]


def parse_document(text: str, *, where: str) -> tomlkit.TOMLDocument:
    """Return a document that was read before. Raises ``ConfigError`` for one nested too deeply."""
    try:
        return tomlkit.parse(text)
    except (RecursionError, ValueError) as exc:
        raise ConfigError(where=where, problem="can't be edited: not plain TOML") from exc


def change_files(owner: Any, key: str, file_of: FileOf, change: Change) -> None:
    """Change each file of a list that stays, and take the others out.

    ``file_of`` returns the decision for a file's table, None to take it out; it raises
    ``LookupError`` for a table that stays as it is.
    """
    listed = owner.get(key)
    if listed is None:
        return
    for place in reversed(range(len(listed))):
        try:
            kept = file_of(listed[place])
        except LookupError:
            continue
        if kept is None:
            del listed[place]
        else:
            change(listed[place], kept)


def set_value(table: Any, key: str, value: Any) -> None:
    """Replace a value only where it differs, so that its formatting stays."""
    if table.get(key) != value:
        table[key] = value


def lists_of(table: Any) -> Iterator[Any]:
    """Yield each list among a table's values."""
    for value in table.values():
        if isinstance(value, list):
            yield value
