"""The core metadata in a wheel or a source distribution, from untrusted bytes."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import BinaryIO

from mirror.core.names import Sha256
from mirror.errors import TreeError
from mirror.tree.disk.writing import Buffer
from mirror.tree.objects.opening import TreeOpener
from mirror.tree.wheel import WheelError, extract_member, extract_metadata

_MAX_MEMBERS = 200_000
_MAX_BYTES = 4 << 30
"""Maximum number of unpacked bytes that are read to find a member."""
_PKG_INFO = "PKG-INFO"


class MetadataUnreadable(Exception):
    """A file has no metadata that can be read; the text says why."""


class MemberMissing(MetadataUnreadable):
    """A source distribution can be read, and has no such file."""


def read_held_metadata(held: TreeOpener, sha256: Sha256, filename: str, limit_bytes: int) -> bytes:
    """Return the metadata of a held file: out of its sidecar, else out of its own bytes.

    Blocks. Raises ``MetadataUnreadable``.
    """
    try:
        if filename.endswith(".whl"):
            try:
                with held.open_sidecar(sha256, filename) as file:
                    data = file.read(limit_bytes + 1)
                if len(data) <= limit_bytes:
                    return data
            except FileNotFoundError:
                pass
        with held.open_blob(sha256, filename) as file:
            return read_file_metadata(file, filename, limit_bytes)
    except (OSError, TreeError) as exc:
        raise MetadataUnreadable(f"{filename} can't be read: {exc}") from exc


def read_held_pyproject(
    held: TreeOpener, sha256: Sha256, filename: str, limit_bytes: int
) -> bytes | None:
    """Return pyproject.toml of a held source distribution, or None where it has none.

    Blocks. Raises ``MetadataUnreadable``.
    """
    try:
        with held.open_blob(sha256, filename) as file:
            return read_pyproject(file, filename, limit_bytes)
    except (OSError, TreeError) as exc:
        raise MetadataUnreadable(f"{filename} can't be read: {exc}") from exc


def read_pyproject(source: Buffer | BinaryIO, filename: str, limit_bytes: int) -> bytes | None:
    """Return pyproject.toml of a source distribution, or None where it has none."""
    try:
        return read_sdist_member(source, filename, "pyproject.toml", limit_bytes)
    except MemberMissing:
        return None


def read_file_metadata(source: Buffer | BinaryIO, filename: str, limit_bytes: int) -> bytes:
    """Return METADATA of a wheel, or PKG-INFO of a source distribution.

    Raises ``MetadataUnreadable``.
    """
    if filename.endswith(".whl"):
        try:
            return extract_metadata(source, filename, limit_bytes)
        except WheelError as exc:
            raise MetadataUnreadable(str(exc)) from exc
    data = read_sdist_member(source, filename, _PKG_INFO, limit_bytes)
    if b"\nRequires-Dist:" in data:
        return data
    # from before metadata 2.2: setuptools wrote the dependencies into a file of their own
    try:
        text = read_sdist_member(source, filename, "requires.txt", limit_bytes, depth=3)
    except MemberMissing:
        return data
    head, _, body = data.partition(b"\n\n")
    lines = [head.rstrip(b"\n"), *_requires_dist(text.decode("utf-8", "replace"))]
    return b"\n".join(lines) + b"\n\n" + body


def _requires_dist(text: str) -> Iterator[bytes]:
    """Yield the lines of core metadata for a requires.txt: sections are ``[extra:marker]``."""
    extra, marker = "", ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            extra, _, marker = line[1:-1].partition(":")
            if extra:
                yield f"Provides-Extra: {extra}".encode()
        elif line:
            of_extra = f'extra == "{extra}"' if extra else ""
            of_marker = f"({marker})" if marker and extra else marker
            parts = [part for part in (of_marker, of_extra) if part]
            yield f"Requires-Dist: {line}{' ; ' if parts else ''}{' and '.join(parts)}".encode()


def read_sdist_member(
    source: Buffer | BinaryIO, filename: str, member: str, limit_bytes: int, *, depth: int = 2
) -> bytes:
    """Return a file in the folder of a source distribution. Raises ``MetadataUnreadable``.

    ``depth``: the number of parts of its path.
    """
    opened = _opened(source)
    opened.seek(0)
    read = _read_zip_member if filename.lower().endswith(".zip") else _read_tar_member
    return read(opened, member, limit_bytes, depth)


def _read_tar_member(opened: BinaryIO, member: str, limit_bytes: int, depth: int) -> bytes:
    import tarfile  # 3 ms, only for a source distribution

    try:
        with tarfile.open(fileobj=opened, mode="r:*") as archive:
            for number, found in enumerate(archive):
                if number > _MAX_MEMBERS or found.offset > _MAX_BYTES:
                    break
                if _is_member(found.name, member, depth) and found.isfile():
                    _check_size(member, found.size, limit_bytes)
                    extracted = archive.extractfile(found)
                    assert extracted is not None
                    return bytes(extracted.read())
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError, MemoryError) as exc:
        raise MetadataUnreadable(f"it can't be unpacked: {type(exc).__name__}") from exc
    raise MemberMissing(f"it has no {member}")


def _read_zip_member(opened: BinaryIO, member: str, limit_bytes: int, depth: int) -> bytes:
    try:
        data = extract_member(opened, member, limit_bytes, depth=depth)
    except (WheelError, OSError, struct.error, ValueError, MemoryError) as exc:
        words = str(exc) if isinstance(exc, WheelError) else type(exc).__name__
        raise MetadataUnreadable(f"it can't be unpacked: {words}") from exc
    if data is None:
        raise MemberMissing(f"it has no {member}")
    return data


def _is_member(name: str, member: str, depth: int) -> bool:
    path = PurePosixPath(name)
    return path.name == member and len(path.parts) == depth


def _check_size(member: str, size: int, limit_bytes: int) -> None:
    if size > limit_bytes:
        problem = f"its {member} has {size} bytes, more than metadata-size allows"
        raise MetadataUnreadable(problem)


def _opened(source: Buffer | BinaryIO) -> BinaryIO:
    if isinstance(source, bytes | bytearray | memoryview):
        return io.BytesIO(source)
    return source
