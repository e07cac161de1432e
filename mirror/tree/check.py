"""Checks the files in the tree, and moves misplaced or damaged ones aside.

Blocking functions, raising ``TreeError``.

Only the bytes are trusted: a blob is hashed again, a wheel's sidecar is compared with the wheel. No
symbolic link is followed. Files moved aside go to ``quarantine/`` and are never deleted here. A
file that vanishes during the check is not an error: a cycle may be running.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from io import FileIO
from pathlib import Path

import msgspec

from mirror.core.names import ProjectName, Sha256
from mirror.tree.atomic import (
    check_directory,
    make_durable_directory,
    open_plain,
    remove_if_there,
    sync_directory,
    sync_file,
    tree_error,
    tree_errors,
)
from mirror.tree.file_form import form_problem
from mirror.tree.layout import (
    METADATA_ENDING,
    PRIVATE_DIRECTORY,
    PUBLIC_DIRECTORY,
    PUBLIC_FILE,
    Layout,
)
from mirror.tree.pages import PAGE_NAMES
from mirror.tree.wheel import WheelError, extract_metadata

_HEX = frozenset("0123456789abcdef")
_NAME_BYTES = 200
_READ, _ENTER = 0o004, 0o001
_SMALL_BYTES = 8 << 20
"""Of a file that is read whole, then hashed."""
_CHUNK_BYTES = 1 << 20
_TOLD_BYTES = 16 << 20
"""Hashed between two reports of progress: some hundredths of a second."""
_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class DamageKind(Enum):
    """The kinds of damage to a file on disk."""

    MISSING = "missing"
    SIZE = "size"
    BYTES = "bytes"
    BAD_FILE = "bad-file"
    """Unchanged since it was fetched, but not of the form that its name requires: no listed digest
    revealed that.
    """
    SIDECAR = "sidecar"
    PAGE = "page"
    FOREIGN = "foreign"
    MODE = "mode"
    """Its mode keeps it from being read, by this user or by a web server of another user."""


class BlobCheck(msgspec.Struct, frozen=True, kw_only=True):
    """The result of checking one blob."""

    damage: DamageKind | None
    detail: str = ""
    bytes_read: int = 0


Progress = Callable[[int], None]
"""Takes a number of bytes that were hashed since the last call; raises to give up."""


def check_blob(
    layout: Layout,
    sha256: Sha256,
    filename: str,
    size: int,
    metadata_sha256: str | None,
    metadata_limit_bytes: int,
    *,
    is_vouched: bool = True,
    progress: Progress | None = None,
) -> BlobCheck:
    """Hash a blob again and compare its sidecar, in constant memory.

    ``is_vouched``: the index lists a digest of it; else the blob must have the form that its name
    requires. ``progress`` is called while a large file is hashed.
    """
    path = layout.blob_path(sha256, filename)
    try:
        for directory in layout.blob_directories(sha256):
            check_directory(directory)
    except PermissionError as exc:
        return BlobCheck(damage=DamageKind.MODE, detail=_unreadable(exc))
    except OSError as exc:
        _raise_if_ours(exc, path)
        return BlobCheck(
            damage=DamageKind.MISSING, detail="the file is not there, nor is its directory"
        )
    try:
        descriptor = _open_plain(path)
    except FileNotFoundError:
        return BlobCheck(damage=DamageKind.MISSING, detail="the file is not there")
    except PermissionError as exc:
        return BlobCheck(damage=DamageKind.MODE, detail=_unreadable(exc))
    except OSError as exc:
        return BlobCheck(damage=DamageKind.BYTES, detail=_unreadable(exc))
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        actual_size = os.fstat(descriptor).st_size
        if actual_size != size:
            return BlobCheck(
                damage=DamageKind.SIZE, detail=f"{size} bytes are recorded, {actual_size} are there"
            )
        try:
            content, actual = _hash(file, size, progress)
            form = "" if is_vouched or actual != sha256 else form_problem(content, filename)
        except OSError as exc:
            return BlobCheck(damage=DamageKind.BYTES, detail=_unreadable(exc), bytes_read=size)
        damage, problem = None, ""
        if actual != sha256:
            damage, problem = DamageKind.BYTES, f"the bytes have sha256 {actual}"
        elif form:
            damage, problem = DamageKind.BAD_FILE, f"the index lists no digest, and {form}"
        elif metadata_sha256:
            problem = _sidecar_problem(
                content, path, filename, metadata_sha256, metadata_limit_bytes
            )
            damage = DamageKind.SIDECAR if problem else None
    return BlobCheck(damage=damage, detail=problem, bytes_read=size)


def _hash(file: FileIO, size: int, progress: Progress | None) -> tuple[bytes | FileIO, str]:
    """Return the content of a file, and its sha256: a small one as bytes, so that the bytes that
    are parsed are the ones that were hashed; a large one as the file.
    """
    if size <= _SMALL_BYTES:
        data = _read_up_to(file.fileno(), size)
        return data, hashlib.sha256(data).hexdigest()
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    untold = 0
    while count := file.readinto(buffer):
        digest.update(buffer[:count])
        untold += count
        if progress is not None and untold >= _TOLD_BYTES:
            progress(untold)
            untold = 0
    return file, digest.hexdigest()


def _read_up_to(descriptor: int, size: int) -> bytes:
    """Return the bytes of a regular file up to ``size``, and one more where there is one."""
    data = os.read(descriptor, size + 1)
    while 0 < len(data) < size and (more := os.read(descriptor, size + 1 - len(data))):
        data += more
    return data


def _open_plain(path: str) -> int:
    """Open a file that is not a link or pipe. Raises ``OSError``, ``TreeError``."""
    try:
        return open_plain(path)
    except OSError as exc:
        _raise_if_ours(exc, path)
        raise


def _raise_if_ours(exc: OSError, path: str) -> None:
    """Raise ``TreeError`` for a fault of this process, not of the tree: nothing is damaged by
    it.
    """
    if exc.errno in _OURS:
        raise tree_error(exc, path) from exc


def _mode(path: str) -> int:
    try:
        return os.lstat(path).st_mode
    except OSError:
        return 0


def _unreadable(exc: OSError) -> str:
    return f"it can't be read: {exc.strerror}"


def _sidecar_problem(
    content: bytes | FileIO, path: str, filename: str, metadata_sha256: str, limit_bytes: int
) -> str:
    """Return the fault of a sidecar that pages advertise; empty for a good one."""
    try:
        data = _read_plain(path + METADATA_ENDING, limit_bytes)
    except OSError as exc:
        return f"its sidecar can't be read: {exc.strerror}"
    if hashlib.sha256(data).hexdigest() != metadata_sha256:
        return "its sidecar has other bytes than recorded"
    if filename.endswith(".whl"):
        try:
            if extract_metadata(content, filename, limit_bytes) != data:
                return "its sidecar disagrees with the wheel"
        except (WheelError, OSError) as exc:
            return f"its sidecar can't be compared with the wheel: {exc}"
    return ""


def _read_plain(path: str, limit_bytes: int) -> bytes:
    """Return the bytes of a regular file that is not a link, one byte more than the limit at
    most.
    """
    descriptor = _open_plain(path)
    try:
        return _read_up_to(descriptor, min(os.fstat(descriptor).st_size, limit_bytes))
    finally:
        os.close(descriptor)


def read_page_file(path: str) -> bytes:
    """Return the bytes of one of the mirror's pages, which is not a link or pipe.

    Raises ``OSError``, ``TreeError``.
    """
    with os.fdopen(_open_plain(path), "rb") as file:
        return file.read()


def _extract(path: str, filename: str, limit_bytes: int) -> bytes | None:
    with os.fdopen(_open_plain(path), "rb") as wheel:
        return extract_metadata(wheel, filename, limit_bytes)


def wheel_metadata(layout: Layout, sha256: Sha256, filename: str, limit_bytes: int) -> bytes | None:
    """Extract a held wheel's metadata again; None where it has none that can be served."""
    path = layout.blob_path(sha256, filename)
    with tree_errors(path):
        try:
            return _extract(path, filename, limit_bytes)
        except WheelError:
            return None


def sidecar_digest(
    layout: Layout, sha256: Sha256, filename: str, limit_bytes: int
) -> Sha256 | None:
    """Return the sha256 of a blob's sidecar, or None where there is none that is fit to be
    served.
    """
    try:
        data = _read_plain(layout.sidecar_path(sha256, filename), limit_bytes)
    except OSError:
        return None
    return Sha256(hashlib.sha256(data).hexdigest()) if len(data) <= limit_bytes else None


class Unknown(msgspec.Struct, frozen=True, kw_only=True):
    """Something below ``files`` that may belong to nothing."""

    path: str
    sha256: str
    """Of the blob whose directory contains it; empty where the tree has no files of its own."""
    name: str
    size: int
    is_directory: bool = False


class Leftover(msgspec.Struct, frozen=True, kw_only=True):
    """A file in a blob's directory without a row, or an empty directory, as a kill may leave it."""

    path: str
    size: int


def iter_outer(layout: Layout) -> Iterator[tuple[str, bool]]:
    """Yield the names directly below ``files``, and whether each is a directory that belongs
    there.
    """
    for item in _entries(str(layout.files)):
        yield item.name, _is_hex_directory(item)


def scan_blobs(layout: Layout, outer: str) -> list[Unknown]:
    """Return everything below ``files/<outer>``, and directories that should have blobs and are
    empty; a foreign directory is named once, without its contents.
    """
    found: list[Unknown] = []
    middles = _entries(f"{layout.files}/{outer}")
    if not middles and is_directory(f"{layout.files}/{outer}"):
        found.append(_empty(f"{layout.files}/{outer}"))
    for middle in middles:
        if not _is_hex_directory(middle):
            found.append(_foreign(middle))
            continue
        inners = _entries(middle.path)
        if not inners:
            found.append(_empty(middle.path))
        for inner in inners:
            is_ours = (
                len(inner.name) == 64
                and set(inner.name) <= _HEX
                and inner.is_dir(follow_symlinks=False)
            )
            if not is_ours or not inner.name.startswith(outer + middle.name):
                found.append(_foreign(inner))
                continue
            blobs = [_in_blob_directory(item, inner.name) for item in _entries(inner.path)]
            found += blobs or [_empty(inner.path)]
    return found


def _entries(directory: str) -> list[os.DirEntry[str]]:
    """Return the entries of a directory, by name; none where it vanished."""
    with tree_errors(directory):
        try:
            with os.scandir(directory) as found:
                return sorted(found, key=lambda item: item.name)
        except FileNotFoundError:
            return []
        except PermissionError:
            return []  # ``closed_modes`` names the directory


def _is_hex_directory(item: os.DirEntry[str]) -> bool:
    return len(item.name) == 2 and set(item.name) <= _HEX and item.is_dir(follow_symlinks=False)


def _empty(path: str) -> Unknown:
    return Unknown(path=path, sha256=os.path.basename(path), name="", size=0, is_directory=True)


def _foreign(item: os.DirEntry[str]) -> Unknown:
    return Unknown(path=item.path, sha256="", name=item.name, size=0)


def _in_blob_directory(item: os.DirEntry[str], sha256: str) -> Unknown:
    with tree_errors(item.path):
        try:
            found = item.stat(follow_symlinks=False)
        except FileNotFoundError:  # pragma: no cover - it vanished just now
            return Unknown(path=item.path, sha256=sha256, name=item.name, size=0)
    is_directory = stat.S_ISDIR(found.st_mode)
    return Unknown(
        path=item.path, sha256=sha256, name=item.name, size=found.st_size, is_directory=is_directory
    )


def sort_unknown(
    found: Iterable[Unknown], known: Mapping[tuple[str, str], str | None]
) -> tuple[list[str], list[Leftover]]:
    """Separate foreign files from possible leftovers of a killed run; leave out files that belong
    there.

    ``known``: (sha256, filename) -> sha256 of the sidecar, or None where there is none. Only a file
    that this program could have written is a leftover, and may be deleted.
    """
    foreign, leftovers = [], []
    for item in found:
        if (item.sha256, item.name) in known:
            continue
        if item.name.endswith(METADATA_ENDING) and known.get(
            (item.sha256, item.name.removesuffix(METADATA_ENDING))
        ):
            continue
        if not item.sha256 or (item.is_directory and item.name):
            foreign.append(item.path)
        else:
            leftovers.append(Leftover(path=item.path, size=item.size))
    return foreign, leftovers


def remove_leftover(layout: Layout, leftover: Leftover) -> None:
    """Delete a leftover and the directories that become empty."""
    with tree_errors(leftover.path):
        if is_directory(leftover.path):
            os.rmdir(leftover.path)
        else:
            remove_if_there(leftover.path)
        directory = os.path.dirname(leftover.path)
        while directory != str(layout.files) and not os.listdir(directory):
            os.rmdir(directory)
            directory = os.path.dirname(directory)


def iter_projects(layout: Layout) -> Iterator[str]:
    """Yield the names directly below ``simple``, except the root pages."""
    yield from (item.name for item in _entries(str(layout.simple)) if item.name not in PAGE_NAMES)


def foreign_in_project(layout: Layout, name: ProjectName) -> list[str]:
    """Return the paths of foreign files in a project's directory, next to its pages."""
    directory = layout.project_dir(name)
    if not is_directory(directory):
        return []
    return [item.path for item in _entries(directory) if item.name not in PAGE_NAMES]


def is_exactly(path: str, expected: bytes) -> bool:
    """Return whether a regular file that is not a link holds exactly these bytes; read at once."""
    try:
        descriptor = _open_plain(path)
    except OSError:
        return False
    try:
        return _read_up_to(descriptor, len(expected)) == expected
    except OSError:
        return False
    finally:
        os.close(descriptor)


def has_bytes(path: str, expected: Iterable[bytes]) -> bool:
    """Return whether a regular file that is not a link holds exactly these pieces; read piece by
    piece.
    """
    try:
        with os.fdopen(_open_plain(path), "rb") as file:
            return all(file.read(len(piece)) == piece for piece in expected) and not file.read(1)
    except OSError:
        return False


def size_of(path: str) -> int:
    """Return the size of a file; 0 where it does not exist."""
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


def is_directory(path: str) -> bool:
    """Return whether a directory is there, and no link to one."""
    return stat.S_ISDIR(_mode(path))


def exists(path: str) -> bool:
    """Return whether anything is there, a dangling link too."""
    return os.path.lexists(path)


def is_blocked(layout: Layout, name: ProjectName) -> bool:
    """Return whether anything but a directory, or but plain files in it, stands where a project's
    pages must be.
    """
    directory = layout.project_dir(name)
    if not is_directory(directory):
        return exists(directory)
    pages = (f"{directory}/{page}" for page in PAGE_NAMES)
    modes = map(_mode, pages)  # 0 where there is none
    return any(mode and not stat.S_ISREG(mode) for mode in modes)


def clear_page_place(layout: Layout, name: ProjectName | None) -> list[Path]:
    """Move aside anything but a plain file at the places where a project's pages, or the root's,
    must be written.
    """
    moved = []
    directory = layout.project_dir(name) if name is not None else str(layout.simple)
    if exists(directory) and not is_directory(directory):
        moved.append(move_aside(layout, directory))
    for page in PAGE_NAMES:
        path = f"{directory}/{page}"
        if exists(path) and not stat.S_ISREG(_mode(path)):
            moved.append(move_aside(layout, path))
    return moved


def iter_public(layout: Layout) -> Iterator[str]:
    """Yield all that a web server serves or passes through: the root, ``public``, everything below
    it.
    """
    yield str(layout.root)
    yield from _public_paths(str(layout.public))


def closed_modes(paths: Iterable[str]) -> list[tuple[str, str]]:
    """Return (path, fault) of the public files that a web server of another user can't read."""
    found = []
    for path in paths:
        mode = _mode(path)
        wanted = _READ if stat.S_ISREG(mode) else _READ | _ENTER if stat.S_ISDIR(mode) else 0
        if mode & wanted != wanted:
            found.append((path, f"mode {stat.S_IMODE(mode):04o}: a web server answers 403 for it"))
    return found


def _public_paths(directory: str) -> Iterator[str]:
    """Yield a directory and everything below it; links are not followed."""
    waiting = [directory]
    while waiting:
        place = waiting.pop()
        yield place
        for item in _entries(place):
            if item.is_dir(follow_symlinks=False):
                waiting.append(item.path)
            else:
                yield item.path


def open_modes(paths: Iterable[str]) -> None:
    """Give files and directories of the tree the modes that a web server needs; those above
    first.
    """
    for path in sorted(paths):
        mode = _mode(path)
        with tree_errors(path):
            if stat.S_ISDIR(mode):
                os.chmod(path, PUBLIC_DIRECTORY)
            elif stat.S_ISREG(mode):
                os.chmod(path, PUBLIC_FILE)


def sync_path(path: str) -> None:
    """Make a file and its name durable."""
    sync_file(path)
    sync_directory(os.path.dirname(path))


def move_aside(layout: Layout, path: str, *, keep: bool = False) -> Path:
    """Move a file or directory to ``quarantine/``, under a name that contains its old path; return
    the new path.

    ``keep`` leaves a plain file in its place as well, for one that is about to be replaced.
    """
    quarantine = layout.root / "quarantine"
    flat = os.fsencode(os.path.relpath(path, layout.root).replace(os.sep, "__"))[-_NAME_BYTES:]
    name = os.fsdecode(flat)
    with tree_errors(path):
        make_durable_directory(quarantine, PRIVATE_DIRECTORY)
        target = quarantine / name
        number = 0
        while os.path.lexists(target):
            number += 1
            target = quarantine / f"{name}.{number}"
        if keep and stat.S_ISREG(_mode(path)):
            os.link(path, target)
        else:
            os.rename(path, target)
        sync_directory(quarantine)
        sync_directory(os.path.dirname(path))
    return target
