"""The contents of a bundle: from a frozen state and the states that the far side may have, to items
in a work file.

A page that is equal in all of them lists nothing new, since a page names every blob and sidecar
with its sha256; of the other pages, the bundle carries each file that one of the older states did
not list. More than is needed does no harm: the far side keeps the files that it has. The older
states' pages are known by their lists of digests, their files by the temporal state.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

import anyio.to_thread
import msgspec

from mirror.bundle.sources import BundleSources
from mirror.core.files.distributions import is_wheel
from mirror.core.names import ProjectName, Sha256
from mirror.errors import BundleError, TreeError
from mirror.state.frozen.draft import BundleDraft, BundleItem
from mirror.state.frozen.shipments import ShipmentRow
from mirror.state.frozen.snapshots import SnapshotRow, load_files_at, load_sidecar_revisions
from mirror.state.store import Store
from mirror.tree.disk.failures import tree_errors
from mirror.tree.layout import METADATA_ENDING, Layout
from mirror.tree.pages import JSON_V1
from mirror.tree.snapshots import iter_page_digests, pin_path

_CHUNK = 200
_BATCH = 5000


class _Hashes(msgspec.Struct):
    sha256: str


class _FileToSend(msgspec.Struct, rename="kebab"):
    filename: str
    hashes: _Hashes
    size: int
    core_metadata: _Hashes | None = None


class _PageToSend(msgspec.Struct):
    files: list[_FileToSend]


_decode_page = msgspec.json.Decoder(_PageToSend).decode


class ChangedProject(msgspec.Struct, frozen=True, kw_only=True):
    """A project whose page differs from one of the bases', and which of the bases have it."""

    name: ProjectName
    known: tuple[bool, ...]


def page_list_path(layout: Layout, chain: str, sequence: int) -> Path:
    """Return where the list of a shipment's pages is kept, lines as sha256sum writes them, sorted
    by path.
    """
    return layout.root / "shipments" / f"{chain}-{sequence:06d}.sha256"


async def draft_update(
    draft: BundleDraft,
    store: Store,
    layout: Layout,
    pin: SnapshotRow,
    bases: Sequence[ShipmentRow],
    sources: BundleSources,
) -> None:
    """Fill the draft with the changes from each of the bases to the pin.

    Raises ``BundleError``, ``TreeError``.
    """
    simple = pin_path(layout, pin.name) / "simple"
    lists = [page_list_path(layout, base.chain, base.sequence) for base in bases]
    changed = await anyio.to_thread.run_sync(partial(_compare_pages, draft, simple, lists))
    for start in range(0, len(changed), _CHUNK):
        some = changed[start : start + _CHUNK]
        await _draft_files(draft, store, sources, simple, pin, bases, some)


def _compare_pages(draft: BundleDraft, simple: Path, lists: Sequence[Path]) -> list[ChangedProject]:
    """Record all pages, those that differ as items, and the removed projects; return the projects
    whose pages differ.
    """
    older = [_OlderPages(path) for path in lists]
    changed: list[ChangedProject] = []
    pages: list[tuple[str, str]] = []
    items: list[BundleItem] = []
    removed: set[str] = set()
    try:
        for place, group in groupby(
            iter_page_digests(simple), key=lambda page: page[0].rpartition("/")[0]
        ):
            here = list(group)
            pages += [(sha256, f"simple/{path}") for path, sha256, _ in here]
            found = [{path: old.take(path) for path, _, _ in here} for old in older]
            if not older or any(old[path] != sha256 for old in found for path, sha256, _ in here):
                items += [
                    BundleItem(kind="page", path=f"simple/{path}", size=size, sha256=sha256)
                    for path, sha256, size in here
                ]
                if place:
                    known = tuple(any(old.values()) for old in found)
                    changed.append(ChangedProject(name=ProjectName(place), known=known))
            if len(pages) >= _BATCH:
                draft.add_pages(pages)
                draft.add_items(items)
                pages, items = [], []
        draft.add_pages(pages)
        draft.add_items(items)
        for old in older:
            removed |= old.finish()
        draft.add_removed(sorted(removed))
    finally:
        for old in older:
            old.close()
    return changed


class _OlderPages:
    """The pages of an older state, read in step with those of the new one; both sorted by path."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = path.open(encoding="ascii")
        except OSError as exc:
            raise BundleError(
                problem=f"{path}: what was sent is not known any more ({exc.strerror});"
                " make the bundle with --full"
            ) from exc
        self._left: set[str] = set()
        self._line = self._next()

    def take(self, path: str) -> str | None:
        """Return the sha256 of a page, or None where the older state has none of this path."""
        while self._line is not None and self._line[1] < path:
            self._leave()
        if self._line is None or self._line[1] != path:
            return None
        sha256 = self._line[0]
        self._line = self._next()
        return sha256

    def finish(self) -> set[str]:
        """Return the projects that the new state did not ask for."""
        while self._line is not None:
            self._leave()
        return self._left

    def close(self) -> None:
        """Close the list."""
        self._file.close()

    def _leave(self) -> None:
        assert self._line is not None
        self._left.add(self._line[1].rpartition("/")[0])
        self._line = self._next()

    def _next(self) -> tuple[str, str] | None:
        line = self._file.readline()
        return (line[:64], line[66:].rstrip("\n").removeprefix("simple/")) if line else None


async def _draft_files(
    draft: BundleDraft,
    store: Store,
    sources: BundleSources,
    simple: Path,
    pin: SnapshotRow,
    bases: Sequence[ShipmentRow],
    projects: Sequence[ChangedProject],
) -> None:
    pages = await anyio.to_thread.run_sync(_read_pages, simple, projects)
    names = [project.name for project in projects]
    older = [await load_files_at(store, names, base.revision) for base in bases]
    blobs = [(Sha256(file.hashes.sha256), file.filename) for page in pages for file in page.files]
    # A sidecar that was made after one of the states may be another one there, though its blob is
    # the same.
    oldest = min((base.revision for base in bases), default=0)
    since = await load_sidecar_revisions(store, blobs) if bases else {}
    wanted: list[BundleItem] = []
    for project, page in zip(projects, pages, strict=True):
        for file in page.files:
            is_known = bool(bases) and all(
                known
                and (held := files.get(project.name, {}).get(file.filename)) is not None
                and held.sha256 == file.hashes.sha256
                for known, files in zip(project.known, older, strict=True)
            )
            path = blob_place(file.hashes.sha256, file.filename)
            if not is_known:
                wanted.append(
                    BundleItem(kind="blob", path=path, size=file.size, sha256=file.hashes.sha256)
                )
            is_new = since.get((file.hashes.sha256, file.filename), 0) > min(oldest, pin.revision)
            # A page may have offered no metadata in between for a file that is not a wheel, so the
            # far side may have deleted it.
            is_new = is_new or not is_wheel(file.filename)
            if file.core_metadata is not None and (not is_known or is_new):
                sidecar = path + METADATA_ENDING
                wanted.append(
                    BundleItem(
                        kind="sidecar", path=sidecar, size=-1, sha256=file.core_metadata.sha256
                    )
                )
    await anyio.to_thread.run_sync(lambda: draft.add_items(_with_sizes(sources, wanted)))


def _read_pages(simple: Path, projects: Sequence[ChangedProject]) -> list[_PageToSend]:
    pages = []
    for project in projects:
        path = simple / project.name / JSON_V1
        with tree_errors(path):
            data = path.read_bytes()
        try:
            pages.append(_decode_page(data))
        except msgspec.DecodeError as exc:
            raise TreeError(
                path=str(path), problem=f"is no page of ours ({exc}); run `mirror verify --repair`"
            ) from exc
    return pages


def blob_place(sha256: str, filename: str) -> str:
    """Return the path of a blob in the tree, as bundles and pages name it."""
    return f"files/{sha256[:2]}/{sha256[2:4]}/{sha256}/{filename}"


def _with_sizes(sources: BundleSources, items: Sequence[BundleItem]) -> Iterator[BundleItem]:
    for item in items:
        if item.size >= 0:
            yield item
        else:
            yield msgspec.structs.replace(item, size=sources.size(item.path))
