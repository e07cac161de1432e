"""From a table of a TOML file to a Struct of ``settings``; each error names the key's full path and
the expected value.

A value in the file may be a secret in the wrong place: no value is repeated from a table or key
that could hold one.
"""

from __future__ import annotations

import difflib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from mirror.config.settings import AuthConfig
from mirror.config.units import Unit
from mirror.errors import ConfigError, shown_text

S = TypeVar("S", bound=msgspec.Struct)

SECRET_KEYS = ("password", "token", "secret", "api-key", "api_key")
"""Keys under which a user might try to write a secret."""

_NEVER_SHOWN = frozenset({"url", "proxy", "tree"})
"""Keys whose values may carry user info."""


def read_struct(cls: type[S], raw: object, *, where: str, base: Path) -> S:
    """Return the table ``raw`` as ``cls``. ``where`` is its path (empty for a file), ``base`` where
    paths start.

    Raises ``ConfigError`` for the first key that is unknown, missing, of a wrong type or with a bad
    value.
    """
    if not isinstance(raw, Mapping):
        raise ConfigError(where=where, problem=f"expected a table, got {_shown(raw)}")
    fields = msgspec.structs.fields(cls)
    _refuse_unknown(raw, known=[field.encode_name for field in fields], where=where)
    values: dict[str, Any] = {}
    for field in fields:
        path = _join(where, field.encode_name)
        if field.encode_name in raw:
            quiet = cls is AuthConfig or field.encode_name in _NEVER_SHOWN
            values[field.name] = _read_value(
                field.type, raw[field.encode_name], where=path, base=base, quiet=quiet
            )
        elif field.required:
            raise ConfigError(where=path, problem=f"missing: {_missing(field.type)}")
    return cls(**values)


def unit_of(annotation: Any) -> Unit | None:
    """Return the unit that an annotation names in its ``Meta``, also through ``| None``."""
    if typing.get_origin(annotation) is typing.Annotated:
        for meta in annotation.__metadata__:
            if isinstance(meta, msgspec.Meta) and meta.extra:
                return typing.cast("Unit", meta.extra["unit"])
        return None
    return next((unit for part in typing.get_args(annotation) if (unit := unit_of(part))), None)


def struct_of(annotation: Any) -> type[msgspec.Struct] | None:
    """Return the Struct that an annotation holds, alone, in a tuple or in a union with None; else
    None.
    """
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return annotation
    return next(
        (struct for part in typing.get_args(annotation) if (struct := struct_of(part))), None
    )


def is_list(annotation: Any) -> bool:
    """Return whether an annotation is a tuple, which TOML writes as a list."""
    return typing.get_origin(annotation) is tuple


def _read_value(annotation: Any, value: object, *, where: str, base: Path, quiet: bool) -> Any:
    if struct := struct_of(annotation):
        if not is_list(annotation):
            return read_struct(struct, value, where=where, base=base)
        return _read_tables(struct, value, where=where, base=base)
    unit = unit_of(annotation)
    try:
        return unit.read(value, base) if unit else msgspec.convert(value, annotation)
    except (ValueError, msgspec.ValidationError):
        expected = unit.expected if unit else _expected(inspect.type_info(annotation))
        # From None: the cause would repeat the value.
        got = _kind_of(value) if quiet else _shown(value)
        raise ConfigError(where=where, problem=f"expected {expected}, got {got}") from None


def _read_tables(cls: type[S], value: object, *, where: str, base: Path) -> tuple[S, ...]:
    if isinstance(value, Mapping):
        raise ConfigError(
            where=where,
            problem=f"expected one or more [[{where}]] tables, got [{where}]: double the brackets",
        )
    if not isinstance(value, list):
        raise ConfigError(
            where=where, problem=f"expected one or more [[{where}]] tables, got {_shown(value)}"
        )
    return tuple(
        read_struct(cls, table, where=f"{where}[{n}]", base=base) for n, table in enumerate(value)
    )


def _refuse_unknown(raw: Mapping[str, object], *, known: list[str], where: str) -> None:
    for key in raw:
        if key in known:
            continue
        path = _join(where, shown_text(key, limit=60))
        if key.lower() in SECRET_KEYS and "password-env" in known:
            noun = "token" if "token" in key.lower() else "password"
            problem = (
                f"secrets stay out of the configuration; use {noun}-env,"
                f" {noun}-file or {noun}-credential"
            )
            raise ConfigError(where=path, problem=problem)
        similar = difflib.get_close_matches(key.lower().replace("_", "-"), known, n=1)
        advice = (
            f'did you mean "{similar[0]}"?'
            if similar
            else f"known here: {', '.join(sorted(known))}"
        )
        raise ConfigError(where=path, problem=f"unknown key; {advice}")


def _expected(info: inspect.Type) -> str:
    """Return a description of the values that a type of the configuration accepts."""
    match info:
        case inspect.LiteralType(values=values):
            return "one of " + ", ".join(f'"{value}"' for value in values)
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType(ge=least, le=most):
            return f"a whole number from {least} to {most}"
        case inspect.VarTupleType():
            return 'a list of texts such as ["a", "b"]'
        case inspect.UnionType(types=types):
            return " or ".join(
                _expected(part) for part in types if not isinstance(part, inspect.NoneType)
            )
    return "a text in quotes"


def _missing(annotation: Any) -> str:
    if struct_of(annotation):
        return "a configuration needs this table"
    unit = unit_of(annotation)
    return f"expected {unit.expected if unit else _expected(inspect.type_info(annotation))}"


def _shown(value: object) -> str:
    """Return a value that can't be a secret as text; for a long or nested one, only its kind."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case str():
            return f'"{shown_text(value, limit=60)}"'
    return _kind_of(value)


def _kind_of(value: object) -> str:
    match value:
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a text" if value else "an empty text"
        case list():
            return "a list"
        case Mapping():
            return "a table"
    return "a date or time"


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
