"""The build requirements that a source distribution declares (PEP 518)."""

from __future__ import annotations

import tomllib

DEFAULT_BUILD = ("setuptools",)
"""The build requirements of a source distribution that names none."""


def read_build_requires(pyproject: bytes | None) -> tuple[str, ...]:
    """Return ``[build-system] requires`` of a pyproject.toml, else setuptools."""
    if pyproject is None:
        return DEFAULT_BUILD
    try:
        table = tomllib.loads(pyproject.decode()).get("build-system")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError):
        return DEFAULT_BUILD
    requires = table.get("requires") if isinstance(table, dict) else None
    if not isinstance(requires, list):
        return DEFAULT_BUILD
    return tuple(text for text in requires if isinstance(text, str))
