"""Volumes: the place of each item, and the writing of the archives.

Plain POSIX tar, the same bytes for the same draft.

Order: blobs, sidecars, pages. An item that fits into a volume is never split; a larger one is
split, starting in the free rest of a volume. Every byte is hashed as it is written, so that damage
on the near side is found here and not beyond the gap. A complete volume is not written again; one
that a kill left unfinished is.
"""

from __future__ import annotations

import errno
import hashlib
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from mirror.bundle.hashing import HashingFile, Written
from mirror.bundle.medium import OpenMedium
from mirror.bundle.receive import BLOCK, volume_name
from mirror.errors import BundleError
from mirror.state.frozen.draft import BundleDraft, BundleItem, Member, Volume
from mirror.tree.disk.failures import tree_errors

KINDS = ("blob", "sidecar", "page")
SMALLEST_VOLUME = 64 * 1024

_END = 2 * BLOCK
_LEAST_PART = 16 * 1024
_CHUNK = 1 << 20

CountBytes = Callable[[int], None]


def lay_out(draft: BundleDraft, volume_size: int) -> None:
    """Decide the place of each item, and record it."""
    packer = _Packer(draft, volume_size)
    draft.replace_layout(packer.pack(item) for kind in KINDS for item, _ in draft.iter_items(kind))
    draft.add_volumes(packer.sizes())


class _Packer:
    """Fills one volume after the other."""

    def __init__(self, draft: BundleDraft, volume_size: int) -> None:
        self._draft = draft
        self._limit = volume_size - volume_size % BLOCK - _END
        self._used: list[int] = []

    def sizes(self) -> list[int]:
        """Return the sizes of the volumes."""
        return [used + _END for used in self._used]

    def pack(self, item: BundleItem) -> tuple[BundleItem, str, list[Member]]:
        """Return the item, its place and its new members: none where the same bytes have their
        place already.
        """
        place = f"pages/{item.sha256}" if item.kind == "page" else item.path
        is_whole = len(render_header(place, item.size)) + _padded(item.size) <= self._limit
        if not is_whole:
            place = f"parts/{item.sha256}"
        if self._draft.parts(place):
            return item, place, []
        if is_whole:
            self._make_room(len(render_header(place, item.size)) + _padded(item.size))
            return item, place, [self._add(item, place, place, 0, item.size)]
        return item, place, list(self._split(item, place))

    def _split(self, item: BundleItem, place: str) -> Iterator[Member]:
        start, number = 0, 0
        while start < item.size:
            self._make_room(BLOCK + _LEAST_PART)
            size = min(item.size - start, self._limit - self._used[-1] - BLOCK)
            number += 1
            yield self._add(item, place, f"{place}/{number:04d}", start, size)
            start += size

    def _make_room(self, size: int) -> None:
        if not self._used or self._used[-1] + size > self._limit:
            self._used.append(0)

    def _add(self, item: BundleItem, place: str, name: str, start: int, size: int) -> Member:
        self._used[-1] += len(render_header(name, size)) + _padded(size)
        return Member(
            place=place,
            volume=len(self._used),
            name=name,
            source=item.path,
            start=start,
            size=size,
            whole=item.size,
            sha256=item.sha256,
        )


def render_header(name: str, size: int) -> bytes:
    """Return the tar header of a plain file: ustar, with an extended header where ustar is not
    enough.
    """
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    if name.isascii():
        try:
            return info.tobuf(tarfile.USTAR_FORMAT)
        except ValueError:
            pass  # too long, or too large
    return info.tobuf(tarfile.PAX_FORMAT)


def _padded(size: int) -> int:
    return size + -size % BLOCK


def write_volumes(
    draft: BundleDraft, sources: Callable[[str], Path], medium: OpenMedium, count_bytes: CountBytes
) -> None:
    """Write the volumes that are not complete, each durable before it counts.

    Raises ``TreeError``, ``BundleError``.
    """
    for volume in draft.volumes():
        name = volume_name(volume.number)
        if volume.sha256 is not None:
            if medium.holds(Written(name=name, size=volume.size, sha256=volume.sha256)):
                count_bytes(volume.size)
                continue
            draft.record_volume(volume.number, None)
        written = _write_volume(draft, volume, sources, medium, count_bytes)
        medium.compare(written)
        draft.record_volume(volume.number, written.sha256)


def _write_volume(
    draft: BundleDraft,
    volume: Volume,
    sources: Callable[[str], Path],
    medium: OpenMedium,
    count_bytes: CountBytes,
) -> Written:
    with medium.create(volume_name(volume.number), count_bytes) as out:
        for member in draft.iter_members(volume.number):
            out.write(render_header(member.name, member.size))
            _copy(member, sources(member.source), out)
            out.write(bytes(-member.size % BLOCK))
        out.write(bytes(_END))
    written = out.written()
    if (
        written.size != volume.size
    ):  # pragma: no cover - the layout and the headers are made by the same code
        raise BundleError(
            problem=f"{written.name} became {written.size} bytes long instead of {volume.size}"
        )
    return written


def _copy(member: Member, source: Path, out: HashingFile) -> None:
    """Copy a member's bytes; the item is hashed whole, once all of it has been written."""
    with tree_errors(source):
        try:
            descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as exc:
            if exc.errno not in {errno.ENOENT, errno.ELOOP, errno.ENOTDIR}:
                raise
            raise BundleError(
                problem=f"{source}: {exc.strerror}; run `mirror verify --repair`"
            ) from exc
    with tree_errors(source), os.fdopen(descriptor, "rb", buffering=0) as file:
        if os.fstat(descriptor).st_size != member.whole:
            raise BundleError(
                problem=f"{source} is damaged: not {member.whole} bytes;"
                " run `mirror verify --repair`"
            )
        file.seek(member.start)
        digest, left = hashlib.sha256(), member.size
        while left:
            data = file.read(min(left, _CHUNK))
            if not data:
                raise BundleError(problem=f"{source} became shorter while it was read")
            digest.update(data)
            out.write(data)
            left -= len(data)
        if member.start + member.size < member.whole:
            return
        if member.start:
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256")
    if digest.hexdigest() != member.sha256:
        raise BundleError(
            problem=f"{source} is damaged: its bytes have another sha256;"
            " run `mirror verify --repair`"
        )
