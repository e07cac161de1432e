"""The core metadata in a wheel or a source distribution, from untrusted bytes."""

from __future__ import annotations

import io
import os
import tarfile
import zlib
from pathlib import PurePosixPath
from typing import BinaryIO

from mirror.core.names import Sha256
from mirror.errors import TreeError
from mirror.tree.atomic import Buffer, open_plain
from mirror.tree.layout import Layout
from mirror.tree.wheel import WheelError, extract_metadata

_MAX_MEMBERS = 200_000
_PKG_INFO = "PKG-INFO"


class MetadataUnreadable(Exception):
    """A file has no metadata that can be read; the text says why."""


def read_held_metadata(layout: Layout, sha256: Sha256, filename: str, limit_bytes: int) -> bytes:
    """Return the metadata of a held file: out of its sidecar, else out of its own bytes.

    Blocks. Raises ``MetadataUnreadable``.
    """
    try:
        if filename.endswith(".whl"):
            try:
                with os.fdopen(open_plain(layout.sidecar_path(sha256, filename)), "rb") as file:
                    data = file.read(limit_bytes + 1)
                if len(data) <= limit_bytes:
                    return data
            except FileNotFoundError:
                pass
        with os.fdopen(open_plain(layout.blob_path(sha256, filename)), "rb") as file:
            return read_file_metadata(file, filename, limit_bytes)
    except (OSError, TreeError) as exc:
        raise MetadataUnreadable(f"{filename} can't be read: {exc}") from exc


def read_file_metadata(source: Buffer | BinaryIO, filename: str, limit_bytes: int) -> bytes:
    """Return METADATA of a wheel, or PKG-INFO of a source distribution. Raises ``MetadataUnreadable``."""
    if filename.endswith(".whl"):
        try:
            return extract_metadata(source, filename, limit_bytes)
        except WheelError as exc:
            raise MetadataUnreadable(str(exc)) from exc
    return read_sdist_member(source, filename, _PKG_INFO, limit_bytes)


def read_sdist_member(
    source: Buffer | BinaryIO, filename: str, member: str, limit_bytes: int
) -> bytes:
    """Return a file in the folder of a source distribution. Raises ``MetadataUnreadable``."""
    opened = source if hasattr(source, "read") else io.BytesIO(source)
    if filename.endswith(".zip"):
        raise MetadataUnreadable("source distributions in zip files are not read")
    try:
        with tarfile.open(fileobj=opened, mode="r:*") as archive:  # type: ignore[call-overload]
            for number, found in enumerate(archive):
                if number > _MAX_MEMBERS:
                    break
                path = PurePosixPath(found.name)
                if path.name == member and len(path.parts) == 2 and found.isfile():
                    if found.size > limit_bytes:
                        raise MetadataUnreadable(
                            f"its {member} has {found.size} bytes, more than metadata-size allows"
                        )
                    extracted = archive.extractfile(found)
                    assert extracted is not None
                    return bytes(extracted.read())
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError, MemoryError) as exc:
        raise MetadataUnreadable(f"it can't be unpacked: {type(exc).__name__}") from exc
    raise MetadataUnreadable(f"it has no {member}")
