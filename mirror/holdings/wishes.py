"""Wishes: names of projects that clients asked for and that are not in the tree, one name a line.

Invariants: a file holds at most 1,000 names, each once, normalised, of at most 64 characters, and
nothing about clients; several processes write to it; a name is added whole or not at all; it lies
next to ``public``, which is served, and the state knows nothing of it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Final

from mirror.core.names import ProjectName, normalize_project
from mirror.errors import TreeError, UnsafeName, shown_text
from mirror.tree.disk.failures import tree_errors
from mirror.tree.disk.places import remove_if_there
from mirror.tree.disk.writing import rename_into, write_at, write_new
from mirror.tree.layout import PRIVATE_FILE, Layout

MAX_WISHES: Final = 1_000
MAX_NAME: Final = 64
MAX_BYTES: Final = 1 << 20
"""A larger file is not a list of wishes."""

_READ: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_UNMOVABLE: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.EXDEV})
"""Errors of a rename in a directory in which only the file itself may be written."""


def served_wishes(layout: Layout) -> Path:
    """Return the path of the wishes that the mirror's own server records."""
    return layout.root / "wishes.txt"


def carried_wishes(layout: Layout) -> Path:
    """Return the path of the wishes that a person carried here from beyond a gap."""
    return layout.root / "wishes-carried.txt"


def parse_wishes(data: bytes) -> tuple[ProjectName, ...]:
    """Return the names of a list of wishes, each once, in their order.

    Raises ``ValueError`` for anything that is no such list, with the line.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"expected a list of at most {MAX_WISHES:,} names, one a line")
    found: dict[ProjectName, None] = {}
    for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(), start=1):
        line = raw.decode("utf-8", "backslashreplace").strip()
        if not line:
            continue
        try:
            name = normalize_project(line)
        except UnsafeName as exc:
            shown = shown_text(line, limit=80)
            raise ValueError(
                f"line {number}: expected the name of a project, found {shown}"
            ) from exc
        if len(name) > MAX_NAME:
            raise ValueError(f"line {number}: expected a name of at most {MAX_NAME} characters")
        found[name] = None
    if len(found) > MAX_WISHES:
        raise ValueError(f"expected at most {MAX_WISHES:,} names, found {len(found):,}")
    return tuple(found)


class WishFile:
    """One list on the disk. Each function raises ``TreeError`` where it can't be used."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> tuple[ProjectName, ...]:
        """Return the names; none where the file does not exist."""
        with tree_errors(self.path):
            try:
                descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            except FileNotFoundError:
                return ()
            try:
                with contextlib.suppress(
                    OSError
                ):  # a file system without locks has no writers here
                    fcntl.flock(descriptor, fcntl.LOCK_SH)  # not half of a name that is written
                return self._read(descriptor)
            finally:
                os.close(descriptor)

    def add(self, names: Collection[ProjectName]) -> tuple[ProjectName, ...]:
        """Add names; return those for which the list has no room."""
        with tree_errors(self.path), self._locked(creates=True) as descriptor:
            there = self._read(descriptor)
            new = [name for name in dict.fromkeys(names) if name not in there]
            room = MAX_WISHES - len(there)
            self._append(descriptor, new[:room])
            return tuple(new[room:])

    def drop(self, is_dropped: Callable[[ProjectName], bool]) -> tuple[ProjectName, ...]:
        """Remove the names for which a function is true; return them."""
        with tree_errors(self.path), contextlib.ExitStack() as stack:
            try:
                descriptor = stack.enter_context(self._locked(creates=False))
            except FileNotFoundError:  # also where somebody removes it meanwhile
                return ()
            there = self._read(descriptor)
            dropped = tuple(filter(is_dropped, there))
            if dropped:
                self._replace(descriptor, [name for name in there if name not in dropped])
            return dropped

    def _read(self, descriptor: int) -> tuple[ProjectName, ...]:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise TreeError(path=str(self.path), problem="expected a plain file")
        try:
            return parse_wishes(os.pread(descriptor, MAX_BYTES + 1, 0))
        except ValueError as exc:
            advice = "correct or delete the file"
            raise TreeError(path=str(self.path), problem=f"{exc}; {advice}") from exc

    @contextlib.contextmanager
    def _locked(self, *, creates: bool) -> Iterator[int]:
        """Yield a descriptor of the file, which no other process changes meanwhile."""
        while True:
            flags = _READ | (os.O_CREAT if creates else 0)
            descriptor = os.open(self.path, flags, PRIVATE_FILE)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                # Another process may have replaced the file before this one had the lock.
                if os.fstat(descriptor).st_nlink:
                    yield descriptor
                    return
            finally:
                os.close(descriptor)

    def _append(self, descriptor: int, names: Collection[ProjectName]) -> None:
        size = os.fstat(descriptor).st_size
        is_open_line = size > 0 and os.pread(descriptor, 1, size - 1) not in {b"\n", b"\r"}
        data = "".join(f"{name}\n" for name in names)
        try:
            write_at(descriptor, f"\n{data}".encode() if is_open_line else data.encode(), size)
        except OSError:
            os.ftruncate(descriptor, size)  # half a name would be another name
            raise

    def _replace(self, descriptor: int, names: Collection[ProjectName]) -> None:
        data = "".join(f"{name}\n" for name in names).encode()
        temporary = f"{self.path}.new"
        try:
            remove_if_there(temporary)
            write_new(temporary, [data], PRIVATE_FILE)
            rename_into(temporary, str(self.path))
        except OSError as exc:
            if exc.errno not in _UNMOVABLE:
                raise
            write_at(descriptor, data, 0)
            os.ftruncate(descriptor, len(data))
