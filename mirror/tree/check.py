"""Look at what lies in the tree, and move aside what must not stay there. Blocking functions, raising ``TreeError``.

Nothing is believed but the bytes: a blob is hashed again, a wheel's sidecar is compared with the wheel. What is moved aside
goes to ``quarantine/`` and is never deleted here.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from mirror.core.names import Sha256
from mirror.tree.atomic import make_directory, remove_if_there, sync_directory, tree_errors
from mirror.tree.layout import METADATA_ENDING, PRIVATE_DIRECTORY, Layout
from mirror.tree.wheel import WheelError, extract_metadata

_BLOCK_BYTES = 1 << 20


class Damage(Enum):
    """What can be wrong with something on disk."""

    MISSING = "missing"
    SIZE = "size"
    BYTES = "bytes"
    SIDECAR = "sidecar"
    PAGE = "page"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobCheck:
    """The result of looking at one blob."""

    damage: Damage | None
    detail: str = ""
    bytes_read: int = 0


def check_blob(
    layout: Layout, sha256: Sha256, filename: str, size: int, metadata_sha256: str | None, metadata_limit_bytes: int
) -> BlobCheck:
    """Hash a blob again and compare its sidecar, in constant memory."""
    path = layout.blob_path(sha256, filename)
    with tree_errors(path):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return BlobCheck(damage=Damage.MISSING, detail="the file is not there")
        except OSError as exc:
            return BlobCheck(damage=Damage.BYTES, detail=f"can't be read: {exc.strerror}")
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                return BlobCheck(damage=Damage.BYTES, detail="it is no plain file")
            if found.st_size != size:
                return BlobCheck(damage=Damage.SIZE, detail=f"{size} bytes are recorded, {found.st_size} are there")
            try:
                actual = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as exc:
                return BlobCheck(damage=Damage.BYTES, detail=f"can't be read: {exc.strerror}", bytes_read=size)
        if actual != sha256:
            return BlobCheck(damage=Damage.BYTES, detail=f"the bytes have sha256 {actual}", bytes_read=size)
        problem = _check_sidecar(path, filename, metadata_sha256, metadata_limit_bytes)
    return BlobCheck(damage=Damage.SIDECAR if problem else None, detail=problem, bytes_read=size)


def wheel_metadata(layout: Layout, sha256: Sha256, filename: str, limit_bytes: int) -> bytes | None:
    """Take a held wheel's metadata out of it again; None where it has none that can be served."""
    path = layout.blob_path(sha256, filename)
    with tree_errors(path), open(path, "rb") as file:
        try:
            return extract_metadata(file, filename, limit_bytes)
        except WheelError:
            return None


def sidecar_digest(layout: Layout, sha256: Sha256, filename: str, limit_bytes: int) -> Sha256 | None:
    """Return the sha256 of the sidecar beside a blob, or None where there is none that is fit to be served."""
    try:
        with open(layout.sidecar_path(sha256, filename), "rb") as file:
            data = file.read(limit_bytes + 1)
    except OSError:
        return None
    return Sha256(hashlib.sha256(data).hexdigest()) if len(data) <= limit_bytes else None


def _check_sidecar(path: str, filename: str, metadata_sha256: str | None, limit_bytes: int) -> str:
    """Say what is wrong with a sidecar; empty where nothing is."""
    sidecar = path + METADATA_ENDING
    if metadata_sha256 is None:
        return "a sidecar lies there that is not recorded" if os.path.lexists(sidecar) else ""
    try:
        with open(sidecar, "rb") as file:
            data = file.read(limit_bytes + 1)
    except OSError as exc:
        return f"its sidecar can't be read: {exc.strerror}"
    if hashlib.sha256(data).hexdigest() != metadata_sha256:
        return "its sidecar has other bytes than recorded"
    if filename.endswith(".whl"):
        with open(path, "rb") as wheel:
            try:
                if extract_metadata(wheel, filename, limit_bytes) != data:
                    return "its sidecar disagrees with the wheel"
            except WheelError as exc:
                return f"its sidecar can't be compared with the wheel: {exc}"
    return ""


def iter_blob_files(layout: Layout, outer: str) -> Iterator[tuple[str, str, str]]:
    """Yield (path, sha256, filename) of everything below ``files/<outer>``; sha256 is '' where nothing belongs there."""
    top = layout.files / outer
    with tree_errors(top):
        for directory, names, files in os.walk(top):
            for name in [n for n in names if os.path.islink(os.path.join(directory, n))]:
                names.remove(name)
                yield os.path.join(directory, name), "", name
            sha256 = os.path.basename(directory)
            expected = layout.blob_directories(Sha256(sha256))[2] if len(sha256) == 64 else ""
            for name in files:
                yield os.path.join(directory, name), sha256 if directory == expected else "", name


def iter_outer(layout: Layout) -> Iterator[tuple[str, bool]]:
    """Yield what lies directly below ``files``, and whether it is a directory that belongs there."""
    with tree_errors(layout.files), os.scandir(layout.files) as found:
        for item in sorted(found, key=lambda i: i.name):
            is_ours = len(item.name) == 2 and set(item.name) <= set("0123456789abcdef")
            yield item.name, is_ours and item.is_dir(follow_symlinks=False)


def iter_projects(layout: Layout) -> Iterator[str]:
    """Yield the names of what lies directly below ``simple``, except the root pages."""
    with tree_errors(layout.simple), os.scandir(layout.simple) as found:
        names = [item.name for item in found]
    yield from sorted(n for n in names if n not in {"index.html", "index.v1_html", "index.v1_json"})


def move_aside(layout: Layout, path: str) -> Path:
    """Move something to ``quarantine/``, under a name that keeps where it came from; return the new path."""
    quarantine = layout.root / "quarantine"
    name = os.path.relpath(path, layout.root).replace(os.sep, "__")[-200:]
    with tree_errors(path):
        make_directory(quarantine, PRIVATE_DIRECTORY)
        target = quarantine / name
        number = 0
        while os.path.lexists(target):
            number += 1
            target = quarantine / f"{name}.{number}"
        os.rename(path, target)
        sync_directory(quarantine)
        sync_directory(os.path.dirname(path))
    return target


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """A file in a blob's directory that no row knows."""

    path: str
    size: int


def list_leftovers(layout: Layout, outer: str, known: Mapping[tuple[str, str], str | None]) -> list[Leftover]:
    """Return what lies in the blob directories below ``files/<outer>`` and is neither a known blob nor its sidecar.

    ``known``: (sha256, filename) -> sha256 of the sidecar, or None where there is none. What lies elsewhere is foreign and
    not named here: only what we could have written ourselves may be deleted.
    """
    found = []
    for path, sha256, name in iter_blob_files(layout, outer):
        if not sha256 or (sha256, name) in known:
            continue
        if name.endswith(METADATA_ENDING) and known.get((sha256, name.removesuffix(METADATA_ENDING))):
            continue
        with tree_errors(path):
            found.append(Leftover(path=path, size=os.lstat(path).st_size))
    return found


def remove_leftover(layout: Layout, leftover: Leftover) -> None:
    """Delete a leftover and the directories that become empty."""
    with tree_errors(leftover.path):
        remove_if_there(leftover.path)
        directory = os.path.dirname(leftover.path)
        while directory != str(layout.files) and not os.listdir(directory):
            os.rmdir(directory)
            directory = os.path.dirname(directory)
