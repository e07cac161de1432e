"""``ROOT/cache``: pages and metadata of indexes, which can be read again. Losing it costs requests,
nothing else.

Invariant: an entry counts only while it is whole by its own digest; a writer replaces it by rename,
and no order of writes depends on it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from mirror.errors import TreeError
from mirror.tree.disk.writing import replace_file
from mirror.tree.layout import PRIVATE_DIRECTORY, PRIVATE_FILE

_DIGEST_BYTES = 32


class Cache:
    """Entries by kind and key.

    Methods block; an entry that can't be read or written counts as lost.
    """

    def __init__(self, folder: Path, *, writes_to: Path | None = None) -> None:
        """``writes_to``: another folder for new entries, which are looked for there first."""
        self._folder, self._writes_to = folder, writes_to or folder
        self._made: set[Path] = set()

    def load(self, kind: str, key: str) -> bytes | None:
        """Return an entry, or None where it is not there or not whole."""
        for folder in dict.fromkeys((self._writes_to, self._folder)):
            try:
                data = _path(folder, kind, key).read_bytes()
            except OSError:
                continue
            body = data[_DIGEST_BYTES:]
            if hashlib.sha256(body).digest() == data[:_DIGEST_BYTES]:
                return body
        return None

    def save(self, kind: str, key: str, body: bytes) -> None:
        """Keep an entry; where the disk refuses it, it is lost."""
        path = _path(self._writes_to, kind, key)
        with contextlib.suppress(TreeError, OSError):
            self._make(path.parent)
            data = hashlib.sha256(body).digest() + body
            replace_file(path, data, mode=PRIVATE_FILE, tmp_dir=path.parent)

    def _make(self, folder: Path) -> None:
        if folder in self._made:
            return
        missing = [place for place in (folder, *folder.parents[:2]) if not place.exists()]
        for place in reversed(missing):
            place.mkdir(PRIVATE_DIRECTORY, parents=True, exist_ok=True)
            os.chmod(place, PRIVATE_DIRECTORY)
        self._made.add(folder)


def _path(folder: Path, kind: str, key: str) -> Path:
    name = hashlib.sha256(key.encode()).hexdigest()
    return folder / kind / name[:2] / name
