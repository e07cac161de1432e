"""Pages in an object store: a project's two objects, and the root's.

Invariants: a page is put only over the ETag that the state remembers, and carries the id of the
root that wrote it; so a page of another writer is noticed, never overwritten. Its own put may have
gone through although the answer or the commit was lost: then the object has the own id, and its
ETag is taken over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, wait
from typing import Final

from mirror.core.names import ProjectName
from mirror.core.pages.render_pages import RenderedPage
from mirror.errors import KeyRefused, MirrorError, StoreLocked, TreeError
from mirror.tree.disk.writing import Buffer
from mirror.tree.objects.client import Conflict, ObjectClient, Put
from mirror.tree.objects.files import WriteGate
from mirror.tree.objects.keys import (
    HTML_HEADERS,
    JSON_HEADERS,
    ROOT_HTML,
    ROOT_JSON,
    page_keys,
)
from mirror.tree.pages import serial_in

WRITER: Final = "mirror-root"
REVISION: Final = "mirror-revision"
"""Names of a page's metadata: the id of the root that wrote it, and that root's revision."""

_AT_ONCE: Final = 16
_HEAD_BYTES: Final = 512
_MOST_TRIES: Final = 3


class _StepRun:
    """Steps that some threads take, one after the other, until none is left."""

    def __init__(
        self,
        steps: Mapping[ProjectName, Callable[[], None]],
        fails_alone: Callable[[ProjectName, TreeError], bool],
    ) -> None:
        self._left, self._fails_alone = deque(steps.items()), fails_alone
        self.failed: dict[ProjectName, TreeError] = {}

    def work(self) -> None:
        """Take steps; raise an error that is not one project's own."""
        while True:
            try:
                name, step = self._left.popleft()
            except IndexError:
                return
            try:
                step()
            except TreeError as exc:
                if not self._fails_alone(name, exc):
                    raise
                self.failed[name] = exc

    def end(self) -> None:
        """Begin no further step."""
        self._left.clear()


class ObjectPages:
    """The pages of a tree in an object store.

    Methods block and raise ``TreeError``, ``StoreLocked``.
    """

    def __init__(self, client: ObjectClient, gate: WriteGate, *, root: Callable[[], str]) -> None:
        """``root``: the id of this root, known once the gate was entered."""
        self._client, self._gate, self._root = client, gate, root
        self.takes_foreign = False
        """Whether a page of another writer is overwritten: `verify --repair` under the lock."""
        self.revision = 0
        """Written into the pages' metadata."""
        self._tags: dict[str, str] = {}
        self._written: dict[str, str | None] = {}

    def keys_of(self, names: Collection[ProjectName]) -> list[str]:
        """Return the keys of some projects' pages and of the root's."""
        return [key for name in names for key in page_keys(name)] + [ROOT_HTML, ROOT_JSON]

    def expect(self, tags: Mapping[str, str]) -> None:
        """Take the ETags that the state remembers; those of earlier writes are forgotten."""
        self._tags = dict(tags)

    def take_written(self) -> dict[str, str | None]:
        """Return the ETags of the pages written since the last call; None for a removed page."""
        written, self._written = self._written, {}
        return written

    def write_project(
        self,
        name: ProjectName,
        page: RenderedPage,
        *,
        is_durable: bool = True,  # noqa: ARG002 - of a disk
    ) -> None:
        """Put a project's pages."""
        html, json = page_keys(name)
        self._put_both([(html, page.html, HTML_HEADERS), (json, page.json, JSON_HEADERS)])

    def remove_project(self, name: ProjectName) -> None:
        """Remove a project's pages; missing ones are no error."""
        keys = page_keys(name)
        self._gate.enter_for_delete()
        self._client.delete(keys)
        self._written |= dict.fromkeys(keys)
        for key in keys:
            self._tags.pop(key, None)

    def has_project(self, name: ProjectName) -> bool:
        """Return whether both pages of a project are there."""
        return all(self._client.head(key) is not None for key in page_keys(name))

    def write_root(self, html: Iterable[Buffer], json: Iterable[Buffer]) -> None:
        """Put the root pages."""
        self._put(ROOT_HTML, b"".join(html), HTML_HEADERS)
        self._put(ROOT_JSON, b"".join(json), JSON_HEADERS)

    def root_serial(self) -> int | None:
        """Return the serial of the root page in the store; None where there is no page of the
        mirror.
        """
        found = self._client.get(ROOT_JSON, end=_HEAD_BYTES)
        return None if found is None else serial_in(found[0])

    def sync(self, names: Collection[ProjectName], *, root: bool = True) -> None:
        """Nothing to do: the answer of each put meant that it is durable."""

    def fails_alone(self, name: ProjectName, error: TreeError) -> bool:  # noqa: ARG002 - likewise
        """Return whether one key is at fault, not the store."""
        return isinstance(error, KeyRefused)

    def run_each(
        self, steps: Mapping[ProjectName, Callable[[], None]]
    ) -> dict[ProjectName, TreeError]:
        """Do something for each project, some at a time; return the errors of single projects."""
        if not steps:
            return {}
        self._gate.enter_for_page()
        run = _StepRun(steps, self.fails_alone)
        running = [self._client.start(run.work) for _ in range(min(_AT_ONCE, len(steps)))]
        wait(running, return_when=FIRST_EXCEPTION)
        run.end()
        errors = [error for future in running if (error := future.exception()) is not None]
        if errors:
            raise errors[0]
        return run.failed

    def _put_both(self, pages: Sequence[tuple[str, bytes, Mapping[str, str]]]) -> None:
        """Put pages in one call, within the deadline of one; each that is left by itself."""
        self._gate.enter_for_page()
        puts = [
            Put(
                key=key,
                data=body,
                attributes=self._attributes(headers),
                mode=self._gate.condition(self._tags.get(key, "")),
            )
            for key, body, headers in pages
        ]
        try:
            done = self._client.put_in_turn(puts)
        except Conflict:
            done = []  # it is judged where it is put by itself
        except TreeError:
            self._gate.enter_for_page()  # where the lock was lost, that is the cause
            raise
        for (key, *_), etag in zip(pages, done, strict=False):
            self._tags[key] = self._written[key] = etag
        for key, body, headers in pages[len(done) :]:
            self._put(key, body, headers)

    def _attributes(self, headers: Mapping[str, str]) -> dict[str, str]:
        return {**headers, WRITER: self._root(), REVISION: str(self.revision)}

    def _put(self, key: str, body: bytes, headers: Mapping[str, str]) -> None:
        self._gate.enter_for_page()
        attributes = self._attributes(headers)
        etag = self._tags.get(key, "")
        for _ in range(_MOST_TRIES):
            try:
                new = self._client.put(
                    key, body, attributes=attributes, mode=self._gate.condition(etag)
                )
            except Conflict:
                etag = self._judge(key)
                self._gate.enter_for_page()
                continue
            except TreeError:
                self._gate.enter_for_page()  # where the lock was lost, that is the cause
                raise
            self._tags[key] = self._written[key] = new
            return
        raise self._foreign(key, "somebody else writes it at the same time")

    def _judge(self, key: str) -> str:
        """Return the ETag over which a page may be put; empty where it is gone."""
        found = self._client.head(key)
        if found is None:
            return ""
        writer = found.attributes.get(WRITER)
        if writer == self._root() or self.takes_foreign:
            return found.etag
        if writer is None:
            problem = (
                "something else than a mirror wrote this page;"
                " `mirror verify --repair` puts the mirror's own in its place"
            )
            raise self._foreign(key, problem)
        problem = (
            "another root wrote this page, so this root's state is stale;"
            " `mirror tree adopt` makes this root the writer again"
        )
        raise self._foreign(key, problem)

    def _foreign(self, key: str, problem: str) -> MirrorError:
        return StoreLocked(path=self._client.address.shown(key), pid=None, problem=problem)
