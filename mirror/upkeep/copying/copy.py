"""The copy itself: pages are read, files are copied and verified, pages are written.

Invariants: all pages are read at the start, so that a cycle that goes on in FROM changes nothing;
each file is hashed on its way; a page is written once each file that it lists is in TO, the root
page last; while a file is damaged or missing, its project's page and the root page are not
published, and the copy stays an interrupted one, which can be continued after a repair.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from typing import IO, Any, Final, Self, TypeVar

import msgspec

from mirror.core.model import ProjectPage
from mirror.core.names import ProjectName, check_sha256
from mirror.core.pages.parse_html import parse_project_page as parse_html_page
from mirror.core.pages.parse_json import parse_project_page, parse_root_page
from mirror.errors import BadPage, TreeError
from mirror.logs import get_logger
from mirror.upkeep.copying.places import LIVE, CopySource, CopyTarget, FileKey, PageForms

_BASE: Final = "https://tree.invalid/simple/"
"""Only to resolve relative links; never requested."""
_THREADS: Final = 16
_READS: Final = 3
"""How often a page is read whose two forms list different files: a cycle may replace them."""

T = TypeVar("T")
_log = get_logger(__name__)


class CopyDamage(msgspec.Struct, frozen=True, kw_only=True):
    """Something in FROM that is not as its page lists it."""

    path: str
    detail: str


class CopyReport(msgspec.Struct, kw_only=True):
    """The results of a copy, filled while it goes on."""

    projects: int = 0
    snapshots: int = 0
    files: int = 0
    """That FROM lists, metadata not counted."""
    copied: int = 0
    present: int = 0
    """Copied by an earlier, interrupted run."""
    bytes_copied: int = 0
    damage: list[CopyDamage] = []

    def as_json(self) -> dict[str, Any]:
        """Return the object of the report."""
        return {"format": 1, **msgspec.to_builtins(self)}


class _File(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A file as a page lists it."""

    sha256: str
    filename: str
    size: int | None
    metadata: str | None
    """The digest of its metadata; empty: listed without one; None: it has none."""


class _Spooled(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A page that was read."""

    scope: str
    project: str | None
    html: bytes
    json: bytes
    files: list[_File]


def copy_tree(source: CopySource, target: CopyTarget, report: CopyReport) -> None:
    """Copy everything that the pages of ``source`` list. Blocking.

    Raises ``TreeError``. Damage is in the report, and leaves the copy unfinished.
    """
    source.check()
    resumes = target.begin(source.address)
    channels = source.channels()
    with _Spool() as spool, ThreadPoolExecutor(_THREADS, "copy") as threads:
        _read_pages(source, spool, report, threads)
        bad = _copy_files(source, target, spool, report, threads, resumes=resumes)
        _write_pages(target, spool, bad, threads)
    if report.damage:
        return
    for name, snapshot in channels.items():
        target.put_channel(name, snapshot)
    target.end()


class _Spool:
    """The pages that were read, and their files by the first two digits, in local files."""

    def __init__(self) -> None:
        self._pages: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._files: dict[str, IO[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self._pages, *self._files.values()):
            file.close()

    def add(self, page: _Spooled) -> None:
        _append(self._pages, page)
        for file in page.files:
            outer = file.sha256[:2]
            if outer not in self._files:
                self._files[outer] = tempfile.TemporaryFile()  # noqa: SIM115
            _append(self._files[outer], file)

    @property
    def outers(self) -> list[str]:
        return sorted(self._files)

    def files(self, outer: str) -> list[_File]:
        """Return the different files of the first two digits; a sized record wins."""
        found: dict[tuple[str, str], _File] = {}
        for file in _records(self._files[outer], _File):
            key = (file.sha256, file.filename)
            known = found.get(key)
            if known is None or (known.metadata is None and file.metadata is not None):
                found[key] = file
        return sorted(found.values(), key=lambda file: (file.sha256, file.filename))

    def pages(self) -> Iterator[_Spooled]:
        return _records(self._pages, _Spooled)


def _append(file: IO[bytes], value: msgspec.Struct) -> None:
    data = msgspec.msgpack.encode(value)
    try:
        file.write(len(data).to_bytes(4) + data)
    except OSError as exc:
        problem = f"pages can't be kept on their way: {exc.strerror or exc}; set TMPDIR"
        raise TreeError(path=tempfile.gettempdir(), problem=problem) from exc


def _records(file: IO[bytes], kind: type[T]) -> Iterator[T]:
    file.seek(0)
    while head := file.read(4):
        yield msgspec.msgpack.decode(file.read(int.from_bytes(head)), type=kind)


def _read_pages(
    source: CopySource, spool: _Spool, report: CopyReport, threads: ThreadPoolExecutor
) -> None:
    """Read all pages into the spool, the live ones first, each root after its projects."""
    for scope in (LIVE, *source.snapshots()):
        root = source.page(scope, None)
        if root is None:
            _damaged(report, source, _shown_page(scope, None), "the root page is missing")
            continue
        try:
            names = list(parse_root_page(root.json, url=_BASE).projects)
        except BadPage as exc:
            _damaged(report, source, _shown_page(scope, None), f"it can't be read: {exc.cause}")
            continue
        calls = (partial(_read_page, source, scope, name) for name in names)
        is_whole = True
        for name, page in zip(names, _in_order(threads, calls), strict=True):
            if isinstance(page, str):
                _damaged(report, source, _shown_page(scope, name), page)
                is_whole = False
                continue
            spool.add(page)
            report.projects += scope == LIVE
        if is_whole:
            spool.add(_Spooled(scope=scope, project=None, html=root.html, json=root.json, files=[]))
        report.snapshots += scope != LIVE


def _read_page(source: CopySource, scope: str, name: ProjectName) -> _Spooled | str:
    """Return a page with its files, or the fault of the page."""
    problem = ""
    for _ in range(_READS):
        found = source.page(scope, name)
        if found is None:
            return "the page is missing, or one of its forms is"
        try:
            json, html = _parse(name, found)
            files = [_listed(file) for file in json.files]
        except (BadPage, KeyError, ValueError) as exc:
            problem = f"it can't be read: {getattr(exc, 'cause', exc)}"
            continue
        if {(f.filename, f.digests) for f in json.files} == {
            (f.filename, f.digests) for f in html.files
        }:
            return _Spooled(
                scope=scope, project=name, html=found.html, json=found.json, files=files
            )
        problem = "its HTML and its JSON list different files"
    return problem


def _parse(name: ProjectName, page: PageForms) -> tuple[ProjectPage, ProjectPage]:
    url = f"{_BASE}{name}/"
    return (
        parse_project_page(page.json, project=name, url=url),
        parse_html_page(page.html, project=name, url=url),
    )


def _listed(file: Any) -> _File:
    """Return a file of a page. Raises ``KeyError``, ``ValueError``."""
    metadata = None if file.metadata is None else dict(file.metadata).get("sha256", "")
    return _File(
        sha256=check_sha256(dict(file.digests)["sha256"]),
        filename=file.filename,
        size=file.size,
        metadata=metadata,
    )


def _copy_files(
    source: CopySource,
    target: CopyTarget,
    spool: _Spool,
    report: CopyReport,
    threads: ThreadPoolExecutor,
    *,
    resumes: bool,
) -> set[tuple[str, str]]:
    """Copy the files that are missing in the target; return those that are damaged."""
    bad: set[tuple[str, str]] = set()
    for outer in spool.outers:
        files = spool.files(outer)
        report.files += len(files)
        present = target.present(outer) if resumes else {}
        calls = (partial(_copy_file, source, target, file, present) for file in files)
        for file, done in zip(files, _in_order(threads, calls), strict=True):
            report.bytes_copied += done.bytes_copied
            report.copied += done.is_copied
            report.present += not done.is_copied and not done.problem
            if done.problem:
                bad.add((file.sha256, file.filename))
                _damaged(report, source, done.place, done.problem)
    return bad


class _Done(msgspec.Struct, frozen=True, kw_only=True):
    place: str
    bytes_copied: int = 0
    is_copied: bool = False
    problem: str = ""


def _copy_file(
    source: CopySource, target: CopyTarget, file: _File, present: dict[str, int]
) -> _Done:
    """Copy a blob, then its metadata: each whole and verified, or not at all."""
    blob = FileKey(sha256=check_sha256(file.sha256), filename=file.filename)
    wanted = [(blob, file.size, file.sha256)]
    if file.metadata is not None:
        metadata = msgspec.structs.replace(blob, is_metadata=True)
        wanted.append((metadata, None, file.metadata or None))  # type: ignore[arg-type]
    copied = came = 0
    for key, size, digest in wanted:
        if key.place in present and size in {None, present[key.place]}:
            continue
        with source.open_file(key) as found:
            if found is None:
                return _Done(place=key.place, bytes_copied=came, problem="it is missing")
            actual, blocks = found
            if size not in {None, actual}:
                problem = f"{size} bytes are listed, {actual} are there"
                return _Done(place=key.place, bytes_copied=came, problem=problem)
            if not target.put_file(key, actual, blocks, digest):
                problem = "its bytes do not fit the listed digest"
                return _Done(place=key.place, bytes_copied=came, problem=problem)
        came += actual
        copied += 1
    return _Done(place=blob.place, bytes_copied=came, is_copied=copied > 0)


def _write_pages(
    target: CopyTarget, spool: _Spool, bad: set[tuple[str, str]], threads: ThreadPoolExecutor
) -> None:
    """Write the pages of whole projects; the root of a scope after all of its projects.

    A scope with a damaged or missing page gets no root.
    """
    pending: list[Callable[[], None]] = []
    damaged: set[str] = set()
    for page in spool.pages():
        name = None if page.project is None else ProjectName(page.project)
        forms = PageForms(html=page.html, json=page.json)
        if name is not None:
            if any((file.sha256, file.filename) in bad for file in page.files):
                damaged.add(page.scope)
                continue
            pending.append(partial(target.put_page, page.scope, name, forms))
        if name is None or len(pending) >= _THREADS * 4:
            _finish(threads, pending)
        if name is None and page.scope not in damaged:
            target.put_page(page.scope, None, forms)
    _finish(threads, pending)


def _finish(threads: ThreadPoolExecutor, pending: list[Callable[[], None]]) -> None:
    for _ in _in_order(threads, pending):
        pass
    pending.clear()


def _in_order(threads: ThreadPoolExecutor, calls: Iterable[Callable[[], T]]) -> Iterator[T]:
    """Yield the results of calls in their order, some of them under way at once."""
    waiting: list[Future[T]] = []
    remaining = iter(calls)
    try:
        for call in remaining:
            waiting.append(threads.submit(call))
            if len(waiting) >= _THREADS * 2:
                yield waiting.pop(0).result()
        while waiting:
            yield waiting.pop(0).result()
    finally:
        for future in waiting:
            future.cancel()
        if waiting:
            wait(waiting, return_when=FIRST_COMPLETED)


def _damaged(report: CopyReport, source: CopySource, place: str, problem: str) -> None:
    path = f"{source.address}/{place}"
    report.damage.append(CopyDamage(path=path, detail=problem))
    _log.error("copy.damage", path=path, problem=problem)


def _shown_page(scope: str, name: ProjectName | None) -> str:
    start = "simple" if scope == LIVE else f"snapshots/{scope}/simple"
    return start if name is None else f"{start}/{name}"
