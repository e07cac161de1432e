"""A tree in an object store, as the one or the other end of a copy.

Blobs are put whole or not at all; small ones from memory, large ones in parts from a local file
that was hashed before.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import tempfile
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Final

import msgspec

from mirror.core.names import ProjectName
from mirror.core.pages.page_depth import deepened, raised
from mirror.errors import TreeError
from mirror.tree.objects.client import Conflict, ObjectClient
from mirror.upkeep.copying.places import LIVE, FileKey, PageForms

MARK: Final = ".copy"
_SMALL_BYTES: Final = 8 << 20
_PAGE_LIMIT_BYTES: Final = 1 << 30
_FILE: Final = {
    "Content-Type": "application/octet-stream",
    "Cache-Control": "max-age=31536000, immutable",
}
_HTML: Final = {"Content-Type": "text/html; charset=utf-8", "Cache-Control": "max-age=600"}
_JSON: Final = {
    "Content-Type": "application/vnd.pypi.simple.v1+json",
    "Cache-Control": "max-age=600",
}
_CHANNEL: Final = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-cache"}


class StoreSource:
    """A tree in an object store, read."""

    def __init__(self, client: ObjectClient) -> None:
        self._client = client

    @property
    def address(self) -> str:
        """The address of the tree."""
        return str(self._client.address)

    def check(self) -> None:
        """Raise ``TreeError`` where there is no tree."""
        if self._client.head(MARK) is not None:
            problem = "an interrupted copy lies here: finish it first"
            raise TreeError(path=self.address, problem=problem)
        if self._client.head(_page_key(LIVE, None, "simple")) is None:
            raise TreeError(path=self.address, problem="there is no tree here: check FROM")

    def snapshots(self) -> list[str]:
        """Return the names of the snapshots, sorted."""
        prefixes, _ = self._client.list_names("snapshots")
        return sorted(prefix.rstrip("/").rpartition("/")[2] for prefix in prefixes)

    def channels(self) -> dict[str, str]:
        """Return the snapshot of each channel."""
        channels: dict[str, str] = {}
        for found in self._client.list_objects("channels"):
            got = self._client.get(found.key)
            if got is not None:
                name = found.key.rpartition("/")[2]
                channels[name] = got[0].decode("utf-8", "replace").strip()
        return channels

    def page(self, scope: str, project: ProjectName | None) -> PageForms | None:
        """Return a project's page, or the root page; None where it is missing or has one form
        only.
        """
        html = self._client.get(_page_key(scope, project, "simple"))
        json = self._client.get(_page_key(scope, project, "simple-json"))
        if html is None or json is None:
            return None
        change = (lambda page: page) if scope == LIVE else raised
        return PageForms(html=change(html[0]), json=change(json[0]))

    @contextlib.contextmanager
    def open_file(self, key: FileKey) -> Iterator[tuple[int, Iterator[bytes]] | None]:
        """Yield the size of a file and its bytes; None where it is missing."""
        with self._client.reading(key.place) as found:
            yield None if found is None else (found[0].size, found[1])


class StoreTarget:
    """A tree in an object store, written."""

    def __init__(self, client: ObjectClient) -> None:
        self._client = client

    @property
    def address(self) -> str:
        """The address of the tree."""
        return str(self._client.address)

    def begin(self, source: str) -> bool:
        """Record that a copy of ``source`` goes on here; return whether an earlier one did.

        Raises ``TreeError`` where something else lies here.
        """
        mark = self._client.get(MARK)
        if mark is not None:
            self._check_mark(mark[0], source)
            return True
        first = next(iter(self._client.list_objects(limit=1)), None)
        if first is not None:
            problem = f"is not empty ({first.key}), and no interrupted copy: choose another TO"
            raise TreeError(path=self.address, problem=problem)
        text = msgspec.json.encode({"format": 1, "from": source})
        with contextlib.suppress(
            Conflict
        ):  # with an earlier try, or with another run of the same copy
            self._client.put(MARK, text, mode="create")
        mark = self._client.get(MARK)
        self._check_mark(b"" if mark is None else mark[0], source)
        return False

    def _check_mark(self, text: bytes, source: str) -> None:
        try:
            other = msgspec.json.decode(text, type=dict[str, str | int]).get("from")
        except msgspec.MsgspecError:
            other = None
        if other != source:
            problem = f"an interrupted copy of {other} lies here: finish it, or choose another TO"
            raise TreeError(path=self._client.address.shown(MARK), problem=problem)

    def present(self, outer: str) -> dict[str, int]:
        """Return place -> size of the files below ``files/<outer>`` that an earlier run has
        copied.
        """
        return {found.key: found.size for found in self._client.list_objects(f"files/{outer}")}

    def put_file(
        self, key: FileKey, size: int, blocks: Iterable[bytes], digest: str | None
    ) -> bool:
        """Write a file durably; return False, with nothing written, where its bytes are not of this
        size and ``digest`` (None: unknown).
        """
        with _spooled(size) as file:
            hashed, came = hashlib.sha256(), 0
            for block in blocks:
                hashed.update(block)
                came += len(block)
                file.write(block)
            if came != size or digest not in {None, hashed.hexdigest()}:
                return False
            file.seek(0)
            if size <= _SMALL_BYTES:
                self._client.put(key.place, file.read(), attributes=_FILE)
            else:
                self._client.put_file(key.place, file, size, attributes=_FILE)
        return True

    def put_page(self, scope: str, project: ProjectName | None, page: PageForms) -> None:
        """Write a page; each file that it lists is here."""
        change = (lambda data: data) if scope == LIVE else deepened
        for part, data, attributes in (
            ("simple", page.html, _HTML),
            ("simple-json", page.json, _JSON),
        ):
            key = _page_key(scope, project, part)
            self._client.put(key, change(data), attributes=attributes)

    def put_channel(self, name: str, snapshot: str) -> None:
        """Let a channel show a snapshot."""
        self._client.put(f"channels/{name}", f"{snapshot}\n".encode(), attributes=_CHANNEL)

    def end(self) -> None:
        """Record that the copy is complete: an object is durable once it was put."""
        self._client.delete([MARK])


@contextlib.contextmanager
def _spooled(size: int) -> Iterator[BinaryIO]:
    """Yield a place for bytes that must be verified before they are put: memory, or a local
    file.
    """
    if size <= _SMALL_BYTES:
        yield io.BytesIO()
        return
    try:
        with tempfile.TemporaryFile() as file:
            yield file
    except OSError as exc:
        problem = f"a large file can't be kept on its way: {exc.strerror or exc}; set TMPDIR"
        raise TreeError(path=tempfile.gettempdir(), problem=problem) from exc


def _page_key(scope: str, project: ProjectName | None, part: str) -> str:
    start = part if scope == LIVE else f"snapshots/{scope}/{part}"
    return f"{start}/{project}/index.html" if project is not None else f"{start}/index.html"
