"""The resolver's program: where it is, and its version without starting it.

The state remembers the version by the path, inode, size and time of the file, so that an idle cycle
starts no program.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from mirror.errors import ConfigError, shown_text
from mirror.state.notes import load_note, record_note
from mirror.state.store import Store

NO_UV = (
    "the resolver uv is not there: install the extra `resolve` (`pip install"
    " 'offline-mirror[resolve]'`), or name the program in MIRROR_UV"
)
_VERSION_S = 60.0
_NOTE = "resolver"


class Uv(msgspec.Struct, frozen=True, kw_only=True):
    """The resolver's program."""

    path: str
    version: str
    identity: tuple[int, ...] = ()
    """Device, inode, size and times of the file."""


def find_uv(env: Mapping[str, str]) -> str | None:
    """Return the path of uv: as ``MIRROR_UV`` names it, next to the mirror's interpreter, or on
    ``PATH``.

    Raises ``ConfigError`` where the named one is not there.
    """
    if named := env.get("MIRROR_UV"):
        if not os.access(named, os.X_OK) or not Path(named).is_file():
            problem = f"{shown_text(named)} is not a program that can be run"
            raise ConfigError(where="MIRROR_UV", problem=problem)
        return named
    neighbour = Path(sys.executable).parent / "uv"
    if neighbour.is_file() and os.access(neighbour, os.X_OK):
        return str(neighbour)
    return shutil.which("uv", path=env.get("PATH", os.defpath))


async def open_uv(
    env: Mapping[str, str], store: Store | None, *, records: bool = False
) -> Uv | None:
    """Return the resolver with its version, or None where there is none.

    ``store``: remembers the version; None without a state. ``records``: whether it may be written.
    Raises ``ConfigError``.
    """
    path = await anyio.to_thread.run_sync(find_uv, env)
    if path is None:
        return None
    identity = await anyio.to_thread.run_sync(_identity_of, path)
    known = await load_note(store, _NOTE, Uv) if store is not None else None
    if known is not None and known.path == path and known.identity == identity != ():
        return known
    uv = Uv(path=path, version=await _ask_version(path), identity=identity)
    if store is not None and records:
        await record_note(store, _NOTE, uv)
    return uv


async def _ask_version(path: str) -> str:
    with anyio.move_on_after(_VERSION_S):
        try:
            answer = await anyio.run_process(
                [path, "--version"], env={"PATH": os.defpath}, check=False
            )
        except OSError as exc:
            problem = f"{shown_text(path)} does not run: {exc.strerror}"
            raise ConfigError(where="uv", problem=problem) from exc
        if answer.returncode == 0:
            return answer.stdout.decode(errors="replace").strip()
    raise ConfigError(where="uv", problem=f"{shown_text(path)} does not run: `uv --version` failed")


def _identity_of(path: str) -> tuple[int, ...]:
    """Return the facts that distinguish a program from another one at its path; links are
    followed.
    """
    try:
        found = Path(path).stat()
    except OSError:
        return ()
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
