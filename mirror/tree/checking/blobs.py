"""Check one blob: hash it again, and compare its sidecar with the wheel."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from enum import Enum
from io import FileIO

import msgspec

from mirror.core.names import Sha256
from mirror.tree.checking.single_files import open_checked, raise_if_ours, read_plain, read_up_to
from mirror.tree.disk.failures import tree_errors
from mirror.tree.disk.places import check_directory
from mirror.tree.file_form import form_problem
from mirror.tree.layout import METADATA_ENDING, Layout
from mirror.tree.wheel import WheelError, extract_metadata

_SMALL_BYTES = 8 << 20
"""Of a file that is read whole, then hashed."""
_CHUNK_BYTES = 1 << 20
_REPORT_BYTES = 16 << 20
"""Hashed between two reports of progress: some hundredths of a second."""


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
        raise_if_ours(exc, path)
        return BlobCheck(
            damage=DamageKind.MISSING, detail="the file is not there, nor is its directory"
        )
    try:
        descriptor = open_checked(path)
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
        data = read_up_to(file.fileno(), size)
        return data, hashlib.sha256(data).hexdigest()
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    unreported = 0
    while count := file.readinto(buffer):
        digest.update(buffer[:count])
        unreported += count
        if progress is not None and unreported >= _REPORT_BYTES:
            progress(unreported)
            unreported = 0
    return file, digest.hexdigest()


def _unreadable(exc: OSError) -> str:
    return f"it can't be read: {exc.strerror}"


def _sidecar_problem(
    content: bytes | FileIO, path: str, filename: str, metadata_sha256: str, limit_bytes: int
) -> str:
    """Return the fault of a sidecar that pages advertise; empty for a good one."""
    try:
        data = read_plain(path + METADATA_ENDING, limit_bytes)
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


def _extract(path: str, filename: str, limit_bytes: int) -> bytes | None:
    with os.fdopen(open_checked(path), "rb") as wheel:
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
        data = read_plain(layout.sidecar_path(sha256, filename), limit_bytes)
    except OSError:
        return None
    return Sha256(hashlib.sha256(data).hexdigest()) if len(data) <= limit_bytes else None
