"""Where the bytes of a bundle come from: pages from a pin, blobs from the tree.

Blobs of an object store come one after the other into one private file, which the next replaces.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from mirror.core.pages.page_depth import raised
from mirror.errors import BundleError, TreeError
from mirror.tree.disk.failures import tree_errors
from mirror.tree.disk.places import remove_if_there
from mirror.tree.disk.writing import temporary_path, write_new
from mirror.tree.layout import PRIVATE_FILE, Layout
from mirror.tree.objects.client import ObjectClient
from mirror.tree.snapshots import pin_path


class BundleSources:
    """The files of one bundle, opened one at a time."""

    def __init__(self, layout: Layout, pages: Path, client: ObjectClient | None) -> None:
        """``pages``: where a pin lies. ``client``: of the object store that has the tree."""
        self._public, self._pages, self._client = layout.public, pages, client
        self._staging = layout.staging
        self._kept: tuple[str, str] | None = None

    def path(self, path: str) -> Path:
        """Return a file with these bytes; it is there until the next call.

        Raises ``BundleError``, ``TreeError``.
        """
        if path.startswith("simple/"):
            return self._pages / path
        if self._client is None:
            return self._public / path
        if self._kept is None or self._kept[0] != path:
            self.close()
            self._kept = (path, self._fetch(self._client, path))
        return Path(self._kept[1])

    def size(self, path: str) -> int:
        """Return the size of a file of the tree. Raises ``BundleError``, ``TreeError``."""
        if self._client is not None:
            found = self._client.head(path)
            if found is None:
                raise _missing(self._client, path)
            return found.size
        try:
            return os.stat(self._public / path, follow_symlinks=False).st_size  # noqa: PTH116
        except OSError as exc:
            problem = f"{self._public / path}: {exc.strerror}; run `mirror verify --repair`"
            raise BundleError(problem=problem) from exc

    def stored_pages(self, path: str) -> Iterator[bytes]:
        """Yield the pages that an object store has for a path such as ``simple/x/index.html``: the
        live one, and those of snapshots, with the links of a disk.
        """
        if self._client is None:
            return
        place, _, form = path.rpartition("/")
        part = "simple-json" if form.endswith("json") else "simple"
        key = f"{place.replace('simple', part, 1)}/index.html"
        got = self._client.get(key)
        if got is not None:
            yield got[0]
        prefixes, _ = self._client.list_names("snapshots")
        for prefix in sorted(prefixes):
            got = self._client.get(f"{prefix.rstrip('/')}/{key}")
            if got is not None:
                yield raised(got[0])

    def close(self) -> None:
        """Remove the last file of a store."""
        if self._kept is not None:
            remove_if_there(self._kept[1])
            self._kept = None

    def _fetch(self, client: ObjectClient, path: str) -> str:
        temporary = temporary_path(self._staging)
        with client.reading(path) as found:
            if found is None:
                raise _missing(client, path)
            try:
                with tree_errors(temporary):
                    write_new(temporary, found[1], PRIVATE_FILE)
            except TreeError:
                remove_if_there(temporary)
                raise
        return temporary


def _missing(client: ObjectClient, path: str) -> BundleError:
    where = client.address.shown(path)
    return BundleError(problem=f"{where}: the object is not there; run `mirror verify --repair`")


def sources_of(layout: Layout, pin: str, client: ObjectClient | None = None) -> BundleSources:
    """Return the sources of a bundle; ``client``: of the object store that has the tree."""
    return BundleSources(layout, pin_path(layout, pin), client)
