"""A wheel's METADATA, from untrusted bytes (PEP 427, PEP 658).

The archive is read by hand, not by ``zipfile``, which builds an object for each entry that the
directory claims to have: here the directory, the number of entries and the member are bounded
before they are read, so that no wheel costs more than those bounds. The result is the member that
pip would read: where two readers could see two different members (two of one name, two
``.dist-info`` directories), none is returned.

Invariant: for any bytes, the answer is the member's bytes, checked against size and CRC, or
``WheelError``.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Final, NoReturn, Protocol

import msgspec

from mirror.tree.disk.writing import Buffer

MAX_ENTRIES: Final = 100_000
MAX_DIRECTORY_BYTES: Final = 32 * 1024 * 1024

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s24x3H")
"""The signature of a ``_CENTRAL`` record, and the lengths of name, extra field and comment."""
_CENTRAL = struct.Struct("<4s4B4HL2L5H2L")
_LOCAL = struct.Struct("<4s2B4HL2L2H")
_LONGEST_COMMENT: Final = 0xFFFF
_UNKNOWN_32: Final = 0xFFFFFFFF
_STORED: Final = 0
_DEFLATED: Final = 8
# Encrypted, patched data, strongly encrypted.
_REFUSED_FLAGS: Final = 0x1 | 0x20 | 0x40
_ZIP64_FIELD: Final = 1

_SEPARATORS = re.compile(r"[-_.]+")


class WheelError(Exception):
    """No metadata can be extracted; the text is the reason.

    Becomes ``metadata_problem`` of the placed blob.
    """


class ArchiveLimitError(WheelError):
    """The archive may be whole: it has more entries than are read."""


class _ArchiveMember(msgspec.Struct, frozen=True):
    """The position of a member's compressed bytes, and the size and CRC of the uncompressed
    ones.
    """

    name: bytes
    flags: int
    method: int
    crc: int
    packed_bytes: int
    size_bytes: int
    offset: int


class Source(Protocol):
    """Bytes at a place; two implementations: in memory, and a file."""

    size: int

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset`` on; fewer at the end."""


def extract_metadata(source: Buffer | BinaryIO, filename: str, limit_bytes: int) -> bytes:
    """Return the bytes of the wheel's METADATA.

    ``source`` is all of the wheel, or a file to seek in.

    Raises ``WheelError`` for a file that is not a wheel of that name, or METADATA over
    ``limit_bytes``; ``OSError`` of the file.
    """
    opened = open_bytes(source)
    return _read_bounded(opened, _find_metadata(opened, filename), limit_bytes)


def extract_member(
    source: Buffer | BinaryIO, name: str, limit_bytes: int, *, depth: int
) -> bytes | None:
    """Return the bytes of the one member of a zip archive with this file name, ``depth`` parts
    deep.

    None where there is none. Raises ``WheelError``, ``OSError`` of the file.
    """
    opened = open_bytes(source)
    directory, shift = _read_directory(opened)
    ending = f"/{name}".encode()
    found = [
        _parse_member(directory, position, path, shift)
        for path, position in _find_entries(directory, name.encode())
        if path.endswith(ending) and path.count(b"/") == depth - 1
    ]
    if len(found) > 1:
        _refuse(f"{len(found)} {name} members")
    return _read_bounded(opened, found[0], limit_bytes) if found else None


def _read_bounded(source: Source, member: _ArchiveMember, limit_bytes: int) -> bytes:
    label = _label(member)
    if member.flags & _REFUSED_FLAGS:
        _refuse(f"{label} is encrypted or patched")
    if member.size_bytes > limit_bytes:
        limit = f"more than metadata-size allows ({limit_bytes})"
        _refuse(f"{label} has {member.size_bytes} bytes, {limit}")
    return _read_member(source, member)


def read_dist_infos(source: Buffer | BinaryIO) -> set[str]:
    """Return the names of all ``.dist-info`` directories of a zip archive.

    Raises ``WheelError`` for a file that is not a zip archive, ``ArchiveLimitError`` for one that
    is too large to be read.
    """
    directory, _shift = _read_directory(open_bytes(source))
    heads = (name.partition(b"/")[0] for name, _position in _find_entries(directory, b".dist-info"))
    return {head.decode("utf-8", "replace") for head in heads if head.endswith(b".dist-info")}


def open_bytes(source: Buffer | BinaryIO) -> Source:
    """Return all of a file as bytes at places."""
    return _Memory(source) if isinstance(source, Buffer) else _ArchiveFile(source)


class _Memory:
    def __init__(self, data: Buffer) -> None:
        self._view = memoryview(data)
        self.size = len(self._view)

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self._view[offset : offset + length])


class _ArchiveFile:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = file.seek(0, os.SEEK_END)

    def read(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(length)


def _find_metadata(source: Source, filename: str) -> _ArchiveMember:
    """Return the one METADATA of the one ``.dist-info`` directory; like for pip, it must be named
    after the project.
    """
    directory, shift = _read_directory(source)
    directories: set[bytes] = set()
    found: list[_ArchiveMember] = []
    for name, position in _find_entries(directory, b".dist-info"):
        head, _, rest = name.partition(b"/")
        if head.endswith(b".dist-info"):
            directories.add(head)
            if rest == b"METADATA":
                found.append(_parse_member(directory, position, name, shift))
    if len(directories) != 1:
        _refuse(f"{len(directories)} .dist-info directories")
    if len(found) != 1:
        _refuse(f"{len(found)} METADATA members")
    project = _normalize(filename.partition("-")[0])
    if not _normalize(directories.pop().decode("utf-8", "replace")).startswith(project):
        _refuse("the .dist-info directory is of another project")
    return found[0]


def _read_directory(source: Source) -> tuple[bytes, int]:
    """Return the central directory, and how far all offsets are off (bytes before the archive, as
    ``zipfile`` does).
    """
    end, entries, length, offset = _read_end(source)
    if entries > MAX_ENTRIES:
        raise ArchiveLimitError(f"{entries} entries, more than {MAX_ENTRIES}")
    if length > MAX_DIRECTORY_BYTES:
        raise ArchiveLimitError(f"a directory of {length} bytes, more than {MAX_DIRECTORY_BYTES}")
    shift = end - length - offset
    if shift < 0:
        _refuse("the archive is cut")
    return source.read(offset + shift, length), shift


def _read_end(source: Source) -> tuple[int, int, int, int]:
    """Return where the central directory ends, its number of entries, its length and its offset."""
    start = max(0, source.size - _END.size - _LONGEST_COMMENT)
    tail = source.read(start, source.size - start)
    plain = len(tail) - _END.size
    at = (
        plain
        if tail[plain : plain + 4] == b"PK\5\6" and tail.endswith(b"\0\0")
        else tail.rfind(b"PK\5\6")
    )
    if at < 0 or len(tail) - at < _END.size:
        _refuse("no zip archive")
    _, _, _, _, entries, length, offset, _ = _END.unpack_from(tail, at)
    end = start + at
    return _read_end64(source, end) or (end, entries, length, offset)


def _read_end64(source: Source, end: int) -> tuple[int, int, int, int] | None:
    """Return the same from the record of large archives (zip64), where there is one right before
    ``end``.
    """
    start = end - _LOCATOR64.size - _END64.size
    if start < 0:
        return None
    records = source.read(start, end - start)
    if (
        len(records) < end - start
        or records[_END64.size : _END64.size + 4] != b"PK\6\7"
        or records[:4] != b"PK\6\6"
    ):
        return None
    _, _, _, _, _, _, _, entries, length, offset = _END64.unpack_from(records)
    return start, entries, length, offset


def _find_entries(directory: bytes, part: bytes) -> list[tuple[bytes, int]]:
    """Return name and position of each entry with ``part`` in its name; others are ignored.

    The count in the end record may be wrong, so entries are counted here too.
    """
    found = []
    position = count = 0
    end, head_bytes, read_entry = len(directory), _CENTRAL.size, _ENTRY.unpack_from
    part_bytes = len(part)
    # Real wheels have hundreds of entries and few of these: one search for all, and not one each.
    next_at = directory.find(part)
    while position < end:
        count += 1
        if count > MAX_ENTRIES:
            raise ArchiveLimitError(f"more than {MAX_ENTRIES} entries")
        name_at = position + head_bytes
        if name_at > end:
            _refuse("a broken directory")
        signature, name_bytes, extra_bytes, comment_bytes = read_entry(directory, position)
        if signature != b"PK\1\2":
            _refuse("a broken directory")
        name_end = name_at + name_bytes
        if 0 <= next_at < name_end:
            if next_at < name_at:  # in the extra field or the comment of an earlier entry
                next_at = directory.find(part, name_at)
            if 0 <= next_at <= name_end - part_bytes:
                # Other readers end a name at its first NUL.
                found.append((directory[name_at:name_end].partition(b"\0")[0], position))
        position = name_end + extra_bytes + comment_bytes
    if position > end:
        _refuse("a broken directory")
    return found


def _parse_member(directory: bytes, position: int, name: bytes, shift: int) -> _ArchiveMember:
    fields = _CENTRAL.unpack_from(directory, position)
    flags, method, crc, packed, size, name_length, extra_length = (
        fields[i] for i in (5, 6, 9, 10, 11, 12, 13)
    )
    offset = fields[18]
    if _UNKNOWN_32 in {packed, size, offset}:
        extra_at = position + _CENTRAL.size + name_length
        wide = _zip64_values(directory[extra_at : extra_at + extra_length])
        size = next(wide) if size == _UNKNOWN_32 else size
        packed = next(wide) if packed == _UNKNOWN_32 else packed
        offset = next(wide) if offset == _UNKNOWN_32 else offset
    return _ArchiveMember(name, flags, method, crc, packed, size, offset + shift)


def _zip64_values(extra: bytes) -> Iterator[int]:
    """Yield the 64-bit values of an entry's zip64 field; refuse where there are too few."""
    position = 0
    while len(extra) - position >= 4:
        kind, length = struct.unpack_from("<2H", extra, position)
        body = extra[position + 4 : position + 4 + length]
        if kind == _ZIP64_FIELD:
            yield from (value for (value,) in struct.iter_unpack("<Q", body[: len(body) // 8 * 8]))
        position += 4 + length
    _refuse("a broken zip64 field")


def _read_member(source: Source, member: _ArchiveMember) -> bytes:
    # An offset of 64 bits may be more than a file can be asked for.
    header = source.read(member.offset, _LOCAL.size) if member.offset < source.size else b""
    if len(header) < _LOCAL.size or not header.startswith(b"PK\3\4"):
        _refuse(f"{_label(member)} is not where the directory says")
    name_length, extra_length = struct.unpack_from("<2H", header, 26)
    name_at = member.offset + _LOCAL.size
    if source.read(name_at, name_length).partition(b"\0")[0] != member.name:
        _refuse(f"{_label(member)} has another name in its own header")
    # Deflate lengthens incompressible data by a few bytes only.
    if member.packed_bytes > member.size_bytes + member.size_bytes // 100 + 1024:
        _refuse(f"{_label(member)} is packed into more bytes than it has")
    packed = source.read(name_at + name_length + extra_length, member.packed_bytes)
    if len(packed) != member.packed_bytes:
        _refuse(f"{_label(member)} is cut")
    data = _unpack(packed, member)
    if len(data) != member.size_bytes or zlib.crc32(data) != member.crc:
        _refuse(f"{_label(member)} is damaged")
    return data


def _unpack(packed: bytes, member: _ArchiveMember) -> bytes:
    if member.method == _STORED:
        return packed
    if member.method != _DEFLATED:
        _refuse(
            f"{_label(member)} is packed by method {member.method};"
            " only stored and deflated are read"
        )
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        # One byte more than declared is enough to see that there is more.
        return inflate.decompress(packed, member.size_bytes + 1)
    except zlib.error as exc:
        raise WheelError(f"{_label(member)} can't be unpacked: {exc}") from exc


def _label(member: _ArchiveMember) -> str:
    """Return the file name of a member, for words."""
    return member.name.rpartition(b"/")[2].decode("utf-8", "replace")


def _normalize(name: str) -> str:
    return _SEPARATORS.sub("-", name).lower()


def _refuse(cause: str) -> NoReturn:
    raise WheelError(cause)
