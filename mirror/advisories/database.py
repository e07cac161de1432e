"""An OSV database on the disk: its files, and which of them have changed.

Nothing in the database is trusted. It is read whole or not at all: where one file can't be read, or
is not a record, ``DatabaseError`` names it. A file that is known by its stamp is not opened again.
Blocking.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

import msgspec

from mirror.core.advisories.osv import MAX_RECORD_BYTES, BadRecord, OsvRecord, parse_record
from mirror.errors import shown_text

MAX_FILES: Final = 2_000_000
"""Maximum number of records; the database of all ecosystems has less than half of it."""
MAX_BYTES: Final = 32 << 30
"""Maximum number of bytes of all records together."""
MAX_DEPTH: Final = 16
"""Maximum depth of folders."""
MAX_DIRECTORY_BYTES: Final = 256 << 20
"""Maximum size of a zip's own directory, which is kept in memory while it is read."""
_TOO_FRESH_NS: Final = 50_000_000
"""A file that was written so shortly before it was read may change again under the same stamp."""
_PART_BYTES: Final = 64 << 10
_ENDING: Final = ".json"


class DatabaseError(Exception):
    """The database can't be read whole; the text says which file of it, and why."""


class DatabaseMissing(DatabaseError):
    """There is nothing at its path."""


class ReadRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One record and the stamp of its file; an empty stamp is never equal."""

    stamp: str
    record: OsvRecord


class Database(Protocol):
    """A database that is open; two implementations: a folder and a zip."""

    @property
    def stamp(self) -> str:
        """Text that changes with any file of it; empty where that can't be known."""

    def files(self) -> Mapping[str, str]:
        """Return each file of a record: its name, and its own stamp."""

    def read(self, name: str) -> bytes:
        """Return one file, at most ``MAX_RECORD_BYTES``."""


@contextmanager
def open_database(path: Path) -> Iterator[Database]:
    """Open the folder or zip at ``path``. Raises ``DatabaseError``."""
    try:
        kind = path.stat().st_mode
    except FileNotFoundError as exc:
        raise DatabaseMissing(f"{path} is not there") from exc
    except OSError as exc:
        raise DatabaseError(f"{path} can't be read: {exc.strerror}") from exc
    if stat.S_ISDIR(kind):
        yield _Folder(path)
    elif stat.S_ISREG(kind):
        with _open_file(path) as file:
            yield _Zip(path, file)
    else:
        raise DatabaseError(f"{path} is neither a folder nor a zip")


def read_changed(database: Database, known: Mapping[str, str]) -> Iterator[tuple[str, ReadRecord]]:
    """Yield the records whose files have another stamp than in ``known``: (name, record).

    Raises ``DatabaseError`` for the first file that can't be read.
    """
    total = 0
    for name, stamp in database.files().items():
        if stamp and known.get(name) == stamp:
            continue
        data = database.read(name)
        total += len(data)
        if total > MAX_BYTES:
            raise DatabaseError(f"more than {MAX_BYTES >> 30} GiB of records")
        try:
            yield name, ReadRecord(stamp=stamp, record=parse_record(data))
        except BadRecord as exc:
            raise DatabaseError(f"{shown_text(name)}: {exc}") from exc


class _Folder:
    """Files that end in ``.json``, in folders of any name that does not begin with a dot."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: dict[str, str] | None = None

    @property
    def stamp(self) -> str:
        files = self.files()
        if not all(files.values()):
            return ""
        listed = "".join(f"{name}\0{files[name]}\0" for name in sorted(files))
        return f"folder {hashlib.sha256(listed.encode()).hexdigest()}"

    def files(self) -> Mapping[str, str]:
        if self._files is None:
            self._files = {}
            try:
                self._list("", 0)
            except OSError as exc:
                where = shown_text(os.fsdecode(exc.filename or self._path))
                raise DatabaseError(f"{where} can't be read: {exc.strerror}") from exc
        return self._files

    def _list(self, folder: str, depth: int) -> None:
        assert self._files is not None
        now_ns = time.time_ns()  # before the listing: what is written meanwhile is too fresh
        if depth > MAX_DEPTH:
            raise DatabaseError(f"folders deeper than {MAX_DEPTH}: {shown_text(folder)}")
        with os.scandir(self._path / folder) as found:
            for item in found:
                name = f"{folder}{item.name}"
                if item.name.startswith("."):
                    continue
                if item.is_dir(follow_symlinks=False):
                    self._list(f"{name}/", depth + 1)
                elif item.name.endswith(_ENDING) or item.is_dir():
                    _check_name(name)
                    self._files[name] = _stamp_of(name, item.stat(follow_symlinks=False), now_ns)
                    if len(self._files) > MAX_FILES:
                        raise DatabaseError(f"more than {MAX_FILES} records")

    def read(self, name: str) -> bytes:
        try:
            data = _read_plainly(f"{self._path}/{name}")
        except OSError as exc:
            raise DatabaseError(f"{shown_text(name)} can't be read: {exc.strerror}") from exc
        return _bounded(name, data)


def _stamp_of(name: str, found: os.stat_result, now_ns: int) -> str:
    if not stat.S_ISREG(found.st_mode):
        raise DatabaseError(f"{shown_text(name)} is a link or no plain file")
    if now_ns - found.st_ctime_ns < _TOO_FRESH_NS:
        return ""
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"


def _check_name(name: str) -> None:
    if not name.isprintable():  # neither is a byte that is no UTF-8
        raise DatabaseError(f"{shown_text(name)} is no name that can be shown")


def _read_plainly(path: str) -> bytes:
    """Return a file, of a too long one its beginning.

    It follows no link and waits for no pipe. In small parts: a buffer for the longest record costs
    more than all else.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        data = more = os.read(descriptor, _PART_BYTES)
        while more and len(data) <= MAX_RECORD_BYTES:
            more = os.read(descriptor, max(_PART_BYTES, len(data)))
            data += more
    finally:
        os.close(descriptor)
    return data


class _Zip:
    """The members of an archive that end in ``.json``; its directory is read once it is needed."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        stamp = _stamp_of(path.name, os.fstat(file.fileno()), time.time_ns())
        self.stamp = stamp and f"zip {stamp}"
        self._path = path
        self._bounded: Any = _BoundedFile(file)

    def files(self) -> Mapping[str, str]:
        return {name: f"{m.file_size} {m.CRC}" for name, m in self._members.items()}

    @cached_property
    def _archive(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self._bounded)
        except _BROKEN as exc:
            raise _no_zip(self._path, exc) from exc

    @cached_property
    def _members(self) -> Mapping[str, zipfile.ZipInfo]:
        found: dict[str, zipfile.ZipInfo] = {}
        listed = self._archive.infolist()
        if len(listed) > MAX_FILES:
            raise DatabaseError(f"more than {MAX_FILES} members")
        for member in listed:
            if member.filename.endswith(_ENDING) and not member.is_dir():
                _check_name(member.filename)
                if member.filename in found:
                    raise DatabaseError(f"two members are named {shown_text(member.filename)}")
                found[member.filename] = member
        return found

    def read(self, name: str) -> bytes:
        try:
            with self._archive.open(self._members[name]) as file:
                data = file.read(MAX_RECORD_BYTES + 1)
                if len(data) <= MAX_RECORD_BYTES:
                    data += file.read(1)  # the end is where its checksum is compared
        except (*_BROKEN, RuntimeError) as exc:  # RuntimeError: it is encrypted
            raise DatabaseError(
                f"{shown_text(name)} can't be read: {shown_text(str(exc))}"
            ) from exc
        return _bounded(name, data)


_BROKEN: Final = (
    OSError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    ValueError,
)


class _BoundedFile:
    """A file that is read in bounded parts: a zip's directory is one part."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        if size > MAX_DIRECTORY_BYTES:
            raise DatabaseError(f"a directory of {size} bytes, more than {MAX_DIRECTORY_BYTES}")
        return self._file.read(size if size >= 0 else MAX_DIRECTORY_BYTES)


@contextmanager
def _open_file(path: Path) -> Iterator[BinaryIO]:
    try:
        file = path.open("rb")
    except OSError as exc:
        raise _no_zip(path, exc) from exc
    with file:
        yield file


def _no_zip(path: Path, exc: Exception) -> DatabaseError:
    return DatabaseError(f"{path} can't be read as a zip: {shown_text(str(exc))}")


def _bounded(name: str, data: bytes) -> bytes:
    if len(data) > MAX_RECORD_BYTES:
        raise DatabaseError(f"{shown_text(name)} has more than {MAX_RECORD_BYTES} bytes")
    return data
