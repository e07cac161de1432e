"""Find the files below ``files`` that belong to nothing: foreign ones, and leftovers of a kill."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from mirror.tree.checking.single_files import entries_of, is_directory
from mirror.tree.disk.failures import tree_errors
from mirror.tree.disk.places import remove_if_there
from mirror.tree.layout import METADATA_ENDING, Layout

_HEX = frozenset("0123456789abcdef")


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
    for item in entries_of(str(layout.files)):
        yield item.name, _is_hex_directory(item)


def scan_blobs(layout: Layout, outer: str) -> list[Unknown]:
    """Return everything below ``files/<outer>``, and directories that should have blobs and are
    empty; a foreign directory is named once, without its contents.
    """
    found: list[Unknown] = []
    middles = entries_of(f"{layout.files}/{outer}")
    if not middles and is_directory(f"{layout.files}/{outer}"):
        found.append(_empty(f"{layout.files}/{outer}"))
    for middle in middles:
        if not _is_hex_directory(middle):
            found.append(_foreign(middle))
            continue
        inners = entries_of(middle.path)
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
            blobs = [_in_blob_directory(item, inner.name) for item in entries_of(inner.path)]
            found += blobs or [_empty(inner.path)]
    return found


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
