"""The use cases of ``mirror lock``: a lock made elsewhere is checked, and rewritten for this
mirror.

They read the lock, the state where there is one, and the published pages where there is none.
Nothing is written here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread

from mirror.config import Config
from mirror.errors import ConfigError, shown_text
from mirror.selection.documents import MAX_LOCK_BYTES, decode_text, read_document
from mirror.selection.locks.check import CheckedFile, check_lock
from mirror.selection.locks.held import HeldFiles, load_held
from mirror.selection.locks.rewrite import LockRewrite, decide_rewrite
from mirror.selection.locks.writing.addresses import MirrorAddress
from mirror.selection.locks.writing.pipfile import write_pipfile_lock
from mirror.selection.locks.writing.poetry import (
    ADVICE as ADVICE_OF_POETRY,
)
from mirror.selection.locks.writing.poetry import (
    ADVICE_OF_PDM,
    write_pdm_lock,
    write_poetry_lock,
)
from mirror.selection.locks.writing.pylock import write_pylock
from mirror.selection.locks.writing.requirements import write_requirements
from mirror.selection.locks.writing.uv import ADVICE as ADVICE_OF_UV
from mirror.selection.locks.writing.uv import write_uv_lock
from mirror.selection.proof.checking import with_remembered_wants
from mirror.selection.reading import lock_format_of, parse_lock
from mirror.selection.requirements import read_pinned_file, shown_path
from mirror.selection.targets import Environment, environments, parse_environment_name
from mirror.selection.wants import LockedSet, LockFormat
from mirror.state.store import Store, open_store_for_reading
from mirror.tree.layout import Layout

_NO_LOCKS = (".toml", ".lock", ".py", ".json", ".yml", ".yaml")
"""Endings of files that are no requirement files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedLock:
    """The state of each file of a lock; ``notes``: lines that name no index's files."""

    files: tuple[CheckedFile, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RewrittenLock:
    """A lock for this mirror. ``text``: None where there are problems."""

    text: str | None
    notes: tuple[str, ...]
    problems: tuple[str, ...]


async def check_lock_file(
    config: Config, path: Path, *, targets: Sequence[str], all_platforms: bool
) -> CheckedLock:
    """Return the state of each file of a lock.

    Raises ``ConfigError`` for a file that is no lock, ``StateError`` or ``TreeError``.
    """
    _text, lock = await anyio.to_thread.run_sync(_read_lock, path)
    async with _opened(config) as store:
        chosen = await _environments(config, store, targets, all_platforms=all_platforms)
        held = await load_held(lock, Layout(config.mirror.root), store)
    files = await anyio.to_thread.run_sync(check_lock, lock, held, chosen)
    foreign = (f"{one.project}: not checked: {one.detail}" for one in lock.foreign)
    return CheckedLock(files=files, notes=(*lock.skipped, *foreign))


async def rewrite_lock_file(
    config: Config,
    path: Path,
    index: str,
    *,
    targets: Sequence[str],
    all_platforms: bool,
    accepts_rebuilt: bool,
) -> RewrittenLock:
    """Return a lock with this mirror's addresses and, where accepted, its digests.

    ``index``: the address as the user wrote it. Raises as ``check_lock_file``.
    """
    text, lock = await anyio.to_thread.run_sync(_read_lock, path)
    async with _opened(config) as store:
        chosen = await _environments(config, store, targets, all_platforms=all_platforms)
        held = await load_held(lock, Layout(config.mirror.root), store)
    return await anyio.to_thread.run_sync(
        _rewrite, text, lock, held, chosen, MirrorAddress(index=index), accepts_rebuilt
    )


def _rewrite(
    text: str,
    lock: LockedSet,
    held: HeldFiles,
    chosen: Sequence[Environment],
    address: MirrorAddress,
    accepts_rebuilt: bool,  # noqa: FBT001 - a thread's function takes no keywords
) -> RewrittenLock:
    own = _own_lines(lock)
    rewrite = decide_rewrite(own, held, chosen, accepts_rebuilt=accepts_rebuilt)
    new = _write(text, own, rewrite, held, address)
    notes = [*lock.skipped, *rewrite.notes]
    if own is not lock:
        included = len(lock.packages) - len(own.packages)
        notes.append(f"{included} requirements of included files: rewrite those files too")
    if lock.format in _ADVICE:
        notes.append(_ADVICE[lock.format].format(index=address.index))
    if rewrite.problems:
        return RewrittenLock(text=None, notes=tuple(notes), problems=tuple(rewrite.problems))
    if lock.format is not LockFormat.REQUIREMENTS:
        # Read the new lock again: one that no tool could read is never given out.
        parse_lock(new.encode(), lock.format, where=lock.file or "the lock")
    return RewrittenLock(text=new, notes=tuple(notes), problems=())


_ADVICE = {
    LockFormat.UV: ADVICE_OF_UV,
    LockFormat.POETRY: ADVICE_OF_POETRY,
    LockFormat.PDM: ADVICE_OF_PDM,
}


def _write(
    text: str, lock: LockedSet, rewrite: LockRewrite, held: HeldFiles, address: MirrorAddress
) -> str:
    where = lock.file or "the lock"
    match lock.format:
        case LockFormat.UV:
            return write_uv_lock(text, rewrite, address, where=where)
        case LockFormat.PYLOCK:
            return write_pylock(text, rewrite, address, held, where=where)
        case LockFormat.POETRY:
            return write_poetry_lock(text, rewrite, address, where=where)
        case LockFormat.PDM:
            return write_pdm_lock(text, rewrite, address, where=where)
        case LockFormat.PIPFILE:
            return write_pipfile_lock(text, lock, rewrite, address)
        case LockFormat.REQUIREMENTS:
            places = rewrite.digests.items()
            decided = {_line_of(lock, place): digests for place, digests in places}
            return write_requirements(text, decided)


def _read_lock(path: Path) -> tuple[str, LockedSet]:
    """Return a lock's text and its packages. Raises ``ConfigError``."""
    folder = Path.cwd()
    absolute = folder / path
    where = shown_path(absolute, folder)
    data = read_document(absolute, where=where, limit_bytes=MAX_LOCK_BYTES)
    text = decode_text(data, where=where)
    if (lock_format := lock_format_of(absolute)) is not None:
        return text, parse_lock(data, lock_format, where=where)
    if absolute.suffix in _NO_LOCKS:
        known = ", ".join(f.value for f in LockFormat if f is not LockFormat.REQUIREMENTS)
        problem = f"is no lock file that is known here: {known}, or pinned requirements"
        raise ConfigError(where=where, problem=problem)
    return text, read_pinned_file(absolute, folder=folder)


def _own_lines(lock: LockedSet) -> LockedSet:
    """Return a requirement file without the lines of files that it includes."""
    if lock.format is not LockFormat.REQUIREMENTS:
        return lock
    packages = tuple(
        package for package in lock.packages if _file_of(package.origin or "") == lock.file
    )
    if len(packages) == len(lock.packages):
        return lock
    return LockedSet(
        want=None, file=lock.file, format=lock.format, packages=packages, skipped=lock.skipped
    )


def _file_of(origin: str) -> str:
    return origin.rpartition(":")[0]


def _line_of(lock: LockedSet, place: int) -> int:
    return int((lock.packages[place].origin or ":0").rpartition(":")[2])


@asynccontextmanager
async def _opened(config: Config) -> AsyncIterator[Store | None]:
    """Yield the state for reading, or None where the tree has none."""
    if not await anyio.Path(config.mirror.state).exists():
        yield None
        return
    async with open_store_for_reading(config.mirror.state) as store:
        yield store


async def _environments(
    config: Config, store: Store | None, names: Sequence[str], *, all_platforms: bool
) -> tuple[Environment, ...]:
    """Return the environments that count; none: each file of the lock. Raises ``ConfigError``."""
    known = (await with_remembered_wants(config, store)).targets
    for name in names:
        if parse_environment_name(name)[0] not in {target.name for target in known}:
            listed = ", ".join(target.name for target in known) or "there is none"
            problem = f'no target is named "{shown_text(name, limit=60)}"; known: {listed}'
            raise ConfigError(where="--target", problem=problem)
    if all_platforms:
        return ()
    every = tuple(e for target in known for e in environments(target))
    if not names:
        return every
    return tuple(e for e in every if e.target in names or e.name in names)
