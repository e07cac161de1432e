"""Locks of every format, read from their bytes.

A module of its own, so that only a want that names a lock imports the readers.
"""

from __future__ import annotations

from mirror.selection.documents import parse_json, parse_toml
from mirror.selection.locks.pdm import read_pdm_lock
from mirror.selection.locks.pipfile import read_pipfile_lock
from mirror.selection.locks.poetry import read_poetry_lock
from mirror.selection.locks.pylock import read_pylock
from mirror.selection.locks.uv import read_uv_lock
from mirror.selection.wants import LockedSet, LockFormat

_READERS = {
    LockFormat.UV: read_uv_lock,
    LockFormat.PYLOCK: read_pylock,
    LockFormat.POETRY: read_poetry_lock,
    LockFormat.PDM: read_pdm_lock,
    LockFormat.PIPFILE: read_pipfile_lock,
}


def read_lock(
    data: bytes, lock_format: LockFormat, *, where: str, want: str | None = None
) -> LockedSet:
    """Return the packages of a lock. Raises ``ConfigError``."""
    parse = parse_json if lock_format is LockFormat.PIPFILE else parse_toml
    return _READERS[lock_format](parse(data, where=where), want=want)
