"""How rows of the database become values: by the names of their columns, in this one place.

A query names its columns as the fields of the struct (``AS`` where they differ); their order does
not matter. No other module reads a row by the position of its columns.
"""

from __future__ import annotations

import functools
import sqlite3
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, TypeVar

import msgspec

S = TypeVar("S", bound=msgspec.Struct)
_Row = Sequence[Any]


class Columns(msgspec.Struct, frozen=True):
    """The columns of a query whose values take more than their types to make; read by their names.

    Not keyword-only: such a struct costs less to make, in queries that return very many rows.
    """


class Count(Columns, frozen=True):
    """A number of files, blobs or other things, and their bytes."""

    number: int
    size: int


def structs_of(kind: type[S], columns: Sequence[str], rows: Iterable[_Row]) -> list[S]:
    """Return each row as a ``kind``.

    A bool or an enumeration is made of its number or word. A tuple, a mapping or a struct is kept
    as JSON in its column. A struct without a column of its name is a part: it is made of the
    columns that are called like its fields.
    """
    return list(map(_maker(kind, tuple(columns)), rows))


def iter_structs(kind: type[S], cursor: sqlite3.Cursor) -> Iterator[S]:
    """Return the rows of a cursor as structs, made while it is read."""
    return map(_maker(kind, tuple(column[0] for column in cursor.description)), cursor)


def values_of(rows: Iterable[_Row]) -> list[Any]:
    """Return the only column of each row."""
    return [value for (value,) in rows]


def mapping_of(rows: Iterable[_Row]) -> dict[Any, Any]:
    """Return rows of two columns as a mapping, from the first column to the second."""
    return {key: value for key, value in rows}  # noqa: C416


@functools.cache
def _maker(kind: type[S], columns: tuple[str, ...]) -> Callable[[_Row], S]:
    """Return what makes a row with these columns a ``kind``. Raises ``TypeError``."""
    names: dict[str, Any] = {}
    used: set[str] = set()
    try:
        call = _call(kind, columns, names, used, is_part=False)
    except KeyError:
        used.clear()
    if used != set(columns):
        raise TypeError(f"the columns {columns} are not the fields of {kind.__name__}")
    # Written as one expression, as a module would: a loop over the fields of each row costs twice
    # the time, and cycles load rows by the million.
    make: Callable[[_Row], S] = eval(f"lambda row: {call}", names)  # noqa: S307
    return make


def _call(
    kind: Any, columns: tuple[str, ...], names: dict[str, Any], used: set[str], *, is_part: bool
) -> str:
    """Return the expression that makes a ``kind`` of ``row``; its names are added to ``names``.

    Raises ``KeyError`` for a field without a column. Only fields with a default that are not those
    of a part may have none.
    """
    arguments = []
    # Without its keyword an argument takes less time.
    has_keywords = not issubclass(kind, Columns)
    for field in msgspec.structs.fields(kind):
        if field.name in columns:
            used.add(field.name)
            value = _value(f"row[{columns.index(field.name)}]", field.type, names)
        elif isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            value = _call(field.type, columns, names, used, is_part=True)
        elif field.required or is_part:
            raise KeyError(field.name)
        else:
            has_keywords = True
            continue
        arguments.append(f"{field.name}={value}" if has_keywords else value)
    return f"{_named(kind, names)}({', '.join(arguments)})"


def _value(column: str, annotation: Any, names: dict[str, Any]) -> str:
    convert = _conversion(annotation)
    if convert is None:
        return column
    return f"None if {column} is None else {_named(convert, names)}({column})"


def _named(value: object, names: dict[str, Any]) -> str:
    name = f"name_{len(names)}"
    names[name] = value
    return name


def _conversion(annotation: Any) -> Callable[[Any], Any] | None:
    """Return what makes a field of this type of the value in its column; None where the two are the
    same.
    """
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        [annotation] = [one for one in typing.get_args(annotation) if one is not type(None)]
    origin = typing.get_origin(annotation) or annotation
    if not isinstance(origin, type):
        return None  # a NewType of str
    if origin is bool or issubclass(origin, Enum):
        return origin
    if issubclass(origin, (tuple, Mapping, msgspec.Struct)):
        return msgspec.json.Decoder(annotation).decode
    return None
