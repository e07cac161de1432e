"""The sources of a want, read: requirement texts, and files of every kind that a want may name.

Blocking: it reads files. Each source fails alone, in one line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from mirror.config import WantConfig
from mirror.errors import ConfigError, shown_text
from mirror.selection.documents import MAX_LOCK_BYTES, read_document
from mirror.selection.projects import read_pyproject, read_script
from mirror.selection.requirements import parse_requirement, read_requirement_file, shown_path
from mirror.selection.wants import (
    LockedSet,
    LockFormat,
    Resolution,
    UnresolvedFile,
    WantSource,
)

MAX_FILES_OF_PATTERN = 10_000

_LOCKS = (
    LockFormat.UV,
    LockFormat.PYLOCK,
    LockFormat.POETRY,
    LockFormat.PDM,
    LockFormat.PIPFILE,
)
"""The formats that have a file name of their own."""
_PYLOCK_NAME = re.compile(r"pylock\.([^.]+\.)?toml")
"""As PEP 751 has it."""


def read_want(want: WantConfig, folder: Path) -> tuple[WantSource, ...]:
    """Return the sources of a want: its list of requirements, then each file that it names,
    once.
    """
    found: list[WantSource] = []
    if want.requirements:
        found.append(_read_list(want))
    seen: set[Path] = set()
    for pattern in want.files:
        paths = list(_matches(pattern, folder))
        if not paths:
            problem = f"{shown_text(pattern)}: no file matches this pattern"
            found.append(UnresolvedFile(want=want.name, file=shown_text(pattern), problem=problem))
        for path in paths:
            if path not in seen:
                seen.add(path)
                found.append(read_file(path, want=want, folder=folder))
    return tuple(found)


def read_file(path: Path, *, want: WantConfig | None, folder: Path) -> WantSource:
    """Return one file read, by its name and form; an ``UnresolvedFile`` where that is
    impossible.
    """
    name = None if want is None else want.name
    try:
        source = load_source(path, want=want, folder=folder)
    except ConfigError as exc:
        file = shown_path(path, folder)
        return UnresolvedFile(want=name, file=file, problem=str(exc))
    if (
        want is not None
        and isinstance(source, LockedSet)
        and not (source.packages or source.foreign)
    ):
        problem = f"{source.file}: names no package"
        return UnresolvedFile(want=name, file=source.file, problem=problem)
    return source


def load_source(path: Path, *, want: WantConfig | None, folder: Path) -> Resolution | LockedSet:
    """Return one file read, by its name and form. Raises ``ConfigError``."""
    name = None if want is None else want.name
    if (lock_format := lock_format_of(path)) is not None:
        where = shown_path(path, folder)
        data = read_document(path, where=where, limit_bytes=MAX_LOCK_BYTES)
        return parse_lock(data, lock_format, where=where, want=name)
    if path.name == "pyproject.toml":
        extras, groups = (want.extras, want.groups) if want is not None else ((), ())
        return read_pyproject(path, want=name, folder=folder, extras=extras, groups=groups)
    if path.suffix == ".py":
        return read_script(path, want=name, folder=folder)
    if path.suffix in {".lock", ".toml"}:
        known = ", ".join(f.value for f in _LOCKS)
        problem = f"is no file that is known here: a lock is named {known} or *.py.lock"
        raise ConfigError(where=shown_path(path, folder), problem=problem)
    return read_requirement_file(path, want=name, folder=folder)


def parse_lock(
    data: bytes, lock_format: LockFormat, *, where: str, want: str | None = None
) -> LockedSet:
    """Return the packages of a lock from its bytes. Raises ``ConfigError``."""
    # packaging.pylock and the readers take 0.04 s of CPU to import
    from mirror.selection.locks.reading import read_lock

    return read_lock(data, lock_format, where=where, want=want)


def lock_format_of(path: Path) -> LockFormat | None:
    """Return the format that a file's name stands for; None for another kind of file."""
    if path.name.endswith(".py.lock"):
        return LockFormat.UV
    if _PYLOCK_NAME.fullmatch(path.name):
        return LockFormat.PYLOCK
    if path.name.startswith("pdm.") and path.name.endswith(".lock"):
        return LockFormat.PDM
    return next((f for f in _LOCKS if path.name == f.value), None)


def _read_list(want: WantConfig) -> Resolution:
    lines = (
        parse_requirement(text, origin=f"requirements[{n}]")
        for n, text in enumerate(want.requirements)
    )
    known = tuple(line for line in lines if line is not None)
    return Resolution(want=want.name, file=None, lines=known)


def _matches(pattern: str, folder: Path) -> Iterator[Path]:
    """Yield the files of a pattern in the order of their names."""
    at_home = Path(pattern).expanduser()
    if (folder / at_home).is_file():
        yield folder / at_home
        return
    import glob  # 1 ms, only for a want that names files by a pattern

    # Not Path.glob: a pattern may be absolute.
    names = glob.iglob(str(at_home), root_dir=folder, recursive=True)  # noqa: PTH207
    found = sorted(folder / name for name in islice(names, MAX_FILES_OF_PATTERN))
    yield from (path for path in found if not path.is_dir())
