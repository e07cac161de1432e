"""How a row of the database becomes a value: by the names of its columns, in this one place.

A query names its columns as the fields of the struct (``AS`` where they differ); their order does not matter.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from operator import itemgetter
from typing import Any, TypeVar

import msgspec

S = TypeVar("S", bound=msgspec.Struct)


class Columns(msgspec.Struct, frozen=True):
    """The columns of a query whose values take more than their types to make; read by their names.

    Not keyword-only: a struct of this kind costs less to make, in queries that return very many rows.
    """


def structs_of(kind: type[S], columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[S]:
    """Return each row as a ``kind``.

    A bool or an enumeration is made of its number or word. A tuple, a mapping or a struct is kept as JSON in its column.
    """
    make, conversions = _plan(kind, tuple(columns))
    if not conversions:
        return [make(row) for row in rows]
    return [make(_converted(row, conversions)) for row in rows]


def _converted(
    row: Sequence[Any], conversions: tuple[tuple[int, Callable[[Any], Any]], ...]
) -> list[Any]:
    values = list(row)
    for place, convert in conversions:
        if values[place] is not None:
            values[place] = convert(values[place])
    return values


@functools.cache
def _plan(
    kind: type[S], columns: tuple[str, ...]
) -> tuple[Callable[[Sequence[Any]], S], tuple[tuple[int, Callable[[Any], Any]], ...]]:
    """Return how a row is made a ``kind``, and which of its places are converted first."""
    fields = msgspec.structs.fields(kind)
    required = {field.name for field in fields if field.required}
    known = {field.name: field.type for field in fields}
    if required - set(columns) or set(columns) - set(known):
        raise TypeError(f"the columns {columns} are not the fields of {kind.__name__}")
    conversions = ((place, _conversion(known[name])) for place, name in enumerate(columns))
    wanted = tuple((place, convert) for place, convert in conversions if convert is not None)
    if not issubclass(kind, Columns):
        return lambda row: kind(**dict(zip(columns, row, strict=True))), wanted
    if columns == kind.__struct_fields__:
        return lambda row: kind(*row), wanted
    in_order = itemgetter(*(columns.index(name) for name in kind.__struct_fields__))
    return lambda row: kind(*in_order(row)), wanted


def _conversion(annotation: Any) -> Callable[[Any], Any] | None:
    """Return what makes a field of this type of the value in its column; None where the two are the same."""
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
