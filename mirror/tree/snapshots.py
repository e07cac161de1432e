"""Frozen pages on the disk: snapshots below ``public/snapshots``, hidden pins below ``pins``,
channels as links to snapshots.

Pages are hard links: a page is only ever replaced by rename, so a link keeps the version that it
was made from. A frozen state that is being made or removed is in ``pins/`` under a name that no row
has; it appears, and vanishes, by one rename. Blocking functions, raising ``TreeError``.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from mirror.core.names import ProjectName
from mirror.core.pages.render_pages import RenderedPage
from mirror.tree.checking.single_files import has_bytes
from mirror.tree.disk.durability import make_durable_directory, sync_below, sync_directory
from mirror.tree.disk.failures import tree_errors
from mirror.tree.disk.places import check_directory, is_there, make_directory, remove_if_there
from mirror.tree.disk.writing import Buffer, rename_into, replace_file, temporary_path, write_new
from mirror.tree.layout import PRIVATE_DIRECTORY, PUBLIC_FILE, Layout
from mirror.tree.pages import HTML, HTML_V1, JSON_V1, PAGE_NAMES, link_or_copy

NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
"""Names of snapshots, channels and sites."""

_FILES_LINK: Final = "../../files"


def snapshot_path(layout: Layout, name: str) -> Path:
    """Return the path of a snapshot."""
    return layout.public / "snapshots" / name


def channel_path(layout: Layout, name: str) -> Path:
    """Return the path of a channel's link."""
    return layout.public / "channels" / name


def pin_path(layout: Layout, name: str) -> Path:
    """Return the path of a pin."""
    return layout.root / "pins" / name


def freeze_pages(
    layout: Layout,
    source: Path,
    names: Iterable[ProjectName],
    root_pages: tuple[Iterable[Buffer], Iterable[Buffer]] | None,
) -> Path:
    """Link the pages of some projects below ``source`` into a new directory in ``pins/``, and
    return its path.

    ``root_pages``: HTML and JSON of the root, where it is another one than the source's. Not
    durable before ``settle``.
    """
    place = begin_frozen(layout)
    with tree_errors(place):
        simple = f"{place}/simple"
        for name in names:
            make_directory(f"{simple}/{name}")
            for page in PAGE_NAMES:
                link_or_copy(f"{source}/{name}/{page}", f"{simple}/{name}/{page}")
        if root_pages is None:
            for page in PAGE_NAMES:
                link_or_copy(f"{source}/{page}", f"{simple}/{page}")
        else:
            write_new(f"{simple}/{HTML}", root_pages[0], PUBLIC_FILE)
            link_or_copy(f"{simple}/{HTML}", f"{simple}/{HTML_V1}")
            write_new(f"{simple}/{JSON_V1}", root_pages[1], PUBLIC_FILE)
    return place


def begin_frozen(layout: Layout) -> Path:
    """Return a new directory in ``pins/`` for frozen pages. Not durable before ``settle``."""
    place = _private_place(layout)
    with tree_errors(place):
        make_directory(place)
        make_directory(f"{place}/simple")
        os.symlink(_FILES_LINK, f"{place}/files")
    return place


def replace_pages(
    layout: Layout, directories: Sequence[str], page: RenderedPage, *, always: bool = False
) -> None:
    """Replace a project's pages in some frozen states, which share them as links.

    ``always``: pages that are the same already are replaced too, since a failed sync may have left
    them. Not durable before ``sync_snapshots``.
    """
    first, *others = directories
    with tree_errors(first):
        _replace(layout, first, page, always=always)
        for directory in others:
            for name in PAGE_NAMES:
                if not os.path.samefile(f"{first}/{name}", f"{directory}/{name}"):
                    temporary = temporary_path(layout.staging)
                    link_or_copy(f"{first}/{name}", temporary)
                    rename_into(temporary, f"{directory}/{name}")


def _replace(layout: Layout, directory: str, page: RenderedPage, *, always: bool) -> None:
    check_directory(directory)
    wanted = ((HTML, page.html), (JSON_V1, page.json))
    if not always and all(
        has_bytes(f"{directory}/{name}", [data]) for name, data in (*wanted, (HTML_V1, page.html))
    ):
        return
    for name, data in wanted:
        replace_file(f"{directory}/{name}", data, mode=PUBLIC_FILE, tmp_dir=layout.staging)
    temporary = temporary_path(layout.staging)
    link_or_copy(f"{directory}/{HTML}", temporary)
    rename_into(temporary, f"{directory}/{HTML_V1}")


def sync_snapshots(layout: Layout) -> None:
    """Make all pages of snapshots durable."""
    place = layout.public / "snapshots"
    with tree_errors(place):
        if place.is_dir():
            sync_below(place)


def settle(layout: Layout, place: Path, target: Path) -> None:
    """Make a frozen state durable and put it where it belongs."""
    with tree_errors(target):
        if target.parent != layout.root / "pins":
            make_durable_directory(target.parent)
        sync_below(place)
        os.rename(place, target)
        sync_directory(target.parent)


def has_frozen(path: Path) -> bool:
    """Return whether a snapshot or pin is there."""
    with tree_errors(path):
        return is_there(path)


def remove_frozen(layout: Layout, path: Path) -> None:
    """Remove a snapshot or pin: in one step for its readers, then from the disk.

    A missing one is not an error.
    """
    with tree_errors(path):
        place = _private_place(layout)
        try:
            os.rename(path, place)
        except FileNotFoundError:
            return
        sync_directory(path.parent)
        _remove(place)


def sweep_frozen(layout: Layout, pins: Collection[str]) -> None:
    """Remove every other entry of ``pins/``: a killed run left it."""
    place = layout.root / "pins"
    with tree_errors(place):
        try:
            found = os.listdir(place)
        except FileNotFoundError:
            return
        for name in set(found) - set(pins):
            _remove(place / name)


def promote(layout: Layout, snapshot: str, channel: str) -> None:
    """Let a channel show a snapshot: one rename, so that a reader sees the old one or the new
    one.
    """
    path = channel_path(layout, channel)
    with tree_errors(path):
        make_durable_directory(path.parent)
        temporary = temporary_path(_pins(layout))
        os.symlink(f"../snapshots/{snapshot}", temporary)
        try:
            if path.exists() and not path.is_symlink():
                raise FileExistsError(
                    17, "something that is no channel stands there; move it away", str(path)
                )
            os.rename(temporary, path)
        finally:
            remove_if_there(temporary)
        sync_directory(path.parent)


def load_channels(layout: Layout) -> dict[str, str]:
    """Return the snapshot that each channel shows."""
    place = layout.public / "channels"
    with tree_errors(place):
        try:
            names = sorted(os.listdir(place))
        except FileNotFoundError:
            return {}
        return {
            n: os.path.basename(os.readlink(place / n)) for n in names if os.path.islink(place / n)
        }


def list_snapshots(layout: Layout) -> list[str]:
    """Return the snapshots on the disk, by name."""
    place = layout.public / "snapshots"
    with tree_errors(place):
        try:
            found = sorted(os.listdir(place))
        except FileNotFoundError:
            return []
        return [
            n
            for n in found
            if NAME.fullmatch(n)
            and (place / n / "simple").is_dir()
            and not (place / n).is_symlink()
        ]


def iter_page_digests(simple: Path) -> Iterator[tuple[str, str, int]]:
    """Yield (path below ``simple``, sha256, size) of every page, sorted by path."""
    with tree_errors(simple):
        with os.scandir(simple) as found:
            places = [f"{item.name}/" for item in found if item.is_dir(follow_symlinks=False)]
        # With the slash, since "a-b/" sorts before "a/" as the paths do; the root's pages sort
        # among the projects.
        for place in sorted([*places, *PAGE_NAMES]):
            for path in (
                [place] if place in PAGE_NAMES else [f"{place}{page}" for page in PAGE_NAMES]
            ):
                yield path, *_digest(f"{simple}/{path}")


def _digest(path: str) -> tuple[str, int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), os.fstat(descriptor).st_size


def _pins(layout: Layout) -> Path:
    path = layout.root / "pins"
    make_durable_directory(path, PRIVATE_DIRECTORY)
    return path


def _private_place(layout: Layout) -> Path:
    with tree_errors(layout.root):
        return Path(temporary_path(_pins(layout)))


def _remove(path: Path) -> None:
    try:
        check_directory(path)
    except OSError:
        remove_if_there(path)
    else:
        shutil.rmtree(path)
